"""S3D and S3D-G.

Paper: Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification
(Xie, Sun, Huang, Tu & Murphy
2018, arXiv:1712.04851).

The idea: I3D with every 3x3x3 filter split into 1x3x3 and 3x1x1, each with its norm and ReLU: faster and better. The
gated form (S3D-G) lets a summary of the whole clip switch channels off after every temporal filter.

- `s3d_tv`: torchvision's network, without gates. `s3d_g`: the paper's gated form (no public weights in PyTorch).

The head pools 2 frames and 7 x 7 positions with stride 1, classifies, and averages the logits; smaller maps are pooled
as a whole. Batch norm eps 1e-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.i3d import MIXED
from sightline.action.models.r3d import KINETICS_MEAN, KINETICS_STD, draw
from sightline.classification.losses import Criterion
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


class Gate(nn.Module):
    """Scales each channel by a sigmoid of what the mean over the clip says (section 4.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to the same shape."""
        return x * self.fc(x.mean((2, 3, 4))).sigmoid()[:, :, None, None, None]


def unit(in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    k: Any = tuple(kernel)
    s: Any = tuple(stride)
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, k, s, tuple(n // 2 for n in k), bias=False),
        nn.BatchNorm3d(out_channels, eps=1e-3),
        nn.ReLU(inplace=True),
    )


def separable(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, gate: bool) -> nn.Sequential:
    """1 x k x k, then k x 1 x 1, then a gate at will."""
    parts = [
        unit(in_channels, out_channels, (1, kernel, kernel), (1, stride, stride)),
        unit(out_channels, out_channels, (kernel, 1, 1), (stride, 1, 1)),
    ]
    return nn.Sequential(*parts, *([Gate(out_channels)] if gate else []))


class Mixed(nn.Module):
    """Four branches side by side: 1; 1, 3; 1, 3; pool, 1."""

    def __init__(self, in_channels: int, widths: Sequence[int], *, gate: bool) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        one = (1, 1, 1)
        self.branch0 = unit(in_channels, a, one, one)
        self.branch1 = nn.Sequential(unit(in_channels, b, one, one), separable(b, c, 3, gate=gate))
        self.branch2 = nn.Sequential(unit(in_channels, d, one, one), separable(d, e, 3, gate=gate))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), unit(in_channels, f, one, one))
        self.channels = a + c + e + f

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, channels, T, H, W)`."""
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


# Network ---------------------------------------------------------------------------------------------------------


class S3D(nn.Module):
    """Separable Inception-v1 over clips. width: a factor on all channels. gate: the gated form.

    momentum: how fast the batch norms' statistics follow; the published value needs thousands of steps.
    """

    HEAD = ("classifier.1.",)
    STEM = ("features.0.0.0.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        gate: bool = False,
        dropout: float = 0.2,
        momentum: float = 0.001,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()

        def wide(n: int) -> int:
            return max(1, round(n * width))

        self.normalize = normalize
        parts: list[nn.Module] = [
            separable(in_channels, wide(64), 7, stride=2, gate=gate),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            unit(wide(64), wide(64), (1, 1, 1), (1, 1, 1)),
            separable(wide(64), wide(192), 3, gate=gate),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ]
        channels = wide(192)
        pools = {"Mixed_4b": nn.MaxPool3d(3, 2, 1), "Mixed_5b": nn.MaxPool3d(2, 2)}
        for name, widths in MIXED.items():
            if name in pools:
                parts.append(pools[name])
            block = Mixed(channels, [wide(n) for n in widths], gate=gate)
            parts.append(block)
            channels = block.channels
        self.features = nn.Sequential(*parts)
        self.avgpool = nn.AvgPool3d((2, 7, 7), 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Conv3d(channels, num_classes, 1))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm3d):
                part.momentum = momentum
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips of 6 frames or more to `(B, K)` logits."""
        x = self.features(self.normalize(images, sizes))
        time, height, width = images.shape[-3:]
        whole = time > 12 and height > 208 and width > 208  # the map is at least 2 x 7 x 7
        x = self.avgpool(x) if whole else x.mean((2, 3, 4), keepdim=True)
        return Scores(self.classifier(x).mean((2, 3, 4)))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def s3d(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    gate: bool = False,
    width: float = 1.0,
    dropout: float = 0.2,
    momentum: float = 0.001,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> S3D:
    """S3D; gate: S3D-G, with a gate after every temporal filter. width: a factor on all channels.

    momentum: how fast the batch norms' statistics follow the batches; 0.1 for a training of hundreds of steps.
    """
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return S3D(
        num_classes,
        in_channels=in_channels,
        width=width,
        gate=gate,
        dropout=dropout,
        momentum=momentum,
        normalize=normalize,
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (("features.{rest}", "features.{rest}"), ("classifier.{rest}", "classifier.{rest}")),
        words="torchvision's s3d",
    ),
)
