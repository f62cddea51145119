"""YOLOv3 as mmdet has it.

Paper: YOLOv3: An Incremental Improvement (Redmon & Farhadi 2018, arXiv:1804.02767).

The layers are those of `yolov3` (see there), but for the norms' eps, which stands below the root (1e-5). Different are:

- what is learned: an anchor in the cell of an object's centre belongs to the object it overlaps by more than 0.5, and
  each object's best anchor of its cells, over all maps, belongs to it; anchors that overlap no object by more than 0.5
  are background. The losses are sums: classes and objectness 1, centres 2 (cross-entropy), growths 2 (squares).
- what is said: objectness at least `least`, a class above `score`, the `before` best classes, then score times
  objectness.

Departures: losses are divided by the pictures of the batch, as everywhere here, where mmdet's are plain sums; boxes are
cut at the border, which mmdet does not (`clip=False`).

Loads: mmdet (`mmdet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, real, whole
from sightline.detection.darknet import Darknet
from sightline.detection.models.yolov3 import ANCHORS, layers_of_yolov3
from sightline.detection.regions import best, candidates, places_first, rows, suppressed
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.anchors import grid_anchors
from sightline.ops.boxes import clip_boxes, from_centres, iou, to_centres
from sightline.ops.nms import ranking
from sightline.ops.resize import pad_to_multiple
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

EPS = 1e-6

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Scales:
    """What the network sees. found: the objects. With targets, for the losses, a list entry a map, coarse to fine:

    said: `(B, N_l, 5 + K)` raw. anchors: `(N_l, 4)` in pixels. assigned: `(B, N_l)`: the index of the true box, -1 for
    background, -2 for neither.
    """

    found: Found | None = None
    said: tuple[Tensor, ...] = ()
    anchors: tuple[Tensor, ...] = ()
    assigned: tuple[Tensor, ...] = ()


# Network ---------------------------------------------------------------------------------------------------------


class YoloOfMmdet(nn.Module):
    """Darknet-53 and mmdet's head. anchors: nine sizes in pixels, small to large. high: see above.

    least, score, before, overlap, most: see above; the IoU at which answers of a class suppress each other; answers.
    clip: boxes are cut at the picture's border.
    """

    OPTIONAL = ()

    def __init__(
        self,
        body: Darknet,
        num_classes: int,
        *,
        normalize: Normalize,
        anchors: Sequence[Sequence[float]],
        high: float = 0.5,
        least: float = 0.005,
        score: float = 0.05,
        before: int = 1000,
        overlap: float = 0.45,
        most: int = 100,
        clip: bool = True,
    ) -> None:
        super().__init__()
        self.normalize, self.body, self.num_classes = normalize, body, num_classes
        self.high, self.least, self.score = high, least, score
        self.before, self.overlap, self.most, self.clip = before, overlap, most, clip
        half = torch.tensor(anchors, dtype=torch.float32).view(3, 3, 2).flip(0) / 2
        self.register_buffer("cells", torch.cat([-half, half], -1), persistent=False)  # (3, 3, 4), coarse first
        self.HEAD = tuple(f"body.layers.{i - 1}." for i in body.heads)

    cells: Tensor
    strides = (32, 16, 8)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scales:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        x, _ = pad_to_multiple(self.normalize(images, sizes), 32)
        maps = self.body(x)
        said = [places_first(raw.float(), 5 + self.num_classes) for raw in maps]
        anchors = self.anchors(maps)
        found = None
        if targets is None or not self.training:
            found = self.find(said, anchors, whole(images, sizes))
        if targets is None:
            return Scales(found)
        return Scales(found, tuple(said), tuple(anchors), tuple(self.assign(anchors, targets)))

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The reference boxes of each map, `(N_l, 4)`."""
        return [
            grid_anchors(cell, raw.shape[2], raw.shape[3], (stride, stride), offset=0.5)
            for cell, raw, stride in zip(self.cells, maps, self.strides)
        ]

    @torch.no_grad()
    def find(self, said: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Tensor) -> Found:
        """The best classes of boxes that are something at all; those of one class suppress each other."""
        every = torch.cat([x.detach() for x in said], 1)
        stride = torch.cat([x.new_full((len(x),), s) for x, s in zip(anchors, self.strides)])[:, None]
        middle, sides = to_centres(torch.cat(list(anchors))).split(2, -1)
        places = (every[..., :2].sigmoid() - 0.5) * stride + middle
        boxes = from_centres(torch.cat([places, every[..., 2:4].exp() * sides], -1))
        objectness, classes = every[..., 4].sigmoid(), every[..., 5:].sigmoid()
        classes = classes.masked_fill((objectness < self.least)[..., None] | (classes <= self.score), 0.0)
        value, index = best(classes.flatten(1), self.before)
        place = index // self.num_classes
        score = value.clamp(min=0) * objectness.gather(1, place)
        order = ranking(score)[:, : candidates(score)]
        score, place, label = (x.gather(1, order) for x in (score, place, index % self.num_classes))
        found = suppressed(rows(boxes, place), score, label, score > 0, self.overlap, self.most)
        return replace(found, boxes=clip_boxes(found.boxes, sizes)) if self.clip else found

    @torch.no_grad()
    def assign(self, anchors: Sequence[Tensor], targets: Target) -> list[Tensor]:
        """Which true box every anchor belongs to, for each map."""
        every, valid = torch.cat(list(anchors)), real(targets)
        if targets.boxes.shape[1] == 0:
            return [torch.full((len(valid), len(x)), -1, device=x.device) for x in anchors]
        overlap = iou(targets.boxes, every).masked_fill(~valid[..., None], -1.0)  # (B, G, N)
        found = torch.where(overlap.amax(1) <= self.high, -1, -2)
        middle = to_centres(targets.boxes)[..., :2]  # (B, G, 2)
        there, stride = (
            to_centres(every)[:, :2],
            torch.cat([x.new_full((len(x), 1), s) for x, s in zip(anchors, self.strides)]),
        )
        same = ((middle[:, :, None] / stride).floor() == (there / stride).floor()).all(-1) & valid[..., None]
        own = same.any(1)
        overlap = torch.where(own[:, None], overlap, -1.0)
        most, which = overlap.max(1)
        found = torch.where(own & (most > self.high), which, found)
        highest = overlap.amax(2, keepdim=True)
        claim = (overlap == highest) & (highest > 0) & own[:, None]
        number = torch.arange(claim.shape[1], device=claim.device)[:, None]
        last = torch.where(claim, number, -1).amax(1)
        found = torch.where(last >= 0, last, found)
        return list(found.split([len(x) for x in anchors], 1))

    def losses(self, out: Scales, targets: Target) -> dict[str, Tensor]:
        """Learn: sums over all maps, the mean over pictures."""
        if not out.said:
            raise ValueError("losses need an output of forward(images, targets=...)")
        levels = [
            self.level(said, anchors, assigned, targets, stride)
            for said, anchors, assigned, stride in zip(out.said, out.anchors, out.assigned, self.strides)
        ]
        return {name: sum((level[name] for level in levels), out.said[0].new_zeros(())) for name in levels[0]}

    def level(self, said: Tensor, anchors: Tensor, assigned: Tensor, targets: Target, stride: int) -> dict[str, Tensor]:
        """The losses of one map: `classes`, `objects`, `centres`, `growths`."""
        picture, place = (assigned >= 0).nonzero(as_tuple=True)
        which = assigned[picture, place]
        own, label = to_centres(targets.boxes[picture, which]), targets.labels[picture, which]
        anchor, mine = to_centres(anchors[place]), said[picture, place]
        middle = ((own[:, :2] - anchor[:, :2]) / stride + 0.5).clamp(EPS, 1 - EPS)
        growth = (own[:, 2:] / anchor[:, 2:]).clamp(min=EPS).log()
        known = F.one_hot(label, self.num_classes).to(said.dtype)
        cross = F.binary_cross_entropy_with_logits
        counted = assigned != -2
        objects = cross(said[..., 4], (assigned >= 0).to(said.dtype), reduction="none")
        count = len(said)
        return {
            "classes": cross(mine[:, 5:], known, reduction="sum") / count,
            "objects": (objects * counted).sum() / count,
            "centres": 2 * cross(mine[:, :2], middle, reduction="sum") / count,
            "growths": 2 * ((mine[:, 2:4] - growth) ** 2).sum() / count,
        }

    def decode(self, out: Scales, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def yolov3_mmdet(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 32,
    depths: Sequence[int] = (1, 2, 8, 8, 4),
    anchors: Sequence[Sequence[float]] = ANCHORS,
    least: float = 0.005,
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    clip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> YoloOfMmdet:
    """mmdet's `yolov3_d53`: 61,949,149 parameters for 80 classes; see `YoloOfMmdet`, and `yolov3` for the layers.

    Its files are read for the published depths alone, for their names are those of layers counted through.
    """
    layers = layers_of_yolov3(num_classes, width=width, depths=depths, spp=False, anchors=anchors)
    body = Darknet(layers, (in_channels, 416, 416), eps=1e-5, outside=False)
    return YoloOfMmdet(
        body, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), anchors=anchors, least=least,
        score=score, before=before, overlap=overlap, most=most, clip=clip,
    )  # fmt: skip


# Public names ----------------------------------------------------------------------------------------------------


def _names() -> list[tuple[str, int]]:
    """mmdet's name of each convolution with a norm, and its number in the `.cfg`."""
    found, at = [("backbone.conv1", 0)], 1
    for block, depth in enumerate((1, 2, 8, 8, 4), 1):
        found.append((f"backbone.conv_res_block{block}.conv", at))
        for unit in range(depth):
            first = at + 1 + 3 * unit
            found += [(f"backbone.conv_res_block{block}.res{unit}.conv{k}", first + k - 1) for k in (1, 2)]
        at += 1 + 3 * depth
    for i in range(3):
        if i:
            found.append((f"neck.conv{i}", at + 1))
            at += 4
        found += [(f"neck.detect{i + 1}.conv{k + 1}", at + k) for k in range(5)]
        found.append((f"bbox_head.convs_bridge.{i}", at + 5))
        at += 8
    return found


def _last() -> list[tuple[str, int]]:
    return [(name.replace("convs_bridge", "convs_pred"), i + 1) for name, i in _names() if "convs_bridge" in name]


KEY_MAPS = (
    KeyMap(
        "mmdet",
        (
            *((f"{name}.conv.weight", f"body.layers.{i}.weight") for name, i in _names()),
            *((f"{name}.bn.bias", f"body.layers.{i}.bias") for name, i in _names()),
            *((f"{name}.bn.{{leaf}}", f"body.layers.{i}.norm.{{leaf}}") for name, i in _names()),
            *((f"{name}.{{leaf}}", f"body.layers.{i}.{{leaf}}") for name, i in _last()),
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: YOLOv3 Darknet-53",
    ),
)
