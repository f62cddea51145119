"""Running a network of patches over a picture so that every pixel gets the answer of its own patch.

A patch network (LeCun-style: convolutions and poolings without padding, then one value a class) answers for the middle
of a patch of `field` pixels and steps by `stride`. Three ways give every pixel its answer, the same to the last bits:

| way       | what is done                                                   | cost                     |
|-----------|----------------------------------------------------------------|--------------------------|
| `patches` | cut one patch around every pixel                               | field^2 / stride^2 times |
| `stitch`  | shift the picture stride x stride times, interleave            | once for every shift     |
| `dilated` | take the strides out, let later layers look further apart      | the least                |

`strided` is none of them: the plain network, one answer every `stride` pixels. Sources: Giusti et al. 2013
(arXiv:1302.1700), Sermanet et al. 2014 (arXiv:1312.6229), Long et al. 2015 (arXiv:1411.4038, section 3.2).

Letters: B pictures, C channels, K values a place, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol, get_args, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError, did_you_mean
from sightline.ops.resize import Padding, pad
from sightline.ops.stitch import every_patch, shift_and_stitch

Way = Literal["strided", "patches", "stitch", "dilated"]


@runtime_checkable
class Dilatable(Protocol):
    """A convolution of another kind than `nn.Conv2d` that can look further apart."""

    kernel_size: tuple[int, int]

    def dilated(self, x: Tensor, step: int) -> Tensor:
        """As `forward`, its kernel's samples `step` pixels apart."""
        ...


def field_and_stride(layers: Iterable[nn.Module]) -> tuple[int, int]:
    """Pixels of a side that one answer of unpadded, square `layers` depends on, and pixels between two answers."""
    field = stride = 1
    for layer in layers:
        kernel, step = _reach(layer)
        field += (kernel - 1) * stride
        stride *= step
    return field, stride


def run_dilated(layers: Iterable[nn.Module], x: Tensor, *, step: int = 1) -> Tensor:
    """`layers` without their strides: `(B, C, H, W)` to `(B, K, H - field + 1, W - field + 1)`, at `step` 1.

    Kernels and weights stay; whatever follows a stride of s looks s times further apart, poolings too. step: how far
    apart the first layer looks, for maps that were made by an earlier dilated network.
    """
    for layer in layers:
        stride = _reach(layer)[1]
        if isinstance(layer, nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, dilation=step, groups=layer.groups)
        elif isinstance(layer, nn.MaxPool2d):
            x = F.max_pool2d(x, layer.kernel_size, stride=1, dilation=step)
        elif isinstance(layer, nn.AvgPool2d):
            raise UsageError("PyTorch's mean pooling cannot be dilated; use the way 'stitch'")
        else:
            x = layer.dilated(x, step) if isinstance(layer, Dilatable) else layer(x)
        step *= stride
    return x


def answer_pixels(
    network: Callable[[Tensor], Tensor],
    dense: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    field: int,
    stride: int,
    way: Way,
    padding: Padding = "zeros",
) -> Tensor:
    """An answer for every pixel, `(B, K, H, W)`; `strided`: for every `stride`-th one, from the first on.

    network: the patch network; dense: the same without strides. The picture is continued by `padding`; pixel (y, x) has
    field // 2 pixels before it in its patch.
    """
    if way not in get_args(Way):
        raise UsageError(
            f"way '{way}' is unknown; choose from {', '.join(get_args(Way))}.{did_you_mean(way, get_args(Way))}"
        )
    if way == "stitch":
        return shift_and_stitch(network, x, field=field, stride=stride, padding=padding)
    if way == "patches":
        return every_patch(network, x, field=field, padding=padding)
    before, after = field // 2, field - 1 - field // 2
    return (dense if way == "dilated" else network)(pad(x, (before, after, before, after), padding))


def _reach(layer: nn.Module) -> tuple[int, int]:
    """Kernel and stride of a layer without padding; (1, 1) of whatever works on single places."""
    if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, Dilatable)):
        return 1, 1
    kernel, stride = (_one(getattr(layer, name, 1)) for name in ("kernel_size", "stride"))
    padding, dilation = (_one(getattr(layer, name, usual)) for name, usual in (("padding", 0), ("dilation", 1)))
    if padding or dilation != 1 or getattr(layer, "ceil_mode", False):
        raise UsageError(f"{layer} cannot stand in a patch network: no padding, dilation or ceil mode inside")
    return kernel, stride


def _one(value: object) -> int:
    sides = value if isinstance(value, tuple) else (value,)
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise UsageError(f"a patch network is the same along both axes; {value} is not")
    return sides[0]
