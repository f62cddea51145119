"""ResNet with standardised kernels and group norm, as it stands before a vision transformer.

Papers: Big Transfer (BiT, Kolesnikov et al. 2019, arXiv:1912.11370); Weight Standardization (Qiao et al. 2019,
arXiv:1903.10520); used as the hybrid of ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) and by TransUNet.

The idea: group norm and kernels of mean 0 and spread 1 do not care how many pictures a batch has. Three blocks of
bottleneck units keep a sixteenth of the resolution.

Here, as in TransUNet's release, units are normed after their convolutions (not before, as BiT itself); the shortcut's
norm has a group a channel; and the pool after the root does not pad: 112 places become 55. Those continue as they
are, while the map that is handed out is filled up with zeros at the bottom and right to 56.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.nn.conv import StandardizedConv2d, he_init


class Unit(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, each with its group norm, and the shortcut around them."""

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = StandardizedConv2d(in_channels, width, 1, bias=False)
        self.gn1 = group_norm(width)
        self.conv2 = StandardizedConv2d(width, width, 3, stride, 1, bias=False)
        self.gn2 = group_norm(width)
        self.conv3 = StandardizedConv2d(width, out, 1, bias=False)
        self.gn3 = group_norm(out)
        self.downsample = self.gn_proj = None
        if stride != 1 or in_channels != out:
            self.downsample = StandardizedConv2d(in_channels, out, 1, stride, bias=False)
            self.gn_proj = nn.GroupNorm(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 4 * width, H / stride, W / stride)`."""
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        y = self.gn3(self.conv3(y))
        if self.downsample is not None and self.gn_proj is not None:
            x = self.gn_proj(self.downsample(x))
        return F.relu(x + y)


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, or as many as divide the channels; epsilon 1e-6 as Google's."""
    return nn.GroupNorm(next(g for g in range(min(32, channels), 0, -1) if channels % g == 0), channels, eps=1e-6)


class BiT(nn.Module):
    """Root and blocks. Sides of the picture are multiples of 16.

    depths: units of each block. width: channels of the root and of the first block's units (before expansion).
    Stages: `root` (stride 2), `block1`, `block2`, ... (4, 8, ...).
    """

    def __init__(self, depths: Sequence[int] = (3, 4, 9), *, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.conv = StandardizedConv2d(in_channels, width, 7, 2, 3, bias=False)
        self.gn = group_norm(width)
        stages, channels = [Stage("root", width, 2)], width
        for i, depth in enumerate(depths):
            out = width * 2**i
            units = [Unit(channels if j == 0 else 4 * out, out, stride=2 if i and j == 0 else 1) for j in range(depth)]
            self.add_module(f"block{i + 1}", nn.Sequential(*units))
            channels = 4 * out
            stages.append(Stage(f"block{i + 1}", channels, 4 * 2**i))
        self.stages = tuple(stages)
        he_init(self, mode="fan_out")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps `root` (before the pool), `block1`, `block2`, ..."""
        maps = {"root": F.relu(self.gn(self.conv(images)))}
        x = F.max_pool2d(maps["root"], 3, 2)
        for i, stage in enumerate(self.stages[1:]):
            x = self.get_submodule(stage.name)(x)
            maps[stage.name] = F.pad(x, (0, 1, 0, 1)) if i == 0 else x
        return maps
