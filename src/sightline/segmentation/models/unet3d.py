"""3-D U-Net.

Paper: 3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation (Cicek, Abdulkadir, Lienkamp, Brox &
Ronneberger 2016, arXiv:1606.06650).

The idea: U-Net in three dimensions, so that few annotated slices of a few volumes suffice. Each level doubles its
channels before the pool, not after, which avoids bottlenecks. Voxels without a label (`IGNORE`) are not scored, so a
volume may be labelled in some of its slices only.

Letters: B volumes, K classes, C channels, D x H x W voxels.

Three forms:

- `unet3d`, the one to start with: the paper's layers, padded, so that every size passes and the answer has the size of
  the volume. `pools` says by how much each level shrinks each axis: `[[1, 2, 2], 2, 2]` spares thick slices.
- `unet3d_valid`, the paper: unpadded, 132 x 132 x 116 voxels in, 44 x 44 x 28 out.
- `unet3d_wolny`: the padded layout of wolny/pytorch-3dunet: group norm before each bias-free convolution, nearest
  upsampling, joined as [skip, up]. Plant and nuclei weights of that project load.

Departures: the paper counts 19,069,955 parameters: convolutions with bias, up-convolutions without, and not the
4,672 scales and shifts of its batch norms. Under a batch norm a convolution's bias does nothing. Here the norm has no
scale (before a ReLU, the next convolution absorbs it) and the one bias a channel stands behind it: the paper's count,
and no parameter that learns nothing. Fresh kernels are drawn after He et al. (2015).

Published: IoU 0.863 with batch norm, semi-automated, Xenopus kidney (not measured here).

Loads: wolny/pytorch-3dunet (`wolny`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.conv import he_init
from sightline.nn.group import GroupNorm
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.resize import centre_crop, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap

Triple = tuple[int, int, int]

# Parts -----------------------------------------------------------------------------------------------------------


class ShiftedBatchNorm(nn.Module):
    """Batch norm of `(B, C, D, H, W)` with a learned shift and no scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.norm(x) + self.bias[:, None, None, None]


def batch_conv(in_channels: int, out_channels: int, *, padded: bool = True) -> nn.Sequential:
    """Convolution, batch norm, ReLU: the paper's order."""
    conv = nn.Conv3d(in_channels, out_channels, 3, padding=1 if padded else 0, bias=False)
    return nn.Sequential(
        OrderedDict(conv=conv, norm=ShiftedBatchNorm(out_channels), relu=nn.ReLU(inplace=True)),
    )


def group_conv(in_channels: int, out_channels: int, *, groups: int = 8) -> nn.Sequential:
    """Group norm, convolution, ReLU: wolny's order "gcr"; one group where `groups` do not divide the channels."""
    norm = GroupNorm(groups if in_channels % groups == 0 else 1, in_channels)
    conv = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(OrderedDict(norm=norm, conv=conv, relu=nn.ReLU(inplace=True)))


class Expand3D(nn.Module):
    """One step of the expansive path: the size of the skip, the skip joined as [skip, up], two convolutions.

    up: an up-convolution, or None for nearest upsampling. padded: the map is cut to the skip (pools round up);
    unpadded: the skip is cropped at the centre.
    """

    def __init__(self, up: nn.Module | None, convs: nn.Module, *, padded: bool = True) -> None:
        super().__init__()
        self.up, self.convs, self.padded = up, convs, padded

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """`(B, C, d, h, w)` and its skip `(B, C', D, H, W)` to `(B, C', D, H, W)`; unpadded ones are smaller."""
        if self.up is None:
            x = resize(x, skip.shape[2:], rule="nearest")
        else:
            x = self.up(x)
            if self.padded:
                x = top_left(x, skip.shape[2:])
            else:
                skip = centre_crop(skip, x.shape[2:])
        return self.convs(torch.cat([skip, x], dim=1))


# Network ---------------------------------------------------------------------------------------------------------


class UNet3D(nn.Module):
    """A contracting path, an expansive path, a classifier of every voxel.

    contract: a module a level. pools: how much each level but the first shrinks the one before, an axis. expand: one
    step for each pool, coarse to fine. ceil: uneven sizes round up.
    """

    HEAD = ("head.",)

    def __init__(
        self,
        contract: Sequence[nn.Module],
        pools: Sequence[Triple],
        expand: Sequence[Expand3D],
        head: nn.Module,
        *,
        ceil: bool = True,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.contract = nn.ModuleList(contract)
        self.pools = nn.ModuleList(nn.MaxPool3d(pool, ceil_mode=ceil) for pool in pools)
        self.expand = nn.ModuleList(expand)
        self.head = head
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, D, H, W)` volumes to `(B, K, D, H, W)` logits (unpadded: smaller, centred)."""
        x = self.contract[0](self.normalize(images, sizes))
        maps = [x]
        for level, pool in zip(self.contract[1:], self.pools):
            x = level(pool(x))
            maps.append(x)
        for step, skip in zip(self.expand, maps[-2::-1]):
            x = step(x, skip)
        return Scores(self.head(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a volume."""
        return decode(out, classes=classes)


class ValidUNet3D(UNet3D):
    """The unpadded network. Its answer lacks `margin` voxels at each end of an axis, and its volumes a legal size.

    A size is legal when every pool meets even numbers: `smallest` plus a multiple of `step` (92, 100 ... for four
    levels, which answer 4, 12 ... voxels).
    """

    def __init__(
        self,
        contract: Sequence[nn.Module],
        pools: Sequence[Triple],
        expand: Sequence[Expand3D],
        head: nn.Module,
        *,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(contract, pools, expand, head, ceil=False, normalize=normalize, criterion=criterion)
        self.step = 2 ** len(pools)
        self.margin = 6 * self.step - 4
        self.smallest = 2 * self.margin + min(4, self.step)

    def legal_size(self, answer: int) -> int:
        """The smallest legal side of a volume whose answer covers `answer` voxels."""
        return self.smallest + max(0, -(-(answer + 2 * self.margin - self.smallest) // self.step)) * self.step

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, D, H, W)` volumes of legal sizes to logits that lack `2 margin` voxels an axis."""
        for name, size in zip(("depth", "height", "width"), images.shape[2:]):
            if size < self.smallest or (size - self.smallest) % self.step != 0:
                raise UsageError(
                    f"{name} {size} does not fit this unpadded U-Net: it takes {self.smallest} + {self.step} k voxels, "
                    f"so crop the volume or mirror it out to {self.legal_size(size - 2 * self.margin)}"
                )
        return super().forward(images, sizes=sizes, targets=targets)


# Builders --------------------------------------------------------------------------------------------------------


def unet3d(
    num_classes: int = 3,
    *,
    in_channels: int = 3,
    width: int = 32,
    pools: Sequence[int | Sequence[int]] = (2, 2, 2),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> UNet3D:
    """The 3-D U-Net to start with: padded, volumes of any size (19,069,955 parameters).

    width: channels of the first convolution, doubled within each level and again at the next. pools: by how much each
    further level shrinks the volume, one number or one for depth, height and width. mean, std: see `Normalize`.
    """
    return _paper(UNet3D, num_classes, in_channels, width, pools, mean, std, padded=True)


def unet3d_valid(
    num_classes: int = 3,
    *,
    in_channels: int = 3,
    width: int = 32,
    depth: int = 4,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ValidUNet3D:
    """The paper's network: unpadded (19,069,955 parameters). depth: levels; sizes follow, see `ValidUNet3D`."""
    net = _paper(ValidUNet3D, num_classes, in_channels, width, (2,) * (depth - 1), mean, std, padded=False)
    assert isinstance(net, ValidUNet3D)
    return net


def unet3d_wolny(
    num_classes: int = 2,
    *,
    in_channels: int = 1,
    width: int = 64,
    depth: int = 4,
    groups: int = 8,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> UNet3D:
    """wolny's UNet3D with its defaults. width: channels the first level ends with. groups: of every group norm."""
    outs = [width * 2**i for i in range(depth)]
    ins = [in_channels, *outs[:-1]]

    def double(a: int, middle: int, b: int) -> nn.Sequential:
        return nn.Sequential(group_conv(a, middle, groups=groups), group_conv(middle, b, groups=groups))

    net = UNet3D(
        [double(a, max(a, b // 2), b) for a, b in zip(ins, outs)],
        [(2, 2, 2)] * (depth - 1),
        [Expand3D(None, double(deep + skip, skip, skip)) for deep, skip in zip(outs[:0:-1], outs[-2::-1])],
        nn.Conv3d(outs[0], num_classes, 1),
        ceil=False,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net.contract)
    he_init(net.expand)
    return net


def _paper(
    form: type[UNet3D],
    num_classes: int,
    in_channels: int,
    width: int,
    pools: Sequence[int | Sequence[int]],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    padded: bool,
) -> UNet3D:
    """The layers of the paper: level i ends with 2^(i+1) widths; up-convolutions keep their channels."""
    shrink = [triple(pool) for pool in pools]
    outs = [2 * width * 2**i for i in range(len(shrink) + 1)]
    ins = [in_channels, *outs[:-1]]

    def double(a: int, middle: int, b: int) -> nn.Sequential:
        return nn.Sequential(batch_conv(a, middle, padded=padded), batch_conv(middle, b, padded=padded))

    steps = [
        Expand3D(
            nn.ConvTranspose3d(deep, deep, kernel_size=pool, stride=pool, bias=False),
            double(deep + skip, skip, skip),
            padded=padded,
        )
        for deep, skip, pool in zip(outs[:0:-1], outs[-2::-1], shrink[::-1])
    ]
    net = form(
        [double(a, b // 2, b) for a, b in zip(ins, outs)],
        shrink,
        steps,
        nn.Conv3d(outs[0], num_classes, 1),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net.contract)
    he_init(net.expand)
    return net


def triple(value: int | Sequence[int]) -> Triple:
    """One number for all three axes, or one an axis."""
    numbers = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(numbers) != 3 or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise UsageError(f"{value} is no size of a pool: give a whole number, or one for depth, height and width")
    return numbers[0], numbers[1], numbers[2]


# Key maps --------------------------------------------------------------------------------------------------------


def _wolny(paths: Literal["encoders", "decoders"], ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{paths}.{{i}}.basic_module.SingleConv{{j+1}}.groupnorm.{{leaf}}", f"{ours}.{{j}}.norm.{{leaf}}"),
        (f"{paths}.{{i}}.basic_module.SingleConv{{j+1}}.conv.{{leaf}}", f"{ours}.{{j}}.conv.{{leaf}}"),
    )


KEY_MAPS = (
    KeyMap(
        "wolny",
        (
            *_wolny("encoders", "contract.{i}"),
            *_wolny("decoders", "expand.{i}.convs"),
            ("final_conv.{leaf}", "head.{leaf}"),
        ),
        words="wolny/pytorch-3dunet: UNet3D with group norm (order gcr)",
    ),
)
