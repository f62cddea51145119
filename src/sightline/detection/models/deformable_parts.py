"""Deformable parts.

Paper: Object Detection with Discriminatively Trained Part-Based Models (Felzenszwalb, Girshick, McAllester & Ramanan
2010, TPAMI 32(9)).

The idea: an object is a coarse outline (the root) and parts of twice its resolution that may move a little, each at a
cost that grows with the square of the way. The score of a place is the root's, plus the best of each part near where
it is expected, less its costs: two passes over the map find the best of all places (`ops/distance_transform.py`). Where
the parts were in a training picture nobody said; the machine says it itself, and learns from what it said.

It learns in stages (`detection/models/deformable_parts_stages.py`): `roots`, a sliding window for each component;
`parts`, put where the roots are strong; `latent`, as often as `rounds` says: the best places of true objects, hard
negatives, and one machine for all components of a class.

Departures: components are windows that the builder names (`windows`), and each true box learns from the one of its
shape, in place of clusters of boxes; the mirrored twin of a component shares its numbers, and begins equal to it; hinge
losses are squared; an answer's box is the root's, not one predicted from the parts; no rescoring by context.

Traits: `outside_graph`, gradients are counted by numpy, so it neither compiles nor exports; `head_only`, all weights
belong to a class. Loads nothing but its own files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Target, decode, whole
from sightline.detection.models.hog_svm import resized
from sightline.detection.plain import Windows, as_bytes, best_of, hinges, refuse_graphs, signs_of
from sightline.errors import UsageError
from sightline.ops.boxes import clip_boxes
from sightline.ops.distance_transform import best_nearby
from sightline.ops.hog import CELL, MIRRORED, PARTS_NUMBERS, hog_32

RIGHT, WRONG = 0.6, 0.3
"""IoU from which a place shows an object in `losses`, and below which it shows none."""

# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """One scale of a picture. root: `(32, R, C)` cells, padded. parts: `(32, 2R, 2C)`, of twice the resolution.

    scale: pixels of the picture in a pixel of the level, across and down. padding: cells of the root's map.
    """

    root: Tensor
    parts: Tensor
    scale: tuple[float, float]
    padding: tuple[int, int]

    def boxes(self, rows: NDArray, columns: NDArray, window: tuple[int, int]) -> NDArray[np.float64]:
        """Boxes `(N, 4)` in the picture, of a root of `window` cells at these places."""
        left, top = (columns - self.padding[1] + 1) * CELL, (rows - self.padding[0] + 1) * CELL
        corners = np.stack([left, top, left + window[1] * CELL, top + window[0] * CELL], 1).astype(np.float64)
        return corners * np.tile(self.scale, 2)


@dataclass(frozen=True)
class Response:
    """A component's answer to a level. margins: `(K, 2, Y, X)`, plain and mirrored; y, x: `(K, 2, P, Y, X)`, its parts'
    places in the map of parts.
    """

    margins: Tensor
    y: Tensor
    x: Tensor


def cells_of(pixels: NDArray[np.uint8], padding: tuple[int, int], size: tuple[int, int] | None = None) -> Tensor:
    """`(32, rows, columns)` of a picture, padded by cells that say so; cut or padded to `size` below and beside."""
    cells = hog_32(pixels)
    above, beside = padding
    rows, columns = size or (cells.shape[0] + 2 * above, cells.shape[1] + 2 * beside)
    found = np.zeros((rows, columns, PARTS_NUMBERS), np.float32)
    found[..., -1] = 1.0
    inner = cells[: max(0, rows - above), : max(0, columns - beside)]
    found[above : above + inner.shape[0], beside : beside + inner.shape[1]] = inner
    return torch.from_numpy(found).permute(2, 0, 1).contiguous()


def mirrored(filters: Tensor) -> Tensor:
    """Filters `(..., 32, h, w)` of the mirrored picture."""
    return filters.flip(-1).index_select(-3, torch.from_numpy(MIRRORED).to(filters.device))


# Network ---------------------------------------------------------------------------------------------------------


class DeformableParts(nn.Module):
    """Components of a root and parts, for each class.

    windows: height and width of each component's root, in cells. count, size: parts of a component, cells of their
    sides. interval: scales in an octave. score, overlap, most: as in `hog_svm`.
    """

    OPTIONAL = ()
    HEAD = ("roots.", "parts", "costs", "bias", "anchors")

    def __init__(
        self,
        num_classes: int,
        windows: Sequence[tuple[int, int]],
        *,
        count: int,
        size: int,
        interval: int,
        score: float,
        overlap: float,
        most: int,
    ) -> None:
        super().__init__()
        if not windows or any(2 * min(window) < size for window in windows) or interval < 1 or count < 1:
            raise UsageError(
                f"windows {list(windows)}, part {size}, parts {count}, interval {interval}: expected roots of at least "
                f"half a part, and 1 or more of each"
            )
        self.num_classes, self.windows, self.count, self.size = num_classes, tuple(windows), count, size
        self.interval, self.score, self.overlap, self.most = interval, score, overlap, most
        groups = (num_classes, len(windows))
        self.roots = nn.ParameterList([nn.Parameter(torch.zeros(num_classes, PARTS_NUMBERS, *w)) for w in windows])
        self.parts = nn.Parameter(torch.zeros(*groups, count, PARTS_NUMBERS, size, size))
        self.costs = nn.Parameter(torch.tensor([0.1, 0.0, 0.1, 0.0]).repeat(*groups, count, 1))  # dx^2, dx, dy^2, dy
        self.bias = nn.Parameter(torch.zeros(groups))
        self.register_buffer(
            "anchors", torch.zeros(*groups, count, 2)
        )  # row, column within the root, in cells of parts

    anchors: Tensor

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Windows:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        refuse_graphs("deformable_parts")
        limits = whole(images, sizes)
        seen = [self.everywhere(picture) for picture in as_bytes(images, limits)]
        margins = signs = found = None
        if targets is not None:
            margins = torch.cat([m for _, m in seen])
            signs = torch.cat(
                [
                    signs_of(boxes, targets, i, self.num_classes, right=RIGHT, wrong=WRONG)
                    for i, (boxes, _) in enumerate(seen)
                ]
            ).to(margins.device)
        if targets is None or not self.training:
            clipped = [clip_boxes(boxes.to(images.device), limits[i]) for i, (boxes, _) in enumerate(seen)]
            scores = [m.sigmoid() for _, m in seen]
            found = best_of(clipped, scores, least=self.score, overlap=self.overlap, most=self.most)
        return Windows(found, margins, signs)

    def everywhere(self, picture: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Every place of every component at every scale: boxes `(N, 4)`, margins `(N, K)`."""
        boxes, margins = [torch.zeros(0, 4)], [self.bias.new_zeros(0, self.num_classes)]
        for level in self.levels(picture):
            for m, window in enumerate(self.windows):
                found = self.respond(level, m)
                if found is None:
                    continue
                rows, columns = np.divmod(np.arange(found.margins[0, 0].numel()), found.margins.shape[-1])
                boxes.append(torch.from_numpy(level.boxes(rows, columns, window)).float())
                margins.append(found.margins.amax(1).flatten(1).T)
        return torch.cat(boxes), torch.cat(margins)

    def levels(self, picture: NDArray[np.uint8]) -> Iterator[Level]:
        """A picture `(H, W, C)` ever smaller, while one of the roots fits."""
        height, width = picture.shape[:2]
        padding = tuple(max(1, (max(w[axis] for w in self.windows) + 3) // 4) for axis in (0, 1))
        maps: dict[int, NDArray[np.uint8]] = {}

        def at(i: int) -> NDArray[np.uint8]:
            factor = 2 ** (-i / self.interval)
            if i not in maps:
                maps[i] = resized(picture, (max(1, round(height * factor)), max(1, round(width * factor))))
            return maps[i]

        for i in range(64 * self.interval):
            small = at(i)
            if all(small.shape[0] < h * CELL or small.shape[1] < w * CELL for h, w in self.windows):
                return
            root = cells_of(small, (padding[0], padding[1]))
            double = (2 * root.shape[1], 2 * root.shape[2])
            parts = cells_of(at(i - self.interval), (2 * padding[0] - 1, 2 * padding[1] - 1), double)
            scale = (width / small.shape[1], height / small.shape[0])
            device = self.bias.device
            yield Level(root.to(device), parts.to(device), scale, (padding[0], padding[1]))

    def respond(self, level: Level, m: int) -> Response | None:
        """Component `m` everywhere on a level; None where its root does not fit."""
        (high, wide), classes = self.windows[m], self.num_classes
        if level.root.shape[1] < high or level.root.shape[2] < wide:
            return None
        root = torch.stack([self.roots[m], mirrored(self.roots[m])], 1).flatten(0, 1)
        margins = F.conv2d(level.root[None], root)[0].unflatten(0, (classes, 2)) + self.bias[:, m, None, None, None]
        parts = torch.stack([self.parts[:, m], mirrored(self.parts[:, m])], 1).flatten(0, 2)  # K, 2, P
        scores = F.conv2d(level.parts[None], parts)[0]
        costs, anchors = self.places(m)
        rows, columns = (
            2 * torch.arange(n, device=scores.device) + anchors.flatten(0, 2)[:, axis, None]
            for axis, n in enumerate(margins.shape[-2:])
        )
        best, y, x = best_nearby(scores, costs.flatten(0, 2), rows, columns)
        shape = (classes, 2, self.count)
        margins = margins + best.unflatten(0, shape).sum(2)
        return Response(margins, y.unflatten(0, shape), x.unflatten(0, shape))

    def places(self, m: int) -> tuple[Tensor, Tensor]:
        """Costs `(K, 2, P, 4)` and anchors `(K, 2, P, 2)` of component `m`, plain and mirrored."""
        costs, anchors = self.costs[:, m], self.anchors[:, m]
        turned = anchors.clone()
        turned[..., 1] = 2 * self.windows[m][1] - self.size - anchors[..., 1]
        other = costs * costs.new_tensor([1.0, -1.0, 1.0, 1.0])
        return torch.stack([costs, other], 1), torch.stack([anchors, turned], 1)

    def losses(self, out: Windows, targets: Target) -> dict[str, Tensor]:
        """Learn: `right` and `wrong`, the mean squared hinge of places with and without an object."""
        return hinges(out)

    def decode(self, out: Windows, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


# Builder ---------------------------------------------------------------------------------------------------------


def deformable_parts(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    windows: Sequence[Sequence[int]] = ((14, 5),),
    parts: int = 8,
    part: int = 6,
    interval: int = 5,
    score: float = 0.2,
    overlap: float = 0.5,
    most: int = 100,
) -> DeformableParts:
    """Deformable parts with a root of each of `windows`: heights and widths in cells of 8 pixels.

    parts, part: parts of a component, cells of their sides at twice the root's resolution. interval: scales in an
    octave (the paper has 10). score, overlap, most: the least score of an answer, the IoU at which answers of a class
    suppress each other, answers a picture. in_channels: of pictures; at each pixel the channel with the steepest slope
    counts.
    """
    if any(len(window) != 2 for window in windows) or in_channels < 1:
        raise UsageError(f"windows {list(windows)}: expected heights and widths; in_channels {in_channels} at least 1")
    sizes = [(int(h), int(w)) for h, w in windows]
    return DeformableParts(
        num_classes, sizes, count=parts, size=part, interval=interval, score=score, overlap=overlap, most=most
    )


KEY_MAPS = ()
