"""Outlines of masks in pictures and volumes: which pixels they are, and how far one outline is from another.

Distances are Euclidean, from pixel centre to pixel centre, exact to seven digits, in units of `spacing` (one length an
axis, in the axes' order; 1 when open). They are computed on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import UsageError

REACH = 12
"""Pixels of the finest axis within which a neighbour is looked for everywhere at once."""
MANY = 0.05
"""Share of pixels that are further away, above which a distance transform costs less than a search for each."""


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
    window = _window(one, two)
    if window is None:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    one, two = _outline(one[window]), _outline(two[window])
    with ThreadPoolExecutor(1) as other:  # both directions at once: NumPy computes outside the interpreter's lock
        later = other.submit(_distances, two, one, scale)
        there, back = _distances(one, two, scale), later.result()
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


def _window(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds both masks, None when they are empty."""
    box: list[slice] = []
    for axis in range(one.ndim):  # the first axis is read as it lies in memory, the others only inside the box
        others = tuple(k for k in range(one.ndim) if k != axis)
        seen = np.flatnonzero(one[tuple(box)].any(axis=others) | two[tuple(box)].any(axis=others))
        if not len(seen):
            return None
        box.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return tuple(box)


def _distances(of: NDArray[np.bool_], to: NDArray[np.bool_], scale: tuple[float, ...]) -> NDArray[np.float64]:
    """From each pixel of `of` to the nearest of `to`: near ones by shifting, the others by a tree or a transform."""
    where = np.flatnonzero(of)
    if not to.any():
        return np.full(len(where), np.inf)
    radius = REACH * min(scale)  # what is not looked at is further away
    found = np.sqrt(_near(where, to, scale, radius).astype(np.float64))
    far = np.flatnonzero(found > radius)
    if len(far) > MANY * of.size:
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(~to, sampling=scale)).ravel()[where]
    if len(far):
        from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

        tree = cKDTree(np.argwhere(to) * scale, balanced_tree=False, compact_nodes=False)
        points = np.stack(np.unravel_index(where[far], of.shape), axis=1) * scale
        found[far] = tree.query(points)[0]
    return found


def _near(
    where: NDArray[np.intp], to: NDArray[np.bool_], scale: tuple[float, ...], radius: float
) -> NDArray[np.float32]:
    """Squared distances from the flat places `where` to the nearest pixel of `to`; those above `radius` may be too
    large. Axis after axis, as a distance is a sum of squares.
    """
    if to.ndim == 3 and (coarse := int(np.argmax(scale))) != 1:  # few steps reach far along the coarsest axis
        order = [1, 0, 2] if coarse == 0 else [0, 2, 1]
        places = np.unravel_index(where, to.shape)
        to = np.ascontiguousarray(to.transpose(order))
        where, scale = np.ravel_multi_index([places[k] for k in order], to.shape), tuple(scale[k] for k in order)
    length = to.shape[0]
    whole = np.int16 if length < 8000 else np.int32  # narrow numbers: this reads every voxel several times
    none, index = whole(2 * length), np.arange(length, dtype=whole).reshape(-1, *[1] * (to.ndim - 1))
    before = np.maximum.accumulate(np.where(to, index, -none), axis=0)
    after = np.minimum.accumulate(np.where(to, index, none)[::-1], axis=0)[::-1]
    steps_away = np.minimum(index - before, after - index)
    squares = (steps_away.astype(np.float32) * np.float32(scale[0])) ** 2
    squares[steps_away >= length] = np.inf
    for axis in range(1, to.ndim - 1):
        best, room = squares.copy(), np.empty(squares.size, np.float32)
        for step in range(1, min(int(radius / scale[axis]), to.shape[axis] - 1) + 1):
            more = np.float32((step * scale[axis]) ** 2)
            lead = (slice(None),) * axis
            low, high = (*lead, slice(None, -step)), (*lead, slice(step, None))
            part = room[: squares[high].size].reshape(squares[high].shape)
            for goal, source in ((low, high), (high, low)):
                np.add(squares[source], more, out=part)
                np.minimum(best[goal], part, out=best[goal])
        squares = best
    if to.ndim == 1:
        return squares[where]
    row, column = np.divmod(where, to.shape[-1])
    reach = min(int(radius / scale[-1]), to.shape[-1] - 1)
    lines = np.pad(squares.reshape(-1, to.shape[-1]), ((0, 0), (reach, reach)), constant_values=np.inf)
    at = row * lines.shape[1] + column + reach
    found, left = lines.take(at), np.arange(len(at))
    for step in range(1, reach + 1):
        more = np.float32((step * scale[-1]) ** 2)
        left = left[found[left] > more]  # the others are nearer to something already
        here = at[left]
        nearer = np.minimum(lines.take(here - step), lines.take(here + step)) + more
        found[left] = np.minimum(found[left], nearer)
    return found
