"""Colour spaces."""

from __future__ import annotations

import torch
from torch import Tensor


def rgb_to_hsv(rgb: Tensor) -> Tensor:
    """`(B, 3, ...)` red, green and blue in [0, 1] to hue (a full turn is 1), saturation and value, all in [0, 1].

    Grey has hue 0, black saturation 0 (Smith 1978; the same numbers as `colorsys.rgb_to_hsv`).
    """
    red, green, blue = rgb.unbind(1)
    value, least = rgb.amax(1), rgb.amin(1)
    span = value - least
    safe = torch.where(span > 0, span, 1.0)
    turn = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = torch.where(value > 0, span / torch.where(value > 0, value, 1.0), 0.0)
    return torch.stack([(turn / 6).remainder(1.0), saturation, value], dim=1)
