"""What the three YOLO networks have in common: a grid of guesses, and how answers and truth meet in it.

Letters: B pictures, N guesses of all heads, A anchors of a head, K classes, G true boxes, h x w cells of a head.

A guess is a box (centre x, centre y, width, height, relative to the network's input), an objectness and a number for
each class; its score for a class is their product. The heads (`Cells`, `Region`, `Scale`, in the papers' files) turn a
map into guesses, and a map and the truth into losses, by darknet's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, real, whole
from sightline.detection.darknet import Darknet
from sightline.detection.regions import best, candidates, rows, suppressed
from sightline.nn.normalize import Normalize
from sightline.ops.boxes import clip_boxes, from_centres, iou, to_centres
from sightline.ops.nms import ranking
from sightline.ops.resize import pad_to_multiple
from sightline.ops.tree import register_dataclass
from sightline.weights.darknet import Slot
from sightline.weights.keymap import KeyMap


@dataclass(frozen=True)
class Guesses:
    """boxes `(B, N, 4)`: centres and sizes, relative. objectness `(B, N)`. classes `(B, N, K)`."""

    boxes: Tensor
    objectness: Tensor
    classes: Tensor

    @property
    def scores(self) -> Tensor:
        """`(B, N, K)`."""
        return self.objectness[..., None] * self.classes


@dataclass(frozen=True)
class Truth:
    """True boxes `(B, G, 4)` as centres and sizes relative to the input, labels `(B, G)`, valid `(B, G)` bool."""

    boxes: Tensor
    labels: Tensor
    valid: Tensor


class Head(Protocol):
    """What makes guesses of a map."""

    def guess(self, raw: Tensor, size: tuple[int, int]) -> Guesses:
        """The guesses of a map `(B, C, h, w)`; size: height and width of the input in pixels."""
        ...

    def losses(self, raw: Tensor, truth: Truth, size: tuple[int, int], seen: float) -> dict[str, Tensor]:
        """Named terms, summed over the batch; seen: pictures seen in training so far."""
        ...


@register_dataclass
@dataclass(frozen=True)
class Grid:
    """What a YOLO network sees. found: the objects. With targets, for the losses: the maps its heads read, and the
    input's height and width `(2,)` in pixels of the pictures."""

    found: Found | None = None
    maps: tuple[Tensor, ...] = ()
    extent: Tensor | None = None


class Yolo(nn.Module):
    """A darknet network and its heads.

    fixed: height and width that the network's fully connected layers ask for; pictures of another size are resized,
    proportions and all (darknet does so for v1). None: any size; pictures are padded to multiples of `multiple`.
    score, before, overlap, most: the least score of an answer, how many candidates compete, the IoU at which answers of
    a class suppress each other, answers a picture.
    """

    OPTIONAL = ()

    def __init__(
        self,
        body: Darknet,
        heads: Sequence[Head],
        num_classes: int,
        *,
        normalize: Normalize,
        fixed: tuple[int, int] | None = None,
        multiple: int = 32,
        score: float = 0.005,
        before: int = 1000,
        overlap: float = 0.45,
        most: int = 100,
    ) -> None:
        super().__init__()
        self.normalize, self.body, self.heads, self.num_classes = normalize, body, tuple(heads), num_classes
        self.fixed, self.multiple = fixed, multiple
        self.score, self.before, self.overlap, self.most = score, before, overlap, most
        self.register_buffer(
            "seen", torch.zeros(()), persistent=False
        )  # pictures of training; the file's header has it
        self.HEAD = tuple(f"body.layers.{i - 1}." for i in body.heads)

    seen: Tensor

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Grid:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        x = self.normalize(images, sizes)
        if self.fixed is None:
            x, _ = pad_to_multiple(x, self.multiple)
            extent = (x.shape[-2], x.shape[-1])
        else:
            extent = (images.shape[-2], images.shape[-1])
            x = F.interpolate(x, self.fixed, mode="bilinear", align_corners=False)  # the same where the size is right
        maps = self.body(x)
        found = None
        if targets is None or not self.training:
            found = self.find(maps, (x.shape[-2], x.shape[-1]), extent, whole(images, sizes))
        if targets is None:
            return Grid(found)
        if self.training:
            self.seen += len(images)
        return Grid(found, tuple(maps), torch.tensor(extent, dtype=torch.float32, device=x.device))

    def guesses(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Guesses:
        """All heads' guesses; size: of the input of the layers."""
        found = [head.guess(raw.float(), size) for head, raw in zip(self.heads, maps)]
        return Guesses(*(torch.cat([getattr(g, n) for g in found], 1) for n in ("boxes", "objectness", "classes")))

    @torch.no_grad()
    def find(self, maps: Sequence[Tensor], size: tuple[int, int], extent: tuple[int, int], limits: Tensor) -> Found:
        """The best guesses, of which those of one class suppress each other."""
        guess = self.guesses([raw.detach() for raw in maps], size)
        scores = guess.scores.flatten(1)
        score, index = best(torch.where(scores > self.score, scores.clamp(max=1.0), 0.0), self.before)
        order = ranking(score)[:, : candidates(score)]
        score, index = score.gather(1, order), index.gather(1, order)
        boxes = from_centres(rows(guess.boxes, index // self.num_classes))
        scale = torch.tensor([extent[1], extent[0], extent[1], extent[0]], dtype=torch.float32, device=boxes.device)
        boxes = clip_boxes(boxes * scale, limits)
        return suppressed(boxes, score, index % self.num_classes, score > 0, self.overlap, self.most)

    def losses(self, out: Grid, targets: Target) -> dict[str, Tensor]:
        """Learn: the heads' terms, summed, the mean over pictures."""
        if out.extent is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        scale = out.extent.flip(0).repeat(2)
        truth = Truth(to_centres(targets.boxes / scale), targets.labels, real(targets))
        size = self.fixed or tuple(int(n) for n in out.extent.tolist())
        total: dict[str, Tensor] = {}
        for head, raw in zip(self.heads, out.maps):
            for name, value in head.losses(raw.float(), truth, (size[0], size[1]), float(self.seen)).items():
                total[name] = total.get(name, 0.0) + value / len(raw)
        return total

    def decode(self, out: Grid, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)

    def darknet_tensors(self) -> list[Slot]:
        """Our names in the order of a `.weights` file."""
        return self.body.slots("body.")


# Truth in the grid -----------------------------------------------------------------------------------------------


def centres(anchors: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns `(w,)` and rows `(h, 1)` of a map `(..., h, w)`, and anchors' sizes as `(A, 1, 1, 2)`."""
    height, width = raw.shape[-2:]
    columns = torch.arange(width, device=raw.device, dtype=torch.float32)
    return columns, torch.arange(height, device=raw.device, dtype=torch.float32)[:, None], anchors[:, None, None]


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes `(N, 2)` and `(..., 2)` (width, height) on one centre: `(..., N)`."""
    shared = torch.minimum(a, b[..., None, :]).prod(-1)
    return shared / (a.prod(-1) + b.prod(-1)[..., None] - shared).clamp(min=1e-12)


def overlaps(guess: Tensor, truth: Truth) -> Tensor:
    """The best IoU of every guess `(B, N, 4)` with a true box, `(B, N)`."""
    if truth.boxes.shape[1] == 0:
        return guess.new_zeros(guess.shape[:2])
    table = iou(from_centres(guess), from_centres(truth.boxes))
    return table.masked_fill(~truth.valid[:, None, :], 0.0).amax(-1)


@dataclass(frozen=True)
class Places:
    """Where true boxes stand: picture, anchor, row, column, and which true box it is, `(P,)` each."""

    picture: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    truth: Tensor


def places(truth: Truth, anchor: Tensor, height: int, width: int, *, last: bool = True) -> Places:
    """The cell of every true box and its anchor `(B, G)` (-1: none); of several at one place the last (or first) stays.

    A box whose centre lies outside of the grid has no place.
    """
    column, row = (truth.boxes[..., 0] * width).floor().long(), (truth.boxes[..., 1] * height).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    valid = truth.valid & (anchor >= 0) & inside
    at = (anchor * height + row) * width + column
    rival = (at[:, :, None] == at[:, None, :]) & valid[:, None, :]
    order = torch.ones_like(rival[0]).triu(1) if last else torch.ones_like(rival[0]).tril(-1)
    picture, which = (valid & ~(rival & order).any(-1)).nonzero(as_tuple=True)
    return Places(picture, anchor[picture, which], row[picture, which], column[picture, which], which)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "darknet",
        (("{i}.{rest}", "body.layers.{i}.{rest}"),),
        words="pjreddie/darknet: the tensors of a .weights file, numbered as in the .cfg",
    ),
)
