"""Classes that overlap: read, counted, trained, scored, answered, saved in the form they are read in."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of
from sightline.datasets.records import MaskStack
from sightline.datasets.stats import stats
from sightline.errors import SightlineError, UsageError
from sightline.segmentation.contract import Scores, decode
from sightline.segmentation.multilabel import MultiLabelMetric
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.predict import predict
from sightline.verbs.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with bright rows and red columns that cross; the last one has no red at all."""
    root = tmp_path_factory.mktemp("data") / "crossing"
    rng = np.random.default_rng(0)
    for name in ("images", "masks/bright", "masks/red"):
        (root / name).mkdir(parents=True)
    for i in range(6):
        image = rng.integers(0, 60, (32, 40, 3), dtype=np.uint8)
        bright, red = np.zeros((2, 32, 40), np.uint8)
        bright[5 + i : 15 + i] = 255
        image[bright > 0] += 120
        if i < 5:
            red[:, 8 + i : 20 + i] = 1
            image[red > 0, 0] += 75
            Image.fromarray(red).save(root / "masks" / "red" / f"{i}.png")
        Image.fromarray(bright).save(root / "masks" / "bright" / f"{i}.png")
        Image.fromarray(image).save(root / "images" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        "unet", folder, run=tmp_path_factory.mktemp("runs") / "crossing", size=32, batch=2, steps=40, lr=1e-2,
        device="cpu", loss="ce+dice", augment="none", train_values={"ema": 0.0},
        model_values={"width": 4, "depth": 3},
    ).folder  # fmt: skip


def test_a_folder_a_class_is_recognised(folder: Path) -> None:
    data = open_dataset(folder)
    assert data.format == "multilabel" and data.classes == ("bright", "red") and data.facts["multilabel"]
    last = next(r for r in data.records if r.key == "images/5.png")
    assert isinstance(last.labels, MaskStack) and last.labels.masks[1] is None
    labels = read_labels_of(last, 2)
    assert labels.shape == (2, 32, 40) and labels[0].sum() == 400 and not labels[1].any()
    assert not check(folder).errors
    found = stats(data)
    assert found.class_pixels == (6 * 400, 5 * 12 * 32) and found.class_pictures == (6, 5)
    assert open_dataset(folder, classes=["red", "bright"]).classes == ("red", "bright")
    with pytest.raises(SightlineError, match="has masks of bright, red, not of cat"):
        open_dataset(folder, classes=["cat"])


def test_mirrored_sub_folders_are_no_classes(tmp_path: Path) -> None:
    for part, where in product(("images", "masks"), ("day", "night")):
        (tmp_path / part / where).mkdir(parents=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / part / where / "a.png")
    assert open_dataset(tmp_path).format == "pairs"
    with pytest.raises(SightlineError, match="is no multi-label set"):
        open_dataset(tmp_path, format="multilabel")


def test_a_mask_of_another_size_is_a_fault(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(copy / "masks" / "red" / "2.png")
    (fault,) = check(copy).errors
    assert "2.png is 4 x 4 pixels but its picture" in fault.sentence


def test_it_learns_both_classes_where_they_cross(run: Path, folder: Path) -> None:
    found = evaluate(run, folder, split="all", metrics="ece")
    assert set(found.per_class) == {"bright", "red"}
    assert found.metrics["dataset_miou"] > 0.6 and 0 <= found.metrics["ece"] < 0.5
    assert found.reliability and found.confusion == []
    assert "Reliability" in (run / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="multi-label answers have no policy"):
        evaluate(run, folder, policy="monai")


def test_answers_are_saved_as_they_are_read(run: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    (answer,) = predict(run, folder / "images" / "2.png", out=out / "masks")
    assert answer.multilabel and answer.labels.shape == (2, 32, 40) and answer.classes == ("bright", "red")
    assert (answer.probabilities.sum(0) - 1).abs().max() > 0.05  # no softmax
    assert set(answer.pixels) == {"bright", "red"}
    assert answer.draw().shape[2] == 3
    (out / "images").mkdir()
    (out / "masks" / "2-overlay.jpg").unlink()
    Image.open(folder / "images" / "2.png").save(out / "images" / "2.png")
    (record,) = open_dataset(out, val=0).records
    assert (read_labels_of(record, 2) == answer.labels.numpy()).all()
    tiled = next(iter(predict(load(run), folder / "images" / "2.png", tile=24)))
    assert tiled.labels.shape == (2, 32, 40)


def test_decode_asks_each_class() -> None:
    logits = torch.tensor([2.0, 1.0, -1.0]).reshape(1, 3, 1, 1)
    (answer,) = decode(Scores(logits), classes=("a", "b", "c"), multilabel=True)
    assert answer.labels.flatten().tolist() == [1, 1, 0] and answer.multilabel


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 4))
def test_scores_equal_a_loop(seed: int, classes: int) -> None:
    g = torch.Generator().manual_seed(seed)
    said, true = torch.randint(0, 2, (2, 2, classes, 3, 4), generator=g)
    true[torch.rand(true.shape, generator=g) < 0.2] = 255
    metrics = [MultiLabelMetric([str(k) for k in range(classes)]) for _ in range(2)]
    for metric, s, t in zip(metrics, said, true):
        metric.update(s, t, key="a")
    metrics[0].merge(metrics[1])
    report = metrics[0].compute()
    ious, right = [], 0
    for k in range(classes):
        pairs = [(int(s), int(t)) for s, t in zip(said[:, k].flatten(), true[:, k].flatten()) if t != 255]
        right += sum(s == t for s, t in pairs)
        union = sum(s or t for s, t in pairs)
        ious.append(sum(s and t for s, t in pairs) / union if union else math.nan)
    known = [v for v in ious if not math.isnan(v)]
    assert [row["iou"] for row in report.per_class.values()] == pytest.approx(ious, nan_ok=True)
    assert report.metrics["dataset_miou"] == pytest.approx(sum(known) / len(known) if known else math.nan, nan_ok=True)
    asked = int((true != 255).sum())
    assert report.metrics["pixel_accuracy"] == pytest.approx(right / asked if asked else math.nan, nan_ok=True)
    assert len(report.worst) == len(report.image_scores)
