"""PSPNet.

Paper: Pyramid Scene Parsing Network (Zhao, Shi, Qi, Wang & Jia 2016, arXiv:1612.01105).

The idea: what a place is depends on the scene around it. A dilated ResNet keeps an eighth of the resolution; its last
map is averaged over the whole picture and over 2 x 2, 3 x 3 and 6 x 6 cells, and these means stand beside every place
when it is classified. In training a second head reads the stage before.

Letters: B pictures, K classes, C channels, H x W pixels, N bins on a side.

- `pspnet`, the one to start with: any backbone, so that ImageNet weights exist for it; output stride 16, a quarter of
  the positions of 8 in the deep stages, which a laptop feels more than the score does (`output_stride=8` is the
  paper's); pixels are resized by their centres, so every size is equally good.
- `pspnet50`, `pspnet101`: the author's PyTorch release. A stem of three 3x3 convolutions, every unit of layer3 dilated
  by 2 and of layer4 by 4, the first one too; corners aligned.

Sizes: with corners aligned, place i of the last map stands on pixel 8 i, which asks for 8 n + 1 pixels a side; those
are answered as published. Any other picture is padded with the mean at the bottom and right to the next such size and
its scores are cropped, as the author's test does for crops at the border.

Departures: with one picture a batch, the norm after the whole picture's mean uses its running statistics in training
too. The author's rotation and blur, and ten times the learning rate for the heads, belong to a recipe.

Published, by the release (single scale mIoU, not measured here): ADE20K 41.9 (50) and 43.1 (101), VOC 77.1 and 79.1,
Cityscapes 77.3 and 78.6.

Loads: hszhao/semseg (`semseg`). Not smp's network of this name, which stops at a third stage and has no dilation, nor
mmsegmentation's, whose stem is narrower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import Backbone, stage_named
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.errors import UsageError
from sightline.nn.aspp import PooledNorm
from sightline.nn.conv import conv_norm_act
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.bins import average_bins
from sightline.ops.resize import Rule, pad_to_multiple, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


class Bins(nn.Module):
    """`(B, C, H, W)` to means over `bins` x `bins` cells, `(B, C, N, N)`."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Exports with any size."""
        return average_bins(x, self.bins)


class PyramidPooling(nn.Module):
    """The map itself, and its means over cells of each size, narrowed and resized: twice the channels."""

    def __init__(self, in_channels: int, bins: Sequence[int] = (1, 2, 3, 6), *, align_corners: bool = True) -> None:
        super().__init__()
        width = in_channels // len(bins)
        self.channels = in_channels + width * len(bins)
        self.rule: Rule = "align_corners" if align_corners else "half_pixel"
        self.features = nn.ModuleList(
            nn.Sequential(Bins(n), *conv_norm_act(in_channels, width, 1, norm=PooledNorm if n == 1 else nn.BatchNorm2d))
            for n in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 2 C, H, W)`."""
        size = x.shape[-2:]
        return torch.cat([x, *(resize(feature(x), size, rule=self.rule) for feature in self.features)], dim=1)


class PyramidConvolution(nn.Module):
    """A 3x3 convolution over a pyramid, for inference: what it sees of the coarse means is computed at their own size.

    Half of what PSPNet's widest convolution reads are a few means drawn out over the whole map. Drawing out is linear,
    so the kernel may come first: nine numbers a mean and channel, laid on the map by two small matrix products.
    """

    def __init__(self, ppm: PyramidPooling, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.ppm = ppm
        parts = [ppm.channels // 2] + [ppm.channels // 2 // len(ppm.features)] * len(ppm.features)
        own, *drawn = convolution.weight.detach().split(parts, dim=1)
        self.own = nn.Conv2d(parts[0], convolution.out_channels, 3, padding=1, device="meta")
        self.own.weight, self.own.bias = nn.Parameter(own.contiguous()), convolution.bias
        self.drawn = nn.ParameterList(kernel.permute(0, 2, 3, 1).reshape(-1, parts[1], 1, 1) for kernel in drawn)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to what the convolution answers for the pyramid of it, up to rounding."""
        (height, width), rows, columns = x.shape[-2:], [], []
        for feature, kernel in zip(self.ppm.features, self.drawn):
            means = feature(x)
            bins = means.shape[-1]
            taps = F.conv2d(means, kernel).unflatten(1, (-1, 3, 3)).transpose(3, 4)  # (B, O, 3, N, 3, N)
            across = taps.flatten(4) @ self._places(bins, width, x)  # each row of means over the width of the map
            columns.append(across.flatten(2, 3))
            rows.append(self._places(bins, height, x))
        return self.own(x) + torch.cat(rows).T @ torch.cat(columns, dim=2)

    def _places(self, bins: int, length: int, like: Tensor) -> Tensor:
        """`(3 bins, length)`: how much of each mean stands before, at and behind each pixel; nothing beyond the map."""
        weights = resize(torch.eye(bins).to(like)[None], [length], rule=self.ppm.rule)[0]
        weights = F.pad(weights, (1, 1))
        return torch.cat([weights[:, tap : tap + length] for tap in range(3)])


def score_head(in_channels: int, channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """A 3x3 convolution, dropout of whole channels, a 1x1 convolution to the classes."""
    return nn.Sequential(
        *conv_norm_act(in_channels, channels), nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)
    )


# Network ---------------------------------------------------------------------------------------------------------


class PSPNet(nn.Module):
    """Pyramid pooling on the last stage of a backbone, scored; at will a second head on the stage `aux`.

    ppm: the pyramid, whose rule also resizes the scores. channels: of the head before the classifier. aux: a stage's
    name, or None.
    """

    HEAD = ("cls.4.", "aux.4.")
    OPTIONAL = ("aux.",)

    def __init__(
        self,
        backbone: Backbone,
        ppm: PyramidPooling,
        num_classes: int,
        *,
        channels: int = 512,
        dropout: float = 0.1,
        aux: str | None = None,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.ppm = ppm
        self.rule: Rule = ppm.rule
        self.cls = score_head(ppm.channels, channels, num_classes, dropout)
        self.aux_stage = aux
        self.aux = None
        if aux is not None:
            seen = stage_named(backbone.stages, aux).channels
            self.aux = score_head(seen, max(seen // 4, 1), num_classes, dropout)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        x, last = self.normalize(images, sizes), self.backbone.stages[-1]
        aligned = self.rule == "align_corners"
        if aligned:
            x, _ = pad_to_multiple(x, last.stride, plus=1)
        maps = self.backbone(x)
        coarse = [self.cls(self.ppm(maps[last.name]))]
        if self.aux is not None and self.aux_stage is not None:
            coarse.append(self.aux(maps[self.aux_stage]))
        scores = [resize(score, x.shape[-2:], rule=self.rule) for score in coarse]
        if aligned:
            scores = [top_left(score, images.shape[-2:]) for score in scores]
        return Scores(scores[0], tuple(scores[1:]))

    def shorten(self) -> None:
        """For inference: the head's convolution takes the short way through the pyramid."""
        self.cls[0], self.ppm = PyramidConvolution(self.ppm, self.cls[0]), nn.Identity()  # pyright: ignore[reportArgumentType]

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms; the auxiliary head's, times 0.4 as published, are called `aux_...`."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def pspnet(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    output_stride: int = 16,
    bins: Sequence[int] = (1, 2, 3, 6),
    channels: int = 512,
    dropout: float = 0.1,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> PSPNet:
    """PSPNet on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). output_stride: 8, 16, or 32 for backbones that cannot dilate. bins: cells on a side of each level of the
    pyramid. channels: of the head. aux: a second head on the stage before the last.
    """
    net = build_backbone(backbone, in_channels=in_channels, output_stride=output_stride, weights=backbone_weights)
    return _pspnet(net, num_classes, bins, channels, dropout, aux, False, in_channels, mean, std)


def pspnet50(
    num_classes: int = 150,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    bins: Sequence[int] = (1, 2, 3, 6),
    channels: int = 512,
    dropout: float = 0.1,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> PSPNet:
    """The author's PSPNet-50 (150 classes: 49,180,908 parameters, 46,782,550 without the auxiliary head).

    depths, width: units of the four stages, channels of the first (before expansion). channels: of the head.
    """
    stem = (width, width, 2 * width)
    net = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, output_stride=8, contract=False, stem=stem)
    return _pspnet(net, num_classes, bins, channels, dropout, aux, True, in_channels, mean, std)


def pspnet101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    bins: Sequence[int] = (1, 2, 3, 6),
    channels: int = 512,
    dropout: float = 0.1,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> PSPNet:
    """The author's PSPNet-101 (21 classes: 68,073,706 parameters, 65,708,501 without the auxiliary head)."""
    return pspnet50(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        bins=bins,
        channels=channels,
        dropout=dropout,
        aux=aux,
        mean=mean,
        std=std,
    )


def _pspnet(
    backbone: Backbone,
    num_classes: int,
    bins: Sequence[int],
    channels: int,
    dropout: float,
    aux: bool,
    align_corners: bool,
    in_channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> PSPNet:
    seen = backbone.stages[-1].channels
    if not 1 <= len(bins) <= seen or min(bins) < 1:
        raise UsageError(f"bins are {list(bins)}, expected one or more numbers from 1 on, such as 1, 2, 3, 6")
    return PSPNet(
        backbone,
        PyramidPooling(seen, bins, align_corners=align_corners),
        num_classes,
        channels=channels,
        dropout=dropout,
        aux=backbone.stages[-2].name if aux else None,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "semseg",
        (
            ("layer0.7.{leaf}", "backbone.bn1.{leaf}"),
            ("layer0.{i}.{leaf}", "backbone.conv1.{i}.{leaf}"),
            ("layer{i}.{rest}", "backbone.layer{i}.{rest}"),
            ("ppm.{rest}", "ppm.{rest}"),
            ("cls.{rest}", "cls.{rest}"),
            ("aux.{rest}", "aux.{rest}"),
        ),
        prefix="module.",
        container="state_dict",
        words="hszhao/semseg: PSPNet with the stem of three convolutions",
    ),
)
