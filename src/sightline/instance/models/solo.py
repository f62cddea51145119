"""SOLO: no boxes, no anchors, no grouping.

Paper: SOLO: Segmenting Objects by Locations (Wang, Kong, Shen, Jiang & Li 2019, arXiv:1912.04488).

The idea: lay a grid over the picture. The cell that an object's middle lies in says what it is, and the mask channel of
that cell draws it, over the whole picture. Two objects are told apart because their middles lie in different cells, or
because their sizes belong to different levels of a pyramid. Coordinates are given to the mask branch, for convolutions
do not know where they are. Of two masks that overlap, Matrix NMS lowers the weaker one's score.

- `solo`, `decoupled_solo`, the ones to start with: any backbone. `channels`, `width`, `depth`, `grids` make them small.
- `solo_mmdet_r50`: mmdet's re-implementation, equal to the authors' (whose repository is not free).
- `decoupled_solo_mmdet_r50`: section 3.3.1: a mask is the product of a map for its row and one for its column, so that
  a grid of 40 has 80 maps in place of 1,600.

Classes: the public files of COCO have 80, as here.

Departures: boxes are those around the masks, at a quarter of the input's resolution.

Traits: `no_boxes`: the boxes of targets only say how large an object is.

Loads: mmdet (`mmdet`), WXinlong/SOLO's names (`wxinlong`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, whole
from sightline.detection.trunk import Trunk
from sightline.instance import cells
from sightline.instance.cells import RANGES, Rules
from sightline.instance.contract import decode
from sightline.instance.masks import MapMasks
from sightline.nn.conv import NormName, norm_named
from sightline.nn.fpn import FPN
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Located:
    """What SOLO sees.

    found: the objects, with `(B, D, h, w)` probabilities over the input. sizes, canvas: `(B, 2)`, valid and whole
    heights and widths of the input. With targets, for the losses: logits `(B, K, S, S)` a level; masks `(B, S * S, h,
    w)` a level, or, decoupled, rows `(B, S, h, w)` and columns of that shape: all before the sigmoid.
    """

    found: Found | None
    sizes: Tensor
    canvas: Tensor
    logits: tuple[Tensor, ...] = ()
    masks: tuple[Tensor, ...] = ()
    rows: tuple[Tensor, ...] = ()
    columns: tuple[Tensor, ...] = ()


def canvas_of(out: object) -> tuple[int, int]:
    """Height and width of the network's input."""
    canvas: Tensor = out.canvas  # type: ignore[attr-defined]
    return int(canvas[0, 0]), int(canvas[0, 1])


def enlarged(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Probabilities `(B, M, h, w)` at `size`."""
    return F.interpolate(masks, size=tuple(size), mode="bilinear", align_corners=False)


# Network ---------------------------------------------------------------------------------------------------------


class SOLO(nn.Module):
    """A trunk with a pyramid, a branch for masks, one for classes; both are shared by all levels."""

    HEAD = ("classes.",)
    OPTIONAL = ()

    def __init__(
        self, trunk: Trunk, num_classes: int, *, channels: int, rules: Rules, width: int = 256, depth: int = 7
    ) -> None:
        super().__init__()
        self.trunk, self.num_classes, self.rules = trunk, num_classes, rules
        norm = norm_named("group")
        self.mask_tower = cells.tower(channels + 2, width, depth, norm)
        self.class_tower = cells.tower(channels, width, depth, norm)
        self.masks = nn.ModuleList(nn.Conv2d(width, s * s, 1) for s in rules.grids)
        self.classes = nn.Conv2d(width, num_classes, 3, 1, 1)
        for part in (self.mask_tower, self.class_tower):
            cells.draw_weights(part)
        cells.draw_weights(self.masks, *(m for m in self.masks if isinstance(m, nn.Conv2d)))
        cells.draw_weights(self.classes, self.classes)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Located:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        logits, masks = self.heads(maps)
        out = Located(None, whole(images, sizes), whole(x, None))
        if targets is None or not self.training:
            said = lambda cell: self.masks_of(masks, cell)  # noqa: E731
            found = cells.find(logits, said, self.rules, (x.shape[-2], x.shape[-1]), out.sizes)
            out = replace(out, found=found)
        return out if targets is None else replace(out, logits=tuple(logits), masks=tuple(masks))

    def heads(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits `(B, K, S, S)` and masks `(B, S * S, 2 h, 2 w)` a level."""
        logits, masks = [], []
        for x, s, draw in zip(cells.levels_of(maps), self.rules.grids, self.masks):
            logits.append(self.classes(self.class_tower(cells.at_grid(x, s))))
            y = self.mask_tower(torch.cat([x, cells.coordinates(x)], 1))
            masks.append(draw(cells.doubled(y)))
        return logits, masks

    def masks_of(self, masks: Sequence[Tensor], cell: Tensor) -> Tensor:
        """Probabilities `(B, M, h, w)` of the masks of cells `(B, M)`, at the finest level's size."""
        found, first = 0.0, 0
        for level in masks:
            here = cell - first
            own = (here >= 0) & (here < level.shape[1])
            said = cells.picked(level, here.clamp(0, level.shape[1] - 1)).float().sigmoid()
            found = found + enlarged(said, masks[0].shape[-2:]) * own[..., None, None]
            first += level.shape[1]
        assert isinstance(found, Tensor)
        return found

    def losses(self, out: Located, targets: Target) -> dict[str, Tensor]:
        """Learn: `masks`, `classes`."""
        if not out.logits:
            raise ValueError("losses need an output of forward(images, targets=...)")
        said = lambda level, picture, cell: out.masks[level][picture, cell].sigmoid()  # noqa: E731
        return cells.losses(out.logits, said, targets, self.rules, canvas_of(out), once=True)

    def decode(self, out: Located, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""
        return said_masks(out, self.rules, score, classes)


def said_masks(out: object, rules: Rules, score: float | None, classes: Sequence[str]) -> list[Detections]:
    """The `decode` of networks whose masks are maps over the input."""
    canvas = canvas_of(out)

    def form(said: Tensor, boxes: Tensor, size: tuple[int, int]) -> MapMasks:
        return MapMasks(said, canvas, size, size, threshold=rules.mask)

    return decode(out, form, score=score, classes=classes)  # type: ignore[arg-type]


class DecoupledSOLO(nn.Module):
    """SOLO whose masks are products of a map for the row and one for the column of their cell."""

    HEAD = ("classes.",)
    OPTIONAL = ()

    def __init__(
        self, trunk: Trunk, num_classes: int, *, channels: int, rules: Rules, width: int = 256, depth: int = 7
    ) -> None:
        super().__init__()
        self.trunk, self.num_classes, self.rules = trunk, num_classes, rules
        norm = norm_named("group")
        self.column_tower = cells.tower(channels + 1, width, depth, norm)
        self.row_tower = cells.tower(channels + 1, width, depth, norm)
        self.class_tower = cells.tower(channels, width, depth, norm)
        self.columns = nn.ModuleList(nn.Conv2d(width, s, 3, 1, 1) for s in rules.grids)
        self.rows = nn.ModuleList(nn.Conv2d(width, s, 3, 1, 1) for s in rules.grids)
        self.classes = nn.Conv2d(width, num_classes, 3, 1, 1)
        for part in (self.column_tower, self.row_tower, self.class_tower):
            cells.draw_weights(part)
        for part in (self.columns, self.rows):
            cells.draw_weights(part, *(m for m in part if isinstance(m, nn.Conv2d)))
        cells.draw_weights(self.classes, self.classes)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Located:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        logits, rows, columns = self.heads(maps)
        out = Located(None, whole(images, sizes), whole(x, None))
        if targets is None or not self.training:
            said = lambda cell: self.masks_of(rows, columns, cell)  # noqa: E731
            found = cells.find(logits, said, self.rules, (x.shape[-2], x.shape[-1]), out.sizes)
            out = replace(out, found=found)
        if targets is None:
            return out
        return replace(out, logits=tuple(logits), rows=tuple(rows), columns=tuple(columns))

    def heads(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Logits `(B, K, S, S)`, maps of rows and of columns `(B, S, 2 h, 2 w)` a level."""
        logits, rows, columns = [], [], []
        for x, s, draw_row, draw_column in zip(cells.levels_of(maps), self.rules.grids, self.rows, self.columns):
            logits.append(self.classes(self.class_tower(cells.at_grid(x, s))))
            place = cells.coordinates(x)
            columns.append(draw_column(cells.doubled(self.column_tower(torch.cat([x, place[:, :1]], 1)))))
            rows.append(draw_row(cells.doubled(self.row_tower(torch.cat([x, place[:, 1:]], 1)))))
        return logits, rows, columns

    def masks_of(self, rows: Sequence[Tensor], columns: Sequence[Tensor], cell: Tensor) -> Tensor:
        """Probabilities `(B, M, h, w)` of the masks of cells `(B, M)`, at the finest level's size."""
        size = rows[0].shape[-2:]
        found, first = 0.0, 0
        for down, across in zip(rows, columns):
            side = down.shape[1]
            here = cell - first
            own = (here >= 0) & (here < side * side)
            here = here.clamp(0, side * side - 1)
            said = enlarged(cells.picked(down, here // side).float().sigmoid(), size)
            said = said * enlarged(cells.picked(across, here % side).float().sigmoid(), size)
            found = found + said * own[..., None, None]
            first += side * side
        assert isinstance(found, Tensor)
        return found

    def losses(self, out: Located, targets: Target) -> dict[str, Tensor]:
        """Learn: `masks`, `classes`."""
        if not out.logits:
            raise ValueError("losses need an output of forward(images, targets=...)")

        def said(level: int, picture: Tensor, cell: Tensor) -> Tensor:
            down, across = out.rows[level], out.columns[level]
            side = down.shape[1]
            return down[picture, cell // side].sigmoid() * across[picture, cell % side].sigmoid()

        return cells.losses(out.logits, said, targets, self.rules, canvas_of(out), once=True)

    def decode(self, out: Located, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""
        return said_masks(out, self.rules, score, classes)


# Builders --------------------------------------------------------------------------------------------------------


def any_trunk(
    in_channels: int,
    backbone: str,
    weights: str | None,
    norm: NormName | None,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Trunk:
    """A trunk with the pyramid P2 to P6 on any backbone."""
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 4]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    return Trunk(net, [s.name for s in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels)))


def resnet_trunk(
    in_channels: int,
    depths: Sequence[int],
    width: int,
    norm: NormName,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Trunk:
    """A trunk with the pyramid P2 to P6 on a ResNet."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm))
    stages = body.stages[1:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="pool")
    return Trunk(body, [s.name for s in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels)))


def solo(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    width: int = 256,
    depth: int = 7,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SOLO:
    """SOLO on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels: of the pyramid; width, depth: of the two branches.
    grids: cells a side, a level; ranges: smallest and largest object of each level, in pixels (root of the box's area).
    score: the least probability of a cell; before, kept: candidates for Matrix NMS, and the least score after it;
    most: answers a picture.
    """
    trunk = any_trunk(in_channels, backbone, backbone_weights, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return SOLO(trunk, num_classes, channels=channels, rules=rules, width=width, depth=depth)


def decoupled_solo(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    width: int = 256,
    depth: int = 7,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DecoupledSOLO:
    """Decoupled SOLO on any backbone; values as in `solo`."""
    trunk = any_trunk(in_channels, backbone, backbone_weights, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return DecoupledSOLO(trunk, num_classes, channels=channels, rules=rules, width=width, depth=depth)


def solo_mmdet_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    channels: int = 256,
    head_width: int = 256,
    head_depth: int = 7,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SOLO:
    """mmdet's `solo_r50_fpn`: 36,301,232 parameters for 80 classes; values as in `solo`."""
    trunk = resnet_trunk(in_channels, depths, width, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return SOLO(trunk, num_classes, channels=channels, rules=rules, width=head_width, depth=head_depth)


def decoupled_solo_mmdet_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    channels: int = 256,
    head_width: int = 256,
    head_depth: int = 7,
    grids: Sequence[int] = (40, 36, 24, 16, 12),
    ranges: Sequence[Sequence[float]] = RANGES,
    score: float = 0.1,
    before: int = 500,
    kept: float = 0.05,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DecoupledSOLO:
    """mmdet's `decoupled-solo_r50_fpn`: 40,028,560 parameters for 80 classes; values as in `solo`."""
    trunk = resnet_trunk(in_channels, depths, width, norm, channels, mean, std)
    rules = Rules(grids=grids, ranges=ranges, score=score, before=before, kept=kept, most=most)
    return DecoupledSOLO(trunk, num_classes, channels=channels, rules=rules, width=head_width, depth=head_depth)


# Public names ----------------------------------------------------------------------------------------------------

MMDET_TRUNK = (
    ("backbone.{rest}", "trunk.backbone.{rest}"),
    ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
    ("neck.fpn_convs.{i}.conv.{leaf}", "trunk.fpn.output.{i}.0.{leaf}"),
)


def branches(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Rows for towers of convolutions with group norm: (theirs, ours) each."""
    return tuple(
        row
        for theirs, ours in pairs
        for row in (
            (f"{theirs}.{{i}}.conv.{{leaf}}", f"{ours}.{{i}}.0.{{leaf}}"),
            (f"{theirs}.{{i}}.gn.{{leaf}}", f"{ours}.{{i}}.1.{{leaf}}"),
        )
    )


KEY_MAPS = (
    KeyMap(
        "mmdet",
        (
            *MMDET_TRUNK,
            *branches(
                ("mask_head.mask_convs", "mask_tower"),
                ("mask_head.mask_convs_x", "column_tower"),
                ("mask_head.mask_convs_y", "row_tower"),
                ("mask_head.cls_convs", "class_tower"),
            ),
            ("mask_head.conv_mask_list.{i}.{leaf}", "masks.{i}.{leaf}"),
            ("mask_head.conv_mask_list_x.{i}.{leaf}", "columns.{i}.{leaf}"),
            ("mask_head.conv_mask_list_y.{i}.{leaf}", "rows.{i}.{leaf}"),
            ("mask_head.conv_cls.{leaf}", "classes.{leaf}"),
        ),
        container="state_dict",
        words="open-mmlab/mmdetection: SOLO and decoupled SOLO",
    ),
    KeyMap(
        "wxinlong",
        (
            *MMDET_TRUNK,
            *branches(
                ("bbox_head.ins_convs", "mask_tower"),
                ("bbox_head.ins_convs_x", "column_tower"),
                ("bbox_head.ins_convs_y", "row_tower"),
                ("bbox_head.cate_convs", "class_tower"),
            ),
            ("bbox_head.solo_ins_list.{i}.{leaf}", "masks.{i}.{leaf}"),
            ("bbox_head.dsolo_ins_list_x.{i}.{leaf}", "columns.{i}.{leaf}"),
            ("bbox_head.dsolo_ins_list_y.{i}.{leaf}", "rows.{i}.{leaf}"),
            ("bbox_head.solo_cate.{leaf}", "classes.{leaf}"),
            ("bbox_head.dsolo_cate.{leaf}", "classes.{leaf}"),
        ),
        container="state_dict",
        words="WXinlong/SOLO: SOLO and decoupled SOLO",
        verified=False,
    ),
)
