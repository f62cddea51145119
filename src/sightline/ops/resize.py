"""Changing the size of pictures and maps: resize rules named by who uses them, padding and back, cropping.

The rule is part of a network: weights trained with corners aligned give other labels under another rule, without
any error. Letters: B items, C channels, then one to three axes of space (`*space`: length; height, width; depth,
height, width).

| rule            | sample i of m looks, among n, at          | who uses it                                     |
|-----------------|-------------------------------------------|-------------------------------------------------|
| `half_pixel`    | (i + 1/2) * n/m - 1/2, linear             | torchvision, mmsegmentation, TensorFlow 2       |
| `align_corners` | i * (n-1)/(m-1), linear                   | hszhao/semseg (PSPNet), DeepLab in TensorFlow   |
| `nearest`       | floor(i * n/m)                            | PyTorch's "nearest", OpenCV                     |
| `nearest_exact` | floor((i + 1/2) * n/m)                    | Pillow, scikit-image; label maps                |
| `area`          | the mean of the cells under it            | OpenCV's INTER_AREA, adaptive pooling           |
| `antialias`     | `half_pixel`, a wider tent when shrinking | Pillow, torchvision.transforms (two axes only)  |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UsageError, did_you_mean
from sightline.ops.window import mirror

Rule = Literal["half_pixel", "align_corners", "nearest", "nearest_exact", "area", "antialias"]
Padding = Literal["zeros", "reflect", "replicate"]
Pads = tuple[int, ...]
"""Before and after, the last axis first, as `torch.nn.functional.pad` counts: `(left, right, top, bottom)`."""

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(x: Tensor, size: Sequence[int], *, rule: Rule = "half_pixel") -> Tensor:
    """Resize `(B, C, *space)` to `(B, C, *size)` by the rule of the table above.

    The two nearest rules take any type (label maps keep their values); the others want floating point, or uint8
    pictures of two axes. Raises `UsageError` for an unknown rule or a size that does not fit.
    """
    space = x.ndim - 2
    size = list(size)
    if rule not in get_args(Rule):
        raise UsageError(
            f"unknown resize rule '{rule}', expected one of {', '.join(get_args(Rule))}."
            f"{did_you_mean(str(rule), get_args(Rule))}"
        )
    if space not in _LINEAR or len(size) != space:
        raise UsageError(f"cannot resize a tensor of shape {tuple(x.shape)} to {size}: give one length for each axis")
    if rule in ("nearest", "nearest_exact"):
        return _nearest(x, size, exact=rule == "nearest_exact")
    if rule == "area":
        return F.interpolate(x, size=size, mode="area")
    if rule == "antialias" and space != 2:
        raise UsageError("the resize rule 'antialias' is for two axes; use 'half_pixel' or 'area' for others")
    return F.interpolate(
        x, size=size, mode=_LINEAR[space], align_corners=rule == "align_corners", antialias=rule == "antialias"
    )


def _nearest(x: Tensor, size: list[int], *, exact: bool) -> Tensor:
    if x.is_floating_point():
        return F.interpolate(x, size=size, mode="nearest-exact" if exact else "nearest")
    for axis, (n, m) in enumerate(zip(x.shape[2:], size), start=2):  # interpolate knows few integer types
        i = torch.arange(m, device=x.device)
        source = (2 * i + 1) * n // (2 * m) if exact else i * n // m
        x = select(x, axis, source)
    return x


def select(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """`x.index_select(axis, index)`; bytes in the computer's memory are fetched by NumPy, three times as fast."""
    if x.dtype == torch.uint8 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(x.numpy().take(index.numpy(), axis))
    return x.index_select(axis, index)


def pad_to_multiple(
    x: Tensor, multiple: int | Sequence[int], mode: Padding = "zeros", *, plus: int = 0
) -> tuple[Tensor, Pads]:
    """Pad `(B, C, *space)` at the end of each axis (bottom, right) to a multiple of `multiple`, and `plus` more.

    Returns the padded tensor and the pads that `unpad` takes off again. `multiple` is one number or one an axis.
    plus: 1 for networks whose corners are aligned: of 8 k + 1 pixels every eighth is seen, the first and the last too.
    """
    lengths = x.shape[2:]
    multiples = [multiple] * len(lengths) if isinstance(multiple, int) else list(multiple)
    pads: Pads = ()
    for n, m in zip(reversed(lengths), reversed(multiples), strict=True):
        pads += (0, m - 1 - (n - plus + m - 1) % m)  # (plus - n) % m, but compilers know no remainder of less than 0
    return pad(x, pads, mode), pads


def pad(x: Tensor, pads: Pads, mode: Padding = "zeros") -> Tensor:
    """Grow `(B, C, *space)` by `pads`, the last axis first (`(left, right, top, bottom)`).

    `reflect` mirrors without repeating the edge, as often as it takes: unlike PyTorch's own it accepts a pad that is
    larger than the picture. `replicate` repeats the edge.
    """
    if mode == "zeros":
        return F.pad(x, list(pads))
    if mode not in get_args(Padding):
        raise UsageError(f"unknown padding '{mode}', expected one of {', '.join(get_args(Padding))}")
    for k in range(len(pads) // 2):
        axis, before, after = x.ndim - 1 - k, pads[2 * k], pads[2 * k + 1]
        n = x.shape[axis]
        i = torch.arange(-before, n + after, device=x.device)
        x = x.index_select(axis, mirror(i, n) if mode == "reflect" else i.clamp(0, n - 1))
    return x


def unpad(x: Tensor, pads: Pads) -> Tensor:
    """Take off what `pad` or `pad_to_multiple` added: a view of `(..., *space)`."""
    for k in range(len(pads) // 2):
        axis, before, after = x.ndim - 1 - k, pads[2 * k], pads[2 * k + 1]
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def top_left(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `(..., *size)` of `(..., *space)`: takes off what was padded at the end.

    For networks that pad and crop inside. A program exported from slices would be bound to sizes that need a crop, or
    to those that need none; in such a program the pixels are fetched by their places instead, which takes both.
    """
    first = x.ndim - len(size)
    for axis, length in enumerate(size, start=first):
        if torch.compiler.is_compiling():
            x = x.index_select(axis, torch.arange(length, device=x.device))
        else:
            x = x.narrow(axis, 0, length)
    return x


def centre_crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The middle `(..., *size)` of `(..., *space)`, a view.

    Half the difference, rounded down, is dropped at the top and left, the rest at the bottom and right.
    """
    first = x.ndim - len(size)
    for axis, length in enumerate(size, start=first):
        spare = x.shape[axis] - length
        if spare < 0:
            raise UsageError(f"cannot crop {tuple(x.shape[first:])} to {tuple(size)}: the crop must not be larger")
        x = x.narrow(axis, spare // 2, length)
    return x
