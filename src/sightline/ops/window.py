"""A window of a picture that may reach beyond its borders, where the picture is continued by its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror(index: Tensor, size: int) -> Tensor:
    """Positions of any integers on an axis of `size` samples continued by reflection without repeating the border.

    `size` 3: ..., -2 -> 2, -1 -> 1, 0, 1, 2, 3 -> 1, 4 -> 0, ... (the period is 2 size - 2).
    """
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * size - 2
    position = index.remainder(period)
    return torch.where(position < size, position, period - position)


def mirror_window(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """The window `[top, top + height) x [left, left + width)` of `(..., H, W)`; outside, the mirrored picture."""
    rows, columns = x.shape[-2:]
    if min(top, left) >= 0 and top + height <= rows and left + width <= columns:
        return x[..., top : top + height, left : left + width]
    device = x.device
    x = x.index_select(-2, mirror(torch.arange(top, top + height, device=device), rows))
    return x.index_select(-1, mirror(torch.arange(left, left + width, device=device), columns))
