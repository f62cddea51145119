"""RetinaNet.

Paper: Focal Loss for Dense Object Detection (Lin, Goyal, Girshick, He & Dollar 2017, arXiv:1708.02002).

The idea: one pass says at every place of a pyramid, for nine reference boxes, what is there and where its border is. Of
a hundred thousand places nearly all are background, and easy; the focal loss lets the easy ones fade, so that the few
hard ones are heard without any sampling.

- `retinanet`, the one to start with: any backbone; exact anchors, P6 from C5, group norm in the towers, generalised IoU
  as loss of boxes. `channels` makes it as small as a laptop wants it.
- `retinanet_torchvision_r50_fpn`: torchvision's first. P6 from P5, anchors cut and rounded to whole pixels, no norm in
  the towers, absolute differences as loss of boxes. `retinanet_torchvision_r50_fpn_v2`: P6 from C5, group norm,
  generalised IoU.
- `retinanet_detectron2_r50_fpn`: detectron2's. Exact anchors, strides in the 1x1 convolutions, pixels as blue, green,
  red from 0 to 255, losses divided by a running number of positives.
- `retinanet_mmdet_r50_fpn`: mmdet's. Exact anchors in another order, losses divided by the batch's positives.

Classes: there is no background column. torchvision's files of COCO have 91 columns, ids 0..90 with gaps, of which the
labels never use 0: its entries have 91 classes. detectron2's and mmdet's have 80.

Departures: none but those of the sources. The running number of positives (detectron2) is in no checkpoint, as in the
public files: after a resume it starts at 100 again.

Loads: torchvision (`torchvision`), detectron2 (`detectron2`), mmdet (`mmdet`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.resnet import Bottleneck, ResNet, StrideIn
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, real, whole
from sightline.detection.losses import sigmoid_focal
from sightline.detection.regions import best, candidates, filled, places_first, rows, suppressed
from sightline.detection.trunk import CAFFE_MEAN, CAFFE_STD, TINY, Trunk, detectron2_backbone
from sightline.errors import UsageError
from sightline.nn.conv import Norm, NormName, norm_named
from sightline.nn.fpn import FPN, Extra
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.anchors import Order, cell_anchors, grid_anchors
from sightline.ops.box_coding import decode as decode_boxes
from sightline.ops.box_coding import encode
from sightline.ops.boxes import clip_boxes, paired_giou, sized
from sightline.ops.matching import BACKGROUND, Rescue, match
from sightline.ops.nms import first_true, ranking
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

Normaliser = Literal["picture", "batch", "running"]

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Dense:
    """What RetinaNet sees. found: the objects. With targets, for the losses:

    logits: `(B, N, K)`. deltas: `(B, N, 4)`. anchors: `(N, 4)`. matched: `(B, N)`, the index of the true box,
    `BACKGROUND` or `BETWEEN`. total: `(B,)`, what each picture's losses are divided by.
    """

    found: Found | None = None
    logits: Tensor | None = None
    deltas: Tensor | None = None
    anchors: Tensor | None = None
    matched: Tensor | None = None
    total: Tensor | None = None


class Tower(nn.Module):
    """Convolutions shared by all levels, and a last one to `out` channels."""

    def __init__(self, channels: int, out: int, *, depth: int = 4, norm: Norm | None = None, prior: float = 0.0):
        super().__init__()
        self.convs = nn.ModuleList()
        for _ in range(depth):
            parts: list[nn.Module] = [nn.Conv2d(channels, channels, 3, 1, 1, bias=norm is None)]
            parts += [] if norm is None else [norm(channels)]
            self.convs.append(nn.Sequential(*parts, nn.ReLU(inplace=True)))
        self.last = nn.Conv2d(channels, out, 3, 1, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        if prior:  # section 4.1: at first everything is background, with this probability of an object
            assert self.last.bias is not None
            nn.init.constant_(self.last.bias, -math.log((1 - prior) / prior))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, out, H, W)`."""
        for conv in self.convs:
            x = conv(x)
        return self.last(x)


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, or fewer so that each has two channels: the coarsest map of a small picture is a single place."""
    groups = next(g for g in range(min(32, max(channels // 2, 1)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def octaves(sizes: Sequence[float], per_octave: int = 3, *, whole: bool = False) -> list[list[float]]:
    """`per_octave` sizes from each of `sizes` on, times 2^(i / per_octave); whole: cut to whole pixels."""
    found = [[s * 2 ** (i / per_octave) for i in range(per_octave)] for s in sizes]
    return [[float(int(s)) for s in level] for level in found] if whole else found


# Network ---------------------------------------------------------------------------------------------------------


class RetinaNet(nn.Module):
    """A trunk with a pyramid, a tower of classes, a tower of boxes.

    sizes: the anchors' sizes, a list a level; rounded, order: see `ops.anchors`. strides: of the levels; None: the
    picture's size over the map's, rounded down (torchvision). high, low, rescue: which anchors are positive, which
    background (`ops.matching.match`). giou: the loss of boxes is generalised IoU, else absolute differences.
    divide: losses are divided by the positives of each `picture`, then averaged; by those of the `batch`; or by a
    `running` mean of those (0.9 of it remains with each step, it starts at 100).
    score, before, overlap, most: the least probability of an answer, candidates a level, the IoU at which answers of a
    class suppress each other, answers a picture. clip: boxes are cut at the border `before` suppression or `after` it
    (detectron2); then those with a side below `smallest` are dropped.
    """

    HEAD = ("classes.last.",)
    OPTIONAL = ()

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        channels: int,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] | None,
        rounded: bool = False,
        order: Order = "ratio_first",
        depth: int = 4,
        norm: Norm | None = None,
        prior: float = 0.01,
        alpha: float = 0.25,
        gamma: float = 2.0,
        high: float = 0.5,
        low: float = 0.4,
        rescue: Rescue = "own",
        giou: bool = False,
        divide: Normaliser = "picture",
        score: float = 0.05,
        before: int = 1000,
        overlap: float = 0.5,
        most: int = 100,
        clip: Literal["before", "after"] = "before",
        smallest: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk, self.num_classes = trunk, num_classes
        cells = torch.stack([cell_anchors(s, ratios, rounded=rounded, order=order) for s in sizes])
        self.register_buffer("cells", cells, persistent=False)  # (L, A, 4)
        self.strides = None if strides is None else tuple(strides)
        per_place = cells.shape[1]
        self.classes = Tower(channels, per_place * num_classes, depth=depth, norm=norm, prior=prior)
        self.boxes = Tower(channels, per_place * 4, depth=depth, norm=norm)
        self.alpha, self.gamma, self.high, self.low = alpha, gamma, high, low
        self.rescue: Rescue = rescue
        self.giou, self.divide = giou, divide
        self.score, self.before, self.overlap, self.most = score, before, overlap, most
        self.clip, self.smallest = clip, smallest
        if divide not in ("picture", "batch", "running"):
            raise UsageError(f"divide '{divide}' is unknown; choose from picture, batch, running")
        self.register_buffer("running", torch.tensor(100.0), persistent=False)  # public files have none

    cells: Tensor
    running: Tensor

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Dense:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        logits, deltas, anchors = self.heads(maps, x)
        found = None
        if targets is None or not self.training:
            found = self.find(logits, deltas, anchors, whole(images, sizes))
        if targets is None:
            return Dense(found)
        every = torch.cat(anchors)
        matched = self.assign(every, targets)
        return Dense(found, torch.cat(logits, 1), torch.cat(deltas, 1), every, matched, self.total(matched))

    def heads(self, maps: Sequence[Tensor], image: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Logits `(B, N_l, K)`, deltas `(B, N_l, 4)` and anchors `(N_l, 4)` a level; image: padded `(B, C, H, W)`."""
        logits = [places_first(self.classes(x), self.num_classes) for x in maps]
        deltas = [places_first(self.boxes(x), 4) for x in maps]
        anchors = []
        for i, x in enumerate(maps):
            height, width = x.shape[-2:]
            if self.strides is None:
                stride = (image.shape[-2] // height, image.shape[-1] // width)
            else:
                stride = (self.strides[i], self.strides[i])
            anchors.append(grid_anchors(self.cells[i], height, width, stride))
        return logits, deltas, anchors

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Target) -> Tensor:
        """For anchors `(N, 4)`: the index of their true box, `BACKGROUND` or `BETWEEN`, `(B, N)`."""
        if targets.boxes.shape[1] == 0:
            return torch.full((len(targets.boxes), len(anchors)), BACKGROUND, device=anchors.device)
        objects = real(targets)
        return match(targets.boxes, anchors[None], valid=objects, high=self.high, low=self.low, rescue=self.rescue)[0]

    @torch.no_grad()
    def total(self, matched: Tensor) -> Tensor:
        """What each picture's losses are divided by, `(B,)`."""
        positives = (matched >= 0).sum(1)
        if self.divide == "picture":
            return positives.clamp(min=1) * len(matched)
        count = positives.sum().clamp(min=1).float()
        if self.divide == "running":
            count = 0.9 * self.running + 0.1 * count
            if self.training:
                self.running.copy_(count)
        return count.expand(len(matched))

    def losses(self, out: Dense, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes`, the focal loss of all anchors but those between; `boxes`, of the positive ones."""
        logits, deltas, anchors, matched, total = out.logits, out.deltas, out.anchors, out.matched, out.total
        if logits is None or deltas is None or anchors is None or matched is None or total is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        positive = matched >= 0
        if targets.boxes.shape[1] == 0:
            label, truth = torch.full_like(matched, -1), anchors.expand(*matched.shape, 4)
        else:
            label = targets.labels.gather(1, matched.clamp(min=0)).masked_fill(~positive, -1)
            truth = rows(targets.boxes, matched.clamp(min=0))
        focal = sigmoid_focal(logits.float(), label, alpha=self.alpha, gamma=self.gamma)  # (B, N)
        counted = positive | (matched == BACKGROUND)
        if self.giou:
            truth = torch.where(positive[..., None], truth, anchors)
            shift = torch.where(positive[..., None], deltas.float(), 0.0)
            boxes = (1 - paired_giou(decode_boxes(shift, anchors), truth)) * positive
        else:
            wanted = torch.where(positive[..., None], encode(truth, anchors), 0.0)
            boxes = (deltas.float() - wanted).abs().sum(-1) * positive
        return {
            "classes": ((focal * counted).sum(1) / total).sum(),
            "boxes": (boxes.sum(1) / total).sum(),
        }

    def decode(self, out: Dense, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)

    @torch.no_grad()
    def find(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Tensor
    ) -> Found:
        """The best candidates of each level, of which those of one class suppress each other."""
        lowest = math.log(self.score / (1 - self.score)) if self.score > 0 else -math.inf
        scores, labels, boxes = [], [], []
        for level, delta, anchor in zip(logits, deltas, anchors):
            value, index = best(level.detach().float().flatten(1), self.before)
            place = index // self.num_classes
            scores.append(value.sigmoid().masked_fill(value <= lowest, 0.0))
            labels.append(index % self.num_classes)
            boxes.append(decode_boxes(rows(delta, place), anchor[place]))
        score, label, box = torch.cat(scores, 1), torch.cat(labels, 1), torch.cat(boxes, 1)
        order = ranking(score)[:, : candidates(score)]
        score, box, label = score.gather(1, order), rows(box, order), label.gather(1, order)
        if self.clip == "before":
            box = clip_boxes(box, sizes)
            return suppressed(box, score, label, (score > 0) & sized(box, self.smallest), self.overlap, self.most)
        found = suppressed(box, score, label, score > 0, self.overlap, self.most)
        box = clip_boxes(found.boxes, sizes)
        real = (torch.arange(box.shape[1], device=box.device) < found.count[:, None]) & sized(box, self.smallest)
        order = first_true(real, self.most)
        scores, labels = found.scores.gather(1, order), found.labels.gather(1, order)
        return filled(rows(box, order), scores, labels, real.sum(1), self.most)


# Builders --------------------------------------------------------------------------------------------------------


def retinanet(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    depth: int = 4,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    giou: bool = True,
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> RetinaNet:
    """RetinaNet on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels, depth: of the pyramid and the towers, and how many
    convolutions a tower has. anchors: sizes in pixels, one a level (strides 8, 16, 32, 64, 128), each with two more
    between it and its double; ratios: height / width. giou: the loss of boxes. The rest: see `RetinaNet`.
    """
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 8]
    strides = [stage.stride for stage in stages]
    fpn = FPN([stage.channels for stage in stages], channels, strides=strides, extra="last_input")
    return RetinaNet(
        Trunk(net, [s.name for s in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels))),
        num_classes,
        channels=channels,
        sizes=octaves(anchors),
        ratios=ratios,
        strides=fpn.strides,
        depth=depth,
        norm=group_norm,
        giou=giou,
        divide="batch",
        score=score,
        before=before,
        overlap=overlap,
        most=most,
    )


def retinanet_torchvision_r50_fpn(
    num_classes: int = 91,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    norm: NormName = "frozen",
    norm_eps: float = 0.0,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 300,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> RetinaNet:
    """torchvision's `retinanet_resnet50_fpn`: 34,014,999 parameters for 91 classes, of which the labels use 90.

    norm: of the backbone, `frozen` with eps 0 as published, or `batch` (with norm_eps 1e-5) to train from scratch.
    """
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm, eps=norm_eps))
    trunk = _trunk(body, channels, "last_output", Normalize(*for_channels(mean, std, in_channels)))
    return RetinaNet(
        trunk, num_classes, channels=channels, sizes=octaves(anchors, whole=True), strides=None, rounded=True,
        score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


def retinanet_torchvision_r50_fpn_v2(
    num_classes: int = 91,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 300,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> RetinaNet:
    """torchvision's `retinanet_resnet50_fpn_v2`: 38,198,935 parameters for 91 classes, of which the labels use 90."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width)
    trunk = _trunk(body, channels, "last_input", Normalize(*for_channels(mean, std, in_channels)))
    return RetinaNet(
        trunk, num_classes, channels=channels, sizes=octaves(anchors, whole=True), strides=None, rounded=True,
        norm=group_norm, giou=True, score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


def retinanet_detectron2_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    divide: Normaliser = "running",
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> RetinaNet:
    """detectron2's `retinanet_R_50_FPN`: 37,915,572 parameters for 80 classes.

    mean, std: for red, green, blue in [0, 1]; bgr: the network itself reads blue, green, red.
    """
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in)
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    trunk = _trunk(body, channels, "last_input", normalize)
    return RetinaNet(
        trunk, num_classes, channels=channels, sizes=octaves(anchors), strides=_strides(trunk), order="size_first",
        clip="after", smallest=TINY,
        divide=divide, score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


def retinanet_mmdet_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    norm: NormName = "batch",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = (123.675 / 255, 116.28 / 255, 103.53 / 255),
    std: Sequence[float] | None = (58.395 / 255, 57.12 / 255, 57.375 / 255),
) -> RetinaNet:
    """mmdet's `retinanet_r50_fpn`: 37,968,692 parameters for 80 classes."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm))
    trunk = _trunk(body, channels, "last_input", Normalize(*for_channels(mean, std, in_channels)), relu=False)
    return RetinaNet(
        trunk, num_classes, channels=channels, sizes=octaves(anchors), strides=_strides(trunk),
        divide="batch", rescue="theirs", smallest=TINY, score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


def _trunk(body: ResNet, channels: int, extra: Extra, normalize: Normalize, *, relu: bool = True) -> Trunk:
    stages = body.stages[2:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra=extra, relu=relu)
    return Trunk(body, [s.name for s in stages], fpn, normalize=normalize)


def _strides(trunk: Trunk) -> tuple[int, ...]:
    assert trunk.fpn is not None
    return trunk.fpn.strides


# Public names ----------------------------------------------------------------------------------------------------

_TOWERS = (("classification_head", "classes", "cls_logits"), ("regression_head", "boxes", "bbox_reg"))

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("backbone.body.{rest}", "trunk.backbone.{rest}"),
            ("backbone.fpn.inner_blocks.{i}.{j}.{leaf}", "trunk.fpn.lateral.{i}.{j}.{leaf}"),
            ("backbone.fpn.layer_blocks.{i}.{j}.{leaf}", "trunk.fpn.output.{i}.{j}.{leaf}"),
            ("backbone.fpn.inner_blocks.{i}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("backbone.fpn.layer_blocks.{i}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("backbone.fpn.extra_blocks.p6.{leaf}", "trunk.fpn.coarse.0.{leaf}"),
            ("backbone.fpn.extra_blocks.p7.{leaf}", "trunk.fpn.coarse.1.{leaf}"),
            *((f"head.{a}.conv.{{i}}.{{j}}.{{leaf}}", f"{b}.convs.{{i}}.{{j}}.{{leaf}}") for a, b, _ in _TOWERS),
            *((f"head.{a}.conv.{{2i}}.{{leaf}}", f"{b}.convs.{{i}}.0.{{leaf}}") for a, b, _ in _TOWERS),
            *((f"head.{a}.{last}.{{leaf}}", f"{b}.last.{{leaf}}") for a, b, last in _TOWERS),
        ),
        words="torchvision.models.detection: RetinaNet",
    ),
    KeyMap(
        "detectron2",
        (
            *detectron2_backbone("backbone.bottom_up."),
            ("backbone.fpn_lateral{i+3}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("backbone.fpn_output{i+3}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("backbone.top_block.p{i+6}.{leaf}", "trunk.fpn.coarse.{i}.{leaf}"),
            ("head.cls_subnet.{2i}.{leaf}", "classes.convs.{i}.0.{leaf}"),
            ("head.bbox_subnet.{2i}.{leaf}", "boxes.convs.{i}.0.{leaf}"),
            ("head.cls_score.{leaf}", "classes.last.{leaf}"),
            ("head.bbox_pred.{leaf}", "boxes.last.{leaf}"),
        ),
        ignore=("anchor_generator.*", "pixel_mean", "pixel_std"),
        container="model",
        words="facebookresearch/detectron2: RetinaNet",
    ),
    KeyMap(
        "mmdet",
        (
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("neck.fpn_convs.3.conv.{leaf}", "trunk.fpn.coarse.0.{leaf}"),
            ("neck.fpn_convs.4.conv.{leaf}", "trunk.fpn.coarse.1.{leaf}"),
            ("neck.fpn_convs.{i}.conv.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("bbox_head.cls_convs.{i}.conv.{leaf}", "classes.convs.{i}.0.{leaf}"),
            ("bbox_head.reg_convs.{i}.conv.{leaf}", "boxes.convs.{i}.0.{leaf}"),
            ("bbox_head.retina_cls.{leaf}", "classes.last.{leaf}"),
            ("bbox_head.retina_reg.{leaf}", "boxes.last.{leaf}"),
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: RetinaNet",
    ),
)
