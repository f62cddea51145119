"""Pictures made of several pictures, with their objects: more canvas, four in one, objects of one on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sightline.datasets.thing_masks import NOTHING, Crop, cut_out
from sightline.detection.objects import Objects, drawn, in_window, resized
from sightline.detection.shapes import Shapes
from sightline.media.prepare import as_float

FARTHEST = 4.0
"""How many times a canvas may be as wide and high as its picture (SSD, section 3.6)."""


def expanded(image: Tensor, objects: Objects, rng: np.random.Generator) -> tuple[Tensor, Objects]:
    """The picture `(C, H, W)` at a place drawn at random on a canvas of its mean colour, up to four times its sides."""
    height, width = image.shape[-2:]
    factor = rng.uniform(1.0, FARTHEST)
    rows, columns = round(height * factor), round(width * factor)
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    canvas = image.float().mean((1, 2)).to(image.dtype)[:, None, None].repeat(1, rows, columns)
    canvas[:, top : top + height, left : left + width] = image
    return canvas, objects.moved([[1, 0, left], [0, 1, top]])


def mosaic(
    pictures: Sequence[tuple[Tensor, Objects]], rng: np.random.Generator, *, keep: float
) -> tuple[Tensor, Objects]:
    """Four pictures in one of the first one's size, each filling a quarter around a middle drawn at random.

    Each is shrunk or enlarged in proportion until it covers its part, and cut there. What is less than `keep` in sight
    is left out.
    """
    images = [image for image, _ in pictures]
    if any(image.dtype != torch.uint8 for image in images):
        images = [as_float(image) for image in images]
    canvas = images[0].clone()
    height, width = canvas.shape[-2:]
    row, column = (max(1, min(n - 1, round(n * rng.uniform(0.3, 0.7)))) for n in (height, width))
    found = []
    for image, (_, objects), (top, left, rows, columns) in zip(
        images,
        pictures,
        (
            (0, 0, row, column),
            (0, column, row, width - column),
            (row, 0, height - row, column),
            (row, column, height - row, width - column),
        ),
    ):
        factor = max(rows / image.shape[-2], columns / image.shape[-1])
        size = (max(rows, round(image.shape[-2] * factor)), max(columns, round(image.shape[-1] * factor)))
        image, objects = resized(image, objects, size)
        y, x = int(rng.integers(size[0] - rows + 1)), int(rng.integers(size[1] - columns + 1))
        part = image[..., y : y + rows, x : x + columns]
        canvas[:, top : top + rows, left : left + columns] = part
        seen = settled(in_window(objects, y, x, rows, columns, keep=keep), (rows, columns))
        found.append(seen.moved([[1, 0, left], [0, 1, top]]))
    size = (height, width)
    return canvas, joined([settled(objects, size) for objects in found])


def pasted(
    image: Tensor, objects: Objects, other: Tensor, theirs: Objects, rng: np.random.Generator, *, keep: float
) -> tuple[Tensor, Objects]:
    """About half of the other picture's objects over this one, by their masks, where they are there.

    What they cover is taken from this picture's masks, and boxes shrink with them; an object of which less than `keep`
    is left goes.
    """
    if image.dtype != other.dtype:
        image, other = as_float(image), as_float(other)
    height, width = image.shape[-2:]
    rows, columns = min(height, other.shape[-2]), min(width, other.shape[-1])
    theirs = settled(in_window(theirs, 0, 0, rows, columns, keep=keep), (rows, columns))
    chosen = torch.from_numpy(rng.random(len(theirs.labels)) < 0.5) & ~theirs.ignore
    theirs = theirs[chosen]
    covered = np.zeros((height, width), np.bool_)
    for crop in crops_of(theirs):
        h, w = crop.inside.shape
        covered[crop.top : crop.top + h, crop.left : crop.left + w] |= crop.inside
    image = image.clone()
    flags = torch.from_numpy(covered)
    image[:, flags] = other[:, :rows, :columns][:, flags[:rows, :columns]]
    return image, joined([uncovered(settled(objects, (height, width)), covered, keep), theirs])


def uncovered(objects: Objects, covered: np.ndarray, keep: float) -> Objects:
    """Objects without the pixels that something else covers; boxes of those that lost some are drawn anew."""
    boxes, crops, stay = objects.boxes.clone(), list[Crop](), list[bool]()
    for place, crop in enumerate(crops_of(objects)):
        h, w = crop.inside.shape
        left = crop.inside & ~covered[crop.top : crop.top + h, crop.left : crop.left + w]
        kept = cut_out(left, crop.top, crop.left)
        crops.append(kept)
        lost = kept.area < crop.area
        stay.append(bool(objects.ignore[place]) or not lost or (kept.area > 0 and kept.area >= keep * crop.area))
        if lost and kept.area:
            (h, w), y, x = kept.inside.shape, kept.top, kept.left
            boxes[place] = torch.tensor([x, y, x + w, y + h], dtype=boxes.dtype)
    return replace(objects, boxes=boxes, masks=Shapes(tuple(crops)))[torch.tensor(stay, dtype=torch.bool)]


def settled(objects: Objects, size: tuple[int, int]) -> Objects:
    """Objects whose masks are drawn in a picture of `size`, so that those of several pictures have one place."""
    objects, crops = drawn(objects, size)
    return objects if objects.masks is None else replace(objects, masks=Shapes(crops))


def crops_of(objects: Objects) -> tuple[Crop, ...]:
    """The windows of settled objects; nothing each where they have no masks."""
    shapes = objects.masks.shapes if objects.masks is not None else (NOTHING,) * len(objects.labels)
    return tuple(shape for shape in shapes if isinstance(shape, Crop))


def joined(parts: Sequence[Objects]) -> Objects:
    """The settled objects of several pictures as one list."""
    masks = [part.masks for part in parts if part.masks is not None]
    joints = [part.joints for part in parts if part.joints is not None]
    return replace(
        parts[0],
        boxes=torch.cat([part.boxes for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        ignore=torch.cat([part.ignore for part in parts]),
        masks=Shapes(tuple(shape for mask in masks for shape in mask.shapes)) if masks else None,
        joints=torch.cat(joints) if joints else None,
    )
