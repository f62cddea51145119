"""Label maps as polygons along the edges of pixels: exact, with holes; every pixel belongs to one polygon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
"""Corners `(N, 2)` as x, y, in pixels; the last joins the first. Clockwise as seen (y down) around what it encloses."""


@dataclass(frozen=True)
class Region:
    """One connected region of a label: its value, its outer ring, and the rings of its holes (counterclockwise)."""

    value: int
    outer: Ring
    holes: tuple[Ring, ...]
    pixels: int


def regions(labels: NDArray[np.uint8], *, leave_out: tuple[int, ...] = (255,)) -> list[Region]:
    """Regions of equal labels in `(H, W)`, connected by edges, in the order of their first pixels.

    leave_out: values that become no region.
    """
    from scipy.ndimage import label

    numbers = np.zeros(labels.shape, np.int64)
    count = 0
    for value in np.unique(labels).tolist():
        if value not in leave_out:
            found, n = label(labels == value)  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
            numbers += np.where(found > 0, found + count, 0)
            count += n
    if count == 0:
        return []
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    first = np.zeros(count + 1, np.int64)
    flat = numbers.ravel()
    places = np.unique(flat, return_index=True)
    first[places[0]] = places[1]
    rings: dict[int, list[Ring]] = {}
    for number, ring in _rings(numbers):
        rings.setdefault(number, []).append(ring)
    found = []
    for number in sorted(rings, key=lambda k: first[k]):
        outer = next(r for r in rings[number] if _area(r) > 0)
        holes = tuple(r for r in rings[number] if _area(r) < 0)
        found.append(Region(int(labels.ravel()[first[number]]), outer, holes, int(sizes[number])))
    return found


def _rings(numbers: NDArray[np.int64]) -> list[tuple[int, Ring]]:
    """The closed lines around every region, walked with the region on the right."""
    height, width = numbers.shape
    padded = np.pad(numbers, 1)
    inner = padded[1:-1, 1:-1]
    start, turn, owner = [], [], []
    # an edge of a pixel for each side on which another region lies: along the top to the right, and so on around
    for way, (dy, dx), (oy, ox) in (
        (0, (-1, 0), (0, 0)),
        (1, (0, 1), (0, 1)),
        (2, (1, 0), (1, 1)),
        (3, (0, -1), (1, 0)),
    ):
        beside = padded[1 + dy : height + 1 + dy, 1 + dx : width + 1 + dx]
        y, x = np.nonzero((inner > 0) & (inner != beside))
        start.append((y + oy) * (width + 1) + x + ox)
        turn.append(np.full(len(y), way))
        owner.append(inner[y, x])
    begins, ways, owners = (np.concatenate(part) for part in (start, turn, owner))
    after = {(int(b), int(o), int(w)): i for i, (b, o, w) in enumerate(zip(begins, owners, ways))}
    offsets = (1, width + 1, -1, -(width + 1))
    left = np.ones(len(begins), bool)
    found = []
    for edge in range(len(begins)):
        if not left[edge]:
            continue
        corners, at = [], edge
        number = int(owners[edge])
        while left[at]:
            left[at] = False
            way, here = int(ways[at]), int(begins[at])
            corners.append((here % (width + 1), here // (width + 1), way))
            end = here + offsets[way]
            # where a region touches itself at a corner, the left turn keeps rings apart: a hole may touch the outer one
            at = next(i for t in (3, 0, 1) if (i := after.get((end, number, (way + t) % 4))) is not None)
        kept = [c[:2] for i, c in enumerate(corners) if c[2] != corners[i - 1][2]]
        found.append((number, np.array(kept, np.int64)))
    return found


def _area(ring: Ring) -> float:
    """Twice the enclosed area, positive when clockwise as seen (y down)."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
