"""SSD: single shot multibox detector.

Paper: SSD: Single Shot MultiBox Detector (Liu, Anguelov, Erhan, Szegedy, Reed, Fu & Berg 2016, arXiv:1512.02325).

The idea: maps of falling size each judge default boxes of their own size, so that one pass sees large and small
things; of the thousands of boxes without an object, a step learns only from those it is most wrong about, three for
each with an object.

- `ssd`, the one to start with: any backbone, its maps from stride 8 on and further ones made by strided convolutions.
- `ssd300`, `ssd512`: the paper's, on VGG16 with fc6 and fc7 as convolutions, as amdegroot's ssd.pytorch has them (VOC
  sizes of boxes). `ssd300_torchvision`, `ssd300_mmdet`, `ssd512_mmdet`: with COCO's sizes.
- `ssdlite_torchvision`: MobileNetV3-Large with a halved tail; extras and heads are separable convolutions.

Classes: the sources have a column of background, the first (torchvision, ssd.pytorch) or the last (mmdet); labels here
leave it out. torchvision's files of COCO have ids 1..90 with gaps: label 0 is id 1.

Default boxes differ: torchvision cuts their sizes at the picture's, ssd.pytorch cuts centres and sizes (`clip`), mmdet
nothing. Pictures are stretched to the network's size, as all sources do.

Trait `hard_negatives`: a step learns from few boxes, so that a map may learn nothing from a picture.

Departures: none in what is learned and said, but that boxes are cut at the border, which ssd.pytorch does not
(`clip_boxes=False`). mmdet's own selection of candidates, per map, is replaced by that of the paper, per class.

Loads: torchvision (`torchvision`), ssd.pytorch (`amdegroot`), mmdet (`mmdet`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.mobilenet_v3 import LARGE, MobileNetV3
from sightline.backbones.vgg import VGG
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, real, whole
from sightline.detection.regions import Background, candidates, places_first, rows, suppressed
from sightline.errors import UsageError
from sightline.nn.conv import NormName, conv_norm_act
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.box_coding import decode as decode_boxes
from sightline.ops.box_coding import encode
from sightline.ops.boxes import clip_boxes as cut
from sightline.ops.boxes import from_centres, iou
from sightline.ops.matching import BACKGROUND
from sightline.ops.nms import ranking
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

Clip = Literal["none", "sizes", "all"]
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of the differences a head says: one over the variances 0.1 and 0.2."""

VOC300 = ((30, 60), (60, 111), (111, 162), (162, 213), (213, 264), (264, 315))
COCO300 = ((21, 45), (45, 99), (99, 153), (153, 207), (207, 261), (261, 315))
VOC512 = (
    (35.84, 76.8), (76.8, 153.6), (153.6, 230.4), (230.4, 307.2), (307.2, 384.0), (384.0, 460.8), (460.8, 537.6),
)  # fmt: skip
COCO512 = ((20, 51), (51, 133), (133, 215), (215, 296), (296, 378), (378, 460), (460, 542))
RATIOS300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
RATIOS512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS300 = (8, 16, 32, 64, 100, 300)
STEPS512 = (8, 16, 32, 64, 128, 256, 512)
CAFFE = (123 / 255, 117 / 255, 104 / 255)
BYTES = (1 / 255, 1 / 255, 1 / 255)

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Shots:
    """What SSD sees. found: the objects. With targets, for the losses:

    logits: `(B, N, K + 1)`. deltas: `(B, N, 4)`. anchors: `(N, 4)` in pixels of the network's input. matched: `(B, N)`,
    the index of the true box or `BACKGROUND`. scale: `(4,)`, from pixels of the pictures to those of the input.
    """

    found: Found | None = None
    logits: Tensor | None = None
    deltas: Tensor | None = None
    anchors: Tensor | None = None
    matched: Tensor | None = None
    scale: Tensor | None = None


def default_cells(smallest: float, largest: float, ratios: Sequence[float], clip: float | None = None) -> Tensor:
    """Widths and heights `(2 + 2 len(ratios), 2)` of a map's boxes: a square, a larger one, then wide and tall ones.

    clip: sides are cut at this.
    """
    middle = math.sqrt(smallest * largest)
    found = [(smallest, smallest), (middle, middle)]
    for ratio in ratios:
        root = math.sqrt(ratio)
        found += [(smallest * root, smallest / root), (smallest / root, smallest * root)]
    cells = torch.tensor(found, dtype=torch.float32)
    return cells if clip is None else cells.clamp(max=clip)


class VGGTrunk(nn.Module):
    """VGG16 to conv5_3, a pool that keeps the size, fc6 with dilation and fc7 as convolutions, and further maps.

    Gives conv4_3 (each place scaled to a norm that is learned), fc7, and one map for each of `extras`: (channels
    between, channels, kernel, stride, padding of the second convolution).
    """

    def __init__(
        self, in_channels: int, width: int, depths: Sequence[int], extras: Sequence[tuple[int, int, int, int, int]]
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.vgg = VGG(depths, in_channels=in_channels, widths=widths)
        pools = [layer for layer in self.vgg.features if isinstance(layer, nn.MaxPool2d)]
        pools[2].ceil_mode = True  # 75 places make 38, as in Caffe
        self.scale = nn.Parameter(torch.full((8 * width,), 20.0))
        self.fc = nn.ModuleList(
            [nn.Conv2d(8 * width, 16 * width, 3, padding=6, dilation=6), nn.Conv2d(16 * width, 16 * width, 1)]
        )
        self.extras, channels = nn.ModuleList(), 16 * width
        for between, out, kernel, stride, padding in extras:
            pair = [nn.Conv2d(channels, between, 1), nn.Conv2d(between, out, kernel, stride, padding)]
            self.extras.append(nn.ModuleList(pair))
            channels = out
        self.channels = (8 * width, 16 * width, *(extra[1] for extra in extras))
        for part in (*self.fc.modules(), *self.extras.modules()):
            if isinstance(part, nn.Conv2d) and part.bias is not None:
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(B, C, H, W)`, normalised, to the maps, fine to coarse."""
        maps = self.vgg(x)
        found = [self.scale[:, None, None] * F.normalize(maps["conv4"])]
        x = F.max_pool2d(maps["conv5"], 3, 1, 1)
        for layer in self.fc:
            x = F.relu(layer(x))
        found.append(x)
        for pair in self.extras:
            for layer in pair:  # pyright: ignore[reportGeneralTypeIssues]
                x = F.relu(layer(x))
            found.append(x)
        return found


class LiteTrunk(nn.Module):
    """MobileNetV3-Large: the widened input of its last strided unit, its end, and four separable extras."""

    def __init__(self, in_channels: int, width: float, extras: Sequence[int], norm_momentum: float) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=norm_momentum)
        tail = [LARGE[12]._replace(out=80), *(row._replace(expanded=480, out=80) for row in LARGE[13:])]
        self.net = MobileNetV3((*LARGE[:12], *tail), in_channels=in_channels, width=width, norm=norm)
        unit: Any = self.net.features[13]
        first = unit.block[0][0]
        channels = [first.out_channels, self.net.stages[-1].channels]
        self.extras = nn.ModuleList()
        for out in extras:
            between = out // 2
            self.extras.append(
                nn.Sequential(
                    conv_norm_act(channels[-1], between, 1, norm=norm, act=nn.ReLU6),
                    conv_norm_act(between, between, 3, stride=2, groups=between, norm=norm, act=nn.ReLU6),
                    conv_norm_act(between, out, 1, norm=norm, act=nn.ReLU6),
                )
            )
            channels.append(out)
        self.channels, self.norm = tuple(channels), norm

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(B, C, H, W)`, normalised, to the maps, fine to coarse."""
        for layer in self.net.features[:13]:
            x = layer(x)
        unit: Any = self.net.features[13]
        found = [x := unit.block[0](x)]
        for layer in (*unit.block[1:], *self.net.features[14:]):
            x = layer(x)
        found.append(x)
        for layer in self.extras:
            found.append(x := layer(x))
        return found


class AnyTrunk(nn.Module):
    """A backbone's maps from stride 8 on, and `extras` more, each half the size of the one before."""

    def __init__(self, name: str, in_channels: int, norm: NormName | None, weights: str | None, extras: Sequence[int]):
        super().__init__()
        self.backbone = build_backbone(name, in_channels=in_channels, norm=norm, weights=weights)
        stages = [stage for stage in deepest_at_each_stride(self.backbone.stages) if stage.stride >= 8]
        self.names, channels = tuple(stage.name for stage in stages), [stage.channels for stage in stages]
        self.extras = nn.ModuleList()
        for out in extras:
            self.extras.append(
                nn.Sequential(
                    conv_norm_act(channels[-1], out // 2, 1, norm=nn.BatchNorm2d, act=nn.ReLU),
                    conv_norm_act(out // 2, out, 3, stride=2, norm=nn.BatchNorm2d, act=nn.ReLU),
                )
            )
            channels.append(out)
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(B, C, H, W)`, normalised, to the maps, fine to coarse."""
        maps = self.backbone(x)
        found = [maps[name] for name in self.names]
        for layer in self.extras:
            found.append(layer(found[-1]))
        return found


# Network ---------------------------------------------------------------------------------------------------------


class SSD(nn.Module):
    """A trunk, and for each of its maps a convolution for classes and one for boxes.

    size: height and width of the input; pictures are stretched to it. sides: smallest and largest side of each
    map's boxes in pixels of the input; ratios: their proportions; steps: pixels from a place to the next, None: by the
    map's size; clip: see the preface. background: which column of the classes it is. lite: heads are separable.
    negatives: boxes without an object that a step learns from, for each one with an object.
    score, before, overlap, most: the least score of an answer, candidates a class, the IoU at which answers of a class
    suppress each other, answers a picture. clip_boxes: answers are cut at the border.
    """

    OPTIONAL = ()

    def __init__(
        self,
        trunk: VGGTrunk | LiteTrunk | AnyTrunk,
        num_classes: int,
        *,
        normalize: Normalize,
        size: int,
        sides: Sequence[Sequence[float]],
        ratios: Sequence[Sequence[float]],
        steps: Sequence[float] | None,
        clip: Clip = "none",
        background: Background = "first",
        negatives: float = 3.0,
        score: float = 0.01,
        before: int = 400,
        overlap: float = 0.45,
        most: int = 200,
        clip_boxes: bool = True,
    ) -> None:
        super().__init__()
        if not len(trunk.channels) == len(sides) == len(ratios):
            raise UsageError(f"{len(trunk.channels)} maps need as many sides ({len(sides)}) and ratios ({len(ratios)})")
        self.normalize, self.trunk, self.num_classes, self.size = normalize, trunk, num_classes, size
        self.steps = None if steps is None else tuple(steps)
        limit = None if clip == "none" else float(size)
        tables = [default_cells(a, b, r, limit) for (a, b), r in zip(sides, ratios)]
        for i, table in enumerate(tables):
            self.register_buffer(f"cell_{i}", table, persistent=False)
        self.clip, self.background = clip, background
        self.classes, self.boxes = nn.ModuleList(), nn.ModuleList()
        for channels, table in zip(trunk.channels, tables):
            self.classes.append(_head(channels, len(table) * (num_classes + 1), trunk))
            self.boxes.append(_head(channels, len(table) * 4, trunk))
        self.negatives = negatives
        self.score, self.before, self.overlap, self.most, self.clip_boxes = score, before, overlap, most, clip_boxes
        last = "1." if isinstance(trunk, LiteTrunk) else ""
        self.HEAD = tuple(f"classes.{i}.{last}" for i in range(len(tables)))

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Shots:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        x = self.stretched(images, sizes)
        maps = self.trunk(x)
        logits, deltas = self.heads(maps)
        anchors = torch.cat(self.anchors(maps))
        every, moved = torch.cat(logits, 1), torch.cat(deltas, 1)
        scale = self.size / whole(images, None)[0].flip(0).repeat(2).float()  # across, down, across, down
        found = None
        if targets is None or not self.training:
            found = self.find(every, moved, anchors, scale, whole(images, sizes))
        if targets is None:
            return Shots(found)
        return Shots(found, every, moved, anchors, self.assign(anchors, targets, scale), scale)

    def stretched(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """The network's input: normalised, at its size."""
        x = self.normalize(images, sizes)
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)

    def heads(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits `(B, N_l, K + 1)` and deltas `(B, N_l, 4)` of each map."""
        logits = [places_first(head(x), self.num_classes + 1) for head, x in zip(self.classes, maps)]
        deltas = [places_first(head(x), 4) for head, x in zip(self.boxes, maps)]
        return logits, deltas

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The default boxes of each map, `(N_l, 4)` in pixels of the input: rows, columns, boxes."""
        found = []
        for i, x in enumerate(maps):
            height, width = x.shape[-2:]
            step = (self.size / height, self.size / width) if self.steps is None else (self.steps[i],) * 2
            y = (torch.arange(height, device=x.device, dtype=torch.float32) + 0.5) * step[0]
            along = (torch.arange(width, device=x.device, dtype=torch.float32) + 0.5) * step[1]
            centre = torch.stack(torch.broadcast_tensors(along[None, :], y[:, None]), -1)[:, :, None]  # (h, w, 1, 2)
            cell = getattr(self, f"cell_{i}")
            if self.clip == "all":
                centre = centre.clamp(max=float(self.size))
            shape = (height, width, len(cell), 2)
            boxes = torch.cat([centre.expand(shape), cell.expand(shape)], -1)
            found.append(from_centres(boxes).reshape(-1, 4))
        return found

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Target, scale: Tensor) -> Tensor:
        """For each box the index of its true box, or `BACKGROUND`, `(B, N)` (section 2.2).

        A box belongs to the true box it overlaps most, from an IoU of 0.5 on; and each true box has its best box.
        """
        if targets.boxes.shape[1] == 0:
            return torch.full((len(targets.boxes), len(anchors)), BACKGROUND, device=anchors.device)
        objects = real(targets)
        overlap = iou(targets.boxes * scale, anchors).masked_fill(~objects[..., None], -1.0)  # (B, G, N)
        best, which = overlap.max(1)
        found = which.masked_fill(best < 0.5, BACKGROUND)
        number = torch.arange(overlap.shape[1], device=anchors.device).expand(overlap.shape[:2])
        own = overlap.argmax(2)  # (B, G)
        claimed = torch.full_like(found, -1).scatter_reduce(1, own, torch.where(objects, number, -1), "amax")
        return torch.where(claimed >= 0, claimed, found)

    def losses(self, out: Shots, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes`, cross-entropy of boxes with an object and the hardest without; `boxes`, smooth L1."""
        logits, deltas, anchors, matched, scale = out.logits, out.deltas, out.anchors, out.matched, out.scale
        if logits is None or deltas is None or anchors is None or matched is None or scale is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        positive = matched >= 0
        total = positive.sum().clamp(min=1)
        if targets.boxes.shape[1] == 0:
            label, truth = matched, anchors.expand(*matched.shape, 4)
        else:
            label = targets.labels.gather(1, matched.clamp(min=0))
            truth = rows(targets.boxes * scale, matched.clamp(min=0))
        label = label.masked_fill(~positive, self.num_classes)
        column = torch.where(positive, label + 1, 0) if self.background == "first" else label
        cross = F.cross_entropy(logits.float().flatten(0, 1), column.flatten(), reduction="none").view_as(matched)
        with torch.no_grad():
            order = ranking(cross.masked_fill(positive, -math.inf))
            number = torch.arange(order.shape[1], device=order.device).expand_as(order)
            rank = torch.zeros_like(order).scatter(1, order, number)
            hard = ~positive & (rank < self.negatives * positive.sum(1, keepdim=True))
        wanted = torch.where(positive[..., None], encode(truth, anchors, WEIGHTS), 0.0)
        boxes = F.smooth_l1_loss(torch.where(positive[..., None], deltas.float(), 0.0), wanted, reduction="sum")
        return {"classes": (cross * (positive | hard)).sum() / total, "boxes": boxes / total}

    def decode(self, out: Shots, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)

    @torch.no_grad()
    def find(self, logits: Tensor, deltas: Tensor, anchors: Tensor, scale: Tensor, sizes: Tensor) -> Found:
        """The best candidates of each class, of which those of one class suppress each other."""
        columns = slice(1, None) if self.background == "first" else slice(None, -1)
        scores = logits.detach().float().softmax(-1)[..., columns].transpose(1, 2)  # (B, K, N)
        scores = scores.masked_fill(scores <= self.score, 0.0)
        value, place = F.pad(scores, (0, self.before)).topk(self.before, dim=2)
        place = place.clamp(max=scores.shape[2] - 1)
        label = torch.arange(self.num_classes, device=place.device)[:, None].expand_as(place)
        value, place, label = (x.flatten(1) for x in (value, place, label))
        order = ranking(value)[:, : candidates(value)]
        value, place, label = (x.gather(1, order) for x in (value, place, label))
        boxes = decode_boxes(rows(deltas.detach(), place), anchors[place], WEIGHTS) / scale
        if self.clip_boxes:
            boxes = cut(boxes, sizes)
        return suppressed(boxes, value, label, value > 0, self.overlap, self.most)


def _head(channels: int, out: int, trunk: nn.Module) -> nn.Module:
    if isinstance(trunk, LiteTrunk):
        first = conv_norm_act(channels, channels, 3, groups=channels, norm=trunk.norm, act=nn.ReLU6)
        head: nn.Module = nn.Sequential(first, nn.Conv2d(channels, out, 1))
    else:
        head = nn.Conv2d(channels, out, 3, padding=1)
    for part in head.modules():
        if not isinstance(part, nn.Conv2d):
            continue
        if isinstance(trunk, LiteTrunk):
            nn.init.normal_(part.weight, std=0.03)
        else:
            nn.init.xavier_uniform_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    return head


# Builders --------------------------------------------------------------------------------------------------------


def ssd(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    size: int = 320,
    extras: Sequence[int] = (512, 256, 256),
    smallest: float = 0.07,
    largest: float = 0.9,
    ratios: Sequence[float] = (2, 3),
    score: float = 0.01,
    before: int = 400,
    overlap: float = 0.45,
    most: int = 200,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SSD:
    """SSD on any backbone: its maps from stride 8 on and one more for each of `extras` (their channels).

    size: of the input; pictures are stretched to it. smallest, largest: sides of the finest and the coarsest map's
    boxes, as shares of `size`, those between in even steps; ratios: their proportions. The rest: see `SSD`.
    """
    trunk = AnyTrunk(backbone, in_channels, norm, backbone_weights, extras)
    count = len(trunk.channels)
    shares = [smallest + (largest - smallest) * i / max(count - 1, 1) for i in range(count)] + [1.05]
    sides = [(a * size, b * size) for a, b in pairwise(shares)]
    return SSD(
        trunk, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), size=size, sides=sides,
        ratios=[tuple(ratios)] * count, steps=None, clip="sizes", score=score, before=before, overlap=overlap,
        most=most,
    )  # fmt: skip


def ssd300(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    sides: Sequence[Sequence[float]] = VOC300,
    clip: Clip = "all",
    background: Background = "first",
    score: float = 0.01,
    before: int = 400,
    overlap: float = 0.45,
    most: int = 200,
    clip_boxes: bool = True,
    mean: Sequence[float] | None = CAFFE,
    std: Sequence[float] | None = BYTES,
) -> SSD:
    """The paper's SSD300 on VGG16: 26,285,486 parameters for 20 classes, 8,732 default boxes; see `SSD`.

    width: channels of VGG's first group, all others in proportion. depths: convolutions of its groups.
    """
    extras = [(4, 8, 3, 2, 1), (2, 4, 3, 2, 1), (2, 4, 3, 1, 0), (2, 4, 3, 1, 0)]
    trunk = VGGTrunk(in_channels, width, depths, [(a * width, b * width, k, s, p) for a, b, k, s, p in extras])
    return SSD(
        trunk, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), size=300, sides=sides,
        ratios=RATIOS300, steps=STEPS300, clip=clip, background=background, score=score, before=before, overlap=overlap,
        most=most, clip_boxes=clip_boxes,
    )  # fmt: skip


def ssd512(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    sides: Sequence[Sequence[float]] = VOC512,
    clip: Clip = "all",
    background: Background = "first",
    score: float = 0.01,
    before: int = 400,
    overlap: float = 0.45,
    most: int = 200,
    clip_boxes: bool = True,
    mean: Sequence[float] | None = CAFFE,
    std: Sequence[float] | None = BYTES,
) -> SSD:
    """The paper's SSD512: one map more, 24,564 default boxes; see `ssd300`."""
    extras = [(4, 8, 3, 2, 1), (2, 4, 3, 2, 1), (2, 4, 3, 2, 1), (2, 4, 3, 2, 1), (2, 4, 4, 1, 1)]
    trunk = VGGTrunk(in_channels, width, depths, [(a * width, b * width, k, s, p) for a, b, k, s, p in extras])
    return SSD(
        trunk, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), size=512, sides=sides,
        ratios=RATIOS512, steps=STEPS512, clip=clip, background=background, score=score, before=before, overlap=overlap,
        most=most, clip_boxes=clip_boxes,
    )  # fmt: skip


def ssd300_torchvision(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    score: float = 0.01,
    before: int = 400,
    overlap: float = 0.45,
    most: int = 200,
    mean: Sequence[float] | None = (0.48235, 0.45882, 0.40784),
    std: Sequence[float] | None = BYTES,
) -> SSD:
    """torchvision's `ssd300_vgg16`: 35,641,826 parameters for 90 classes."""
    return ssd300(
        num_classes, in_channels=in_channels, width=width, depths=depths, sides=COCO300, clip="sizes", score=score,
        before=before, overlap=overlap, most=most, mean=mean, std=std,
    )  # fmt: skip


def ssd300_mmdet(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    sides: Sequence[Sequence[float]] = COCO300,
    score: float = 0.02,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 200,
    mean: Sequence[float] | None = (123.675 / 255, 116.28 / 255, 103.53 / 255),
    std: Sequence[float] | None = BYTES,
) -> SSD:
    """mmdet's `ssd300_coco`: 34,305,206 parameters for 80 classes; background last, default boxes not cut."""
    return ssd300(
        num_classes, in_channels=in_channels, width=width, depths=depths, sides=sides, clip="none", background="last",
        score=score, before=before, overlap=overlap, most=most, mean=mean, std=std,
    )  # fmt: skip


def ssd512_mmdet(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    score: float = 0.02,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 200,
    mean: Sequence[float] | None = (123.675 / 255, 116.28 / 255, 103.53 / 255),
    std: Sequence[float] | None = BYTES,
) -> SSD:
    """mmdet's `ssd512_coco`: 36,038,196 parameters for 80 classes; background last, default boxes not cut."""
    return ssd512(
        num_classes, in_channels=in_channels, width=width, depths=depths, sides=COCO512, clip="none", background="last",
        score=score, before=before, overlap=overlap, most=most, mean=mean, std=std,
    )  # fmt: skip


def ssdlite_torchvision(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    width: float = 1.0,
    extras: Sequence[int] = (512, 256, 256, 128),
    size: int = 320,
    norm_momentum: float = 0.03,
    score: float = 0.001,
    before: int = 300,
    overlap: float = 0.55,
    most: int = 300,
    mean: Sequence[float] | None = (0.5, 0.5, 0.5),
    std: Sequence[float] | None = (0.5, 0.5, 0.5),
) -> SSD:
    """torchvision's `ssdlite320_mobilenet_v3_large`: 3,440,060 parameters for 90 classes; see `SSD`.

    width: factor on the channels of MobileNetV3. extras: channels of the four further maps.
    """
    trunk = LiteTrunk(in_channels, width, extras, norm_momentum)
    count = len(trunk.channels)
    shares = [0.2 + (0.95 - 0.2) * i / (count - 1) for i in range(count)] + [1.0]
    return SSD(
        trunk, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), size=size,
        sides=[(a * size, b * size) for a, b in pairwise(shares)], ratios=[(2, 3)] * count, steps=None,
        clip="sizes", score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


# Public names ----------------------------------------------------------------------------------------------------

_HEADS = (
    ("head.classification_head.module_list.{i}.{rest}", "classes.{i}.{rest}"),
    ("head.regression_head.module_list.{i}.{rest}", "boxes.{i}.{rest}"),
)

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("backbone.scale_weight", "trunk.scale"),
            ("backbone.extra.0.1.{leaf}", "trunk.vgg.features.24.{leaf}"),
            ("backbone.extra.0.3.{leaf}", "trunk.vgg.features.26.{leaf}"),
            ("backbone.extra.0.5.{leaf}", "trunk.vgg.features.28.{leaf}"),
            ("backbone.extra.0.7.1.{leaf}", "trunk.fc.0.{leaf}"),
            ("backbone.extra.0.7.3.{leaf}", "trunk.fc.1.{leaf}"),
            ("backbone.extra.{i+1}.{2j}.{leaf}", "trunk.extras.{i}.{j}.{leaf}"),
            ("backbone.features.{i}.{leaf}", "trunk.vgg.features.{i}.{leaf}"),
            *_HEADS,
        ),
        words="torchvision.models.detection: SSD300 VGG16",
    ),
    KeyMap(
        "torchvision-lite",
        (
            ("backbone.features.0.13.{rest}", "trunk.net.features.13.block.0.{rest}"),
            ("backbone.features.1.0.{j}.{rest}", "trunk.net.features.13.block.{j}.{rest}"),
            ("backbone.features.1.1.{rest}", "trunk.net.features.14.{rest}"),
            ("backbone.features.1.2.{rest}", "trunk.net.features.15.{rest}"),
            ("backbone.features.1.3.{rest}", "trunk.net.features.16.{rest}"),
            ("backbone.features.0.{i}.{rest}", "trunk.net.features.{i}.{rest}"),
            ("backbone.extra.{i}.{rest}", "trunk.extras.{i}.{rest}"),
            *_HEADS,
        ),
        words="torchvision.models.detection: SSDLite320 MobileNetV3-Large",
    ),
    KeyMap(
        "amdegroot",
        (
            ("L2Norm.weight", "trunk.scale"),
            ("vgg.31.{leaf}", "trunk.fc.0.{leaf}"),
            ("vgg.33.{leaf}", "trunk.fc.1.{leaf}"),
            ("vgg.{i}.{leaf}", "trunk.vgg.features.{i}.{leaf}"),
            ("extras.{2i}.{leaf}", "trunk.extras.{i}.0.{leaf}"),
            ("extras.{2i+1}.{leaf}", "trunk.extras.{i}.1.{leaf}"),
            ("conf.{i}.{leaf}", "classes.{i}.{leaf}"),
            ("loc.{i}.{leaf}", "boxes.{i}.{leaf}"),
        ),
        words="amdegroot/ssd.pytorch",
    ),
    KeyMap(
        "mmdet",
        (
            ("neck.l2_norm.weight", "trunk.scale"),
            ("backbone.features.31.{leaf}", "trunk.fc.0.{leaf}"),
            ("backbone.features.33.{leaf}", "trunk.fc.1.{leaf}"),
            ("backbone.features.{i}.{leaf}", "trunk.vgg.features.{i}.{leaf}"),
            ("neck.extra_layers.{i}.{j}.conv.{leaf}", "trunk.extras.{i}.{j}.{leaf}"),
            ("bbox_head.cls_convs.{i}.0.{leaf}", "classes.{i}.{leaf}"),
            ("bbox_head.reg_convs.{i}.0.{leaf}", "boxes.{i}.{leaf}"),
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: SSD",
    ),
)
