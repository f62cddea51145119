"""A moving average of the weights: smoother than the weights themselves, and what is validated and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies on this process (all of it, unless FSDP2 sharded it)."""
    to_local = getattr(tensor, "to_local", None)  # importing DTensor to ask takes seconds
    return tensor if to_local is None else to_local()


class Ema:
    """`average = decay * average + (1 - decay) * weights` over parameters and persistent buffers, after every step.

    The decay rises as `(1 + n) / (10 + n)` over the first steps n, so that the random beginning is soon forgotten.
    Whole numbers (the counters of batch norm) are copied.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {name: t.detach().clone() for name, t in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, value in net.state_dict().items():
            average, value = local(self.tensors[name]), local(value)
            if average.is_floating_point():
                floats[0].append(average)
                floats[1].append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(floats[0], floats[1], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Inside the block `net` has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: local(t).detach().clone() for name, t in net.state_dict().items()}
        _assign(net, self.tensors)
        try:
            yield
        finally:
            _assign(net, own)


@torch.no_grad()
def _assign(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, value in net.state_dict().items():
        local(value).copy_(local(tensors[name]))
