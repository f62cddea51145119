"""Outlines of masks: the border of a region as a closed walk over its pixels.

Suzuki & Abe 1985, "Topological structural analysis of digitized binary images by border following", section 3: regions
hang together over corners (8 neighbours); the walk keeps the background on one side and ends where it began, in the
direction in which it began.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Row and column steps to the neighbours, clockwise from the right."""


def outline(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The outer border of the largest region (by the area that its border encloses) of `(H, W)`: `(N, 2)`, x and y.

    Empty where the mask is. A pixel that joins two parts is visited once from either side.
    """
    from scipy import ndimage

    regions, _ = ndimage.label(mask, structure=np.ones((3, 3), int))  # pyright: ignore[reportGeneralTypeIssues]
    largest, area = np.zeros((0, 2), np.int64), -1.0
    for number, window in enumerate(ndimage.find_objects(regions), 1):
        border = _walk(np.pad(regions[window] == number, 1))
        corner = np.array([window[1].start - 1, window[0].start - 1])
        size = abs(signed_area(border))
        if size > area:
            largest, area = border + corner, size
    return largest


def signed_area(points: NDArray) -> float:
    """The area inside a closed polygon `(N, 2)`; its sign says in which direction the points go around."""
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    return float((x * np.roll(y, 1) - y * np.roll(x, 1)).sum() / 2)


def centroid(points: NDArray) -> tuple[float, float]:
    """The middle (x, y) of the area inside a closed polygon `(N, 2)`; of its points where there is no area."""
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    cross = x * np.roll(y, 1) - y * np.roll(x, 1)
    if cross.sum() == 0:
        return float(x.mean()), float(y.mean())
    total = cross.sum() * 3
    return float((cross * (x + np.roll(x, 1))).sum() / total), float((cross * (y + np.roll(y, 1))).sum() / total)


def _walk(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The border of one region that touches no side of its array: x and y, `(N, 2)`."""
    row, column = divmod(int(np.flatnonzero(region)[0]), region.shape[1])
    start = here = (row, column)
    # the pixel to the left of the first one is background: the first neighbour clockwise from there
    first = next((d for d in (*range(4, 8), *range(4)) if region[row + AROUND[d][0], column + AROUND[d][1]]), None)
    if first is None:
        return np.array([[column, row]])
    last = (row + AROUND[first][0], column + AROUND[first][1])
    found, direction = [], first  # direction: to the pixel we came from
    while True:
        found.append((here[1], here[0]))
        for turn in range(1, 9):
            d = (direction - turn) % 8  # counterclockwise from where we came
            there = (here[0] + AROUND[d][0], here[1] + AROUND[d][1])
            if region[there]:
                break
        if there == start and here == last:
            return np.array(found)
        here, direction = there, (d + 4) % 8
