"""Masks that travel with a picture through augmentation without being warped before the end.

Every step of an augmentation (another size, a window, a mirror, a quarter turn) is an affine map of coordinates along
the axes. The steps are multiplied; the outlines and windows of flags stay as they were read. Only when the network's
input is known is each object drawn once, at that size: polygons are moved and then filled, flags are looked up at the
centres of the new pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sightline.datasets.thing_masks import NOTHING, Crop, Shape, Size, cut_out, painted

Matrix = NDArray[np.float64]
"""`(2, 3)`: x and y as read, and 1, to x and y now."""

SAME: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class Shapes:
    """The masks of one picture's objects as they were read, and where they are now."""

    shapes: tuple[Shape, ...]
    place: Matrix = field(default_factory=lambda: SAME)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Tensor) -> Shapes:
        """Some of them, by indices or flags `(G,)`."""
        chosen = np.arange(len(self.shapes))[index.cpu().numpy()]
        return replace(self, shapes=tuple(self.shapes[i] for i in chosen))

    def moved(self, step: Sequence[Sequence[float]]) -> Shapes:
        """The same after one more step, `(2, 3)`."""
        a = np.asarray(step, np.float64)
        place = a[:, :2] @ self.place
        place[:, 2] += a[:, 2]
        return replace(self, place=place)

    def drawn(self, size: Size) -> tuple[Crop, ...]:
        """Each as flags in a picture of `size` (height, width), cut to what is in sight."""
        return tuple(drawn(shape, self.place, size) for shape in self.shapes)


def drawn(shape: Shape, place: Matrix, size: Size) -> Crop:
    """One object at its new place in a picture of `size`."""
    if not isinstance(shape, Crop):
        points = [part @ place[:, :2].T + place[:, 2] for part in shape]
        return painted(points, size, "a polygon")
    height, width = shape.inside.shape
    if not height or not width:
        return NOTHING
    corners = np.array([[shape.left, shape.top, 1.0], [shape.left + width, shape.top + height, 1.0]])
    ends = corners @ place.T
    low = np.clip(np.floor(ends.min(0)), 0, (size[1], size[0])).astype(int)
    high = np.clip(np.ceil(ends.max(0)), 0, (size[1], size[0])).astype(int)
    back = np.linalg.inv(place[:, :2])
    x, y = np.arange(low[0], high[0]) + 0.5 - place[0, 2], np.arange(low[1], high[1]) + 0.5 - place[1, 2]
    column = np.floor(back[0, 0] * x[None, :] + back[0, 1] * y[:, None] + 1e-9).astype(int) - shape.left
    row = np.floor(back[1, 0] * x[None, :] + back[1, 1] * y[:, None] + 1e-9).astype(int) - shape.top
    within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    flags = shape.inside[row.clip(0, height - 1), column.clip(0, width - 1)] & within
    return cut_out(flags, int(low[1]), int(low[0]))
