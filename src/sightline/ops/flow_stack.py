"""Stacks of optical flow as flow pictures hold them: 8 bits, 128 for no motion, x and y as two pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def flow_stack(fields: Tensor, *, flip: bool = False) -> Tensor:
    """`(..., L, 2, H, W)` flow pictures (uint8, or float in [0, 1]) to `(..., 2 L, H, W)` float32 in [0, 1].

    Channels are x1, y1, x2, y2, ... (Simonyan & Zisserman 2014, section 3.1). flip: mirrored left to right, and the x
    values are inverted, since what moved right now moves left.
    """
    x = fields.float() / 255 if fields.dtype == torch.uint8 else fields
    if flip:
        x = x.flip(-1)
        x = torch.stack([1 - x[..., 0, :, :], x[..., 1, :, :]], dim=-3)
    return x.flatten(-4, -3)


def without_camera(stack: Tensor) -> Tensor:
    """A flow stack `(..., C, H, W)` without the mean of each field's component: most of the camera's own motion."""
    return stack - stack.mean((-2, -1), keepdim=True)
