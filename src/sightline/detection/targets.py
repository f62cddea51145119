"""From a data set's record to what the network learns from: a picture and its objects, augmented together.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.contracts import Batch, Preprocess
from sightline.datasets.read import read_picture
from sightline.datasets.records import DataSet, ObjectRecord, Thing
from sightline.datasets.things import things_of
from sightline.detection.contract import PADDING, Target
from sightline.errors import UsageError
from sightline.media.prepare import as_float, intensity, match_channels, resize_by_rule, resize_pixels, target_size
from sightline.ops.recolour import recolour


@dataclass(frozen=True)
class Objects:
    """One picture's objects as arrays. boxes: `(G, 4)`. labels: `(G,)`. ignore: `(G,)` bool, crowds and difficult."""

    boxes: Tensor
    labels: Tensor
    ignore: Tensor

    def __getitem__(self, index: Tensor) -> Objects:
        return Objects(self.boxes[index], self.labels[index], self.ignore[index])


def objects_of(things: tuple[Thing, ...]) -> Objects:
    """The arrays of a record's objects."""
    return Objects(
        torch.tensor([t.box for t in things], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([t.label for t in things], dtype=torch.long),
        torch.tensor([t.crowd or t.difficult for t in things], dtype=torch.bool),
    )


@dataclass(frozen=True)
class Augment:
    """Joint augmentation of a picture and its objects, drawn anew for every sample; plain values, stored in the run.

    size: (height, width) of the canvas the network sees; None: every picture keeps its own. Pictures are fitted into
        the canvas, in proportion, before anything else; what they do not fill is left out by `sizes`.
    scale: the fitted picture is enlarged by a factor drawn log-uniformly from this range; what does not fit is cropped
        at a place drawn at random. crop: the chance of a window that keeps some objects (SSD, section 2.2), of at least
        this share of each side. flip, flip_vertical, turn: mirrored, upside down, by quarter turns.
    colour: strength of random brightness, contrast and (of RGB pictures) saturation, 0 to 1.
    An object stays when at least `keep` of its box is in sight.
    """

    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    crop: float = 0.0
    flip: bool = True
    flip_vertical: bool = False
    turn: bool = False
    colour: float = 0.0
    keep: float = 0.3

    def __post_init__(self) -> None:
        if self.size is not None and not (_pair(self.size, int) and min(self.size) >= 1):
            raise UsageError(f"augment.size {self.size} must be a height and a width in pixels, such as 480,640")
        if not (_pair(self.scale, int, float) and 0 < self.scale[0] <= self.scale[1] < math.inf):
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest factor, such as 0.7,1.5")
        for name in ("crop", "colour", "keep"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise UsageError(f"augment.{name} {value} must be a number from 0 to 1")
        for name in ("flip", "flip_vertical", "turn"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be true or false")

    def __call__(self, image: Tensor, objects: Objects, rng: np.random.Generator) -> tuple[Tensor, Objects]:
        """Image `(C, H, W)` uint8 or float and its objects, at a new place, size and colour."""
        image, objects = self._place(image, objects, rng)
        for axis, wanted in ((-1, self.flip), (-2, self.flip_vertical)):
            if wanted and rng.random() < 0.5:
                image, objects = mirrored(image, objects, axis)
        if self.turn:
            for _ in range(int(rng.integers(4)) if image.shape[-1] == image.shape[-2] else 2 * int(rng.integers(2))):
                image, objects = turned(image, objects)
        if self.colour:
            image = recolour(image, self.colour, rng)
        return image.contiguous(), objects

    def _place(self, image: Tensor, objects: Objects, rng: np.random.Generator) -> tuple[Tensor, Objects]:
        height, width = image.shape[-2:]
        if self.crop and rng.random() < self.crop and len(objects.boxes):
            top, left, rows, columns = window_with_objects(height, width, objects, rng)
            image = image[..., top : top + rows, left : left + columns]
            objects = in_window(objects, top, left, rows, columns, keep=self.keep)
            height, width = rows, columns
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        canvas = self.size or (height, width)
        fit = min(canvas[0] / height, canvas[1] / width) if self.size is not None else 1.0
        new = (max(1, round(height * fit * factor)), max(1, round(width * fit * factor)))
        image, objects = resized(image, objects, new)
        rows, columns = min(new[0], canvas[0]), min(new[1], canvas[1])
        if (rows, columns) != new:
            top, left = (int(rng.integers(0, have - want + 1)) for have, want in zip(new, (rows, columns)))
            image = image[..., top : top + rows, left : left + columns]
            objects = in_window(objects, top, left, rows, columns, keep=self.keep)
        return image, objects


def resized(image: Tensor, objects: Objects, size: tuple[int, int]) -> tuple[Tensor, Objects]:
    """Picture and boxes at another size (height, width)."""
    height, width = image.shape[-2:]
    if (height, width) == tuple(size):
        return image, objects
    factor = torch.tensor([size[1] / width, size[0] / height] * 2, dtype=torch.float32)
    return resize_pixels(image, size), replace(objects, boxes=objects.boxes * factor)


def in_window(objects: Objects, top: int, left: int, rows: int, columns: int, *, keep: float) -> Objects:
    """The objects of which at least `keep` is in a window, cut at its border, in the window's pixels."""
    boxes = objects.boxes - torch.tensor([left, top, left, top], dtype=torch.float32)
    cut = torch.stack([boxes[:, 0::2].clamp(0, columns), boxes[:, 1::2].clamp(0, rows)], -1).flatten(1)
    before = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    after = (cut[:, 2:] - cut[:, :2]).prod(1)
    seen = (after >= keep * before) & ((cut[:, 2:] - cut[:, :2]) >= 1).all(1)
    return replace(objects, boxes=cut)[seen]


def window_with_objects(
    height: int, width: int, objects: Objects, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a window of 0.3 to 1 of each side, no flatter than 1 to 2, around some centre."""
    centres = ((objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2).numpy()
    for _ in range(50):
        rows, columns = (max(1, int(n * rng.uniform(0.3, 1))) for n in (height, width))
        if not 0.5 <= rows / columns <= 2:
            continue
        top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
        x, y = centres[:, 0], centres[:, 1]
        if ((x > left) & (x < left + columns) & (y > top) & (y < top + rows)).any():
            return top, left, rows, columns
    return 0, 0, height, width


def mirrored(image: Tensor, objects: Objects, axis: int) -> tuple[Tensor, Objects]:
    """Left and right (axis -1) or up and down (axis -2) exchanged."""
    side, first = image.shape[axis], 0 if axis == -1 else 1
    boxes = objects.boxes.clone()
    boxes[:, first], boxes[:, first + 2] = side - objects.boxes[:, first + 2], side - objects.boxes[:, first]
    return image.flip(axis), replace(objects, boxes=boxes)


def turned(image: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
    """A quarter turn to the left."""
    width = image.shape[-1]
    x0, y0, x1, y1 = objects.boxes.unbind(1)
    return image.rot90(1, (-2, -1)), replace(objects, boxes=torch.stack([y0, width - x1, y1, width - x0], 1))


@dataclass(frozen=True)
class Sample:
    """One picture with its objects, ready to be padded and stacked."""

    key: str
    image: Tensor  # (C, H, W), uint8 or float32 in [0, 1]
    objects: Objects


class Samples(torch.utils.data.Dataset):
    """The records of a data set as samples; the item `(epoch, index)` is a pure function of them and of `seed`."""

    def __init__(
        self, data: DataSet, *, preprocess: Preprocess, seed: int, augment: Augment | None = None, keep: bool = False
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[ObjectRecord, ...] = data.records
        self.num_classes = len(data.classes)
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self._kept: dict[int, tuple[Tensor, Objects]] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample:
        epoch, index = ticket
        image, objects = self._load(index)
        if self.augment is not None:
            image, objects = self.augment(image, objects, np.random.default_rng([self.seed, epoch, index]))
        return Sample(self.records[index].key, image, objects)

    def _load(self, index: int) -> tuple[Tensor, Objects]:
        """Pixels and objects at the size the preprocess asks for; decoded once when they are kept in memory."""
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        record = self.records[index]
        picture = read_picture(record)
        size = (picture.shape[0], picture.shape[1])
        objects = objects_of(things_of(record, self.num_classes, size))
        image = match_channels(intensity(picture, self.preprocess.intensity), self.preprocess.channels)
        new = target_size(size, self.preprocess.resize)
        _, objects = resized(image[:1], objects, new)
        image = resize_by_rule(image, new, self.preprocess.resize)
        if self._kept is not None:
            self._kept[index] = (image, objects)
        return image, objects


def collate(samples: list[Sample], *, multiple: int = 32) -> Batch:
    """Pad pictures at the bottom and right, and lists of objects with `PADDING`, and stack both.

    The batch is uint8 when every picture is, else float32 in [0, 1]; its sides divide by `multiple`.
    """
    height, width = (max(-(-s.image.shape[axis] // multiple) * multiple for s in samples) for axis in (-2, -1))
    bytes_only = all(s.image.dtype == torch.uint8 for s in samples)
    pixels = [s.image if bytes_only else as_float(s.image) for s in samples]
    images = torch.stack([F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])) for x in pixels])
    most = max(len(s.objects.labels) for s in samples)
    pads = [most - len(s.objects.labels) for s in samples]
    target = Target(
        boxes=torch.stack([F.pad(s.objects.boxes, (0, 0, 0, pad)) for s, pad in zip(samples, pads)]),
        labels=torch.stack([F.pad(s.objects.labels, (0, pad), value=PADDING) for s, pad in zip(samples, pads)]),
        ignore=torch.stack([F.pad(s.objects.ignore, (0, pad)) for s, pad in zip(samples, pads)]),
    )
    sizes = torch.tensor([tuple(s.image.shape[-2:]) for s in samples])
    return Batch(images=images, targets=target, sizes=sizes, keys=tuple(s.key for s in samples))


def _pair(value: Any, *kinds: type) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(type(number) in kinds for number in value)
