"""X3D.

Paper: X3D: Expanding Architectures for Efficient Video Recognition (Feichtenhofer 2020, arXiv:2004.04730).

The idea: start from a tiny network of depthwise 3x3x3 convolutions and widen one thing at a time (frames, size, depth,
width), always the one that gains most. Every other block has a squeeze-excitation; the head is wide but comes after the
pool, where width is cheap.

- `x3d`, the one to start with: X3D-S's plan, any size of clip.
- `x3d_xs_psf`, `x3d_s_psf`, `x3d_m_psf`, `x3d_l_psf`, `x3d_xl_psf`: PySlowFast's networks (XS, S and M differ in the
  clip only); `x3d_xs_ptv`, ... pytorchvideo's, whose first shortcut has no norm, so that weights of one do not fit the
  other.

On clips larger than in training the fixed pooling window (`window`: frames, height, width of the last map) leaves
several positions; PySlowFast averages their probabilities, pytorchvideo their logits (`fuse`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.action.models.slowfast import HALF_MEAN, HALF_STD, PYSLOWFAST, Fuse, check_fuse, scores
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


def rounded(width: float, factor: float, multiple: int = 8) -> int:
    """`width` times `factor`, rounded to a multiple, never below nine tenths of it."""
    wanted = width * factor
    found = max(multiple, int(wanted + multiple / 2) // multiple * multiple)
    return found + multiple if found < 0.9 * wanted else found


class SqueezeExcite(nn.Module):
    """Scales each channel by what the mean over the clip says (ratio 1/16, rounded to 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = rounded(channels, 1 / 16)
        self.fc1 = nn.Conv3d(channels, inner, 1)
        self.fc2 = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to the same shape."""
        y = self.fc2(self.fc1(x.mean((2, 3, 4), keepdim=True)).relu())
        return x * y.sigmoid()


class Bottleneck(nn.Module):
    """1x1x1 to `inner`, depthwise 3x3x3 with the stride, squeeze-excitation at will, Swish, 1x1x1."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, *, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.a = nn.Conv3d(in_channels, inner, 1, bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = nn.Conv3d(inner, inner, 3, (1, stride, stride), 1, groups=inner, bias=False)
        self.b_bn = nn.BatchNorm3d(inner)
        self.se = SqueezeExcite(inner) if squeeze else nn.Identity()
        self.c = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.swish = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, out, T, H / stride, W / stride)`."""
        x = self.relu(self.a_bn(self.a(x)))
        x = self.swish(self.se(self.b_bn(self.b(x))))
        return self.c_bn(self.c(x))


class ResBlock(nn.Module):
    """A bottleneck and its shortcut; `normed`: the shortcut has a norm also where the widths agree."""

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, *, stride: int, squeeze: bool, normed: bool
    ) -> None:
        super().__init__()
        self.branch1 = None
        if in_channels != out_channels or stride != 1:
            self.branch1 = nn.Conv3d(in_channels, out_channels, 1, (1, stride, stride), bias=False)
            self.branch1_bn = nn.Identity()
            if normed or in_channels != out_channels:
                self.branch1_bn = nn.BatchNorm3d(out_channels)
        self.branch2 = Bottleneck(in_channels, inner, out_channels, stride=stride, squeeze=squeeze)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, out, T, H / stride, W / stride)`."""
        shortcut = x if self.branch1 is None else self.branch1_bn(self.branch1(x))
        return self.relu(shortcut + self.branch2(x))


class Stem(nn.Module):
    """1x3x3 of stride (1, 2, 2), then depthwise 5x1x1, norm, ReLU."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv_xy = nn.Conv3d(in_channels, channels, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv = nn.Conv3d(channels, channels, (5, 1, 1), 1, (2, 0, 0), groups=channels, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, channels, T, H / 2, W / 2)`."""
        return self.relu(self.bn(self.conv(self.conv_xy(x))))


class Head(nn.Module):
    """1x1x1 to `inner`, norm, ReLU, mean over a window, 1x1x1 to `wide`, ReLU, dropout, a linear classifier."""

    def __init__(
        self,
        channels: int,
        inner: int,
        wide: int,
        num_classes: int,
        *,
        window: tuple[int, int, int] | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.window = window
        self.conv_5 = nn.Conv3d(channels, inner, 1, bias=False)
        self.conv_5_bn = nn.BatchNorm3d(inner)
        self.conv_5_relu = nn.ReLU(inplace=True)
        self.lin_5 = nn.Conv3d(inner, wide, 1, bias=False)
        self.lin_5_relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to logits `(B, T', H', W', K)` of every position."""
        x = self.conv_5_relu(self.conv_5_bn(self.conv_5(x)))
        if self.window is None:
            x = x.mean((2, 3, 4), keepdim=True)
        else:
            x = nn.functional.avg_pool3d(x, self.window, 1)
        x = self.lin_5_relu(self.lin_5(x))
        return self.projection(self.dropout(x.permute(0, 2, 3, 4, 1)))


# Network ---------------------------------------------------------------------------------------------------------


class X3D(nn.Module):
    """Stem, stages of depthwise bottlenecks, head.

    stem: its channels. widths, depths: channels and blocks of the stages. expansion: inner channels of a block, as a
    factor. wide: channels after the pool. normed: the first shortcut has a norm (PySlowFast).
    """

    HEAD = ("head.projection.",)
    STEM = ("s1.pathway0_stem.conv_xy.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        stem: int = 24,
        widths: Sequence[int] = (24, 48, 96, 192),
        depths: Sequence[int] = (3, 5, 11, 7),
        expansion: float = 2.25,
        wide: int = 2048,
        normed: bool = True,
        window: tuple[int, int, int] | None = None,
        fuse: Fuse = "probabilities",
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        check_fuse(fuse)
        self.fuse, self.window, self.depth = fuse, window, len(depths)
        self.normalize = normalize
        self.s1 = nn.Module()
        self.s1.pathway0_stem = Stem(in_channels, stem)
        channels = stem
        for i, (out, depth) in enumerate(zip(widths, depths)):
            stage = nn.Module()
            for b in range(depth):
                block = ResBlock(
                    channels,
                    int(out * expansion),
                    out,
                    stride=2 if b == 0 else 1,
                    squeeze=b % 2 == 0,
                    normed=normed,
                )
                stage.add_module(f"pathway0_res{b}", block)
                channels = out
            self.add_module(f"s{i + 2}", stage)
        self.head = Head(channels, int(channels * expansion), wide, num_classes, window=window, dropout=dropout)
        self.criterion = criterion or Criterion()
        draw(self)
        for part in self.modules():
            if isinstance(part, Bottleneck):
                nn.init.zeros_(part.c_bn.weight)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to `(B, K)` logits."""
        self._check(images)
        x = self.s1.pathway0_stem(self.normalize(images, sizes))  # pyright: ignore[reportCallIssue]
        for i in range(self.depth):
            x = self.stage(i, x)
        return scores(self.head(x), self.fuse)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """The blocks of stage `i`, from 0."""
        for block in self.get_submodule(f"s{i + 2}").children():
            x = block(x)
        return x

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)

    def _check(self, images: Tensor) -> None:
        if self.window is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        time, height, width = images.shape[-3:]
        have = (time, math.ceil(height / 32), math.ceil(width / 32))
        if any(a < b for a, b in zip(have, self.window)):
            t, h, w = self.window
            raise UsageError(
                f"clips of {time} x {height} x {width} are smaller than the head's window of {t} x {32 * h} x {32 * w};"
                " give larger ones, or build the network with window=None"
            )


# Builders --------------------------------------------------------------------------------------------------------


def x3d(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    width: float = 2.0,
    depth: float = 2.2,
    wide: int = 2048,
    normed: bool = True,
    window: Sequence[int] | None = None,
    fuse: Fuse = "logits",
    dropout: float = 0.5,
    mean: Sequence[float] | None = HALF_MEAN,
    std: Sequence[float] | None = HALF_STD,
) -> X3D:
    """X3D-S for clips of any size.

    width, depth: factors on the channels 12, 24, 48, 96 and the blocks 1, 2, 5, 3. wide: channels after the pool.
    normed: a batch norm in the head (PySlowFast has it, pytorchvideo has none). window: frames, height and width of the
    pool on the last map; None: the whole map. fuse: how positions are averaged, `probabilities` (PySlowFast) or
    `logits` (pytorchvideo).
    """
    if window is not None and len(window) != 3:
        raise UsageError(f"window is {list(window)}, expected frames, height and width of the last map, such as 13,5,5")
    basis = [12]
    for _ in range(3):
        basis.append(rounded(basis[-1], 2.0))
    return X3D(
        num_classes,
        in_channels=in_channels,
        stem=rounded(12, width),
        widths=[rounded(n, width) for n in basis],
        depths=[math.ceil(depth * n) for n in (1, 2, 5, 3)],
        expansion=2.25,
        wide=wide,
        normed=normed,
        window=None if window is None else (window[0], window[1], window[2]),
        fuse=fuse,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

_BLOCK = "blocks.{k-1}.res_blocks.{b}"
_OURS = "s{k}.pathway0_res{b}"
KEY_MAPS = (
    PYSLOWFAST,
    KeyMap(
        "pytorchvideo",
        (
            ("blocks.0.conv.conv_t.{leaf}", "s1.pathway0_stem.conv_xy.{leaf}"),  # the public names are swapped
            ("blocks.0.conv.conv_xy.{leaf}", "s1.pathway0_stem.conv.{leaf}"),
            ("blocks.0.norm.{leaf}", "s1.pathway0_stem.bn.{leaf}"),
            (f"{_BLOCK}.branch1_conv.{{leaf}}", f"{_OURS}.branch1.{{leaf}}"),
            (f"{_BLOCK}.branch1_norm.{{leaf}}", f"{_OURS}.branch1_bn.{{leaf}}"),
            (f"{_BLOCK}.branch2.norm_b.0.{{leaf}}", f"{_OURS}.branch2.b_bn.{{leaf}}"),
            (f"{_BLOCK}.branch2.norm_b.1.block.0.{{leaf}}", f"{_OURS}.branch2.se.fc1.{{leaf}}"),
            (f"{_BLOCK}.branch2.norm_b.1.block.2.{{leaf}}", f"{_OURS}.branch2.se.fc2.{{leaf}}"),
            (f"{_BLOCK}.branch2.norm_{{abc}}.{{leaf}}", f"{_OURS}.branch2.{{abc}}_bn.{{leaf}}"),
            (f"{_BLOCK}.branch2.conv_{{abc}}.{{leaf}}", f"{_OURS}.branch2.{{abc}}.{{leaf}}"),
            ("blocks.5.pool.pre_conv.{leaf}", "head.conv_5.{leaf}"),
            ("blocks.5.pool.pre_norm.{leaf}", "head.conv_5_bn.{leaf}"),
            ("blocks.5.pool.post_conv.{leaf}", "head.lin_5.{leaf}"),
            ("blocks.5.proj.{leaf}", "head.projection.{leaf}"),
        ),
        container="model_state",
        words="pytorchvideo's hub files",
    ),
)
