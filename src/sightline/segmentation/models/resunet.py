"""ResUNet.

Paper: Road Extraction by Deep Residual U-Net (Zhang, Liu & Wang 2018, arXiv:1711.10684).

The idea: a U-Net whose double convolutions are residual units, norm and ReLU before each convolution. What a unit reads
runs on beside it, so that details and gradients find an easy way, and a quarter of U-Net's parameters is enough.

Letters: B pictures, K classes, C channels, H x W pixels.

The encoder halves by stride, never by pooling; three units down, one in the middle, three up, each joined as
[up, skip].

It has no runnable original: its layers are those of the paper's table 1, and its 3x3 convolutions have the 7.8 M
parameters that the paper counts. Where a unit changes size or channels, what runs beside it is a 1x1 convolution.

Sizes: any; uneven ones are halved rounding up and upsampled to the skip's very size.

Departures: upsampling copies (the paper does not say how it upsamples); the loss is the run's, where the paper takes
the squared error of a sigmoid.

Published, by the paper (not measured here): Massachusetts roads, break-even point 0.9187, a U-Net's 0.9053.

Loads: its own files; the ports people share differ in their layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.conv import he_init
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.resize import resize
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion


class Unit(nn.Module):
    """Two 3x3 convolutions, norm and ReLU before each, and what runs beside them.

    first: of the network, where the first convolution reads the picture itself.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        before = [] if first else [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(
            *before,
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.stride = stride
        self.beside = None
        if stride != 1 or in_channels != out_channels:
            self.beside = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, out, H / stride, W / stride)`."""
        if self.beside is None:
            return self.convs(x) + x
        # every `stride`-th place, then the 1x1: a strided 1x1 of PyTorch 2.15 on fewer than 16 channels laid out
        # channels-last writes past its memory when it learns on a CPU
        places = x if self.stride == 1 else F.max_pool2d(x, 1, self.stride)
        return self.convs(x) + self.beside(places)


class ResUNet(nn.Module):
    """Residual units down, in the middle and up.

    widths: channels of the levels, fine to coarse; the last is the middle's.
    """

    HEAD = ("head.",)

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        *,
        in_channels: int = 3,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        channels = (in_channels, *widths)
        self.down = nn.ModuleList(
            Unit(a, b, stride=2 if i else 1, first=i == 0) for i, (a, b) in enumerate(zip(channels, widths))
        )
        self.up = nn.ModuleList(Unit(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        x = self.normalize(images, sizes)
        skips: list[Tensor] = []
        for unit in self.down:
            x = unit(x)
            skips.append(x)
        for unit, skip in zip(self.up, skips[-2::-1]):
            x = unit(torch.cat([resize(x, skip.shape[-2:], rule="nearest"), skip], dim=1))
        return Scores(self.head(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


def resunet(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 4,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> ResUNet:
    """ResUNet (1 class: 8,216,769 parameters, 7,780,032 of them in 3x3 convolutions).

    width: channels of the first of `depth` levels, doubled at each; the last level is the paper's bridge.
    """
    if depth < 2:
        raise UsageError(f"depth is {depth}; a ResUNet has two levels or more")
    net = ResUNet(
        [width * 2**i for i in range(depth)],
        num_classes,
        in_channels=in_channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net
