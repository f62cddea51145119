"""The detection contract: what goes in, what comes out, in which units. Read this first.

Letters: B pictures, K classes, G true boxes (padded), D detections (padded), J joints, H x W pixels.

- images: float32 `(B, C, H, W)` in [0, 1]; the network normalises. `sizes` `(B, 2)` says which part is no padding.
- boxes: x0, y0, x1, y1 in absolute, continuous pixels of the picture the network was given. Nothing is added: the box
  of the first pixel is 0, 0, 1, 1. `predict` maps answers to the picture's own size.
- labels: 0..K-1. A background class, where a paper has one, is added inside the network.
- lists of boxes are padded to one length, so that a batch is a few tensors: padding has the label `PADDING`.
- what a network says is `Found`: fixed shapes, best first, with a count. Suppression and limits have happened; `decode`
  applies the user's threshold and cuts the padding off.

A network's own output is a frozen dataclass with a field `found`, and what its losses need in further fields:

    forward(images, *, sizes=None, targets=None) -> Out
        without targets: `out.found`, nothing else.
        with targets: whatever `losses` needs. `out.found` too in eval mode; in training mode it is None, for the step
        must not pay for answers nobody reads.
    losses(out, targets) -> dict[str, Tensor]     named scalar terms, in training and in eval mode alike
    decode(out, *, score, classes) -> list[Detections]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.detection.answer import Detections
from sightline.ops.tree import register_dataclass

PADDING = -1
"""The label of what is no object, but stands in a padded list of objects."""


@register_dataclass
@dataclass(frozen=True)
class Target:
    """What a network of boxes learns from: the objects of each picture, padded to one number G (0 is allowed).

    boxes: `(B, G, 4)` float32. labels: `(B, G)` int64, 0..K-1 or `PADDING`.
    ignore: `(B, G)` bool: crowds and objects marked difficult, which are neither found nor missed; None: there are
        none. A network that does not know what to do with them drops them (`real`).
    masks: `(B, G, H, W)` bool, at the size of the network's input.
    keypoints: `(B, G, J, 3)`: x, y in pixels, and 0 (not labelled), 1 (hidden) or 2 (seen).
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor | None = None
    masks: Tensor | None = None
    keypoints: Tensor | None = None


@register_dataclass
@dataclass(frozen=True)
class Found:
    """What a network says of each picture: at most D objects, best first, `count` of them real.

    boxes: `(B, D, 4)` in pixels of the input, within its valid size. scores: `(B, D)` in [0, 1], float32.
    labels: `(B, D)` int64. count: `(B,)` int64. What stands beyond the count means nothing.
    masks: a form of masks that an `instance` network explains, such as `(B, D, 28, 28)` probabilities in the box.
    keypoints: `(B, D, J, 3)`: x, y, score.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    count: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None


class Out(Protocol):
    """What every network's output has in common; each adds what its own losses need."""

    @property
    def found(self) -> Found | None:
        """The objects; None in a training step."""
        ...


class Detector(Protocol):
    """The three verbs. Networks are plain `nn.Module`s; nothing inherits from this."""

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Any:
        """See: `(B, C, H, W)` pictures to an `Out`."""
        ...

    def losses(self, out: Any, targets: Target) -> dict[str, Tensor]:
        """Learn: named scalar terms, to be summed."""
        ...

    def decode(self, out: Any, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture with a score of at least `score`, in pixels of the input."""
        ...


@register_dataclass
@dataclass(frozen=True)
class Seen:
    """The output of a network without losses of its own: an exported file."""

    found: Found


def real(targets: Target) -> Tensor:
    """True `(B, G)` where an entry is an object to learn from: no padding, no crowd, not marked difficult."""
    objects = targets.labels != PADDING
    return objects if targets.ignore is None else objects & ~targets.ignore


def whole(images: Tensor, sizes: Tensor | None) -> Tensor:
    """Valid heights and widths `(B, 2)` int64 of `images` `(B, C, H, W)`: `sizes`, or the whole of each."""
    if sizes is not None:
        return sizes.long()
    height = torch.full((images.shape[0],), images.shape[2], device=images.device)
    width = torch.full((images.shape[0],), images.shape[3], device=images.device)
    return torch.stack([height, width], dim=-1)


def decode(out: Out, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
    """The `decode` of every network of boxes: padding off, scores below `score` off."""
    found = out.found
    if found is None:
        raise ValueError("a training step looks for nothing; call forward in eval mode, or without targets")
    answers = []
    for i, count in enumerate(found.count.tolist()):
        some = slice(0, count)
        answer = Detections(
            boxes=found.boxes[i, some],
            scores=found.scores[i, some],
            labels=found.labels[i, some],
            classes=tuple(classes),
            keypoints=None if found.keypoints is None else found.keypoints[i, some],
        )
        answers.append(answer if score is None else answer.above(score))
    return answers
