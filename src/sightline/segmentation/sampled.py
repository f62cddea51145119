"""Monte-Carlo dropout: a network that is asked several times with its dropout on, and how much its answers disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sightline.errors import UsageError


@contextmanager
def dropping(net: nn.Module, seed: int) -> Iterator[None]:
    """Dropout as in training, drawn from `seed`; everything else of the network, and torch's own generators, stay."""
    layers = [m for m in net.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if not layers:
        raise UsageError(f"{type(net).__name__} has no dropout to sample from; build it with dropout above 0")
    before = [layer.training for layer in layers]
    device = next(net.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer, training in zip(layers, before):
                layer.train(training)


def sampled(net: nn.Module, look: Callable[[], Tensor], samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean class probabilities `(B, K, H, W)` of `samples` looks, and the uncertainty `(B, 1, H, W)`.

    look: asks `net` once, for probabilities. The uncertainty is the variance of a class' probability over the looks,
    averaged over the classes (Kendall et al. 2015, section 5). The same seed gives the same answer.
    """
    if samples < 1:
        raise UsageError(f"samples are {samples}, expected 1 or more")
    mean = square = torch.zeros(())
    with dropping(net, seed):
        for n in range(samples):
            found = look()
            change = found - mean
            mean = mean + change / (n + 1)
            square = square + change * (found - mean)  # Welford's sum: no difference of large numbers
    return mean, (square / samples).mean(dim=1, keepdim=True)
