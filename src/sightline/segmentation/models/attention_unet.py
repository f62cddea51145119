"""Attention U-Net.

Paper: Attention U-Net: Learning Where to Look for the Pancreas (Oktay et al. 2018, arXiv:1804.03999).

The idea: a U-Net's skips carry everything, the irrelevant too. A gate on a skip compares each of its places with what
the coarser map knows, and multiplies the skip by a number between 0 and 1: what is not part of the organ fades before
it is joined. Nobody has to say where the organ is.

Letters: B items, K classes, C channels, H x W pixels, D x H x W voxels.

- `attention_unet`, the one to start with, the form most people use: 2-D, a gate on all four skips, batch norm in the
  gates, nearest upsampling before a 3x3 convolution, joined as [skip, up].
- `attention_unet_3d`, the authors': volumes `(B, C, D, H, W)`; two parallel gates on each of the three coarser skips,
  asked by the coarser map before it is upsampled; the scores of all four decoder levels are resized, put side by side
  and mixed by a last convolution. `attention_unet_3d_single`: one gate a skip.

Sizes: the originals take multiples of 16. In 2-D uneven sizes are pooled rounding up and upsampled to the skip's very
size; volumes are padded with zeros at the end of each axis to the next multiple of 16 and their scores cropped.

Departures: the authors wrote for a PyTorch that upsampled with corners aligned; today's does not, and neither does this
form unless `align_corners=True`. Their loss is a soft Dice that scores an empty, absent class as 2; ours is not.

Traits: `volume`, the 3-D forms take volumes.

Published, by the paper (not measured here): CT-150 pancreas Dice 84.0, a U-Net's 81.4.

Loads: LeeJunHyun/Image_Segmentation (`leejunhyun`), ozan-oktay/Attention-Gated-Networks (`oktay`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.conv import he_init
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.resize import Rule, pad_to_multiple, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap

# Parts of both forms ---------------------------------------------------------------------------------------------

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_relu(in_channels: int, out_channels: int, kernel: int, axes: int) -> nn.Sequential:
    """A convolution with a bias, batch norm, ReLU, in two or three axes; the size stays."""
    return nn.Sequential(
        CONV[axes](in_channels, out_channels, kernel, padding=kernel // 2),
        NORM[axes](out_channels),
        nn.ReLU(inplace=True),
    )


def double_conv(in_channels: int, out_channels: int, axes: int) -> nn.Sequential:
    """Two convolutions of 3 a side."""
    return nn.Sequential(conv_relu(in_channels, out_channels, 3, axes), conv_relu(out_channels, out_channels, 3, axes))


# The 2-D form ----------------------------------------------------------------------------------------------------


class Gate(nn.Module):
    """skip * sigmoid(psi(ReLU(W_g g + W_x skip))), every convolution 1x1 and normed; g has the skip's size."""

    def __init__(self, gating: int, skip: int, between: int) -> None:
        super().__init__()
        self.W_g = nn.Sequential(nn.Conv2d(gating, between, 1), nn.BatchNorm2d(between))
        self.W_x = nn.Sequential(nn.Conv2d(skip, between, 1), nn.BatchNorm2d(between))
        self.psi = nn.Sequential(nn.Conv2d(between, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, g: Tensor, skip: Tensor) -> Tensor:
        """`(B, gating, H, W)` and `(B, skip, H, W)` to the weighted skip."""
        return skip * self.psi(torch.relu(self.W_g(g) + self.W_x(skip)))


class AttentionUNet(nn.Module):
    """U-Net with a gate on every skip.

    widths: channels of the levels, fine to coarse.
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
        self.levels = nn.ModuleList(double_conv(a, b, 2) for a, b in zip((in_channels, *widths), widths))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))  # (deep, skip), coarse to fine
        self.ups = nn.ModuleList(conv_relu(deep, skip, 3, 2) for deep, skip in pairs)
        self.gates = nn.ModuleList(Gate(skip, skip, max(skip // 2, 1)) for _, skip in pairs)
        self.joins = nn.ModuleList(double_conv(2 * skip, skip, 2) for _, skip in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        x = self.normalize(images, sizes)
        skips: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else self.pool(x))
            skips.append(x)
        for up, gate, join, skip in zip(self.ups, self.gates, self.joins, skips[-2::-1]):
            g = up(resize(x, skip.shape[-2:], rule="nearest"))
            x = join(torch.cat([gate(g, skip), g], dim=1))
        return Scores(self.head(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# The authors' 3-D form -------------------------------------------------------------------------------------------


class GridGate(nn.Module):
    """The authors' gate: the skip, seen at half its size, is compared with a coarser map.

    skip * resized(sigmoid(psi(ReLU(theta(skip) + resized(phi(g)))))), then a 1x1x1 convolution with its norm.
    """

    def __init__(self, skip: int, gating: int, rule: Rule) -> None:
        super().__init__()
        self.rule: Rule = rule
        self.W = nn.Sequential(nn.Conv3d(skip, skip, 1), nn.BatchNorm3d(skip))
        self.theta = nn.Conv3d(skip, skip, 2, 2, bias=False)
        self.phi = nn.Conv3d(gating, skip, 1)
        self.psi = nn.Conv3d(skip, 1, 1)

    def forward(self, skip: Tensor, g: Tensor) -> Tensor:
        """`(B, skip, D, H, W)` and `(B, gating, d, h, w)` to the weighted skip."""
        seen = self.theta(skip)
        asked = resize(self.phi(g), seen.shape[-3:], rule=self.rule)
        weight = self.psi(torch.relu(seen + asked)).sigmoid()
        return self.W(resize(weight, skip.shape[-3:], rule=self.rule) * skip)


class Gates(nn.Module):
    """One or more parallel gates of a skip, put side by side and mixed back to its channels."""

    def __init__(self, skip: int, gating: int, count: int, rule: Rule) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(GridGate(skip, gating, rule) for _ in range(count))
        self.combine = conv_relu(count * skip, skip, 1, 3)

    def forward(self, skip: Tensor, g: Tensor) -> Tensor:
        """`(B, skip, D, H, W)` and the coarser map to the weighted skip."""
        return self.combine(torch.cat([block(skip, g) for block in self.blocks], dim=1))


class AttentionUNet3D(nn.Module):
    """The authors' network.

    widths: channels of the five levels, fine to coarse. gates: parallel gates a skip. align_corners: of every resize.
    """

    HEAD = ("final.", "dsv.")
    READS_SCORES = ("final.",)

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        *,
        in_channels: int = 1,
        gates: int = 2,
        align_corners: bool = False,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.rule: Rule = "align_corners" if align_corners else "half_pixel"
        *fine, deepest = widths
        self.levels = nn.ModuleList(double_conv(a, b, 3) for a, b in zip((in_channels, *fine), fine))
        self.center = double_conv(fine[-1], deepest, 3)
        self.pool = nn.MaxPool3d(2)
        self.gating = conv_relu(deepest, deepest, 1, 3)
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))  # (deep, skip), coarse to fine
        self.gates = nn.ModuleList(Gates(skip, deep, gates, self.rule) for deep, skip in pairs[:-1])
        self.ups = nn.ModuleList(double_conv(deep + skip, skip, 3) for deep, skip in pairs)
        self.dsv = nn.ModuleList(nn.Conv3d(skip, num_classes, 1) for _, skip in pairs)
        self.final = nn.Conv3d(len(pairs) * num_classes, num_classes, 1)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, D, H, W)` volumes of any size to `(B, K, D, H, W)` logits."""
        x, _ = pad_to_multiple(self.normalize(images, sizes), 2 ** len(self.levels))
        size = x.shape[-3:]
        skips: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        x = self.center(x)
        g, scores = self.gating(x), []
        for i, (up, dsv, skip) in enumerate(zip(self.ups, self.dsv, skips[::-1])):
            if i < len(self.gates):
                skip = self.gates[i](skip, g)
            x = g = up(torch.cat([skip, resize(x, skip.shape[-3:], rule=self.rule)], dim=1))
            scores.append(resize(dsv(x), size, rule=self.rule))
        logits = self.final(torch.cat(scores[::-1], dim=1))
        return Scores(top_left(logits, images.shape[-3:]))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms, on the mixed scores alone, as published."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a volume."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def attention_unet(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> AttentionUNet:
    """The popular 2-D form (1 class: 34,878,573 parameters); pictures of any size.

    width: channels of the first of `depth` levels, doubled at each.
    """
    net = AttentionUNet(
        [width * 2**i for i in range(depth)],
        num_classes,
        in_channels=in_channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def attention_unet_3d(
    num_classes: int = 4,
    *,
    in_channels: int = 1,
    width: int = 16,
    gates: int = 2,
    align_corners: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> AttentionUNet3D:
    """The authors' network with two gates a skip (4 classes: 6,473,322 parameters); volumes of any size.

    width: channels of the first of five levels, doubled at each (the paper's 64 over a feature scale of 4).
    """
    net = AttentionUNet3D(
        [width * 2**i for i in range(5)],
        num_classes,
        in_channels=in_channels,
        gates=gates,
        align_corners=align_corners,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def attention_unet_3d_single(
    num_classes: int = 4,
    *,
    in_channels: int = 1,
    width: int = 16,
    align_corners: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> AttentionUNet3D:
    """The authors' network with one gate a skip (4 classes: 6,214,151 parameters); volumes of any size."""
    return attention_unet_3d(
        num_classes, in_channels=in_channels, width=width, gates=1, align_corners=align_corners, mean=mean, std=std
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "leejunhyun",
        (
            ("Conv_1x1.{leaf}", "head.{leaf}"),
            *(
                row
                for k, (conv, norm) in enumerate(((0, 1), (3, 4)))
                for row in (
                    (f"Conv{{i+1}}.conv.{conv}.{{leaf}}", f"levels.{{i}}.{k}.0.{{leaf}}"),
                    (f"Conv{{i+1}}.conv.{norm}.{{leaf}}", f"levels.{{i}}.{k}.1.{{leaf}}"),
                    (f"Up_conv{{5-i}}.conv.{conv}.{{leaf}}", f"joins.{{i}}.{k}.0.{{leaf}}"),
                    (f"Up_conv{{5-i}}.conv.{norm}.{{leaf}}", f"joins.{{i}}.{k}.1.{{leaf}}"),
                )
            ),
            ("Up{5-i}.up.{k+1}.{leaf}", "ups.{i}.{k}.{leaf}"),
            ("Att{5-i}.{rest}", "gates.{i}.{rest}"),
        ),
        words="LeeJunHyun/Image_Segmentation: AttU_Net",
    ),
    KeyMap(
        "oktay",
        (
            ("conv{i+1}.conv{k+1}.{rest}", "levels.{i}.{k}.{rest}"),
            ("center.conv{k+1}.{rest}", "center.{k}.{rest}"),
            ("gating.conv1.{rest}", "gating.{rest}"),
            ("attentionblock{4-i}.gate_block_{k+1}.{rest}", "gates.{i}.blocks.{k}.{rest}"),
            ("attentionblock{4-i}.combine_gates.{rest}", "gates.{i}.combine.{rest}"),
            ("up_concat{4-i}.conv.conv{k+1}.{rest}", "ups.{i}.{k}.{rest}"),
            ("dsv1.{leaf}", "dsv.3.{leaf}"),
            ("dsv{4-i}.dsv.0.{leaf}", "dsv.{i}.{leaf}"),
            ("final.{leaf}", "final.{leaf}"),
        ),
        words="ozan-oktay/Attention-Gated-Networks: unet_CT_multi_att_dsv_3D and unet_CT_single_att_dsv_3D",
    ),
)
