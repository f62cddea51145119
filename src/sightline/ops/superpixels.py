"""Superpixels: a picture cut into small regions that follow its edges.

Paper: Efficient Graph-Based Image Segmentation (Felzenszwalb & Huttenlocher 2004, IJCV 59). Pixels are nodes; edges to
the eight neighbours weigh the difference of colour. Edges are taken from light to heavy, and one joins two regions when
it is no heavier than the heaviest edge inside either of them plus scale / size: small regions join easily.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sightline.errors import UsageError


def felzenszwalb(image: np.ndarray, *, scale: float = 100.0, sigma: float = 0.8, smallest: int = 20) -> np.ndarray:
    """Region of every pixel, int64 `(H, W)`, numbered from 0 without gaps in reading order.

    image: `(H, W, C)` in 0..255 (any type; the paper's `scale` is made for these values). scale: larger makes larger
    regions. sigma: of the Gaussian that smooths the picture first. smallest: regions of fewer pixels are joined with
    their most similar neighbour. About a second for 360 x 480 pixels.
    """
    if image.ndim != 3 or scale <= 0 or sigma < 0 or smallest < 1:
        raise UsageError(
            f"superpixels of shape {image.shape} with scale {scale}, sigma {sigma}, smallest {smallest}: expected "
            "(H, W, C), a scale above 0, a sigma from 0 on and a smallest region from 1 pixel on"
        )
    height, width = image.shape[:2]
    smooth = gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest")
    weights, one, other = _edges(smooth)
    parent, size = list(range(height * width)), [1] * (height * width)
    most = [scale] * (height * width)  # heaviest edge inside a region, plus scale / size

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    rejected = []
    for weight, a, b in zip(weights.tolist(), one.tolist(), other.tolist()):
        a, b = root(a), root(b)
        if a == b:
            continue
        if weight <= most[a] and weight <= most[b]:
            parent[b] = a
            size[a] += size[b]
            most[a] = weight + scale / size[a]
        else:
            rejected.append((a, b))
    for a, b in rejected:  # light edges first: a small region joins its most similar neighbour
        a, b = root(a), root(b)
        if a != b and min(size[a], size[b]) < smallest:
            parent[b] = a
            size[a] += size[b]
    roots = np.array([root(node) for node in range(height * width)])
    _, first, regions = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[regions.reshape(-1)].reshape(height, width)


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
