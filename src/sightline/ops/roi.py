"""A map's content in a box, on a grid of fixed size: RoIAlign and RoIPool.

RoIAlign (He et al. 2017, arXiv:1703.06870, section 3): the mean of bilinear samples in every bin, nothing is rounded.
RoIPool (Girshick 2015, arXiv:1504.08083, section 2.1): the maximum over whole cells, corners rounded.

Sources differ in `aligned` (a pixel's centre stands at half, as detectron2 and mmdet have it, or at whole numbers, as
the first release and torchvision) and in the number of samples a bin (`ratio`, or as many as the bin has cells: 0).

Everything is a weighted sum over rows of one table that holds the places of all levels and pictures, channels last: a
box's level and picture are an offset. So there is no loop over levels, no list of boxes for each, and shapes are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def table_of(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Maps `(B, C, H, W)` of some levels as rows `(sum of B * H * W, C)`, and (first row, H, W) of each, `(L, 3)`."""
    rows, facts, first = [], [], 0
    for x in maps:
        batch, channels, height, width = x.shape
        rows.append(x.permute(0, 2, 3, 1).reshape(batch * height * width, channels))
        facts.append((first, height, width))
        first = first + batch * height * width
    device = maps[0].device
    shape = torch.stack([torch.stack([torch.full((), n, dtype=torch.long, device=device) for n in f]) for f in facts])
    return torch.cat(rows) if len(rows) > 1 else rows[0], shape


def roi_align(
    maps: Sequence[Tensor],
    boxes: Tensor,
    pictures: Tensor,
    size: int | tuple[int, int],
    *,
    scales: Sequence[float],
    levels: Tensor | None = None,
    ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Means of bilinear samples: `(R, C, *size)`.

    maps: `(B, C, H_l, W_l)` a level. boxes: `(R, 4)` in the picture's pixels; pictures: `(R,)` their places in the
    batch. scales: map cells a pixel, one a level. levels: `(R,)`, which map each box looks at; None: the first.
    ratio: samples a bin each way, 0: as many as the bin has cells, rounded up. aligned: see above; without it a box is
    at least one cell wide.
    """
    height, width = (size, size) if isinstance(size, int) else size
    table, shape = table_of(maps)
    levels = torch.zeros_like(pictures) if levels is None else levels
    first, rows, columns = shape[levels].unbind(-1)
    first = first + pictures * rows * columns
    scale = torch.tensor(scales, dtype=torch.float32, device=boxes.device)[levels]
    corners = boxes.float() * scale[:, None] - (0.5 if aligned else 0.0)
    sides = corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1.0)
    *y, tall = _samples(corners[:, 1], sides[:, 1], height, ratio, rows)
    *x, wide = _samples(corners[:, 0], sides[:, 0], width, ratio, columns)
    channels = maps[0].shape[1]
    if not torch.compiler.is_compiling() and boxes.shape[0] == 0:
        return table.new_zeros(0, channels, height, width) + 0.0 * table.sum()
    found = _weighted_sum(table, first, columns, y, x)  # (R, height * width, C)
    if not ratio:  # at the end, as others do: a mask's share of a cell may be one half, which a third of a third misses
        found = found / (tall * wide).to(found.dtype)[:, None, None]
    return found.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def _samples(start: Tensor, side: Tensor, bins: int, ratio: int, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: the two cells and weights of every sample, `(R, bins, S * 2)` each, and their number `(R,)`.

    Bilinear interpolation is a product of the two axes, and so is its mean over a grid, with zeros where a sample lies
    more than a cell outside. Weights hold the mean over the samples where all boxes have as many (`ratio`), else the
    sum.
    """
    unit = side / bins
    if ratio > 0:
        count, most = torch.full_like(unit, ratio), ratio
    else:
        count, most = _as_many_as_cells(unit)
    place = torch.arange(most, device=start.device, dtype=torch.float32)
    inside = place < count[:, None]  # (R, S); a box without area has no sample
    count = count.clamp(min=1)
    step = (place + 0.5) * (unit / count)[:, None]
    at = start[:, None, None] + torch.arange(bins, device=start.device)[:, None] * unit[:, None, None] + step[:, None]
    last = (cells - 1)[:, None, None]
    valid = (at >= -1.0) & (at <= cells[:, None, None]) & inside[:, None]  # (R, bins, S)
    at = at.clamp(min=0)
    low = torch.minimum(at.floor().long(), last)
    high = torch.minimum(low + 1, last)
    part = torch.where(low >= last, 0.0, at - low)
    weight = valid / ratio if ratio else valid.float()
    weights = torch.stack([weight * (1 - part), weight * part], -1).flatten(-2)
    return torch.stack([low, high], -1).flatten(-2), weights, count


STATIC = 4
"""Samples a bin, at most, in compiled programs, where shapes may not depend on the boxes."""


def _as_many_as_cells(unit: Tensor) -> tuple[Tensor, int]:
    """How many samples each box has in a bin of `unit` cells, `(R,)`, and the most of all."""
    count = torch.ceil(unit).clamp(min=0)
    if torch.compiler.is_compiling():
        return count.clamp(max=STATIC), STATIC
    return count, max(1, int(count.max())) if len(count) else 1


def _weighted_sum(table: Tensor, first: Tensor, columns: Tensor, y: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
    """Rows of `table` weighed and added for every bin: `(R, height * width, C)`."""
    rows, cells = y[0] * columns[:, None, None] + first[:, None, None], x[0]  # (R, height, Sy), (R, width, Sx)
    if torch.compiler.is_compiling():  # an embedding bag has no form in ONNX that is one pass
        total = torch.zeros((), device=table.device, dtype=table.dtype)
        for j in range(rows.shape[-1]):
            for i in range(cells.shape[-1]):
                where = (rows[:, :, None, j] + cells[:, None, :, i]).flatten(1)  # (R, height * width)
                weight = (y[1][:, :, None, j] * x[1][:, None, :, i]).flatten(1)
                total = total + table[where] * weight[..., None].to(table.dtype)
        return total
    where = rows[:, :, None, :, None] + cells[:, None, :, None, :]
    weight = y[1][:, :, None, :, None] * x[1][:, None, :, None, :]
    bags = where.shape[0] * where.shape[1] * where.shape[2]
    found = F.embedding_bag(
        where.reshape(bags, -1), table, per_sample_weights=weight.reshape(bags, -1).to(table.dtype), mode="sum"
    )
    return found.reshape(where.shape[0], -1, table.shape[1])


def roi_pool(
    x: Tensor, boxes: Tensor, pictures: Tensor, size: int | tuple[int, int], *, scale: float, most: int | None = None
) -> Tensor:
    """Maxima over whole cells: `(R, C, *size)`.

    x: `(B, C, H, W)`. boxes: `(R, 4)` in the picture's pixels; pictures: `(R,)`. scale: map cells a pixel. Corners are
    rounded (half away from zero), a box is its last cell minus its first plus one, at least one; bins overlap by the
    cells that both touch; a bin outside the map is 0. most: cells of the longest bin, None: what the map's size allows.

    A bin's maximum is that of four overlapping windows whose sides are powers of two: those are computed once for the
    map (a sparse table), so that a large bin costs as little as a small one.
    """
    height, width = (size, size) if isinstance(size, int) else size
    batch, _, rows, columns = x.shape
    corners = _half_away(boxes.float() * scale).long()
    y = _bins(corners[:, 1], corners[:, 3], height, rows)
    x_ = _bins(corners[:, 0], corners[:, 2], width, columns)
    powers = _powers(most, rows), _powers(most, columns)
    tables = _maxima(x, *powers)  # (powers y, powers x, B, H, W, C)
    table = tables.flatten(0, 4)
    picture = pictures[:, None, None]
    kind = y[2][:, :, None] * powers[1] + x_[2][:, None, :]  # (R, height, width): which window
    base = (kind * batch + picture) * rows
    found = torch.full((), -math.inf, device=x.device, dtype=x.dtype)
    for top in (y[0], y[1]):
        for left in (x_[0], x_[1]):
            where = (base + top[:, :, None]) * columns + left[:, None, :]
            found = torch.maximum(found, table[where])  # (R, height, width, C)
    some = (y[3][:, :, None] & x_[3][:, None, :])[..., None]
    return torch.where(some, found, 0.0).permute(0, 3, 1, 2)


def _half_away(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.floor(x.abs() + 0.5)


def _bins(low: Tensor, high: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Along one axis, `(R, bins)` each: starts of the two windows, their power of two, whether there is any cell."""
    unit = (high - low + 1).clamp(min=1).float() / bins
    n = torch.arange(bins, device=low.device)
    start = (torch.floor(n * unit[:, None]).long() + low[:, None]).clamp(0, cells)
    stop = (torch.ceil((n + 1) * unit[:, None]).long() + low[:, None]).clamp(0, cells)
    some = stop > start
    power = torch.floor(torch.log2((stop - start).clamp(min=1).float() + 0.5)).long()
    start = start.clamp(max=cells - 1)
    return start, torch.maximum(start, stop - 2**power), power, some


def _powers(most: int | None, cells: int) -> int:
    """How many powers of two windows need for bins of `most` cells: 1, 2, 4, ..."""
    return int(math.log2(max(1, cells if most is None else min(most, cells)))) + 1


def _maxima(x: Tensor, rows: int, columns: int) -> Tensor:
    """Maxima over windows of 2^i x 2^j cells that begin at each place, `(rows, columns, B, H, W, C)`."""
    x = x.permute(0, 2, 3, 1)
    found = []
    for i in range(rows):
        if i:
            x = torch.maximum(x, _shifted(x, 2 ** (i - 1), 1))
        line, along = [x], x
        for j in range(1, columns):
            along = torch.maximum(along, _shifted(along, 2 ** (j - 1), 2))
            line.append(along)
        found.append(torch.stack(line))
    return torch.stack(found)


def _shifted(x: Tensor, by: int, axis: int) -> Tensor:
    """`x` `(B, H, W, C)` moved by `by` cells towards the start of an axis, lowest values beyond the end."""
    pad = [0, 0, 0, 0, 0, 0]
    pad[2 * (3 - axis) + 1] = by
    return F.pad(x, pad, value=-math.inf).narrow(axis, by, x.shape[axis])
