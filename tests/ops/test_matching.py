"""Matching and sampling against loops over single boxes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.ops.boxes import iou
from sightline.ops.matching import BACKGROUND, BETWEEN, balanced_sample, fixed_keys, match


def some_boxes(n: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    corner = (torch.rand(n, 2, generator=random) * 8).round() * 4
    return torch.cat([corner, corner + (torch.rand(n, 2, generator=random) * 4).round() * 4 + 8], -1)


def slow(truth: Tensor, boxes: Tensor, high: float, low: float, rescue: str) -> list[int]:
    overlap = iou(truth, boxes).tolist()
    found = []
    for j in range(len(boxes)):
        column = [row[j] for row in overlap]
        best = max(range(len(column)), key=lambda i: (column[i], -i))
        answer = best if column[best] >= high else BACKGROUND if column[best] < low else BETWEEN
        claims = [i for i, row in enumerate(overlap) if row[j] == max(row) > 0]
        if rescue != "none" and claims:
            answer = best if rescue == "own" else claims[-1]
        found.append(answer)
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 10_000),
    st.sampled_from([(0.7, 0.3), (0.5, 0.5)]),
    st.sampled_from(["none", "own", "theirs"]),
)
def test_match_is_the_loop(objects: int, seed: int, levels: tuple[float, float], rescue: str) -> None:
    truth, boxes = some_boxes(objects, seed), some_boxes(30, seed + 1)
    high, low = levels
    padded = torch.cat([truth, boxes[:2]])  # padding may lie on any box: it must not matter
    valid = torch.arange(objects + 2) < objects
    found, best = match(padded, boxes, valid=valid, high=high, low=low, rescue=rescue)
    assert found.tolist() == slow(truth, boxes, high, low, rescue)
    assert bool((best < objects).all())


def test_nothing_to_find_is_all_background() -> None:
    boxes = some_boxes(4, 0)
    for truth, valid in ((torch.zeros(0, 4), torch.zeros(0).bool()), (boxes[:2], torch.zeros(2).bool())):
        found, _ = match(truth, boxes, valid=valid, high=0.7, low=0.3, rescue="own")
        assert found.tolist() == [BACKGROUND] * 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 16), st.integers(0, 10_000))
def test_sample_has_the_wanted_numbers(positives: int, negatives: int, count: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor([1] * positives + [0] * negatives + [-1] * 5)[
        torch.randperm(positives + negatives + 5, generator=random)
    ]
    keys = torch.rand(len(labels), generator=random)
    a, b = balanced_sample(labels == 1, labels == 0, count, 0.5, keys)
    assert int(a.sum()) == min(positives, count // 2)
    assert int(b.sum()) == min(negatives, count - min(positives, count // 2))
    assert bool((labels[a] == 1).all()) and bool((labels[b] == 0).all())
    if 0 < int(a.sum()) < positives:
        assert float(keys[a].max()) < float(keys[(labels == 1) & ~a].min())


def test_fixed_keys_spread() -> None:
    keys = fixed_keys(torch.zeros(2, 1000))
    assert torch.equal(keys[0], keys[1]) and float(keys.min()) >= 0 and float(keys.max()) < 1
    assert float((keys[0, 300:400] < 0.25).float().mean()) == pytest.approx(0.25, abs=0.02)
