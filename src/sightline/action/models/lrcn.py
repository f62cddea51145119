"""LRCN.

Paper: Long-term Recurrent Convolutional Networks for Visual Recognition and Description (Donahue et al. 2015,
arXiv:1411.4389), activity recognition.

The idea: a network of pictures sees each frame, a recurrent layer reads what it saw in order and answers after every
frame; the answer of a clip is the mean of the answers' probabilities.

- `lrcn`, the one to start with: a small ResNet and an LSTM, GRU or plain recurrent layer (`recurrent`); any size.
- `lrcn_caffe`: the authors' network, a hybrid of CaffeNet and ZF's, whose Caffe weights load (gates in Caffe's order).

On flow, the input is a picture of three channels: x, y and the length, each around 0.5. Departure: Caffe's LSTM has one
bias, torch's layer two; here it is one.
Trait of `lrcn_caffe`, `fixed_size`: its full layer fixes height and width; clips of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.backbones.resnet import BasicUnit, ResNet
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.bins import average_bins
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import reordered

Kind = Literal["lstm", "gru", "rnn"]

# Parts -----------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """One layer of LSTM (gates i, f, g, o), GRU (r, z, n) or plain recurrence (tanh), with one bias, from zero.

    Drawn uniformly within 1 / sqrt(hidden); the LSTM's forget gate starts open (bias 1).
    """

    def __init__(self, channels: int, hidden: int, kind: Kind = "lstm") -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise UsageError(f"recurrent is '{kind}', expected one of {', '.join(get_args(Kind))}")
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
        self.kind, self.hidden = kind, hidden
        self.weight_x = nn.Parameter(torch.empty(gates * hidden, channels))
        self.weight_h = nn.Parameter(torch.empty(gates * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(gates * hidden))
        for weight in (self.weight_x, self.weight_h):
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)
        if kind == "lstm":
            with torch.no_grad():
                self.bias[hidden : 2 * hidden] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """`(T, B, C)` to `(T, B, hidden)`."""
        start = x.new_zeros(1, x.shape[1], self.hidden)
        weights = [self.weight_x, self.weight_h, self.bias, torch.zeros_like(self.bias)]
        if self.kind == "lstm":
            return torch.lstm(x, [start, start], weights, True, 1, 0.0, self.training, False, False)[0]
        layer = torch.gru if self.kind == "gru" else torch.rnn_tanh
        return layer(x, start, weights, True, 1, 0.0, self.training, False, False)[0]


class HybridNet(nn.Module):
    """CaffeNet with ZF's first layers, up to fc6. widths: channels of the five convolutions. size: of a frame."""

    def __init__(self, in_channels: int, widths: Sequence[int], hidden: int, size: tuple[int, int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.conv1 = nn.Conv2d(in_channels, a, 7, 2)
        self.conv2 = nn.Conv2d(a, b, 5, 2, groups=2)
        self.conv3 = nn.Conv2d(b, c, 3, 1, 1)
        self.conv4 = nn.Conv2d(c, d, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(d, e, 3, 1, 1, groups=2)
        self.relu = nn.ReLU()
        self.pool1, self.pool2, self.pool5 = (nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3))
        self.norm1, self.norm2 = (nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0) for _ in range(2))
        self.size, self.channels = size, hidden
        self.fc6 = nn.Linear(e * _left(size[0]) * _left(size[1]), hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Frames `(N, C, H, W)` to `(N, hidden)`."""
        if tuple(x.shape[2:]) != self.size:
            raise UsageError(f"this network takes frames of {self.size}, not of {tuple(x.shape[2:])}")
        x = self.norm1(self.pool1(self.relu(self.conv1(x))))
        x = self.norm2(self.pool2(self.relu(self.conv2(x))))
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        x = self.pool5(self.relu(self.conv5(x)))
        return self.relu(self.fc6(x.flatten(1)))


def _left(n: int) -> int:
    """Positions that are left of a side of `n` pixels."""

    def pooled(m: int) -> int:
        return -(-(m - 3) // 2) + 1

    first = pooled((n - 7) // 2 + 1)
    second = pooled((first - 5) // 2 + 1)
    if second < 1:
        raise UsageError(f"frames with a side of {n} pixels are too small for this network; give 64 or more")
    return pooled(second)


class PooledResNet(nn.Module):
    """A ResNet and the mean over space, or over each of `grid` x `grid` parts of it, one after the other."""

    def __init__(self, net: ResNet, grid: int = 1) -> None:
        super().__init__()
        self.net, self.grid = net, grid
        self.channels = net.stages[-1].channels * grid**2

    def forward(self, x: Tensor) -> Tensor:
        """Frames `(N, C, H, W)` to `(N, channels)`."""
        x = self.net(x)[self.net.stages[-1].name]
        return average_bins(x, self.grid).flatten(1)


# Network ---------------------------------------------------------------------------------------------------------


class LRCN(nn.Module):
    """A network of single frames, a recurrent layer over them, a classifier after every frame."""

    HEAD = ("fc8.",)

    def __init__(
        self,
        frames: HybridNet | PooledResNet,
        num_classes: int,
        *,
        hidden: int = 256,
        recurrent: Kind = "lstm",
        dropout: tuple[float, float] = (0.9, 0.5),
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.frames = frames
        self.dropout6, self.dropout8 = nn.Dropout(dropout[0]), nn.Dropout(dropout[1])
        self.lstm1 = Recurrent(frames.channels, hidden, recurrent)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to the mean of their steps' logits `(B, K)`, and the steps as parts."""
        count = images.shape[2]
        x = self.normalize(images, sizes).permute(2, 0, 1, 3, 4).flatten(0, 1)  # (T * B, C, H, W)
        x = self.dropout6(self.frames(x)).unflatten(0, (count, images.shape[0]))
        steps = self.fc8(self.dropout8(self.lstm1(x)))  # (T, B, K)
        return Scores(steps.mean(0), steps.transpose(0, 1))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms, each step by itself."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------

CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


def lrcn(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (1, 1, 1, 1),
    width: int = 32,
    grid: int = 1,
    hidden: int = 128,
    recurrent: Kind = "lstm",
    dropout: float = 0.2,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> LRCN:
    """A small LRCN. depths, width: of the ResNet. hidden: of the recurrent layer, `lstm`, `gru` or `rnn`.

    grid: parts along each side of a frame that the recurrent layer is told of apart; 1: only their mean, which knows
    what is seen and not where.
    """
    if grid < 1:
        raise UsageError(f"grid {grid} must be a whole number from 1")
    net = PooledResNet(ResNet(BasicUnit, depths, in_channels=in_channels, width=width), grid)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return LRCN(net, num_classes, hidden=hidden, recurrent=recurrent, dropout=(dropout, dropout), normalize=normalize)


def lrcn_caffe(
    num_classes: int = 101,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (96, 384, 512, 512, 384),
    fc6: int = 4096,
    hidden: int = 256,
    recurrent: Kind = "lstm",
    size: Sequence[int] = (227, 227),
    dropout: Sequence[float] = (0.9, 0.5),
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> LRCN:
    """The authors' network of activities (101 classes: 65,421,285 parameters).

    widths: channels of the five convolutions. fc6, hidden: of the full and of the recurrent layer. size: of a frame.
    dropout: after fc6 and after the recurrent layer.
    """
    if len(widths) != 5 or any(n % 2 for n in widths):
        raise UsageError(f"widths are {list(widths)}, expected five even numbers of channels")
    height, width = size
    first, second = dropout
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=mean is not None and in_channels == 3)
    net = HybridNet(in_channels, widths, fc6, (height, width))
    return LRCN(net, num_classes, hidden=hidden, recurrent=recurrent, dropout=(first, second), normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

#: Caffe's gates i, f, o, g in torch's order i, f, g, o.
_GATES = reordered((0, 1, 3, 2))
KEY_MAPS = (
    KeyMap(
        "caffe",
        (
            *((f"conv{i}.{{leaf}}", f"frames.conv{i}.{{leaf}}") for i in range(1, 6)),
            ("fc6.{leaf}", "frames.fc6.{leaf}"),
            ("lstm1.weight_x", "lstm1.weight_x", _GATES),
            ("lstm1.weight_h", "lstm1.weight_h", _GATES),
            ("lstm1.bias", "lstm1.bias", _GATES),
            ("fc8-final.{leaf}", "fc8.{leaf}"),
        ),
        words="the authors' Caffe model as an .npz: LAYER.weight, LAYER.bias, lstm1.weight_x, .weight_h, .bias",
    ),
)
