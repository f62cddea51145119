"""nnU-Net's plain network.

Paper: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation (Isensee, Jaeger, Kohl,
Petersen & Maier-Hein 2021, arXiv:1904.08128).

The idea: a plain U-Net whose shape follows from the data beats most inventions. Strided convolutions go down, learned
up-convolutions go up, every convolution is followed by instance norm and a leaky ReLU; kernels and strides spare an
axis of thick slices. In training every step of the way up is scored at its own size (deep supervision).

Letters: B volumes or pictures, K classes, C channels, S stages, D x H x W voxels (2-D: H x W pixels).

- `nnunet_plain_3d`, `nnunet_plain_2d`: `PlainConvUNet` as nnU-Net v2 builds it. The planner's numbers are builder
  values: `features`, `strides`, `kernels` (one number a stage, or one an axis), convolutions a stage.

Sizes: nnU-Net shows the network patches that every stride divides. Others are padded with zeros at their end here, and
the answer is cut.

Learns from: its criterion on the finest map, and on each coarser one times 1/2, 1/4, ..., the coarsest 0, all divided
by the sum of these factors; labels are taken at the centre of each cell. The coarser maps are `aux` of its `Scores`,
finest first, at their own sizes. So the head of the coarsest learns nothing, here as there.

Departures: deep supervision scores the coarser maps only when `deep_supervision` is on; their heads are there in any
case, as they are in nnU-Net's files.

Published, by the nnU-Net team (Dice, five folds): BTCV 83.08, ACDC 91.54, LiTS 80.09, BraTS 91.24, KiTS 86.04, AMOS
88.64 (not measured here).

Loads: nnU-Net v2 (`nnunet`); its files hold every tensor under two to four names, of which one is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.conv import he_init
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.resize import pad_to_multiple, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import IGNORE, Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

PerStage = int | Sequence[int | Sequence[int]]

# Parts -----------------------------------------------------------------------------------------------------------


def conv_norm(in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]) -> nn.Sequential:
    """Convolution with bias, instance norm with scale and shift, leaky ReLU of slope 0.01."""
    axes = len(kernel)
    conv = _CONV[axes](in_channels, out_channels, tuple(kernel), tuple(stride), [(k - 1) // 2 for k in kernel])
    norm = _NORM[axes](out_channels, eps=1e-5, affine=True)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm, act=nn.LeakyReLU(0.01, inplace=True)))


def stage(
    in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int], convs: int
) -> nn.Sequential:
    """`convs` convolutions, the first of them strided."""
    still = [1] * len(kernel)
    return nn.Sequential(
        *(
            conv_norm(out_channels if i else in_channels, out_channels, kernel, still if i else stride)
            for i in range(convs)
        )
    )


# Network ---------------------------------------------------------------------------------------------------------


class PlainUNet(nn.Module):
    """Stages down, steps up, a head on every step.

    contract: a module a stage, fine to coarse. strides: what each shrinks, an axis. up, expand, heads: one a step,
    coarse to fine. deep_supervision: the coarser heads are scored in training.
    """

    HEAD = ("heads.",)
    IDLE = ("heads.0.",)  # the coarsest head, whose factor is 0 (nnU-Net's)

    def __init__(
        self,
        contract: Sequence[nn.Module],
        strides: Sequence[Sequence[int]],
        up: Sequence[nn.Module],
        expand: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        *,
        deep_supervision: bool = True,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.contract = nn.ModuleList(contract)
        self.strides = [tuple(stride) for stride in strides]
        self.multiple = [prod(axis) for axis in zip(*self.strides)]
        self.up = nn.ModuleList(up)
        self.expand = nn.ModuleList(expand)
        self.heads = nn.ModuleList(heads)
        self.deep_supervision = deep_supervision
        self.criterion = criterion or Criterion({"ce": 1.0, "dice": 1.0})

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, *space)` of any size to `(B, K, *space)` logits; `aux`: the coarser ones, finest first."""
        x, _ = pad_to_multiple(self.normalize(images, sizes), self.multiple)
        maps = []
        for level in self.contract:
            x = level(x)
            maps.append(x)
        steps = []
        for up, convs, skip in zip(self.up, self.expand, maps[-2::-1]):
            x = convs(torch.cat([up(x), skip], dim=1))
            steps.append(x)
        fine = top_left(self.heads[-1](x), images.shape[2:])
        if not self.deep_supervision:
            return Scores(fine)
        return Scores(fine, tuple(head(step) for head, step in zip(self.heads[-2::-1], steps[-2::-1])))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's terms on the finest map, and the weighted sum over the coarser ones as `aux_...`."""
        factors = [0.5**i for i in range(len(out.aux) + 1)]
        if out.aux:
            factors[-1] = 0.0
        total = sum(factors)
        found = {k: v * (factors[0] / total) for k, v in self.criterion(Scores(out.logits), targets).items()}
        coarse: list[dict[str, Tensor]] = []
        for logits, factor in zip(out.aux, factors[1:]):
            if factor:
                terms = self.criterion(Scores(logits), coarser(targets, self.multiple, logits.shape[2:]))
                coarse.append({k: v * (factor / total) for k, v in terms.items()})
        for name in list(found) if coarse else []:
            found[f"aux_{name}"] = torch.stack([terms[name] for terms in coarse]).sum()
        return found

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map an input."""
        return decode(out, classes=classes)


def coarser(targets: Target, multiple: Sequence[int], size: Sequence[int]) -> Target:
    """Labels `(B, *space)` (and weights) at a coarser map's `size`: padded as the input was, then each cell's centre.

    multiple: what the input was padded to a multiple of; what was padded is never scored.
    """
    axes = len(size)

    def take(x: Tensor, fill: float) -> Tensor:
        pads = [(0, -n % m) for n, m in zip(x.shape[-axes:], multiple)]
        x = F.pad(x, [side for pad in reversed(pads) for side in pad], value=fill)
        for axis, n in enumerate(size, start=x.ndim - axes):
            step = x.shape[axis] // n
            x = x.narrow(axis, step // 2, x.shape[axis] - step // 2)
            x = x.index_select(axis, torch.arange(n, device=x.device) * step)
        return x

    return Target(take(targets.labels, IGNORE), None if targets.weights is None else take(targets.weights, 0.0))


# Builders --------------------------------------------------------------------------------------------------------


def nnunet_plain_3d(
    num_classes: int = 3,
    *,
    in_channels: int = 1,
    features: Sequence[int] = (32, 64, 128, 256, 320, 320),
    strides: PerStage = (1, 2, 2, 2, 2, 2),
    kernels: PerStage = 3,
    convs: int | Sequence[int] = 2,
    decoder_convs: int | Sequence[int] = 2,
    deep_supervision: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> PlainUNet:
    """The 3-D network, by default as planned for isotropic volumes: six stages, at most 320 channels.

    features: channels of each stage. strides, kernels: one number for all stages, one a stage, or one an axis of each
    stage (depth, height, width). convs, decoder_convs: convolutions a stage. deep_supervision: coarser maps are scored
    in training. mean, std: see `Normalize`.
    """
    return _plain(
        3, num_classes, in_channels, features, strides, kernels, convs, decoder_convs, deep_supervision, mean, std
    )


def nnunet_plain_2d(
    num_classes: int = 4,
    *,
    in_channels: int = 1,
    features: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
    strides: PerStage = (1, 2, 2, 2, 2, 2, 2),
    kernels: PerStage = 3,
    convs: int | Sequence[int] = 2,
    decoder_convs: int | Sequence[int] = 2,
    deep_supervision: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> PlainUNet:
    """The 2-D network, by default of seven stages with at most 512 channels; values as of `nnunet_plain_3d`."""
    return _plain(
        2, num_classes, in_channels, features, strides, kernels, convs, decoder_convs, deep_supervision, mean, std
    )


def _plain(
    axes: int,
    num_classes: int,
    in_channels: int,
    features: Sequence[int],
    strides: PerStage,
    kernels: PerStage,
    convs: int | Sequence[int],
    decoder_convs: int | Sequence[int],
    deep_supervision: bool,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> PlainUNet:
    count = len(features)
    stride, kernel = per_stage(strides, count, axes, "strides"), per_stage(kernels, count, axes, "kernels")
    down, back = _counts(convs, count, "convs"), _counts(decoder_convs, count - 1, "decoder_convs")
    if not all(n % 2 for k in kernel for n in k):
        raise UsageError(f"kernels {kernels} must be odd, so that half of each can be padded")
    ins = [in_channels, *features[:-1]]
    steps = list(zip(features[:0:-1], features[-2::-1], stride[:0:-1], kernel[-2::-1], back))
    net = PlainUNet(
        [stage(a, b, k, s, n) for a, b, k, s, n in zip(ins, features, kernel, stride, down)],
        stride,
        [_UP[axes](deep, skip, tuple(s), tuple(s)) for deep, skip, s, _, _ in steps],
        [stage(2 * skip, skip, k, [1] * axes, n) for _, skip, _, k, n in steps],
        [_CONV[axes](skip, num_classes, 1) for _, skip, _, _, _ in steps],
        deep_supervision=deep_supervision,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    for part in (net.contract, net.up, net.expand):
        he_init(part)
    return net


def per_stage(values: PerStage, stages: int, axes: int, name: str) -> list[tuple[int, ...]]:
    """One number for all, one a stage, or one an axis of each stage, as `axes` numbers for each of the stages."""
    listed = [values] * stages if isinstance(values, int) else list(values)
    rows = [(v,) * axes if isinstance(v, int) else tuple(v) for v in listed]
    if len(rows) != stages or not all(len(r) == axes and all(isinstance(n, int) and n > 0 for n in r) for r in rows):
        raise UsageError(f"{name} {values}: give one number, or one for each of {stages} stages, or {axes} for each")
    return rows


def _counts(values: int | Sequence[int], stages: int, name: str) -> list[int]:
    listed = [values] * stages if isinstance(values, int) else list(values)
    if len(listed) != stages or min(listed, default=1) < 1:
        raise UsageError(f"{name} {values}: give one number from 1, or one for each of {stages} stages")
    return listed


# Key maps --------------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "nnunet",
        (
            ("encoder.stages.{s}.0.convs.{c}.conv.{leaf}", "contract.{s}.{c}.conv.{leaf}"),
            ("encoder.stages.{s}.0.convs.{c}.norm.{leaf}", "contract.{s}.{c}.norm.{leaf}"),
            ("decoder.stages.{i}.convs.{c}.conv.{leaf}", "expand.{i}.{c}.conv.{leaf}"),
            ("decoder.stages.{i}.convs.{c}.norm.{leaf}", "expand.{i}.{c}.norm.{leaf}"),
            ("decoder.transpconvs.{i}.{leaf}", "up.{i}.{leaf}"),
            ("decoder.seg_layers.{i}.{leaf}", "heads.{i}.{leaf}"),
        ),
        ignore=("decoder.encoder.*", "*.all_modules.*"),
        words="nnU-Net v2: PlainConvUNet in two or three dimensions",
    ),
)
