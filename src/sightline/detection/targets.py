"""From a data set's record to what the network learns from: a picture and its objects, augmented together.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.contracts import Batch, Preprocess
from sightline.datasets.read import read_picture
from sightline.datasets.records import DataSet, ObjectRecord, Thing
from sightline.datasets.thing_masks import Crop, has_masks, shapes_of
from sightline.datasets.things import things_of
from sightline.detection.contract import PADDING, Target
from sightline.detection.mixing import expanded, mosaic, pasted
from sightline.detection.objects import (
    Objects,
    drawn,
    in_window,
    mirrored,
    objects_of,
    resized,
    turned,
    window_with_objects,
)
from sightline.detection.shapes import Shapes
from sightline.errors import UsageError
from sightline.media.prepare import as_float, intensity, match_channels, resize_by_rule, target_size
from sightline.ops.recolour import recolour


@dataclass(frozen=True)
class Augment:
    """Joint augmentation of a picture and its objects, drawn anew for every sample; plain values, stored in the run.

    size: (height, width) of the canvas the network sees; None: every picture keeps its own. Pictures are fitted into
        the canvas, in proportion, before anything else; what they do not fill is left out by `sizes`.
    scale: the fitted picture is enlarged by a factor drawn log-uniformly from this range; what does not fit is cropped
        at a place drawn at random. crop: the chance of a window that keeps some objects (SSD, section 2.2), of at least
        this share of each side. flip, flip_vertical, turn: mirrored, upside down, by quarter turns.
    colour: strength of random brightness, contrast and (of RGB pictures) saturation, 0 to 1.
    expand: the chance of a canvas of up to four times the sides around the picture, for small objects (SSD).
    mosaic: the chance of four pictures in one, parted at a place drawn at random (Bochkovskiy et al. 2020).
    paste: the chance that some objects of another picture are put over this one by their masks (Ghiasi et al. 2021).
    An object stays when at least `keep` of its box is in sight.
    """

    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    crop: float = 0.0
    flip: bool = True
    flip_vertical: bool = False
    turn: bool = False
    colour: float = 0.0
    expand: float = 0.0
    mosaic: float = 0.0
    paste: float = 0.0
    keep: float = 0.3

    def __post_init__(self) -> None:
        if self.size is not None and not (_pair(self.size, int) and min(self.size) >= 1):
            raise UsageError(f"augment.size {self.size} must be a height and a width in pixels, such as 480,640")
        if not (_pair(self.scale, int, float) and 0 < self.scale[0] <= self.scale[1] < math.inf):
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest factor, such as 0.7,1.5")
        for name in ("crop", "colour", "expand", "mosaic", "paste", "keep"):
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
        if self.expand and rng.random() < self.expand:
            image, objects = expanded(image, objects, rng)
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


@dataclass(frozen=True)
class Sample:
    """One picture with its objects, ready to be padded and stacked."""

    key: str
    image: Tensor  # (C, H, W), uint8 or float32 in [0, 1]
    objects: Objects
    masks: tuple[Crop, ...] | None = None  # one an object, at the picture's size; None: nothing has a mask
    canvas: tuple[int, int] | None = None  # the one height and width that the network takes; None: any


COCO_JOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)


def swapped(names: Sequence[str]) -> tuple[int, ...]:
    """Which joint takes each one's place in a mirror, by the words left and right in their names."""
    known = {name.lower(): place for place, name in enumerate(names)}
    found = []
    for place, name in enumerate(names):
        low = name.lower()
        other = low.replace("left", "right") if "left" in low else low.replace("right", "left")
        found.append(known.get(other, place))
    return tuple(found)


class Samples(torch.utils.data.Dataset):
    """The records of a data set as samples; the item `(epoch, index)` is a pure function of them and of `seed`.

    full: with masks and joints, where the data have any. Where joints have no names (and are not COCO's 17) nobody
    knows left from right, and nothing is mirrored.
    """

    def __init__(
        self,
        data: DataSet,
        *,
        preprocess: Preprocess,
        seed: int,
        augment: Augment | None = None,
        keep: bool = False,
        full: bool = False,
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[ObjectRecord, ...] = data.records
        self.num_classes = len(data.classes)
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self.masks = full and has_masks(self.records)
        self.joints = joints_in(self.records) if full else 0
        names = data.facts.get("joints") or (COCO_JOINTS if self.joints == len(COCO_JOINTS) else ())
        self.swap = swapped(names) if len(names) == self.joints else ()
        if self.augment is not None and self.joints and not self.swap:
            self.augment = replace(self.augment, flip=False, flip_vertical=False)
        exact = preprocess.resize.startswith("exact")
        self.canvas = target_size((1, 1), preprocess.resize) if exact else None
        if self.augment is not None and self.augment.size is None:
            self.augment = replace(self.augment, size=self.canvas)
        self._kept: dict[int, tuple[Tensor, Objects]] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample:
        epoch, index = ticket
        image, objects = self._load(index)
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            image, objects = self._mixed(image, objects, rng)
            image, objects = self.augment(image, objects, rng)
        objects, crops = drawn(objects, (image.shape[-2], image.shape[-1]))
        return Sample(self.records[index].key, image, objects, crops if self.masks else None, self.canvas)

    def _mixed(self, image: Tensor, objects: Objects, rng: np.random.Generator) -> tuple[Tensor, Objects]:
        """The picture with others in it, where the augmentation asks for that."""
        how = self.augment
        if how is not None and how.mosaic and rng.random() < how.mosaic:
            others = [self._load(int(i)) for i in rng.integers(len(self), size=3)]
            image, objects = mosaic([(image, objects), *others], rng, keep=how.keep)
        if how is not None and how.paste and self.masks and rng.random() < how.paste:
            other, theirs = self._load(int(rng.integers(len(self))))
            image, objects = pasted(image, objects, other, theirs, rng, keep=how.keep)
        return image, objects

    def _load(self, index: int) -> tuple[Tensor, Objects]:
        """Pixels and objects at the size the preprocess asks for; decoded once when they are kept in memory."""
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        record = self.records[index]
        picture = read_picture(record)
        size = (picture.shape[0], picture.shape[1])
        things = things_of(record, self.num_classes, size)
        objects = objects_of(things)
        if self.masks:
            objects = replace(objects, masks=Shapes(shapes_of(record, things, size)))
        if self.joints:
            objects = replace(objects, joints=joints_of(things, self.joints), swap=self.swap)
        image = match_channels(intensity(picture, self.preprocess.intensity), self.preprocess.channels)
        new = target_size(size, self.preprocess.resize)
        _, objects = resized(image[:1], objects, new)
        image = resize_by_rule(image, new, self.preprocess.resize)
        if self._kept is not None:
            self._kept[index] = (image, objects)
        return image, objects


def collate(samples: list[Sample], *, multiple: int = 32) -> Batch:
    """Pad pictures at the bottom and right, and lists of objects with `PADDING`, and stack both.

    The batch is uint8 when every picture is, else float32 in [0, 1]; its sides divide by `multiple`, or are the one
    size that the network takes.
    """
    height, width = (max(-(-s.image.shape[axis] // multiple) * multiple for s in samples) for axis in (-2, -1))
    if (canvas := samples[0].canvas) is not None:
        height, width = (max(side, *(s.image.shape[axis] for s in samples)) for axis, side in zip((-2, -1), canvas))
    bytes_only = all(s.image.dtype == torch.uint8 for s in samples)
    pixels = [s.image if bytes_only else as_float(s.image) for s in samples]
    images = torch.stack([F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])) for x in pixels])
    most = max(len(s.objects.labels) for s in samples)
    pads = [most - len(s.objects.labels) for s in samples]
    joints = [s.objects.joints for s in samples if s.objects.joints is not None]
    target = Target(
        boxes=torch.stack([F.pad(s.objects.boxes, (0, 0, 0, pad)) for s, pad in zip(samples, pads)]),
        labels=torch.stack([F.pad(s.objects.labels, (0, pad), value=PADDING) for s, pad in zip(samples, pads)]),
        ignore=torch.stack([F.pad(s.objects.ignore, (0, pad)) for s, pad in zip(samples, pads)]),
        masks=_stacked([s.masks for s in samples if s.masks is not None], (most, height, width)),
        keypoints=torch.stack([F.pad(x, (0, 0, 0, 0, 0, pad)) for x, pad in zip(joints, pads)]) if joints else None,
    )
    sizes = torch.tensor([tuple(s.image.shape[-2:]) for s in samples])
    return Batch(images=images, targets=target, sizes=sizes, keys=tuple(s.key for s in samples))


def _stacked(masks: Sequence[tuple[Crop, ...]], size: tuple[int, int, int]) -> Tensor | None:
    """`(B, G, H, W)` bool with every object's flags at its place; None of none."""
    if not masks:
        return None
    found = torch.zeros(len(masks), *size, dtype=torch.bool)
    for picture, crops in zip(found.numpy(), masks):
        for plane, crop in zip(picture, crops):
            height, width = crop.inside.shape
            plane[crop.top : crop.top + height, crop.left : crop.left + width] = crop.inside
    return found


def joints_in(records: Sequence[ObjectRecord]) -> int:
    """How many joints the objects of a data set have, at most."""
    return max((len(thing.points) for record in records for thing in record.labels or ()), default=0)


def joints_of(things: Sequence[Thing], count: int) -> Tensor:
    """The joints of a record's objects, `(G, count, 3)`: x, y, and 0 where nobody labelled one."""
    found = torch.zeros(len(things), count, 3)
    for row, thing in zip(found, things):
        if thing.points:
            row[: len(thing.points)] = torch.tensor(thing.points)
    return found


def _pair(value: Any, *kinds: type) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(type(number) in kinds for number in value)
