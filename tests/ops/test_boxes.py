"""Boxes: against loops over single boxes, and torchvision where it has the same function."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.ops import boxes as B
from sightline.ops.anchors import cell_anchors, grid_anchors, legacy_cell_anchors
from sightline.ops.box_coding import decode, encode


def some_boxes(n: int, seed: int = 0, side: float = 100.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=random) * side, torch.rand(n, 2, generator=random) * side / 2 + 0.5
    return torch.cat([corner, corner + size], dim=-1)


def slow_iou(a: list[float], b: list[float], extra: float) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + extra)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + extra)
    area = [(x[2] - x[0] + extra) * (x[3] - x[1] + extra) for x in (a, b)]
    return width * height / (sum(area) - width * height)


@pytest.mark.parametrize("plus_one", [False, True])
def test_iou_is_that_of_a_loop(plus_one: bool) -> None:
    a, b = some_boxes(7), some_boxes(5, seed=1)
    expected = [[slow_iou(x, y, float(plus_one)) for y in b.tolist()] for x in a.tolist()]
    assert torch.allclose(B.iou(a, b, plus_one=plus_one), torch.tensor(expected), atol=1e-6)


def test_overlaps_equal_torchvision() -> None:
    from torchvision import ops

    a, b = some_boxes(20), some_boxes(30, seed=1)
    assert torch.allclose(B.iou(a, b), ops.box_iou(a, b))
    assert torch.allclose(B.giou(a, b), ops.generalized_box_iou(a, b), atol=1e-6)
    assert torch.allclose(B.paired_diou(a[:, None], b[None]), ops.distance_box_iou(a, b), atol=1e-6)
    assert torch.allclose(B.paired_ciou(a[:, None], b[None]), ops.complete_box_iou(a, b), atol=1e-6)
    assert torch.allclose(1 - B.paired_giou(a, b[:20]), ops.generalized_box_iou_loss(a, b[:20]), atol=1e-6)
    assert torch.allclose(B.clip_boxes(a, torch.tensor([50, 70])), ops.clip_boxes_to_image(a, (50, 70)))


def test_boxes_without_area_overlap_nothing() -> None:
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert float(B.iou(point, point)) == 0 and float(B.paired_iou(point, point)) == 0
    assert B.iou(point.half(), some_boxes(3).half()).dtype is torch.float32
    assert float(B.areas(torch.tensor([5.0, 5, 3, 9]))) == 0


def test_share_of_a_box_in_a_crowd() -> None:
    inside, crowd = torch.tensor([[2.0, 2, 4, 4], [0, 0, 20, 10]]), torch.tensor([[0.0, 0, 10, 10]])
    assert B.covered(inside, crowd)[:, 0].tolist() == [1.0, 0.5]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_coding_comes_back(seed: int) -> None:
    boxes, reference = some_boxes(9, seed), some_boxes(9, seed + 1)
    for weights in ((1, 1, 1, 1), (10, 10, 5, 5)):
        assert torch.allclose(
            decode(encode(boxes, reference, weights), reference, weights, largest=9), boxes, atol=1e-2
        )
    assert torch.allclose(B.from_centres(B.to_centres(boxes)), boxes, atol=1e-4)


def test_growth_is_cut() -> None:
    wild = torch.tensor([[0.0, 0, 50, 50]])
    assert float(decode(wild, torch.tensor([[0.0, 0, 16, 16]]))[0, 2] - 8) == pytest.approx(500)


def test_legacy_cell_is_the_published_list() -> None:
    expected = [
        [-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200], [-55, -55, 72, 72], [-119, -119, 136, 136],
        [-247, -247, 264, 264], [-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360],
    ]  # fmt: skip
    assert (legacy_cell_anchors() + 1).tolist() == expected  # the list was printed by MATLAB, whose pixels begin at 1


def test_grid_runs_rows_columns_anchors() -> None:
    cell = cell_anchors([4], [1])
    grid = grid_anchors(cell, 2, 3, (8, 16), offset=0.5)
    assert B.to_centres(grid).tolist() == [[8 + 16 * x, 4 + 8 * y, 4, 4] for y in range(2) for x in range(3)]


def test_cells_of_two_sources_are_the_same_boxes() -> None:
    a = cell_anchors([32, 64], [0.5, 1, 2])
    b = cell_anchors([32, 64], [0.5, 1, 2], order="size_first")
    assert torch.allclose(a.reshape(3, 2, 4).transpose(0, 1).reshape(6, 4), b, atol=1e-5)
    assert float((a - cell_anchors([32, 64], [0.5, 1, 2], rounded=True)).abs().max()) <= 0.5
