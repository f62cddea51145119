"""One head as two halves: the cut, the merged numbers, the baseline, and the command from scan to result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.recipes.hemispheres_unet3d import hemispheres, mirrored, run


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A symmetric head: white matter on both sides, a brain stem between, a vessel too small to count."""
    labels = np.zeros((24, 16, 16))
    labels[3:10, 3:12, 3:12], labels[14:21, 3:12, 3:12], labels[10:14, 4:16, 2:14] = 41, 2, 16
    labels[1, 1, 1] = 30
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "test_scan.npz",
        vol=np.where(labels > 0, labels % 17 / 20, 0) + rng.normal(0, 0.02, labels.shape),
        seg=labels,
    )
    return tmp_path / "test_scan.npz"


def test_both_halves_lie_the_same_way(scan: Path, tmp_path: Path) -> None:
    data = open_dataset(hemispheres(scan, tmp_path / "halves"))
    assert data.classes == ("outside", "white matter", "brain stem") and data.splits == ("train", "val")
    right, left = (read_labels_of(data.split(s).records[0], 3) for s in ("train", "val"))
    assert right.shape == (12, 16, 16) and right[1, 1, 1] == 255 and left[1, 1, 1] == 0
    assert np.array_equal(np.delete(right, 1, 0), np.delete(left, 1, 0))
    whole = np.load(scan)["vol"]
    assert np.allclose(read_picture(data.split("val").records[0])[..., 0], whole[12:][::-1], atol=1e-6)
    assert mirrored(data)[1] == pytest.approx(1.0)


def test_from_scan_to_result(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"run={tmp_path / 'run'}", "steps=2", "size=16", "resize=none", "device=cpu"]
    assert run([str(scan), *options]) == 0
    result = json.loads((tmp_path / "run" / "RESULT.json").read_text())
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())["per_class"]
    assert result["value"] == round((rows["white matter"]["dice"] + rows["brain stem"]["dice"]) / 2, 4)
    assert result["baseline_value"] == 1.0 and result["system"] == "unet3d"
    assert "mean Dice over the structures" in capsys.readouterr().out
    assert run([str(tmp_path / "absent.npz")]) == 1 and run([]) == 2


def test_another_system_by_the_same_rules(scan: Path, tmp_path: Path) -> None:
    options = [f"run={tmp_path / 'run'}", "steps=1", "size=16", "resize=none", "device=cpu"]
    assert run([str(scan), "system=nnunet_plain_3d", *options]) == 0
    result = json.loads((tmp_path / "run" / "RESULT.json").read_text())
    assert result["system"] == "nnunet_plain_3d" and result["command"].endswith("system=nnunet_plain_3d")
    assert run([str(scan), "system=nnunet_plain_3", f"run={tmp_path / 'other'}"]) == 2
