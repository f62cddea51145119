"""The segmentation contract: what goes in, what comes out, in which units. Read this first.

Letters: B pictures, K classes, H x W pixels (volumes: D x H x W).

- images: float32 `(B, C, H, W)` in [0, 1]; the network normalises.
- labels: int64 `(B, H, W)`, class ids 0..K-1; pixels marked `IGNORE` are never scored. A network of one class
  answers with one logit a pixel (a sigmoid); its labels are 0 (not it) and 1 (it).
- multi-label: labels `(B, K, H, W)` of 0, 1 or `IGNORE`, a sigmoid a class.
- answers stand at the size of the picture the network was given; `predict` maps them to the picture's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sightline.errors import UsageError
from sightline.ops.tree import register_dataclass
from sightline.segmentation.answer import LabelMap, named

IGNORE = 255


@register_dataclass
@dataclass(frozen=True)
class Scores:
    """What a segmentation network sees: `logits` at the input's size (unpadded networks: smaller, centred)."""

    logits: Tensor  # (B, K, H, W)
    aux: tuple[Tensor, ...] = ()  # further heads, same shape; for losses only


@register_dataclass
@dataclass(frozen=True)
class Target:
    """What a segmentation network learns from."""

    labels: Tensor  # (B, H, W) int64, 0..K-1 or IGNORE; multi-label (B, K, H, W)
    weights: Tensor | None = None  # (B, H, W) float32, how much each pixel's loss counts


class Segmenter(Protocol):
    """The three verbs. Networks are plain `nn.Module`s; nothing inherits from this."""

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures to logits."""
        ...

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: named scalar terms, to be summed."""
        ...

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        ...


def probabilities(logits: Tensor, *, multilabel: bool = False) -> Tensor:
    """Class probabilities of logits, both `(B, K, ...)`: a sigmoid for one class or `multilabel`, else softmax."""
    if multilabel or logits.shape[1] == 1:
        return logits.sigmoid()
    return logits.softmax(dim=1)


def labels_of(probabilities: Tensor, *, threshold: float = 0.5, multilabel: bool = False) -> Tensor:
    """The most probable class, `(B, K, ...)` to uint8 `(B, ...)`; one class: 1 where above `threshold`.

    multilabel: `(B, K, ...)` of 0 and 1, each class by itself.
    Raises `UsageError` for more than 255 classes: 255 itself marks pixels that are never scored.
    """
    if probabilities.shape[1] > IGNORE:
        raise UsageError(f"the network has {probabilities.shape[1]} classes; a label map holds at most {IGNORE}")
    if multilabel:
        return (probabilities > threshold).to(torch.uint8)
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > threshold).to(torch.uint8)
    return probabilities.argmax(dim=1).to(torch.uint8)


def decode(out: Scores, *, classes: Sequence[str] = (), multilabel: bool = False) -> list[LabelMap]:
    """The `decode` of every network with one answer a pixel: a `LabelMap` for each picture of the batch.

    multilabel: one answer a pixel and class.
    """
    probability = probabilities(out.logits, multilabel=multilabel)
    names = named(classes, probability.shape[1], multilabel=multilabel)
    found = labels_of(probability, multilabel=multilabel)
    return [
        LabelMap(labels=labels, classes=names, probabilities=p, multilabel=multilabel)
        for labels, p in zip(found, probability)
    ]
