"""SlowFast.

Paper: SlowFast Networks for Video Recognition (Feichtenhofer, Fan, Malik & He 2019, arXiv:1812.03982).

The idea: what is there changes slowly, how it moves changes fast. A slow path with many channels sees few frames; a
fast path with an eighth of the channels sees `alpha` times as many, and its maps are folded into the slow path after
every stage. Both are pooled and classified together.

- `slowfast`, the one to start with: 4x16's plan at a quarter of the width, any size of clip; a laptop trains it.
- `slowfast_4x16_psf`, `slowfast_8x8_psf`: the authors' networks (PySlowFast), and `slowfast_8x8_ptv`,
  `slowfast_8x8_r101_ptv`, `slowfast_16x8_r101_ptv` of pytorchvideo. They are the same networks, and either spelling of
  the weights loads; on pictures larger than in training their heads pool a fixed window, which leaves several
  positions: PySlowFast averages the positions' probabilities, pytorchvideo their logits (`fuse`).

A clip is the fast path's; the slow path takes the frames floor(linspace(0, T - 1, T / alpha)) of it, the last one
among them. Names: 8x8 is 8 slow frames, one in 8 of the video's. Fresh weights: He normal over the fan-out, the last
norm of a block 0, so that every block starts as its shortcut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap, Row

Fuse = Literal["probabilities", "logits"]
HALF_MEAN = (0.45, 0.45, 0.45)
HALF_STD = (0.225, 0.225, 0.225)

# Parts -----------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """`a`: time x 1 x 1, `b`: 1x3x3 with the stride, `c`: 1x1x1, each with its norm."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, *, time: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv3d(in_channels, inner, (time, 1, 1), 1, (time // 2, 0, 0), bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, out, T, H / stride, W / stride)`."""
        x = self.relu(self.a_bn(self.a(x)))
        x = self.relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


class ResBlock(nn.Module):
    """A bottleneck and its shortcut."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, *, time: int, stride: int) -> None:
        super().__init__()
        self.projected = in_channels != out_channels or stride != 1
        if self.projected:
            self.branch1 = nn.Conv3d(in_channels, out_channels, 1, (1, stride, stride), bias=False)
            self.branch1_bn = nn.BatchNorm3d(out_channels)
        self.branch2 = Bottleneck(in_channels, inner, out_channels, time=time, stride=stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, out, T, H / stride, W / stride)`."""
        shortcut = self.branch1_bn(self.branch1(x)) if self.projected else x
        return self.relu(shortcut + self.branch2(x))


class NonLocal(nn.Module):
    """Every position adds a weighted mean over all (pooled) positions of the clip (Wang et al. 2018, section 3.3).

    The softmax form with inner width C / 2; keys and values from the map max-pooled 1x2x2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.conv_theta = nn.Conv3d(channels, inner, 1)
        self.conv_phi = nn.Conv3d(channels, inner, 1)
        self.conv_g = nn.Conv3d(channels, inner, 1)
        self.conv_out = nn.Conv3d(inner, channels, 1)
        self.bn = nn.BatchNorm3d(channels)
        self.pool = nn.MaxPool3d((1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to the same shape."""
        few = self.pool(x)
        query, key, value = (
            conv(map).flatten(2).transpose(1, 2)[:, None]  # one head
            for conv, map in ((self.conv_theta, x), (self.conv_phi, few), (self.conv_g, few))
        )
        y = nn.functional.scaled_dot_product_attention(query, key, value)  # scaled by inner^-0.5
        return x + self.bn(self.conv_out(y[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])))


class Stem(nn.Module):
    """time x 7 x 7 of stride (1, 2, 2), norm, ReLU, max pool 1x3x3."""

    def __init__(self, in_channels: int, channels: int, time: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, channels, (time, 7, 7), (1, 2, 2), (time // 2, 3, 3), bias=False)
        self.bn = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool_layer = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, channels, T, H / 4, W / 4)`."""
        return self.pool_layer(self.relu(self.bn(self.conv(x))))


class Stage(nn.Module):
    """The residual blocks of one stage, for each path by itself; non-local blocks stand in the first path.

    paths: (input, inner, output channels, temporal kernel of each block) of each path.
    nonlocals: after which blocks of the first path.
    """

    def __init__(
        self, paths: Sequence[tuple[int, int, int, Sequence[int]]], *, stride: int, nonlocals: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.order: list[list[str]] = []
        for p, (channels, inner, out, times) in enumerate(paths):
            names = []
            for b, time in enumerate(times):
                names.append(f"pathway{p}_res{b}")
                block = ResBlock(channels if b == 0 else out, inner, out, time=time, stride=stride if b == 0 else 1)
                self.add_module(names[-1], block)
                if p == 0 and b in nonlocals:
                    names.append(f"pathway{p}_nonlocal{b}")
                    self.add_module(names[-1], NonLocal(out))
            self.order.append(names)

    def forward(self, paths: Sequence[Tensor]) -> list[Tensor]:
        """The map of each path, in and out."""
        found = []
        for x, names in zip(paths, self.order):
            for name in names:
                x = self.get_submodule(name)(x)
            found.append(x)
        return found


class Fuse2Slow(nn.Module):
    """The fast map, strided in time to the slow one's frames and twice as wide, beside the slow map."""

    def __init__(self, channels: int, ratio: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv_f2s = nn.Conv3d(
            channels, channels * ratio, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False
        )
        self.bn = nn.BatchNorm3d(channels * ratio)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, paths: Sequence[Tensor]) -> list[Tensor]:
        """`[slow, fast]` to `[slow with fast beside it, fast]`."""
        slow, fast = paths
        return [torch.cat([slow, self.relu(self.bn(self.conv_f2s(fast)))], dim=1), fast]


class Head(nn.Module):
    """Mean over time and a window of space for each path, side by side, dropout, a linear classifier at every position.

    window: height and width of the pool; None: the whole map. The classifier is `projection`.
    """

    def __init__(self, channels: int, num_classes: int, *, window: int | None, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(channels, num_classes)

    def forward(self, paths: Sequence[Tensor]) -> Tensor:
        """Maps `(B, C, T, H, W)` of each path to logits `(B, 1, H', W', K)` of every position."""
        pooled = torch.cat([self._pooled(x) for x in paths], dim=1)  # (B, C, H', W')
        return self.projection(self.dropout(pooled.permute(0, 2, 3, 1).unsqueeze(1)))

    def _pooled(self, x: Tensor) -> Tensor:
        x = x.mean(2)
        if self.window is None:
            return x.mean((2, 3), keepdim=True)
        return nn.functional.avg_pool2d(x, self.window, 1)


def scores(positions: Tensor, fuse: str) -> Scores:
    """Logits `(B, ..., K)` of positions as the network's scores, by the mean of their probabilities or logits."""
    parts = positions.flatten(1, -2)
    return Scores(parts.mean(1), parts if fuse == "probabilities" else None)


def check_fuse(fuse: str) -> None:
    """Refuse an unknown rule."""
    if fuse not in get_args(Fuse):
        raise UsageError(f"fuse is '{fuse}', expected one of {', '.join(get_args(Fuse))}")


def check_window(images: Tensor, window: int | None, stride: int = 32) -> None:
    """Refuse pictures on whose last map the pooling window does not fit."""
    if window is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    height, width = images.shape[-2:]
    if -(-min(height, width) // stride) < window:
        raise UsageError(
            f"clips of {height} x {width} are smaller than the head's window of {window * stride} pixels; "
            "give larger ones, or build the network with window=None"
        )


# Network ---------------------------------------------------------------------------------------------------------


class SlowFast(nn.Module):
    """Two paths in four stages, the fast one folded into the slow one before each, one head.

    depths: blocks of the stages. width: channels of the slow path's first; the fast path has width / beta.
    alpha: frames of the fast path for one of the slow. kernel: in time, of the folding.
    limits: blocks of each stage (slow, fast) that filter time, the first ones.
    """

    HEAD = ("head.projection.",)
    STEM = ("s1.pathway0_stem.conv.weight", "s1.pathway1_stem.conv.weight")

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        alpha: int = 4,
        beta: int = 8,
        kernel: int = 7,
        limits: Sequence[tuple[int, int]] | None = None,
        window: int | None = 7,
        fuse: Fuse = "probabilities",
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        check_fuse(fuse)
        self.alpha, self.fuse, self.window = alpha, fuse, window
        self.normalize = normalize
        fast = width // beta
        self.s1 = nn.Module()
        self.s1.pathway0_stem = Stem(in_channels, width, 1)
        self.s1.pathway1_stem = Stem(in_channels, fast, 5)
        slow_in, fast_in = width, fast
        for i, depth in enumerate(depths):
            self.add_module(f"s{i + 1}_fuse", Fuse2Slow(fast_in, 2, kernel, alpha))
            slow_limit, fast_limit = limits[i] if limits else (depth, depth)
            times = [3 if i >= 2 and b < slow_limit else 1 for b in range(depth)]
            quick = [3 if b < fast_limit else 1 for b in range(depth)]
            slow_out, fast_out = 4 * width * 2**i, 4 * fast * 2**i
            stage = Stage(
                [
                    (slow_in + 2 * fast_in, width * 2**i, slow_out, times),
                    (fast_in, fast * 2**i, fast_out, quick),
                ],
                stride=2 if i else 1,
            )
            self.add_module(f"s{i + 2}", stage)
            slow_in, fast_in = slow_out, fast_out
        self.depth = len(depths)
        self.head = Head(slow_in + fast_in, num_classes, window=window, dropout=dropout)
        self.criterion = criterion or Criterion()
        draw(self)
        zero_last_norms(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips of the fast path, T a multiple of alpha, to `(B, K)` logits."""
        frames = images.shape[2]
        if frames % self.alpha:
            raise UsageError(f"clips of {frames} frames: this SlowFast takes a multiple of alpha={self.alpha}")
        check_window(images, self.window)
        x = self.normalize(images, sizes)
        chosen = torch.linspace(0, frames - 1, frames // self.alpha, device=x.device).long()
        slow, fast = self.s1.pathway0_stem, self.s1.pathway1_stem
        paths = [slow(x.index_select(2, chosen)), fast(x)]  # pyright: ignore[reportCallIssue]
        for i in range(self.depth):
            paths = self.get_submodule(f"s{i + 1}_fuse")(paths)
            paths = self.get_submodule(f"s{i + 2}")(paths)
        return scores(self.head(paths), self.fuse)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


def zero_last_norms(net: nn.Module) -> None:
    """The last norm of every residual and non-local block starts at 0 (Goyal et al. 2017, section 5.1)."""
    for part in net.modules():
        if isinstance(part, Bottleneck):
            nn.init.zeros_(part.c_bn.weight)
        elif isinstance(part, NonLocal):
            nn.init.zeros_(part.bn.weight)


# Builders --------------------------------------------------------------------------------------------------------


def slowfast(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (1, 1, 1, 1),
    width: int = 32,
    alpha: int = 4,
    beta: int = 4,
    kernel: int = 5,
    limits: Sequence[tuple[int, int]] | None = None,
    window: int | None = None,
    fuse: Fuse = "logits",
    dropout: float = 0.2,
    mean: Sequence[float] | None = HALF_MEAN,
    std: Sequence[float] | None = HALF_STD,
) -> SlowFast:
    """A small SlowFast for clips of any size whose number of frames is a multiple of `alpha`.

    depths: blocks of the four stages. width: channels of the slow path's first; the fast path has width / beta.
    kernel: in time, of the folding of fast into slow. limits: how many blocks of each stage filter time, (slow, fast).
    window: side of the head's pool, a 32nd of the training size; None: the whole map.
    fuse: how positions are averaged, `probabilities` (PySlowFast) or `logits` (pytorchvideo).
    """
    if width % beta:
        raise UsageError(f"width={width} must divide by beta={beta}: the fast path has width / beta channels")
    return SlowFast(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        alpha=alpha,
        beta=beta,
        kernel=kernel,
        limits=limits,
        window=window,
        fuse=fuse,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------


def block_rows(public: str, ours: str) -> tuple[Row, ...]:
    """pytorchvideo's names inside a residual block, and ours (PySlowFast's)."""
    return (
        (f"{public}.branch1_conv.{{leaf}}", f"{ours}.branch1.{{leaf}}"),
        (f"{public}.branch1_norm.{{leaf}}", f"{ours}.branch1_bn.{{leaf}}"),
        (f"{public}.branch2.norm_{{abc}}.{{leaf}}", f"{ours}.branch2.{{abc}}_bn.{{leaf}}"),
        (f"{public}.branch2.conv_{{abc}}.{{leaf}}", f"{ours}.branch2.{{abc}}.{{leaf}}"),
    )


PYSLOWFAST = KeyMap(
    "pyslowfast",
    (("s{i}.{rest}", "s{i}.{rest}"), ("s{i}_fuse.{rest}", "s{i}_fuse.{rest}"), ("head.{rest}", "head.{rest}")),
    container="model_state",
    words="PySlowFast's .pyth files",
)

KEY_MAPS = (
    PYSLOWFAST,
    KeyMap(
        "pytorchvideo",
        (
            ("blocks.0.multipathway_blocks.{p}.conv.{leaf}", "s1.pathway{p}_stem.conv.{leaf}"),
            ("blocks.0.multipathway_blocks.{p}.norm.{leaf}", "s1.pathway{p}_stem.bn.{leaf}"),
            ("blocks.{k-1}.multipathway_fusion.conv_fast_to_slow.{leaf}", "s{k}_fuse.conv_f2s.{leaf}"),
            ("blocks.{k-1}.multipathway_fusion.norm.{leaf}", "s{k}_fuse.bn.{leaf}"),
            *block_rows("blocks.{k-1}.multipathway_blocks.{p}.res_blocks.{b}", "s{k}.pathway{p}_res{b}"),
            ("blocks.6.proj.{leaf}", "head.projection.{leaf}"),
        ),
        container="model_state",
        words="pytorchvideo's hub files",
    ),
)
