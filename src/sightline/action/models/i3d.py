"""I3D.

Paper: Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset (Carreira & Zisserman 2017,
arXiv:1705.07750).

The idea: inflate a network of pictures to clips. Every filter and pool of Inception-v1 gains a third axis; weights of
pictures, repeated over time and divided by its length, are a start that already knows what things look like. A second
network reads optical flow, and the two answers are averaged.

- `i3d_rgb`, `i3d_flow`: the authors' networks, in the form of the PyTorch port whose weights (converted from
  TensorFlow) people have; padding is TensorFlow's SAME, which puts the odd row behind. Flow: two channels, in [0, 1]
  with 0.5 for no motion.

The head pools 2 frames and 7 x 7 positions with stride 1, classifies, and averages the logits; smaller maps are pooled
as a whole. Batch norm eps 1e-3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.classification.losses import Criterion
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of Inception-v1's branches: 1x1; 1x1, 3x3; 1x1, 3x3; pool and 1x1."""

# Parts -----------------------------------------------------------------------------------------------------------


def same_pad(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around `(B, C, T, H, W)` as TensorFlow's SAME rule puts them: the odd one behind."""
    pads: list[int] = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = (-(-n // s) - 1) * s + k - n  # at least 0, since no kernel is smaller than its stride
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit3D(nn.Module):
    """A convolution with SAME padding, batch norm and ReLU, or a plain one with a bias (`norm=False`)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1, norm: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.norm = (kernel,) * 3, (stride,) * 3, norm
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=not norm)
        if norm:
            self.bn = nn.BatchNorm3d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, out, T / stride, H / stride, W / stride)`, rounded up."""
        if self.kernel != (1, 1, 1):
            x = same_pad(x, self.kernel, self.stride)
        x = self.conv3d(x)
        return F.relu(self.bn(x)) if self.norm else x


class SamePool(nn.Module):
    """Max pool with SAME padding; the padding counts as zeros, as in the port."""

    def __init__(self, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to its pooled map."""
        return F.max_pool3d(same_pad(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Four branches side by side: 1; 1, 3; 1, 3; pool, 1."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.b0 = Unit3D(in_channels, a)
        self.b1a = Unit3D(in_channels, b)
        self.b1b = Unit3D(b, c, 3)
        self.b2a = Unit3D(in_channels, d)
        self.b2b = Unit3D(d, e, 3)
        self.b3a = SamePool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(in_channels, f)
        self.channels = a + c + e + f

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, channels, T, H, W)`."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


# Network ---------------------------------------------------------------------------------------------------------


class I3D(nn.Module):
    """Inception-v1 over clips. width: a factor on all channels. momentum: of the batch norms' statistics."""

    HEAD = ("logits.",)
    STEM = ("Conv3d_1a_7x7.conv3d.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        momentum: float = 0.01,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()

        def wide(n: int) -> int:
            return max(1, round(n * width))

        self.normalize = normalize
        self.Conv3d_1a_7x7 = Unit3D(in_channels, wide(64), 7, stride=2)
        self.MaxPool3d_2a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(wide(64), wide(64))
        self.Conv3d_2c_3x3 = Unit3D(wide(64), wide(192), 3)
        self.MaxPool3d_3a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.MaxPool3d_4a_3x3 = SamePool((3, 3, 3), (2, 2, 2))
        self.MaxPool3d_5a_2x2 = SamePool((2, 2, 2), (2, 2, 2))
        channels, self.order = wide(192), ["Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
        pools = {"Mixed_3b": "MaxPool3d_3a_3x3", "Mixed_4b": "MaxPool3d_4a_3x3", "Mixed_5b": "MaxPool3d_5a_2x2"}
        for name, widths in MIXED.items():
            if name in pools:
                self.order.append(pools[name])
            block = Mixed(channels, [wide(n) for n in widths])
            self.add_module(name, block)
            self.order.append(name)
            channels = block.channels
        self.avg_pool = nn.AvgPool3d((2, 7, 7), 1)
        self.dropout = nn.Dropout(dropout)
        self.logits = Unit3D(channels, num_classes, norm=False)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm3d):
                part.momentum = momentum
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to `(B, K)` logits."""
        x = self.normalize(images, sizes)
        for name in self.order:
            x = self.get_submodule(name)(x)
        time, height, width = images.shape[-3:]
        whole = time > 8 and height > 192 and width > 192  # the map is at least 2 x 7 x 7
        x = self.avg_pool(x) if whole else x.mean((2, 3, 4), keepdim=True)
        return Scores(self.logits(self.dropout(x)).mean((2, 3, 4)))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def i3d(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    width: float = 1.0,
    dropout: float = 0.5,
    momentum: float = 0.01,
    mean: Sequence[float] | None = (0.5,),
    std: Sequence[float] | None = (0.5,),
) -> I3D:
    """I3D on RGB, or on optical flow, x and y in [0, 1]: -20 pixels is 0, no motion 0.5, 20 pixels 1.

    width: a factor on all channels. momentum: how fast the batch norms' statistics follow the batches; 0.1 for a
    training of hundreds of steps.
    """
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return I3D(
        num_classes,
        in_channels=in_channels,
        width=width,
        dropout=dropout,
        momentum=momentum,
        normalize=normalize,
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "pytorch-i3d",
        (
            ("Conv3d_{name}.{rest}", "Conv3d_{name}.{rest}"),
            ("Mixed_{name}.{rest}", "Mixed_{name}.{rest}"),
            ("logits.{rest}", "logits.{rest}"),
        ),
        words="the PyTorch port's rgb_imagenet.pt, flow_imagenet.pt",
    ),
)
