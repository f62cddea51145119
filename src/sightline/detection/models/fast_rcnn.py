"""Fast R-CNN.

Paper: Fast R-CNN (Girshick 2015, arXiv:1504.08083).

The idea: run the convolutions once a picture, not once a proposal. Every proposal is pooled from the last map to a grid
of 7 x 7 (RoIPool), two fully connected layers say what it is and where its border should be, and both are learned in
one go: cross-entropy plus smooth L1 (section 2.3), in place of R-CNN's network, machines and regressions.

Proposals come from elsewhere: `forward(images, proposals=boxes)`, or, when none are given, from the builder's
`propose`: Selective Search, or a dense grid of windows (section 5.4) for programs that are compiled or exported.
`detection/proposals.py` reads and writes files of them.

- `fast_rcnn`, the one to start with: any backbone with a pyramid, aligned RoIAlign.
- `fast_rcnn_vgg16`: the paper's. Background among the proposals with an IoU of 0.1 to 0.5 (section 2.3); pixels as
  blue, green, red from 0 to 255 minus a mean; pools that round up. 134,690,729 parameters for VOC.
- `fast_rcnn_detectron2_r50_fpn`: detectron2's baseline with a pyramid.

Departures: differences of boxes are divided by fixed spreads (0.1, 0.1, 0.2, 0.2; py-faster-rcnn's) instead of those
measured a class on the data; sides are counted without the extra pixel; all layers learn (the paper keeps the first two
groups of VGG16 as ImageNet left them). In a picture without objects everything is background.

Loads: detectron2 (`detectron2`, unverified), py-faster-rcnn's names of VGG16 as `.npz` (`caffe`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.resnet import Bottleneck, ResNet, StrideIn
from sightline.backbones.vgg import VGG
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, real, whole
from sightline.detection.models.faster_rcnn import DETECTRON2, DETECTRON2_CONSTANTS
from sightline.detection.proposals import Propose, as_proposals, proposer
from sightline.detection.regions import BoxBranch, Pooler, Proposals, Sample, SecondStage, TwoLayers, rows
from sightline.detection.trunk import CAFFE_MEAN, CAFFE_STD, TINY, Trunk, detectron2_backbone
from sightline.nn.conv import NormName, norm_named
from sightline.nn.fpn import FPN
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.matching import BACKGROUND, balanced_sample, fixed_keys, match
from sightline.ops.nms import first_true
from sightline.ops.roi import roi_pool
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

VGG_MEAN = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255)
"""Of red, green, blue in [0, 1], as py-faster-rcnn subtracts them."""

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Branched:
    """What Fast R-CNN sees. found: the objects; second: what it learns from, with targets."""

    found: Found | None = None
    second: SecondStage | None = None


class PooledCells(nn.Module):
    """RoIPool (section 2.1): the maximum of whole cells in each of `size` x `size` bins of every box."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """One map `(B, C, H, W)` in a list, and boxes `(B, P, 4)`: `(B * P, C, size, size)`."""
        batch, count = boxes.shape[:2]
        pictures = torch.arange(batch, device=boxes.device)[:, None].expand(batch, count).reshape(-1)
        return roi_pool(maps[0], boxes.reshape(-1, 4), pictures, self.size, scale=self.scale)


class DroppedLayers(nn.Module):
    """VGG16's two fully connected layers, half of their outputs dropped while they learn."""

    def __init__(self, in_channels: int, size: int, hidden: int = 4096, dropout: float = 0.5) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(in_channels * size * size, hidden), nn.Linear(hidden, hidden)
        self.dropout = dropout
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(R, C, size, size)` to `(R, hidden)`."""
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x.flatten(1))), self.dropout, self.training)
        return x


class NearMisses(BoxBranch):
    """A box branch whose background comes close: an IoU of `floor` at least, where a picture has objects."""

    floor = 0.1

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Target) -> Sample:
        """Proposals and the true boxes themselves, matched, and at most `count` of them drawn."""
        objects = real(targets)
        boxes = torch.cat([proposals.boxes, targets.boxes.to(proposals.boxes.dtype)], dim=1)
        valid = torch.cat([proposals.valid, objects], dim=1)
        found, _ = match(targets.boxes, boxes, valid=objects, high=self.high, low=self.low)
        far, _ = match(targets.boxes, boxes, valid=objects, high=self.floor, low=self.floor)
        near = (far != BACKGROUND) | ~objects.any(1, keepdim=True)
        keys = torch.rand(found.shape, device=found.device) if self.training else fixed_keys(found)
        positive, negative = balanced_sample(
            valid & (found >= 0), valid & near & (found == BACKGROUND), self.count, self.fraction, keys
        )
        some = first_true(positive | negative, self.count)
        index, chosen = found.gather(1, some), rows(boxes, some)
        kept = (positive | negative).gather(1, some)
        if targets.boxes.shape[1] == 0:
            return Sample(chosen, kept, torch.full_like(index, self.num_classes), chosen, index)
        labels = targets.labels.gather(1, index.clamp(min=0)).masked_fill(index < 0, self.num_classes)
        return Sample(chosen, kept, labels, rows(targets.boxes, index.clamp(min=0)), index)


# Network ---------------------------------------------------------------------------------------------------------


class FastRCNN(nn.Module):
    """A trunk, proposals from elsewhere, a box branch."""

    HEAD = ("boxes.label.", "boxes.deltas.")
    OPTIONAL = ()

    def __init__(self, trunk: Trunk, propose: nn.Module, boxes: BoxBranch) -> None:
        super().__init__()
        self.trunk, self.propose, self.boxes = trunk, propose, boxes

    def forward(
        self,
        images: Tensor,
        *,
        sizes: Tensor | None = None,
        targets: Target | None = None,
        proposals: Tensor | None = None,
    ) -> Branched:
        """See: `(B, C, H, W)` pictures in [0, 1]; `proposals` `(B, P, 4)`, without area where there is none."""
        limits = whole(images, sizes)
        given = self.propose(images, limits) if proposals is None else as_proposals(proposals, limits)
        maps, _ = self.trunk(images, sizes)
        second = None
        if targets is not None:
            sample = self.boxes.sample(given, targets)
            second = SecondStage(sample, *self.boxes(maps, sample.boxes))
        found = None
        if targets is None or not self.training:
            logits, deltas = self.boxes(maps, given.boxes)
            found = self.boxes.find(logits, deltas, given, limits)
        return Branched(found, second)

    def losses(self, out: Branched, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes`, `boxes`."""
        if out.second is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        return self.boxes.losses(out.second)

    def decode(self, out: Branched, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def fast_rcnn(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    hidden: int = 1024,
    propose: Propose = "selective_search",
    mode: Literal["fast", "quality"] = "fast",
    proposals: int = 2000,
    windows: Sequence[float] = (32, 64, 128, 256),
    canonical: float = 224.0,
    count: int = 128,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> FastRCNN:
    """Fast R-CNN with a pyramid on any backbone; pictures of any size.

    backbone, backbone_weights, norm, channels, hidden: as in `faster_rcnn`. propose: `selective_search` (in `mode`
    fast or quality, at most `proposals` a picture; slow on large pictures, see the preface) or `dense` windows whose
    areas are squares of `windows` pixels. canonical: side of a box that is pooled at stride 16, in pixels. count:
    proposals of a picture that a step learns from. score, overlap, most: the least probability of an answer, the IoU at
    which answers of a class suppress each other, answers a picture.
    """
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 4]
    fpn = FPN([stage.channels for stage in stages], channels, strides=[stage.stride for stage in stages])
    pooler = Pooler(7, [1 / stage.stride for stage in stages], side=canonical)
    head = TwoLayers(channels, 7, hidden)
    boxes = BoxBranch(pooler, head, num_classes, channels=hidden, count=count, score=score, overlap=overlap, most=most)
    trunk = Trunk(
        net, [stage.name for stage in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels))
    )
    return FastRCNN(trunk, proposer(propose, mode=mode, most=proposals, windows=windows), boxes)


def fast_rcnn_vgg16(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    propose: Propose = "selective_search",
    mode: Literal["fast", "quality"] = "fast",
    proposals: int = 2000,
    windows: Sequence[float] = (64, 128, 256, 512),
    count: int = 64,
    score: float = 0.05,
    overlap: float = 0.3,
    most: int = 100,
    mean: Sequence[float] | None = VGG_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> FastRCNN:
    """The paper's network L on VGG16: 134,690,729 parameters for 20 classes and the background.

    depths, width: convolutions of each group, channels of the first. hidden, dropout: of fc6 and fc7. The other values
    are as in `fast_rcnn`.
    """
    body = VGG(depths, in_channels=in_channels, widths=[width * n for n in (1, 2, 4, 8, 8)], ceil=True)
    last = body.stages[-2]  # before the fifth pool
    boxes = NearMisses(
        PooledCells(7, 1 / last.stride),  # pyright: ignore[reportArgumentType]
        DroppedLayers(last.channels, 7, hidden, dropout),
        num_classes,
        channels=hidden,
        background="first",
        count=count,
        beta=1.0,
        score=score,
        overlap=overlap,
        most=most,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    trunk = Trunk(body, [last.name], None, normalize=normalize, multiple=1)
    return FastRCNN(trunk, proposer(propose, mode=mode, most=proposals, windows=windows), boxes)


def fast_rcnn_detectron2_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    propose: Propose = "selective_search",
    mode: Literal["fast", "quality"] = "fast",
    proposals: int = 1000,
    windows: Sequence[float] = (32, 64, 128, 256, 512),
    canonical: float = 224.0,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> FastRCNN:
    """detectron2's `fast_rcnn_R_50_FPN`: 41,106,001 parameters for 80 classes; values as in `fast_rcnn`."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in)
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages])
    boxes = BoxBranch(
        Pooler(7, [1 / s.stride for s in stages], ratio=0, inside=1e-8, outside=0.0, side=canonical),
        TwoLayers(channels, 7, hidden),
        num_classes,
        channels=hidden,
        count=count,
        beta=0.0,
        score=score,
        overlap=overlap,
        most=most,
        smallest=TINY,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    trunk = Trunk(body, [s.name for s in stages], fpn, normalize=normalize)
    return FastRCNN(trunk, proposer(propose, mode=mode, most=proposals, windows=windows), boxes)


# Public names ----------------------------------------------------------------------------------------------------

_CAFFE = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3")
_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)

KEY_MAPS = (
    KeyMap(
        "detectron2",
        (
            *detectron2_backbone("backbone.bottom_up."),
            ("backbone.fpn_lateral{i+2}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("backbone.fpn_output{i+2}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            *(row for row in DETECTRON2 if row[0].startswith("roi_heads.")),
        ),
        ignore=DETECTRON2_CONSTANTS,
        container="model",
        words="facebookresearch/detectron2: Fast R-CNN with a pyramid",
        verified=False,
    ),
    KeyMap(
        "caffe",
        (
            *((f"conv{name}.{{leaf}}", f"trunk.backbone.features.{at}.{{leaf}}") for name, at in zip(_CAFFE, _PLACES)),
            ("fc6.{leaf}", "boxes.head.fc6.{leaf}"),
            ("fc7.{leaf}", "boxes.head.fc7.{leaf}"),
            ("cls_score.{leaf}", "boxes.label.{leaf}"),
            ("bbox_pred.{leaf}", "boxes.deltas.{leaf}"),
        ),
        words="rbgirshick/fast-rcnn: VGG16, as .npz of its blobs' names",
        verified=False,
    ),
)
