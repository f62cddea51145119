"""Polygons of label maps: filled again they give the map, holes and corners included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from sightline.ops.rings import regions


def inside(ring: np.ndarray, x: float, y: float) -> bool:
    """Whether a point lies in a ring, by crossings."""
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(8))
def test_filled_again_they_are_the_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], (9, 11), p=[0.35, 0.35, 0.2, 0.1]).astype(np.uint8)
    found = regions(labels)
    again = np.full(labels.shape, 255, np.uint8)
    for region in found:
        mask = np.array(
            [
                [
                    inside(region.outer, x + 0.5, y + 0.5)
                    and not any(inside(h, x + 0.5, y + 0.5) for h in region.holes)
                    for x in range(11)
                ]
                for y in range(9)
            ]
        )
        assert (again[mask] == 255).all() and mask.sum() == region.pixels
        again[mask] = region.value
    assert np.array_equal(again, labels)
    assert len(found) == sum(label(labels == v)[1] for v in (0, 1, 2))


def test_a_ring_with_a_hole_by_hand() -> None:
    labels = np.ones((3, 4), np.uint8)
    labels[1, 1] = 0
    outer, hole = sorted(regions(labels), key=lambda r: -r.pixels)
    assert outer.outer.tolist() == [[0, 0], [4, 0], [4, 3], [0, 3]] and len(outer.holes) == 1
    assert sorted(map(tuple, outer.holes[0].tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert (hole.value, hole.pixels, hole.holes) == (0, 1, ())
    assert regions(labels, leave_out=(0, 1)) == [] and len(regions(np.eye(3, dtype=np.uint8), leave_out=(0,))) == 3
