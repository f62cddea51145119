"""YOLOv3.

Paper: YOLOv3: An Incremental Improvement (Redmon & Farhadi 2018, arXiv:1804.02767).

The idea: three maps of different grain, each with three of nine reference boxes, on a deeper network with residual
units; every class is a question of its own, so that a box may be several things.

- `yolov3`: the published `yolov3.cfg`, Darknet-53. `yolov3_tiny`, `yolov3_spp`: the published small form, and the one
  that pools over three window sizes before its coarsest head.
- `yolov3_mmdet` (see `yolov3_mmdet.py`): mmdet's, with other rules of assignment and losses.
- `darknet`: whatever a `.cfg` describes, with heads of any of the three papers: give its text, or the path of the file.

Departures: pictures are padded at the bottom and right to a multiple of 32, where the C program centres them in a
square of the network's size. Running numbers of the norms follow PyTorch's rule.

Loads: darknet's `.weights` of pjreddie (`darknet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.detection.darknet import HEADS, Darknet, Section, conv, parse, section
from sightline.detection.models.yolov1 import cells_of
from sightline.detection.models.yolov2 import region_of
from sightline.detection.yolo import Guesses, Head, Places, Truth, Yolo, centres, overlaps, places, shape_iou
from sightline.errors import SightlineError
from sightline.nn.normalize import Normalize, for_channels

ANCHORS = (
    (10.0, 13.0), (16.0, 30.0), (33.0, 23.0), (30.0, 61.0), (62.0, 45.0), (59.0, 119.0), (116.0, 90.0),
    (156.0, 198.0), (373.0, 326.0),
)  # fmt: skip
TINY_ANCHORS = ((10.0, 14.0), (23.0, 27.0), (37.0, 58.0), (81.0, 82.0), (135.0, 169.0), (344.0, 319.0))
"""Widths and heights in pixels, small to large."""

# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """One yolo layer. anchors: of all layers, in pixels; mine: which of them are this layer's.

    threshold: a guess that overlaps some object by more is not pushed to nothing.
    """

    anchors: tuple[tuple[float, float], ...]
    mine: tuple[int, ...]
    num_classes: int
    threshold: float = 0.7

    def parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a map, all raw: `(B, A, h, w, 2)` centres, growths, `(B, A, h, w)` objectness, `(..., K)` classes."""
        x = raw.unflatten(1, (len(self.mine), -1)).permute(0, 1, 3, 4, 2)
        return x[..., :2], x[..., 2:4], x[..., 4], x[..., 5:]

    def own(self, device: torch.device) -> Tensor:
        """This layer's anchors, `(A, 2)`."""
        return torch.tensor([self.anchors[i] for i in self.mine], dtype=torch.float32, device=device)

    def places(self, place: Tensor, growth: Tensor, size: tuple[int, int]) -> Tensor:
        """Centres and sizes relative to the input, `(B, A, h, w, 4)`."""
        height, width = place.shape[2:4]
        columns, lines, anchors = centres(self.own(place.device), place[..., 0])
        return torch.stack(
            [
                (place[..., 0].sigmoid() + columns) / width,
                (place[..., 1].sigmoid() + lines) / height,
                growth[..., 0].exp() * anchors[..., 0] / size[1],
                growth[..., 1].exp() * anchors[..., 1] / size[0],
            ],
            -1,
        )

    def guess(self, raw: Tensor, size: tuple[int, int]) -> Guesses:
        """The guesses of a map; see `yolo.Head`."""
        place, growth, objectness, logits = self.parts(raw)
        boxes = self.places(place, growth, size).flatten(1, 3)
        return Guesses(boxes, objectness.sigmoid().flatten(1), logits.sigmoid().flatten(1, 3))

    def losses(self, raw: Tensor, truth: Truth, size: tuple[int, int], seen: float) -> dict[str, Tensor]:
        """Cross-entropy of places, objectness and classes, half the squares of growths."""
        place, growth, objectness, logits = self.parts(raw)
        pixels = torch.tensor([size[1], size[0]], dtype=torch.float32, device=raw.device)
        with torch.no_grad():
            boxes = self.places(place, growth, size)
            near = overlaps(boxes.flatten(1, 3), truth).view_as(objectness) > self.threshold
            every = torch.tensor(self.anchors, dtype=torch.float32, device=raw.device)
            best = shape_iou(every / pixels, truth.boxes[..., 2:]).argmax(-1)  # (B, G) of all anchors
            at = places(truth, self.local(best), *raw.shape[-2:])
            own = truth.boxes[at.picture, at.truth]
            middle = own[:, :2] * own.new_tensor([raw.shape[-1], raw.shape[-2]]) - torch.stack([at.column, at.row], -1)
            growths = (own[:, 2:] * pixels / self.own(raw.device)[at.anchor]).log()
            known = self.known(truth, self.local(best), at, *raw.shape[-2:])
            taken = torch.zeros_like(near)
            taken[at.picture, at.anchor, at.row, at.column] = True
        here = (at.picture, at.anchor, at.row, at.column)
        weight = (2 - own[:, 2] * own[:, 3])[:, None]
        places_ = F.binary_cross_entropy_with_logits(place[here], middle, reduction="none") * weight
        squares = 0.5 * weight * (growths - growth[here]) ** 2
        return {
            "boxes": places_.sum() + squares.sum(),
            "objects": (F.softplus(objectness) * ~(near | taken)).sum() + F.softplus(-objectness[here]).sum(),
            "classes": F.binary_cross_entropy_with_logits(logits[here], known, reduction="sum"),
        }

    def local(self, best: Tensor) -> Tensor:
        """Numbers of anchors among all as numbers among this layer's, -1 for the other layers'."""
        table = torch.full((len(self.anchors),), -1, device=best.device)
        table[list(self.mine)] = torch.arange(len(self.mine), device=best.device)
        return table[best]

    def known(self, truth: Truth, anchor: Tensor, at: Places, height: int, width: int) -> Tensor:
        """Classes of all true boxes at each of the places, `(P, K)` of 0 and 1."""
        column, row = (truth.boxes[..., 0] * width).floor().long(), (truth.boxes[..., 1] * height).floor().long()
        same = truth.valid[at.picture] & (anchor[at.picture] == at.anchor[:, None])
        same = same & (column[at.picture] == at.column[:, None]) & (row[at.picture] == at.row[:, None])  # (P, G)
        kinds = F.one_hot(truth.labels.clamp(min=0), self.num_classes)[at.picture]  # (P, G, K)
        return (
            (kinds * same[..., None]).amax(1).float() if same.shape[1] else same.new_zeros(0, self.num_classes).float()
        )


def scale_of(part: Section) -> Scale:
    """The head of a section [yolo]."""
    flat = part.list("anchors")
    mine = tuple(int(i) for i in part.list("mask")) or tuple(range(len(flat) // 2))
    return Scale(tuple(zip(flat[::2], flat[1::2])), mine, part.whole("classes", 20), part.number("ignore_thresh", 0.5))


# Builders --------------------------------------------------------------------------------------------------------


def yolov3(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 32,
    depths: Sequence[int] = (1, 2, 8, 8, 4),
    spp: bool = False,
    anchors: Sequence[Sequence[float]] = ANCHORS,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov3.cfg`: 61,949,149 parameters for 80 classes; pictures of any size.

    width: channels of the first convolution, all others in proportion. depths: residual units of the five stages.
    spp: pools of 5, 9 and 13 before the coarsest head (`yolov3-spp.cfg`). anchors: nine widths and heights in pixels,
    small to large. The rest: see `Yolo`.
    """
    layers = layers_of_yolov3(num_classes, width=width, depths=depths, spp=spp, anchors=anchors)
    return from_sections(
        layers, num_classes, in_channels, score=score, before=before, overlap=overlap, most=most, mean=mean, std=std
    )


def yolov3_spp(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 32,
    depths: Sequence[int] = (1, 2, 8, 8, 4),
    anchors: Sequence[Sequence[float]] = ANCHORS,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov3-spp.cfg`: 62,998,749 parameters for 80 classes; see `yolov3`."""
    return yolov3(
        num_classes, in_channels=in_channels, width=width, depths=depths, spp=True, anchors=anchors, score=score,
        before=before, overlap=overlap, most=most, mean=mean, std=std,
    )  # fmt: skip


def yolov3_tiny(
    num_classes: int = 80,
    *,
    in_channels: int = 3,
    width: int = 16,
    anchors: Sequence[Sequence[float]] = TINY_ANCHORS,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """The published `yolov3-tiny.cfg`: 8,852,366 parameters for 80 classes; anchors: six; see `yolov3`."""
    layers = layers_of_tiny(num_classes, width=width, anchors=anchors)
    return from_sections(
        layers, num_classes, in_channels, score=score, before=before, overlap=overlap, most=most, mean=mean, std=std
    )


def darknet(
    num_classes: int | None = None,
    *,
    cfg: str = "",
    in_channels: int = 3,
    score: float = 0.005,
    before: int = 1000,
    overlap: float = 0.45,
    most: int = 100,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Yolo:
    """A detector from a `.cfg`: its text or the path of the file; nothing: the layers of `yolov3-tiny.cfg`.

    num_classes: another number than the text's: its heads, and the layers before them, are changed to it.
    """
    size = (416, 416)
    if not cfg:
        layers = layers_of_tiny(80, width=16, anchors=TINY_ANCHORS)
    else:
        text = cfg
        if "[" not in cfg:
            try:
                text = Path(cfg).read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise SightlineError(f"cannot read the .cfg {cfg}: {error.strerror or error}") from error
        net, *layers = parse(text)
        size = (net.whole("height", 416), net.whole("width", 416))
    if num_classes is not None:
        layers = with_classes(layers, num_classes)
    said = [part.whole("classes", 1) for part in layers if part.kind in HEADS]
    return from_sections(
        layers, max(said, default=1), in_channels, size=size,
        score=score, before=before, overlap=overlap, most=most, mean=mean, std=std,
    )  # fmt: skip


def with_classes(layers: Sequence[Section], num_classes: int) -> list[Section]:
    """The same layers for another number of classes: the heads', and the outputs of the layers right before them."""
    found = list(layers)
    for i, part in enumerate(layers):
        if part.kind not in HEADS or i == 0:
            continue
        found[i] = replace(part, options={**part.options, "classes": str(num_classes)})
        before, count = found[i - 1], part.whole("num", 1)
        if part.kind == "detection":
            outputs = {"output": str(part.whole("side", 7) ** 2 * (num_classes + 5 * count))}
        else:
            mine = len(part.list("mask")) or count
            outputs = {"filters": str(mine * (num_classes + 5))}
        found[i - 1] = replace(before, options={**before.options, **outputs})
    return found


def from_sections(
    layers: Sequence[Section],
    num_classes: int,
    in_channels: int,
    *,
    size: tuple[int, int] = (416, 416),
    score: float,
    before: int,
    overlap: float,
    most: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Yolo:
    """A network of any layers, with the heads that its last sections name."""
    body = Darknet(layers, (in_channels, *size))
    kinds = {"detection": cells_of, "region": region_of, "yolo": scale_of}
    heads: list[Head] = [kinds[layers[i].kind](layers[i]) for i in body.heads]
    fixed = size if any(part.kind in ("local", "connected") for part in layers) else None
    grain = max(size[0] // body.shapes[i][1] if not fixed else 1 for i in body.heads)
    return Yolo(
        body, heads, num_classes, normalize=Normalize(*for_channels(mean, std, in_channels)), fixed=fixed,
        multiple=max(grain, 1), score=score, before=before, overlap=overlap, most=most,
    )  # fmt: skip


def layers_of_yolov3(
    num_classes: int, *, width: int, depths: Sequence[int], spp: bool, anchors: Sequence[Sequence[float]]
) -> list[Section]:
    """The layers of `yolov3.cfg`, and with `spp` of `yolov3-spp.cfg`."""
    c = lambda share, size, stride=1: conv(width * share, size, stride)  # noqa: E731
    layers, ends = [c(1, 3)], []
    for i, depth in enumerate(depths):
        share = 2 ** (i + 1)
        layers.append(c(share, 3, 2))
        for _ in range(depth):
            layers += [c(share // 2, 1), c(share, 3), section("shortcut", **{"from": -3}, activation="linear")]
        ends.append(len(layers) - 1)
    for i, share in enumerate((16, 8, 4)):
        if i:
            layers += [section("route", layers=-4), c(share, 1), section("upsample", stride=2)]
            layers.append(section("route", layers=(-1, ends[-1 - i])))
        layers += [c(share, 1), c(share * 2, 3), c(share, 1)]
        if spp and i == 0:
            pools = [
                (section("maxpool", size=n, stride=1), section("route", layers=-2 * k)) for k, n in ((1, 5), (2, 9))
            ]
            layers += [*(x for pair in pools for x in pair), section("maxpool", size=13, stride=1)]
            layers += [section("route", layers=(-1, -3, -5, -6)), c(share, 1)]
        layers += [c(share * 2, 3), c(share, 1), c(share * 2, 3)]
        layers += _head(tuple(range(6 - 3 * i, 9 - 3 * i)), anchors, num_classes)
    return layers


def layers_of_tiny(num_classes: int, *, width: int, anchors: Sequence[Sequence[float]]) -> list[Section]:
    """The layers of `yolov3-tiny.cfg`."""
    c = lambda share, size: conv(width * share, size)  # noqa: E731
    layers = [x for i in range(5) for x in (conv(width * 2**i, 3), section("maxpool", size=2, stride=2))]
    return [
        *layers,
        c(32, 3), section("maxpool", size=2, stride=1), c(64, 3), c(16, 1), c(32, 3),
        *_head((3, 4, 5), anchors, num_classes),
        section("route", layers=-4), c(8, 1), section("upsample", stride=2), section("route", layers=(-1, 8)), c(16, 3),
        *_head((0, 1, 2), anchors, num_classes),
    ]  # fmt: skip


def _head(mine: Sequence[int], anchors: Sequence[Sequence[float]], num_classes: int) -> list[Section]:
    flat = [x for pair in anchors for x in pair]
    return [
        conv(len(mine) * (5 + num_classes), 1, norm=False, activation="linear"),
        section(
            "yolo", mask=mine, anchors=flat, classes=num_classes, num=len(anchors), ignore_thresh=0.7, truth_thresh=1
        ),
    ]
