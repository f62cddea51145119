"""Xception as DeepLab changed it.

Papers: Xception: Deep Learning with Depthwise Separable Convolutions (Chollet 2016, arXiv:1610.02357); the aligned form
of Encoder-Decoder with Atrous Separable Convolution (Chen et al. 2018, arXiv:1802.02611, section 3.2).

The idea: a filter over space a channel, then a mix of channels at each place, in place of both at once. Residual
modules of three such convolutions: an entry flow that shrinks, a middle flow that repeats, an exit flow that widens.
DeepLab's form has no pooling: a module shrinks by the stride of its last separable convolution.

A ReLU stands before each separable convolution and none after, except in the last module, where norm and ReLU follow
each part and nothing goes around. Every convolution of stride 2 pads one pixel on both sides, so that place i lies on
pixel `stride * i`. Batch norm has an epsilon of 0.001; its momentum is PyTorch's own, where TensorFlow's release keeps
0.9997 of the old value a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.errors import UsageError
from sightline.nn.conv import conv_norm_act, he_init, separable_conv

WIDTHS = (32, 64, 128, 256, 728, 1024, 1536, 2048)
NORM = partial(nn.BatchNorm2d, eps=0.001)


class Residual(nn.Module):
    """Three separable convolutions with a ReLU before each, and what goes around them.

    stride: of the third. The shortcut is the input itself where shapes allow and `project` does not ask for a 1x1.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], *, stride: int = 1, dilation: int = 1, project: bool = True
    ) -> None:
        super().__init__()
        channels = (in_channels, *widths)
        self.convs = nn.ModuleList(
            separable_conv(
                channels[i],
                channels[i + 1],
                stride=stride if i == 2 else 1,
                dilation=dilation,
                norm=NORM,
                act=None,
            )
            for i in range(3)
        )
        self.shortcut = (
            conv_norm_act(in_channels, widths[-1], 1, stride=stride, norm=NORM, act=None) if project else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, in, H, W)` to the sum, `(B, out, H / stride, W / stride)`, and the second convolution's map."""
        first = self.convs[0](F.relu(x))
        second = self.convs[1](F.relu(first))
        around = x if self.shortcut is None else self.shortcut(x)
        return self.convs[2](F.relu(second)) + around, second


class Xception(nn.Module):
    """Xception without its classifier.

    widths: channels of the two first convolutions, of the three entry modules (the third's is the middle flow's), then
    of the exit flow: the first module, and the two widths of the last. middle: modules of the middle flow.
    output_stride: 8, 16 or 32; where the stride stops growing, modules from the next on dilate instead.
    Stages: `stem`, `entry1`, `low` (inside the second entry module, before its stride: what DeepLabv3+ takes),
    `entry2`, `middle`, `exit`.
    """

    def __init__(
        self, *, in_channels: int = 3, widths: Sequence[int] = WIDTHS, middle: int = 16, output_stride: int = 32
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise UsageError(f"output_stride is {output_stride}; Xception can have 8, 16 or 32")
        if len(widths) != len(WIDTHS):
            raise UsageError(f"widths has {len(widths)} numbers; Xception has {len(WIDTHS)} of them")
        first, second, a, b, c, d, e, f = widths
        third, last = (1, 2) if output_stride == 8 else (2, 1), 2 if output_stride == 32 else 1
        before = third[1]  # dilation from the middle flow on
        self.conv1 = conv_norm_act(in_channels, first, stride=2, norm=NORM)
        self.conv2 = conv_norm_act(first, second, norm=NORM)
        self.entry = nn.ModuleList(
            (
                Residual(second, (a, a, a), stride=2),
                Residual(a, (b, b, b), stride=2),
                Residual(b, (c, c, c), stride=third[0]),
            )
        )
        self.middle = nn.ModuleList(Residual(c, (c, c, c), dilation=before, project=False) for _ in range(middle))
        after = before if last == 2 else 2 * before
        self.exit = nn.ModuleList(
            (
                Residual(c, (c, d, d), stride=last, dilation=before),
                nn.Sequential(
                    separable_conv(d, e, dilation=after, norm=NORM),
                    separable_conv(e, e, dilation=after, norm=NORM),
                    separable_conv(e, f, dilation=after, norm=NORM),
                ),
            )
        )
        deep = 8 * third[0]
        self.stages = (
            Stage("stem", second, 2),
            Stage("entry1", a, 4),
            Stage("low", b, 4),
            Stage("entry2", b, 8),
            Stage("middle", c, deep),
            Stage("exit", f, deep * last),
        )
        he_init(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps of `stages`."""
        maps = {"stem": self.conv2(self.conv1(images))}
        maps["entry1"], _ = self.entry[0](maps["stem"])
        maps["entry2"], maps["low"] = self.entry[1](maps["entry1"])
        x, _ = self.entry[2](maps["entry2"])
        for unit in self.middle:
            x, _ = unit(x)
        maps["middle"] = x
        x, _ = self.exit[0](x)
        maps["exit"] = self.exit[1](x)
        return maps
