"""Anchors: the reference boxes a detector's head starts from, as each source rounds them.

A cell has one anchor for every size and ratio (height / width); the grid repeats it every `stride` pixels. Sources
differ in three things, which are arguments here: whether the cell's corners are rounded to whole pixels (torchvision),
whether the size or the ratio runs fastest, and where in a cell the centre stands (`offset`, in strides).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Order = Literal["ratio_first", "size_first"]


def cell_anchors(
    sizes: Sequence[float], ratios: Sequence[float], *, rounded: bool = False, order: Order = "ratio_first"
) -> Tensor:
    """Boxes `(len(sizes) * len(ratios), 4)` centred on 0, float32: every ratio (height / width) keeps the area size^2.

    rounded: corners are rounded to whole pixels, half to even, as torchvision does. order: `ratio_first`: all sizes of
    the first ratio, then of the second (torchvision); `size_first`: all ratios of the first size, ... (detectron2).
    """
    scale, ratio = torch.tensor(sizes, dtype=torch.float32), torch.tensor(ratios, dtype=torch.float32)
    tall = ratio.sqrt()
    if order == "ratio_first":
        width, height = (1 / tall)[:, None] * scale[None, :], tall[:, None] * scale[None, :]
    else:
        width = (scale[:, None] ** 2 / ratio[None, :]).sqrt()
        height = width * ratio[None, :]
    half = torch.stack([width, height], dim=-1).flatten(0, 1) / 2
    boxes = torch.cat([-half, half], dim=-1)
    return boxes.round() if rounded else boxes


def legacy_cell_anchors(
    base: int = 16, ratios: Sequence[float] = (0.5, 1, 2), scales: Sequence[float] = (8, 16, 32)
) -> Tensor:
    """The cell of py-faster-rcnn, float64 `(A, 4)`: inclusive pixels, widths rounded before heights follow from them.

    The base box is 0, 0, base - 1, base - 1 (centre 7.5 for 16); scales run fastest.
    """
    centre = (base - 1) / 2
    rows = []
    for ratio in ratios:
        width = round((base * base / ratio) ** 0.5)
        height = round(width * ratio)
        for scale in scales:
            w, h = (width * scale - 1) / 2, (height * scale - 1) / 2
            rows.append([centre - w, centre - h, centre + w, centre + h])
    return torch.tensor(rows, dtype=torch.float64)


def grid_anchors(cell: Tensor, height: int, width: int, stride: tuple[int, int], *, offset: float = 0.0) -> Tensor:
    """`cell` `(A, 4)` on a map of `height` x `width` places: `(height * width * A, 4)`; rows, columns, then anchors.

    stride: pixels from a place to the next, down and across. offset: where the centre stands in its cell, in strides.
    """
    y = (torch.arange(height, device=cell.device, dtype=cell.dtype) + offset) * stride[0]
    x = (torch.arange(width, device=cell.device, dtype=cell.dtype) + offset) * stride[1]
    centre = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)  # (height, width, 2)
    return (torch.cat([centre, centre], dim=-1)[:, :, None, :] + cell).reshape(-1, 4)
