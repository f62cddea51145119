"""ResNet and its relatives.

Papers: Deep Residual Learning (He et al. 2015, arXiv:1512.03385); Aggregated Residual Transformations (ResNeXt, Xie
et al. 2016, arXiv:1611.05431); Wide Residual Networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146).

The idea: each unit learns what to add to its input, so that a hundred layers train like ten. A stem and four stages
halve the size five times; the deep forms squeeze, filter and expand inside a unit (the bottleneck). ResNeXt splits the
filter into groups, the wide form doubles its channels.

Where implementations differ, and the builder's values for it (defaults: torchvision's):

- where a bottleneck strides: its `"3x3"` (torchvision, "v1.5") or its first `"1x1"` (the paper, Caffe, detectron2's
  own weights);
- dilation in place of stride: `output_stride`, and whether the first dilated unit keeps the dilation of the stage
  before it (`contract=True`: torchvision, mmsegmentation, VainF) or takes the new one (semseg, smp, jfzhang95);
- the stem: one 7x7, or three 3x3 of the widths in `stem` ((32, 32, 64): V1c; (64, 64, 128): semseg).

Fresh weights: He normal over the fan-out, as torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.errors import UsageError
from sightline.nn.conv import Norm, he_init

StrideIn = Literal["3x3", "1x1"]


class BasicUnit(nn.Module):
    """Two 3x3 convolutions and the shortcut around them (ResNet-18 and -34)."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        width_per_group: int = 64,
        stride_in: StrideIn = "3x3",
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if groups != 1 or width_per_group != 64:
            raise UsageError("groups and width_per_group are for bottleneck units; take ResNet-50 or deeper")
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, dilation, dilation=dilation, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, width, H / stride, W / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y.add_(x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (in groups), 1x1 up to four times the width, and the shortcut around them."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        width_per_group: int = 64,
        stride_in: StrideIn = "3x3",
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        inner = width * width_per_group // 64 * groups
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, first, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, dilation, dilation=dilation, groups=groups, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, width * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 4 * width, H / stride, W / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y.add_(x if self.downsample is None else self.downsample(x)))


def shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """None where the input can be added as it is, else the 1x1 projection of the paper (option B)."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))


class ResNet(nn.Module):
    """Stem and stages of a residual network, without the classifier.

    unit: `BasicUnit` or `Bottleneck`. depths: units of each stage, as many stages as there are numbers.
    width: channels of the first stage (before expansion); each further stage has twice as many.
    output_stride: 8, 16 or 32; stages that would go beyond it dilate instead.
    multi_grid: factors on the dilation of the last stage's units, in turn (DeepLabv3, section 3.2.1: 1, 2, 4).
    Stages: `stem`, `layer1`, ...
    """

    def __init__(
        self,
        unit: type[BasicUnit] | type[Bottleneck],
        depths: Sequence[int],
        *,
        in_channels: int = 3,
        width: int = 64,
        groups: int = 1,
        width_per_group: int = 64,
        stride_in: StrideIn = "3x3",
        output_stride: int = 32,
        contract: bool = True,
        multi_grid: Sequence[int] = (1,),
        stem: Sequence[int] = (),
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if stride_in not in ("3x3", "1x1"):
            raise UsageError(f"stride_in is '{stride_in}', expected '3x3' (torchvision) or '1x1' (Caffe, detectron2)")
        if output_stride not in (8, 16, 32):
            raise UsageError(f"output_stride is {output_stride}; a ResNet can have 8, 16 or 32")
        channels = stem[-1] if stem else width
        self.conv1 = deep_stem(in_channels, stem, norm) if stem else nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)

        stages = [Stage("stem", channels, 2)]
        reached, dilation = 4, 1
        for i, depth in enumerate(depths):
            stride, before = 1 if i == 0 else 2, dilation
            if reached * stride > output_stride:
                dilation, stride = dilation * stride, 1
            reached *= stride
            units = []
            for j in range(depth):
                grid = multi_grid[j % len(multi_grid)] if i == len(depths) - 1 else 1
                units.append(
                    unit(
                        channels,
                        width * 2**i,
                        stride=stride if j == 0 else 1,
                        dilation=grid * (before if j == 0 and contract else dilation),
                        groups=groups,
                        width_per_group=width_per_group,
                        stride_in=stride_in,
                        norm=norm,
                    )
                )
                channels = width * 2**i * unit.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*units))
            stages.append(Stage(f"layer{i + 1}", channels, reached))
        self.stages = tuple(stages)
        he_init(self, mode="fan_out")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps `stem` (before the pool), `layer1`, `layer2`, ..."""
        maps = {"stem": self.relu(self.bn1(self.conv1(images)))}
        x = self.maxpool(maps["stem"])
        for stage in self.stages[1:]:
            x = self.get_submodule(stage.name)(x)
            maps[stage.name] = x
        return maps


def deep_stem(in_channels: int, widths: Sequence[int], norm: Norm) -> nn.Sequential:
    """Three 3x3 convolutions in place of the 7x7, the first of stride 2; norm and ReLU of the last are the caller's."""
    a, b, c = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, a, 3, 2, 1, bias=False),
        norm(a),
        nn.ReLU(inplace=True),
        nn.Conv2d(a, b, 3, 1, 1, bias=False),
        norm(b),
        nn.ReLU(inplace=True),
        nn.Conv2d(b, c, 3, 1, 1, bias=False),
    )
