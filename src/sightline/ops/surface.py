"""Outlines of masks in pictures and volumes: which pixels they are, and how far one outline is from another.

Distances are exact and Euclidean, from pixel centre to pixel centre, in units of `spacing` (one length an axis, in
the axes' order; 1 when open). They are computed on the CPU, in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import UsageError

CROWDED = 0.25
"""Share of outline pixels above which one distance transform costs less than a search for each of them."""


def outline(mask: Tensor) -> Tensor:
    """The pixels of a bool mask of any number of axes that touch its outside with a face, bool of the same shape.

    Beyond the borders is outside: this is the mask minus its erosion.
    """
    return torch.from_numpy(_outline(mask.detach().cpu().numpy().astype(bool))).to(mask.device)


def surface_distances(a: Tensor, b: Tensor, spacing: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    """From every outline pixel of `a` the distance to the outline of `b`, and from every one of `b` that to `a`.

    a, b: bool masks of one shape. Returns two float64 vectors, in row-major order of the pixels; infinite where the
    other mask is empty.
    """
    if a.shape != b.shape:
        raise UsageError(f"masks of shapes {tuple(a.shape)} and {tuple(b.shape)} have no distance: give one shape")
    scale = steps(spacing, a.ndim)
    one, two = (x.detach().cpu().numpy().astype(bool, copy=False) for x in (a, b))
    window = _window(one | two)
    if window is None:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    one, two = _outline(one[window]), _outline(two[window])
    there, back = _distances(one, two, scale), _distances(two, one, scale)
    return torch.from_numpy(there), torch.from_numpy(back)


def signed_distance(mask: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """To each pixel the distance from the mask's edge, float32: positive outside, negative inside, 0 without an edge.

    The nearest pixel of the mask is at 1 outside, the outermost pixels of the mask are at 0.
    """
    from scipy.ndimage import distance_transform_edt

    inside = mask.detach().cpu().numpy().astype(bool)
    if not inside.any() or inside.all():
        return torch.zeros(mask.shape, device=mask.device)
    scale = steps(spacing, mask.ndim)
    out = np.asarray(distance_transform_edt(~inside, sampling=scale))
    into = np.asarray(distance_transform_edt(inside, sampling=scale))
    into = into - into[inside].min() * inside
    return torch.from_numpy((out - into).astype(np.float32)).to(mask.device)


def steps(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """The length of a pixel along each axis. Raises `UsageError` unless there is one positive length for each."""
    found = tuple(float(s) for s in (spacing or (1.0,) * axes))
    if len(found) != axes or not all(0 < s < float("inf") for s in found):
        raise UsageError(
            f"spacing {tuple(spacing or ())} must be {axes} lengths above 0, one for each axis of the mask"
        )
    return found


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    for axis in range(mask.ndim):
        rest = (slice(None),) * axis
        inner[(*rest, slice(1, None))] &= mask[(*rest, slice(None, -1))]
        inner[(*rest, slice(None, -1))] &= mask[(*rest, slice(1, None))]
        inner[(*rest, slice(0, 1))] = False
        inner[(*rest, slice(-1, None))] = False
    return mask & ~inner


def _window(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds the mask, None when it is empty."""
    box = []
    for axis in range(mask.ndim):
        seen = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        if not len(seen):
            return None
        box.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return tuple(box)


def _distances(of: NDArray[np.bool_], to: NDArray[np.bool_], scale: tuple[float, ...]) -> NDArray[np.float64]:
    """From each pixel of `of` to the nearest of `to`: 0 where they coincide, a search in a tree for the others."""
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    where, away = np.flatnonzero(of), of & ~to
    if not to.any():
        return np.full(len(where), np.inf)
    if np.count_nonzero(away) > CROWDED * of.size:
        return np.asarray(distance_transform_edt(~to, sampling=scale)).ravel()[where]
    found = np.zeros(of.shape)
    points = np.argwhere(away)
    if len(points):
        tree = cKDTree(np.argwhere(to) * scale, balanced_tree=False, compact_nodes=False)
        found[away] = tree.query(points * scale)[0]
    return found.ravel()[where]
