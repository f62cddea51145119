"""Masks of single objects as their records hold them: outlines stay outlines, everything else becomes a small window.

Nothing here is as large as the picture but for the moment in which a file is decoded: an object of 30 pixels takes 900
bytes, whatever picture it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.paint import inside_of, polygon_mask
from sightline.datasets.records import MaskFile, ObjectRecord, Runs, Thing
from sightline.errors import SightlineError
from sightline.media.labels import read_labels

Size = tuple[int, int]


@dataclass(frozen=True)
class Crop:
    """Flags `(h, w)` of an object whose first one stands at row `top` and column `left` of its picture."""

    top: int
    left: int
    inside: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Pixels of the object."""
        return int(self.inside.sum())


Outline = tuple[NDArray[np.float64], ...]
Shape = Crop | Outline
"""One object: a window of flags, or polygons `(N, 2)` of x and y in continuous pixels that it is the union of."""

NOTHING = Crop(0, 0, np.zeros((0, 0), np.bool_))


def has_masks(records: Sequence[ObjectRecord]) -> bool:
    """Whether any object of a data set has a mask: then all that are learned from must."""
    return any(thing.mask is not None for record in records for thing in record.labels or ())


def shapes_of(record: ObjectRecord, things: Sequence[Thing], size: Size) -> tuple[Shape, ...]:
    """The masks of a record's objects, whose picture has `size` (height, width).

    Crowds and difficult objects may be without: nothing. Raises `SightlineError` where another has no mask, or one that
    does not fit the picture.
    """
    files: dict[tuple[Any, int], NDArray[np.integer]] = {}
    return tuple(_shape(record, thing, size, files) for thing in things)


def _shape(record: ObjectRecord, thing: Thing, size: Size, files: dict[tuple[Any, int], NDArray[np.integer]]) -> Shape:
    source = record.source or record.image.path
    if thing.mask is None or (isinstance(thing.mask, list) and not thing.mask):
        if thing.crowd or thing.difficult:
            return NOTHING
        raise SightlineError(
            f"{source}: object {thing.place} of {record.key} has no mask, others do; draw it or remove the object"
        )
    if isinstance(thing.mask, MaskFile):
        place = (thing.mask.path, thing.mask.page)
        if place not in files:
            files[place] = read_labels(thing.mask.path, page=thing.mask.page)
        if files[place].shape != size:
            height, width = files[place].shape
            raise SightlineError(
                f"{thing.mask.path} is {width} x {height} pixels but its picture {record.image.path} is {size[1]} x "
                f"{size[0]}; export the mask again at the picture's size"
            )
        return numbered(files[place], thing)
    parts = list(thing.mask) if isinstance(thing.mask, (list, tuple)) else [thing.mask]
    if any(isinstance(part, Runs) for part in parts):
        return painted(parts, size, f"{source}: object {thing.place}")
    return tuple(np.asarray(part, np.float64).reshape(-1, 2) for part in parts)


def numbered(numbers: NDArray[np.integer], thing: Thing) -> Crop:
    """The object of a picture of numbers that has the thing's."""
    x0, y0, x1, y1 = (int(v) for v in thing.box)
    return Crop(y0, x0, numbers[y0:y1, x0:x1] == thing.value)


def painted(parts: Sequence[Any], size: Size, where: str) -> Crop:
    """The union of run lengths and polygons, cut to where it is; `where` names it in messages."""
    flags = np.zeros(size, np.bool_)
    for part in parts:
        if isinstance(part, Runs):
            top, left = part.at
            height, width = part.size
            fits = top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
            if not fits or sum(part.counts) != height * width:
                raise SightlineError(f"{where} has run lengths that do not fit its picture; export it again")
            flags[top : top + height, left : left + width] |= inside_of(part.counts, part.size, by_rows=part.by_rows)
        else:
            window, inside = polygon_mask(np.asarray(part, np.float64).reshape(-1, 2), size)
            flags[window] |= inside
    return cut_out(flags)


def cut_out(flags: NDArray[np.bool_], top: int = 0, left: int = 0) -> Crop:
    """A mask `(H, W)` whose first pixel stands at `top` and `left` as the window it fills."""
    rows, columns = np.flatnonzero(flags.any(1)), np.flatnonzero(flags.any(0))
    if not len(rows):
        return NOTHING
    inside = flags[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Crop(top + int(rows[0]), left + int(columns[0]), inside)


def crop_of(shape: Shape, size: Size) -> Crop:
    """A shape as flags, in a picture of `size` (height, width)."""
    return shape if isinstance(shape, Crop) else painted(shape, size, "a polygon")
