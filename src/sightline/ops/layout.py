"""Channels last: the layout in memory in which convolutions of pictures, clips and volumes are fastest; values stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(x: Tensor) -> Tensor:
    """Pictures `(B, C, H, W)`, clips and volumes `(B, C, T, H, W)` with their channels last in memory; others as is."""
    return x.contiguous(memory_format=LAYOUTS[x.ndim]) if x.ndim in LAYOUTS else x


def lay_out(net: nn.Module) -> nn.Module:
    """The same network, its kernels with their channels last in memory; kernels of two and of three axes may mix."""
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.ndim in LAYOUTS:
                tensor.data = channels_last(tensor.data)
    return net
