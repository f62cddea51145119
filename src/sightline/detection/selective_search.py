"""Selective Search: boxes that might hold an object, from regions joined by likeness.

Paper: Selective Search for Object Recognition (Uijlings, van de Sande, Gevers & Smeulders 2013, IJCV 104).

The idea: cut the picture into small regions, then join the two most alike again and again until one is left; the box
of every region on the way is a proposal. Likeness has four parts (colour, texture, size, fill, section 3.2); doing it
all in several colour spaces, from several cuts, makes up for what any one of them misses.

`fast`: HSV and Lab, cuts of 150, 300 and 450, all four parts, and all but colour. `quality`: grey, hue and red, green,
grey too, cuts of 150 to 750, and fill or size alone. The cuts, and the boxes of `fast`, are those of OpenCV's program
(ximgproc, 4.14), so its ways are kept: colours of eight bits in fixed point, four neighbours in the cut, regions that
touch only in the first row or column are no neighbours, slopes at 45 degrees by turning the picture and turning it
back.

Departures: the order is by the level in the hierarchy times a random number (section 3.3) that `seed` decides; of
two pairs that are equally alike the one met last is joined first, which OpenCV's sorting leaves open. By size or fill
alone many pairs are, so about an eighth of the boxes of `quality` are others.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.ops.superpixels import joined as cut

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
ALL = ("colour", "fill", "texture", "size")
SMALLEST = 100
"""Pixels of the smallest region of a cut."""


@dataclass(frozen=True)
class Regions:
    """Regions of one cut: histograms `(n, R)` that sum to 1, sizes `(R,)`, boxes `(R, 4)`, pairs of neighbours."""

    colour: Floats
    texture: Floats
    size: NDArray[np.int64]
    box: NDArray[np.int64]
    pairs: NDArray[np.int64]  # (P, 2), the smaller number first


def selective_search(
    image: Bytes, *, mode: Literal["fast", "quality"] = "fast", smallest: int = 0, seed: int = 0
) -> NDArray[np.int64]:
    """Different boxes `(N, 4)` x0, y0, x1, y1 of an RGB picture `(H, W, 3)`, the likeliest first.

    smallest: boxes with a shorter side are left out.
    """
    if mode not in ("fast", "quality"):
        raise UsageError(f"mode '{mode}' is unknown; choose from fast, quality")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 2:
        raise UsageError(f"selective search takes (H, W, 3) bytes, not {image.dtype} of shape {image.shape}")
    random = np.random.default_rng(seed)
    ranked: dict[tuple[int, ...], float] = {}
    strategies = (ALL, ALL[1:]) if mode == "fast" else (ALL, ALL[1:], ("fill",), ("size",))
    for space in spaces(image, mode):
        graph = edges(smoothed(space))
        textures = slopes(space)
        for scale in (150, 300, 450) if mode == "fast" else (150, 300, 450, 600, 750):
            labels = cut(*graph, image.shape[:2], scale=scale, smallest=SMALLEST)
            regions = described(space, textures, labels)
            for parts in strategies:
                for box, level in joined(regions, parts, image.shape[0] * image.shape[1]):
                    rank = level * random.random()
                    ranked[box] = min(rank, ranked.get(box, np.inf))
    found = np.array(sorted(ranked, key=ranked.__getitem__), np.int64).reshape(-1, 4)
    return found[((found[:, 2:] - found[:, :2]) >= smallest).all(1)]


# Colours of eight bits --------------------------------------------------------------------------------------------


def spaces(image: Bytes, mode: str) -> Iterator[Bytes]:
    """The picture in other colours: `(H, W, 1 or 3)`."""
    rgb = image.astype(np.int64)
    hsv = hsv_bytes(rgb)
    yield hsv
    yield lab_bytes(rgb)
    if mode == "quality":
        grey = _scaled_down(rgb @ np.array([[9798], [19235], [3735]]), 15).astype(np.uint8)
        yield grey
        yield np.ascontiguousarray(hsv[..., :1])
        yield np.concatenate([image[..., :2], grey], -1)


def _scaled_down(x: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Divided by a power of two, rounded half up."""
    return (x + (1 << (bits - 1))) >> bits


def hsv_bytes(rgb: NDArray[np.int64]) -> Bytes:
    """Hue from 0 to 179, saturation and value from 0 to 255, of `(H, W, 3)` from 0 to 255."""
    red, green, blue = (rgb[..., i] for i in range(3))
    value = rgb.max(-1)
    spread = value - rgb.min(-1)
    n = np.maximum(np.arange(256), 1)
    over, sixth = (
        np.where(np.arange(256) > 0, np.rint(v / n), 0).astype(np.int64) for v in (255 * 4096, 180 * 4096 / 6)
    )
    hue = np.where(
        value == red, green - blue, np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = _scaled_down(hue * sixth[spread], 12)
    return np.stack([hue + 180 * (hue < 0), _scaled_down(spread * over[value], 12), value], -1).astype(np.uint8)


def lab_bytes(rgb: NDArray[np.int64]) -> Bytes:
    """CIE Lab of sRGB values from 0 to 255 `(H, W, 3)`: lightness times 2.55, a and b plus 128."""
    v = np.arange(256) / 255
    linear = np.rint(255 * 8 * np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)).astype(np.int64)
    t = np.arange(256 * 12) / (255 * 8)
    root = np.where(t < 216 / 24389, t * (841 / 108) + 16 / 116, np.cbrt(t)) * 32768
    root = np.rint(root.astype(np.float32)).astype(np.int64)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    white = np.array([[0.950456], [1.0], [1.088754]])
    weights = np.rint(matrix / white * 4096).astype(np.int64)
    x, y, z = np.moveaxis(root[_scaled_down(linear[rgb] @ weights.T, 12)], -1, 0)
    lightness = _scaled_down((116 * 255 + 50) // 100 * y - (16 * 255 * 32768 + 50) // 100, 15)
    a, b = (_scaled_down(factor * delta + 128 * 32768, 15) for factor, delta in ((500, x - y), (200, y - z)))
    return np.stack([lightness, a, b], -1).clip(0, 255).astype(np.uint8)


# The cut ----------------------------------------------------------------------------------------------------------


def smoothed(space: Bytes, sigma: float = 0.8) -> Floats:
    """A Gaussian over seven pixels, mirrored at the border, in single precision with one rounding a step."""
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def added(total: Floats, x: Floats, weight: np.float32) -> Floats:
        return (x.astype(np.float64) * float(weight) + total).astype(np.float32)

    height, width = space.shape[:2]
    across = np.pad(space.astype(np.float32), ((0, 0), (3, 3), (0, 0)), mode=_mirror(width))
    found = across[:, :width] * kernel[0]
    for i in range(1, 7):
        found = added(found, across[:, i : i + width], kernel[i])
    down = np.pad(found, ((3, 3), (0, 0), (0, 0)), mode=_mirror(height))
    found = down[3 : 3 + height] * kernel[3]
    for i in range(1, 4):
        found = added(found, down[3 - i : 3 - i + height] + down[3 + i : 3 + i + height], kernel[3 + i])
    return found


def _mirror(length: int) -> Literal["reflect", "edge"]:
    return "reflect" if length > 1 else "edge"


def edges(smooth: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Weights and both ends of the edges to the left and upper neighbours, lightest first."""
    height, width = smooth.shape[:2]
    node = np.arange(height * width).reshape(height, width)
    weights, one, other = [], [], []
    for here, there in (((slice(None), slice(1, None)), (slice(None), slice(-1))), ((slice(1, None),), (slice(-1),))):
        total = np.zeros(node[here].shape, np.float32)
        for channel in range(smooth.shape[2]):
            step = (smooth[(*here, ..., channel)] - smooth[(*there, ..., channel)]).astype(np.float64)
            total = (total + step * step).astype(np.float32)
        weights.append(np.sqrt(total).ravel())
        one.append(node[here].ravel())
        other.append(node[there].ravel())
    weight = np.concatenate(weights)
    order = np.argsort(weight, kind="stable")
    return weight[order], np.concatenate(one)[order], np.concatenate(other)[order]


# What regions look like -------------------------------------------------------------------------------------------


def slopes(space: Bytes) -> Bytes:
    """How steep each channel is in eight directions, each from its flattest to its steepest pixel: `(H, W, 8 C)`."""
    height, width = space.shape[:2]
    found = []
    for plane in np.moveaxis(space, -1, 0):
        straight = [steepness(plane, axis) for axis in (1, 0)]
        there, size = _turning(height, width, 45.0)
        turned = _scaled_down(warped(plane.astype(np.int64), there, size, weights=32), 15)
        back = rotation((int(size[1] / 2), int(size[0] / 2)), -45.0)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        for axis in (1, 0):
            slope = warped(steepness(turned, axis), back, size, weights=1)
            straight.append(slope[top : top + height, left : left + width])
        for slope in straight:
            found += [_as_bytes(np.maximum(slope, 0)), _as_bytes(np.minimum(slope, 0))]
    return np.stack(found, -1)


def _as_bytes(x: Floats) -> Bytes:
    low, high = float(x.min()), float(x.max())
    if low == high:
        return np.zeros(x.shape, np.uint8)
    factor, shift = np.float32(255 / (high - low)), np.float32(-255 * low / (high - low))
    return np.rint(x.astype(np.float64) * float(factor) + float(shift)).clip(0, 255).astype(np.uint8)


def steepness(plane: NDArray, axis: int) -> Floats:
    """Scharr's derivative along an axis: 3, 10, 3 across it; mirrored at the border."""
    x = np.pad(plane.astype(np.float32), 1, mode="reflect")
    x = np.moveaxis(x, axis, 0)
    step = x[2:] - x[:-2]
    sums = 3 * step[:, :-2] + 10 * step[:, 1:-1] + 3 * step[:, 2:]
    return np.moveaxis(sums, 0, axis).astype(np.float32, copy=False)


def rotation(centre: tuple[float, float], degrees: float) -> NDArray[np.float64]:
    """The matrix `(2, 3)` of a turn to the left about `centre` (x, y)."""
    a, b = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = centre
    return np.array([[a, b, (1 - a) * x - b * y], [-b, a, b * x + (1 - a) * y]])


def _turning(height: int, width: int, degrees: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """The matrix that turns a picture about its middle onto a canvas that holds all of it, and the canvas's size."""
    x, y = width / 2, height / 2
    matrix = rotation((x, y), degrees)
    a, b = (np.float32(0.5 * f(math.radians(degrees))) for f in (math.cos, math.sin))
    w, h = np.float32(width), np.float32(height)
    corners = np.array(
        [
            (x - a * h - b * w, x + a * h - b * w, x + a * h + b * w, x - a * h + b * w),
            (y + b * h - a * w, y - b * h - a * w, y - b * h + a * w, y + b * h + a * w),
        ],
        np.float32,
    )
    columns, rows = (math.ceil(c.max()) - math.floor(c.min()) + 1 for c in corners)
    matrix[:, 2] += (columns / 2 - x, rows / 2 - y)
    return matrix, (rows, columns)


def warped(plane: NDArray, matrix: NDArray[np.float64], size: tuple[int, int], *, weights: int) -> NDArray:
    """`plane` moved by `matrix` onto a canvas of `size` (height, width), bilinear on a grid of 32 places a pixel.

    weights: what the four weights of a pixel add up to, in 1024ths of this.
    """
    linear = np.linalg.inv(matrix[:, :2])
    offset = -linear @ matrix[:, 2]
    y, x = np.arange(size[0]), np.arange(size[1])
    places = []
    for row, start in zip(linear, offset):
        along = np.rint(row[0] * x * 1024).astype(np.int64)
        place = np.rint((row[1] * y + start) * 1024).astype(np.int64)[:, None] + 16 + along
        places.append(place >> 5)
    (column, dx), (line, dy) = ((p >> 5, p & 31) for p in places)
    framed = np.pad(plane, 1)
    total = np.zeros(size, plane.dtype)
    unit = weights if plane.dtype.kind == "i" else np.float32(weights / 1024)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (dy if down else 32 - dy) * (dx if across else 32 - dx)
        i = (line + down + 1).clip(0, plane.shape[0] + 1)
        j = (column + across + 1).clip(0, plane.shape[1] + 1)
        total = total + framed[i, j] * (share.astype(plane.dtype) * unit)
    return total


def described(space: Bytes, textures: Bytes, labels: NDArray[np.int64]) -> Regions:
    """Colour (25 bins a channel) and texture (8 directions, 10 bins a channel) of every region; who touches whom."""
    count = int(labels.max()) + 1
    flat, (height, width) = labels.ravel(), labels.shape
    size = np.bincount(flat, minlength=count)
    colour = [histogram(plane, flat, count, 25, 256 / 25) for plane in np.moveaxis(space, -1, 0)]
    texture = [histogram(plane, flat, count, 10, 25.6) for plane in np.moveaxis(textures, -1, 0)]
    y, x = np.divmod(np.arange(height * width), width)
    box = np.empty((count, 4), np.int64)
    for column, values in ((0, x), (1, y)):
        low, high = np.full(count, max(height, width)), np.zeros(count, np.int64)
        np.minimum.at(low, flat, values)
        np.maximum.at(high, flat, values + 1)
        box[:, column], box[:, column + 2] = low, high
    here = labels[1:, 1:].ravel()
    beside = (labels[1:, :-1].ravel(), labels[:-1, 1:].ravel(), labels[:-1, :-1].ravel())
    keys = np.concatenate([np.minimum(here, b) * count + np.maximum(here, b) for b in beside])
    first, second = np.divmod(np.unique(keys), count)
    pairs = np.stack([first, second], -1)[first != second]
    return Regions(
        np.concatenate(colour) / (size * len(colour)).astype(np.float32),
        np.concatenate(texture) / (size * len(texture)).astype(np.float32),
        size,
        box,
        pairs,
    )


def histogram(plane: Bytes, flat: NDArray[np.int64], count: int, bins: int, width: float) -> Floats:
    """Of bytes: how often each bin of `width` values is met in each region, `(bins, R)`."""
    table = (np.arange(256, dtype=np.float32) / np.float32(width)).astype(np.int64)
    which = table[plane.ravel()]
    return np.bincount(which * count + flat, minlength=count * bins).reshape(bins, count).astype(np.float32)


# Joining ----------------------------------------------------------------------------------------------------------


class Likeness:
    """How alike regions are, by the parts of one strategy; what was joined lives on under the smaller number."""

    def __init__(self, regions: Regions, parts: Sequence[str], pixels: int) -> None:
        self.parts, self.pixels = parts, np.float32(pixels)
        self.colour, self.texture = regions.colour.copy(), regions.texture.copy()
        self.size, self.box = regions.size.copy(), regions.box.copy()
        share = {4: 0.25, 3: 0.3333, 1: 1.0}[len(parts)]
        self.share = np.float32(share)
        self.total = np.float32(0)
        for _ in parts:
            self.total = self.total + self.share

    def between(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
        """Of regions `(P,)` and `(P,)`: `(P,)`, in single precision, summed in order."""
        if len(one) == 1:  # numpy adds a single column in another order
            return self.between(one.repeat(2), other.repeat(2))[:1]
        found = np.zeros(len(one), np.float32)
        for part in self.parts:
            found = found + self.share * self._part(part, one, other)
        return found / self.total

    def _part(self, part: str, one: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
        if part in ("colour", "texture"):
            table = self.colour if part == "colour" else self.texture
            return np.minimum(table[:, one], table[:, other]).sum(0)
        area = self.size[one] + self.size[other]
        if part == "fill":
            low = np.minimum(self.box[one, :2], self.box[other, :2])
            high = np.maximum(self.box[one, 2:], self.box[other, 2:])
            area = (high - low).prod(1) - area
        return (np.float32(1) - area.astype(np.float32) / self.pixels).clip(0, 1)

    def join(self, one: int, other: int) -> int:
        """Make two regions one; returns the number it goes on under."""
        kept = min(one, other)
        a, b = np.float32(self.size[one]), np.float32(self.size[other])
        for table in (self.colour, self.texture):
            table[:, kept] = (table[:, one] * a + table[:, other] * b) / np.float32(a + b)
        low = np.minimum(self.box[one, :2], self.box[other, :2])
        high = np.maximum(self.box[one, 2:], self.box[other, 2:])
        self.box[kept, :2], self.box[kept, 2:] = low, high
        self.size[kept] = self.size[one] + self.size[other]
        return kept


def joined(regions: Regions, parts: Sequence[str], pixels: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Boxes and levels of all regions: those of the cut, level 1, then each that two others make."""
    alike = Likeness(regions, parts, pixels)
    row = list(range(len(regions.size)))  # under which number a region lives
    level, alive = [1] * len(row), [True] * len(row)
    neighbours: list[set[int]] = [set() for _ in row]
    for i, j in regions.pairs.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    yield from ((tuple(box), 1) for box in regions.box.tolist())
    first = alike.between(regions.pairs[:, 0], regions.pairs[:, 1]).tolist() if len(regions.pairs) else []
    queue = [(-value, -order, i, j) for order, (value, (i, j)) in enumerate(zip(first, regions.pairs.tolist()))]
    heapq.heapify(queue)
    met = len(queue)
    while queue:
        _, _, i, j = heapq.heappop(queue)
        if not (alive[i] and alive[j]):
            continue
        new = len(row)
        row.append(alike.join(row[i], row[j]))
        level.append(max(level[i], level[j]) + 1)
        alive[i] = alive[j] = False
        alive.append(True)
        around = [n for n in neighbours[i] | neighbours[j] if alive[n]]
        neighbours.append(set(around))
        if around:
            rows = np.array([row[n] for n in around])
            values = alike.between(np.full(len(rows), row[new]), rows).tolist()
            for value, n in zip(values, around):
                neighbours[n].add(new)
                heapq.heappush(queue, (-value, -met, new, n))
                met += 1
        yield tuple(alike.box[row[new]].tolist()), level[new]
