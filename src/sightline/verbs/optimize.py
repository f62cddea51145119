"""The inference-ready twin of a network, with the measured difference and ratio.

What is done, and nothing more: parts that only learning needs are left out, batch norm is folded into the convolutions,
a network that knows a shorter way to the same answer takes it (`shorten()`), tensors are laid out channels-last; on
request bf16 and `torch.compile`. What it did is proved on an example.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.nn.fold import fold_batch_norm
from sightline.nn.processor import suit_processor
from sightline.ops.layout import lay_out
from sightline.ops.tree import named_tensors

EQUAL = 1e-4
"""Largest relative difference up to which `predict` and `evaluate` use the twin unasked."""


@dataclass(frozen=True)
class Optimized:
    """A twin and the proof. difference: largest |difference| of any answer tensor, relative to its largest |value|.
    ratio: time of the original over time of the twin, medians of interleaved runs; None when it was not timed."""

    net: nn.Module
    difference: float
    ratio: float | None
    words: str


class InPrecision(nn.Module):
    """A network that computes in `dtype` by autocast; pictures and answers stay float32."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: object = None) -> Any:
        """As the network's own, at another precision."""
        with torch.autocast(images.device.type, dtype=self.dtype):
            return self.net(images, sizes=sizes, targets=targets)


@torch.no_grad()
def optimize(
    net: nn.Module, example: Tensor, *, bf16: bool = False, compile: bool = False, repeats: int = 7
) -> Optimized:
    """The twin of `net` for inference, compared and timed on `example` `(B, C, H, W)`; `repeats=0` does not time.

    The network itself is left as it is, but for being in eval mode.
    """
    net = net.eval()
    inner, folded = fold_batch_norm(without_learning_parts(net), example)
    done = [f"{folded} batch norms folded"]
    if hasattr(inner, "shorten"):
        inner.shorten()  # pyright: ignore[reportCallIssue]
        done.append("its own short cuts")
    twin: Any = inner.requires_grad_(False)
    twin = lay_out(twin)
    done.append("channels-last")
    if example.device.type == "cpu" and (found := suit_processor(twin)):
        done.append(f"{found} convolutions by the kernels that processors like best")
    if bf16:
        twin = InPrecision(twin, torch.bfloat16)
        done.append("bf16")
    if compile:
        twin = torch.compile(twin, dynamic=True)
        done.append("compiled")
    for name in ("margin", "legal_size", "multilabel"):
        if hasattr(net, name) and twin is not inner:
            setattr(twin, name, getattr(net, name))
    difference = largest_difference(net(example), twin(example))
    ratio = _ratio(net, twin, example, repeats) if repeats else None
    words = ", ".join(done) + f"; largest difference {difference:.1e}"
    words += f", {ratio:.2f} times as fast on {tuple(example.shape)}" if ratio else ""
    return Optimized(twin, difference, ratio, words)


def ready(net: nn.Module, channels: int, example: Tensor | None = None) -> tuple[nn.Module, str]:
    """The network that `predict` and `evaluate` use: its twin when it answers the same within `EQUAL`, and a sentence.

    example: what to compare them on; None: a picture. An opened export, which has no batch norm any more, is taken as
    it is.
    """
    if not any(p.numel() for p in net.parameters()):
        return net, "an exported file, used as it is"
    side = net.legal_size(64) if hasattr(net, "legal_size") else 64  # pyright: ignore[reportCallIssue]
    device = next(net.parameters()).device
    if example is None:
        example = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    elif hasattr(net, "legal_size") and example.ndim == 5:
        side = net.legal_size(4)  # pyright: ignore[reportCallIssue]
        example = torch.rand(1, channels, side, side, side, generator=torch.Generator().manual_seed(0))
    example = example.to(device)
    found = optimize(net, example, repeats=0)
    if found.difference <= EQUAL:
        return found.net, f"optimized for inference: {found.words}"
    return net, f"not optimized: the twin would differ by {found.difference:.1e} (allowed {EQUAL:.0e})"


def without_learning_parts(net: nn.Module) -> nn.Module:
    """The network without the parts it names in `OPTIONAL` (auxiliary heads): the same object when it has none."""
    import copy

    named = (name.rstrip(".") for name in getattr(net, "OPTIONAL", ()))
    names = [name for name in named if isinstance(getattr(net, name, None), nn.Module)]
    if not names:
        return net
    twin = copy.copy(net)
    twin._modules = dict(net._modules) | dict.fromkeys(names)
    return twin


def largest_difference(one: object, other: object) -> float:
    """Over the tensors both answers have: the largest |difference| relative to the tensor's largest |value|.

    NaN or infinity on one side only, or another shape, is an infinite difference.
    """
    a, b = named_tensors(one), named_tensors(other)
    worst = 0.0
    for name in a.keys() & b.keys():
        if a[name].shape != b[name].shape:
            return math.inf
        if a[name].numel():
            scale = a[name].float().abs().max().clamp(min=1e-12)
            found = float((a[name].float() - b[name].float()).abs().max() / scale)
            worst = max(worst, found if math.isfinite(found) else math.inf)
    return worst


def _ratio(net: nn.Module, twin: nn.Module, example: Tensor, repeats: int) -> float:
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for side, times in zip((net, twin), seconds):
            begun = time.perf_counter()
            side(example)
            if example.device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                times.append(time.perf_counter() - begun)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])
