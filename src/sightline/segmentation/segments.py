"""Segments: connected regions with numbers, how well two sets of them agree (V-Rand, V-Info), whose pixels are whose.

A segment map is an integer array `(H, W)` or `(D, H, W)`, 0 where no segment is.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected regions of a mask (faces touch), numbered from 1."""
    from scipy.ndimage import label

    found, _ = label(mask)  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
    return np.asarray(found, np.int32)


def uphill(height: NDArray[np.float64], parts: NDArray[np.int32]) -> NDArray[np.int64]:
    """For every pixel the flat index of the peak above it: the end of the way that always climbs to the highest pixel.

    A step goes to any of the pixels around, within one region of `parts`; pixels outside (0) stay where they are. This
    is the watershed of `-height`; of equal heights the one later in row-major order is the higher.
    """
    rank = np.empty(height.size, np.int64)
    rank[np.argsort(height.ravel(), kind="stable")] = np.arange(height.size)
    rank = rank.reshape(height.shape)
    best, goal = rank.copy(), np.arange(height.size).reshape(height.shape)
    own = goal.copy()
    for offset in product((-1, 0, 1), repeat=height.ndim):
        here = tuple(slice(max(0, -o), min(n, n - o)) for o, n in zip(offset, height.shape))
        there = tuple(slice(max(0, o), min(n, n + o)) for o, n in zip(offset, height.shape))
        higher = (rank[there] > best[here]) & (parts[there] == parts[here]) & (parts[here] > 0)
        best[here] = np.where(higher, rank[there], best[here])
        goal[here] = np.where(higher, own[there], goal[here])
    goal = goal.ravel()
    while (further := goal[goal]).tobytes() != goal.tobytes():
        goal = further
    return goal.reshape(height.shape)


def thinned(cells: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The regions of `cells`, each of the other pixels given to the nearest one: borders become thin as a line."""
    from scipy.ndimage import distance_transform_edt

    found = regions(cells)
    if not found.any():
        return found
    nearest = distance_transform_edt(found == 0, return_distances=False, return_indices=True)
    return found[tuple(np.asarray(nearest))]


def v_rand(answer: Tensor, truth: Tensor, *, alpha: float = 0.5) -> float:
    """V-Rand of two segment maps, restricted to the pixels that truth gives a segment (Arganda-Carreras et al. 2015).

    sum p_ij^2 / (alpha sum s_i^2 + (1 - alpha) sum t_j^2), p the joint shares, s the answer's, t the truth's.
    1 is perfect; NaN without a true segment.
    """
    p, s, t = _shares(answer, truth)
    return float((p**2).sum() / (alpha * (s**2).sum() + (1 - alpha) * (t**2).sum())) if len(p) else float("nan")


def v_info(answer: Tensor, truth: Tensor, *, alpha: float = 0.5) -> float:
    """V-Info of two segment maps: mutual information / ((1 - alpha) H(answer) + alpha H(truth)), where truth has
    segments; 1 when both are one segment."""
    p, s, t = _shares(answer, truth)
    if not len(p):
        return float("nan")
    joint, one, two = (float(-(x * np.log(x)).sum()) for x in (p, s, t))
    below = (1 - alpha) * one + alpha * two
    return (one + two - joint) / below if below > 0 else 1.0


def _shares(answer: Tensor, truth: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Joint shares of (answer, truth) over the true foreground, and the shares of each."""
    found, true = (torch.as_tensor(x).cpu().numpy().ravel() for x in (answer, truth))
    found, true = found[true > 0].astype(np.int64), true[true > 0].astype(np.int64)
    width = int(true.max(initial=0)) + 1
    pairs, counts = np.unique(found * width + true, return_counts=True)
    share = counts.astype(np.float64) / max(counts.sum(), 1)
    sides = (pairs // width, pairs % width)
    one, two = (np.bincount(np.unique(ids, return_inverse=True)[1], share).astype(np.float64) for ids in sides)
    return share, one, two
