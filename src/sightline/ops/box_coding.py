"""Boxes as differences from reference boxes, and back: what the heads of detectors learn.

The form of R-CNN (Girshick et al. 2014, appendix C): the centre's shift in units of the reference's size and the
logarithm of the growth, each times a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST = math.log(1000 / 16)
"""Where decoders cut the logarithm of growth: a 16-pixel reference becomes 1000 pixels at most (Detectron)."""


def encode(
    boxes: Tensor, reference: Tensor, weights: Sequence[float] = (1, 1, 1, 1), *, plus_one: bool = False
) -> Tensor:
    """What takes `reference` to `boxes`, all `(..., 4)`: (dx, dy, dw, dh) times `weights`.

    plus_one: widths are x1 - x0 + 1, as in programs that count pixels inclusively.
    """
    there, size = _centres(boxes, plus_one)
    here, unit = _centres(reference, plus_one)
    deltas = torch.cat([(there - here) / unit, torch.log(size / unit)], dim=-1)
    return deltas * deltas.new_tensor(weights)


def decode(
    deltas: Tensor,
    reference: Tensor,
    weights: Sequence[float] = (1, 1, 1, 1),
    *,
    largest: float = LARGEST,
    plus_one: bool = False,
) -> Tensor:
    """Boxes `(..., 4)` that `deltas` make of `reference`; sizes are in float32 whatever comes in."""
    deltas = deltas.float() / torch.tensor(weights, dtype=torch.float32, device=deltas.device)
    here, unit = _centres(reference.float(), plus_one)
    centre = deltas[..., :2] * unit + here
    half = torch.exp(deltas[..., 2:].clamp(max=largest)) * unit * 0.5
    return torch.cat([centre - half, centre + half - float(plus_one)], dim=-1)


def _centres(boxes: Tensor, plus_one: bool) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2] + float(plus_one)
    return boxes[..., :2] + 0.5 * size, size
