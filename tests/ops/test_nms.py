"""Suppression against the loops of the papers; equal scores, chains, half precision, fixed shapes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.ops.boxes import iou
from sightline.ops.nms import fast_nms, matrix_nms, nms, nms_padded, soft_nms


def crowd(n: int, seed: int, side: float = 40.0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=random) * side, torch.rand(n, 2, generator=random) * side / 2 + 4
    scores = (torch.rand(n, generator=random) * 20).round() / 20  # many are equal
    return torch.cat([corner, corner + size], -1), scores, torch.randint(0, 3, (n,), generator=random)


def slow(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None) -> list[int]:
    overlap, kept = iou(boxes, boxes), []
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        rivals = [j for j in kept if labels is None or labels[i] == labels[j]]
        if all(overlap[j, i] <= threshold for j in rivals):
            kept.append(i)
    return kept


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 0.9]), st.booleans())
def test_greedy_is_the_loop(n: int, seed: int, threshold: float, by_class: bool) -> None:
    boxes, scores, labels = crowd(n, seed)
    chosen = labels if by_class else None
    expected = slow(boxes, scores, threshold, chosen)
    assert nms(boxes, scores, threshold, labels=chosen).tolist() == expected
    index, count = nms_padded(boxes, scores, threshold, valid=torch.ones(n).bool(), labels=chosen, most=7)
    assert index[: int(count)].tolist() == expected[:7]


def test_greedy_is_torchvisions() -> None:
    from torchvision import ops

    boxes, scores, labels = crowd(3000, 1, side=400)
    scores = scores + torch.arange(3000) * 1e-5  # torchvision's order of equal scores is not promised
    assert torch.equal(nms(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5))
    assert torch.equal(nms(boxes, scores, 0.5, labels=labels), ops.batched_nms(boxes, scores, labels, 0.5))


def test_a_chain_of_boxes_that_each_suppress_the_next() -> None:
    start = torch.arange(300.0)
    boxes = torch.stack([start, start * 0, start + 2.5, start * 0 + 1], dim=-1)
    scores = 1 - start / 1000
    assert nms(boxes, scores, 0.4).tolist() == list(range(0, 300, 2))


def test_a_thousand_equal_boxes_keep_the_first() -> None:
    boxes = torch.tensor([[3.0, 4, 50, 60]]).expand(1000, 4)
    assert nms(boxes, torch.full((1000,), 0.5), 0.5).tolist() == [0]


def test_a_thousand_overlapping_boxes_of_equal_scores_stay_in_order() -> None:
    boxes, _, labels = crowd(1000, 11, side=200)
    scores = torch.full((1000,), 0.25)
    for half in (False, True):
        given = (boxes.half(), scores.half()) if half else (boxes, scores)
        expected = slow(given[0].float(), scores, 0.3, labels)
        assert nms(*given, 0.3, labels=labels).tolist() == expected == sorted(expected)
        index, count = nms_padded(*given, 0.3, valid=torch.ones(1000).bool(), labels=labels, most=50)
        assert index[: int(count)].tolist() == expected[:50]


def test_classes_stay_apart_in_half_precision() -> None:
    boxes, scores, _ = crowd(50, 3, side=2000)
    labels = torch.arange(50)
    assert len(nms(boxes.half(), scores.half(), 0.0, labels=labels)) == 50


def test_padded_leaves_out_what_is_not_valid_and_compiles() -> None:
    boxes, scores, labels = (torch.stack(x) for x in zip(crowd(40, 5), crowd(40, 6)))
    valid = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) > 0.3
    valid[1] = False

    def run(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        return nms_padded(boxes, scores, 0.3, valid=valid, labels=labels, most=10)

    index, count = run(boxes, scores)
    some = valid[0].nonzero()[:, 0]
    expected = some[slow(boxes[0, some], scores[0, some], 0.3, labels[0, some])][:10]
    assert count.tolist() == [len(expected), 0] and index[0, : len(expected)].tolist() == expected.tolist()
    torch.compiler.reset()
    again = torch.compile(run, fullgraph=True, backend="eager")(boxes, scores)
    assert torch.equal(again[1], count) and torch.equal(again[0][0, : count[0]], index[0, : count[0]])


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_soft_is_the_loop(threshold: float | None) -> None:
    boxes, scores, _ = crowd(25, 2)
    overlap, rest, expected = iou(boxes, boxes), scores.tolist(), []
    while rest and max(rest) >= 1e-3:
        best = rest.index(max(rest))
        expected.append((best, rest[best]))
        for j in range(25):
            share = float(overlap[best, j])
            hard = 1 - share if threshold is not None and share > threshold else 1.0
            rest[j] *= math.exp(-(share**2) / 0.5) if threshold is None else hard
        rest[best] = -1
    index, final = soft_nms(boxes, scores, threshold=threshold)
    assert index.tolist() == [i for i, _ in expected]
    assert torch.allclose(final, torch.tensor([s for _, s in expected]), atol=1e-6)


def test_fast_counts_the_suppressed_too() -> None:
    boxes, scores, labels = crowd(40, 4)
    overlap = iou(boxes, boxes)
    order = sorted(range(40), key=lambda i: -float(scores[i]))
    expected = {
        i
        for place, i in enumerate(order)
        if not any(overlap[j, i] > 0.4 and labels[i] == labels[j] for j in order[:place])
    }
    assert set(fast_nms(boxes, scores, 0.4, labels=labels).nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_is_the_formula(kernel: str) -> None:
    boxes, scores, labels = crowd(20, 7)
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    overlap = iou(boxes, boxes)

    def f(x: float) -> float:
        return math.exp(-2 * x**2) if kernel == "gaussian" else 1 - x

    def pair(i: int, j: int) -> float:
        return float(overlap[i, j]) if labels[i] == labels[j] else 0.0

    expected = []
    for j in range(20):
        worst = [max([pair(k, i) for k in range(i)], default=0.0) for i in range(j)]
        expected.append(float(scores[j]) * min([f(pair(i, j)) / f(worst[i]) for i in range(j)], default=1.0))
    assert torch.allclose(matrix_nms(overlap, scores, labels, kernel=kernel), torch.tensor(expected), atol=1e-5)
