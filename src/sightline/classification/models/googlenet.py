"""GoogLeNet.

Paper: Going Deeper with Convolutions (Szegedy et al. 2014, arXiv:1409.4842), with the batch norms of Ioffe & Szegedy
2015 (arXiv:1502.03167).

The idea: an inception block looks at a map through 1x1, 3x3 and 5x5 windows and a pool at once, each behind a 1x1 that
keeps it narrow. While it learns, two small classifiers on the way answer too (`aux`), at 0.3 of the loss.

- `googlenet_tv`: torchvision's network, whose third branch is 3x3, not the paper's 5x5; its weights want that. Its
  published weights were trained on values from -1 to 1.

Loads: torchvision (`torchvision`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.classification.answer import Labels
from sightline.classification.contract import Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

HALF = (0.5, 0.5, 0.5)
BLOCKS = {
    "inception3a": (64, 96, 128, 16, 32, 32), "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64), "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64), "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128), "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""1x1; 3x3 and the 1x1 before it (second, first); the other branch likewise; the 1x1 behind the pool (table 1)."""


class Unit(nn.Module):
    """A convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', H', W')`."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side. widths: see `BLOCKS`."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        a, before3, b, before5, c, d = widths
        self.branch1 = Unit(in_channels, a, 1)
        self.branch2 = nn.Sequential(Unit(in_channels, before3, 1), Unit(before3, b, 3, padding=1))
        self.branch3 = nn.Sequential(Unit(in_channels, before5, 1), Unit(before5, c, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Unit(in_channels, d, 1))
        self.channels = a + b + c + d

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, channels, H, W)`."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class Aux(nn.Module):
    """A classifier on the way: a pool to 4 x 4, a 1x1, two full layers."""

    def __init__(self, in_channels: int, num_classes: int, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.conv = Unit(in_channels, width, 1)
        self.fc1 = nn.Linear(16 * width, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, K)`."""
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """Nine inception blocks, two classifiers on the way, the mean over the last map, a linear classifier."""

    HEAD = ("fc.", "aux1.fc2.", "aux2.fc2.")

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.2,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()

        def wide(n: int) -> int:
            return max(2, round(n * width))

        self.normalize = normalize
        self.conv1 = Unit(in_channels, wide(64), 7, 2, 3)
        self.conv2 = Unit(wide(64), wide(64), 1)
        self.conv3 = Unit(wide(64), wide(192), 3, padding=1)
        channels = wide(192)
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        for name, widths in BLOCKS.items():
            block = Inception(channels, [wide(n) for n in widths])
            self.add_module(name, block)
            channels = block.channels
            if name in ("inception4a", "inception4d"):
                aux = Aux(channels, num_classes, width=wide(128), hidden=wide(1024), dropout=0.7)
                self.add_module("aux1" if name == "inception4a" else "aux2", aux)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.criterion = criterion or Criterion()
        for part in self.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(part.weight, std=0.01 if isinstance(part, nn.Linear) else 0.05)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1] to `(B, K)` logits, and in training those of the two on the way."""
        x = self.maxpool(self.conv1(self.normalize(images, sizes)))
        x = self.maxpool(self.conv3(self.conv2(x)))
        aux: list[Tensor] = []
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
            if name == "inception3b":
                x = self.maxpool(x)
            elif name == "inception4e":
                x = self.maxpool4(x)
            elif name in ("inception4a", "inception4d") and self.training:
                aux.append(self.get_submodule("aux1" if name == "inception4a" else "aux2")(x))
        return Scores(self.fc(self.dropout(x.mean((2, 3)))), aux=tuple(aux))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms, those of the classifiers on the way at its `aux_weight`."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def googlenet_tv(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    width: float = 1.0,
    dropout: float = 0.2,
    mean: Sequence[float] | None = HALF,
    std: Sequence[float] | None = HALF,
) -> GoogLeNet:
    """torchvision's googlenet with its two classifiers on the way. width: factor of all channels."""
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return GoogLeNet(num_classes, in_channels=in_channels, width=width, dropout=dropout, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("conv{i}.{rest}", "conv{i}.{rest}"),
            ("inception{rest}", "inception{rest}"),
            ("aux{i}.{rest}", "aux{i}.{rest}"),
            ("fc.{leaf}", "fc.{leaf}"),
        ),
        words="torchvision's googlenet",
    ),
)
