"""Outlines: the set of border pixels by a slow search, areas by hand, walks that close."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sightline.ops.contour import centroid, outline, signed_area


def border_pixels(mask: np.ndarray) -> set[tuple[int, int]]:
    """Pixels of a mask that touch, over a side, the background that reaches the picture's outside."""
    padded = np.pad(mask, 1)
    outside, _ = ndimage.label(~padded)
    outside = outside == outside[0, 0]
    found = set()
    for y, x in zip(*np.nonzero(padded)):
        if outside[y - 1, x] or outside[y + 1, x] or outside[y, x - 1] or outside[y, x + 1]:
            found.add((int(x) - 1, int(y) - 1))
    return found


def test_a_square_by_hand() -> None:
    mask = np.zeros((6, 7), bool)
    mask[1:4, 2:6] = True
    border = outline(mask)
    assert {tuple(p) for p in border.tolist()} == border_pixels(mask) and len(border) == 10
    assert abs(signed_area(border)) == 6.0 and centroid(border) == (3.5, 2.0)


def test_dots_lines_and_nothing() -> None:
    assert outline(np.zeros((3, 3), bool)).shape == (0, 2)
    dot = np.zeros((3, 3), bool)
    dot[1, 2] = True
    assert outline(dot).tolist() == [[2, 1]] and centroid(outline(dot)) == (2.0, 1.0)
    line = np.zeros((3, 5), bool)
    line[1, 1:4] = True
    assert len(outline(line)) == 4 and centroid(outline(line)) == (2.0, 1.0)


def test_the_largest_region_wins_and_holes_do_not_count() -> None:
    mask = np.zeros((12, 12), bool)
    mask[0:3, 0:3] = True
    mask[4:11, 4:11] = True
    mask[6:9, 6:9] = False
    border = outline(mask)
    assert border.min() == 4 and border.max() == 10 and len(border) == 24


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_walks_visit_the_border_and_nothing_else(height: int, width: int, seed: int) -> None:
    mask = np.random.RandomState(seed).random_sample((height, width)) < 0.6
    regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
    for number in range(1, count + 1):
        border = outline(regions == number)
        assert {tuple(p) for p in border.tolist()} == border_pixels(regions == number)
        if len(border) > 1:
            step = np.abs(border - np.roll(border, 1, axis=0)).max(1)
            assert (step == 1).all()


@pytest.mark.parametrize("turn", range(4))
def test_centres_of_turned_shapes(turn: int) -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 3:6] = True
    x, y = centroid(outline(np.rot90(mask, turn)))
    assert (x, y) == pytest.approx((4.0, 4.0))
