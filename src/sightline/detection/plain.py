"""What systems share that look at pictures one by one, with numpy, outside of any graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.detection.contract import PADDING, Found, Target
from sightline.errors import UsageError
from sightline.ops.boxes import iou, sized
from sightline.ops.nms import nms
from sightline.ops.tree import register_dataclass


@register_dataclass
@dataclass(frozen=True)
class Windows:
    """What a system that slides windows sees. found: the objects.

    margins: `(N, K)` of all windows of all pictures, with targets. signs: `(N, K)`, 1 where a window shows an object of
    the class, -1 where it shows none, 0 where it is neither.
    """

    found: Found | None = None
    margins: Tensor | None = None
    signs: Tensor | None = None


def signs_of(boxes: Tensor, targets: Target, i: int, classes: int, *, right: float, wrong: float) -> Tensor:
    """What windows `(N, 4)` of picture `i` are for each class: `(N, classes)` of 1, 0, -1.

    right: the IoU with an object from which a window shows it; wrong: below which it shows none.
    """
    objects, labels, ignored = (t.cpu() for t in plain_objects(targets, i))
    if not len(objects):
        return torch.full((len(boxes), classes), -1)
    shared = iou(boxes, objects)
    of_class = (labels[:, None] == torch.arange(classes)) & ~ignored[:, None]
    best = (shared[:, :, None] * of_class).amax(1)
    doubtful = (shared * ignored).amax(1)[:, None] >= wrong
    return (best >= right).long() - ((best < wrong) & ~doubtful).long()


def hinges(out: Windows) -> dict[str, Tensor]:
    """`right` and `wrong`: the mean squared hinge of windows with and without an object."""
    if out.margins is None or out.signs is None:
        raise ValueError("losses need an output of forward(images, targets=...)")
    found = {}
    for name, sign in (("right", 1), ("wrong", -1)):
        here = out.signs == sign
        gap = (1 - sign * out.margins).clamp(min=0) ** 2
        found[name] = (gap * here).sum() / here.sum().clamp(min=1)
    return found


def refuse_graphs(name: str) -> None:
    """One sentence when a program is traced: the counting is not seen by it."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        raise UsageError(
            f"{name} counts in numpy, which no compiled or exported program holds; use it as it is, or take a network "
            "such as retinanet"
        )


def as_bytes(images: Tensor, sizes: Tensor) -> list[NDArray[np.uint8]]:
    """Pictures `(B, C, H, W)`, bytes or in [0, 1], as `(h, w, C)` bytes of their valid sizes `(B, 2)`."""
    if images.dtype != torch.uint8:
        images = (images.detach().float().clamp(0, 1) * 255).round().byte()
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(one[:h, :w]) for one, (h, w) in zip(pixels, sizes.tolist())]


def plain_objects(targets: Target, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes `(G, 4)`, labels and whether to ignore `(G,)` of picture `i`, without padding."""
    here = targets.labels[i] != PADDING
    ignore = torch.zeros_like(here) if targets.ignore is None else targets.ignore[i]
    return targets.boxes[i][here], targets.labels[i][here], ignore[here]


def best_of(boxes: Sequence[Tensor], scores: Sequence[Tensor], *, least: float, overlap: float, most: int) -> Found:
    """The objects of each picture, from boxes `(N, 4)` (of a class each: `(N, K, 4)`) and scores `(N, K)`.

    Scores below `least` go, then boxes that a better one of their class overlaps by more than `overlap`.
    """
    kept = [_best(b, s, least, overlap, most) for b, s in zip(boxes, scores)]
    length = max([1, *(len(s) for _, s, _ in kept)])
    device = scores[0].device
    found = Found(
        torch.zeros(len(kept), length, 4, device=device),
        torch.zeros(len(kept), length, device=device),
        torch.zeros(len(kept), length, dtype=torch.long, device=device),
        torch.tensor([len(s) for _, s, _ in kept], device=device),
    )
    for i, (b, s, labels) in enumerate(kept):
        found.boxes[i, : len(s)], found.scores[i, : len(s)], found.labels[i, : len(s)] = b, s, labels
    return found


@torch.no_grad()
def _best(boxes: Tensor, scores: Tensor, least: float, overlap: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, labels = (scores >= least).nonzero(as_tuple=True)
    some = (boxes[rows, labels] if boxes.ndim == 3 else boxes[rows]).float()
    values = scores[rows, labels].float()
    real = sized(some, 1e-3)
    some, values, labels = some[real], values[real], labels[real]
    kept = nms(some, values, overlap, labels=labels)[:most]
    return some[kept], values[kept], labels[kept]


def touches(boxes: NDArray, objects: NDArray, least: float = 0.3) -> NDArray[np.bool_]:
    """Whether each of `(N, 4)` overlaps one of `(G, 4)` by an IoU of `least`, or holds most of one: `(N,)`."""
    if not len(objects) or not len(boxes):
        return np.zeros(len(boxes), bool)
    low, high = np.maximum(boxes[:, None, :2], objects[:, :2]), np.minimum(boxes[:, None, 2:], objects[:, 2:])
    inner = np.clip(high - low, 0, None).prod(-1)
    own, other = ((b[:, 2:] - b[:, :2]).prod(1) for b in (objects, boxes))
    return ((inner >= least * (own + other[:, None] - inner)) | (inner > 0.7 * own)).any(1)
