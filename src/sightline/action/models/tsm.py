"""TSM, the temporal shift module, and TSN, what it shifts.

Papers: TSM: Temporal Shift Module for Efficient Video Understanding (Lin, Gan & Han 2019, arXiv:1811.08383); Temporal
Segment Networks (Wang et al. 2016, arXiv:1608.00859).

The idea: a network of pictures looks at a few frames spread over the video, and the mean of their scores is the video's
(TSN). Moving an eighth of the channels one frame back and an eighth one frame ahead before each residual branch lets
neighbours see each other: the price of a 2-D network, the eyes of a 3-D one.

- `tsm`, the one to start with: a small ResNet, any number of frames of any size. `tsn`: the same without the shift.
- `tsm_r50`, `tsm_r101`: the authors' networks; deep stages (23 units) shift every second unit.
- `tsm_online_r50`: shifts from the past only, so that a stream is answered frame by frame (`step`) at the cost of one
  pass of the 2-D network, the shifted channels kept from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.backbones.resnet import BasicUnit, Bottleneck, ResNet
from sightline.classification.losses import Criterion
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.shift import temporal_shift
from sightline.weights.keymap import KeyMap

Shift = Callable[[Tensor], Tensor]

# Parts -----------------------------------------------------------------------------------------------------------


class Shifted(nn.Module):
    """The convolution `net` behind a shift; what is shifted, and from where, its stage decides."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        """`(B * T, C, H, W)` to the convolution's output."""
        return self.net(shift(x))


class ShiftStage(nn.Sequential):
    """A ResNet's stage whose units with a `Shifted` first convolution see what `shift` makes of their input."""

    def forward(self, x: Tensor, shift: Shift) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`(B * T, C, H, W)` to `(B * T, C', H', W')`."""
        for unit in self:
            assert isinstance(unit, (BasicUnit, Bottleneck))
            y = unit.conv1(x, shift) if isinstance(unit.conv1, Shifted) else unit.conv1(x)
            y = unit.conv2(unit.relu(unit.bn1(y)))
            y = unit.bn2(y)
            if isinstance(unit, Bottleneck):
                y = unit.bn3(unit.conv3(unit.relu(y)))
            x = unit.relu(y + (x if unit.downsample is None else unit.downsample(x)))
        return x


def shifted(net: ResNet, *, every: bool = True) -> ResNet:
    """`net` with shifts in its units. every=False: none at all (TSN)."""
    for stage in net.stages[1:]:
        units = list(net.get_submodule(stage.name).children())
        rhythm = 2 if len(units) >= 23 else 1
        for i, unit in enumerate(units):
            if every and i % rhythm == 0:
                unit.conv1 = Shifted(unit.conv1)  # pyright: ignore[reportArgumentType]
        net.add_module(stage.name, ShiftStage(*units))
    return net


# Network ---------------------------------------------------------------------------------------------------------


class TSM(nn.Module):
    """A shifted 2-D ResNet, the mean over space, a linear classifier for each frame, the mean over frames.

    fold: one in so many channels moves in each direction. causal: from the past only.
    """

    HEAD = ("new_fc.",)
    STEM = ("base_model.conv1.weight",)

    def __init__(
        self,
        backbone: ResNet,
        num_classes: int,
        *,
        shift: bool = True,
        fold: int = 8,
        causal: bool = False,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.fold, self.causal = fold, causal
        self.normalize = normalize
        self.base_model = shifted(backbone, every=shift)
        self.dropout = nn.Dropout(dropout)
        self.new_fc = nn.Linear(backbone.stages[-1].channels, num_classes)
        self.criterion = criterion or Criterion()
        nn.init.normal_(self.new_fc.weight, std=0.001)
        nn.init.zeros_(self.new_fc.bias)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to `(B, K)` logits."""
        frames = images.shape[2]
        x = self.normalize(images, sizes).transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        scores = self._frames(x, partial(temporal_shift, frames=frames, fold=self.fold, causal=self.causal))
        return Scores(scores.unflatten(0, (-1, frames)).mean(1))

    def step(self, image: Tensor, state: Sequence[Tensor] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One more frame `(B, C, H, W)` of a stream: its logits `(B, K)` and the state for the next; () at the start.

        The mean of the logits of a clip's frames is what `forward` says of the clip. Causal networks only.
        """
        if not self.causal:
            raise ValueError("step needs a causal network: build tsm_online_r50, or tsm with causal=True")
        before, after = list(state), []

        def shift(x: Tensor) -> Tensor:
            part = x.shape[1] // self.fold
            kept = before.pop(0) if before else torch.zeros_like(x[:, :part])
            after.append(x[:, :part])
            return torch.cat([kept, x[:, part:]], dim=1)

        return self._frames(self.normalize(image), shift), tuple(after)

    def _frames(self, x: Tensor, shift: Shift) -> Tensor:
        """Frames `(N, C, H, W)` to their logits `(N, K)`."""
        net = self.base_model
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for stage in net.stages[1:]:
            x = net.get_submodule(stage.name)(x, shift)
        return self.new_fc(self.dropout(x.mean((2, 3))))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def tsm(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 32,
    fold: int = 8,
    causal: bool = False,
    dropout: float = 0.2,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> TSM:
    """TSM on a ResNet-18 of half the width. causal: shifts from the past only, so that `step` answers a stream."""
    net = ResNet(BasicUnit, depths, in_channels=in_channels, width=width)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return TSM(net, num_classes, fold=fold, causal=causal, dropout=dropout, normalize=normalize)


def tsn(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 32,
    dropout: float = 0.2,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> TSM:
    """TSN on a ResNet-18 of half the width: frames do not see each other, their scores are averaged."""
    net = ResNet(BasicUnit, depths, in_channels=in_channels, width=width)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return TSM(net, num_classes, shift=False, dropout=dropout, normalize=normalize)


def tsm_r50(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    fold: int = 8,
    causal: bool = False,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> TSM:
    """The authors' TSM on ResNet-50. fold: one in so many channels moves in each direction.

    causal: shifts from the past only.
    """
    net = ResNet(Bottleneck, depths, in_channels=in_channels, width=width)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return TSM(net, num_classes, fold=fold, causal=causal, dropout=dropout, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "tsm",
        (("base_model.{rest}", "base_model.{rest}"), ("new_fc.{leaf}", "new_fc.{leaf}")),
        prefix="module.",
        container="state_dict",
        words="the authors' files, of TSM and TSN",
    ),
    KeyMap(
        "mmaction2",
        (
            ("backbone.conv1.conv.{leaf}", "base_model.conv1.{leaf}"),
            ("backbone.conv1.bn.{leaf}", "base_model.bn1.{leaf}"),
            ("backbone.layer{i}.{j}.downsample.conv.{leaf}", "base_model.layer{i}.{j}.downsample.0.{leaf}"),
            ("backbone.layer{i}.{j}.downsample.bn.{leaf}", "base_model.layer{i}.{j}.downsample.1.{leaf}"),
            ("backbone.layer{i}.{j}.conv{k}.bn.{leaf}", "base_model.layer{i}.{j}.bn{k}.{leaf}"),
            ("backbone.layer{i}.{j}.conv{k}.conv.net.{leaf}", "base_model.layer{i}.{j}.conv{k}.net.{leaf}"),
            ("backbone.layer{i}.{j}.conv{k}.conv.{leaf}", "base_model.layer{i}.{j}.conv{k}.{leaf}"),
            ("cls_head.fc_cls.{leaf}", "new_fc.{leaf}"),
        ),
        container="state_dict",
        words="mmaction2",
    ),
)
