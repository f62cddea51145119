"""Recurrent convolutional network for scene parsing.

Paper: Recurrent Convolutional Neural Networks for Scene Parsing (Pinheiro & Collobert 2014, arXiv:1306.2795).

The idea: a small patch network scores every place of the picture. The same network, with the same weights, then looks
at the picture at half the resolution together with its own scores, and again: each turn sees more context and corrects
the one before. No parameter is added for it.

Letters: B pictures, K classes, H x W pixels, o instances (turns).

One turn is an 8 x 8 convolution, a 2 x 2 max-pool, tanh, an 8 x 8 convolution, tanh, a 1 x 1 convolution to the
classes: a field of 23 pixels, a step of 2. Two turns see 67 pixels, three 155. Turn p + 1 reads every second pixel of
turn p's picture, those in the middle of its patches, and the scores there; turn 1 reads zeros in their place.

- In training the network answers every 2^o pixels and its scores are interpolated in between; all turns learn, as in
  the paper (`aux_...` are the earlier ones; the paper gives all the same weight, `train` gives the earlier 0.4).
- In eval mode every pixel has the answer of its own patch (`way="dilated"`; `stitch` and `patches` give the same
  numbers slowly, `strided` interpolates there too). Exported, it answers in the same way.

Departures: the paper draws one random patch a step; here all patches of a crop, 2^o pixels apart, learn at once. Beyond
the borders the picture is continued by its mean (`padding`: `reflect` changes the scores of classes near borders).

There is no public implementation by the authors and no file of weights, so there is nothing to compare with: the tests
hold the fields of the paper, the parameter count of its description, and that the ways agree.

Published (pixel / class accuracy, not measured here): Stanford Background 76.2 / 67.2 with two turns, 80.2 / 69.9 with
three; SIFT Flow 65.5 / 20.8 and 77.7 / 29.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.nn.patches import Way, answer_pixels, field_and_stride, run_dilated
from sightline.ops.resize import Padding, pad, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion

# Network ---------------------------------------------------------------------------------------------------------


def patch_network(in_channels: int, num_classes: int, widths: Sequence[int], kernel: int = 8) -> nn.Sequential:
    """One turn: `(B, in_channels, h, w)` to `(B, K, (h - field) // 2 + 1, ...)`."""
    first, second = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, first, kernel),
        nn.MaxPool2d(2),
        nn.Tanh(),
        nn.Conv2d(first, second, kernel),
        nn.Tanh(),
        nn.Conv2d(second, num_classes, 1),
    )


class RecurrentCNN(nn.Module):
    """A patch `network` of step 2 that is fed the picture and its own scores, `instances` times.

    network: reads the picture's channels and K scores. way: how every pixel gets its answer in eval mode.
    """

    HEAD = ("network.0.", "network.5.")
    STEM = ("network.0.weight",)

    def __init__(
        self,
        network: nn.Sequential,
        num_classes: int,
        *,
        instances: int = 3,
        way: Way = "dilated",
        padding: Padding = "zeros",
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.once, stride = field_and_stride(network)
        if instances < 1 or stride != 2 or self.once % 2 == 0:
            raise UsageError(
                f"{instances} instances of a network of field {self.once} and step {stride}: expected 1 or more of an "
                "odd field and a step of 2, so that the picture can be halved between them"
            )
        self.normalize = normalize
        self.network, self.num_classes, self.instances = network, num_classes, instances
        self.way: Way = way
        self.padding: Padding = padding
        self.stride = 2**instances
        self.field = 1 + (self.once - 1) * (self.stride - 1)
        self.criterion = criterion or Criterion(aux_weight=1.0)
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits; `aux`: the earlier turns'."""
        x = self.normalize(images, sizes)
        if self.training or self.way == "strided":
            return self._interpolated(x)
        found = answer_pixels(
            self._last_places,
            self._every_place,
            x,
            field=self.field,
            stride=self.stride,
            way=self.way,
            padding=self.padding,
        ).chunk(self.instances, dim=1)
        return Scores(found[-1], tuple(found[:-1]))

    def _last_places(self, x: Tensor) -> Tensor:
        """Scores of all turns `(B, o K, h, w)` at the places that the last turn answers."""
        found = self.turns(x)
        last = found[-1].shape[-2:]
        kept = []
        for turn, scores in enumerate(found, start=1):
            step = 2 ** (self.instances - turn)
            beyond = self.once // 2 * (step - 1)
            kept.append(top_left(scores[..., beyond::step, beyond::step], last))
        return torch.cat(kept, dim=1)

    def _every_place(self, x: Tensor) -> Tensor:
        """As `_last_places`, for every pixel."""
        found = self.dense_turns(x)
        height, width = found[-1].shape[-2:]
        kept = []
        for turn, scores in enumerate(found, start=1):
            beyond = self.once // 2 * (self.stride - 2**turn)
            kept.append(scores.narrow(2, beyond, height).narrow(3, beyond, width))
        return torch.cat(kept, dim=1)

    def _interpolated(self, x: Tensor) -> Scores:
        size, around = x.shape[-2:], self.field // 2
        bottom, right = ((1 - n) % self.stride for n in size)  # so that the last pixel has an answer, too
        x = pad(x, (around, around + right, around, around + bottom), self.padding)
        whole = [n - 2 * around for n in x.shape[-2:]]
        found = []
        for turn, scores in enumerate(self.turns(x), start=1):
            step = 2**turn
            beyond = (self.once // 2) * (self.stride // step - 1)  # places outside the picture
            rows, columns = ((n - 1) // step + 1 for n in whole)
            scores = scores.narrow(2, beyond, rows).narrow(3, beyond, columns)
            found.append(top_left(resize(scores, whole, rule="align_corners"), size))
        return Scores(found[-1], tuple(found[:-1]))

    def turns(self, x: Tensor) -> list[Tensor]:
        """Scores of every turn over pictures `(B, C, h, w)` that hold one field at least; turn p steps 2^p pixels."""
        scores, found = self._nothing(x), []
        for _ in range(self.instances):
            scores = self.network(torch.cat([x, scores], dim=1))
            found.append(scores)
            x = x[..., self.once // 2 :: 2, self.once // 2 :: 2]
            x = x[..., : scores.shape[-2], : scores.shape[-1]]
        return found

    def dense_turns(self, x: Tensor) -> list[Tensor]:
        """As `turns`, for every pixel instead of every 2^p-th."""
        scores, found, step = self._nothing(x), [], 1
        for _ in range(self.instances):
            scores = run_dilated(self.network, torch.cat([x, scores], dim=1), step=step)
            found.append(scores)
            around = self.once // 2 * step
            x = x[..., around:-around, around:-around]
            step *= 2
        return found

    def _nothing(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :1]).expand(-1, self.num_classes, -1, -1)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms; those of the earlier turns are called `aux_...`."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builder ---------------------------------------------------------------------------------------------------------


def pinheiro_rcnn(
    num_classes: int = 8,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (25, 50),
    kernel: int = 8,
    instances: int = 3,
    way: Way = "dilated",
    padding: Padding = "zeros",
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> RecurrentCNN:
    """The recurrent network of the paper's Stanford experiment (8 classes: 98,083 parameters).

    widths: channels of the two convolutions (SIFT Flow: 50, 50). kernel: their side, an even number. instances: turns.
    way: `dilated`, `stitch`, `patches` or `strided`, in eval mode. padding: what continues the picture: `zeros` (the
    mean), `reflect` or `replicate`.
    """
    return RecurrentCNN(
        patch_network(in_channels + num_classes, num_classes, widths, kernel),
        num_classes,
        instances=instances,
        way=way,
        padding=padding,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = ()
