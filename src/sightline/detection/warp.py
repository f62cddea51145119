"""Regions of a picture warped to one size, with context around them (Girshick et al. 2014, appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor


def warp_regions(image: Tensor, boxes: Tensor, size: int, *, context: int = 16, fill: Tensor | None = None) -> Tensor:
    """Every box `(N, 4)` of a picture `(C, H, W)`, stretched to `size` x `size` pixels: `(N, C, size, size)`.

    context: pixels of the warped region around the box, on each side: the box is widened before it is cut. What then
    lies outside of the picture is `fill` `(C,)`, 0 when None. Between pixels bilinear, without anti-aliasing. Corners
    are rounded and both of their pixels count, as in R-CNN's program.
    """
    height, width = image.shape[1:]
    scale = size / (size - 2 * context)
    x, on_x = _along(boxes[:, 0], boxes[:, 2], width, size, scale)
    y, on_y = _along(boxes[:, 1], boxes[:, 3], height, size, scale)
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    across, down = (x - x0)[:, None, :], (y - y0)[:, :, None]
    flat = image.flatten(1)

    def rows(at: Tensor) -> Tensor:
        near, far = (flat[:, at[:, :, None] * width + column[:, None, :]] for column in (x0, x1))
        return near + (far - near) * across  # (C, N, size, size)

    top, bottom = rows(y0), rows(y1)
    found = (top + (bottom - top) * down).transpose(0, 1)
    inside = (on_y[:, :, None] & on_x[:, None, :])[:, None]
    empty = found.new_zeros(len(image)) if fill is None else fill.to(found.dtype)
    return torch.where(inside, found, empty[None, :, None, None])


def _along(low: Tensor, high: Tensor, limit: int, size: int, scale: float) -> tuple[Tensor, Tensor]:
    """Where each of `size` pixels of a region lies in the picture, along one axis: `(N, size)`, and whether inside."""
    centre, half = (low + high) / 2, (high - low) / 2 * scale
    begin, end = (centre - half + 0.5).floor(), (centre + half + 0.5).floor() + 1
    start, stop = begin.clamp(0, limit - 1), end.clamp(1, limit)
    stop = torch.maximum(stop, start + 1)
    length, whole = stop - start, (end - begin).clamp(min=1)
    before = ((start - begin) * size / whole + 0.5).floor()
    taken = torch.minimum((length * size / whole + 0.5).floor(), size - before).clamp(min=1)
    place = torch.arange(size, device=low.device) - before[:, None]
    at = (place + 0.5) * (length / taken)[:, None] - 0.5
    at = torch.minimum(at.clamp(min=0), (length - 1)[:, None]) + start[:, None]
    return at, (place >= 0) & (place < taken[:, None])
