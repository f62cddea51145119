"""What is in the pixels: sizes, bit depth, value ranges, mean and spread, pixels a class; automatic choices ask here.

Looks at no more than `limit` pictures, chosen by seed, and at every pixel of their masks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.classes import order_by_hash
from sightline.datasets.read import IGNORE, read_labels_of, read_picture
from sightline.datasets.records import DataSet, ObjectRecord, Thing, VolumeRecord
from sightline.datasets.things import things_of
from sightline.datasets.volumes import read_volume_of
from sightline.errors import SightlineError
from sightline.media.volume import Volume

_PIXELS = 65_536  # values a picture gives to the pooled percentiles


@dataclass(frozen=True)
class Stats:
    """Numbers about a sample of a data set's pictures; sizes are (height, width), intensities in the file's units."""

    pictures: int  # in the data set
    looked: int  # pictures read
    sizes: tuple[tuple[int, ...], ...]  # of every picture looked at; volumes: depth, height, width
    dtypes: Mapping[str, int]  # how many pictures are uint8, uint16, float32
    channels: Mapping[int, int]  # how many pictures have 1, 3, ... channels
    low: float  # the smallest value
    high: float  # the largest value
    percentiles: Mapping[float, float]  # {0.5: v, 1: v, 50: v, 99: v, 99.5: v} of pooled values, all channels
    mean: tuple[float, ...]  # a channel, in [0, 1] (divided by the largest value of the type; float files as they are)
    std: tuple[float, ...]
    labelled: int  # pictures whose labels were read
    class_pixels: tuple[int, ...]  # pixels of class 0, 1, ...; one class: of 0 (not it) and 1 (it)
    class_pictures: tuple[int, ...]  # pictures in which the class is present
    ignored: float  # share of pixels that are never scored
    object_size: float | None  # one class: the median over pictures of sqrt(mean area of its regions), in pixels
    spacings: tuple[tuple[float, float, float], ...] = ()  # volumes: millimetres along depth, height, width
    foreground: Mapping[float, float] = field(default_factory=dict)  # volumes: percentiles of voxels above class 0
    sides: tuple[float, ...] = ()  # objects: sqrt of the area of every box of the pictures looked at, in pixels, sorted
    shapes: tuple[float, ...] = ()  # objects: height / width of every box, sorted
    class_objects: tuple[int, ...] = ()  # objects of each class
    most_objects: int = 0  # in one picture
    joints: int = 0  # of one object, at most

    @property
    def smallest(self) -> tuple[int, ...]:
        """The smallest height and the smallest width (volumes: depth first)."""
        return tuple(min(axis) for axis in zip(*self.sizes))

    @property
    def largest(self) -> tuple[int, ...]:
        """The largest height and the largest width (volumes: depth first)."""
        return tuple(max(axis) for axis in zip(*self.sizes))

    @property
    def median_size(self) -> tuple[int, ...]:
        """The median height and the median width (volumes: depth first)."""
        return tuple(int(n) for n in np.median(np.array(self.sizes), axis=0))

    @property
    def class_shares(self) -> tuple[float, ...]:
        """The share of the scored pixels that each class has."""
        total = max(sum(self.class_pixels), 1)
        return tuple(n / total for n in self.class_pixels)


def stats(data: DataSet, *, limit: int = 200, seed: int = 0, skipped: dict[str, str] | None = None) -> Stats:
    """Read at most `limit` pictures of `data` (chosen by seed) with their labels, and count.

    Raises `SightlineError` with the path of a picture or mask that cannot be read, or when there are no pictures; with
    `skipped`, records that cannot be read are left out and noted there, key -> why, unless none can.
    """
    if not data.records:
        raise SightlineError(f"{data.root} has no pictures to look at; choose another split")
    count = Counting(max(len(data.classes), 2))
    chosen = sorted(order_by_hash([r.key for r in data.records], seed)[:limit])
    for record in (data.records[i] for i in chosen):
        try:
            volume = read_volume_of(record) if isinstance(record, VolumeRecord) else None
            picture = read_picture(record) if volume is None else volume.array
            labels = None
            if record.labels is not None and not isinstance(record, ObjectRecord):
                labels = read_labels_of(record, len(data.classes))
            elif isinstance(record, ObjectRecord) and record.labels is not None:
                count.objects(things_of(record, len(data.classes), (picture.shape[0], picture.shape[1])))
        except SightlineError as error:
            if skipped is None:
                raise
            skipped[record.key] = str(error)
            continue
        count.picture(picture)
        if volume is not None:
            count.volume(volume, labels)
        elif labels is not None:
            count.labels(labels, regions=len(data.classes) == 1)
    if not count.sizes:
        raise SightlineError(f"{data.root}: not one of {len(chosen)} pictures can be read; run sightline data check")
    return count.result(len(data.records))


class Counting:
    """The sums behind `Stats`; exact over all pixels but for the percentiles, which pool a grid of each picture."""

    def __init__(self, classes: int) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.spacings: list[tuple[float, float, float]] = []
        self.foreground: list[np.ndarray] = []
        self.dtypes: Counter[str] = Counter()
        self.channels: Counter[int] = Counter()
        self.low, self.high = np.inf, -np.inf
        self.values: list[np.ndarray] = []
        self.moments: dict[int, list[Any]] = {}  # channels -> [pixels, sums, sums of squares]
        self.class_pixels = np.zeros(256, np.int64)
        self.class_pictures = np.zeros(256, np.int64)
        self.classes, self.labelled = classes, 0
        self.region_sizes: list[float] = []
        self.sides: list[float] = []
        self.shapes: list[float] = []
        self.class_objects = np.zeros(max(classes, 1), np.int64)
        self.most = 0
        self.joints = 0

    def picture(self, image: np.ndarray) -> None:
        """Count one picture `(H, W, C)`."""
        *size, channels = image.shape
        self.sizes.append(tuple(size))
        self.dtypes[image.dtype.name] += 1
        self.channels[channels] += 1
        self.low, self.high = min(self.low, float(image.min())), max(self.high, float(image.max()))
        grid = image.reshape(-1, *image.shape[-2:])  # volumes as one tall picture
        step = max(int(np.ceil(np.sqrt(grid.shape[0] * grid.shape[1] / _PIXELS))), 1)
        self.values.append(grid[::step, ::step].ravel().astype(np.float32))
        top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
        pixels, sums, squares = self.moments.setdefault(channels, [0, np.zeros(channels), np.zeros(channels)])
        flat = image.reshape(-1, channels).astype(np.float64) / top
        self.moments[channels] = [pixels + len(flat), sums + flat.sum(axis=0), squares + (flat**2).sum(axis=0)]

    def volume(self, volume: Volume, ids: NDArray[np.uint8] | None) -> None:
        """What volumes have besides: spacing, and the values of voxels that are of a class above 0."""
        self.spacings.append(volume.spacing)
        if ids is not None:
            self.labels(ids.reshape(ids.shape[0] * ids.shape[1], ids.shape[2]), regions=False)
            inside = volume.array[(ids > 0) & (ids != IGNORE)].ravel()
            self.foreground.append(inside[:: max(1, inside.size // _PIXELS)].astype(np.float32))

    def labels(self, ids: NDArray[np.uint8], *, regions: bool) -> None:
        """Count one label map; `regions`: measure the connected regions of class 1 too."""
        if ids.ndim == 3:  # multi-label: a plane a class
            pixels = np.zeros(256, np.int64)
            pixels[: len(ids)] = (ids == 1).sum(axis=(1, 2))
        else:
            pixels = np.bincount(ids.ravel(), minlength=256)
        self.class_pixels += pixels
        self.class_pictures += pixels > 0
        self.labelled += 1
        if regions and pixels[1] and len(self.region_sizes) < 50:
            from scipy.ndimage import label

            _, number = label(ids == 1)  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
            self.region_sizes.append(float(np.sqrt(pixels[1] / number)))

    def objects(self, things: tuple[Thing, ...]) -> None:
        """Count the objects of one picture."""
        for thing in things:
            x0, y0, x1, y1 = thing.box
            self.sides.append(math.sqrt((x1 - x0) * (y1 - y0)))
            self.shapes.append((y1 - y0) / max(x1 - x0, 1e-6))
            self.class_objects[thing.label] += 1
            self.joints = max(self.joints, len(thing.points))
        self.most = max(self.most, len(things))
        self.labelled += 1

    def result(self, pictures: int) -> Stats:
        """The numbers so far."""
        pixels, sums, squares = self.moments[self.channels.most_common(1)[0][0]]
        mean = sums / pixels
        pooled = np.concatenate(self.values)
        points = (0.5, 1.0, 50.0, 99.0, 99.5)
        total = int(self.class_pixels.sum())
        return Stats(
            pictures=pictures,
            looked=len(self.sizes),
            sizes=tuple(self.sizes),
            dtypes=dict(self.dtypes),
            channels=dict(self.channels),
            low=self.low,
            high=self.high,
            percentiles={p: float(v) for p, v in zip(points, np.percentile(pooled, points))},
            mean=tuple(float(m) for m in mean),
            std=tuple(float(s) for s in np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))),
            labelled=self.labelled,
            class_pixels=tuple(int(n) for n in self.class_pixels[: self.classes])
            if self.labelled and not self.sides
            else (),
            class_pictures=tuple(int(n) for n in self.class_pictures[: self.classes]) if self.labelled else (),
            ignored=float(self.class_pixels[IGNORE] / total) if total else 0.0,
            object_size=float(np.median(self.region_sizes)) if self.region_sizes else None,
            spacings=tuple(self.spacings),
            foreground=_percentiles(self.foreground),
            sides=tuple(sorted(self.sides)),
            shapes=tuple(sorted(self.shapes)),
            class_objects=tuple(int(n) for n in self.class_objects) if self.sides else (),
            most_objects=self.most,
            joints=self.joints,
        )


def _percentiles(values: Sequence[np.ndarray]) -> dict[float, float]:
    """A few percentiles of pooled values, none of none."""
    pooled = np.concatenate(values) if values else np.zeros(0)
    points = (0.5, 50.0, 99.5)
    return {p: float(v) for p, v in zip(points, np.percentile(pooled, points))} if pooled.size else {}
