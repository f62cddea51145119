"""Scores against sets of pixels counted in Python; rules for absent classes; exact counts; processes that merge."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.metrics import SegmentationMetric, class_scores, scores

Pixels = set[tuple[int, int, int]]


def _maps(seed: int, classes: int, pictures: int = 3, present: int | None = None) -> tuple[Tensor, Tensor]:
    """Predictions and labels `(B, 5, 6)` that agree more often than not; 255 where nothing is scored."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(present or classes, (pictures, 5, 6), generator=g)
    guesses = torch.randint(present or classes, labels.shape, generator=g)
    predictions = torch.where(torch.rand(labels.shape, generator=g) < 0.6, labels, guesses)
    labels[torch.rand(labels.shape, generator=g) < 0.2] = 255
    return predictions.byte(), labels.byte()


def _sets(maps: Tensor, k: int, labels: Tensor) -> Pixels:
    """Where `maps` says class k, among the labelled pixels."""
    return {tuple(place) for place in ((maps == k) & (labels != 255)).nonzero().tolist()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _slow(predictions: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """Every pooled score from sets of pixels."""
    said = [_sets(predictions, k, labels) for k in range(classes)]
    true = [_sets(labels, k, labels) for k in range(classes)]
    total = sum(len(t) for t in true)
    hits = [len(s & t) for s, t in zip(said, true)]
    seen = [k for k in range(classes) if said[k] or true[k]]
    iou = {k: hits[k] / len(said[k] | true[k]) for k in seen}
    found = {
        "pixel_accuracy": sum(hits) / total if total else math.nan,
        "class_accuracy": _mean([hits[k] / len(true[k]) for k in range(classes) if true[k]]),
        "dataset_miou": _mean(list(iou.values())),
        "dataset_miou_absent_zero": sum(iou.values()) / classes if total else math.nan,
        "frequency_weighted_iou": sum(len(true[k]) * iou[k] for k in seen) / total if total else math.nan,
        "dataset_dice": _mean([2 * hits[k] / (len(said[k]) + len(true[k])) for k in seen]),
    }
    if classes == 2:
        found["foreground_iou"] = iou.get(1, math.nan)
        found["foreground_dice"] = 2 * hits[1] / (len(said[1]) + len(true[1])) if 1 in iou else math.nan
    return found


def _metric(predictions: Tensor, labels: Tensor, classes: int) -> SegmentationMetric:
    metric = SegmentationMetric([f"class {k}" for k in range(classes)])
    for i, (prediction, label) in enumerate(zip(predictions, labels)):
        metric.update(prediction, label, key=f"{i}.png")
    return metric


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), absent=st.integers(0, 2))
def test_every_score_equals_a_count_of_sets(seed: int, classes: int, absent: int) -> None:
    predictions, labels = _maps(seed, classes, present=max(1, classes - absent))
    found = _metric(predictions, labels, classes).compute().metrics
    one_by_one = [_slow(p[None], t[None], classes)["dataset_miou"] for p, t in zip(predictions, labels)]
    dice = [_slow(p[None], t[None], classes)["dataset_dice"] for p, t in zip(predictions, labels)]
    expected = _slow(predictions, labels, classes) | {
        "image_miou": _mean([v for v in one_by_one if not math.isnan(v)]),
        "case_dice": _mean([v for v in dice if not math.isnan(v)]),
    }
    assert found == pytest.approx(expected, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_what_holds_for_any_answers(seed: int, classes: int) -> None:
    predictions, labels = _maps(seed, classes)
    report = _metric(predictions, labels, classes).compute()
    assert all(0 <= v <= 1 for v in report.metrics.values() if not math.isnan(v))
    for column in report.per_class.values():
        iou, dice = column["iou"], column["dice"]
        assert dice == pytest.approx(2 * iou / (1 + iou), nan_ok=True)
    # what the classes are called changes no mean
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    table = torch.cat([order, torch.full((256 - classes,), 255)]).byte()
    renamed = _metric(table[predictions.long()], table[labels.long()], classes).compute().metrics
    keep = [k for k in renamed if not k.startswith("foreground")]
    assert [renamed[k] for k in keep] == pytest.approx([report.metrics[k] for k in keep], nan_ok=True)
    # answers at pixels that are not scored change nothing
    noise = torch.where(labels == 255, 255 - predictions, predictions)
    assert torch.equal(_metric(noise, labels, classes).confusion, report.confusion)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 4))
def test_processes_that_merge_count_as_one(seed: int, cut: int) -> None:
    predictions, labels = _maps(seed, 3, pictures=4)
    whole = _metric(predictions, labels, 3).compute()
    parts = []
    for rows in (range(cut), range(cut, 4)):
        part = SegmentationMetric(["class 0", "class 1", "class 2"])
        for i in rows:
            part.update(predictions[i], labels[i], key=f"{i}.png")
        parts.append(part)
    parts[0].merge(parts[1])
    merged = parts[0].compute()
    assert torch.equal(merged.confusion, whole.confusion)
    assert merged.image_scores == whole.image_scores
    assert merged.metrics == pytest.approx(whole.metrics, nan_ok=True)


def test_pictures_of_one_name_are_all_kept() -> None:
    right, wrong = torch.zeros(2, 2).byte(), torch.ones(2, 2).byte()
    first, second = SegmentationMetric(["a", "b"]), SegmentationMetric(["a", "b"])
    first.update(right, right)  # no key given: numbered
    second.update(wrong, right)
    second.update(right, right)
    first.merge(second)
    assert len(first.image_scores) == 3
    assert first.compute().metrics["image_miou"] == pytest.approx(2 / 3)
    first.update(wrong, right, key="x.png")
    first.update(wrong, right, key="x.png")
    assert {"x.png", "x.png (2)"} <= set(first.image_scores)


def test_counts_of_other_classes_do_not_merge() -> None:
    with pytest.raises(UsageError, match="3 classes do not fit counts of 2"):
        SegmentationMetric(["a", "b"]).merge(SegmentationMetric(["a", "b", "c"]))


def test_counts_are_exact_beyond_the_precision_of_single_floats() -> None:
    """float32 counts stop at 2^24 = 16,777,216: one more pixel would not be noticed."""
    labels = torch.zeros(4097, 4096, dtype=torch.uint8)  # 2^24 + 4096 pixels
    labels[0, :5] = 1
    prediction = torch.zeros_like(labels)
    prediction[0, 2:8] = 1
    metric = SegmentationMetric(["a", "b"])
    metric.update(prediction, labels)
    assert metric.confusion.tolist() == [[labels.numel() - 8, 3], [2, 3]]
    other = SegmentationMetric(["a", "b"])
    other.merge(metric)
    other.merge(metric)
    assert other.confusion.tolist() == [[2 * (labels.numel() - 8), 6], [4, 6]]
    assert metric.compute().metrics["pixel_accuracy"] == 1 - 5 / labels.numel()


def test_one_class_is_told_apart_from_background() -> None:
    metric = SegmentationMetric(["nucleus"])
    metric.update(torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 1, 255]]))
    report = metric.compute()
    assert report.classes == ("background", "nucleus")
    assert report.metrics["foreground_iou"] == pytest.approx(1 / 3)
    assert report.metrics["foreground_dice"] == pytest.approx(1 / 2)
    row = report.per_class["nucleus"]
    assert row == {"iou": pytest.approx(1 / 3), "dice": 0.5, "accuracy": 0.5, "precision": 0.5, "pixels": 2}


def test_rules_for_absent_classes() -> None:
    # class 0 right, class 1 labelled but never said, class 2 said but never labelled, class 3 neither
    confusion = torch.tensor([[6, 0, 2, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    column = class_scores(confusion)
    nan = math.nan
    assert column["iou"].tolist() == pytest.approx([0.6, 0, 0, nan], nan_ok=True)
    assert column["dice"].tolist() == pytest.approx([0.75, 0, 0, nan], nan_ok=True)
    assert column["accuracy"].tolist() == pytest.approx([0.75, 0, nan, nan], nan_ok=True)
    assert column["precision"].tolist() == pytest.approx([0.75, nan, 0, nan], nan_ok=True)
    found = scores(confusion)
    assert found["dataset_miou"] == pytest.approx(0.6 / 3)
    assert found["dataset_miou_absent_zero"] == pytest.approx(0.6 / 4)
    assert found["class_accuracy"] == pytest.approx(0.75 / 2)
    assert found["frequency_weighted_iou"] == pytest.approx(0.8 * 0.6)
    assert found["pixel_accuracy"] == pytest.approx(0.6)


def test_nothing_labelled_gives_no_number() -> None:
    metric = SegmentationMetric(["a", "b"])
    ignored = torch.full((3, 3), 255)
    assert math.isnan(metric.update(torch.zeros(3, 3).long(), ignored, key="blank.png"))
    report = metric.compute()
    assert all(math.isnan(v) for v in report.metrics.values())
    assert report.image_scores == {}


def test_the_worst_pictures_come_first() -> None:
    labels = torch.zeros(1, 8).long()
    metric = SegmentationMetric(["a", "b"])
    for key, wrong in (("good", 1), ("bad", 6), ("perfect", 0), ("also bad", 6)):
        prediction = labels.clone()
        prediction[0, :wrong] = 1
        metric.update(prediction, labels, key=key)
    assert metric.compute().worst == ["also bad", "bad", "good", "perfect"]


def test_a_report_is_not_changed_by_later_pictures() -> None:
    metric = SegmentationMetric(["a", "b"])
    one = torch.ones(2, 2).long()
    metric.update(one, one)
    report = metric.compute()
    metric.update(one, 0 * one)
    assert report.confusion.tolist() == [[0, 0], [0, 4]]
    assert len(report.image_scores) == 1


@pytest.mark.parametrize(
    ("prediction", "labels", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), "class ids"),
        (torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), "differ in size"),
        (torch.full((2, 3), 2), torch.zeros(2, 3).long(), "prediction 2 is outside the classes 0..1"),
        (torch.zeros(2, 3).long(), torch.full((2, 3), -1), "label -1 is outside"),
    ],
)
def test_wrong_maps_are_refused_and_not_counted(prediction: Tensor, labels: Tensor, words: str) -> None:
    metric = SegmentationMetric(["a", "b"])
    with pytest.raises(UsageError, match=words):
        metric.update(prediction, labels)
    assert metric.confusion.sum() == 0


@pytest.mark.parametrize("convert", [Tensor.byte, Tensor.int, Tensor.long])
def test_label_maps_of_any_integer_type_count_alike(convert: Callable[[Tensor], Tensor]) -> None:
    labels = np.tile(np.arange(20, dtype=np.int64), 20)
    metric = SegmentationMetric([str(k) for k in range(20)])
    metric.update(convert(torch.from_numpy(labels)), convert(torch.from_numpy(labels)))
    assert metric.confusion.diagonal().tolist() == [20] * 20
