"""The designs that Feature Pyramid Networks are compared with.

Paper: Feature Pyramid Networks for Object Detection (Lin et al. 2016, arXiv:1612.03144), section 5.1, tables 1 and 2.

The idea: to know what a pyramid's parts are worth, leave one out at a time. `bottom_up` has lateral connections but no
way from coarse to fine; `top_down` has the way but nothing of the fine maps; `finest` builds the whole pyramid and
looks at its finest level alone, with anchors of all sizes there. `pyramid` is the paper's own, as in `faster_rcnn`.

Departures: as in `faster_rcnn`. Loads: nothing published.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.detection.models.faster_rcnn import FasterRCNN
from sightline.detection.regions import RPN, BoxBranch, Limits, Pooler, TwoLayers
from sightline.detection.trunk import Trunk
from sightline.errors import UsageError
from sightline.nn.conv import NormName
from sightline.nn.fpn import FPN, Design
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels

DESIGNS = ("pyramid", "bottom_up", "top_down", "finest")


def faster_rcnn_fpn_designs(
    num_classes: int = 1,
    *,
    design: Design = "bottom_up",
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    hidden: int = 1024,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
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
    """Faster R-CNN with a pyramid of another `design` (see the preface); the other values are as in `faster_rcnn`."""
    if design not in DESIGNS:
        raise UsageError(f"design '{design}' is unknown; choose from {', '.join(DESIGNS)}")
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 4]
    alone = design == "finest"
    fpn = FPN(
        [stage.channels for stage in stages],
        channels,
        strides=[stage.stride for stage in stages],
        extra="none" if alone else "pool",
        design=design,
    )
    rpn = RPN(
        channels,
        sizes=[anchors] if alone else [[size] for size in anchors],
        ratios=ratios,
        strides=fpn.strides,
        limits=Limits(before[0], after[0], before[1], after[1]),
        count=rpn_count,
    )
    pooler = Pooler(7, [1 / stride for stride in fpn.strides[: 1 if alone else len(stages)]])
    head = TwoLayers(channels, 7, hidden)
    boxes = BoxBranch(pooler, head, num_classes, channels=hidden, count=count, score=score, overlap=overlap, most=most)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return FasterRCNN(Trunk(net, [stage.name for stage in stages], fpn, normalize=normalize), rpn, boxes)
