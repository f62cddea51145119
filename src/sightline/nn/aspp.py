"""Atrous spatial pyramid pooling: the same map seen through holes of several sizes, and as one mean.

Paper: Rethinking Atrous Convolution for Semantic Image Segmentation (Chen et al. 2017, arXiv:1706.05587, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import conv_norm_act

Atrous = Callable[[int, int, int], nn.Module]
"""Makes a 3x3 branch of (in channels, out channels, rate)."""


class GlobalMean(nn.Module):
    """`(B, C, H, W)` to the mean of each channel, `(B, C, 1, 1)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean over height and width; exports with any size, unlike adaptive pooling."""
        return x.mean((2, 3), keepdim=True)


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of `(B, C, 1, 1)`; with one picture a batch the running statistics stand in for the batch's."""

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        if self.training and input.shape[0] == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def atrous_conv(in_channels: int, out_channels: int, rate: int) -> nn.Module:
    """A full 3x3 convolution with holes, norm, ReLU."""
    return conv_norm_act(in_channels, out_channels, dilation=rate)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1, a 3x3 for each of `rates`, the picture's mean; joined, projected.

    atrous: makes the 3x3 branches.
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int],
        *,
        channels: int = 256,
        dropout: float = 0.5,
        atrous: Atrous = atrous_conv,
    ) -> None:
        super().__init__()
        pooled = nn.Sequential(
            GlobalMean(), nn.Conv2d(in_channels, channels, 1, bias=False), PooledNorm(channels), nn.ReLU(inplace=True)
        )
        self.convs = nn.ModuleList(
            [
                conv_norm_act(in_channels, channels, 1),
                *(atrous(in_channels, channels, rate) for rate in rates),
                pooled,
            ]
        )
        self.project = nn.Sequential(*conv_norm_act((len(rates) + 2) * channels, channels, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, channels, H, W)`."""
        seen = [conv(x) for conv in self.convs]
        # (B, channels, 1, 1) everywhere; an expanded view has no layout, and the joined map would forget channels-last
        seen[-1] = torch.zeros_like(seen[0]).add_(seen[-1])
        return self.project(torch.cat(seen, dim=1))
