"""A network with its losses as one module, and one optimiser step of it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from sightline.contracts import Batch
from sightline.errors import SightlineError
from sightline.ops.layout import channels_last
from sightline.ops.tree import to_device
from sightline.training.device import autocast_dtype, out_of_memory
from sightline.training.parallel import syncing
from sightline.training.plan import Plan


class Learner(nn.Module):
    """One batch in, named loss terms out. This is what DDP wraps: it then knows which parameters the loss reaches."""

    def __init__(self, net: nn.Module, device: torch.device, *, precision: str, channels_last: bool) -> None:
        super().__init__()
        self.net, self.device, self.precision, self.channels_last = net, device, precision, channels_last

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The network computes in the run's precision, the losses in float32."""
        images, targets, sizes, inputs = to_device(
            (batch.images, batch.targets, batch.sizes, dict(batch.inputs)), self.device
        )
        if images.dtype == torch.uint8:
            images = images.float() / 255
        if self.channels_last:
            images = channels_last(images)
        dtype = autocast_dtype(self.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            out = self.net(images, sizes=sizes, targets=targets, **inputs)
        terms = self.net.losses(tree_map_only(Tensor, _float, out), targets)  # pyright: ignore[reportCallIssue]
        if not terms:
            raise SightlineError(f"{type(self.net).__name__}.losses returned no term: there is nothing to learn from")
        return terms


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([t.float() for t in terms.values()]).sum()


def take_step(
    learner: nn.Module,
    net: nn.Module,
    batches: Iterator[Batch],
    optimizer: Optimizer,
    scaler: Any,
    plan: Plan,
    accumulate: int,
) -> tuple[dict[str, Tensor], tuple[str, ...], int]:
    """One optimiser step over `accumulate` batches of equal size: mean loss terms, keys and number of the samples."""
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    keys: list[str] = []
    images = 0
    for part in range(accumulate):
        batch = next(batches)
        with syncing(learner, net, last=part == accumulate - 1):
            terms = learner(batch)
            scaler.scale(_total(terms) / accumulate).backward()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.detach() / accumulate
        keys += batch.keys
        images += len(batch.images)
    if plan.clip:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
    scaler.step(optimizer)
    scaler.update()
    return sums, tuple(keys), images


def measure_precision(learner: Learner, batch: Batch, *, repeats: int = 3) -> tuple[str, str]:
    """`fp32` or `bf16`, whichever takes less time for a forward and backward pass here, and a sentence that says so.

    Nothing of the network changes: its buffers and the random generators are put back, its gradients removed.
    """
    device = learner.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp32", "precision fp32: this GPU does not compute in bf16"
    try:
        fp32, bf16 = _measure(learner, batch, repeats)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return "fp32", f"precision fp32: this network does not compute in bf16 on this {device.type} ({error})"
    word = "bf16" if bf16 < 0.9 * fp32 else "fp32"
    return (
        word,
        f"precision {word}: a batch takes {bf16:.0f} ms in bf16 and {fp32:.0f} ms in fp32 on this {device.type}",
    )


def _measure(learner: Learner, batch: Batch, repeats: int) -> tuple[float, float]:
    """Milliseconds of a forward and backward pass in fp32 and in bf16, taken in turns."""
    device = learner.device
    before = {name: copy.deepcopy(b) for name, b in learner.net.named_buffers()}
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
        for turn in range(repeats):
            for word, times in seconds.items():
                learner.precision = word
                start = time.perf_counter()
                _total(learner(batch)).backward()
                _wait(device)
                if turn:  # the first one warms up
                    times.append(time.perf_counter() - start)
                learner.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in learner.net.named_buffers():
            buffer.copy_(before[name])
    return statistics.median(seconds["fp32"]) * 1e3, statistics.median(seconds["bf16"]) * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
