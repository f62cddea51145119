"""How one framework's tensor becomes another's: named pure functions with a read and a write direction.

A row of a key map names one of these when a tensor is not simply renamed. `read` turns public tensors into ours,
`write` turns ours back into public ones; what a user loads and saves again is unchanged.

Letters: O output channels, I input channels, H x W (or D x H x W) the kernel's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.ops.resize import resize

Shape = Sequence[int]


@dataclass(frozen=True)
class Transform:
    """A named pair of pure functions over tensors.

    read(public tensors, our shapes) -> our tensors, one for each of our templates in the row, in the row's order.
        A shape may be of another class count or another number of input channels than the file's, so a function
        takes from it what a file cannot know and keeps the rest.
    write(our tensors, count) -> `count` public tensors, one for each public template in the row.
    Both may raise `ValueError` or `RuntimeError` for tensors that do not fit; the loader reports that.
    """

    name: str
    read: Callable[[Sequence[Tensor], Sequence[Shape]], Sequence[Tensor]]
    write: Callable[[Sequence[Tensor], int], Sequence[Tensor]]


def each(name: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Transform:
    """A transform of single tensors: one public name, one of ours."""
    return Transform(
        name,
        lambda tensors, shapes: [read(tensor) for tensor in tensors],
        lambda tensors, count: [write(tensor) for tensor in tensors],
    )


def chain(*steps: Transform) -> Transform:
    """Several transforms of single tensors, read from left to right and written from right to left."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[Shape]) -> Sequence[Tensor]:
        for step in steps:
            tensors = step.read(tensors, shapes)
        return tensors

    def write(tensors: Sequence[Tensor], count: int) -> Sequence[Tensor]:
        for step in reversed(steps):
            tensors = step.write(tensors, count)
        return tensors

    return Transform(" then ".join(step.name for step in steps), read, write)


def _channels_first(kernel: Tensor) -> Tensor:
    return kernel.permute(-1, -2, *range(kernel.ndim - 2))


def _channels_last(kernel: Tensor) -> Tensor:
    return kernel.permute(*range(2, kernel.ndim), 1, 0)


#: TensorFlow's and Flax's kernels (H, W, I, O) or (D, H, W, I, O) to ours (O, I, H, W); TensorFlow's transposed
#: convolutions (H, W, O, I) become (I, O, H, W) by the same rule.
HWIO = each("HWIO to OIHW", _channels_first, _channels_last)

#: A dense kernel (I, O) to a linear weight (O, I).
TRANSPOSED = each("dense transpose", lambda x: x.t(), lambda x: x.t())

#: The first convolution of a network that was fed BGR, for one that is fed RGB.
BGR = each("BGR to RGB", lambda x: x.flip(1), lambda x: x.flip(1))


#: Flax's group norms (1, 1, 1, C) to vectors.
FLAT = Transform(
    "flat",
    lambda tensors, shapes: [x.flatten() for x in tensors],
    lambda tensors, count: list(tensors),
)


def depthwise(multiplier: int = 1) -> Transform:
    """TensorFlow's depthwise kernels (H, W, C, M) to grouped ones (C*M, 1, H, W); channel c*M + m reads channel c."""

    def read(x: Tensor) -> Tensor:
        height, width, channels, factor = x.shape
        return x.permute(2, 3, 0, 1).reshape(channels * factor, 1, height, width)

    def write(x: Tensor) -> Tensor:
        return x.reshape(-1, multiplier, *x.shape[2:]).permute(2, 3, 0, 1)

    return each("depthwise HWCM", read, write)


def scaled(factor: float) -> Transform:
    """Weights times `factor`: 255 for the first convolution of a network that was fed 0..255 instead of 0..1."""
    return each(f"times {factor:g}", lambda x: x * factor, lambda x: x / factor)


def reordered(order: Sequence[int], dim: int = 0) -> Transform:
    """Equal blocks along `dim` in another order: LSTM gates, or the two halves of a concatenation (`(1, 0)`, dim 1).

    Our block j is the file's block `order[j]`.
    """
    inverse = sorted(range(len(order)), key=lambda j: order[j])

    def moved(places: Sequence[int]) -> Callable[[Tensor], Tensor]:
        def move(x: Tensor) -> Tensor:
            if x.shape[dim] % len(places):
                raise ValueError(f"dimension {dim} of {tuple(x.shape)} does not divide into {len(places)} equal blocks")
            blocks = x.chunk(len(places), dim)
            return torch.cat([blocks[j] for j in places], dim)

        return move

    return each(f"blocks in the order {tuple(order)}", moved(order), moved(inverse))


def rolled(count: int, dim: int = 1) -> Transform:
    """The first `count` input channels moved behind the others: a concatenation in the other order."""
    return each(f"first {count} inputs last", lambda x: torch.roll(x, -count, dim), lambda x: torch.roll(x, count, dim))


def heads_in(width: int) -> Transform:
    """Flax's attention input kernels (D, heads, width) to linear weights (heads*width, D); `width` of one head."""
    return each("heads in", lambda x: x.flatten(1).t(), lambda x: x.t().reshape(x.shape[1], -1, width))


def heads_out(width: int) -> Transform:
    """Flax's attention output kernels (heads, width, D) to linear weights (D, heads*width)."""
    return each("heads out", lambda x: x.flatten(0, 1).t(), lambda x: x.t().reshape(-1, width, x.shape[0]))


def heads_bias(width: int) -> Transform:
    """Flax's attention biases (heads, width) to vectors of heads*width."""
    return each("heads bias", lambda x: x.flatten(), lambda x: x.reshape(-1, width))


#: A fully connected weight (O, I*H*W) to a convolution of that kernel (O, I, H, W): VGG's classifier.0 to fc6.
FC_TO_CONV = Transform(
    "fully connected to convolution",
    lambda tensors, shapes: [x.reshape(len(x), *shape[1:]) for x, shape in zip(tensors, shapes)],
    lambda tensors, count: [x.flatten(1) for x in tensors],
)


def regrouped(dim: int = 0) -> Transform:
    """Public tensors joined along `dim`, then cut to our shapes: splits a fused qkv, or fuses separate q, k, v.

    Written back in equal parts.
    """

    def read(tensors: Sequence[Tensor], shapes: Sequence[Shape]) -> Sequence[Tensor]:
        whole = torch.cat(list(tensors), dim)
        if len(shapes) == 1:
            return [whole]
        return whole.split([shape[dim] for shape in shapes], dim)

    def write(tensors: Sequence[Tensor], count: int) -> Sequence[Tensor]:
        whole = torch.cat(list(tensors), dim)
        if whole.shape[dim] % count:
            raise ValueError(f"dimension {dim} of {tuple(whole.shape)} does not divide into {count} equal parts")
        return whole.chunk(count, dim)

    return Transform("regrouped", read, write)


def folded_norm(eps: float) -> Transform:
    """Caffe's folded batch norm (scale, shift) to (weight, bias, running_mean, running_var), as SegNet ships it.

    The statistics become mean 0 and variance 1 - eps, so that the layer multiplies by the scale and adds the shift.
    Written back, the four are folded into two.
    """

    def read(tensors: Sequence[Tensor], shapes: Sequence[Shape]) -> Sequence[Tensor]:
        scale, shift = (x.flatten() for x in tensors)
        return [scale, shift, torch.zeros_like(scale), torch.full_like(scale, 1 - eps)]

    def write(tensors: Sequence[Tensor], count: int) -> Sequence[Tensor]:
        weight, bias, mean, variance = tensors
        scale = weight / (variance + eps).sqrt()
        return [scale, bias - mean * scale]

    return Transform("folded batch norm", read, write)


def _positions_in(tensors: Sequence[Tensor], shapes: Sequence[Shape]) -> Sequence[Tensor]:
    (tokens,), (shape,) = tensors, shapes
    side = int(tokens.shape[1] ** 0.5)
    if side * side != tokens.shape[1]:  # a class token stands in front
        tokens = tokens[:, 1:]
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    return [grid if side == shape[-1] else resize(grid.float(), shape[-2:], rule="align_corners")]


#: The learned positions of tokens (1, N, C), a class token's left out, to a grid (1, C, g, g) resized to our size
#: (linearly, corners aligned, as Google's and TransUNet's loaders do).
POSITIONS = Transform(
    "positions to a grid", _positions_in, lambda tensors, count: [x.flatten(2).transpose(1, 2) for x in tensors]
)
