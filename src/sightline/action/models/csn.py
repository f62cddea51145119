"""CSN, channel-separated networks.

Paper: Video Classification with Channel-Separated Convolutional Networks (Tran, Wang, Feiszli & Torresani 2019,
arXiv:1904.02811).

The idea: 3x3x3 filters need not mix channels. In a bottleneck of 3-D convolutions the 1x1x1 ones mix channels and the
3x3x3 one becomes depthwise: interaction-reduced (ir-CSN), or with one more 1x1x1 in front of it, without a ReLU, so
that no mixing is lost (interaction-preserved, ip-CSN).

- `csn_ip_152`, `csn_ir_152`: the authors' networks (VMZ); `csn_ip_50`, `csn_ir_50`: the same with fewer blocks.

Batch norm eps 1e-3; stages two to four halve time as well as space. Clips of any length and size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.action.models.r3d import KEY_MAPS as _VIDEO_RESNET
from sightline.action.models.r3d import KINETICS_MEAN, KINETICS_STD, VideoResNet, vmz_norm
from sightline.nn.normalize import Normalize, for_channels

# Parts -----------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """1x1x1 down, depthwise 3x3x3 (after another 1x1x1 when `preserved`), 1x1x1 up, and the shortcut around them."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int, preserved: bool) -> None:
        super().__init__()
        out = width * self.expansion
        depthwise = nn.Conv3d(width, width, 3, stride, 1, groups=width, bias=False)
        filters: nn.Module = depthwise
        if preserved:
            filters = nn.Sequential(nn.Conv3d(width, width, 1, bias=False), vmz_norm(width), depthwise)
        self.conv1 = nn.Sequential(nn.Conv3d(in_channels, width, 1, bias=False), vmz_norm(width), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(filters, vmz_norm(width), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(nn.Conv3d(width, out, 1, bias=False), vmz_norm(out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out:
            self.downsample = nn.Sequential(nn.Conv3d(in_channels, out, 1, stride, bias=False), vmz_norm(out))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, 4 * width, T', H', W')`."""
        y = self.conv3(self.conv2(self.conv1(x)))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


# Builders --------------------------------------------------------------------------------------------------------


def csn_ip_152(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 8, 36, 3),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """ip-CSN-152. depths: blocks of the stages. width: channels of the first inside a block, doubled by each stage."""
    return _csn(True, num_classes, in_channels, depths, width, dropout, mean, std)


def csn_ir_152(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 8, 36, 3),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """ir-CSN-152."""
    return _csn(False, num_classes, in_channels, depths, width, dropout, mean, std)


def csn_ip_50(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """ip-CSN with 50 layers."""
    return _csn(True, num_classes, in_channels, depths, width, dropout, mean, std)


def csn_ir_50(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """ir-CSN with 50 layers."""
    return _csn(False, num_classes, in_channels, depths, width, dropout, mean, std)


def _csn(
    preserved: bool,
    num_classes: int,
    in_channels: int,
    depths: Sequence[int],
    width: int,
    dropout: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> VideoResNet:
    stem = nn.Sequential(
        nn.Conv3d(in_channels, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
        vmz_norm(width),
        nn.ReLU(inplace=True),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    )
    layers, channels = [], width
    for i, depth in enumerate(depths):
        blocks = []
        for j in range(depth):
            blocks.append(Bottleneck(channels, width * 2**i, stride=2 if i and j == 0 else 1, preserved=preserved))
            channels = width * 2**i * Bottleneck.expansion
        layers.append(nn.Sequential(*blocks))
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return VideoResNet(stem, layers, channels, num_classes, dropout=dropout, normalize=normalize)


KEY_MAPS = _VIDEO_RESNET
