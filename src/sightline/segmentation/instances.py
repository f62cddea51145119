"""Objects from pixels: nuclei and cells that touch are told apart by a watershed on distance and border."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.segmentation.segments import regions, uphill

BORDERS = (
    "membrane",
    "membranes",
    "boundary",
    "boundaries",
    "border",
    "borders",
    "edge",
    "edges",
    "contour",
    "outline",
)
"""Names of classes that separate objects and are none themselves."""

DIP = 0.1
"""How much narrower than the smaller of two parts their connection must be for them to be two objects."""


def separate(mask: Tensor, *, border: Tensor | None = None, dip: float = DIP, least: int = 4) -> Tensor:
    """Number the objects of a bool mask `(H, W)` or `(D, H, W)` from 1, int32 of the same shape; 0 is no object.

    The distance of each pixel from the outside is a landscape whose peaks are the objects' middles. Two peaks are two
    objects when on the way between them the distance falls by the share `dip` below the lower one; pixels go to the
    peak they are uphill of (a watershed). border: how probably each pixel is a border, in [0, 1]; it lowers the
    landscape. least: smaller objects are left out.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    inside = mask.detach().cpu().numpy().astype(bool)
    if not inside.any():
        return torch.zeros(mask.shape, dtype=torch.int32)
    height = np.asarray(distance_transform_edt(np.pad(inside, 1)))[(slice(1, -1),) * inside.ndim]
    if border is not None:
        height = height * (1 - border.detach().cpu().double().numpy())
    height = np.where(inside, gaussian_filter(height, 1.0), 0.0)
    found = _objects(height, regions(inside), dip)
    return torch.from_numpy(_renumbered(found, least))


def _objects(height: NDArray[np.float64], parts: NDArray[np.int32], dip: float) -> NDArray[np.int32]:
    """The object above each pixel: peaks of one region are one object where a ridge joins them to a higher one."""
    goal = uphill(height, parts)
    peaks = np.unique(goal[parts > 0])
    peaks = peaks[np.argsort(-height.ravel()[peaks], kind="stable")]
    kept: dict[int, list[tuple[NDArray[np.int64], int]]] = {}
    table = np.zeros(height.size, np.int32)
    for count, flat in enumerate(peaks.tolist(), start=1):
        peak = np.array(np.unravel_index(flat, height.shape))
        others = kept.setdefault(int(parts.ravel()[flat]), [])
        level = (1 - dip) * float(height.ravel()[flat])
        joined = next((number for other, number in others if _joined(height, peak, other, level)), None)
        if joined is None:
            others.append((peak, count))
        table[flat] = count if joined is None else joined
    return np.where(parts > 0, table[goal], 0).astype(np.int32)


def _joined(height: NDArray[np.float64], a: NDArray[np.int64], b: NDArray[np.int64], level: float) -> bool:
    """Whether the straight way from a to b stays above `level`."""
    steps = max(2, math.ceil(2 * math.dist(a, b)))
    way = a + np.linspace(0, 1, steps)[:, None] * (b - a)
    return bool((height[tuple(np.rint(way).astype(int).T)] > level).all())


def _renumbered(found: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    """Objects of at least that many pixels, numbered from 1 without gaps."""
    sizes = np.bincount(found.ravel())
    keep = sizes >= least
    keep[0] = False
    table = np.zeros(len(sizes), np.int32)
    table[keep] = np.arange(1, int(keep.sum()) + 1)
    return table[found]
