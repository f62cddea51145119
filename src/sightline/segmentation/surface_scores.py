"""How far two outlines are from each other: Hausdorff distances, mean surface distance, surface Dice, boundary F1.

Masks are bool `(H, W)` or `(D, H, W)`; `spacing` is the length of a pixel along each axis (millimetres), 1 when open.
Outlines are the pixels that touch the outside with a face. What the public packages do differently is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sightline.ops.surface import steps, surface_distances


@dataclass(frozen=True)
class SurfaceScores:
    """Scores of one pair of masks, NaN when both are empty; when one is, as MONAI has it: no percentile, infinite
    `hd` and `assd`, nothing within a tolerance."""

    hd95: float  # the larger of both directed 95th percentiles
    hd95_pooled: float  # the 95th percentile of both directions put together (medpy)
    hd: float  # the largest distance
    assd: float  # the mean of both directions put together
    surface_dice: float  # share of both outlines within `tolerance` of the other
    boundary_f1: float  # F1 of the shares within 0.75 % of the diagonal


NAMES = tuple(f.name for f in fields(SurfaceScores))
BOUNDARY_TOLERANCE = 0.0075
"""Share of the picture's diagonal within which an outline counts as found (Csurka et al. 2013)."""


def surface_scores(
    prediction: Tensor, truth: Tensor, *, spacing: Sequence[float] | None = None, tolerance: float = 1.0
) -> SurfaceScores:
    """All scores of two bool masks of one shape from one measurement. tolerance: of surface Dice, in spacing's unit."""
    there, back = (x.numpy() for x in surface_distances(prediction, truth, spacing))
    if not len(there) and not len(back):
        return SurfaceScores(*[math.nan] * len(NAMES))
    if not len(there) or not len(back):
        return SurfaceScores(math.nan, math.nan, math.inf, math.inf, surface_dice=0.0, boundary_f1=0.0)
    both = np.concatenate([there, back])
    scale = steps(spacing, truth.ndim)
    near = BOUNDARY_TOLERANCE * math.dist((0.0,) * truth.ndim, [n * s for n, s in zip(truth.shape, scale)])
    precision, recall = _within(there, near), _within(back, near)
    return SurfaceScores(
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        hd95_pooled=float(np.percentile(both, 95)),
        hd=float(both.max()),
        assd=float(both.mean()),
        surface_dice=_within(both, tolerance),
        boundary_f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    )


def _within(distances: NDArray[np.float64], most: float) -> float:
    """The share of distances of at most `most`, rounding forgiven."""
    return float((distances <= most * (1 + 1e-6)).mean())


def hausdorff(
    prediction: Tensor,
    truth: Tensor,
    *,
    percentile: float | None = 95.0,
    pooled: bool = False,
    spacing: Sequence[float] | None = None,
) -> float:
    """The Hausdorff distance of two bool masks, or its `percentile`; infinite when one is empty, NaN when both are.

    pooled: the percentile of both directions put together (medpy), else the larger of both directed ones (MONAI).
    """
    there, back = (x.numpy() for x in surface_distances(prediction, truth, spacing))
    if not len(there) and not len(back):
        return math.nan
    if not len(there) or not len(back):
        return math.inf
    share = 100.0 if percentile is None else percentile
    if pooled:
        return float(np.percentile(np.concatenate([there, back]), share))
    return float(max(np.percentile(there, share), np.percentile(back, share)))


def average_surface_distance(
    prediction: Tensor, truth: Tensor, *, symmetric: bool = True, spacing: Sequence[float] | None = None
) -> float:
    """Mean distance of the outlines, both directions put together; infinite when one is empty, NaN when both are.

    symmetric=False: only from the prediction's outline to the truth's.
    """
    there, back = (x.numpy() for x in surface_distances(prediction, truth, spacing))
    if not len(there) or not len(back):
        return math.inf if len(there) or len(back) else math.nan
    return float((np.concatenate([there, back]) if symmetric else there).mean())


def surface_dice(
    prediction: Tensor, truth: Tensor, *, tolerance: float = 1.0, spacing: Sequence[float] | None = None
) -> float:
    """The share of both outlines' pixels within `tolerance` of the other one (normalised surface Dice).

    0 when one mask is empty, NaN when both are.
    """
    return surface_scores(prediction, truth, spacing=spacing, tolerance=tolerance).surface_dice
