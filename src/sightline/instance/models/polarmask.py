"""PolarMask: an outline as 36 distances from a centre.

Paper: PolarMask: Single Shot Instance Segmentation with Polar Representation (Xie et al. 2019, arXiv:1909.13226).

The idea: every place of a pyramid says what is there, and how far it is from itself to the object's outline in 36
directions; no mask is ever drawn. Overlap of two such stars is a ratio of sums, so that all rays are learned together
(polar IoU). Places far from the middle give bad stars: polar centerness tells them apart.

- `polarmask`, the one to start with: any backbone. `channels`, `depth` make it small.
- `polarmask_r50`: the authors' sizes: strides in the 1x1 convolutions, pixels as blue, green, red from 0 to 255.

What it cannot do: a star has no holes and no second part, and what lies behind a bend is lost: no more than about 90 %
of overlap with COCO's shapes.

Classes: the authors' files of COCO have 80, as here.

Departures: candidates of a level are pairs of place and class, not places. The angle is that of (x, y) as the authors'
code has it: ray k goes to x + d sin(10 k), y + d cos(10 k).

Loads: xieenze/PolarMask (`polarmask`, unverified).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import deepest_at_each_stride
from sightline.backbones.resnet import Bottleneck, ResNet, StrideIn
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, real, whole
from sightline.detection.losses import sigmoid_focal
from sightline.detection.regions import best, candidates, places_first, rows
from sightline.detection.trunk import CAFFE_MEAN, CAFFE_STD, Trunk
from sightline.errors import UsageError
from sightline.instance.cells import draw_weights, tower
from sightline.instance.contract import decode
from sightline.instance.masks import Outlines
from sightline.nn.conv import Norm, NormName, norm_named
from sightline.nn.fpn import FPN
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.boxes import clip_boxes, paired_iou
from sightline.ops.contour import centroid, outline
from sightline.ops.nms import nms_padded, ranking
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
"""The longest of the four distances to a box's sides, in pixels, that each level learns; ends belong to both."""

RAYS = 36
LOOK = (0, 1, -1, 2, -2, 3, -3)
"""Degrees beside a ray where a point of the outline is looked for, in turn."""

# What it learns from ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stars:
    """What the places of one picture learn. N places of all levels, P of them positive.

    label: `(N,)`, below 0: nothing. index: `(P,)` the positive places. sides: `(P, 4)`, distances to the left, top,
    right and bottom of the box. rays: `(P, 36)`. centerness: `(P,)`.
    """

    label: Tensor
    index: Tensor
    sides: Tensor
    rays: Tensor
    centerness: Tensor


def places(sizes: Sequence[Sequence[int]], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of maps of `sizes` (height, width) in pixels, x and y, `(N, 2)`, and their levels `(N,)`."""
    found, levels = [], []
    for i, ((height, width), stride) in enumerate(zip(sizes, strides)):
        y = torch.arange(height, device=device) * stride + stride // 2
        x = torch.arange(width, device=device) * stride + stride // 2
        found.append(torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1).reshape(-1, 2))
        levels.append(torch.full((height * width,), i, device=device))
    return torch.cat(found).float(), torch.cat(levels)


def rays_of(border: Tensor, points: Tensor) -> Tensor:
    """How far it is from points `(P, 2)` to an outline `(N, 2)` every ten degrees: `(P, 36)`.

    The farthest point of the outline in a ray's whole degree counts, or in the nearest of three to either side; where
    there is none, 1e-6. Degrees are cut to integers after those below 0 are turned by 360, and do not wrap.
    """
    shift = border.float()[None] - points.float()[:, None]  # (P, N, 2)
    degree = torch.atan2(shift[..., 0], shift[..., 1]) * 180 / math.pi
    degree = torch.where(degree < 0, degree + 360, degree).long().clamp(max=359)
    length = (shift * shift).sum(-1).sqrt()
    farthest = length.new_full((len(points), 360), -1.0).scatter_reduce(1, degree, length, "amax")
    ray = torch.arange(0, 360, 360 // RAYS, device=border.device)
    found = torch.full((len(points), RAYS), 1e-6, device=border.device)
    for look in reversed(LOOK):
        here = ray + look
        inside = (here >= 0) & (here < 360)
        value = farthest[:, here.clamp(0, 359)]
        found = torch.where(inside & (value >= 0), value, found)
    return found


def polar_centerness(rays: Tensor) -> Tensor:
    """Root of the shortest ray over the longest: `(P, 36)` to `(P,)`."""
    return (rays.amin(-1) / rays.amax(-1)).sqrt()


def polar_iou_loss(said: Tensor, truth: Tensor) -> Tensor:
    """Logarithm of the sum of the longer rays over that of the shorter ones: `(P, 36)` twice to `(P,)`."""
    return torch.log(torch.maximum(said, truth).sum(-1) / torch.minimum(said, truth).sum(-1).clamp(min=1e-6))


def star_points(points: Tensor, rays: Tensor, size: Tensor) -> Tensor:
    """Rays `(..., 36)` from points `(..., 2)` to outlines `(..., 36, 2)`, x and y, within `size` `(..., 2)`."""
    angle = torch.arange(RAYS, device=rays.device) * (2 * math.pi / RAYS)
    x = points[..., :1] + rays * torch.sin(angle)
    y = points[..., 1:] + rays * torch.cos(angle)
    x = torch.minimum(x.clamp(min=0), size[..., 1:] - 1)
    y = torch.minimum(y.clamp(min=0), size[..., :1] - 1)
    return torch.stack([x, y], -1)


@torch.no_grad()
def stars_of(
    boxes: Tensor,
    labels: Tensor,
    borders: Sequence[Tensor],
    centres: Tensor,
    points: Tensor,
    levels: Tensor,
    *,
    strides: Sequence[int],
    radius: float = 1.5,
    ranges: Sequence[Sequence[float]] = RANGES,
) -> Stars:
    """What each place learns of the objects of one picture.

    boxes: `(G, 4)`; labels: `(G,)`; borders: outlines `(N_g, 2)`; centres: `(G, 2)`. points, levels: see `places`.
    A place is positive near an object's centre (`radius` strides, within the box) on the level that suits its size; of
    several objects it takes the one with the smallest box (sides plus one pixel).
    """
    device = points.device
    none = torch.full((len(points),), -1, device=device)
    if len(boxes) == 0:
        zero = points.new_zeros
        return Stars(none, none[:0], zero(0, 4), zero(0, RAYS), zero(0))
    x, y = points[:, None, 0], points[:, None, 1]  # (N, 1)
    x0, y0, x1, y1 = (boxes[None, :, k].to(points.dtype) for k in range(4))  # (1, G)
    sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y], -1)  # (N, G, 4)
    reach = torch.tensor(strides, device=device, dtype=points.dtype)[levels][:, None] * radius
    cx, cy = centres[None, :, 0].to(points.dtype), centres[None, :, 1].to(points.dtype)
    near = (
        (x - torch.maximum(cx - reach, x0) > 0)
        & (y - torch.maximum(cy - reach, y0) > 0)
        & (torch.minimum(cx + reach, x1) - x > 0)
        & (torch.minimum(cy + reach, y1) - y > 0)
    )
    least, most = torch.tensor(ranges, device=device, dtype=points.dtype)[levels].unbind(-1)
    longest = sides.amax(-1)
    fits = near & (longest >= least[:, None]) & (longest <= most[:, None])
    area = ((x1 - x0 + 1) * (y1 - y0 + 1)).expand_as(fits).masked_fill(~fits, math.inf)
    smallest, own = area.min(1)
    index = smallest.isfinite().nonzero()[:, 0]
    chosen = own[index]
    rays = points.new_zeros(len(index), RAYS)
    for g, border in enumerate(borders):
        some = chosen == g
        if some.any():
            rays[some] = rays_of(border, points[index[some]])
    return Stars(
        none.scatter(0, index, labels[chosen]),
        index,
        sides[index, chosen],
        rays,
        polar_centerness(rays),
    )


def borders_of(masks: Tensor) -> tuple[list[Tensor], Tensor]:
    """Outlines `(N_g, 2)` of masks `(G, H, W)`, and their middles in whole pixels `(G, 2)`."""
    borders, centres = [], []
    for mask in masks.bool().cpu().numpy():
        border = outline(mask)
        borders.append(torch.from_numpy(border).to(masks.device))
        centres.append([int(v) for v in centroid(border)] if len(border) else [-(10**6), -(10**6)])
    return borders, torch.tensor(centres, device=masks.device).reshape(-1, 2)


# Network ---------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Radiant:
    """What PolarMask sees.

    found: the objects, with outlines `(B, D, 36, 2)` in pixels of the input. sizes: `(B, 2)`. With targets: logits
    `(B, N, K)`, sides `(B, N, 4)` and rays `(B, N, 36)` in pixels, centerness logits `(B, N)`, points `(N, 2)` and
    their levels `(N,)`.
    """

    found: Found | None
    sizes: Tensor
    logits: Tensor | None = None
    sides: Tensor | None = None
    rays: Tensor | None = None
    centerness: Tensor | None = None
    points: Tensor | None = None
    levels: Tensor | None = None


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """`x` times the factor."""
        return x * self.scale


class PolarMask(nn.Module):
    """A trunk with a pyramid; towers of classes (with centerness), of boxes, of rays.

    radius, ranges: which places learn an object, see `stars_of`. score, before, overlap, most: the least probability of
    a class, candidates a level, the IoU of boxes at which answers of a class suppress each other, answers a picture.
    trust: added to centerness before it multiplies the class's probability.
    """

    HEAD = ("classes.",)
    OPTIONAL = ()

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        channels: int,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        depth: int = 4,
        norm: Norm | None = None,
        radius: float = 1.5,
        score: float = 0.05,
        before: int = 1000,
        overlap: float = 0.5,
        most: int = 100,
        trust: float = 0.5,
    ) -> None:
        super().__init__()
        norm = norm or norm_named("group")
        self.trunk, self.num_classes, self.strides = trunk, num_classes, tuple(strides)
        self.class_tower, self.box_tower, self.ray_tower = (tower(channels, channels, depth, norm) for _ in range(3))
        self.classes = nn.Conv2d(channels, num_classes, 3, 1, 1)
        self.centerness = nn.Conv2d(channels, 1, 3, 1, 1)
        self.boxes = nn.Conv2d(channels, 4, 3, 1, 1)
        self.rays = nn.Conv2d(channels, RAYS, 3, 1, 1)
        self.box_scales = nn.ModuleList(Scale() for _ in strides)
        self.ray_scales = nn.ModuleList(Scale() for _ in strides)
        for part in (self.class_tower, self.box_tower, self.ray_tower, self.centerness, self.boxes, self.rays):
            draw_weights(part)
        draw_weights(self.classes, self.classes)
        self.radius, self.score, self.before, self.overlap, self.most = radius, score, before, overlap, most
        self.trust = trust

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Radiant:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, _ = self.trunk(images, sizes)
        logits, sides, rays, centerness = [], [], [], []
        for i, x in enumerate(maps):
            seen = self.class_tower(x)
            logits.append(places_first(self.classes(seen), self.num_classes))
            centerness.append(places_first(self.centerness(seen), 1)[..., 0])
            sides.append(places_first(self.box_scales[i](self.boxes(self.box_tower(x))).float().exp(), 4))
            rays.append(places_first(self.ray_scales[i](self.rays(self.ray_tower(x))).float().exp(), RAYS))
        points, levels = places([(x.shape[-2], x.shape[-1]) for x in maps], self.strides, images.device)
        out = Radiant(None, whole(images, sizes))
        if targets is None or not self.training:
            out = replace(out, found=self.find(logits, sides, rays, centerness, points, out.sizes))
        if targets is None:
            return out
        return replace(
            out,
            logits=torch.cat(logits, 1),
            sides=torch.cat(sides, 1),
            rays=torch.cat(rays, 1),
            centerness=torch.cat(centerness, 1),
            points=points,
            levels=levels,
        )

    @torch.no_grad()
    def find(
        self,
        logits: Sequence[Tensor],
        sides: Sequence[Tensor],
        rays: Sequence[Tensor],
        centerness: Sequence[Tensor],
        points: Tensor,
        sizes: Tensor,
    ) -> Found:
        """The best stars whose boxes do not overlap a better one of their class."""
        scores, labels, at, first = [], [], [], 0
        for said, centre in zip(logits, centerness):
            chance = said.float().sigmoid()
            chance = chance.masked_fill(chance <= self.score, 0.0)
            trusted = chance * (centre.float().sigmoid() + self.trust)[..., None]
            value, index = best(trusted.flatten(1), self.before)
            scores.append(value.clamp(min=0))
            labels.append(index % self.num_classes)
            at.append(index // self.num_classes + first)
            first += said.shape[1]
        score, label, place = torch.cat(scores, 1), torch.cat(labels, 1), torch.cat(at, 1)
        order = ranking(score)[:, : candidates(score)]
        score, label, place = (v.gather(1, order) for v in (score, label, place))
        centre = points[place]
        reach = rows(torch.cat(list(sides), 1), place)
        box = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1)
        box = clip_boxes(box, sizes)
        kept, count = nms_padded(box, score, self.overlap, valid=score > 0, labels=label, most=self.most)
        place = place.gather(1, kept)
        stars = star_points(points[place], rows(torch.cat(list(rays), 1), place), sizes[:, None].float())
        # a score is a probability times up to 1 + trust
        value = (score.gather(1, kept) / (1 + self.trust)).clamp(max=1)
        return Found(rows(box, kept), value, label.gather(1, kept), count, masks=stars)

    def losses(self, out: Radiant, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes` (focal), `boxes` (-log IoU) and `rays` (polar IoU) by centerness, `centerness`."""
        if out.logits is None or out.sides is None or out.rays is None or out.centerness is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        if targets.masks is None or out.points is None or out.levels is None:
            raise UsageError("PolarMask learns from masks, and the targets have none; take data with masks")
        objects = real(targets)
        labels, sides, rays, centre, weight = [], [], [], [], []
        for i, some in enumerate(objects):
            borders, centres = borders_of(targets.masks[i][some])
            stars = stars_of(
                targets.boxes[i][some],
                targets.labels[i][some],
                borders,
                centres,
                out.points,
                out.levels,
                strides=self.strides,
                radius=self.radius,
            )
            labels.append(stars.label)
            weight.append(stars.centerness)
            said = torch.cat([-out.sides[i][stars.index, :2], out.sides[i][stars.index, 2:]], -1)
            true = torch.cat([-stars.sides[:, :2], stars.sides[:, 2:]], -1)
            sides.append(-torch.log(paired_iou(said, true).clamp(min=1e-6)))
            rays.append(polar_iou_loss(out.rays[i][stars.index], stars.rays.clamp(min=1e-6)))
            centre.append(
                F.binary_cross_entropy_with_logits(
                    out.centerness[i][stars.index].float(), stars.centerness, reduction="none"
                )
            )
        share = torch.cat(weight)
        count = len(share)
        total = share.sum().clamp(min=1e-6)
        focal = sigmoid_focal(out.logits.float(), torch.stack(labels), alpha=0.25, gamma=2.0)
        zero = 0 * (out.sides.sum() + out.rays.sum() + out.centerness.sum())  # a batch without objects
        return {
            "classes": focal.sum() / (count + len(objects)),
            "boxes": (torch.cat(sides) * share).sum() / total + zero,
            "rays": (torch.cat(rays) * share).sum() / total + zero,
            "centerness": torch.cat(centre).sum() / max(1, count) + zero,
        }

    def decode(self, out: Radiant, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their outlines."""
        return decode(out, lambda said, boxes, size: Outlines(said, size), score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def polarmask(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 256,
    depth: int = 4,
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> PolarMask:
    """PolarMask on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels, depth: of the pyramid and of the towers.
    score, before, overlap, most: see `PolarMask`.
    """
    net = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    stages = [stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 8]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="last_output")
    trunk = Trunk(net, [s.name for s in stages], fpn, normalize=Normalize(*for_channels(mean, std, in_channels)))
    return PolarMask(
        trunk,
        num_classes,
        channels=channels,
        strides=fpn.strides,
        depth=depth,
        score=score,
        before=before,
        overlap=overlap,
        most=most,
    )


def polarmask_r50(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    norm: NormName = "batch",
    stride_in: StrideIn = "1x1",
    channels: int = 256,
    depth: int = 4,
    score: float = 0.05,
    before: int = 1000,
    overlap: float = 0.5,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
    bgr: bool = True,
) -> PolarMask:
    """The authors' `polar_768_1x_r50`: 34,739,651 parameters for 80 classes; values as in `polarmask`."""
    body = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, norm=norm_named(norm), stride_in=stride_in)
    stages = body.stages[2:]
    fpn = FPN([s.channels for s in stages], channels, strides=[s.stride for s in stages], extra="last_output")
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=bgr)
    trunk = Trunk(body, [s.name for s in stages], fpn, normalize=normalize)
    return PolarMask(
        trunk,
        num_classes,
        channels=channels,
        strides=fpn.strides,
        depth=depth,
        score=score,
        before=before,
        overlap=overlap,
        most=most,
    )


# Public names ----------------------------------------------------------------------------------------------------


def _tower(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"bbox_head.{theirs}.{{i}}.conv.{{leaf}}", f"{ours}.{{i}}.0.{{leaf}}"),
        (f"bbox_head.{theirs}.{{i}}.gn.{{leaf}}", f"{ours}.{{i}}.1.{{leaf}}"),
    )


KEY_MAPS = (
    KeyMap(
        "polarmask",
        (
            ("backbone.{rest}", "trunk.backbone.{rest}"),
            ("neck.lateral_convs.{i}.conv.{leaf}", "trunk.fpn.lateral.{i}.0.{leaf}"),
            ("neck.fpn_convs.0.conv.{leaf}", "trunk.fpn.output.0.0.{leaf}"),
            ("neck.fpn_convs.1.conv.{leaf}", "trunk.fpn.output.1.0.{leaf}"),
            ("neck.fpn_convs.2.conv.{leaf}", "trunk.fpn.output.2.0.{leaf}"),
            ("neck.fpn_convs.{i+3}.conv.{leaf}", "trunk.fpn.coarse.{i}.{leaf}"),
            *_tower("cls_convs", "class_tower"),
            *_tower("reg_convs", "box_tower"),
            *_tower("mask_convs", "ray_tower"),
            ("bbox_head.polar_cls.{leaf}", "classes.{leaf}"),
            ("bbox_head.polar_reg.{leaf}", "boxes.{leaf}"),
            ("bbox_head.polar_mask.{leaf}", "rays.{leaf}"),
            ("bbox_head.polar_centerness.{leaf}", "centerness.{leaf}"),
            ("bbox_head.scales_bbox.{i}.{leaf}", "box_scales.{i}.{leaf}"),
            ("bbox_head.scales_mask.{i}.{leaf}", "ray_scales.{i}.{leaf}"),
        ),
        container="state_dict",
        words="xieenze/PolarMask",
        verified=False,
    ),
)
