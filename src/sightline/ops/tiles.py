"""Cutting something large into overlapping tiles, and blending the answers back together in constant memory.

Works along one to three axes. The blend follows nnU-Net (Isensee et al. 2021, "sliding window inference"): tiles
overlap, and each answer counts less towards its border, by a Gaussian window. Unlike there, no buffer of the whole
answer exists: tiles come in row order, so rows that no later tile touches can leave at once, and what is held
is one tile's height, `(K, tile, W)`, however tall the picture.

    blender = SlabBlender(size=(H, W), tile=(512, 512))
    for where in tiles((H, W), (512, 512), overlap=0.5):
        for slab in blender.add(where, network(picture[:, *where])):
            write(slab.start, slab.values.argmax(0))  # rows slab.start .. slab.stop are final
    for slab in blender.finish():
        write(...)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import UsageError

Where = tuple[slice, ...]
"""One tile's place: a slice an axis."""

PIECE = 2**21  # numbers that leave at once: 8 MB
SMALLEST_WEIGHT = 1e-6  # a pixel that only a tile's corner covers must still be divisible by its weight


def starts(length: int, tile: int, overlap: float = 0.5) -> list[int]:
    """Where tiles begin along one axis: evenly spread, the first at 0, the last one ending at `length`.

    Neighbours share at least the fraction `overlap` of a tile (up to rounding to whole pixels), and no pixel is
    missed. An axis no longer than `tile` gets one tile.
    """
    if length < 1 or tile < 1 or not 0 <= overlap < 1:
        raise UsageError(
            f"cannot cut {length} pixels into tiles of {tile} with overlap {overlap}: "
            "lengths start at 1, the overlap is a fraction from 0 to below 1"
        )
    if length <= tile:
        return [0]
    step = max(1.0, tile * (1 - overlap))
    steps = math.ceil((length - tile) / step - 1e-9)
    return [round(k * (length - tile) / steps) for k in range(steps + 1)]


def tiles(size: Sequence[int], tile: Sequence[int], overlap: float = 0.5) -> list[Where]:
    """Slices of overlapping tiles that cover `size`, row by row (the last axis runs fastest).

    Every tile has the size `tile`, except along axes that are shorter: there it has the axis' length.
    """
    axes = [
        [slice(start, min(start + t, n)) for start in starts(n, t, overlap)] for n, t in zip(size, tile, strict=True)
    ]
    return list(itertools.product(*axes))


def gaussian_window(tile: Sequence[int]) -> Tensor:
    """How much each pixel of a tile counts: float32 of shape `tile`, highest in the middle, everywhere above 0.

    A Gaussian with a sigma of an eighth of the tile (nnU-Net's), symmetric, no smaller than `SMALLEST_WEIGHT`.
    """
    window = torch.ones(())
    for n in tile:
        offset = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        window = window[..., None] * torch.exp(-0.5 * (offset / (n / 8)) ** 2)
    return window.clamp(min=SMALLEST_WEIGHT)


@dataclass(frozen=True)
class Slab:
    """Finished rows `start` up to `stop` of a blended answer."""

    start: int
    values: Tensor  # (K, stop - start, *rest) float32

    @property
    def stop(self) -> int:
        """The row after the last one."""
        return self.start + self.values.shape[1]


class SlabBlender:
    """Weighted means of overlapping answers, given out slab by slab along the first axis (rows, or depth).

    size: the whole answer's `(H,)`, `(H, W)` or `(D, H, W)`; tile: the largest tile. Average probabilities here,
    not logits: a mean of logits lets one very sure tile outvote the others.
    """

    def __init__(self, size: Sequence[int], tile: Sequence[int]) -> None:
        self.size = tuple(size)
        self.tile = tuple(min(t, n) for t, n in zip(tile, size, strict=True))
        self.row = 0  # the first row that has not left yet
        self._window = gaussian_window(self.tile)
        self._sums: Tensor | None = None  # (K, tile, *rest), rows from self.row on
        self._weights = torch.zeros(self.tile[0], *self.size[1:])

    def add(self, where: Where, probabilities: Tensor) -> list[Slab]:
        """Add the answer `(K, *tile)` of the tile at `where`; returns the rows that became final, if any.

        Tiles come in the order of `tiles`: none may begin above the one before it. `release` and `put` are its two
        halves: where K is large, the rows then leave a few at a time and are never held twice.
        """
        self._check(where, probabilities)
        done = list(self.release(where[0].start))
        self.put(where, probabilities)
        return done

    def finish(self) -> list[Slab]:
        """The last rows, once every tile has been added."""
        return list(self.release(self.size[0]))

    def release(self, row: int) -> Iterator[Slab]:
        """The rows above `row`, which no later tile touches, a few at a time; they have left when all were taken."""
        rows = row - self.row
        if rows <= 0:
            return
        if self._sums is None or rows > len(self._weights) or not bool((self._weights[:rows] > 0).all()):
            raise UsageError(
                f"rows {self.row} to {self.row + rows} are not covered; feed every tile of tiles(), in its order"
            )
        each = max(1, PIECE // max(1, self._sums[:, 0].numel()))
        for first in range(0, rows, each):
            part = slice(first, min(first + each, rows))
            yield Slab(self.row + first, self._sums[:, part] / self._weights[part])
        for buffer in (self._sums.transpose(0, 1), self._weights):  # rows first: the rest moves up, in place
            for first in range(0, len(buffer) - rows, rows):
                block = buffer[first + rows : first + 2 * rows]
                buffer[first : first + len(block)] = block
            buffer[len(buffer) - rows :] = 0
        self.row = row

    def put(self, where: Where, probabilities: Tensor) -> None:
        """Add one tile's answer; the rows above it must have been released."""
        self._check(where, probabilities)
        top, bottom = where[0].start, where[0].stop
        if top != self.row:
            raise UsageError(f"a tile at row {top} while row {self.row} has not left; take all of release({top}) first")
        if self._sums is None:
            self._sums = probabilities.new_zeros(len(probabilities), *self._weights.shape, dtype=torch.float32)
            self._weights, self._window = self._weights.to(self._sums.device), self._window.to(self._sums.device)
        place = (slice(0, bottom - top), *where[1:])
        self._sums[:, *place].addcmul_(probabilities.float(), self._window)
        self._weights[place] += self._window

    def _check(self, where: Where, probabilities: Tensor) -> None:
        top, bottom = where[0].start, where[0].stop
        shape = tuple(s.stop - s.start for s in where)
        if top < self.row or bottom > self.size[0] or shape != self.tile or probabilities.shape[1:] != shape:
            raise UsageError(
                f"an answer of shape {tuple(probabilities.shape)} does not fit at rows {top} to {bottom}: expected a "
                f"tile of {self.tile} at row {self.row} or below; feed tiles in the order of tiles()"
            )


def blend(answers: Iterable[tuple[Where, Tensor]], size: Sequence[int], tile: Sequence[int]) -> Iterator[Slab]:
    """Blend a stream of `(where, probabilities (K, *tile))` in the order of `tiles` into a stream of slabs."""
    blender = SlabBlender(size, tile)
    for where, probabilities in answers:
        yield from blender.release(where[0].start)
        blender.put(where, probabilities)
    yield from blender.release(blender.size[0])
