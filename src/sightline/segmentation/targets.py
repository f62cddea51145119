"""From a data set's record to what the network learns from: pixels and labels, augmented together.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state: a run that
was killed and resumed sees the same samples as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sightline.contracts import Batch, Preprocess
from sightline.datasets.read import read_instances_of, read_labels_of, read_picture
from sightline.datasets.records import DataSet, PixelRecord
from sightline.errors import UsageError
from sightline.media.prepare import as_float, intensity, match_channels, resize_pixels, target_size
from sightline.ops.recolour import recolour
from sightline.ops.resize import centre_crop, resize
from sightline.ops.window import mirror_window
from sightline.segmentation.contract import IGNORE, Target
from sightline.segmentation.sampling import apart, border_weights, window_with_class


@dataclass(frozen=True)
class Augment:
    """Joint augmentation of a picture and its labels, drawn anew for every sample; plain values, stored in the run.

    crop: (height, width) of what the network sees; None keeps the picture's size.
    scale: the picture is enlarged by a factor drawn log-uniformly from this range before the crop.
    rotate: degrees, uniform in [-rotate, rotate]. flip, flip_vertical, turn: mirrored, upside down, by quarter turns.
    colour: strength of random brightness, contrast and (of RGB pictures) saturation, 0 to 1.
    elastic: standard deviation in pixels of a smooth random displacement on a 3 x 3 grid (U-Net, section 3.1: 10).
    foreground: the share of samples whose crop is cut around a pixel of a class above 0, all classes alike.
    border_weight, border_sigma: U-Net's w0 and sigma: pixels between two objects count up to 1 + w0 (0: all count 1).
    Beyond its borders the picture is continued by its mirror image, labels too.
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    flip: bool = True
    flip_vertical: bool = False
    turn: bool = False
    colour: float = 0.0
    elastic: float = 0.0
    foreground: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0

    def __post_init__(self) -> None:
        if self.crop is not None and not (_pair(self.crop, int) and min(self.crop) >= 1):
            raise UsageError(f"augment.crop {self.crop} must be a height and a width in pixels, such as 256,256")
        if not (_pair(self.scale, int, float) and 0 < self.scale[0] <= self.scale[1] < math.inf):
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest factor, such as 0.7,1.5")
        limits = {"rotate": 180.0, "colour": 1.0, "elastic": math.inf, "foreground": 1.0}
        for name, most in (limits | {"border_weight": math.inf, "border_sigma": math.inf}).items():
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 <= value <= most):
                raise UsageError(f"augment.{name} {value} must be a number from 0 to {most:g}")
        for name in ("flip", "flip_vertical", "turn"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be true or false")

    def __call__(self, image: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Image `(C, H, W)` uint8 or float, labels `(H, W)` uint8 -> the same types at the crop's size.

        Multi-label labels are `(K, H, W)`.
        """
        single = labels.ndim == 2
        image, labels = self._place(image, labels[None] if single else labels, rng)
        if self.elastic:
            image, labels = _deform(image, labels, self.elastic, rng)
        axes = [axis for axis, wanted in ((-1, self.flip), (-2, self.flip_vertical)) if wanted and rng.random() < 0.5]
        if axes:
            image, labels = image.flip(axes), labels.flip(axes)
        if self.turn and image.shape[-1] == image.shape[-2]:
            quarter = int(rng.integers(4))
            image, labels = image.rot90(quarter, (-2, -1)), labels.rot90(quarter, (-2, -1))
        if self.colour:
            image = recolour(image, self.colour, rng)
        return image.contiguous(), (labels[0] if single else labels).contiguous()

    def weights(self, labels: Tensor) -> Tensor | None:
        """How much each pixel of augmented labels counts, float32 `(H, W)`; None when all count the same."""
        if not self.border_weight:
            return None
        if labels.ndim != 2:
            raise UsageError(
                "augment.border_weight needs classes that do not overlap; leave it out for multi-label data"
            )
        return border_weights(labels, w0=self.border_weight, sigma=max(self.border_sigma, 1e-3))

    def _place(self, image: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Scale, rotation and crop in one pass: only the window that is kept is ever resampled."""
        rows, columns = image.shape[-2:]
        height, width = self.crop or (rows, columns)
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        angle = float(rng.uniform(-self.rotate, self.rotate)) if self.rotate else 0.0
        cos, sin = abs(np.cos(np.radians(angle))), abs(np.sin(np.radians(angle)))
        box: tuple[float, float] = (height, width)
        if angle:  # an upright box that holds the rotated crop and two pixels more, so that no corner is left empty
            box = (max(height, height * cos + width * sin) + 2, max(width, width * cos + height * sin) + 2)
        window = tuple(max(1, round(n / factor)) for n in box)
        top, left = self._corner(labels, window, rng)
        image, labels = (mirror_window(x, top, left, *window) for x in (image, labels))
        size = [round(n) for n in box]
        if list(window) != size:
            exact = image if size[1] > 1 else image.float()  # PyTorch 2.15 spoils bytes resized to a single column
            image = resize_pixels(exact, (size[0], size[1])).to(image.dtype)
            labels = resize(labels[None], size, rule="nearest_exact")[0]
        if angle:
            from torchvision.transforms.v2 import functional as V

            image = V.rotate(image, angle, interpolation=V.InterpolationMode.BILINEAR)
            labels = V.rotate(labels, angle, interpolation=V.InterpolationMode.NEAREST, fill=[IGNORE])
            image, labels = centre_crop(image, (height, width)), centre_crop(labels, (height, width))
        return image, labels

    def _corner(self, labels: Tensor, window: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        """The top left pixel of what is kept: anywhere, or around a class."""
        if self.foreground and rng.random() < self.foreground:
            ids = labels.numpy()
            if (found := window_with_class(ids[0] if len(ids) == 1 else ids, window, rng)) is not None:
                return found
        return tuple(_start(rng, size, have) for size, have in zip(window, labels.shape[-2:]))


@dataclass(frozen=True)
class Sample:
    """One picture with its labels, ready to be stacked."""

    key: str
    image: Tensor  # (C, H, W), uint8 or float32 in [0, 1]
    labels: Tensor  # (H, W) uint8, multi-label (K, H, W)
    weights: Tensor | None = None  # (H, W) float32, how much each pixel counts


class Samples(torch.utils.data.Dataset):
    """The records of a data set as samples; the item `(epoch, index)` is a pure function of them and of `seed`."""

    def __init__(
        self, data: DataSet, *, preprocess: Preprocess, seed: int, augment: Augment | None = None, keep: bool = False
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[PixelRecord, ...] = data.records
        self.num_classes = len(data.classes)
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self._kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample:
        epoch, index = ticket
        image, labels = self._load(index)
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            image, labels = self.augment(image, labels, rng)
            return Sample(self.records[index].key, image, labels, self.augment.weights(labels))
        return Sample(self.records[index].key, image, labels)

    def _load(self, index: int) -> tuple[Tensor, Tensor]:
        """Pixels and labels at the size the preprocess asks for; decoded once when they are kept in memory."""
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        record = self.records[index]
        picture = read_picture(record)
        labels = torch.from_numpy(self._labels(record, picture.shape[:2]))
        image = match_channels(intensity(picture, self.preprocess.intensity), self.preprocess.channels)
        height, width = labels.shape[-2:]
        size = target_size((height, width), self.preprocess.resize)
        if size != (height, width):
            image = resize_pixels(image, size)
            labels = resize(labels[None, None] if labels.ndim == 2 else labels[None], size, rule="nearest_exact")[0]
            labels = labels[0] if len(labels) == 1 else labels
        if self._kept is not None:
            self._kept[index] = (image, labels)
        return image, labels

    def _labels(self, record: PixelRecord, size: tuple[int, ...]) -> NDArray[np.uint8]:
        """The labels; with border weights, objects that touch are told apart by a gap, as those weights expect."""
        labels = read_labels_of(record, self.num_classes, size=size)
        if self.augment is not None and self.augment.border_weight:
            objects = read_instances_of(record)
            return labels if objects is None else apart(labels, objects)
        return labels


def collate(samples: list[Sample]) -> Batch:
    """Stack samples; pictures of several sizes are padded at the bottom and right, their labels with IGNORE.

    The batch is uint8 when every picture is, else float32 in [0, 1].
    """
    height = max(s.labels.shape[-2] for s in samples)
    width = max(s.labels.shape[-1] for s in samples)
    pads = [(0, width - s.labels.shape[-1], 0, height - s.labels.shape[-2]) for s in samples]
    sizes = None
    if any(any(pad) for pad in pads):
        sizes = torch.tensor([s.labels.shape[-2:] for s in samples])
    bytes_only = all(s.image.dtype == torch.uint8 for s in samples)
    pixels = [s.image if bytes_only else as_float(s.image) for s in samples]
    images = torch.stack([F.pad(x, pad) for x, pad in zip(pixels, pads)])
    labels = torch.stack([F.pad(s.labels, pad, value=IGNORE) for s, pad in zip(samples, pads)])
    weights = [F.pad(s.weights, pad) for s, pad in zip(samples, pads) if s.weights is not None]
    target = Target(labels.long(), torch.stack(weights) if weights else None)
    return Batch(images=images, targets=target, sizes=sizes, keys=tuple(s.key for s in samples))


def _start(rng: np.random.Generator, window: int, have: int) -> int:
    """Where a window begins: anywhere inside the picture, or so that the whole picture is inside the window."""
    low, high = sorted((0, have - window))
    return int(rng.integers(low, high + 1))


def _deform(image: Tensor, labels: Tensor, strength: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    from torchvision.transforms.v2 import functional as V

    height, width = image.shape[-2:]
    coarse = torch.from_numpy(rng.normal(0.0, strength, (1, 2, 3, 3)).astype(np.float32))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    margin = int(smooth.abs().max()) + 2  # of mirrored pixels, as far as the displacement reaches
    rows, columns = height + 2 * margin, width + 2 * margin
    displacement = F.pad(smooth, [margin] * 4).permute(0, 2, 3, 1)
    displacement = displacement * torch.tensor([2 / columns, 2 / rows])  # in units of half the picture
    image, labels = (mirror_window(x, -margin, -margin, rows, columns) for x in (image, labels))
    image = V.elastic(image, displacement, interpolation=V.InterpolationMode.BILINEAR)
    labels = V.elastic(labels, displacement, interpolation=V.InterpolationMode.NEAREST)
    inner = (..., slice(margin, margin + height), slice(margin, margin + width))
    return image[inner], labels[inner]


def _pair(value: Any, *kinds: type) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(type(number) in kinds for number in value)
