"""Which reference box stands for which true box, and which of them a step learns from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sightline.ops.boxes import iou

Rescue = Literal["none", "own", "theirs"]

BACKGROUND = -1
BETWEEN = -2
"""Neither: too much overlap for background, too little for the object; no loss sees it."""


def match(
    truth: Tensor,
    boxes: Tensor,
    *,
    valid: Tensor,
    high: float,
    low: float,
    rescue: Rescue = "none",
    least: float = 0.0,
    plus_one: bool = False,
) -> tuple[Tensor, Tensor]:
    """For every box: the index of its true box, `BACKGROUND` or `BETWEEN`; and the index of its best, whatever the IoU.

    truth: `(..., G, 4)`; valid: `(..., G)` bool, which of them are no padding. boxes: `(..., N, 4)`. Both answers are
    `(..., N)` int64. A box belongs to its best true box from an IoU of `high` on and is background below `low`.
    rescue: what becomes of a true box's best boxes (all that share its highest IoU, if that is above 0 and at least
    `least`) where they are below `high` (Faster R-CNN, section 3.1.2): `none`; they belong to their `own` best true box
    (torchvision, detectron2); or to that true box, the last one that claims them, even above `high` (`theirs`: mmdet).
    """
    if truth.shape[-2] == 0:
        none = torch.full(boxes.shape[:-1], BACKGROUND, dtype=torch.long, device=boxes.device)
        return none, torch.zeros_like(none)
    overlap = iou(truth, boxes, plus_one=plus_one).masked_fill(~valid[..., None], -1.0)  # (..., G, N)
    best, index = overlap.max(dim=-2)
    found = index.masked_fill(best < high, BETWEEN).masked_fill(best < low, BACKGROUND)
    if rescue != "none":
        highest = overlap.amax(dim=-1, keepdim=True)
        claims = (overlap == highest) & (highest > 0) & (highest >= least) & valid[..., None]
        if rescue == "theirs":
            row = torch.arange(truth.shape[-2], device=truth.device)[:, None]
            claimed = torch.where(claims, row, -1).amax(dim=-2)
            found = torch.where(claimed >= 0, claimed, found)
        else:
            found = torch.where(claims.any(dim=-2), index, found)
    return found, index


def balanced_sample(
    positive: Tensor, negative: Tensor, count: int, fraction: float, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Which positives and which negatives a step learns from, two `(..., N)` bool.

    At most `count * fraction` positives; negatives fill up to `count`. keys: `(..., N)` numbers in [0, 1), drawn by the
    caller: of more candidates than are wanted, those with the smallest keys are taken. Fixed shapes throughout.
    """
    positives = _first(positive, keys, positive.sum(-1, keepdim=True).clamp(max=int(count * fraction)))
    negatives = _first(negative, keys, count - positives.sum(-1, keepdim=True))
    return positives, negatives


def _first(flags: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """Of the true values of `(..., N)`, the `count` `(..., 1)` with the smallest keys."""
    order = keys.masked_fill(~flags, 2.0).sort(dim=-1, stable=True).indices
    rank = torch.arange(flags.shape[-1], device=flags.device).expand_as(order)
    return flags & (torch.zeros_like(order).scatter(-1, order, rank) < count)


def fixed_keys(like: Tensor) -> Tensor:
    """Keys for `balanced_sample` that depend on nothing but the position: the sample of a validation loss.

    Multiples of the golden ratio spread evenly over [0, 1), and so does any run of neighbours among them.
    """
    n = torch.arange(like.shape[-1], device=like.device, dtype=torch.float64)
    return (n * 0.6180339887498949 % 1.0).float().expand(like.shape)
