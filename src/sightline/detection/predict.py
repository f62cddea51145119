"""A picture in, its objects out, in the picture's own pixels: whole or in tiles, once or several times.

Views (tiles, mirrored pictures, other sizes) are answered one by one; what several of them found is one object when
boxes of a class overlap, the best score speaks (greedy suppression), with its mask and its joints. In a mirror left
joints are right ones, which is known of COCO's 17 alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.detection.answer import Detections
from sightline.detection.targets import COCO_JOINTS, swapped
from sightline.detection.views import Placed, several
from sightline.errors import UsageError
from sightline.media.prepare import as_float, prepare, resize_pixels
from sightline.ops.nms import nms
from sightline.ops.resize import pad_to_multiple
from sightline.ops.tiles import tiles

FLIPS = {"none": ((),), "h": ((), (-1,)), "hv": ((), (-1,), (-2,), (-1, -2))}


@dataclass(frozen=True)
class Procedure:
    """How a network looks at a picture.

    tile: side of square tiles in pixels of the network's input, for small objects in large pictures; 0 or None: whole.
    overlap: share of a tile that neighbours have in common: objects up to that size are whole in one of them.
    flips: `none`, `h` or `hv`: views that are looked at. scales: sizes the picture is looked at, relative to its own.
    score: objects with less are left out; None keeps all that the network found.
    merge: IoU from which boxes of one class from several views are one object.
    """

    tile: int | None = None
    overlap: float = 0.5
    flips: str = "none"
    scales: tuple[float, ...] = (1.0,)
    score: float | None = None
    merge: float = 0.5

    def __post_init__(self) -> None:
        if self.flips not in FLIPS:
            raise UsageError(f"flips '{self.flips}' are unknown; choose from {', '.join(FLIPS)}")
        if not self.scales or min(self.scales) <= 0:
            raise UsageError(f"scales {self.scales} must be numbers above 0, for example 0.75,1,1.25")
        if not 0 <= self.overlap < 1 or (self.tile or 0) < 0:
            raise UsageError(f"tile {self.tile} and overlap {self.overlap}: a side of 0 or more, a share from 0 to 1")
        for name in ("score", "merge"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} {value} must be a number from 0 to 1")

    @property
    def plain(self) -> bool:
        """Whether the whole picture is looked at once."""
        return not self.tile and self.flips == "none" and tuple(self.scales) == (1.0,)


@torch.inference_mode()
def answer(
    net: Any,
    image: np.ndarray,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "picture",
    procedure: Procedure | None = None,
) -> Detections:
    """The objects in `image`, `(H, W, C)` of any depth, found by a network in eval mode on any device."""
    procedure = procedure or Procedure()
    prepared = prepare(image, preprocess)
    if procedure.plain:
        found = see(net, prepared.pixels, prepared.valid, procedure.score, classes)
    else:
        height, width = prepared.valid
        pixels = prepared.pixels[..., :height, :width]
        found = merged(list(views(net, pixels, procedure, preprocess.multiple, classes)), procedure.merge)
    placed = found.scaled(prepared.original, prepared.valid)
    return replace(placed, colours=tuple((r, g, b) for r, g, b in colours), name=name, image=image)


def see(net: Any, pixels: Tensor, size: tuple[int, int], score: float | None, classes: Sequence[str]) -> Detections:
    """The objects in `(C, H, W)` pixels of which `size` is no padding, on the CPU."""
    device = next(net.parameters()).device
    out = net(as_float(pixels)[None].to(device), sizes=torch.tensor([size], device=device))
    return net.decode(out, score=score, classes=classes)[0].to("cpu")


def views(
    net: Any, pixels: Tensor, procedure: Procedure, multiple: int, classes: Sequence[str]
) -> Iterator[Detections]:
    """What every view of `(C, H, W)` pixels shows, in those pixels' coordinates."""
    height, width = pixels.shape[-2:]
    for scale in procedure.scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = resize_pixels(pixels, size)
        for axes in FLIPS[procedure.flips]:
            seen = scaled.flip(axes) if axes else scaled
            for top, left, part in cut(seen, procedure):
                padded, _ = pad_to_multiple(part[None], multiple)
                found = see(net, padded[0], (part.shape[-2], part.shape[-1]), procedure.score, classes)
                found = whole_ones(found, top, left, part, size)
                found = moved(found, top, left)
                for axis in axes:
                    found = flipped(found, axis, size)
                if found.masks is not None:
                    found = replace(found, masks=Placed(found.masks, (top, left), axes, size, size))
                yield found.scaled((height, width), size)


def cut(pixels: Tensor, procedure: Procedure) -> Iterator[tuple[int, int, Tensor]]:
    """Top, left and pixels of every tile; the whole where no tiles are asked for or needed."""
    height, width = pixels.shape[-2:]
    side = procedure.tile or 0
    if not side or max(height, width) <= side:
        yield 0, 0, pixels
        return
    for rows, columns in tiles((height, width), (side, side), procedure.overlap):
        part = pixels[..., rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
        yield rows.start, columns.start, part


def whole_ones(found: Detections, top: int, left: int, part: Tensor, size: tuple[int, int]) -> Detections:
    """Without boxes that touch a border of the tile which is none of the picture's: a neighbour sees all of them."""
    height, width = part.shape[-2:]
    x0, y0, x1, y1 = found.boxes.unbind(-1)
    cut_off = torch.zeros_like(x0, dtype=torch.bool)
    for touches, inner in (
        (x0 <= 1, left > 0),
        (y0 <= 1, top > 0),
        (x1 >= width - 1, left + width < size[1]),
        (y1 >= height - 1, top + height < size[0]),
    ):
        if inner:
            cut_off |= touches
    small = (x1 - x0 < 0.9 * width) & (y1 - y0 < 0.9 * height)  # a box as large as its tile is whole in none
    return found[~(cut_off & small)]


def moved(found: Detections, top: int, left: int) -> Detections:
    """Boxes and joints of a tile in the picture's pixels."""
    points = found.keypoints
    if points is not None:
        points = points + torch.tensor([left, top, 0], dtype=points.dtype)
    return replace(
        found, boxes=found.boxes + torch.tensor([left, top, left, top], dtype=found.boxes.dtype), keypoints=points
    )


def flipped(found: Detections, axis: int, size: tuple[int, int]) -> Detections:
    """Boxes and joints of a mirrored picture (axis -1: left and right) in the picture's pixels."""
    first, side = (0, size[1]) if axis == -1 else (1, size[0])
    boxes = found.boxes.clone()
    boxes[:, first], boxes[:, first + 2] = side - found.boxes[:, first + 2], side - found.boxes[:, first]
    points = found.keypoints
    if points is not None:
        if points.shape[1] != len(COCO_JOINTS):
            raise UsageError(
                f"flips: nobody said which of these {points.shape[1]} joints are left and right; leave flips out"
            )
        points = points[:, list(swapped(COCO_JOINTS))].clone()
        points[..., first] = side - points[..., first]
    return replace(found, boxes=boxes, keypoints=points)


def merged(found: Sequence[Detections], overlap: float) -> Detections:
    """Several views' objects as one list, best first, each with the mask and joints of its view."""
    boxes, scores, labels = (torch.cat([getattr(f, n) for f in found]) for n in ("boxes", "scores", "labels"))
    kept = nms(boxes, scores, overlap, labels=labels)
    masks = [f.masks for f in found if isinstance(f.masks, Placed)]
    points = [f.keypoints for f in found if f.keypoints is not None]
    return replace(
        found[0],
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels[kept],
        masks=several(masks)[kept] if len(masks) == len(found) else None,
        keypoints=torch.cat(points)[kept] if len(points) == len(found) else None,
    )


def stream(net: Any, path: Path, to: Path, *, page: int = 0, preprocess: Preprocess, **_: Any) -> Detections:
    """Objects of a picture too large for memory."""
    raise UsageError(f"{path} is too large to be looked at whole; cut it into pictures first")
