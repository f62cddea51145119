"""YOLACT.

Paper: YOLACT: Real-time Instance Segmentation (Bolya, Zhou, Xiao & Lee 2019, arXiv:1904.02689).

The idea: no box is cut out and looked at again. One branch draws a few prototype masks of the whole picture, whatever
is in it; another says, for every anchor, what is there, where, and how much of each prototype its mask holds. A mask is
then one matrix product, cut at its box. Suppression is a matrix too (Fast NMS): a box goes when any better one of its
class overlaps it, even one that itself goes.

- `yolact`, the one to start with: any backbone, any size; anchors in pixels. `channels`, `prototypes` make it small.
- `yolact_r50`: the authors'. Pictures stretched to 550 x 550; anchors that are square by an old oversight, which the
  published weights have learned with.
- `yolact_mmdet_r50`: mmdet's, whose weights are another network's: P6 from C5, anchors of three shapes in steps of
  550 / 69 pixels and so on whatever the picture's size, background last, class k's semantic map at place k - 1.

Classes: the authors' files of COCO have 80, as here, in COCO's order.

Departures: nothing is drawn at random in eval mode where there are more than 100 masks to learn from. YOLACT++ is not
here.

Loads: dbolya/yolact (`yolact`), mmdet (`mmdet`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, real, whole
from sightline.detection.regions import best, places_first, rows
from sightline.detection.trunk import Trunk
from sightline.errors import UsageError
from sightline.instance.contract import decode
from sightline.instance.masks import MapMasks
from sightline.nn.conv import NormName, norm_named
from sightline.nn.fpn import FPN, Extra
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.anchors import grid_anchors
from sightline.ops.box_coding import LARGEST, encode
from sightline.ops.box_coding import decode as decode_boxes
from sightline.ops.boxes import clip_boxes, covered, iou
from sightline.ops.matching import BACKGROUND, BETWEEN, balanced_sample, fixed_keys
from sightline.ops.nms import fast_nms, first_true
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

Background = Literal["first", "last"]
YOLACT_MEAN = (123.68 / 255, 116.78 / 255, 103.94 / 255)
YOLACT_STD = (58.40 / 255, 57.12 / 255, 57.38 / 255)

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Assembled:
    """What YOLACT sees.

    found: the objects, with `(B, D, h, w)` probabilities over the input. sizes, canvas: `(B, 2)`, valid and whole
    heights and widths of the input. With targets, for the losses: logits `(B, N, K + 1)`, deltas `(B, N, 4)`,
    coefficients `(B, N, P)`, prototypes `(B, P, h, w)`, semantic logits `(B, K, h', w')`, anchors `(N, 4)`,
    matched `(B, N)`: the index of the true box, `BACKGROUND` or `BETWEEN`; chosen `(B, N)`: whose masks are learned.
    """

    found: Found | None
    sizes: Tensor
    canvas: Tensor
    logits: Tensor | None = None
    deltas: Tensor | None = None
    coefficients: Tensor | None = None
    prototypes: Tensor | None = None
    semantic: Tensor | None = None
    anchors: Tensor | None = None
    matched: Tensor | None = None
    chosen: Tensor | None = None


class Protonet(nn.Module):
    """Prototype masks of a map, at twice its resolution (figure 3)."""

    def __init__(self, in_channels: int, prototypes: int, width: int) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Conv2d(width if i else in_channels, width, 3, 1, 1) for i in range(3))
        self.after = nn.Conv2d(width, width, 3, 1, 1)
        self.last = nn.Conv2d(width, prototypes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, P, 2 H, 2 W)`, none below 0."""
        for conv in self.before:
            x = F.relu(conv(x))
        x = F.relu(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        return F.relu(self.last(F.relu(self.after(x))))


class Prediction(nn.Module):
    """One head for all levels: classes, boxes, and how much of each prototype (figure 4)."""

    def __init__(self, channels: int, per_place: int, classes: int, prototypes: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(channels, channels, 3, 1, 1)
        self.classes = nn.Conv2d(channels, per_place * classes, 3, 1, 1)
        self.boxes = nn.Conv2d(channels, per_place * 4, 3, 1, 1)
        self.coefficients = nn.Conv2d(channels, per_place * prototypes, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, C, H, W)` to logits, deltas and coefficients in -1..1, `(B, A * size, H, W)` each."""
        x = F.relu(self.shared(x))
        return self.classes(x), self.boxes(x), self.coefficients(x).tanh()


def cropped(masks: Tensor, boxes: Tensor, canvas: Tensor) -> Tensor:
    """Masks `(B, D, h, w)` over an input of `canvas` `(B, 2)`, zero beyond a cell around boxes `(B, D, 4)`."""
    height, width = masks.shape[-2:]
    scale = torch.stack([width / canvas[:, 1], height / canvas[:, 0]], -1)[:, None].repeat(1, 1, 2)  # (B, 1, 4)
    x0, y0, x1, y1 = (boxes * scale).unbind(-1)
    column, row = (torch.arange(n, device=masks.device, dtype=boxes.dtype) for n in (width, height))

    def within(place: Tensor, a: Tensor, b: Tensor, size: int) -> Tensor:
        low, high = (torch.minimum(a, b) - 1).clamp(min=0), (torch.maximum(a, b) + 1).clamp(max=size)
        return (place >= low[..., None]) & (place < high[..., None])

    return masks * (within(row, y0, y1, height)[..., :, None] & within(column, x0, x1, width)[..., None, :])


def shrunk(masks: Tensor, size: Sequence[int]) -> Tensor:
    """True masks `(B, G, H, W)` at `size`: float32, 1 where more than half is theirs."""
    x = masks.float()
    if x.shape[1]:
        x = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
    else:
        x = x.new_zeros(x.shape[0], 0, *size)
    return (x > 0.5).float()


# Network ---------------------------------------------------------------------------------------------------------


class YOLACT(nn.Module):
    """A trunk with a pyramid, a protonet, a head.

    sizes: of the anchors, one a level; ratios: width / height; square: all sides as long as their width.
    steps: pixels between places of each level; None: the input's size over the map's.
    background: where its column stands. semantic_shift: the semantic map of class k stands at k plus this.
    high, low: IoU from which an anchor stands for an object, and below which it is background. rescue: a true box's
    best anchor is its own, `greedy`: in the order of their overlaps, no anchor twice (authors), or `last`: of boxes
    that claim the same one the last has it (mmdet). crowd: share of an anchor inside a crowd from which it is neither.
    score, by: the least probability of an answer; `anchor`: of an anchor's best class, all others stay candidates
    (authors), or of each `class` (mmdet). before: anchors a level, None: all. top: candidates a class. overlap, most:
    of Fast NMS, and answers a picture. clip: boxes are cut at the border before they suppress each other.
    """

    HEAD = ("head.classes.", "semantic.")
    OPTIONAL = ()

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        channels: int,
        prototypes: int = 32,
        width: int = 256,
        sizes: Sequence[float] = (24, 48, 96, 192, 384),
        ratios: Sequence[float] = (1.0, 0.5, 2.0),
        square: bool = False,
        steps: Sequence[float] | None = None,
        background: Background = "first",
        semantic_shift: int = 0,
        high: float = 0.5,
        low: float = 0.4,
        rescue: Literal["greedy", "last"] = "greedy",
        crowd: float = 0.7,
        negatives: int = 3,
        masks: int = 100,
        score: float = 0.05,
        by: Literal["anchor", "class"] = "anchor",
        before: int | None = None,
        top: int = 200,
        overlap: float = 0.5,
        most: int = 100,
        clip: bool = False,
        largest: float = math.inf,
    ) -> None:
        super().__init__()
        if background not in ("first", "last"):
            raise UsageError(f"background '{background}' is unknown; choose first (authors) or last (mmdet)")
        self.trunk, self.num_classes = trunk, num_classes
        half = (
            torch.tensor([[[s * r**0.5, s * r**0.5 if square else s / r**0.5] for r in ratios] for s in sizes]) / 2
        )  # (L, A, 2)
        self.register_buffer("cells", torch.cat([-half, half], -1), persistent=False)
        self.steps = None if steps is None else tuple(steps)
        self.protonet = Protonet(channels, prototypes, width)
        self.head = Prediction(channels, len(ratios), num_classes + 1, prototypes)
        self.semantic = nn.Conv2d(channels, num_classes, 1)
        for part in (self.protonet, self.head, self.semantic):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)
        self.background, self.semantic_shift = background, semantic_shift
        self.high, self.low, self.rescue, self.crowd = high, low, rescue, crowd
        self.negatives, self.most_masks = negatives, masks
        self.score, self.by, self.before, self.top = score, by, before, top
        self.overlap, self.most, self.clip, self.largest = overlap, most, clip, largest

    cells: Tensor
    WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the box coder: variances 0.1 and 0.2

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Assembled:
        """See: `(B, C, H, W)` pictures in [0, 1]."""
        maps, x = self.trunk(images, sizes)
        logits, deltas, coefficients, anchors = self.heads(maps, x)
        prototypes = self.protonet(maps[0])
        limits, canvas = whole(images, sizes), whole(x, None)
        out = Assembled(None, limits, canvas)
        if targets is None or not self.training:
            found, said = self.find(logits, deltas, coefficients, anchors, limits)
            masks = cropped(torch.einsum("bdp,bphw->bdhw", said, prototypes).sigmoid(), found.boxes, canvas)
            found = replace(found, boxes=clip_boxes(found.boxes, limits), masks=masks)
            out = replace(out, found=found)
        if targets is None:
            return out
        every = torch.cat(anchors)
        matched = self.assign(every, targets)
        keys = torch.rand(matched.shape, device=matched.device) if self.training else fixed_keys(matched)
        chosen, _ = balanced_sample(matched >= 0, matched == 10**9, self.most_masks, 1.0, keys)
        return replace(
            out,
            logits=torch.cat(logits, 1),
            deltas=torch.cat(deltas, 1),
            coefficients=torch.cat(coefficients, 1),
            prototypes=prototypes,
            semantic=self.semantic(maps[0]),
            anchors=every,
            matched=matched,
            chosen=chosen,
        )

    def heads(
        self, maps: Sequence[Tensor], image: Tensor
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Logits, deltas, coefficients `(B, N_l, ...)` and anchors `(N_l, 4)` a level; image: `(B, C, H, W)`."""
        prototypes = self.protonet.last.out_channels
        logits, deltas, coefficients, anchors = [], [], [], []
        for i, x in enumerate(maps):
            said, moved, parts = self.head(x)
            logits.append(places_first(said, self.num_classes + 1))
            deltas.append(places_first(moved, 4))
            coefficients.append(places_first(parts, prototypes))
            height, width = x.shape[-2:]
            step = (image.shape[-2] / height, image.shape[-1] / width)
            if self.steps is not None:
                step = (self.steps[i], self.steps[i])
            anchors.append(grid_anchors(self.cells[i], height, width, step, offset=0.5))  # type: ignore[arg-type]
        return logits, deltas, coefficients, anchors

    @torch.no_grad()
    def find(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        coefficients: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Tensor,
    ) -> tuple[Found, Tensor]:
        """Fast NMS among the candidates: the objects, and what their masks are made of, `(B, D, P)`."""
        columns = slice(1, None) if self.background == "first" else slice(None, -1)
        scores, boxes, parts = [], [], []
        for said, moved, part, anchor in zip(logits, deltas, coefficients, anchors):
            chance = said.float().softmax(-1)[..., columns]  # (B, N, K)
            if self.before is not None and chance.shape[1] > self.before:
                _, some = best(chance.amax(-1), self.before)
                chance, moved, part = rows(chance, some), rows(moved, some), rows(part, some)
                anchor = anchor[some]
            scores.append(chance)
            boxes.append(decode_boxes(moved, anchor, self.WEIGHTS, largest=self.largest))
            parts.append(part)
        score, box, part = torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(parts, 1)
        if self.clip:
            box = clip_boxes(box, sizes)
        if self.by == "anchor":
            score = score.masked_fill(score.amax(-1, keepdim=True) <= self.score, -1.0)
        score, index = score.transpose(1, 2).topk(min(self.top, score.shape[1]), dim=-1)  # (B, K, T)
        rival = rows(box, index.flatten(1)).unflatten(1, index.shape[1:])
        kept = fast_nms(rival, score, self.overlap, valid=score > 0)
        if self.by == "class":
            kept = kept & (score > self.score)
        flat = score.masked_fill(~kept, -1.0).flatten(1)
        value, place = flat.topk(min(self.most, flat.shape[1]), dim=1)
        anchor = index.flatten(1).gather(1, place)
        found = Found(rows(box, anchor), value.clamp(min=0), place // score.shape[-1], (value > 0).sum(1))
        return found, rows(part, anchor)

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Target) -> Tensor:
        """For anchors `(N, 4)`: the index of their true box, `BACKGROUND` or `BETWEEN`, `(B, N)`."""
        batch, objects = targets.labels.shape
        if objects == 0:
            return torch.full((batch, len(anchors)), BACKGROUND, device=anchors.device)
        valid = real(targets)
        overlap = iou(targets.boxes, anchors[None]).masked_fill(~valid[..., None], -1.0)  # (B, G, N)
        highest, index = overlap.max(1)
        found = torch.where(highest < self.low, BACKGROUND, torch.where(highest < self.high, BETWEEN, index))
        left = overlap
        for g in range(objects):
            if self.rescue == "last":
                claim, anchor = valid[:, g], overlap[:, g].argmax(1)
                which = torch.full_like(anchor, g)
            else:
                value, anchors_best = left.max(2)  # (B, G)
                strength, which = value.max(1)
                anchor, claim = anchors_best.gather(1, which[:, None])[:, 0], strength >= 0
            old = found.gather(1, anchor[:, None])[:, 0]
            found = found.scatter(1, anchor[:, None], torch.where(claim, which, old)[:, None])
            if self.rescue == "greedy":
                left = left.scatter(2, anchor[:, None, None].expand(batch, objects, 1), -1.0)
                left = left.scatter(1, which[:, None, None].expand(batch, 1, left.shape[2]), -1.0)
        if targets.ignore is not None:
            share = covered(anchors[None], targets.boxes)  # (B, N, G)
            inside = share.masked_fill(~(targets.ignore & (targets.labels >= 0))[:, None], 0.0).amax(-1)
            found = torch.where((found < 0) & (inside > self.crowd), BETWEEN, found)
        return found

    def losses(self, out: Assembled, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes` (three hard negatives a positive), `boxes`, `masks` (cut at the true box), `semantic`."""
        logits, deltas, matched, anchors = out.logits, out.deltas, out.matched, out.anchors
        if logits is None or deltas is None or matched is None or anchors is None or out.semantic is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        if targets.masks is None:
            raise UsageError("YOLACT learns from masks, and the targets have none; take data with masks")
        positive = matched >= 0
        total = positive.sum().clamp(min=1)
        if targets.labels.shape[1] == 0:
            labels, truth = torch.zeros_like(matched), anchors.expand(*matched.shape, 4)
        else:
            labels = targets.labels.gather(1, matched.clamp(min=0))
            truth = torch.where(positive[..., None], rows(targets.boxes, matched.clamp(min=0)), anchors)
        first = self.background == "first"
        column = torch.where(positive, labels + int(first), 0 if first else self.num_classes)
        cross = F.cross_entropy(logits.float().flatten(0, 1), column.flatten(), reduction="none").view_as(column)
        hard = cross.detach().masked_fill(matched != BACKGROUND, -math.inf)
        rank = hard.argsort(1, descending=True).argsort(1)
        wanted = (self.negatives * positive.sum(1, keepdim=True)).clamp(max=rank.shape[1] - 1)
        counted = positive | ((rank < wanted) & (matched == BACKGROUND))
        shift = F.smooth_l1_loss(deltas.float(), encode(truth, anchors, self.WEIGHTS), reduction="none").sum(-1)
        return {
            "classes": (cross * counted).sum() / total,
            "boxes": 1.5 * (shift * positive).sum() / total,
            "masks": 6.125 * self.mask_loss(out, targets) / total,
            "semantic": self.semantic_loss(out.semantic, targets),
        }

    def mask_loss(self, out: Assembled, targets: Target) -> Tensor:
        """Binary cross-entropy of the chosen anchors' masks in their true boxes, by the boxes' areas; summed."""
        matched, chosen, prototypes = out.matched, out.chosen, out.prototypes
        assert matched is not None and chosen is not None and prototypes is not None and targets.masks is not None
        assert out.coefficients is not None
        if targets.labels.shape[1] == 0:
            return prototypes.sum() * 0
        some = first_true(chosen, min(self.most_masks, max(1, int(chosen.sum(1).max()))))
        valid, index = chosen.gather(1, some), matched.gather(1, some).clamp(min=0)
        boxes = rows(targets.boxes, index)
        coefficients = rows(out.coefficients, some)
        said = torch.einsum("bdp,bphw->bdhw", coefficients, prototypes).float().sigmoid()
        said = cropped(said, boxes, out.canvas).clamp(0, 1)
        height, width = said.shape[-2:]
        small = shrunk(targets.masks, (height, width))
        truth = small.gather(1, index[..., None, None].expand(*index.shape, height, width))
        each = F.binary_cross_entropy(said, truth, reduction="none").mean((-2, -1))
        sides = (boxes[..., 2:] - boxes[..., :2]) / out.canvas.flip(1)[:, None]
        each = torch.where(valid, each / sides.prod(-1).clamp(min=1e-9), 0.0)
        more = (matched >= 0).sum(1) / chosen.sum(1).clamp(min=1)  # for those that were left out
        return (each.sum(1) * more).sum()

    def semantic_loss(self, semantic: Tensor, targets: Target) -> Tensor:
        """Binary cross-entropy of each place and class, summed over classes, the mean over places and pictures."""
        assert targets.masks is not None
        small = shrunk(targets.masks, semantic.shape[-2:]) * real(targets)[..., None, None]
        place = (targets.labels.clamp(min=0) + self.semantic_shift) % self.num_classes
        member = F.one_hot(place, self.num_classes).float()  # (B, G, K)
        truth = (torch.einsum("bgk,bghw->bkhw", member, small) > 0).float()
        each = F.binary_cross_entropy_with_logits(semantic.float(), truth, reduction="none")
        return each.sum() / (semantic.shape[0] * semantic.shape[2] * semantic.shape[3])

    def decode(self, out: Assembled, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""
        canvas = (int(out.canvas[0, 0]), int(out.canvas[0, 1]))

        def form(said: Tensor, boxes: Tensor, size: tuple[int, int]) -> MapMasks:
            return MapMasks(said, canvas, size, size, twice=False)

        return decode(out, form, score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def yolact(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    prototypes: int = 32,
    mask_channels: int = 256,
    anchors: Sequence[float] = (24, 48, 96, 192, 384),
    ratios: Sequence[float] = (1.0, 0.5, 2.0),
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> YOLACT:
    """YOLACT on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels: of the pyramid; mask_channels: of the protonet.
    anchors: sizes in pixels, one a level (strides 8 to 128); ratios: width / height. score, overlap, most: the least
    probability of an answer, the IoU at which answers of a class suppress each other, answers a picture.
    """
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 8]
    fpn = FPN(
        [s.channels for s in stages],
        channels,
        strides=[s.stride for s in stages],
        extra="last_output",
        relu=False,
        smooth=True,
        act=nn.ReLU,
    )
    return YOLACT(
        Trunk(net, [s.name for s in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels))),
        num_classes,
        channels=channels,
        prototypes=prototypes,
        width=mask_channels,
        sizes=anchors,
        ratios=ratios,
        by="class",
        score=score,
        overlap=overlap,
        most=most,
        clip=True,
        largest=LARGEST,
    )


def yolact_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    channels: int = 256,
    prototypes: int = 32,
    mask_channels: int = 256,
    anchors: Sequence[float] = (24, 48, 96, 192, 384),
    ratios: Sequence[float] = (1.0, 0.5, 2.0),
    square: bool = True,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = YOLACT_MEAN,
    std: Sequence[float] | None = YOLACT_STD,
) -> YOLACT:
    """The authors' `yolact_resnet50`: 31,164,943 parameters for 80 classes. square: see the preface."""
    trunk = _trunk(in_channels, depths, width, norm, channels, "last_output", nn.ReLU, mean, std)
    return YOLACT(
        trunk,
        num_classes,
        channels=channels,
        prototypes=prototypes,
        width=mask_channels,
        sizes=anchors,
        ratios=ratios,
        square=square,
        score=score,
        overlap=overlap,
        most=most,
    )


def yolact_mmdet_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    channels: int = 256,
    prototypes: int = 32,
    mask_channels: int = 256,
    anchors: Sequence[float] = (24, 48, 96, 192, 384),
    ratios: Sequence[float] = (2.0, 1.0, 0.5),
    steps: Sequence[float] = (550 / 69, 550 / 35, 550 / 18, 550 / 9, 550 / 5),
    before: int = 1000,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = YOLACT_MEAN,
    std: Sequence[float] | None = YOLACT_STD,
) -> YOLACT:
    """mmdet's `yolact_r50`: 35,293,711 parameters for 80 classes. steps: pixels from anchor to anchor, a level."""
    trunk = _trunk(in_channels, depths, width, norm, channels, "last_input", None, mean, std)
    return YOLACT(
        trunk,
        num_classes,
        channels=channels,
        prototypes=prototypes,
        width=mask_channels,
        sizes=anchors,
        ratios=ratios,
        steps=steps,
        background="last",
        semantic_shift=-1,
        rescue="last",
        by="class",
        before=before,
        score=score,
        overlap=overlap,
        most=most,
        clip=True,
        largest=LARGEST,
    )


def _trunk(
    in_channels: int,
    depths: Sequence[int],
    width: int,
    norm: NormName,
    channels: int,
    extra: Extra,
    act: type[nn.Module] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Trunk:
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm))
    stages = body.stages[2:]
    fpn = FPN(
        [s.channels for s in stages],
        channels,
        strides=[s.stride for s in stages],
        extra=extra,
        relu=False,
        smooth=True,
        act=act,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return Trunk(body, [s.name for s in stages], fpn, normalize=normalize, multiple=1)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "yolact",
        (
            ("backbone.layers.{i}.{rest}", "trunk.backbone.layer{i+1}.{rest}"),
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("fpn.lat_layers.{2-i}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),  # coarse first there
            ("fpn.pred_layers.{2-i}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("fpn.downsample_layers.{i}.{leaf}", "trunk.fpn.coarse.{i}.{leaf}"),
            ("proto_net.8.{leaf}", "protonet.after.{leaf}"),
            ("proto_net.10.{leaf}", "protonet.last.{leaf}"),
            ("proto_net.{2i}.{leaf}", "protonet.before.{i}.{leaf}"),
            ("prediction_layers.0.upfeature.0.{leaf}", "head.shared.{leaf}"),
            ("prediction_layers.0.bbox_layer.{leaf}", "head.boxes.{leaf}"),
            ("prediction_layers.0.conf_layer.{leaf}", "head.classes.{leaf}"),
            ("prediction_layers.0.mask_layer.{leaf}", "head.coefficients.{leaf}"),
            ("semantic_seg_conv.{leaf}", "semantic.{leaf}"),
        ),
        ignore=("backbone.layer[1-9].*",),
        words="dbolya/yolact: YOLACT",
    ),
    KeyMap(
        "mmdet",
        (
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("neck.fpn_convs.0.conv.{leaf}", "trunk.fpn.output.0.0.{leaf}"),
            ("neck.fpn_convs.1.conv.{leaf}", "trunk.fpn.output.1.0.{leaf}"),
            ("neck.fpn_convs.2.conv.{leaf}", "trunk.fpn.output.2.0.{leaf}"),
            ("neck.fpn_convs.{i+3}.conv.{leaf}", "trunk.fpn.coarse.{i}.{leaf}"),
            ("bbox_head.head_convs.0.conv.{leaf}", "head.shared.{leaf}"),
            ("bbox_head.conv_reg.{leaf}", "head.boxes.{leaf}"),
            ("bbox_head.conv_cls.{leaf}", "head.classes.{leaf}"),
            ("bbox_head.conv_coeff.{leaf}", "head.coefficients.{leaf}"),
            ("mask_head.protonet.8.{leaf}", "protonet.after.{leaf}"),
            ("mask_head.protonet.10.{leaf}", "protonet.last.{leaf}"),
            ("mask_head.protonet.{2i}.{leaf}", "protonet.before.{i}.{leaf}"),
            ("mask_head.segm_branch.segm_conv.{leaf}", "semantic.{leaf}"),
            ("segm_head.segm_conv.{leaf}", "semantic.{leaf}"),  # mmdet 2
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: its YOLACT",
    ),
)
