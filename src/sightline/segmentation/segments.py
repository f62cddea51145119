"""Segments: connected regions with numbers, how well two sets of them agree (V-Rand, V-Info), and how they are grown.

A segment map is an integer array `(H, W)` or `(D, H, W)`, 0 where no segment is.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected regions of a mask (faces touch), numbered from 1."""
    from scipy.ndimage import label

    found, _ = label(mask)  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
    return np.asarray(found, np.int32)


def grow(
    markers: NDArray[np.int32], height: NDArray[np.float64], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """A watershed: markers (above 0) grow over `height` from low to high until they meet; 0 outside `inside`.

    By the image foresting transform of scipy: each pixel goes to the marker whose way to it climbs least.
    """
    from scipy.ndimage import watershed_ift

    if not (markers > 0).any():
        return np.zeros(markers.shape, np.int32)
    low, high = float(height.min()), float(height.max())
    levels = np.round((height - low) * (65535 / (high - low)) if high > low else height * 0).astype(np.uint16)
    seeds = markers.astype(np.int32)
    if inside is not None:
        levels = np.where(inside, levels // 2, 65535).astype(np.uint16)
        seeds = np.where(inside, seeds, -1)  # what is outside floods itself
    found = np.asarray(watershed_ift(levels, seeds), np.int32)
    return np.where(found > 0, found, 0).astype(np.int32)


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
    pairs, counts = np.unique(np.stack([found, true]), axis=1, return_counts=True)
    total = max(counts.sum(), 1)
    share = counts.astype(np.float64) / total
    one, two = (np.bincount(np.unique(ids, return_inverse=True)[1], share).astype(np.float64) for ids in pairs)
    return share, one, two


def thinned(cells: NDArray[np.bool_], border: NDArray[np.float64]) -> NDArray[np.int32]:
    """The regions of `cells`, grown over `border` (how much of a border each pixel is) until they touch."""
    return grow(regions(cells), border)
