"""From a data set's record to what a classifier learns from, and the augmentation of pictures and clips.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.classification.contract import Target
from sightline.contracts import Batch, Preprocess
from sightline.datasets.records import ClassRecord, DataSet
from sightline.errors import UsageError
from sightline.media.image import read_image
from sightline.media.prepare import intensity, match_channels, resize_by_rule, resize_pixels, target_size


@dataclass(frozen=True)
class Augment:
    """Augmentation of a picture or of all frames of a clip alike, drawn anew for every sample; plain values.

    crop: (height, width) of what the network sees; None keeps the size the preprocess gives.
    scale: sides of the window that is cut out before it becomes `crop`, relative to the largest that fits.
    flip, flip_vertical: mirrored, upside down, half of the time. colour: strength of random brightness and contrast.
    reverse: clips only: played backwards half of the time.
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    flip_vertical: bool = False
    colour: float = 0.0
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.crop is not None and not (len(self.crop) == 2 and all(isinstance(n, int) and n > 0 for n in self.crop)):
            raise UsageError(f"augment.crop {self.crop} must be a height and a width in pixels, such as 112,112")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest share up to 1, such as 0.8,1")
        if not (isinstance(self.colour, (int, float)) and 0 <= self.colour <= 1):
            raise UsageError(f"augment.colour {self.colour} must be a number from 0 to 1")
        for name in ("flip", "flip_vertical", "reverse"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be true or false")

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """`(C, H, W)` or `(C, T, H, W)`, uint8 or float, to the same type at the crop's size."""
        rows, columns = x.shape[-2:]
        height, width = self.crop or (rows, columns)
        largest = min(rows / height, columns / width)
        share = float(rng.uniform(*self.scale)) * largest
        high, wide = max(1, min(rows, round(height * share))), max(1, min(columns, round(width * share)))
        top, left = int(rng.integers(rows - high + 1)), int(rng.integers(columns - wide + 1))
        x = resize_frames(x[..., top : top + high, left : left + wide], (height, width))
        axes = [a for a, wanted in ((-1, self.flip), (-2, self.flip_vertical)) if wanted and rng.random() < 0.5]
        if x.ndim == 4 and self.reverse and rng.random() < 0.5:
            axes.append(1)
        x = x.flip(axes) if axes else x
        return recolour(x, self.colour, rng).contiguous() if self.colour else x.contiguous()


def resize_frames(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`(C, H, W)` or `(C, T, H, W)` at another size, with anti-aliasing, of the same type."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if x.ndim == 3:
        return resize_pixels(x, size)
    return resize_pixels(x.flatten(0, 1), size).unflatten(0, x.shape[:2])


def recolour(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Brightness and contrast changed by up to `strength`, the same for all frames; bytes stay bytes."""
    factor = 1 + float(rng.uniform(-strength, strength))
    shift = float(rng.uniform(-strength, strength)) / 2
    top = 255.0 if x.dtype == torch.uint8 else 1.0
    middle = x.float().mean()
    y = (x.float() - middle) * factor + middle + shift * top
    return y.round().clamp(0, 255).to(torch.uint8) if x.dtype == torch.uint8 else y


@dataclass(frozen=True)
class Sample:
    """One picture or clip with its class, ready to be stacked."""

    key: str
    image: Tensor  # (C, H, W) or (C, T, H, W), uint8 or float32
    label: int


class Samples(torch.utils.data.Dataset):
    """The pictures of a data set as samples; the item `(epoch, index)` is a pure function of them and of `seed`."""

    def __init__(
        self, data: DataSet, *, preprocess: Preprocess, seed: int, augment: Augment | None = None, keep: bool = False
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[ClassRecord, ...] = data.records
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self._kept: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample:
        epoch, index = ticket
        image = self._load(index)
        if self.augment is not None:
            image = self.augment(image, np.random.default_rng([self.seed, epoch, index]))
        record = self.records[index]
        assert record.labels is not None
        return Sample(record.key, image, record.labels)

    def _load(self, index: int) -> Tensor:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        record = self.records[index]
        image = prepared(read_image(record.image.path, page=record.image.page), self.preprocess)
        if self._kept is not None:
            self._kept[index] = image
        return image


def prepared(picture: np.ndarray, preprocess: Preprocess) -> Tensor:
    """A picture `(H, W, C)` as the network's `(C, h, w)`: intensity, channels, size."""
    image = match_channels(intensity(picture, preprocess.intensity), preprocess.channels)
    size = target_size((image.shape[1], image.shape[2]), preprocess.resize)
    return resize_by_rule(image, size, preprocess.resize)


def collate(samples: list[Any]) -> Batch:
    """Stack samples of one size."""
    shapes = {tuple(s.image.shape) for s in samples}
    if len(shapes) > 1:
        sizes = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise UsageError(
            f"samples of different sizes ({sizes}) cannot be one batch; give size=112, or resize=exact(H,W)"
        )
    return Batch(
        images=torch.stack([s.image for s in samples]),
        targets=Target(torch.tensor([s.label for s in samples])),
        keys=tuple(s.key for s in samples),
    )


def mixed(batch: Batch, classes: int, *, alpha: float, rng: np.random.Generator, cut: bool = False) -> Batch:
    """mixup (Zhang et al. 2017), or with `cut` CutMix (Yun et al. 2019): each sample with its neighbour in the batch.

    The share is drawn from Beta(alpha, alpha); labels become shares of the classes.
    """
    images = batch.images.float() / 255 if batch.images.dtype == torch.uint8 else batch.images
    other, share = images.roll(1, 0), float(rng.beta(alpha, alpha))
    truth = torch.nn.functional.one_hot(batch.targets.labels, classes).float()
    if cut:
        rows, columns = images.shape[-2:]
        high, wide = (round(n * math.sqrt(1 - share)) for n in (rows, columns))
        top, left = int(rng.integers(rows - high + 1)), int(rng.integers(columns - wide + 1))
        inside = torch.zeros(rows, columns, dtype=torch.bool)
        inside[top : top + high, left : left + wide] = True
        images, share = torch.where(inside, other, images), 1 - high * wide / (rows * columns)
    else:
        images = share * images + (1 - share) * other
    labels = share * truth + (1 - share) * truth.roll(1, 0)
    return Batch(images, Target(labels), batch.sizes, batch.keys, batch.inputs)
