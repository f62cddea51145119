"""Faster R-CNN.

Paper: Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks (Ren, He, Girshick & Sun 2015,
arXiv:1506.01497); with the pyramid of Feature Pyramid Networks (Lin et al. 2016, arXiv:1612.03144).

The idea: one network looks twice. A small head slides over the maps of a backbone and says at every place, for a few
reference boxes (anchors), whether something is there and where its border is; the best of these proposals are cut out
of the same maps, classified, and corrected once more.

- `faster_rcnn`, the one to start with: any backbone with a pyramid; exact anchors, aligned RoIAlign with two samples a
  bin, background last. `channels` and `hidden` make it as small as a laptop wants it.
- `faster_rcnn_torchvision_r50_fpn`, `..._mobilenet_v3_large_fpn`: torchvision's. Anchors rounded to whole pixels and
  spaced by the picture's size over the map's; RoIAlign without the half-pixel shift; background first.
- `faster_rcnn_torchvision_r50_fpn_v2`: batch norm everywhere, two convolutions in the RPN, four in the box head.
- `faster_rcnn_detectron2_r50_fpn`, `faster_rcnn_detectron2_r50_c4`: detectron2's. Strides in the 1x1 convolutions,
  pixels as blue, green, red from 0 to 255, as many samples a bin as it has cells, absolute differences as loss of
  boxes. C4 has no pyramid: the proposals' heads are the backbone's last stage.

Classes: torchvision's files of COCO have 90 classes and a background, ids 1..90 with gaps: class k of a file is k - 1
here. detectron2's have 80, as here.

Departures: what is drawn at random follows PyTorch's seed, but other numbers; samples are padded, so a batch norm in
the box head counts padding in training.

Traits: `adaptive`: detectron2's bins have as many samples as cells; a compiled program has at most four, which is exact
for boxes whose bins are up to four cells long.

Loads: torchvision (`torchvision`), detectron2 (`detectron2`), mmdet's R50-FPN (`mmdet`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.mobilenet_v3 import LARGE, MobileNetV3
from sightline.backbones.resnet import Bottleneck, ResNet, StrideIn
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, whole
from sightline.detection.regions import (
    RPN,
    Background,
    BoxBranch,
    ConvLayers,
    FirstStage,
    Limits,
    Pooler,
    Proposals,
    SecondStage,
    TwoLayers,
)
from sightline.detection.trunk import CAFFE_MEAN, CAFFE_STD, TINY, Trunk, detectron2_backbone, detectron2_units
from sightline.nn.conv import NormName, norm_named
from sightline.nn.fpn import FPN
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Regions:
    """What Faster R-CNN sees. found: the objects; first, second: what the two stages learn from, with targets."""

    found: Found | None = None
    first: FirstStage | None = None
    second: SecondStage | None = None


class LastStage(nn.Module):
    """The head of C4: the backbone's last stage on each proposal, averaged over places."""

    def __init__(self, in_channels: int, width: int, depth: int, *, stride_in: str, norm) -> None:
        super().__init__()
        units = []
        for i in range(depth):
            units.append(
                Bottleneck(
                    in_channels if i == 0 else width * Bottleneck.expansion,
                    width,
                    stride=2 if i == 0 else 1,
                    stride_in="1x1" if stride_in == "1x1" else "3x3",
                    norm=norm,
                )
            )
        self.layer4 = nn.Sequential(*units)
        self.channels = width * Bottleneck.expansion

    def forward(self, x: Tensor) -> Tensor:
        """`(R, C, 14, 14)` to `(R, channels)`."""
        return self.layer4(x).mean((2, 3))


# Network ---------------------------------------------------------------------------------------------------------


class FasterRCNN(nn.Module):
    """A trunk, a region proposal network, a box branch."""

    HEAD = ("boxes.label.", "boxes.deltas.")
    OPTIONAL = ()

    def __init__(self, trunk: Trunk, rpn: RPN, boxes: BoxBranch) -> None:
        super().__init__()
        self.trunk, self.rpn, self.boxes = trunk, rpn, boxes

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Regions:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        limits = whole(images, sizes)
        proposals, first = self.rpn(maps, x, limits, targets)
        second = None if targets is None else self.study(maps, proposals, targets)
        found = None if targets is not None and self.training else self.look(maps, proposals, limits)
        return Regions(found, first, second)

    def study(self, maps: Sequence[Tensor], proposals: Proposals, targets: Target) -> SecondStage:
        """The second stage on a sample of the proposals."""
        sample = self.boxes.sample(proposals, targets)
        logits, deltas = self.boxes(maps, sample.boxes)
        return SecondStage(sample, logits, deltas)

    def look(self, maps: Sequence[Tensor], proposals: Proposals, limits: Tensor) -> Found:
        """The second stage on all proposals, and what is left of them. limits: valid sizes `(B, 2)`."""
        logits, deltas = self.boxes(maps, proposals.boxes)
        return self.boxes.find(logits, deltas, proposals, limits)

    def losses(self, out: Regions, targets: Target) -> dict[str, Tensor]:
        """Learn: `rpn_objectness`, `rpn_boxes`, `classes`, `boxes`."""
        if out.first is None or out.second is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        return {**self.rpn.losses(out.first), **self.boxes.losses(out.second)}

    def decode(self, out: Regions, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def faster_rcnn(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    hidden: int = 1024,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rounded: bool = False,
    aligned: bool = True,
    samples: int = 2,
    background: Background = "last",
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1000, 1000),
    rpn_count: int = 256,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> FasterRCNN:
    """Faster R-CNN with a pyramid on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels: of the pyramid; hidden: of the box head.
    anchors: sizes in pixels, one a level (strides 4, 8, 16, 32, 64); ratios: height / width; rounded: to whole pixels.
    aligned, samples: RoIAlign's half-pixel shift, and its samples a bin each way (0: as many as the bin has cells).
    background: where its column stands, `last` or `first`; labels are 0..K-1 either way (docs/conventions.md).
    before, after: proposals a level before suppression and a picture after it, in training and otherwise.
    rpn_count, count: anchors and proposals of a picture that a step learns from. score, overlap, most: the least
    probability of an answer, the IoU at which answers of a class suppress each other, answers a picture.
    """
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 4]
    strides = [stage.stride for stage in stages]
    fpn = FPN([stage.channels for stage in stages], channels, strides=strides, extra="pool")
    rpn = RPN(
        channels,
        sizes=[[size] for size in anchors],
        ratios=ratios,
        strides=fpn.strides,
        rounded=rounded,
        limits=_limits(before, after),
        count=rpn_count,
    )
    pooler = Pooler(7, [1 / stride for stride in strides], ratio=samples, aligned=aligned)
    head = TwoLayers(channels, 7, hidden)
    boxes = BoxBranch(
        pooler,
        head,
        num_classes,
        channels=hidden,
        background=background,
        count=count,
        score=score,
        overlap=overlap,
        most=most,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return FasterRCNN(Trunk(net, [stage.name for stage in stages], fpn, normalize=normalize), rpn, boxes)


def _limits(before: Sequence[int], after: Sequence[int]) -> Limits:
    (before_train, before_test), (after_train, after_test) = before, after
    return Limits(before_train, after_train, before_test, after_test)


def faster_rcnn_torchvision_r50_fpn(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    groups: int = 1,
    width_per_group: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    norm: NormName = "frozen",
    norm_eps: float = 0.0,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_score: float = 0.0,
    rpn_count: int = 256,
    rpn_fraction: float = 0.5,
    count: int = 512,
    fraction: float = 0.25,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> FasterRCNN:
    """torchvision's `fasterrcnn_resnet50_fpn`: 41,755,286 parameters for 90 classes and the background.

    depths, width: units of the four stages, channels of the first (before expansion). groups, width_per_group: of a
    ResNeXt. norm: of the backbone, `frozen`
    with eps 0 as published, or `batch` (with norm_eps 1e-5) to train from scratch. The other values are as in
    `faster_rcnn`; rpn_*: of the first stage.
    """
    body = ResNet(
        Bottleneck,
        depths,
        in_channels=in_channels,
        width=width,
        groups=groups,
        width_per_group=width_per_group,
        norm=norm_named(norm, eps=norm_eps),
    )
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    rpn = RPN(
        channels,
        sizes=[[size] for size in anchors],
        ratios=ratios,
        strides=None,
        rounded=True,
        limits=_limits(before, after),
        overlap=rpn_overlap,
        score=rpn_score,
        count=rpn_count,
        fraction=rpn_fraction,
    )
    boxes = BoxBranch(
        Pooler(7, [1 / s.stride for s in stages], aligned=False),
        TwoLayers(channels, 7, hidden),
        num_classes,
        channels=hidden,
        background="first",
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return FasterRCNN(Trunk(body, [s.name for s in stages], fpn, normalize=normalize), rpn, boxes)


def faster_rcnn_torchvision_r50_fpn_v2(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_score: float = 0.0,
    rpn_count: int = 256,
    rpn_fraction: float = 0.5,
    count: int = 512,
    fraction: float = 0.25,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> FasterRCNN:
    """torchvision's `fasterrcnn_resnet50_fpn_v2`: 43,712,278 parameters for 90 classes and the background."""
    batch = norm_named("batch")
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width)
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool", norm=batch)
    rpn = RPN(
        channels,
        sizes=[[size] for size in anchors],
        ratios=ratios,
        strides=None,
        rounded=True,
        depth=2,
        limits=_limits(before, after),
        overlap=rpn_overlap,
        score=rpn_score,
        count=rpn_count,
        fraction=rpn_fraction,
    )
    boxes = BoxBranch(
        Pooler(7, [1 / s.stride for s in stages], aligned=False),
        ConvLayers(channels, 7, hidden, norm=batch),
        num_classes,
        channels=hidden,
        background="first",
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return FasterRCNN(Trunk(body, [s.name for s in stages], fpn, normalize=normalize), rpn, boxes)


def faster_rcnn_torchvision_mobilenet_v3_large_fpn(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    width: float = 1.0,
    channels: int = 256,
    hidden: int = 1024,
    norm: NormName = "frozen",
    norm_eps: float = 1e-5,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_score: float = 0.05,
    rpn_count: int = 256,
    rpn_fraction: float = 0.5,
    count: int = 512,
    fraction: float = 0.25,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> FasterRCNN:
    """torchvision's `fasterrcnn_mobilenet_v3_large_fpn`: 19,386,354 parameters for 90 classes and the background.

    Its two maps have the same stride, 32 pixels, and every level has anchors of all sizes. width: factor on the
    backbone's channels.
    """
    body = MobileNetV3(LARGE, in_channels=in_channels, width=width, norm=norm_named(norm, eps=norm_eps))
    stages = body.stages[-2:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    rpn = RPN(
        channels,
        sizes=[anchors] * 3,
        ratios=ratios,
        strides=None,
        rounded=True,
        limits=_limits(before, after),
        overlap=rpn_overlap,
        score=rpn_score,
        count=rpn_count,
        fraction=rpn_fraction,
    )
    boxes = BoxBranch(
        Pooler(7, [1 / s.stride for s in stages], aligned=False),
        TwoLayers(channels, 7, hidden),
        num_classes,
        channels=hidden,
        background="first",
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return FasterRCNN(Trunk(body, [s.name for s in stages], fpn, normalize=normalize), rpn, boxes)


def faster_rcnn_detectron2_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1000, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    rpn_fraction: float = 0.5,
    count: int = 512,
    fraction: float = 0.25,
    beta: float = 0.0,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> FasterRCNN:
    """detectron2's `faster_rcnn_R_50_FPN`: 41,699,936 parameters for 80 classes.

    mean, std: for red, green, blue in [0, 1]; bgr: the network itself reads blue, green, red. stride_in: `3x3` for
    backbones that were not converted from Caffe. beta: where the second stage's loss of boxes turns from squares to
    lines. The other values are as in `faster_rcnn`; rpn_*: of the first stage.
    """
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in)
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    rpn = RPN(
        channels,
        sizes=[[size] for size in anchors],
        ratios=ratios,
        strides=fpn.strides,
        order="size_first",
        limits=_limits(before, after),
        overlap=rpn_overlap,
        smallest=TINY,
        count=rpn_count,
        fraction=rpn_fraction,
        beta=0.0,
        normalise="asked",
    )
    boxes = BoxBranch(
        Pooler(7, [1 / s.stride for s in stages], ratio=0, inside=1e-8, outside=0.0),
        TwoLayers(channels, 7, hidden),
        num_classes,
        channels=hidden,
        count=count,
        fraction=fraction,
        beta=beta,
        score=score,
        overlap=overlap,
        most=most,
        smallest=TINY,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    return FasterRCNN(Trunk(body, [s.name for s in stages], fpn, normalize=normalize), rpn, boxes)


def faster_rcnn_detectron2_r50_c4(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (12000, 6000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    rpn_fraction: float = 0.5,
    count: int = 512,
    fraction: float = 0.25,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> FasterRCNN:
    """detectron2's `faster_rcnn_R_50_C4`: 33,791,644 parameters for 80 classes; values as in the form with a pyramid.

    anchors: all sizes stand at every place of the one map, at 16 pixels a step.
    """
    body = ResNet(
        Bottleneck, depths[:3], in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in
    )
    last = body.stages[-1]
    rpn = RPN(
        last.channels,
        sizes=[anchors],
        ratios=ratios,
        strides=[last.stride],
        order="size_first",
        limits=_limits(before, after),
        overlap=rpn_overlap,
        smallest=TINY,
        count=rpn_count,
        fraction=rpn_fraction,
        beta=0.0,
        normalise="asked",
    )
    head = LastStage(last.channels, width * 8, depths[3], stride_in=stride_in, norm=norm_named(norm))
    boxes = BoxBranch(
        Pooler(14, [1 / last.stride], ratio=0),
        head,
        num_classes,
        channels=head.channels,
        count=count,
        fraction=fraction,
        beta=0.0,
        score=score,
        overlap=overlap,
        most=most,
        smallest=TINY,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    return FasterRCNN(Trunk(body, [last.name], None, normalize=normalize, multiple=1), rpn, boxes)


# Public names ----------------------------------------------------------------------------------------------------

TORCHVISION = (
    ("backbone.body.{i}.{rest}", "trunk.backbone.features.{i}.{rest}"),  # MobileNetV3
    ("backbone.body.{rest}", "trunk.backbone.{rest}"),
    ("backbone.fpn.inner_blocks.{i}.{j}.{leaf}", "trunk.fpn.lateral.{i}.{j}.{leaf}"),
    ("backbone.fpn.layer_blocks.{i}.{j}.{leaf}", "trunk.fpn.output.{i}.{j}.{leaf}"),
    ("backbone.fpn.inner_blocks.{i}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),  # as files were written until 2022
    ("backbone.fpn.layer_blocks.{i}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
    ("rpn.head.conv.{i}.0.{leaf}", "rpn.convs.{i}.0.{leaf}"),
    ("rpn.head.conv.{leaf}", "rpn.convs.0.0.{leaf}"),
    ("rpn.head.cls_logits.{leaf}", "rpn.objectness.{leaf}"),
    ("rpn.head.bbox_pred.{leaf}", "rpn.deltas.{leaf}"),
    ("roi_heads.box_head.fc6.{leaf}", "boxes.head.fc1.{leaf}"),
    ("roi_heads.box_head.fc7.{leaf}", "boxes.head.fc2.{leaf}"),
    ("roi_heads.box_head.5.{leaf}", "boxes.head.fc.{leaf}"),
    ("roi_heads.box_head.{i}.{j}.{leaf}", "boxes.head.convs.{i}.{j}.{leaf}"),
    ("roi_heads.box_predictor.cls_score.{leaf}", "boxes.label.{leaf}"),
    ("roi_heads.box_predictor.bbox_pred.{leaf}", "boxes.deltas.{leaf}"),
)

DETECTRON2 = (
    ("proposal_generator.rpn_head.conv.{leaf}", "rpn.convs.0.0.{leaf}"),
    ("proposal_generator.rpn_head.objectness_logits.{leaf}", "rpn.objectness.{leaf}"),
    ("proposal_generator.rpn_head.anchor_deltas.{leaf}", "rpn.deltas.{leaf}"),
    ("roi_heads.box_head.fc{i}.{leaf}", "boxes.head.fc{i}.{leaf}"),
    ("roi_heads.box_predictor.cls_score.{leaf}", "boxes.label.{leaf}"),
    ("roi_heads.box_predictor.bbox_pred.{leaf}", "boxes.deltas.{leaf}"),
)
DETECTRON2_CONSTANTS = ("proposal_generator.anchor_generator.*", "pixel_mean", "pixel_std")

MMDET = (
    ("rpn_head.rpn_conv.{leaf}", "rpn.convs.0.0.{leaf}"),
    ("rpn_head.rpn_cls.{leaf}", "rpn.objectness.{leaf}"),
    ("rpn_head.rpn_reg.{leaf}", "rpn.deltas.{leaf}"),
    ("roi_head.bbox_head.shared_fcs.{i}.{leaf}", "boxes.head.fc{i+1}.{leaf}"),
    ("roi_head.bbox_head.fc_cls.{leaf}", "boxes.label.{leaf}"),
    ("roi_head.bbox_head.fc_reg.{leaf}", "boxes.deltas.{leaf}"),
)

KEY_MAPS = (
    KeyMap("torchvision", TORCHVISION, words="torchvision.models.detection: Faster R-CNN with a pyramid"),
    KeyMap(
        "detectron2",
        (
            *detectron2_backbone("backbone.bottom_up."),
            ("backbone.fpn_lateral{i+2}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("backbone.fpn_output{i+2}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            *DETECTRON2,
        ),
        ignore=DETECTRON2_CONSTANTS,
        container="model",
        words="facebookresearch/detectron2: Faster R-CNN with a pyramid",
    ),
    KeyMap(
        "detectron2-c4",
        (
            *detectron2_backbone("backbone."),
            *detectron2_units("roi_heads.res5.{j}.", "boxes.head.layer4.{j}."),
            *DETECTRON2,
        ),
        ignore=DETECTRON2_CONSTANTS,
        container="model",
        words="facebookresearch/detectron2: Faster R-CNN without a pyramid (C4)",
    ),
    KeyMap(
        "mmdet",
        (
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("neck.fpn_convs.{i}.conv.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            *MMDET,
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: Faster R-CNN with a pyramid",
        verified=False,
    ),
)
