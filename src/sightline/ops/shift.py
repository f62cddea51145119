"""Shifts along time: how features of neighbouring frames come to stand in one frame, at no cost of arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor


def temporal_shift(x: Tensor, frames: int, *, fold: int = 8, causal: bool = False) -> Tensor:
    """The first C // fold channels come from the next frame, the next C // fold from the previous one; zero outside.

    x: `(B * frames, C, ...)`, frames of a clip next to each other. causal: the first C // fold channels come from the
    previous frame, and none from the next (the online form of TSM, Lin et al. 2019, section 4.2).
    """
    clips = x.unflatten(0, (-1, frames))
    part = x.shape[1] // fold
    zero = torch.zeros_like(clips[:, :1, :part])
    if causal:
        moved = torch.cat([zero, clips[:, :-1, :part]], dim=1)
        return torch.cat([moved, clips[:, :, part:]], dim=2).flatten(0, 1)
    ahead = torch.cat([clips[:, 1:, :part], zero], dim=1)
    behind = torch.cat([zero, clips[:, :-1, part : 2 * part]], dim=1)
    return torch.cat([ahead, behind, clips[:, :, 2 * part :]], dim=2).flatten(0, 1)
