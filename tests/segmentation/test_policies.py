"""The rules of other packages against loops over pictures and classes, on random maps with absent classes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.segmentation.metrics import SegmentationMetric
from sightline.segmentation.surface_scores import hausdorff

Masks = list[list[tuple[set[int], set[int]]]]
"""For every picture and class the places that were said and that are true."""


def drawn(seed: int, classes: int, present: int, pictures: int) -> tuple[torch.Tensor, torch.Tensor, Masks]:
    g = torch.Generator().manual_seed(seed)
    said = torch.randint(0, classes, (pictures, 5, 6), generator=g)
    true = torch.randint(0, present, (pictures, 5, 6), generator=g)
    said = torch.where(torch.rand(said.shape, generator=g) < 0.5, true, said)
    true[torch.rand(true.shape, generator=g) < 0.15] = 255
    masks = []
    for s, t in zip(said.flatten(1), true.flatten(1)):
        valid = set((t != 255).nonzero().flatten().tolist())
        row = [[set((x == k).nonzero().flatten().tolist()) & valid for x in (s, t)] for k in range(classes)]
        masks.append([(a, b) for a, b in row])
    return said, true, masks


def printed(policy: str, said: torch.Tensor, true: torch.Tensor, classes: int) -> dict[str, float]:
    metric = SegmentationMetric([f"class {k}" for k in range(classes)], policy=policy)
    for s, t in zip(said, true):
        metric.update(s, t)
    return metric.compute().metrics


def mean(values: list[float], empty: float = math.nan) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else empty


def dice(a: set[int], b: set[int]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else math.nan


def iou(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b) if a or b else math.nan


CASES = {
    "seed": st.integers(0, 10**6),
    "classes": st.integers(2, 5),
    "absent": st.integers(0, 3),
    "pictures": st.integers(1, 4),
}


@settings(max_examples=25, deadline=None)
@given(**CASES)
def test_each_rule_equals_its_loop(seed: int, classes: int, absent: int, pictures: int) -> None:
    said, true, masks = drawn(seed, classes, max(1, classes - absent), pictures)
    pooled = []
    for k in range(classes):
        one = {(n, at) for n, row in enumerate(masks) for at in row[k][0]}
        two = {(n, at) for n, row in enumerate(masks) for at in row[k][1]}
        pooled.append((one, two))

    found = printed("mmseg", said, true, classes)
    assert found["mIoU"] == pytest.approx(mean([iou(a, b) for a, b in pooled]), nan_ok=True)
    assert found["mDice"] == pytest.approx(mean([dice(a, b) for a, b in pooled]), nan_ok=True)
    recalls = [len(a & b) / len(b) if b else math.nan for a, b in pooled]
    assert found["mAcc"] == pytest.approx(mean(recalls), nan_ok=True)

    found = printed("torchmetrics", said, true, classes)
    assert found["MulticlassJaccardIndex(macro)"] == pytest.approx(mean([iou(a, b) for a, b in pooled]), nan_ok=True)
    every = [iou(a, b) for row in masks for a, b in row]
    assert found["MeanIoU"] == pytest.approx(mean(every), nan_ok=True)
    by_picture = [mean([dice(a, b) for a, b in row[1:]]) for row in masks]
    assert found["DiceScore(macro, samplewise, no background)"] == pytest.approx(mean(by_picture), nan_ok=True)

    found = printed("smp", said, true, classes)
    assert found["iou_score(macro)"] == pytest.approx(mean([iou(a, b) if a or b else 1.0 for a, b in pooled]))
    every = [dice(a, b) if a or b else 1.0 for row in masks for a, b in row]
    assert found["f1_score(macro-imagewise)"] == pytest.approx(mean(every))

    found = printed("monai", said, true, classes)
    strict = [mean([dice(a, b) if b else math.nan for a, b in row]) for row in masks]
    assert found["DiceMetric"] == pytest.approx(mean(strict, 0.0))
    lenient = [mean([dice(a, b) if b else float(not a) for a, b in row[1:]]) for row in masks]
    assert found["DiceMetric(no background, ignore_empty=False)"] == pytest.approx(mean(lenient))

    found = printed("nnunet", said, true, classes)
    columns = [mean([dice(*row[k]) for row in masks]) for k in range(1, classes)]
    assert found["foreground_mean Dice"] == pytest.approx(sum(columns) / len(columns), nan_ok=True)

    found = printed("transunet", said, true, classes)
    scores, distances = [], []
    for k in range(1, classes):
        for n, row in enumerate(masks):
            a, b = row[k]
            scores.append(dice(a, b) if a and b else float(bool(a)))
            valid = true[n] != 255
            both = ((said[n] == k) & valid, true[n] == k)
            distances.append(hausdorff(*both, pooled=True) if a and b else 0.0)
    assert found["performance (mean Dice)"] == pytest.approx(mean(scores))
    assert found["mean_hd95"] == pytest.approx(mean(distances))
