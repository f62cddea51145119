"""Mask R-CNN, and the same for skeletons.

Paper: Mask R-CNN (He, Gkioxari, Dollar & Girshick 2017, arXiv:1703.06870).

The idea: Faster R-CNN says where things are; a third branch looks at each box once more and says, cell by cell of a
small grid, what of it belongs to the thing. Nothing may be rounded on the way (RoIAlign), and each class has a mask of
its own, so that classes need not compete for cells. A skeleton is the same with one map a joint, of which exactly one
cell is right (section 5).

- `mask_rcnn`, `keypoint_rcnn`, the ones to start with: any backbone with a pyramid; conventions as `faster_rcnn`.
  `channels`, `hidden` and `mask_channels` make them as small as a laptop wants them.
- `mask_rcnn_torchvision_r50_fpn`, `..._v2`, `..._x101_32x8d_fpn`, `keypoint_rcnn_torchvision_r50_fpn`: torchvision's
  (the ResNeXt is torchvision's parts as in the paper's table; no file of it is published). Background first, RoIAlign
  without the half-pixel shift, soft mask targets, masks pasted over whole pixels; a joint's score is its logit.
- `mask_rcnn_detectron2_r50_fpn`, `mask_rcnn_detectron2_r50_c4`, `keypoint_rcnn_detectron2_r50_fpn`: detectron2's.
  Masks pasted at pixel centres; a joint's score is its share of the box. C4: all heads share the backbone's last stage.
- `mask_rcnn_mmdet_r50_fpn`: mmdet's. Strides in the 3x3, batch norm, another rescue of anchors.

Classes: as in Faster R-CNN (`detection/models/faster_rcnn.py`).

Departures: as in Faster R-CNN. The logits of the said class alone are computed, not of all. detectron2 cuts its mask
targets from polygons; here they are cut from the mask's pixels (`instance.masks.filled_in_box` is the other rule).

Traits: `adaptive`: as in Faster R-CNN.

Loads: torchvision (`torchvision`), detectron2 (`detectron2`, `detectron2-c4`), mmdet (`mmdet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.resnet import Bottleneck, ResNet, StrideIn
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, whole
from sightline.detection.models import faster_rcnn as boxes_of
from sightline.detection.models.faster_rcnn import FasterRCNN, LastStage
from sightline.detection.regions import (
    RPN,
    Background,
    BoxBranch,
    FirstStage,
    Limits,
    Pooler,
    Proposals,
    SecondStage,
    TwoLayers,
)
from sightline.detection.trunk import CAFFE_MEAN, CAFFE_STD, TINY, Trunk, detectron2_backbone, detectron2_units
from sightline.errors import UsageError
from sightline.instance.contract import decode
from sightline.instance.masks import BoxMasks, PasteRule
from sightline.nn.conv import Norm, NormName, he_init, norm_named
from sightline.nn.fpn import FPN
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.nms import first_true
from sightline.ops.roi import roi_align
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class ThirdStage:
    """What a branch said of the sample's objects, and what it should have said.

    valid: `(B, P)` bool, which are real. Masks: logits `(B, P, m, m)` of the true class, wanted in [0, 1] of that
    shape. Joints: logits `(B, P, J, m, m)`, wanted `(B, P, J)`, the right cell, or -1 where there is none.
    boxes: `(B, P, 4)`. index: `(B, P)`, which true object each stands for.
    """

    logits: Tensor
    wanted: Tensor
    valid: Tensor
    boxes: Tensor
    index: Tensor


@register_dataclass
@dataclass(frozen=True)
class Parts:
    """What Mask R-CNN sees.

    found: the objects, with `(B, D, m, m)` probabilities in the boxes. sizes: `(B, 2)`. heat: `(B, D, J, m, m)`, the
    joints' logits in the boxes. first, second, masks, joints: what the stages learn from, with targets.
    """

    found: Found | None
    sizes: Tensor
    heat: Tensor | None = None
    first: FirstStage | None = None
    second: SecondStage | None = None
    masks: ThirdStage | None = None
    joints: ThirdStage | None = None


class MaskBranch(nn.Module):
    """Convolutions, a doubling, and a map a class (figure 4).

    pooler: cuts the maps; None: reads what the box head's shared last stage gives (C4). width: of the convolutions.
    background: `first` where the source keeps a map for it. cut: how targets are cut from masks, `soft` (shares of
    cells) or `hard` (at least half); aligned: of RoIAlign there. paste: the rule of `instance.masks`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        pooler: Pooler | None,
        width: int = 256,
        depth: int = 4,
        norm: Norm | None = None,
        background: Literal["first", "last"] = "last",
        cut: Literal["soft", "hard"] = "hard",
        aligned: bool = True,
        paste: PasteRule = "centres",
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.convs = nn.ModuleList()
        for i in range(depth):
            parts: list[nn.Module] = [nn.Conv2d(width if i else in_channels, width, 3, 1, 1, bias=norm is None)]
            parts += [] if norm is None else [norm(width)]
            self.convs.append(nn.Sequential(*parts, nn.ReLU(inplace=True)))
        self.up = nn.ConvTranspose2d(width if depth else in_channels, width, 2, 2)
        self.first = int(background == "first")
        self.last = nn.Conv2d(width, num_classes + self.first, 1)
        he_init(self, mode="fan_out")
        self.cut, self.aligned, self.paste = cut, aligned, paste

    def features(self, x: Tensor) -> Tensor:
        """`(R, C, n, n)` to `(R, width, 2 n, 2 n)`."""
        for conv in self.convs:
            x = conv(x)
        return F.relu(self.up(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of all classes, `(R, K, m, m)`, and of the background where the source has it."""
        return self.last(self.features(x))

    def of_class(self, x: Tensor, labels: Tensor) -> Tensor:
        """`(R, C, n, n)` and labels `(R,)` to the logits of each box's own class, `(R, m, m)`."""
        x = self.features(x)
        column = labels + self.first
        bias = self.last.bias
        assert bias is not None
        return torch.einsum("rchw,rc->rhw", x, self.last.weight[:, :, 0, 0][column]) + bias[column][:, None, None]

    @torch.no_grad()
    def wanted(self, boxes: Tensor, index: Tensor, masks: Tensor, side: int) -> Tensor:
        """What of true masks `(B, G, H, W)` lies in boxes `(B, P, 4)` that stand for `index`: `(B, P, m, m)`."""
        batch, objects = masks.shape[:2]
        count = index.shape[1]
        if objects == 0:
            return boxes.new_zeros(batch, count, side, side)
        own = index.clamp(min=0) + torch.arange(batch, device=index.device)[:, None] * objects
        table = masks.flatten(0, 1)[:, None].float()
        cut = roi_align([table], boxes.reshape(-1, 4), own.flatten(), side, scales=[1.0], ratio=0, aligned=self.aligned)
        cut = cut.reshape(batch, count, side, side)
        return cut if self.cut == "soft" else (cut >= 0.5).float()

    def losses(self, stage: ThirdStage) -> dict[str, Tensor]:
        """`masks`: binary cross-entropy on the true class's map, the mean over all cells of all objects."""
        each = F.binary_cross_entropy_with_logits(stage.logits.float(), stage.wanted, reduction="none").mean((-2, -1))
        return {"masks": (each * stage.valid).sum() / stage.valid.sum().clamp(min=1)}


class JointBranch(nn.Module):
    """Eight convolutions and two doublings: a map a joint (section 5).

    score: of a joint, `logit` at its peak (torchvision) or `share`: the softmax over the box (detectron2).
    """

    def __init__(
        self,
        in_channels: int,
        joints: int,
        *,
        pooler: Pooler,
        width: int = 512,
        depth: int = 8,
        score: Literal["logit", "share"] = "share",
    ) -> None:
        super().__init__()
        if score not in ("logit", "share"):
            raise UsageError(f"a joint's score is '{score}', expected 'logit' (torchvision) or 'share' (detectron2)")
        self.pooler = pooler
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width if i else in_channels, width, 3, 1, 1), nn.ReLU(inplace=True))
            for i in range(depth)
        )
        self.last = nn.ConvTranspose2d(width, joints, 4, 2, 1)
        he_init(self, mode="fan_out")
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        """`(R, C, n, n)` to logits `(R, J, 4 n, 4 n)`."""
        for conv in self.convs:
            x = conv(x)
        return F.interpolate(self.last(x), scale_factor=2.0, mode="bilinear", align_corners=False)

    def losses(self, stage: ThirdStage) -> dict[str, Tensor]:
        """`joints`: cross-entropy over the cells of each labelled joint that lies in its box, the mean over those."""
        wanted = stage.wanted.masked_fill(~stage.valid[..., None], -1)
        each = F.cross_entropy(
            stage.logits.float().flatten(3).flatten(0, 2), wanted.clamp(min=0).flatten(), reduction="none"
        )
        labelled = (wanted >= 0).flatten()
        return {"joints": (each * labelled).sum() / labelled.sum().clamp(min=1)}

    def points(self, heat: Tensor, boxes: Tensor) -> Tensor:
        """Logits `(N, J, m, m)` in boxes `(N, 4)` to x, y, score: `(N, J, 3)`.

        The maps are enlarged (bicubic) to the box's size in whole pixels; the joint is the centre of the best of them.
        """
        found = heat.new_zeros(*heat.shape[:2], 3, dtype=torch.float32)
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
        whole_sides = sides.ceil()
        for i, (width, height) in enumerate(whole_sides.long().tolist()):
            x = F.interpolate(heat[i][None].float(), size=(height, width), mode="bicubic", align_corners=False)[0]
            best, place = x.flatten(1).max(1)
            unit = sides[i] / whole_sides[i]
            found[i, :, 0] = (place % width + 0.5) * unit[0] + boxes[i, 0]
            found[i, :, 1] = (place // width + 0.5) * unit[1] + boxes[i, 1]
            found[i, :, 2] = best
            if self.score == "share":  # of the small map, so that scores of large and small boxes compare
                found[i, :, 2] = 1 / (heat[i].float() - best[:, None, None]).exp().sum((1, 2))
        return found


@torch.no_grad()
def cells_of(keypoints: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The cell of each joint `(..., J, 3)` on a grid of `side` in its box `(..., 4)`, row by row; -1: none, outside."""
    corner, size = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    place = torch.floor((keypoints[..., :2] - corner) * (side / size.clamp(min=1e-6))).long()
    place = torch.where(keypoints[..., :2] == boxes[..., None, 2:], side - 1, place)  # on the far border: the last cell
    inside = ((place >= 0) & (place < side)).all(-1) & (keypoints[..., 2] > 0)
    return torch.where(inside, place[..., 1] * side + place[..., 0], -1)


# Network ---------------------------------------------------------------------------------------------------------


class MaskRCNN(nn.Module):
    """The parts of Faster R-CNN, and a branch for masks, for joints, or both."""

    HEAD = ("boxes.label.", "boxes.deltas.", "masks.last.", "joints.last.")
    OPTIONAL = ()

    def __init__(
        self, parts: FasterRCNN, *, masks: MaskBranch | None = None, joints: JointBranch | None = None
    ) -> None:
        super().__init__()
        self.trunk, self.rpn, self.boxes = parts.trunk, parts.rpn, parts.boxes
        self.masks, self.joints = masks, joints

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Parts:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        limits = whole(images, sizes)
        proposals, first = self.rpn(maps, x, limits, targets)
        out = Parts(None, limits, first=first)
        if targets is not None:
            second = self.study(maps, proposals, targets)
            masks, joints = self.study_parts(maps, second, targets)
            out = replace(out, second=second, masks=masks, joints=joints)
        if targets is not None and self.training:
            return out
        found, heat = self.look_at_parts(maps, self.look(maps, proposals, limits))
        return replace(out, found=found, heat=heat)

    def study(self, maps: Sequence[Tensor], proposals: Proposals, targets: Target) -> SecondStage:
        """The second stage on a sample of the proposals."""
        sample = self.boxes.sample(proposals, targets)
        logits, deltas = self.boxes(maps, sample.boxes)
        return SecondStage(sample, logits, deltas)

    def look(self, maps: Sequence[Tensor], proposals: Proposals, limits: Tensor) -> Found:
        """The second stage on all proposals, and what is left of them. limits: valid sizes `(B, 2)`."""
        logits, deltas = self.boxes(maps, proposals.boxes)
        return self.boxes.find(logits, deltas, proposals, limits)

    def crops(self, maps: Sequence[Tensor], boxes: Tensor, pooler: Pooler | None) -> Tensor:
        """What a third branch reads of boxes `(B, P, 4)`: `(B * P, C, n, n)`."""
        if pooler is not None:
            return pooler(maps, boxes)
        assert isinstance(self.boxes.head, LastStage)
        return self.boxes.head.layer4(self.boxes.pooler(maps, boxes))

    def look_at_parts(self, maps: Sequence[Tensor], found: Found) -> tuple[Found, Tensor | None]:
        """Masks and joints of what was found, zeros beyond the count."""
        few = found
        if not torch.compiler.is_compiling() and not found.boxes.is_cuda:  # asking a GPU would make the host wait
            few = _first(found, int(found.count.max()))
        masks = heat = None
        if self.masks is not None:
            x = self.crops(maps, few.boxes, self.masks.pooler)
            masks = _as_long(self.masks.of_class(x, few.labels.flatten()).sigmoid(), few, found)
        if self.joints is not None:
            heat = _as_long(self.joints(self.crops(maps, few.boxes, self.joints.pooler)), few, found)
        return replace(found, masks=masks), heat

    def study_parts(
        self, maps: Sequence[Tensor], second: SecondStage, targets: Target
    ) -> tuple[ThirdStage | None, ThirdStage | None]:
        """The third stage on the objects among the sample."""
        sample = second.sample
        most = min(max(1, int(self.boxes.count * self.boxes.fraction)), sample.boxes.shape[1])
        if not torch.compiler.is_compiling() and not sample.boxes.is_cuda:
            most = min(most, max(1, int(sample.positive.sum(1).max())))
        some = first_true(sample.positive, most)
        valid, index = sample.positive.gather(1, some), sample.index.gather(1, some)
        boxes = sample.boxes.gather(1, some[..., None].expand(*some.shape, 4))
        masks = joints = None
        if self.masks is not None:
            if targets.masks is None:
                raise UsageError("Mask R-CNN learns from masks, and the targets have none; take data with masks")
            labels = sample.labels.gather(1, some).masked_fill(~valid, 0)
            logits = self.masks.of_class(self.crops(maps, boxes, self.masks.pooler), labels.flatten())
            wanted = self.masks.wanted(boxes, index, targets.masks, logits.shape[-1])
            masks = ThirdStage(logits.unflatten(0, tuple(some.shape)), wanted, valid, boxes, index)
        if self.joints is not None:
            if targets.keypoints is None:
                raise UsageError("Keypoint R-CNN learns from joints, and the targets have none; take data with them")
            logits = self.joints(self.crops(maps, boxes, self.joints.pooler)).unflatten(0, tuple(some.shape))
            points = targets.keypoints
            if points.shape[1] == 0:
                points = points.new_zeros(points.shape[0], 1, *points.shape[2:])
            own = points.gather(1, index.clamp(min=0)[..., None, None].expand(*index.shape, *points.shape[2:]))
            joints = ThirdStage(logits, cells_of(own, boxes, logits.shape[-1]), valid, boxes, index)
        return masks, joints

    def losses(self, out: Parts, targets: Target) -> dict[str, Tensor]:
        """Learn: `rpn_objectness`, `rpn_boxes`, `classes`, `boxes`, and `masks` or `joints` or both."""
        if out.first is None or out.second is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        terms = {**self.rpn.losses(out.first), **self.boxes.losses(out.second)}
        if self.masks is not None and out.masks is not None:
            terms |= self.masks.losses(out.masks)
        if self.joints is not None and out.joints is not None:
            terms |= self.joints.losses(out.joints)
        return terms

    def decode(self, out: Parts, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks and joints."""
        rule: PasteRule = "centres" if self.masks is None else self.masks.paste  # pyright: ignore[reportAssignmentType]
        answers = decode(out, lambda said, boxes, size: BoxMasks(boxes, said, size, rule), classes=classes)
        if self.joints is not None and out.heat is not None:
            answers = [
                replace(answer, keypoints=self.joints.points(heat[: len(answer)], answer.boxes))
                for answer, heat in zip(answers, out.heat)
            ]
        return answers if score is None else [answer.above(score) for answer in answers]


def _first(found: Found, count: int) -> Found:
    return Found(found.boxes[:, :count], found.scores[:, :count], found.labels[:, :count], found.count)


def _as_long(said: Tensor, few: Found, found: Found) -> Tensor:
    """What was said of each box of `few`, `(B * P, ...)`, as `(B, D, ...)` for those of `found`."""
    said = said.unflatten(0, tuple(few.labels.shape))
    more = found.labels.shape[1] - few.labels.shape[1]
    said = F.pad(said, (0, 0) * (said.ndim - 2) + (0, more))
    real = torch.arange(said.shape[1], device=said.device) < found.count[:, None]
    return said * real.view(*real.shape, *[1] * (said.ndim - 2))


# Builders --------------------------------------------------------------------------------------------------------


def mask_rcnn(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
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
) -> MaskRCNN:
    """Mask R-CNN with a pyramid on any backbone; pictures of any size; values as in `faster_rcnn`.

    mask_channels: of the mask branch's convolutions.
    """
    parts = boxes_of.faster_rcnn(
        num_classes,
        in_channels=in_channels,
        backbone=backbone,
        backbone_weights=backbone_weights,
        norm=norm,
        channels=channels,
        hidden=hidden,
        anchors=anchors,
        ratios=ratios,
        rounded=rounded,
        aligned=aligned,
        samples=samples,
        background=background,
        before=before,
        after=after,
        rpn_count=rpn_count,
        count=count,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )
    pooler = Pooler(14, parts.boxes.pooler.scales, ratio=samples, aligned=aligned)
    masks = MaskBranch(
        channels, num_classes, pooler=pooler, width=mask_channels, background=background, aligned=aligned
    )
    return MaskRCNN(parts, masks=masks)


def keypoint_rcnn(
    num_classes: int = 1,
    *,
    joints: int = 17,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    hidden: int = 1024,
    joint_channels: int = 512,
    joint_depth: int = 8,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rounded: bool = False,
    aligned: bool = True,
    samples: int = 2,
    background: Background = "last",
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1500, 1000),
    rpn_count: int = 256,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> MaskRCNN:
    """Keypoint R-CNN with a pyramid on any backbone; pictures of any size; values as in `faster_rcnn`.

    joints: of a skeleton. joint_channels, joint_depth: of the joint branch's convolutions, and how many.
    """
    parts = boxes_of.faster_rcnn(
        num_classes,
        in_channels=in_channels,
        backbone=backbone,
        backbone_weights=backbone_weights,
        norm=norm,
        channels=channels,
        hidden=hidden,
        anchors=anchors,
        ratios=ratios,
        rounded=rounded,
        aligned=aligned,
        samples=samples,
        background=background,
        before=before,
        after=after,
        rpn_count=rpn_count,
        count=count,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )
    pooler = Pooler(14, parts.boxes.pooler.scales, ratio=samples, aligned=aligned)
    branch = JointBranch(channels, joints, pooler=pooler, width=joint_channels, depth=joint_depth)
    return MaskRCNN(parts, joints=branch)


def mask_rcnn_torchvision_r50_fpn(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    groups: int = 1,
    width_per_group: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
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
) -> MaskRCNN:
    """torchvision's `maskrcnn_resnet50_fpn`: 44,401,393 parameters for 90 classes and the background.

    Values as in `faster_rcnn_torchvision_r50_fpn`; groups, width_per_group: of a ResNeXt.
    """
    parts = boxes_of.faster_rcnn_torchvision_r50_fpn(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        groups=groups,
        width_per_group=width_per_group,
        channels=channels,
        hidden=hidden,
        norm=norm,
        norm_eps=norm_eps,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_score=rpn_score,
        rpn_count=rpn_count,
        rpn_fraction=rpn_fraction,
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )
    return MaskRCNN(parts, masks=_torchvision_masks(parts, num_classes, channels, mask_channels, None))


def _torchvision_masks(parts: FasterRCNN, num_classes: int, channels: int, width: int, norm: Norm | None) -> MaskBranch:
    return MaskBranch(
        channels,
        num_classes,
        pooler=Pooler(14, parts.boxes.pooler.scales, aligned=False),
        width=width,
        norm=norm,
        background="first",
        cut="soft",
        aligned=False,
        paste="whole",
    )


def mask_rcnn_torchvision_x101_32x8d_fpn(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    groups: int = 32,
    width_per_group: int = 8,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
    norm: NormName = "frozen",
    norm_eps: float = 1e-5,
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_score: float = 0.0,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> MaskRCNN:
    """The paper's largest (table 1), of torchvision's parts; values as in `mask_rcnn_torchvision_r50_fpn`."""
    return mask_rcnn_torchvision_r50_fpn(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        groups=groups,
        width_per_group=width_per_group,
        channels=channels,
        hidden=hidden,
        mask_channels=mask_channels,
        norm=norm,
        norm_eps=norm_eps,
        anchors=anchors,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_score=rpn_score,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )


def mask_rcnn_torchvision_r50_fpn_v2(
    num_classes: int = 90,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
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
) -> MaskRCNN:
    """torchvision's `maskrcnn_resnet50_fpn_v2`: 46,359,409 parameters for 90 classes and the background."""
    parts = boxes_of.faster_rcnn_torchvision_r50_fpn_v2(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        channels=channels,
        hidden=hidden,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_score=rpn_score,
        rpn_count=rpn_count,
        rpn_fraction=rpn_fraction,
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )
    batch = norm_named("batch")
    return MaskRCNN(parts, masks=_torchvision_masks(parts, num_classes, channels, mask_channels, batch))


def keypoint_rcnn_torchvision_r50_fpn(
    num_classes: int = 1,
    *,
    joints: int = 17,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    joint_channels: int = 512,
    joint_depth: int = 8,
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
) -> MaskRCNN:
    """torchvision's `keypointrcnn_resnet50_fpn`: 59,137,258 parameters for people of 17 joints."""
    parts = boxes_of.faster_rcnn_torchvision_r50_fpn(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        channels=channels,
        hidden=hidden,
        norm=norm,
        norm_eps=norm_eps,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_score=rpn_score,
        rpn_count=rpn_count,
        rpn_fraction=rpn_fraction,
        count=count,
        fraction=fraction,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
    )
    pooler = Pooler(14, parts.boxes.pooler.scales, aligned=False)
    branch = JointBranch(channels, joints, pooler=pooler, width=joint_channels, depth=joint_depth, score="logit")
    return MaskRCNN(parts, joints=branch)


def mask_rcnn_detectron2_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1000, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> MaskRCNN:
    """detectron2's `mask_rcnn_R_50_FPN`: 44,343,216 parameters; values as in `faster_rcnn_detectron2_r50_fpn`."""
    parts = boxes_of.faster_rcnn_detectron2_r50_fpn(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        channels=channels,
        hidden=hidden,
        norm=norm,
        stride_in=stride_in,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_count=rpn_count,
        count=count,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
        bgr=bgr,
    )
    pooler = Pooler(14, parts.boxes.pooler.scales, ratio=0, inside=1e-8, outside=0.0)
    return MaskRCNN(parts, masks=MaskBranch(channels, num_classes, pooler=pooler, width=mask_channels))


def mask_rcnn_detectron2_r50_c4(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    mask_channels: int = 256,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (12000, 6000),
    after: Sequence[int] = (2000, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> MaskRCNN:
    """detectron2's `mask_rcnn_R_50_C4`: 35,909,612 parameters; values as in `faster_rcnn_detectron2_r50_c4`."""
    parts = boxes_of.faster_rcnn_detectron2_r50_c4(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        norm=norm,
        stride_in=stride_in,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_count=rpn_count,
        count=count,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
        bgr=bgr,
    )
    masks = MaskBranch(width * 8 * Bottleneck.expansion, num_classes, pooler=None, width=mask_channels, depth=0)
    return MaskRCNN(parts, masks=masks)


def keypoint_rcnn_detectron2_r50_fpn(
    num_classes: int = 1,
    *,
    joints: int = 17,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    joint_channels: int = 512,
    joint_depth: int = 8,
    norm: NormName = "frozen",
    stride_in: StrideIn = "1x1",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1500, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    count: int = 512,
    beta: float = 0.5,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> MaskRCNN:
    """detectron2's `keypoint_rcnn_R_50_FPN`: 59,133,158 parameters; values as in `faster_rcnn_detectron2_r50_fpn`.

    beta: where the loss of boxes turns from squares to lines.
    """
    parts = boxes_of.faster_rcnn_detectron2_r50_fpn(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        channels=channels,
        hidden=hidden,
        norm=norm,
        stride_in=stride_in,
        anchors=anchors,
        ratios=ratios,
        before=before,
        after=after,
        rpn_overlap=rpn_overlap,
        rpn_count=rpn_count,
        count=count,
        beta=beta,
        score=score,
        overlap=overlap,
        most=most,
        mean=mean,
        std=std,
        bgr=bgr,
    )
    pooler = Pooler(14, parts.boxes.pooler.scales, ratio=0, inside=1e-8, outside=0.0)
    branch = JointBranch(channels, joints, pooler=pooler, width=joint_channels, depth=joint_depth)
    return MaskRCNN(parts, joints=branch)


def mask_rcnn_mmdet_r50_fpn(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
    norm: NormName = "batch",
    stride_in: StrideIn = "3x3",
    anchors: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    before: Sequence[int] = (2000, 1000),
    after: Sequence[int] = (1000, 1000),
    rpn_overlap: float = 0.7,
    rpn_count: int = 256,
    count: int = 512,
    score: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> MaskRCNN:
    """mmdet's `mask-rcnn_r50_fpn`: 44,396,336 parameters; values as in `faster_rcnn`, rpn_*: of the first stage."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in)
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    (before_train, before_test), (after_train, after_test) = before, after
    rpn = RPN(
        channels,
        sizes=[[size] for size in anchors],
        ratios=ratios,
        strides=fpn.strides,
        limits=Limits(before_train, after_train, before_test, after_test),
        overlap=rpn_overlap,
        smallest=TINY,
        rescue="theirs",
        least=0.3,
        count=rpn_count,
        beta=0.0,
    )
    scales = [1 / s.stride for s in stages]
    pooler = [Pooler(side, scales, ratio=0, inside=0.25e-6, outside=0.0) for side in (7, 14)]
    boxes = BoxBranch(
        pooler[0],
        TwoLayers(channels, 7, hidden),
        num_classes,
        channels=hidden,
        count=count,
        beta=0.0,
        score=score,
        overlap=overlap,
        most=most,
        smallest=0.0,
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    parts = FasterRCNN(Trunk(body, [s.name for s in stages], fpn, normalize=normalize), rpn, boxes)
    return MaskRCNN(parts, masks=MaskBranch(channels, num_classes, pooler=pooler[1], width=mask_channels))


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("roi_heads.mask_head.{i}.{j}.{leaf}", "masks.convs.{i}.{j}.{leaf}"),
            (
                "roi_heads.mask_head.mask_fcn{i+1}.{leaf}",
                "masks.convs.{i}.0.{leaf}",
            ),  # as files were written until 2022
            ("roi_heads.mask_predictor.conv5_mask.{leaf}", "masks.up.{leaf}"),
            ("roi_heads.mask_predictor.mask_fcn_logits.{leaf}", "masks.last.{leaf}"),
            ("roi_heads.keypoint_head.{2i}.{leaf}", "joints.convs.{i}.0.{leaf}"),
            ("roi_heads.keypoint_predictor.kps_score_lowres.{leaf}", "joints.last.{leaf}"),
            *boxes_of.TORCHVISION,
        ),
        words="torchvision.models.detection: Mask and Keypoint R-CNN with a pyramid",
    ),
    KeyMap(
        "detectron2",
        (
            *detectron2_backbone("backbone.bottom_up."),
            ("backbone.fpn_lateral{i+2}.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("backbone.fpn_output{i+2}.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("roi_heads.mask_head.mask_fcn{i+1}.{leaf}", "masks.convs.{i}.0.{leaf}"),
            ("roi_heads.mask_head.deconv.{leaf}", "masks.up.{leaf}"),
            ("roi_heads.mask_head.predictor.{leaf}", "masks.last.{leaf}"),
            ("roi_heads.keypoint_head.conv_fcn{i+1}.{leaf}", "joints.convs.{i}.0.{leaf}"),
            ("roi_heads.keypoint_head.score_lowres.{leaf}", "joints.last.{leaf}"),
            *boxes_of.DETECTRON2,
        ),
        ignore=boxes_of.DETECTRON2_CONSTANTS,
        container="model",
        words="facebookresearch/detectron2: Mask and Keypoint R-CNN with a pyramid",
    ),
    KeyMap(
        "detectron2-c4",
        (
            *detectron2_backbone("backbone."),
            *detectron2_units("roi_heads.res5.{j}.", "boxes.head.layer4.{j}."),
            ("roi_heads.mask_head.deconv.{leaf}", "masks.up.{leaf}"),
            ("roi_heads.mask_head.predictor.{leaf}", "masks.last.{leaf}"),
            *boxes_of.DETECTRON2,
        ),
        ignore=boxes_of.DETECTRON2_CONSTANTS,
        container="model",
        words="facebookresearch/detectron2: Mask R-CNN without a pyramid (C4)",
    ),
    KeyMap(
        "mmdet",
        (
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("neck.fpn_convs.{i}.conv.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
            ("roi_head.mask_head.convs.{i}.conv.{leaf}", "masks.convs.{i}.0.{leaf}"),
            ("roi_head.mask_head.upsample.{leaf}", "masks.up.{leaf}"),
            ("roi_head.mask_head.conv_logits.{leaf}", "masks.last.{leaf}"),
            *boxes_of.MMDET,
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: Mask R-CNN with a pyramid",
    ),
)
