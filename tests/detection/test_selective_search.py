"""Selective Search finds the boxes of what stands out, joins the most alike first, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.detection.selective_search import described, joined, selective_search
from sightline.errors import UsageError
from sightline.ops.boxes import iou

BOXES = [[10, 8, 40, 30], [50, 30, 80, 70], [8, 50, 30, 76]]


def picture() -> np.ndarray:
    random = np.random.default_rng(0)
    image = np.full((80, 90, 3), (90, 120, 90), np.uint8)
    for (x0, y0, x1, y1), colour in zip(BOXES, ((200, 40, 40), (40, 60, 220), (230, 220, 60))):
        image[y0:y1, x0:x1] = colour
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["fast", pytest.param("quality", marks=pytest.mark.slow)])
def test_what_stands_out_has_a_box(mode: str) -> None:
    found = selective_search(picture(), mode=mode)
    best = iou(torch.tensor(BOXES).float(), torch.from_numpy(found).float()).amax(1)
    assert bool((best > 0.8).all()), best
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found >= 0).all() and (found[:, 2] <= 90).all() and (found[:, 3] <= 80).all()
    assert [0, 0, 90, 80] in found.tolist()


def test_same_seed_same_order_and_small_ones_left_out() -> None:
    a, b, c = (
        selective_search(picture(), seed=1),
        selective_search(picture(), seed=1),
        selective_search(picture(), seed=2),
    )
    assert np.array_equal(a, b) and {*map(tuple, a)} == {*map(tuple, c)}
    large = selective_search(picture(), smallest=25)
    assert len(large) < len(a) and ((large[:, 2:] - large[:, :2]) >= 25).all()


def test_the_most_alike_join_first() -> None:
    image = np.zeros((6, 9, 3))
    image[:, 3:6], image[:, 6:] = 200.0, 198.0
    labels = np.repeat([[0, 1, 2]], 6, axis=0).repeat(3, axis=1)
    regions = described(image, labels)
    assert regions.neighbours == [{1}, {0, 2}, {1}]
    assert np.allclose(regions.colour.sum(1), 1) and np.allclose(regions.texture.sum(1), 1)
    boxes = list(joined(regions, ("colour",), 54))
    assert boxes[:3] == [(0, 0, 3, 6), (3, 0, 6, 6), (6, 0, 9, 6)]
    assert boxes[3:] == [(3, 0, 9, 6), (0, 0, 9, 6)]


def test_pictures_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="bytes"):
        selective_search(np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match="fast, quality"):
        selective_search(picture(), mode="slow")  # pyright: ignore[reportArgumentType]
