"""Compact masks: pasted, coded and cut as slow loops and the reference tools say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from sightline.errors import SightlineError
from sightline.instance.masks import (
    BoxMasks,
    MapMasks,
    Outlines,
    RunMasks,
    coded,
    decoded,
    filled,
    filled_in_box,
    window_runs,
)

SIZE = (23, 31)
BOXES = torch.tensor([[2.3, 4.1, 17.9, 15.2], [-6.0, -3.5, 9.4, 8.0], [20.5, 10.0, 40.0, 30.0], [5.0, 5.0, 5.6, 5.4]])


def grids(seed: int = 0) -> torch.Tensor:
    return torch.rand(len(BOXES), 7, 7, generator=torch.Generator().manual_seed(seed))


def reference(masks: np.ndarray) -> list[dict]:
    found = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": list(r["size"]), "counts": r["counts"].decode()} for r in found]


def test_centres_are_sampled_as_by_a_loop() -> None:
    masks = BoxMasks(BOXES, grids(), SIZE)
    expected = torch.zeros(len(BOXES), *SIZE)
    for n, (x0, y0, x1, y1) in enumerate(BOXES.tolist()):
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                v, u = (i + 0.5 - y0) / (y1 - y0) * 7 - 0.5, (j + 0.5 - x0) / (x1 - x0) * 7 - 0.5
                expected[n, i, j] = sum(
                    float(grids()[n, a, b]) * max(0, 1 - abs(v - a)) * max(0, 1 - abs(u - b))
                    for a in range(7)
                    for b in range(7)
                )
    said = masks.probabilities()
    near = (BOXES[:, None, None] - 0).shape  # one pixel around the box is looked at, not the rest of the outermost cell
    assert len(near) == 4 and (masks.dense() == (expected >= 0.5)).all()
    assert torch.allclose(said[said > 0], expected[said > 0], atol=1e-5)


def test_whole_pixels_are_pasted_as_torchvision_does() -> None:
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    expected = paste_masks_in_image(grids()[:, None], BOXES, SIZE)[:, 0]
    masks = BoxMasks(BOXES, grids(), SIZE, rule="whole")
    assert torch.equal(masks.probabilities(), expected)
    assert torch.equal(masks.dense(), expected >= 0.5)


def test_boxes_outside_the_picture_and_without_area_touch_nothing_else() -> None:
    boxes = torch.tensor([[50.0, 50.0, 60.0, 60.0], [-9.0, -9.0, -3.0, -3.0], [4.0, 4.0, 4.0, 4.0]])
    for rule in ("centres", "whole"):
        masks = BoxMasks(boxes, torch.ones(3, 7, 7), SIZE, rule=rule)
        assert masks.dense().sum((1, 2))[:2].tolist() == [0, 0] and masks.dense()[2].sum() <= 4
        assert [r["size"] for r in masks.runs()] == [list(SIZE)] * 3


@pytest.mark.parametrize("rule", ["centres", "whole"])
def test_runs_of_windows_are_those_of_the_whole(rule: str) -> None:
    masks = BoxMasks(BOXES, grids(1), SIZE, rule=rule)  # type: ignore[arg-type]
    assert masks.runs() == reference(masks.dense().numpy())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_runs_are_those_of_pycocotools_and_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.RandomState(seed).random_sample((height, width)) < share
    runs = coded(window_runs(mask, 0, 0, (height, width)), (height, width))
    assert runs == reference(mask[None])[0]
    assert (decoded(runs) == mask).all()
    assert (decoded({"size": [height, width], "counts": window_runs(mask, 0, 0, (height, width))}) == mask).all()


def test_windows_anywhere_in_the_picture() -> None:
    inside = np.array([[1, 1], [0, 1]], bool)
    for top in range(4):
        for left in range(3):
            mask = np.zeros((5, 4), bool)
            mask[top : top + 2, left : left + 2] = inside
            assert coded(window_runs(inside, top, left, (5, 4)), (5, 4)) == reference(mask[None])[0]


def test_runs_that_do_not_fit_are_refused() -> None:
    for counts in ([3, 4], [-1, 10], "0", "\x00", b"55555"):
        with pytest.raises(SightlineError):
            decoded({"size": [2, 4], "counts": counts})


def test_maps_are_enlarged_at_once_or_through_the_input() -> None:
    maps = torch.rand(11, 4, 5)
    plain = MapMasks(maps, (16, 20), (16, 20), (13, 29), twice=False)
    assert torch.equal(plain.dense(), F.interpolate(maps[None], size=(13, 29), mode="bilinear")[0] > 0.5)
    padded = MapMasks(maps, (16, 20), (14, 17), (14, 17))
    expected = F.interpolate(maps[None], size=(16, 20), mode="bilinear")[0, :, :14, :17] > 0.5
    assert torch.equal(padded.dense(), expected)
    assert padded.runs() == reference(expected.numpy())
    assert padded.scaled((7, 9)).dense().shape == (11, 7, 9)
    assert len(padded[torch.tensor([3, 1])]) == 2 and MapMasks(maps[:0], (16, 20), (16, 20), (5, 5)).runs() == []


def test_boxes_grow_with_the_picture() -> None:
    masks = BoxMasks(BOXES[:1], torch.ones(1, 7, 7), SIZE)
    twice = masks.scaled((46, 62))
    assert torch.allclose(twice.boxes, BOXES[:1] * 2) and twice.dense().shape == (1, 46, 62)
    assert abs(int(twice.dense().sum()) / int(masks.dense().sum()) - 4) < 0.5


def test_outlines_are_filled_as_pycocotools_does() -> None:
    points = torch.tensor([[[3.0, 2.0], [20.5, 4.0], [12.0, 19.0]], [[1.0, 1.0], [4.0, 1.0], [4.0, 9.0]]])
    masks = Outlines(points, SIZE)
    expected = [coco.decode(coco.frPyObjects([p.ravel().tolist()], *SIZE)[0]) for p in points]
    assert (masks.dense().numpy() == np.stack(expected)).all()
    assert masks.scaled((46, 62)).points.max() == 41 and len(masks[torch.tensor([True, False])]) == 1
    square = np.array([2.0, 2, 6, 2, 6, 6, 2, 6])
    assert decoded(filled([square], (8, 8))).sum() == 16
    assert (
        filled_in_box([square], (2, 2, 10, 10), 8)[:4, :4].all()
        and filled_in_box([square], (2, 2, 10, 10), 8).sum() == 16
    )


def test_run_masks_select_and_scale() -> None:
    masks = torch.rand(3, 6, 8) < 0.4
    runs = RunMasks.of(masks)
    assert torch.equal(runs.dense(), masks) and runs.runs() == reference(masks.numpy())
    assert torch.equal(runs[torch.tensor([2, 0])].dense(), masks[[2, 0]])
    assert torch.equal(runs[torch.tensor([True, False, True])].dense(), masks[[0, 2]])
    twice = runs.scaled((12, 16))
    assert torch.equal(twice.dense(), masks.repeat_interleave(2, 1).repeat_interleave(2, 2))
