"""MobileNetV3.

Paper: Searching for MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), tables 1 and 2.

The idea: a unit widens its input by 1x1, filters each channel alone, weighs the channels by what the whole map shows
(squeeze and excite), and narrows again. Which units, how wide, was searched for with a phone in the loop; the swish
was made cheap (hard swish).

Departures: the classifier is left out. Names, batch norm (eps 0.001, momentum 0.01), the squeezed width (a quarter of
the expanded one, rounded to eights) and the fresh weights (He over the fan-out) are torchvision's. Dilation in place of
stride takes the new dilation from the first unit on, as torchvision does here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.errors import UsageError
from sightline.nn.conv import Norm, conv_norm_act, he_init

NORM: Norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class Row(NamedTuple):
    """A line of the paper's tables."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    act: Literal["relu", "hardswish"]
    stride: int


LARGE = (
    Row(3, 16, 16, False, "relu", 1),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu", 1),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", 1),
    Row(5, 120, 40, True, "relu", 1),
    Row(3, 240, 80, False, "hardswish", 2),
    Row(3, 200, 80, False, "hardswish", 1),
    Row(3, 184, 80, False, "hardswish", 1),
    Row(3, 184, 80, False, "hardswish", 1),
    Row(3, 480, 112, True, "hardswish", 1),
    Row(3, 672, 112, True, "hardswish", 1),
    Row(5, 672, 160, True, "hardswish", 2),
    Row(5, 960, 160, True, "hardswish", 1),
    Row(5, 960, 160, True, "hardswish", 1),
)
SMALL = (
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu", 1),
    Row(5, 96, 40, True, "hardswish", 2),
    Row(5, 240, 40, True, "hardswish", 1),
    Row(5, 240, 40, True, "hardswish", 1),
    Row(5, 120, 48, True, "hardswish", 1),
    Row(5, 144, 48, True, "hardswish", 1),
    Row(5, 288, 96, True, "hardswish", 2),
    Row(5, 576, 96, True, "hardswish", 1),
    Row(5, 576, 96, True, "hardswish", 1),
)


def in_eights(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8, and not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """Each channel times a weight between 0 and 1, found from the mean of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        weights = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * self.gate(self.fc2(self.relu(self.fc1(weights))))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, weigh, narrow; the input is added where shapes allow."""

    def __init__(self, in_channels: int, row: Row, *, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        act = nn.ReLU if row.act == "relu" else nn.Hardswish
        parts: list[nn.Module] = []
        if row.expanded != in_channels:
            parts.append(conv_norm_act(in_channels, row.expanded, 1, norm=norm, act=act))
        parts.append(
            conv_norm_act(
                row.expanded,
                row.expanded,
                row.kernel,
                stride=stride,
                dilation=dilation,
                groups=row.expanded,
                norm=norm,
                act=act,
            )
        )
        if row.squeeze:
            parts.append(SqueezeExcite(row.expanded, in_eights(row.expanded / 4)))
        parts.append(conv_norm_act(row.expanded, row.out, 1, norm=norm, act=None))
        self.block = nn.Sequential(*parts)
        self.residual = row.stride == 1 and in_channels == row.out

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, out, H / stride, W / stride)`."""
        y = self.block(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """The units of `rows` between a strided 3x3 and a last 1x1, without the classifier.

    width: factor on all channels. output_stride: 8, 16 or 32. Stages: `features.N`, the map of that unit: the first
    and the last of every stride (FPNs of torchvision and its auxiliary head read the first ones).
    """

    def __init__(
        self,
        rows: Sequence[Row] = LARGE,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        output_stride: int = 32,
        norm: Norm = NORM,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise UsageError(f"output_stride is {output_stride}; a MobileNetV3 can have 8, 16 or 32")
        channels = in_eights(16 * width)
        layers: list[nn.Module] = [conv_norm_act(in_channels, channels, stride=2, norm=norm, act=nn.Hardswish)]
        maps = [Stage("features.0", channels, 2)]
        reached, dilation = 2, 1
        for row in rows:
            row = row._replace(expanded=in_eights(row.expanded * width), out=in_eights(row.out * width))
            stride = row.stride
            if reached * stride > output_stride:
                dilation, stride = dilation * stride, 1
            reached *= stride
            layers.append(InvertedResidual(channels, row, stride=stride, dilation=dilation, norm=norm))
            channels = row.out
            maps.append(Stage(f"features.{len(maps)}", channels, reached))
        layers.append(conv_norm_act(channels, 6 * channels, 1, norm=norm, act=nn.Hardswish))
        maps.append(Stage(f"features.{len(maps)}", 6 * channels, reached))
        starts = {i + 1 for i, row in enumerate(rows) if row.stride > 1}
        ends = {i - 1 for i in starts} | {0, len(maps) - 1}
        self.features = nn.Sequential(*layers)
        self.stages = tuple(stage for i, stage in enumerate(maps) if i in starts | ends)
        he_init(self, mode="fan_out")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps of `stages`."""
        maps, x = {}, images
        wanted = {stage.name for stage in self.stages}
        for i, layer in enumerate(self.features):
            x = layer(x)
            if f"features.{i}" in wanted:
                maps[f"features.{i}"] = x
        return maps
