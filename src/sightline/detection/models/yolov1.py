"""YOLO, first version.

Paper: You Only Look Once: Unified, Real-Time Object Detection (Redmon, Divvala, Girshick & Farhadi 2016,
arXiv:1506.02640).

The idea: one network looks once at the whole picture and says for each cell of a grid which class stands there, and for
a few boxes a cell where they are and how much they overlap something. All of it is learned as one sum of squares.

- `yolov1`: the only published `.cfg` and weights: batch norm in the convolutions, a locally connected layer in place of
  the first fully connected one, three boxes a cell. `yolov1_tiny`: its small form with two boxes a cell.
- `yolov1_paper`: the paper's own: no normalisation, two fully connected layers, two boxes a cell.

Values: `loss="squared"` (the paper) or `"cross_entropy"` (a softmax over the classes of a cell in place of squares);
`conditional=True` (the paper): class numbers are learned where an object is, and a score is objectness times class;
False: they are learned in every cell, against zero where nothing is, and are the score by themselves.

Departures: none in the published form; running numbers of the norms follow PyTorch's rule (a tenth a step, darknet a
hundredth). Pictures of other sizes are stretched to the network's.

Loads: darknet's `.weights` of pjreddie (`darknet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.detection.darknet import Darknet, Section, conv, section
from sightline.detection.yolo import Guesses, Truth, Yolo
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.boxes import from_centres, iou

Loss = Literal["squared", "cross_entropy"]

# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """The detection layer. A map is flat: classes of all cells, objectness of all boxes, then all boxes.

    side: cells a side. boxes: a cell. root: the network says square roots of widths and heights. objects, background,
    classes, coordinates: weights of the terms. rescore: objectness is drawn to the overlap, else to 1.
    """

    side: int
    num_classes: int
    boxes: int = 2
    root: bool = True
    softmax: bool = False
    rescore: bool = True
    objects: float = 1.0
    background: float = 0.5
    classes: float = 1.0
    coordinates: float = 5.0
    conditional: bool = True

    def parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes `(B, S*S, K)`, objectness `(B, S*S, n)` and boxes `(B, S*S, n, 4)` as the network says them."""
        flat, cells = raw.flatten(1), self.side**2
        classes, objectness, boxes = flat.split(
            [cells * self.num_classes, cells * self.boxes, cells * self.boxes * 4], 1
        )
        shape = (cells, self.boxes)
        return classes.unflatten(1, (cells, -1)), objectness.unflatten(1, shape), boxes.unflatten(1, (*shape, 4))

    def places(self, boxes: Tensor) -> Tensor:
        """The network's boxes `(B, S*S, n, 4)` as centres and sizes relative to the picture."""
        cell = torch.arange(self.side**2, device=boxes.device)
        corner = torch.stack([cell % self.side, cell // self.side], -1).to(boxes.dtype)[:, None]  # (S*S, 1, 2)
        sizes = boxes[..., 2:] ** 2 if self.root else boxes[..., 2:]
        return torch.cat([(boxes[..., :2] + corner) / self.side, sizes], -1)

    def guess(self, raw: Tensor, size: tuple[int, int]) -> Guesses:
        """The guesses of a map; see `yolo.Head`."""
        classes, objectness, boxes = self.parts(raw)
        classes = classes.softmax(-1) if self.softmax else classes
        classes = classes[:, :, None].expand(-1, -1, self.boxes, -1).flatten(1, 2)
        found = objectness if self.conditional else torch.ones_like(objectness)
        return Guesses(self.places(boxes).flatten(1, 2), found.flatten(1), classes)

    def losses(self, raw: Tensor, truth: Truth, size: tuple[int, int], seen: float) -> dict[str, Tensor]:
        """Half the weighted squares; the first object of a cell is the cell's."""
        classes, objectness, boxes = self.parts(raw)
        cells = self.cell_truth(truth)
        where, which = cells >= 0, cells.clamp(min=0)
        nothing = 0.5 * self.background * (objectness**2).sum((1, 2))  # corrected below where a box is responsible
        everywhere = not (self.conditional or self.softmax)
        zeros = (classes**2).sum() * 0.5 * self.classes if everywhere else classes.sum() * 0
        if truth.boxes.shape[1] == 0:
            return {"boxes": boxes.sum() * 0, "objects": nothing.sum(), "classes": zeros}
        own = truth.boxes.gather(1, which[..., None].expand(-1, -1, 4))  # (B, S*S, 4)
        label = truth.labels.gather(1, which)
        with torch.no_grad():
            rival, overlap = self.responsible(self.places(boxes), own)
            wanted = self.wanted(own)
        chosen = objectness.gather(2, rival[..., None])[..., 0]
        said = boxes.gather(2, rival[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        goal = overlap if self.rescore else torch.ones_like(overlap)
        correction = 0.5 * self.objects * (goal - chosen) ** 2 - 0.5 * self.background * chosen**2
        if self.softmax:
            each = F.cross_entropy(classes.transpose(1, 2), label.clamp(min=0), reduction="none")
        else:
            known = F.one_hot(label.clamp(min=0), self.num_classes).to(classes.dtype)
            each = 0.5 * ((known - classes) ** 2).sum(-1)
            if everywhere:
                each = each - 0.5 * (classes**2).sum(-1)
        return {
            "boxes": (0.5 * self.coordinates * ((wanted - said) ** 2).sum(-1) * where).sum(),
            "objects": nothing.sum() + (correction * where).sum(),
            "classes": (self.classes * each * where).sum() + zeros,
        }

    def cell_truth(self, truth: Truth) -> Tensor:
        """Index of the true box of each cell, the first one, or -1: `(B, S*S)`."""
        cells = torch.full((len(truth.boxes), self.side**2), -1, device=truth.boxes.device)
        place = (truth.boxes[..., :2] * self.side).floor().long()
        inside = (
            truth.valid & (place >= 0).all(-1) & (place < self.side).all(-1) & (truth.boxes[..., 2:] >= 0.005).all(-1)
        )
        at = place[..., 1] * self.side + place[..., 0]
        for g in reversed(range(truth.boxes.shape[1])):
            picture = inside[:, g].nonzero()[:, 0]
            cells[picture, at[picture, g]] = g
        return cells

    def responsible(self, guesses: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Which box of a cell answers for its object (the one that overlaps most, else the nearest); that overlap."""
        overlap = iou(from_centres(guesses), from_centres(own[:, :, None]))[..., 0]  # (B, S*S, n)
        distance = (guesses - own[:, :, None]).square().sum(-1)
        rival = torch.where((overlap > 0).any(-1), overlap.argmax(-1), distance.argmin(-1))
        return rival, overlap.gather(2, rival[..., None])[..., 0]

    def wanted(self, own: Tensor) -> Tensor:
        """What the network should say for true boxes `(B, S*S, 4)`."""
        place = own[..., :2] * self.side
        sizes = own[..., 2:].sqrt() if self.root else own[..., 2:]
        return torch.cat([place - place.floor(), sizes], -1)


def cells_of(part: Section) -> Cells:
    """The head of a section [detection]."""
    return Cells(
        part.whole("side", 7), part.whole("classes", 1), part.whole("num", 1), bool(part.whole("sqrt", 0)),
        bool(part.whole("softmax", 0)), bool(part.whole("rescore", 0)), part.number("object_scale", 1),
        part.number("noobject_scale", 1), part.number("class_scale", 1), part.number("coord_scale", 1),
    )  # fmt: skip


# Builders --------------------------------------------------------------------------------------------------------


def yolov1(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    size: int = 448,
    width: int = 64,
    local: int = 256,
    boxes: int = 3,
    loss: Loss = "squared",
    conditional: bool = True,
    score: float = 0.001,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov1.cfg`: 197,301,875 parameters for 20 classes.

    size: of the input, a multiple of 64; the grid has size / 64 cells a side. width: channels of the first convolution,
    all others in proportion; local: of the locally connected layer. The rest: see `Yolo` and this page's head.
    """
    layers = [
        *_trunk(width, norm=True),
        section("local", size=3, stride=1, pad=1, filters=local, activation="leaky"),
        section("dropout", probability=0.5),
    ]
    return _built(
        layers,
        size // 64,
        num_classes,
        boxes,
        in_channels,
        size,
        loss,
        conditional,
        score,
        before,
        overlap,
        most,
        mean,
        std,
    )


def yolov1_paper(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    size: int = 448,
    width: int = 64,
    hidden: int = 4096,
    boxes: int = 2,
    loss: Loss = "squared",
    conditional: bool = True,
    score: float = 0.001,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The paper's network: 24 convolutions without norm, and two fully connected layers, the first of `hidden`."""
    layers = [
        *_trunk(width, norm=False),
        section("connected", output=hidden, activation="leaky"), section("dropout", probability=0.5),
    ]  # fmt: skip
    return _built(
        layers,
        size // 64,
        num_classes,
        boxes,
        in_channels,
        size,
        loss,
        conditional,
        score,
        before,
        overlap,
        most,
        mean,
        std,
    )


def yolov1_tiny(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    size: int = 448,
    width: int = 16,
    boxes: int = 2,
    loss: Loss = "squared",
    conditional: bool = True,
    score: float = 0.001,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov1-tiny.cfg`: 27,095,374 parameters for 20 classes; see `yolov1`."""
    layers = [x for i in range(6) for x in (conv(width * 2**i, 3), section("maxpool", size=2, stride=2))]
    layers += [conv(width * 64, 3), conv(width * 16, 3)]
    return _built(
        layers,
        size // 64,
        num_classes,
        boxes,
        in_channels,
        size,
        loss,
        conditional,
        score,
        before,
        overlap,
        most,
        mean,
        std,
    )


def _trunk(width: int, *, norm: bool) -> list[Section]:
    """The 24 convolutions (section 2.1, figure 3)."""
    c = lambda share, size, stride=1: conv(width * share, size, stride, norm=norm)  # noqa: E731
    pool = section("maxpool", size=2, stride=2)
    return [
        c(1, 7, 2), pool, c(3, 3), pool, c(2, 1), c(4, 3), c(4, 1), c(8, 3), pool,
        *[x for _ in range(4) for x in (c(4, 1), c(8, 3))], c(8, 1), c(16, 3), pool,
        *[x for _ in range(2) for x in (c(8, 1), c(16, 3))], c(16, 3), c(16, 3, 2), c(16, 3), c(16, 3),
    ]  # fmt: skip


def _built(
    layers: Sequence[Section], side: int, num_classes: int, boxes: int, in_channels: int, size: int, loss: Loss,
    conditional: bool, score: float, before: int, overlap: float, most: int,
    mean: Sequence[float] | None, std: Sequence[float] | None,
) -> Yolo:  # fmt: skip
    outputs = side**2 * (num_classes + boxes * 5)
    softmax = loss == "cross_entropy"
    head = section(
        "detection", classes=num_classes, coords=4, rescore=1, side=side, num=boxes, softmax=int(softmax), sqrt=1,
        object_scale=1, noobject_scale=0.5, class_scale=1, coord_scale=5,
    )  # fmt: skip
    body = Darknet(
        [*layers, section("connected", output=outputs, activation="linear"), head], (in_channels, size, size)
    )
    cells = Cells(side, num_classes, boxes, softmax=softmax, conditional=conditional)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return Yolo(
        body, [cells], num_classes, normalize=normalize, fixed=(size, size), score=score, before=before,
        overlap=overlap, most=most,
    )  # fmt: skip
