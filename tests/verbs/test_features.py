"""Features of pictures and clips: what a layer is fed, averaged; files; the C3D descriptor with a linear machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.action.predict import of_array
from sightline.action.task import TASK
from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.ops.linear_svm import linear_svm
from sightline.verbs.features import Features, features
from sightline.weights.card import Card


def card(task: str, preprocess: Preprocess) -> Card:
    return Card(model="c3d", task=task, classes=("a", "b"), preprocess=preprocess, arguments={})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for k in range(3):
        write_image(tmp_path / f"{k}.png", np.random.default_rng(k).integers(0, 255, (40, 48, 3), np.uint8))
    return tmp_path


def test_features_are_what_the_classifier_is_fed(pictures: Path, tmp_path: Path) -> None:
    net = sl.create("resnet", num_classes=2, depths=[1, 1, 1, 1], width=8).eval()
    known = card("classification", Preprocess(resize="exact(32, 32)"))
    found = features((net, known), pictures, out=tmp_path / "f.npy", device="cpu")
    assert found.names == ("0", "1", "2") and found.values.shape == (3, 64) and found.layer == "fc"
    answers = list(sl.predict((net, known), pictures, device="cpu"))
    with torch.inference_mode():
        logits = net.fc(torch.from_numpy(found.values))
    assert torch.allclose(logits.softmax(1), torch.stack([a.probabilities for a in answers]), atol=1e-5)
    assert np.array_equal(np.load(tmp_path / "f.npy"), found.values)
    assert json.loads((tmp_path / "f.json").read_text()) == {"layer": "fc", "names": ["0", "1", "2"]}
    maps = features((net, known), pictures, layer="backbone.layer2", unit=True, device="cpu")
    assert maps.values.shape == (3, 8) and np.allclose(np.linalg.norm(maps.values, axis=1), 1)
    with pytest.raises(UsageError, match=r"no layer 'backbone\.layer9'"):
        features((net, known), pictures, layer="backbone.layer9", device="cpu")
    (pictures / "3.png").write_bytes(b"")
    skipped: dict[str, str] = {}
    with pytest.raises(SightlineError, match=r"3\.png"):
        features((net, known), pictures, device="cpu")
    assert len(features((net, known), pictures, device="cpu", on_error="skip", skipped=skipped).names) == 3
    assert list(skipped) == ["3"]


def test_files_of_features(tmp_path: Path) -> None:
    found = Features(("a, b", "c"), np.array([[1, 2.5], [3, 4]], np.float32), "fc")
    assert found.save(tmp_path / "f.csv").read_text() == 'name,f0,f1\n"a, b",1.0,2.5\nc,3.0,4.0\n'
    loaded = np.load(found.save(tmp_path / "f.npz"))
    assert loaded["names"].tolist() == ["a, b", "c"] and np.array_equal(loaded["features"], found.values)
    with pytest.raises(UsageError, match=r"\.npy"):
        found.save(tmp_path / "f.xlsx")


def test_a_parquet_file(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="writing .parquet needs pyarrow")
    found = Features(("a", "b"), np.array([[1, 2.5], [3, 4]], np.float32), "fc")
    table = parquet.read_table(found.save(tmp_path / "f.parquet"))
    assert table["features"].to_pylist() == found.values.tolist()


def test_the_descriptor_of_c3d_and_a_linear_machine(tmp_path: Path) -> None:
    from sightline.action.models.c3d import video_descriptor

    net = sl.create("c3d", num_classes=2, widths=[4, 6, 8, 8, 8], hidden=12, frames=8, size=[32, 32]).eval()
    known = card("action", Preprocess(resize="exact(32, 32)", clip="arange(8, 1)"))
    video = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), np.uint8)
    found = features((net, known), video, layer="fc7", unit=True, views=3, device="cpu")
    clips = torch.from_numpy(video).permute(3, 0, 1, 2).unflatten(1, (3, 8)).transpose(0, 1).float() / 255
    assert np.allclose(found.values[0], video_descriptor(net, clips).numpy(), atol=1e-5)
    assert TASK.answer(net, of_array(video), preprocess=known.preprocess).probabilities.shape == (2,)


def test_linear_svm_against_its_conditions() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(m, 1, (20, 3)) for m in ((0, 0, 0), (4, 0, 0), (0, 4, 0))])
    y = np.repeat([0, 1, 2], 20)
    w, b = linear_svm(x, y, 3, c=0.5)
    assert ((x @ w.T + b).argmax(1) == y).mean() > 0.95
    for k in range(3):  # the gradient is zero: w = 2 c sum gap y x
        sign = np.where(y == k, 1.0, -1.0)
        gap = np.maximum(0, 1 - sign * (x @ w[k] + b[k]))
        assert np.allclose(w[k], 2 * 0.5 * (x.T @ (gap * sign)), atol=1e-3)
        assert b[k] == pytest.approx(2 * 0.5 * (gap * sign).sum(), abs=1e-3)
    two, bias = linear_svm(x[:40], y[:40], 2)
    assert np.array_equal(two[0], -two[1]) and bias[0] == -bias[1]
    with pytest.raises(SightlineError, match="0 to 1"):
        linear_svm(x, y, 2)
