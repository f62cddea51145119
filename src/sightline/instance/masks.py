"""Masks of objects in forms that do not fill memory, until somebody asks for pixels.

A hundred masks of a 1080p picture are 200 MB of flags. What networks say is far smaller, and stays so here: a grid of
probabilities in each box (`BoxMasks`: Mask R-CNN), maps at a fraction of the picture's size (`MapMasks`: SOLO, YOLACT),
outlines (`Outlines`: PolarMask), run lengths (`RunMasks`: files). All four are `sightline.detection.answer.Masks`.

Pasting a grid into its box looks at the box alone. Two rules of where a pixel lies in the box are in use, and differ at
the border: `centres` samples the grid at the pixels' centres (detectron2, mmdet), `whole` stretches it over whole
pixels, the box cut to integers and one pixel wider (torchvision).

Letters: N objects, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sightline.datasets.paint import counts_of, inside_of, text_of
from sightline.errors import SightlineError

PasteRule = Literal["centres", "whole"]
Size = tuple[int, int]

AT_ONCE = 8
"""Maps that are enlarged together: a picture of 8,000 pixels must not take all memory."""


@dataclass(frozen=True)
class BoxMasks:
    """A grid of probabilities in each box.

    boxes: `(N, 4)` in pixels of a picture of `size` (height, width). inside: `(N, h, w)` in [0, 1]. rule: see above.
    A pixel belongs to the object from `threshold` on.
    """

    boxes: Tensor
    inside: Tensor
    size: Size
    rule: PasteRule = "centres"
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> BoxMasks:
        """Some of them, by indices or flags `(N,)`."""
        return replace(self, boxes=self.boxes[index], inside=self.inside[index])

    def scaled(self, size: Size) -> BoxMasks:
        """The same for the picture at another size."""
        if size == self.size:
            return self
        down, across = (torch.tensor(float(a)) / torch.tensor(float(b)) for a, b in zip(size, self.size))
        factor = torch.stack([across, down, across, down]).to(self.boxes.device)  # as `Detections.scaled` has it
        return replace(self, boxes=self.boxes * factor, size=size)

    def windows(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows and columns of the picture that each object can touch, and its probabilities there."""
        if self.rule == "whole":
            yield from _whole_windows(self.boxes, self.inside, self.size)
            return
        for box, grid in zip(self.boxes.tolist(), self.inside):
            rows, y = _centres(box[1], box[3], grid.shape[0], self.size[0], grid)
            columns, x = _centres(box[0], box[2], grid.shape[1], self.size[1], grid)
            yield rows, columns, y @ grid.float() @ x.T

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        found = torch.zeros(len(self), *self.size, dtype=torch.bool, device=self.inside.device)
        for mask, (rows, columns, values) in zip(found, self.windows()):
            torch.ge(values, self.threshold, out=mask[rows, columns])
        return found

    def probabilities(self) -> Tensor:
        """The same before the threshold, 0 outside the boxes: `(N, H, W)` float32."""
        found = torch.zeros(len(self), *self.size, device=self.inside.device)
        for mask, (rows, columns, values) in zip(found, self.windows()):
            mask[rows, columns] = values
        return found

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        return [
            coded(
                window_runs((values >= self.threshold).cpu().numpy(), rows.start, columns.start, self.size), self.size
            )
            for rows, columns, values in self.windows()
        ]


def _centres(low: float, high: float, cells: int, pixels: int, like: Tensor) -> tuple[slice, Tensor]:
    """Along one axis: the pixels a box can touch, and the weight of each cell at their centres, `(pixels, cells)`."""
    start = min(max(math.floor(low) - 1, 0), pixels)
    stop = max(min(math.ceil(high) + 1, pixels), start)
    centre = torch.arange(start, stop, device=like.device, dtype=torch.float32) + 0.5
    place = (centre - low) / max(high - low, 1e-6) * cells - 0.5
    cell = torch.arange(cells, device=like.device, dtype=torch.float32)
    return slice(start, stop), (1 - (place[:, None] - cell).abs()).clamp(min=0)


def _whole_windows(boxes: Tensor, inside: Tensor, size: Size) -> Iterator[tuple[slice, slice, Tensor]]:
    """Windows by torchvision's rule: a cell of zeros around the grid, the box grown by it and cut to integers."""
    height, width = inside.shape[-2:]
    grids = F.pad(inside.float(), (1, 1, 1, 1))[:, None]
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5
    centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    half = half * torch.tensor([(width + 2) / width, (height + 2) / height], device=boxes.device)
    corners = torch.cat([centre - half, centre + half], dim=-1).to(torch.int64)
    for (x0, y0, x1, y1), grid in zip(corners.tolist(), grids):
        values = F.interpolate(
            grid[None], size=(max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1)), mode="bilinear", align_corners=False
        )[0, 0]
        rows, columns = _cut(y0, y1, size[0]), _cut(x0, x1, size[1])
        yield rows, columns, values[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]


def _cut(low: int, high: int, pixels: int) -> slice:
    start = min(max(low, 0), pixels)
    return slice(start, max(min(high + 1, pixels), start))


@dataclass(frozen=True)
class MapMasks:
    """Maps of probabilities at a fraction of the picture's size.

    maps: `(N, h, w)`, over `covers` (height, width) pixels of the network's input, of which `valid` are the picture.
    size: of the picture that `dense` answers for. twice: enlarge to the network's input first and from there to the
    picture (mmdet's SOLO), instead of at once, which is only possible where nothing is padded (YOLACT).
    A pixel belongs to the object above `threshold`.
    """

    maps: Tensor
    covers: Size
    valid: Size
    size: Size
    twice: bool = True
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Tensor) -> MapMasks:
        """Some of them, by indices or flags `(N,)`."""
        return replace(self, maps=self.maps[index])

    def scaled(self, size: Size) -> MapMasks:
        """The same for the picture at another size."""
        return replace(self, size=size)

    def _enlarged(self) -> Iterator[Tensor]:
        for some in self.maps.split(AT_ONCE):
            x = some[None].float()
            if self.twice or self.covers != self.valid:
                x = F.interpolate(x, size=self.covers, mode="bilinear", align_corners=False)
                x = x[..., : self.valid[0], : self.valid[1]]
            yield F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)[0] > self.threshold

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        found = torch.zeros(len(self), *self.size, dtype=torch.bool, device=self.maps.device)
        if len(self):
            torch.cat(list(self._enlarged()), out=found)
        return found

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        if not len(self):
            return []
        masks = (mask for some in self._enlarged() for mask in some.cpu().numpy())
        return [coded(window_runs(mask, 0, 0, self.size), self.size) for mask in masks]


@dataclass(frozen=True)
class Outlines:
    """Closed polygons. points: `(N, V, 2)`, x and y in pixels of a picture of `size` (height, width)."""

    points: Tensor
    size: Size

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor) -> Outlines:
        """Some of them, by indices or flags `(N,)`."""
        return replace(self, points=self.points[index])

    def scaled(self, size: Size) -> Outlines:
        """The same for the picture at another size."""
        factor = torch.tensor([size[1] / self.size[1], size[0] / self.size[0]], device=self.points.device)
        return replace(self, points=self.points * factor, size=size)

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        return RunMasks(tuple(self.runs()), self.size).dense().to(self.points.device)

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        return [filled([outline.ravel()], self.size) for outline in self.points.double().cpu().numpy()]


@dataclass(frozen=True)
class RunMasks:
    """Run lengths as COCO stores them. coded: `{"size": [H, W], "counts": text or list}` each."""

    coded: Sequence[dict[str, Any]]
    size: Size

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: Tensor) -> RunMasks:
        """Some of them, by indices or flags `(N,)`."""
        chosen = torch.arange(len(self))[index.cpu()]
        return replace(self, coded=tuple(self.coded[i] for i in chosen.tolist()))

    def scaled(self, size: Size) -> RunMasks:
        """The same for the picture at another size: each pixel as the nearest one was."""
        if size == self.size:
            return self
        masks = self.dense()
        rows, columns = (((torch.arange(n) + 0.5) * (m / n)).long() for n, m in zip(size, self.size))
        return RunMasks.of(masks[:, rows[:, None], columns])

    @staticmethod
    def of(masks: Tensor) -> RunMasks:
        """Masks `(N, H, W)` of flags as run lengths."""
        size = (masks.shape[-2], masks.shape[-1])
        return RunMasks(tuple(coded(window_runs(mask, 0, 0, size), size) for mask in masks.bool().cpu().numpy()), size)

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        found = torch.zeros(len(self), *self.size, dtype=torch.bool)
        for mask, runs in zip(found, self.coded):
            mask.copy_(torch.from_numpy(decoded(runs)))
        return found

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        return [r if isinstance(r["counts"], str) else coded(r["counts"], tuple(r["size"])) for r in self.coded]


# Run lengths ------------------------------------------------------------------------------------------------------


def window_runs(inside: NDArray[np.bool_], top: int, left: int, size: Size) -> NDArray[np.int64]:
    """Run lengths down the columns of a picture of `size`, beginning with background, of a mask in a window of it.

    inside: `(h, w)`; its first pixel stands at row `top`, column `left`. Nothing outside the window is looked at.
    """
    height = size[0]
    columns = np.zeros((inside.shape[1], inside.shape[0] + 2), np.int8)
    columns[:, 1:-1] = inside.T
    change = np.diff(columns, axis=1)  # 1 where a run begins, -1 one below its last pixel
    column, row = np.nonzero(change)
    place = (column + left) * height + row + top
    begins, ends = place[0::2], place[1::2]
    goes_on = ends[:-1] == begins[1:]  # from the bottom of a column to the top of the next
    if len(begins):
        begins, ends = begins[np.r_[True, ~goes_on]], ends[np.r_[~goes_on, True]]
    edges = np.stack([begins, ends], axis=1).ravel() if len(begins) else np.zeros(0, np.int64)
    counts = np.diff(np.concatenate([[0], edges, [height * size[1]]]))
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def coded(counts: Any, size: Size) -> dict[str, Any]:
    """Run lengths as COCO writes them into a file."""
    return {"size": [int(size[0]), int(size[1])], "counts": text_of(counts)}


def decoded(runs: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask `(H, W)` of one object of a COCO file; raises `SightlineError` where the runs do not fit its size."""
    height, width = (int(n) for n in runs["size"])
    counts = runs["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    try:
        counts = counts_of(counts, limit=height * width + 1) if isinstance(counts, str) else [int(c) for c in counts]
    except ValueError as error:
        raise SightlineError(f"the run lengths of a mask cannot be read ({error}); export it again") from error
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise SightlineError(f"run lengths cover {sum(counts)} pixels, expected {height} x {width}; export them again")
    return np.ascontiguousarray(inside_of(counts, (height, width), by_rows=False))


def filled(polygons: Sequence[NDArray[np.float64]], size: Size) -> dict[str, Any]:
    """Run lengths of the union of polygons (x0, y0, x1, y1, ... each), filled as the reference tools of COCO do."""
    from pycocotools import mask as coco

    listed: Any = [list(map(float, p)) for p in polygons]
    union = coco.merge(coco.frPyObjects(listed, *size))
    counts = union["counts"]
    return {"size": list(size), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def filled_in_box(polygons: Sequence[NDArray[np.float64]], box: Sequence[float], side: int) -> NDArray[np.bool_]:
    """What lies of an object's polygons in a box, on a grid of `side` x `side` cells: `(side, side)`.

    The outline itself is moved and stretched, and then filled: finer than cutting a mask of pixels (detectron2).
    """
    x0, y0, x1, y1 = np.asarray(box, np.float32)  # and so are the factors: the filling rounds, and ties are common
    across, down = (np.float32(side) / max(length, np.float32(0.1)) for length in (x1 - x0, y1 - y0))
    moved = []
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).copy()
        points[0::2] = (points[0::2] - x0) * across
        points[1::2] = (points[1::2] - y0) * down
        moved.append(points)
    return decoded(filled(moved, (side, side)))
