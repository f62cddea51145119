"""Volumes with a class each: a folder a class, runs with labels, MATLAB files; trained on, scored and answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.brains import volume_at
from sightline.datasets.open import look_into, open_dataset
from sightline.errors import SightlineError
from sightline.media.volume import write_volume
from sightline.verbs.evaluate import evaluate
from sightline.verbs.predict import predict
from sightline.verbs.train import train

SIZE = (40, 44, 40)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(8):
        x = rng.normal(100, 5, SIZE).astype(np.float32)
        x[(slice(0, 20) if k % 2 else slice(20, 40))] += 40
        for split in ("train", "val"):
            write_volume(tmp_path / "data" / split / ("low" if k % 2 else "high") / f"s{k}.npz", x + (split == "val"))
    return tmp_path / "data"


def test_a_run_of_volumes(scans: Path, tmp_path: Path) -> None:
    run = train(
        "fmri_3dcnn_strided",
        scans,
        run=tmp_path / "run",
        steps=12,
        batch=4,
        lr=2e-3,
        device="cpu",
        model_values={"widths": [4, 4, 6], "hidden": 8, "dropout": 0.0},
    )
    assert run.choices["model.size"].value == list(SIZE) and run.choices["clip"].value == "whole(40, 44, 40)"
    found = evaluate(run.folder, scans, split="val")
    assert found.images == 8 and found.metrics["accuracy"] == 1
    answers = list(predict(run.folder, scans / "val" / "low"))
    assert len(answers) == 4 and {a.top(1)[0][0] for a in answers} == {"low"}


def nifti(path: Path, steps: int) -> None:
    write_volume(path, np.arange(2 * 3 * 4 * steps, dtype=np.float32).reshape(2, 3, 4, steps))


def test_runs_with_labels(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="reading NIfTI needs the extra medical: pip install sightline[medical]")
    nifti(tmp_path / "bold.nii.gz", 6)
    (tmp_path / "attributes_literal.txt").write_text("rest 0\r\nface 0\r\nhouse 0\r\nrest 1\r\nface 1\r\nhouse 1\r\n")
    data = open_dataset(tmp_path, kind="clips", val=0)
    assert data.format == "fmri_runs" and data.classes == ("face", "house")
    assert [(r.image.page, r.labels, r.group) for r in data.records] == [
        (1, 0, "run 0"), (2, 1, "run 0"), (4, 0, "run 1"), (5, 1, "run 1"),
    ]  # fmt: skip
    one = volume_at(data.records[1].image.path, 2).array
    assert one.shape == (2, 3, 4, 1) and one[0, 0, 0, 0] == 2
    (tmp_path / "attributes_literal.txt").unlink()
    (tmp_path / "labels.csv").write_text("labels,chunks\n" + "cat,1\n" * 5)
    with pytest.raises(SightlineError, match=r"labels for 5 volumes and bold\.nii\.gz has 6"):
        look_into(tmp_path, kind="clips")


def test_matlab_files(tmp_path: Path) -> None:
    from scipy.io import savemat

    x = np.arange(4 * 2 * 3 * 5, dtype=np.float64).reshape(4, 2, 3, 5)
    content = {"X_train": x[:3], "y_train": np.eye(2)[[0, 1, 0]], "X_test": x[3:], "y_test": [[1]]}
    savemat(tmp_path / "subject.mat", content)
    data = open_dataset(tmp_path, kind="clips", val=0)
    assert [(r.split, r.labels) for r in data.records] == [("train", 0), ("train", 1), ("train", 0), ("test", 1)]
    assert np.array_equal(volume_at(tmp_path / "subject.mat", 3).array[..., 0], x[3])
    savemat(tmp_path / "subject.mat", {"X_train": x, "y_train": [1, 2]})
    with pytest.raises(SightlineError, match="X_train must be"):
        look_into(tmp_path, kind="clips")
