"""Convolutions as processors like them, for inference: the kinds that PyTorch's own choice of kernel is slow at.

Most convolutions are faster with the channels last in memory. Undilated kernels of more than a pixel over a thousand
channels and more are not (PSPNet's head takes 1.4 times as long): each row of channels is too long to stay near the
processor. And depthwise kernels dilated by more than six pixels (the ASPP of separable DeepLab) fall back to code that
is ten times as slow: there each of the nine weights is applied to the part of the map it reaches, and a weight that
reaches nothing costs nothing.

Convolutions of three axes are the other way round. For one clip on one core PyTorch takes those without a wide kernel
in space (1 x 1 x 1, 3 x 1 x 1: half of a video network) away from oneDNN and unfolds them into a copy, plane after
plane, so that whatever follows (other convolutions, pools) also leaves the channels-last kernels, which are up to ten
times as fast. Asking oneDNN by name for all of them keeps the whole network channels-last.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from sightline.ops.layout import channels_last

WIDE = 1024
"""Input channels from which an undilated kernel of more than a pixel is given planes."""

FAR = 6
"""The largest dilation that depthwise kernels are fast at."""


ONE_DNN = platform.machine().lower() in ("x86_64", "amd64")
"""Processors for which oneDNN has kernels of three axes; elsewhere asking it by name may reach its slow reference."""


class InPlanes(nn.Module):
    """A convolution that reads its pictures plane after plane."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        with torch.no_grad():
            convolution.weight.data = convolution.weight.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's answer."""
        return self.convolution(x.contiguous())


class TapByTap(nn.Module):
    """A depthwise convolution that keeps the size of the map, one weight of its kernel after the other."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        rows, columns = convolution.kernel_size
        away = [
            (convolution.dilation[0] * (i - rows // 2), convolution.dilation[1] * (j - columns // 2))
            for i, j in product(range(rows), range(columns))
        ]
        self.taps = sorted(enumerate(away), key=lambda tap: tap[1] != (0, 0))  # the middle one first: it reaches all

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's answer, up to rounding."""
        kernel, bias = self.convolution.weight.flatten(1)[..., None, None], self.convolution.bias
        height, width = x.shape[-2:]
        y = x * kernel[:, self.taps[0][0]]
        for place, (down, right) in self.taps[1:]:
            if abs(down) < height and abs(right) < width:
                reached = y[..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
                seen = x[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
                reached.addcmul_(seen, kernel[:, place])
        return y if bias is None else y.add_(bias[:, None, None])


class ByOneDnn(nn.Module):
    """A convolution of clips or volumes that oneDNN computes, channels-last, whatever its kernel."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's answer, up to rounding."""
        own = self.convolution
        if x.ndim != 5 or _for_others() or torch.is_autocast_enabled(x.device.type):
            return own(x)
        if x.shape[2] * x.shape[3] * x.shape[4] == 1:  # a product with a matrix, to which oneDNN only adds work
            return own(x)
        settings = (own.padding, own.stride, own.dilation, own.groups)
        return torch.mkldnn_convolution(channels_last(x), own.weight, own.bias, *settings)  # pyright: ignore


def _for_others() -> bool:
    """Whether the network is being compiled or exported: whoever reads the graph chooses the kernels."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def suit_processor(net: nn.Module) -> int:
    """Replace, in `net` itself, the convolutions of these kinds; returns how many. After `lay_out`."""
    found = 0
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.Conv2d, nn.Conv3d)) and (kind := _kind(child)) is not None:
                setattr(parent, name, kind(child))
                found += 1
    return found


def _kind(module: nn.Conv2d | nn.Conv3d) -> Callable[[Any], nn.Module] | None:
    if type(module) is nn.Conv3d:
        simple = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        known = ONE_DNN and torch.backends.mkldnn.is_available() and module.weight.dtype == torch.float32
        return ByOneDnn if simple and known else None
    if type(module) is not nn.Conv2d:
        return None
    if module.kernel_size == (1, 1) or module.padding_mode != "zeros":
        return None
    if module.groups == 1:
        return InPlanes if module.in_channels >= WIDE and max(module.dilation) == 1 else None
    reach = tuple(d * (k // 2) for d, k in zip(module.dilation, module.kernel_size))
    same = module.padding == reach and module.stride == (1, 1) and all(k % 2 for k in module.kernel_size)
    depthwise = module.groups == module.in_channels == module.out_channels
    return TapByTap if depthwise and same and min(module.dilation) > FAR else None
