"""Dense answers from a network with strides: shift-and-stitch (Sermanet et al. 2014; Long et al. 2015, section 3.2).

A network that reduces its input by `stride` answers for every stride-th pixel. Run on each of the stride x stride
shifted pictures and interleaved, its answers are, number for number, those of cutting one patch around every
pixel, at a small part of the cost.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sightline.ops.resize import Padding, pad


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
