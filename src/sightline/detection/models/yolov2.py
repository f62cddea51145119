"""YOLO9000's detector, YOLOv2.

Paper: YOLO9000: Better, Faster, Stronger (Redmon & Farhadi 2017, arXiv:1612.08242).

The idea: reference boxes found by clustering the data's boxes take the place of free guesses; each cell says for each
of them how far to move and grow it, how sure it is, and which class, so that every box has a class of its own. No fully
connected layer is left, and the network takes pictures of any size.

- `yolov2`: the published `yolov2-voc.cfg` (with the COCO anchors and 80 classes it is `yolov2.cfg`): Darknet-19, three
  more convolutions, and the finer map of 1/16 folded into the last one. `yolov2_tiny`: the published small form.

Departures: pictures are padded at the bottom and right to a multiple of 32, where the C program centres them in a
square of the network's size. Objects at one place: the last one is learned, as in the C program. Running numbers of the
norms follow PyTorch's rule.

Loads: darknet's `.weights` of pjreddie (`darknet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.detection.darknet import Darknet, Section, conv, section
from sightline.detection.yolo import Guesses, Truth, Yolo, centres, overlaps, places, shape_iou
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.boxes import from_centres, paired_iou

VOC_ANCHORS = ((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053), (11.2364, 10.0071))
COCO_ANCHORS = ((0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828))
TINY_VOC_ANCHORS = ((1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52))
"""Widths and heights in cells of 32 pixels."""

EARLY = 12_800
"""Pictures of training during which every guess is also drawn to its anchor."""

# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """The region layer. anchors: widths and heights in cells. objects, background, classes, coordinates: weights.

    softmax: one distribution over the classes of a box. rescore: objectness is drawn to the overlap, else to 1.
    threshold: a guess that overlaps some object by more is not pushed to nothing. by_shape: an object's anchor is the
    one with the most similar shape, else the one whose guess is.
    """

    anchors: tuple[tuple[float, float], ...]
    num_classes: int
    softmax: bool = True
    rescore: bool = True
    by_shape: bool = True
    objects: float = 5.0
    background: float = 1.0
    classes: float = 1.0
    coordinates: float = 1.0
    threshold: float = 0.6

    def parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a map: `(B, A, h, w, 2)` centres in the cell, log sizes, `(B, A, h, w)` objectness, class logits."""
        x = raw.unflatten(1, (len(self.anchors), -1)).permute(0, 1, 3, 4, 2)
        return x[..., :2].sigmoid(), x[..., 2:4], x[..., 4].sigmoid(), x[..., 5:]

    def places(self, place: Tensor, growth: Tensor) -> Tensor:
        """Centres and sizes relative to the input, `(B, A, h, w, 4)`."""
        height, width = place.shape[2:4]
        anchors = torch.tensor(self.anchors, dtype=torch.float32, device=place.device)
        columns, lines, anchors = centres(anchors, place[..., 0])
        return torch.stack(
            [
                (place[..., 0] + columns) / width,
                (place[..., 1] + lines) / height,
                growth[..., 0].exp() * anchors[..., 0] / width,
                growth[..., 1].exp() * anchors[..., 1] / height,
            ],
            -1,
        )

    def guess(self, raw: Tensor, size: tuple[int, int]) -> Guesses:
        """The guesses of a map; see `yolo.Head`."""
        place, growth, objectness, logits = self.parts(raw)
        classes = logits.softmax(-1) if self.softmax else logits.sigmoid()
        return Guesses(self.places(place, growth).flatten(1, 3), objectness.flatten(1), classes.flatten(1, 3))

    def losses(self, raw: Tensor, truth: Truth, size: tuple[int, int], seen: float) -> dict[str, Tensor]:
        """Squares of places (after the sigmoid), growths and objectness, and cross-entropy of classes."""
        place, growth, objectness, logits = self.parts(raw)
        height, width = raw.shape[-2:]
        boxes = self.places(place, growth).detach()  # (B, A, h, w, 4)
        anchors = torch.tensor(self.anchors, dtype=torch.float32, device=raw.device)
        cells = torch.tensor([width, height], dtype=torch.float32, device=raw.device)
        with torch.no_grad():
            near = overlaps(boxes.flatten(1, 3), truth).view_as(objectness) > self.threshold
            at = places(truth, self.anchor_of(boxes, truth, anchors / cells), height, width)
            own = truth.boxes[at.picture, at.truth]  # (P, 4)
            overlap = paired_iou(from_centres(boxes[at.picture, at.anchor, at.row, at.column]), from_centres(own))
            middle = own[:, :2] * cells - torch.stack([at.column, at.row], -1)
            growths = (own[:, 2:] * cells / anchors[at.anchor]).log()
            taken = torch.zeros_like(near)
            taken[at.picture, at.anchor, at.row, at.column] = True
        here = (at.picture, at.anchor, at.row, at.column)
        nothing = 0.5 * self.background * (objectness**2 * ~(near | taken)).sum()
        goal = overlap if self.rescore else torch.ones_like(overlap)
        weight = self.coordinates * (2 - own[:, 2] * own[:, 3])
        squares = ((middle - place[here]) ** 2).sum(-1) + ((growths - growth[here]) ** 2).sum(-1)
        label = truth.labels[at.picture, at.truth]
        if self.softmax:
            classes = F.cross_entropy(logits[here], label, reduction="sum")
        else:
            known = F.one_hot(label, self.num_classes).to(logits.dtype)
            classes = F.binary_cross_entropy_with_logits(logits[here], known, reduction="sum")
        found = {
            "boxes": 0.5 * (weight * squares).sum(),
            "objects": nothing + 0.5 * self.objects * ((goal - objectness[here]) ** 2).sum(),
            "classes": self.classes * classes,
        }
        if seen < EARLY:
            free = (~taken)[..., None]
            found["priors"] = 0.5 * 0.01 * ((((0.5 - place) ** 2) + growth**2) * free).sum()
        return found

    def anchor_of(self, boxes: Tensor, truth: Truth, anchors: Tensor) -> Tensor:
        """The anchor of every true box, `(B, G)`."""
        if self.by_shape or truth.boxes.shape[1] == 0:
            return shape_iou(anchors, truth.boxes[..., 2:]).argmax(-1)
        height, width = boxes.shape[2:4]
        column = (truth.boxes[..., 0] * width).long().clamp(0, width - 1)
        row = (truth.boxes[..., 1] * height).long().clamp(0, height - 1)
        batch = torch.arange(len(boxes), device=boxes.device)[:, None]
        said = boxes[batch, :, row, column][..., 2:]  # (B, G, A, 2)
        true = truth.boxes[:, :, None, 2:]
        shared = torch.minimum(said, true).prod(-1)
        return (shared / (said.prod(-1) + true.prod(-1) - shared).clamp(min=1e-12)).argmax(-1)


def region_of(part: Section) -> Region:
    """The head of a section [region]."""
    flat = part.list("anchors")
    return Region(
        tuple(zip(flat[::2], flat[1::2])), part.whole("classes", 20), bool(part.whole("softmax", 0)),
        bool(part.whole("rescore", 0)), bool(part.whole("bias_match", 0)), part.number("object_scale", 1),
        part.number("noobject_scale", 1), part.number("class_scale", 1), part.number("coord_scale", 1),
        part.number("thresh", 0.5),
    )  # fmt: skip


# Builders --------------------------------------------------------------------------------------------------------


def yolov2(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    width: int = 32,
    anchors: Sequence[Sequence[float]] = VOC_ANCHORS,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov2-voc.cfg`: 50,655,389 parameters for 20 classes; pictures of any size.

    width: channels of the first convolution, all others in proportion. anchors: widths and heights in cells of 32
    pixels. The rest: see `Yolo`.
    """
    c = lambda share, size: conv(width * share, size)  # noqa: E731
    pool = section("maxpool", size=2, stride=2)
    layers = [
        c(1, 3), pool, c(2, 3), pool, c(4, 3), c(2, 1), c(4, 3), pool, c(8, 3), c(4, 1), c(8, 3), pool,
        c(16, 3), c(8, 1), c(16, 3), c(8, 1), c(16, 3), pool,
        c(32, 3), c(16, 1), c(32, 3), c(16, 1), c(32, 3), c(32, 3), c(32, 3),
        section("route", layers=-9), c(2, 1), section("reorg", stride=2), section("route", layers=(-1, -4)), c(32, 3),
    ]  # fmt: skip
    return _built(layers, num_classes, anchors, in_channels, score, before, overlap, most, mean, std)


def yolov2_tiny(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 16,
    last: Sequence[int] = (1024, 512),
    anchors: Sequence[Sequence[float]] = COCO_ANCHORS,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov2-tiny.cfg`: 11,232,057 parameters for 80 classes (`yolov2-tiny-voc.cfg`: last 1024, 1024).

    last: channels of the two convolutions before the head. The rest: see `yolov2`.
    """
    layers = [x for i in range(5) for x in (conv(width * 2**i, 3), section("maxpool", size=2, stride=2))]
    layers += [conv(width * 32, 3), section("maxpool", size=2, stride=1), *(conv(n, 3) for n in last)]
    return _built(layers, num_classes, anchors, in_channels, score, before, overlap, most, mean, std)


def _built(
    layers: Sequence[Section], num_classes: int, anchors: Sequence[Sequence[float]], in_channels: int, score: float,
    before: int, overlap: float, most: int, mean: Sequence[float] | None, std: Sequence[float] | None,
) -> Yolo:  # fmt: skip
    pairs = tuple((float(w), float(h)) for w, h in anchors)
    head = section(
        "region", anchors=[x for pair in pairs for x in pair], bias_match=1, classes=num_classes, coords=4,
        num=len(pairs), softmax=1, rescore=1, object_scale=5, noobject_scale=1, class_scale=1, coord_scale=1,
        absolute=1, thresh=0.6,
    )  # fmt: skip
    out = conv(len(pairs) * (5 + num_classes), 1, norm=False, activation="linear")
    return Yolo(
        Darknet([*layers, out, head], (in_channels, 416, 416)), [Region(pairs, num_classes)], num_classes,
        normalize=Normalize(*for_channels(mean, std, in_channels)), score=score, before=before, overlap=overlap,
        most=most,
    )  # fmt: skip
