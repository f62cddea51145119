"""Boxes as pure functions: areas, overlaps, clipping, forms.

A box is x0, y0, x1, y1 in absolute, continuous pixels: a pixel is 1 wide, so the box of the pixel in the corner is
(0, 0, 1, 1). Programs of before 2015 count pixels inclusively; where a function has `plus_one`, it adds 1 to every
width and height as they did.

Overlaps are NaN-free: a box without area overlaps nothing. Every function takes half precision: sums are float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def areas(boxes: Tensor, *, plus_one: bool = False) -> Tensor:
    """Areas `(...)` of boxes `(..., 4)`; boxes turned inside out have none."""
    extra = float(plus_one)
    width, height = boxes[..., 2] - boxes[..., 0] + extra, boxes[..., 3] - boxes[..., 1] + extra
    return width.clamp(min=0) * height.clamp(min=0)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes `(..., N, 4)` cut at pictures of `sizes` `(..., 2)` (height, width)."""
    limits = sizes.flip(-1).to(boxes.dtype).repeat_interleave(2, -1).unflatten(-1, (2, 2)).transpose(-1, -2)
    limits = limits.flatten(-2)[..., None, :]  # (..., 1, 4): width, height, width, height
    return torch.minimum(boxes.clamp(min=0), limits)


def sized(boxes: Tensor, smallest: float) -> Tensor:
    """True `(...)` where both sides of boxes `(..., 4)` are at least `smallest`."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= smallest).all(-1)


def to_centres(boxes: Tensor) -> Tensor:
    """x0, y0, x1, y1 to centre x, centre y, width, height; `(..., 4)`."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def from_centres(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height to x0, y0, x1, y1; `(..., 4)`."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def _overlap(a: Tensor, b: Tensor, plus_one: bool) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes `(..., 4)` that broadcast against each other."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inner = (high - low + float(plus_one)).clamp(min=0)
    shared = inner[..., 0] * inner[..., 1]
    return shared, areas(a, plus_one=plus_one) + areas(b, plus_one=plus_one) - shared


def _share(shared: Tensor, union: Tensor) -> Tensor:
    """Their ratio, 0 where there is no area at all."""
    return torch.where(union > 0, shared / torch.where(union > 0, union, torch.ones_like(union)), 0.0)


def iou(a: Tensor, b: Tensor, *, plus_one: bool = False) -> Tensor:
    """Intersection over union of every pair: `(..., N, 4)` and `(..., M, 4)` to `(..., N, M)`."""
    shared, union = _overlap(a.float()[..., :, None, :], b.float()[..., None, :, :], plus_one)
    return _share(shared, union)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of box i with box i: twice `(..., 4)` to `(...)`."""
    return _share(*_overlap(a.float(), b.float(), False))


def covered(a: Tensor, b: Tensor) -> Tensor:
    """Share of each box of `a` that lies in each of `b` (COCO's overlap with a crowd): `(..., N, M)`."""
    a, b = a.float()[..., :, None, :], b.float()[..., None, :, :]
    shared, _ = _overlap(a, b, False)
    return _share(shared, areas(a).expand_as(shared))


def paired_giou(a: Tensor, b: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Generalised IoU of box i with box i, from -1 to 1 (Rezatofighi et al. 2019, arXiv:1902.09630)."""
    a, b = a.float(), b.float()
    shared, union = _overlap(a, b, False)
    hull = _hull(a, b)
    return shared / (union + eps) - (hull - union) / (hull + eps)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of every pair: `(..., N, 4)` and `(..., M, 4)` to `(..., N, M)`."""
    a, b = a.float()[..., :, None, :], b.float()[..., None, :, :]
    shared, union = _overlap(a, b, False)
    hull = _hull(a, b)
    return _share(shared, union) - _share(hull - union, hull)


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Area of the smallest box around both."""
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    sides = sides.clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def paired_diou(a: Tensor, b: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Distance IoU of box i with box i: IoU minus the share of the hull's diagonal between the centres.

    Zheng et al. 2020, arXiv:1911.08287. For every pair, give `a[..., :, None, :]` and `b[..., None, :, :]`.
    """
    a, b = a.float(), b.float()
    shared, union = _overlap(a, b, False)
    return shared / (union + eps) - _distance(a, b, eps)


def paired_ciou(a: Tensor, b: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Complete IoU: distance IoU minus a term for unequal proportions, whose weight has no gradient (section 3.3)."""
    a, b = a.float(), b.float()
    shared, union = _overlap(a, b, False)
    overlap = shared / (union + eps)
    angles = [torch.atan((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1])) for x in (a, b)]
    unequal = 4 / math.pi**2 * (angles[1] - angles[0]) ** 2
    with torch.no_grad():
        weight = unequal / (1 - overlap + unequal + eps)
    return overlap - _distance(a, b, eps) - weight * unequal


def _distance(a: Tensor, b: Tensor, eps: float) -> Tensor:
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return (centres**2).sum(-1) / ((sides**2).sum(-1) + eps)
