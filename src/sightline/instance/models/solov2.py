"""SOLOv2: masks from kernels that the network writes itself.

Paper: SOLOv2: Dynamic and Fast Instance Segmentation (Wang, Zhang, Kong, Li & Shen 2020, arXiv:2003.10152).

The idea: SOLO needs a map for every cell of its grid, and nearly all stay empty. Here each cell says a kernel, 256
numbers, and one feature map is shared by all; a mask is that map seen through the kernel of its cell. Only the masks of
cells with something in them are ever made.

- `solov2`, the one to start with: any backbone. `channels`, `width`, `depth`, `features`, `kernels`, `grids` make it
  small.
- `solov2_mmdet_r50`: mmdet's re-implementation, equal to the authors' (whose repository is not free).

Classes: the public files of COCO have 80, as here.

Departures: boxes are those around the masks, at a quarter of the input's resolution. Deformable convolutions are not
here.

Traits: `no_boxes`: as in SOLO.

Loads: mmdet (`mmdet`), WXinlong/SOLO's names (`wxinlong`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, whole
from sightline.detection.trunk import Trunk
from sightline.instance import cells
from sightline.instance.cells import RANGES, Rules
from sightline.instance.models.solo import (
    MMDET_TRUNK,
    any_trunk,
    branches,
    canvas_of,
    resnet_trunk,
    said_masks,
)
from sightline.nn.conv import NormName, conv_norm_act, norm_named
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Written:
    """What SOLOv2 sees.

    found: the objects, with `(B, D, h, w)` probabilities over the input. sizes, canvas: `(B, 2)`, valid and whole
    heights and widths of the input. With targets, for the losses: logits `(B, K, S, S)` and kernels `(B, E, S, S)` a
    level, feature `(B, E, h, w)`.
    """

    found: Found | None
    sizes: Tensor
    canvas: Tensor
    logits: tuple[Tensor, ...] = ()
    kernels: tuple[Tensor, ...] = ()
    feature: Tensor | None = None


class Feature(nn.Module):
    """The pyramid's maps brought to the finest one's size and added: what all kernels look at (section 3.2)."""

    def __init__(self, channels: int, width: int, out: int, levels: int) -> None:
        super().__init__()
        norm = norm_named("group")
        self.levels = nn.ModuleList()
        for i in range(levels):
            first = channels + (2 if i == levels - 1 else 0)
            self.levels.append(
                nn.ModuleList(conv_norm_act(width if j else first, width, norm=norm) for j in range(max(1, i)))
            )
        self.last = conv_norm_act(width, out, 1, norm=norm)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4, 8, ... to `(B, out, H / 4, W / 4)`."""
        total = None
        for i, (x, steps) in enumerate(zip(maps, self.levels)):
            if i == len(self.levels) - 1:
                x = torch.cat([x, cells.coordinates(x)], 1)
            assert isinstance(steps, nn.ModuleList)
            for step in steps:
                x = step(x)
                x = cells.doubled(x) if i else x
            total = x if total is None else total + x
        assert total is not None
        return self.last(total)


# Network ---------------------------------------------------------------------------------------------------------


class SOLOv2(nn.Module):
    """A trunk with a pyramid, branches for kernels and classes shared by all levels, one feature for all masks."""

    HEAD = ("classes.",)
    OPTIONAL = ()

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        channels: int,
        rules: Rules,
        width: int = 512,
        depth: int = 4,
        features: int = 128,
        kernels: int = 256,
        levels: int = 4,
    ) -> None:
        super().__init__()
        self.trunk, self.num_classes, self.rules = trunk, num_classes, rules
        norm = norm_named("group")
        self.kernel_tower = cells.tower(channels + 2, width, depth, norm)
        self.class_tower = cells.tower(channels, width, depth, norm)
        self.kernels = nn.Conv2d(width, kernels, 3, 1, 1)
        self.classes = nn.Conv2d(width, num_classes, 3, 1, 1)
        self.feature = Feature(channels, features, kernels, levels)
        for part in (self.kernel_tower, self.class_tower, self.kernels, self.feature):
            cells.draw_weights(part)
        cells.draw_weights(self.classes, self.classes)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Written:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        feature = self.feature(maps)
        logits, kernels = self.heads(maps)
        out = Written(None, whole(images, sizes), whole(x, None))
        if targets is None or not self.training:
            every = torch.cat([level.flatten(2).transpose(1, 2) for level in kernels], 1)  # (B, cells, E)

            def said(cell: Tensor) -> Tensor:
                own = every.gather(1, cell[..., None].expand(*cell.shape, every.shape[-1]))
                return torch.einsum("bme,behw->bmhw", own, feature).float().sigmoid()

            found = cells.find(logits, said, self.rules, (x.shape[-2], x.shape[-1]), out.sizes)
            out = replace(out, found=found)
        if targets is None:
            return out
        return replace(out, logits=tuple(logits), kernels=tuple(kernels), feature=feature)

    def heads(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits `(B, K, S, S)` and kernels `(B, E, S, S)` a level."""
        logits, kernels = [], []
        for x, s in zip(cells.levels_of(maps), self.rules.grids):
            x = cells.at_grid(torch.cat([x, cells.coordinates(x)], 1), s)
            logits.append(self.classes(self.class_tower(x[:, :-2])))
            kernels.append(self.kernels(self.kernel_tower(x)))
        return logits, kernels

    def losses(self, out: Written, targets: Target) -> dict[str, Tensor]:
        """Learn: `masks`, `classes`."""
        feature = out.feature
        if feature is None:
            raise ValueError("losses need an output of forward(images, targets=...)")

        def said(level: int, picture: Tensor, cell: Tensor) -> Tensor:
            own = out.kernels[level].flatten(2)[picture, :, cell]  # (P, E)
            # one picture at a time: its feature is not copied for each of its objects
            parts = [torch.einsum("pe,ehw->phw", own[picture == b], x) for b, x in enumerate(feature)]
            return torch.cat(parts).sigmoid()  # `picture` is sorted

        return cells.losses(out.logits, said, targets, self.rules, canvas_of(out), once=False)

    def decode(self, out: Written, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""
        return said_masks(out, self.rules, score, classes)


# Builders --------------------------------------------------------------------------------------------------------


def solov2(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    width: int = 512,
    depth: int = 4,
    features: int = 128,
    kernels: int = 256,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SOLOv2:
    """SOLOv2 on any backbone; values as in `solo`. features: of the shared map on its way; kernels: numbers in each."""
    trunk = any_trunk(in_channels, backbone, backbone_weights, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return SOLOv2(
        trunk,
        num_classes,
        channels=channels,
        rules=rules,
        width=width,
        depth=depth,
        features=features,
        kernels=kernels,
        levels=len(trunk.names),
    )


def solov2_mmdet_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    channels: int = 256,
    head_width: int = 512,
    head_depth: int = 4,
    features: int = 128,
    kernels: int = 256,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SOLOv2:
    """mmdet's `solov2_r50_fpn`: 46,592,912 parameters for 80 classes; values as in `solov2`."""
    trunk = resnet_trunk(in_channels, depths, width, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return SOLOv2(
        trunk,
        num_classes,
        channels=channels,
        rules=rules,
        width=head_width,
        depth=head_depth,
        features=features,
        kernels=kernels,
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "mmdet",
        (
            *MMDET_TRUNK,
            *branches(("mask_head.kernel_convs", "kernel_tower"), ("mask_head.cls_convs", "class_tower")),
            ("mask_head.conv_kernel.{leaf}", "kernels.{leaf}"),
            ("mask_head.conv_cls.{leaf}", "classes.{leaf}"),
            (
                "mask_head.mask_feature_head.convs_all_levels.{i}.conv{j}.conv.{leaf}",
                "feature.levels.{i}.{j}.0.{leaf}",
            ),
            ("mask_head.mask_feature_head.convs_all_levels.{i}.conv{j}.gn.{leaf}", "feature.levels.{i}.{j}.1.{leaf}"),
            ("mask_head.mask_feature_head.conv_pred.conv.{leaf}", "feature.last.0.{leaf}"),
            ("mask_head.mask_feature_head.conv_pred.gn.{leaf}", "feature.last.1.{leaf}"),
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: SOLOv2",
    ),
    KeyMap(
        "wxinlong",
        (
            *MMDET_TRUNK,
            *branches(("bbox_head.kernel_convs", "kernel_tower"), ("bbox_head.cate_convs", "class_tower")),
            ("bbox_head.solo_kernel.{leaf}", "kernels.{leaf}"),
            ("bbox_head.solo_cate.{leaf}", "classes.{leaf}"),
            ("mask_feat_head.convs_all_levels.{i}.conv{j}.conv.{leaf}", "feature.levels.{i}.{j}.0.{leaf}"),
            ("mask_feat_head.convs_all_levels.{i}.conv{j}.gn.{leaf}", "feature.levels.{i}.{j}.1.{leaf}"),
            ("mask_feat_head.conv_pred.0.conv.{leaf}", "feature.last.0.{leaf}"),
            ("mask_feat_head.conv_pred.0.gn.{leaf}", "feature.last.1.{leaf}"),
        ),
        container="state_dict",
        words="WXinlong/SOLO: SOLOv2",
        verified=False,
    ),
)
