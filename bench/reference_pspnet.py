"""PSPNet-50 as its public implementation lays it out, in plain torch.nn: the peer of the bench, where none installs.

Names are those of the public files (`layer0.0`, `layer1.0.conv1`, `ppm.features.0.1`, `cls.4`), so its weights go into
`pspnet50` by the same key map. Inference only: no auxiliary head. Pictures of 8 n + 1 pixels a side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A bottleneck; the 3x3 convolution carries stride and dilation."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def stage(channels: int, width: int, depth: int, stride: int, dilation: int) -> nn.Sequential:
    """`depth` bottlenecks; every one of a dilated stage is dilated."""
    blocks = [Block(channels if i == 0 else 4 * width, width, stride if i == 0 else 1, dilation) for i in range(depth)]
    return nn.Sequential(*blocks)


class Pyramid(nn.Module):
    """Means over 1, 4, 9 and 36 cells, a 1x1 convolution each, beside the map itself."""

    def __init__(self, channels: int, bins: tuple[int, ...]) -> None:
        super().__init__()
        each = channels // len(bins)
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(n),
                nn.Conv2d(channels, each, 1, bias=False),
                nn.BatchNorm2d(each),
                nn.ReLU(inplace=True),
            )
            for n in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        levels = [F.interpolate(level(x), size, mode="bilinear", align_corners=True) for level in self.features]
        return torch.cat([x, *levels], 1)


class PSPNet50(nn.Module):
    """Stem of three convolutions, four stages (the last two dilated), pyramid, classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for before, after, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
            stem += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layer0 = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))
        self.layer1 = stage(128, 64, 3, 1, 1)
        self.layer2 = stage(256, 128, 4, 2, 1)
        self.layer3 = stage(512, 256, 6, 1, 2)
        self.layer4 = stage(1024, 512, 3, 1, 4)
        self.ppm = Pyramid(2048, (1, 2, 3, 6))
        self.cls = nn.Sequential(
            nn.Conv2d(4096, 512, 3, 1, 1, bias=False),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(512, classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.layer0(images)))
        x = self.cls(self.ppm(self.layer4(self.layer3(x))))
        return F.interpolate(x, images.shape[2:], mode="bilinear", align_corners=True)
