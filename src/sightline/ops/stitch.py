"""Dense answers from a network with strides: shift-and-stitch (Sermanet et al. 2014; Long et al. 2015, section 3.2).

A network that reduces its input by `stride` answers for every stride-th pixel. Run on each of the stride x stride
shifted pictures and interleaved, its answers are, number for number, those of cutting one patch around every
pixel, at a small part of the cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.ops.resize import Padding, pad


def every_patch(
    network: Callable[[Tensor], Tensor], x: Tensor, *, field: int, padding: Padding = "zeros", batch: int = 4096
) -> Tensor:
    """An answer for every pixel from a patch of its own: `(B, C, H, W)` to `(B, K, H, W)`, `batch` patches at a time.

    network: `(N, C, field, field)` to `(N, K, 1, 1)`. Pixel (y, x) has field // 2 pixels before it in its patch; beyond
    its borders the picture is continued by `padding`. The slow way that all others must equal.
    """
    before, after = field // 2, field - 1 - field // 2
    height, width = x.shape[2:]
    windows = pad(x, (before, after, before, after), padding).unfold(2, field, 1).unfold(3, field, 1)
    rows = max(1, batch // width)
    answers = [
        network(windows[k, :, y : y + rows].permute(1, 2, 0, 3, 4).flatten(0, 1)).flatten(1)
        for k in range(len(x))
        for y in range(0, height, rows)
    ]
    return torch.cat(answers).unflatten(0, (len(x), height, width)).permute(0, 3, 1, 2)


def shift_and_stitch(
    network: Callable[[Tensor], Tensor], x: Tensor, *, field: int, stride: int, padding: Padding = "zeros"
) -> Tensor:
    """An answer for every pixel: `(B, C, H, W)` to `(B, K, H, W)`.

    network: `(B, C, h, w)` to `(B, K, (h - field) // stride + 1, ...)`: convolutions and poolings without padding
    inside, in eval mode, with the receptive field `field`. Beyond its borders the picture is continued by `padding`;
    pixel (y, x) has field // 2 pixels before it in its patch.
    """
    before, after = field // 2, field - 1 - field // 2
    height, width = x.shape[2:]
    x = pad(x, (before, after, before, after), padding)
    dense: Tensor | None = None
    for dy in range(min(stride, height)):
        for dx in range(min(stride, width)):
            answer = network(x[:, :, dy:, dx:])
            if dense is None:
                dense = answer.new_zeros(*answer.shape[:2], height, width)
            dense[:, :, dy::stride, dx::stride] = answer
    assert dense is not None, "a picture has pixels"
    return dense
