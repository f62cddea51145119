"""Selective Search: boxes that might hold an object, from regions joined by likeness.

Paper: Selective Search for Object Recognition (Uijlings, van de Sande, Gevers & Smeulders 2013, IJCV 104).

The idea: cut the picture into small regions, then join the two most alike again and again until one is left; the box
of every region on the way is a proposal. Likeness has four parts (colour, texture, size, fill, section 3.2); doing it
all in several colour spaces, from several cuts, makes up for what any one of them misses.

`fast`: HSV and Lab, cuts of 150, 300 and 450, all four parts, and all but colour. `quality`: grey, hue and red, green,
grey too, cuts of 150 to 750, and fill or size alone. The order is by the level in the hierarchy times a seeded random
number (section 3.3). Departures from OpenCV's program: eight neighbours, slopes turned in place of pictures turned, and
colours are not rounded to bytes; boxes agree in quality, not one by one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.ops.colour import rgb_to_hsv
from sightline.ops.superpixels import felzenszwalb

Floats = NDArray[np.float64]
ALL = ("colour", "texture", "size", "fill")


@dataclass(frozen=True)
class Regions:
    """Regions of one cut: histograms `(R, n)` that sum to 1, sizes `(R,)`, boxes `(R, 4)`; who touches whom."""

    colour: Floats
    texture: Floats
    size: Floats
    box: NDArray[np.int64]
    neighbours: list[set[int]]


def selective_search(
    image: NDArray[np.uint8], *, mode: Literal["fast", "quality"] = "fast", smallest: int = 0, seed: int = 0
) -> NDArray[np.int64]:
    """Different boxes `(N, 4)` x0, y0, x1, y1 of an RGB picture `(H, W, 3)`, the likeliest first.

    smallest: boxes with a shorter side are left out.
    """
    if mode not in ("fast", "quality"):
        raise UsageError(f"mode '{mode}' is unknown; choose from fast, quality")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(f"selective search takes (H, W, 3) bytes, not {image.dtype} of shape {image.shape}")
    random = np.random.default_rng(seed)
    ranked: dict[tuple[int, ...], float] = {}
    strategies = (ALL, ALL[1:]) if mode == "fast" else (ALL, ALL[1:], ("fill",), ("size",))
    for space in spaces(image, mode):
        for scale in (150, 300, 450) if mode == "fast" else (150, 300, 450, 600, 750):
            labels = felzenszwalb(space, scale=scale, sigma=0.8, smallest=min(100, labels_most(space)))
            regions = described(space, labels)
            for parts in strategies:
                boxes = list(joined(regions, parts, image.shape[0] * image.shape[1]))
                for level, box in enumerate(reversed(boxes), 1):
                    rank = level * random.random()
                    ranked[box] = min(rank, ranked.get(box, np.inf))
    found = np.array(sorted(ranked, key=ranked.__getitem__), np.int64).reshape(-1, 4)
    return found[((found[:, 2:] - found[:, :2]) >= smallest).all(1)]


def labels_most(image: NDArray) -> int:
    """No region needs to be larger than a quarter of a small picture."""
    return max(1, image.shape[0] * image.shape[1] // 4)


def spaces(image: NDArray[np.uint8], mode: str) -> Iterator[Floats]:
    """The picture in other colours, all from 0 to 255: `(H, W, 1 or 3)`."""
    rgb = image.astype(np.float64)
    hsv = rgb_to_hsv(torch.from_numpy(rgb / 255).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy() * 255
    yield hsv
    yield lab(rgb)
    if mode == "quality":
        grey = rgb @ np.array([[0.299], [0.587], [0.114]])
        yield grey
        yield hsv[..., :1]
        yield np.concatenate([rgb[..., :2], grey], -1)


def lab(rgb: Floats) -> Floats:
    """CIE Lab of sRGB values from 0 to 255, each channel moved to 0..255 as in 8-bit pictures."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ matrix.T / np.array([0.950456, 1.0, 1.088754])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * f[..., 1] - 16
    return np.stack([lightness * 2.55, 500 * (f[..., 0] - f[..., 1]) + 128, 200 * (f[..., 1] - f[..., 2]) + 128], -1)


def described(image: Floats, labels: NDArray[np.int64]) -> Regions:
    """Colour (25 bins a channel) and texture (8 directions, 10 bins a channel) of every region; who touches whom."""
    count = int(labels.max()) + 1
    flat, height, width = labels.ravel(), *labels.shape
    size = np.bincount(flat, minlength=count).astype(np.float64)
    colour = [histogram(image[..., c] / 256, flat, count, 25) for c in range(image.shape[2])]
    slopes = [np.gradient(image[..., c]) for c in range(image.shape[2])]
    texture = []
    for down, across in slopes:
        for turned in (across, down, (across + down) / np.sqrt(2), (across - down) / np.sqrt(2)):
            for half in (np.maximum(turned, 0), np.maximum(-turned, 0)):
                texture.append(histogram(half / (half.max() + 1e-9) * 0.9999, flat, count, 10))
    y, x = np.divmod(np.arange(height * width), width)
    box = np.empty((count, 4), np.int64)
    for column, values in ((0, x), (1, y)):
        low, high = np.full(count, max(height, width)), np.zeros(count, np.int64)
        np.minimum.at(low, flat, values)
        np.maximum.at(high, flat, values + 1)
        box[:, column], box[:, column + 2] = low, high
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        different = a != b
        for i, j in np.unique(np.stack([a[different], b[different]], 1), axis=0).tolist():
            neighbours[i].add(j)
            neighbours[j].add(i)
    total = size[:, None]
    return Regions(
        np.concatenate(colour, 1) / total / len(colour), np.concatenate(texture, 1) / total / len(texture), size, box,
        neighbours,
    )  # fmt: skip


def histogram(values: Floats, flat: NDArray[np.int64], count: int, bins: int) -> Floats:
    """Of values in [0, 1): how often each bin is met in each region, `(R, bins)`."""
    which = np.clip((values.ravel() * bins).astype(np.int64), 0, bins - 1)
    return np.bincount(flat * bins + which, minlength=count * bins).reshape(count, bins).astype(np.float64)


def joined(regions: Regions, parts: Sequence[str], pixels: int) -> Iterator[tuple[int, ...]]:
    """The boxes of all regions, those of the cut first, then each that two others make."""
    colour, texture = list(regions.colour), list(regions.texture)
    size, box = regions.size.tolist(), [tuple(b) for b in regions.box.tolist()]
    neighbours = [set(n) for n in regions.neighbours]

    def around(i: int, j: int) -> tuple[int, ...]:
        a, b = box[i], box[j]
        return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

    def likeness(i: int, j: int) -> float:
        total = 0.0
        if "colour" in parts:
            total += np.minimum(colour[i], colour[j]).sum()
        if "texture" in parts:
            total += np.minimum(texture[i], texture[j]).sum()
        if "size" in parts:
            total += 1 - (size[i] + size[j]) / pixels
        if "fill" in parts:
            x0, y0, x1, y1 = around(i, j)
            total += 1 - ((x1 - x0) * (y1 - y0) - size[i] - size[j]) / pixels
        return float(total)

    yield from box
    queue = [(-likeness(i, j), i, j) for i in range(len(box)) for j in neighbours[i] if i < j]
    heapq.heapify(queue)
    alive = [True] * len(box)
    while queue:
        _, i, j = heapq.heappop(queue)
        if not (alive[i] and alive[j]):
            continue
        new, total = len(box), size[i] + size[j]
        for table in (colour, texture):
            table.append((table[i] * size[i] + table[j] * size[j]) / total)
        box.append(around(i, j))
        size.append(total)
        alive[i] = alive[j] = False
        alive.append(True)
        neighbours.append({n for n in neighbours[i] | neighbours[j] if alive[n]} - {new})
        for n in neighbours[new]:
            neighbours[n].add(new)
            heapq.heappush(queue, (-likeness(n, new), n, new))
        yield box[new]
