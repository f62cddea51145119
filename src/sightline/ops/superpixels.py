"""Superpixels: a picture cut into small regions that follow its edges.

Paper: Efficient Graph-Based Image Segmentation (Felzenszwalb & Huttenlocher 2004, IJCV 59). Pixels are nodes; edges to
the eight neighbours weigh the difference of colour. Edges are taken from light to heavy, and one joins two regions when
it is no heavier than the heaviest edge inside either of them plus scale / size: small regions join easily.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sightline.errors import UsageError

WORTH = 0.95
"""A round is worth its cost when it leaves no larger share of the edges than this."""


def felzenszwalb(image: np.ndarray, *, scale: float = 100.0, sigma: float = 0.8, smallest: int = 20) -> np.ndarray:
    """Region of every pixel, int64 `(H, W)`, numbered from 0 without gaps in reading order.

    image: `(H, W, C)` in 0..255 (any type; the paper's `scale` is made for these values). scale: larger makes larger
    regions. sigma: of the Gaussian that smooths the picture first. smallest: regions of fewer pixels are joined with
    their most similar neighbour.
    """
    if image.ndim != 3 or scale <= 0 or sigma < 0 or smallest < 1:
        raise UsageError(
            f"superpixels of shape {image.shape} with scale {scale}, sigma {sigma}, smallest {smallest}: expected "
            "(H, W, C), a scale above 0, a sigma from 0 on and a smallest region from 1 pixel on"
        )
    smooth = gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest")
    return joined(*_edges(smooth), smooth.shape[:2], scale=scale, smallest=smallest)


def joined(
    weights: NDArray[np.floating],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    shape: tuple[int, ...],
    *,
    scale: float,
    smallest: int,
) -> NDArray[np.int64]:
    """The paper's joining (section 3) on a graph of the pixels of `shape` (height, width): regions as `felzenszwalb`.

    weights: of the edges, lightest first; one, other: the pixels they join, counted row by row.

    An edge may be judged as soon as it is the lightest left at both of its regions: nothing lighter can change either.
    So all such edges are judged at once, round by round; what chains of ever lighter neighbours leave is judged one by
    one. Equal weights are taken in a shuffled order, which keeps chains short and changes nothing: a region that takes
    an edge takes every other of that weight.
    """
    count = math.prod(shape)
    region, rest = _rounds(weights, one, other, count, scale)
    a, b = region[one], region[other]
    region = _tidied(region, a, b, smallest) if rest else region
    _, first, regions = np.unique(region, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[regions.reshape(-1)].reshape(shape)


def _rounds(
    weights: NDArray[np.floating], one: NDArray[np.int64], other: NDArray[np.int64], count: int, scale: float
) -> tuple[NDArray[np.int64], bool]:
    """The region of every pixel (some pixel's number), and whether more than one is left."""
    shuffled = np.random.default_rng(0).permutation(len(weights))
    order = shuffled[np.argsort(weights[shuffled], kind="stable")]
    w, a, b = weights[order].astype(np.float64), one[order], other[order]
    parent = np.arange(count)
    size, limit = np.ones(count), np.full(count, float(scale))
    nobody = len(w)
    while True:
        edges = len(w)
        lightest = np.full(count, nobody)
        place = np.arange(len(w))
        lightest[a[::-1]] = place[::-1]  # the last writer, which is the lightest edge, stays
        second = np.full(count, nobody)
        second[b[::-1]] = place[::-1]
        np.minimum(lightest, second, out=lightest)
        at_a, at_b = lightest[a] == place, lightest[b] == place
        full_a, full_b = w > limit[a], w > limit[b]
        closed = np.zeros(count, bool)  # a region that cannot take its lightest edge takes none any more
        closed[a[at_a & full_a]] = True
        closed[b[at_b & full_b]] = True
        take = at_a & at_b & ~full_a & ~full_b
        into, gone = a[take], b[take]
        parent[gone] = into
        size[into] += size[gone]
        limit[into] = w[take] + scale / size[into]
        moved = np.arange(count)
        moved[gone] = into
        left = ~(closed[a] | closed[b])
        w, a, b = w[left], moved[a[left]], moved[b[left]]
        other_region = a != b
        w, a, b = w[other_region], a[other_region], b[other_region]
        if len(w) < 2000 or len(w) > WORTH * edges:
            break
    _one_by_one(w.tolist(), a.tolist(), b.tolist(), parent, size, limit, scale)
    while True:
        deeper = parent[parent]
        if np.array_equal(deeper, parent):
            return parent, bool((parent != parent[0]).any())
        parent = deeper


def _one_by_one(
    weights: list[float],
    one: list[int],
    other: list[int],
    parent: NDArray[np.int64],
    size: NDArray[np.float64],
    limit: NDArray[np.float64],
    scale: float,
) -> None:
    """Judge edges, lightest first; `parent`, of regions, is changed."""
    up = {node: node for node in one} | {node: node for node in other}
    sizes = {node: size[node] for node in up}
    limits = {node: limit[node] for node in up}

    def root(node: int) -> int:
        while up[node] != node:
            up[node] = node = up[up[node]]
        return node

    for weight, a, b in zip(weights, one, other):
        a, b = root(a), root(b)
        if a != b and weight <= limits[a] and weight <= limits[b]:
            up[b] = a
            sizes[a] += sizes[b]
            limits[a] = weight + scale / sizes[a]
    for node in up:
        parent[node] = root(node)


def _tidied(region: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], smallest: int) -> NDArray[np.int64]:
    """Regions of fewer pixels join the neighbour beyond their lightest edge; `a`, `b`: the ends of all edges."""
    different = np.flatnonzero(a != b)
    low, high = np.minimum(a[different], b[different]), np.maximum(a[different], b[different])
    _, first = np.unique(low * len(region) + high, return_index=True)  # of two regions the lightest edge decides
    chosen = different[np.sort(first)]
    names, sizes = np.unique(region, return_counts=True)
    up = dict(zip(names.tolist(), names.tolist()))
    count = dict(zip(names.tolist(), sizes.tolist()))

    def root(node: int) -> int:
        while up[node] != node:
            up[node] = node = up[up[node]]
        return node

    for one, other in zip(a[chosen].tolist(), b[chosen].tolist()):
        one, other = root(one), root(other)
        if one != other and min(count[one], count[other]) < smallest:
            up[other] = one
            count[one] += count[other]
    table = np.arange(len(region))
    table[names] = [root(name) for name in names.tolist()]
    return table[region]


def _edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and both ends of all edges between neighbours, lightest first; ties in order of the pixels."""
    height, width = image.shape[:2]
    node = np.arange(height * width).reshape(height, width)
    down, up = slice(1, None), slice(None, -1)
    everywhere = slice(None)
    pairs = (
        ((everywhere, up), (everywhere, down)),
        ((up, everywhere), (down, everywhere)),
        ((up, up), (down, down)),
        ((up, down), (down, up)),
    )
    weights = [np.sqrt(((image[a] - image[b]) ** 2).sum(-1)).ravel() for a, b in pairs]
    ones, others = ([node[pair[k]].ravel() for pair in pairs] for k in (0, 1))
    weight, one, other = (np.concatenate(parts) for parts in (weights, ones, others))
    order = np.argsort(weight, kind="stable")
    return weight[order], one[order], other[order]


def mean_of_regions(values: Tensor, regions: Tensor) -> Tensor:
    """Every pixel's value replaced by its region's mean: `(K, H, W)` of `(K, H, W)` and int64 `(H, W)`."""
    flat = regions.flatten()
    count = int(flat.max()) + 1
    sums = values.new_zeros(len(values), count).index_add(1, flat, values.flatten(1))
    sizes = flat.bincount(minlength=count)
    return (sums / sizes)[:, flat].unflatten(1, regions.shape)
