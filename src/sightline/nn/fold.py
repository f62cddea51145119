"""Folding batch norm into the convolution before it, for inference.

In eval mode a batch norm is a factor and a shift a channel, and so is what a convolution's weight and bias can do.
Which norm follows which convolution is seen, not guessed from names: one example is sent through, and a pair counts
when the norm is the only one that ever reads the convolution's output. Convolutions of other types (a parametrised
kernel) compute their kernel anew in each call, so they are left alone; those of standardised kernels become plain
ones first.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sightline.nn.conv import StandardizedConv2d
from sightline.ops.tree import named_tensors

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def fold_batch_norm(net: nn.Module, *example: Tensor) -> tuple[nn.Module, int]:
    """A copy of `net` in eval mode without the batch norms that could be folded, and how many those were.

    example: the positional arguments of one forward pass.
    """
    twin = fix_kernels(copy.deepcopy(net).eval())
    pairs = _pairs(twin, *example)
    for convolution, norm in pairs.values():
        _fold(convolution, norm)
    _replace(twin, set(pairs))
    return twin, len(pairs)


@torch.no_grad()
def fix_kernels(net: nn.Module) -> nn.Module:
    """Replace, in `net` itself, convolutions that standardise their kernels by plain ones with the kernel they use."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StandardizedConv2d):
                plain = nn.Conv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # pyright: ignore[reportArgumentType]
                    child.stride,  # pyright: ignore[reportArgumentType]
                    child.padding,  # pyright: ignore[reportArgumentType]
                    child.dilation,  # pyright: ignore[reportArgumentType]
                    child.groups,
                    bias=child.bias is not None,
                    padding_mode=child.padding_mode,
                    device="meta",
                )
                plain.weight = nn.Parameter(child.kernel(), requires_grad=False)
                plain.bias = child.bias
                setattr(parent, name, plain.eval())
    return net


def is_batch_norm(module: nn.Module) -> bool:
    """Whether `module` normalises with stored statistics and can be written as a factor and a shift a channel."""
    return all(isinstance(getattr(module, name, None), Tensor) for name in STATISTICS) and hasattr(module, "eps")


class _Readers(TorchFunctionMode):
    """Counts how often each watched tensor is read."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor) and id(leaf) in self.count and not _is_property(func):
                self.count[id(leaf)] += 1
        return func(*args, **(kwargs or {}))


FACTS = frozenset({"shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "is_sparse", "is_nested"})


def _is_property(func: Any) -> bool:
    """Asking for a shape, a type or a device reads no value; asking for `.T` or `.data` does."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") in FACTS
    return name in ("size", "dim", "stride", "is_floating_point")


def _pairs(net: nn.Module, *example: Tensor) -> dict[nn.Module, tuple[nn.Module, nn.Module]]:
    """norm -> (convolution, norm) for every pair of which each was called once, the one on the other's output alone."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors are kept, so that no address is used twice
    calls: dict[nn.Module, int] = {}
    found: dict[nn.Module, tuple[nn.Module, int]] = {}
    readers = _Readers()

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if module in found:
            _, tensor = found[module]
            count = readers.count[tensor]
            if _is_affine(module, inputs[0], output):
                readers.count[tensor] = count  # our own look at it does not count
        # an output of fewer axes than the kernel has no batch, and its channels are not where the norm looks for them
        if _folds(module) and output.ndim == module.weight.ndim:
            made[id(output)] = (module, output)
            readers.count[id(output)] = 0

    def before(module: nn.Module, inputs: Any) -> None:
        if inputs and id(inputs[0]) in made:
            found[module] = (made[id(inputs[0])][0], id(inputs[0]))

    watched = [m for m in net.modules() if _folds(m) or is_batch_norm(m)]
    handles = [m.register_forward_hook(after) for m in watched]
    handles += [m.register_forward_pre_hook(before) for m in watched if is_batch_norm(m)]
    try:
        with torch.no_grad(), readers:
            answer = net(*example)
    finally:
        for handle in handles:
            handle.remove()
    answered = {id(tensor) for leaf in tree_leaves(answer) for tensor in named_tensors(leaf).values()}
    return {
        norm: (convolution, norm)
        for norm, (convolution, tensor) in found.items()
        if calls[norm] == calls[convolution] == 1
        and tensor not in answered
        and readers.count[tensor] == _reads(norm, made[tensor][1].ndim)
    }


def _is_affine(norm: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether the norm did no more than a factor and a shift a channel (some have their activation inside)."""
    weight, bias, mean, variance = (getattr(norm, name).view(1, -1, *[1] * (x.ndim - 2)) for name in STATISTICS)
    expected = (x - mean) * torch.rsqrt(variance + norm.eps) * weight + bias  # pyright: ignore[reportOperatorIssue]
    return torch.allclose(y, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def _folds(module: nn.Module) -> bool:
    """Whether `module` is a convolution whose kernel is a plain parameter."""
    return type(module) in Convolution and not module._forward_pre_hooks


def _reads(norm: nn.Module, axes: int) -> int:
    """How often the norm itself reads its input of `axes` axes in one call."""
    readers = _Readers()
    x = torch.zeros(2, len(norm.running_mean), *[2] * (axes - 2))  # pyright: ignore[reportArgumentType]
    x = x.to(norm.running_mean)  # pyright: ignore[reportCallIssue, reportArgumentType]
    readers.count[id(x)] = 0
    with torch.no_grad(), readers:
        norm(x)
    return readers.count[id(x)]


@torch.no_grad()
def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    weight, bias, mean, variance = (getattr(norm, name) for name in STATISTICS)
    factor = weight * torch.rsqrt(variance + norm.eps)
    transposed = isinstance(convolution, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    kernel: Tensor = convolution.weight  # pyright: ignore[reportAssignmentType]
    if transposed:  # (in, out / groups, ...)
        groups: int = convolution.groups  # pyright: ignore[reportAssignmentType]
        shaped = kernel.reshape(groups, -1, *kernel.shape[1:]) * factor.view(groups, 1, -1, *[1] * (kernel.ndim - 2))
        folded = shaped.reshape_as(kernel)
    else:
        folded = kernel * factor.view(-1, *[1] * (kernel.ndim - 1))
    old = convolution.bias
    shift = bias - mean * factor + (0 if old is None else old * factor)  # pyright: ignore[reportOperatorIssue]
    convolution.weight = nn.Parameter(folded, requires_grad=False)
    convolution.bias = nn.Parameter(shift.clone(), requires_grad=False)


def _replace(net: nn.Module, norms: set[nn.Module]) -> None:
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if child in norms:
                setattr(parent, name, nn.Identity())
