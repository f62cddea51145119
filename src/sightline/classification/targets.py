"""From a data set's record to what a classifier learns from, and the augmentation of pictures and clips.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.classification.contract import Target
from sightline.classification.randaugment import MOST, rand_augment
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
    randaugment: how many operations of RandAugment, and their magnitude from 0 to 30; (0, 0): none.
    mixup, cutmix: alpha of the shares in which neighbours of a batch are mixed; 0: not. With both, one of them a batch.
    repeats: how often a sample stands in its batch, each time augmented anew (Hoffer et al. 2020).
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    flip_vertical: bool = False
    colour: float = 0.0
    reverse: bool = False
    randaugment: tuple[int, float] = (0, 0)
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.crop is not None and not (len(self.crop) == 2 and all(isinstance(n, int) and n > 0 for n in self.crop)):
            raise UsageError(f"augment.crop {self.crop} must be a height and a width in pixels, such as 112,112")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest share up to 1, such as 0.8,1")
        if not (isinstance(self.colour, (int, float)) and 0 <= self.colour <= 1):
            raise UsageError(f"augment.colour {self.colour} must be a number from 0 to 1")
        if not (len(self.randaugment) == 2 and self.randaugment[0] >= 0 and 0 <= self.randaugment[1] <= MOST):
            raise UsageError(
                f"augment.randaugment {self.randaugment} must be a number of operations and a magnitude up to {MOST}, "
                "such as 2,9"
            )
        for name in ("mixup", "cutmix"):
            if not (isinstance(getattr(self, name), (int, float)) and 0 <= getattr(self, name) < math.inf):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be a number from 0, such as 0.2")
        if not (isinstance(self.repeats, int) and self.repeats >= 1):
            raise UsageError(f"augment.repeats {self.repeats} must be a whole number from 1")
        for name in ("flip", "flip_vertical", "reverse"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be true or false")

    def __call__(self, x: Tensor, rng: np.random.Generator, *, fields: int | None = None) -> Tensor:
        """`(C, H, W)` or `(C, T, H, W)`, uint8 or float, to the same type at the crop's size.

        fields: the channel with the x of optical flow (y follows). What is mirrored moves the other way, what is
        reversed moves back, and colours are those of the other channels.
        """
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
        x, flow = (x, None) if fields is None else (x[:fields], turned(x[fields : fields + 2], axes))
        if self.randaugment[0] and len(x):
            x = rand_augment(x, self.randaugment[0], self.randaugment[1], rng)
        x = recolour(x, self.colour, rng) if self.colour and len(x) else x
        return (x if flow is None else torch.cat([x, flow])).contiguous()


def resize_frames(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`(C, H, W)` or `(C, T, H, W)` at another size, with anti-aliasing, of the same type."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if x.ndim == 3:
        return resize_pixels(x, size)
    return resize_pixels(x.flatten(0, 1), size).unflatten(0, x.shape[:2])


def turned(flow: Tensor, axes: Sequence[int]) -> Tensor:
    """Flow `(2, T, H, W)` as bytes or in [0, 1] that was mirrored along `axes` (-1, -2, 1: time), moving that way."""
    top = 255 if flow.dtype == torch.uint8 else 1
    signs = [(axis in axes) != (1 in axes) for axis in (-1, -2)]  # backwards and mirrored is forwards again
    return torch.stack([top - plane if inverted else plane for plane, inverted in zip(flow, signs)])


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
    mix: Mix | None = None


@dataclass(frozen=True)
class Mix:
    """How a batch that begins with this sample is mixed: alphas of `Augment`, a random seed, how many classes."""

    mixup: float
    cutmix: float
    seed: int
    classes: int


def varied(
    key: str,
    label: int,
    augment: Augment | None,
    classes: int,
    rng: np.random.Generator,
    read: Callable[[], Tensor],
    *,
    fields: int | None = None,
) -> Sample | list[Sample]:
    """A sample as it is, or augmented (`repeats` times: a list); `read` gives its pixels anew each time.

    fields: of clips with flow, the channel with its x.
    """
    if augment is None:
        return Sample(key, read(), label)
    found = []
    for _ in range(augment.repeats):
        image = augment(read(), rng, fields=fields)
        mixes = augment.mixup > 0 or augment.cutmix > 0
        mix = Mix(augment.mixup, augment.cutmix, int(rng.integers(2**31)), classes) if mixes else None
        found.append(Sample(key, image, label, mix))
    return found if augment.repeats > 1 else found[0]


class Samples(torch.utils.data.Dataset):
    """The pictures of a data set as samples; the item `(epoch, index)` is a pure function of them and of `seed`."""

    def __init__(
        self, data: DataSet, *, preprocess: Preprocess, seed: int, augment: Augment | None = None, keep: bool = False
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[ClassRecord, ...] = data.records
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self.classes = len(data.classes)
        self._kept: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample | list[Sample]:
        epoch, index = ticket
        image, record = self._load(index), self.records[index]
        assert record.labels is not None
        rng = np.random.default_rng([self.seed, epoch, index])
        return varied(record.key, record.labels, self.augment, self.classes, rng, lambda: image)

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
    """Stack samples of one size; lists of samples (repeats) one after the other; mixed where the first one says so."""
    samples = [s for item in samples for s in (item if isinstance(item, list) else [item])]
    shapes = {tuple(s.image.shape) for s in samples}
    if len(shapes) > 1:
        sizes = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise UsageError(
            f"samples of different sizes ({sizes}) cannot be one batch; give size=112, or resize=exact(H,W)"
        )
    batch = Batch(
        images=torch.stack([s.image for s in samples]),
        targets=Target(torch.tensor([s.label for s in samples])),
        keys=tuple(s.key for s in samples),
    )
    mix = samples[0].mix
    if mix is None or len(samples) < 2:
        return batch
    rng = np.random.default_rng([s.mix.seed for s in samples])
    cut = mix.cutmix > 0 and (mix.mixup == 0 or rng.random() < 0.5)
    return mixed(batch, mix.classes, alpha=mix.cutmix if cut else mix.mixup, rng=rng, cut=cut)


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
