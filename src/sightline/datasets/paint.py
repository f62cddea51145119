"""Polygons and run lengths to class ids: a pixel belongs to a shape when the reference tools of COCO say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.records import Polygons, Runs
from sightline.errors import SightlineError


def paint(labels: Polygons) -> NDArray[np.uint8]:
    """Class ids `(H, W)` uint8: the fill, and the shapes painted over it in their order."""
    canvas = np.full(labels.size, labels.fill, np.uint8)
    for number, shape in labels.shapes:
        if isinstance(shape, Runs):
            window, inside = runs_mask(shape, labels)
        else:
            window, inside = polygon_mask(np.asarray(shape, np.float64), labels.size)
        canvas[window][inside] = number
    return canvas


Window = tuple[slice, slice]


def polygon_mask(points: NDArray[np.float64], size: tuple[int, int]) -> tuple[Window, NDArray[np.bool_]]:
    """The pixels inside a polygon `(N, 2)` of x, y: a window of the picture and a mask of its size.

    Only the polygon's own rectangle is rasterised, so a thousand small shapes in a large picture stay cheap.
    """
    from pycocotools import mask as coco

    height, width = size
    low = np.clip(np.floor(points.min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 2, 0, (width, height)).astype(int)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    h, w = max(int(high[1] - low[1]), 0), max(int(high[0] - low[0]), 0)
    if len(points) < 3 or not h or not w:
        return window, np.zeros((h, w), bool)
    fifths = np.trunc(points * 5 + 0.5) - 5 * low  # the tools count in fifths of a pixel; shifting whole ones is exact
    (rle,) = coco.frPyObjects([((fifths - 0.6 * (fifths < 0)) / 5).ravel().tolist()], h, w)
    text = rle["counts"]
    counts = counts_of(text.decode() if isinstance(text, bytes) else text, limit=h * w + 1)
    return window, inside_of(counts, (h, w), by_rows=False)


def runs_mask(runs: Runs, labels: Polygons) -> tuple[Window, NDArray[np.bool_]]:
    """The pixels of run lengths that start with background and go down the columns, as COCO stores them."""
    height, width = runs.size
    counts = np.asarray(runs.counts, np.int64)
    top, left = runs.at
    fits = top >= 0 and left >= 0 and top + height <= labels.size[0] and left + width <= labels.size[1]
    if (counts < 0).any() or counts.sum() != height * width or not fits:
        raise SightlineError(
            f"{labels.source}: run lengths cover {int(counts.sum())} pixels, expected {width} x {height} inside "
            f"{labels.size[1]} x {labels.size[0]}; export the annotations again"
        )
    return (slice(top, top + height), slice(left, left + width)), inside_of(counts, runs.size, by_rows=runs.by_rows)


def inside_of(counts: Sequence[int] | NDArray[np.int64], size: tuple[int, int], *, by_rows: bool) -> NDArray[np.bool_]:
    """Run lengths that cover `size`, beginning with background, as a mask."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(size) if by_rows else flat.reshape(size[::-1]).T


def counts_of(text: str, limit: int) -> tuple[int, ...]:
    """COCO's compressed run lengths: five bits a character, low bits first, differences from the run before the last.

    Written out here because the C reader trusts its input. Raises `ValueError` for text no encoder writes; `limit`
    is the count of runs a picture can have.
    """
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(text) or shift > 60:
                raise ValueError("cut off")
            code = ord(text[at]) - 48
            if not 0 <= code < 64:
                raise ValueError(f"the character {text[at]!r}")
            value |= (code & 31) << shift
            more, shift, at = bool(code & 32), shift + 5, at + 1
            if not more and code & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        if len(counts) > limit:
            raise ValueError("too many runs")
    return tuple(counts)


def text_of(counts: Any) -> str:
    """The inverse of `counts_of`: run lengths as COCO's compressed text."""
    text = []
    numbers = [int(c) for c in counts]
    for i, count in enumerate(numbers):
        value = count - numbers[i - 2] if i > 2 else count
        while True:
            code, value = value & 31, value >> 5
            done = value == -1 if code & 16 else value == 0
            text.append(chr(code + (0 if done else 32) + 48))
            if done:
                break
    return "".join(text)
