"""Folding batch norm into the convolution before it, for inference.

In eval mode a batch norm is a factor and a shift a channel, and so is what a convolution's weight and bias can do.
Which norm follows which convolution is seen, not guessed from names: one example is sent through, and a pair counts when
the norm is the only one that ever reads the convolution's output.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def fold_batch_norm(net: nn.Module, *example: Tensor) -> tuple[nn.Module, int]:
    """A copy of `net` in eval mode without the batch norms that could be folded, and how many those were.

    example: the positional arguments of one forward pass.
    """
    twin = copy.deepcopy(net).eval()
    pairs = _pairs(twin, *example)
    for convolution, norm in pairs.values():
        _fold(convolution, norm)
    _replace(twin, set(pairs))
    return twin, len(pairs)


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


def _is_property(func: Any) -> bool:
    """Asking for a shape, a type or a device reads no value."""
    return getattr(func, "__name__", "") in ("__get__", "size", "dim", "stride", "is_floating_point")


def _pairs(net: nn.Module, *example: Tensor) -> dict[nn.Module, tuple[nn.Module, nn.Module]]:
    """norm -> (convolution, norm) for every pair of which each was called once, the one on the other's output alone."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors are kept, so that no address is used twice
    calls: dict[nn.Module, int] = {}
    found: dict[nn.Module, tuple[nn.Module, int]] = {}
    readers = _Readers()

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, Convolution):
            made[id(output)] = (module, output)
            readers.count[id(output)] = 0

    def before(module: nn.Module, inputs: Any) -> None:
        if inputs and id(inputs[0]) in made:
            found[module] = (made[id(inputs[0])][0], id(inputs[0]))

    watched = [m for m in net.modules() if isinstance(m, Convolution) or is_batch_norm(m)]
    handles = [m.register_forward_hook(after) for m in watched]
    handles += [m.register_forward_pre_hook(before) for m in watched if is_batch_norm(m)]
    try:
        with torch.no_grad(), readers:
            net(*example)
    finally:
        for handle in handles:
            handle.remove()
    return {
        norm: (convolution, norm)
        for norm, (convolution, tensor) in found.items()
        if calls[norm] == calls[convolution] == 1 and readers.count[tensor] == _reads(norm)
    }


def _reads(norm: nn.Module) -> int:
    """How often the norm itself reads its input in one call."""
    readers = _Readers()
    x = torch.zeros(1, len(norm.running_mean), *[2] * (1 if isinstance(norm, nn.BatchNorm1d) else 2))  # pyright: ignore
    if isinstance(norm, nn.BatchNorm3d):
        x = x[..., None]
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
        shaped = kernel.view(groups, -1, *kernel.shape[1:]) * factor.view(groups, 1, -1, *[1] * (kernel.ndim - 2))
        folded = shaped.view_as(kernel)
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
