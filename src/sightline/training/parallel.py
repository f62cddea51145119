"""Several processes, one training: PyTorch's own DDP and FSDP2 under torchrun, and what the loop asks of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sightline.errors import UsageError
from sightline.training.device import choose_device
from sightline.training.plan import Distribution, Plan


@dataclass(frozen=True)
class Crew:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    world: int = 1
    distribution: Distribution = "none"

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            self.largest(0.0)

    def largest(self, *numbers: float) -> list[float]:
        """The largest value any process has, for each number (on the CPU: no GPU is waited for)."""
        if self.world == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def mean(self, numbers: list[float]) -> list[float]:
        """The mean over all processes, for each number."""
        if self.world == 1 or not numbers:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor)
        return (tensor / self.world).tolist()

    def everyone(self, value: Any) -> list[Any]:
        """The value of every process, by rank; for small things and rare moments."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def joined(plan: Plan) -> Iterator[Crew]:
    """Join the process group that torchrun prepared; alone where it did not."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(plan.device, local_rank=local_rank)
    asked = plan.devices * plan.nodes
    if world == 1 and asked > 1:
        raise UsageError(
            f"devices={plan.devices} nodes={plan.nodes} needs {asked} processes and this is the only one; "
            "start it through torchrun"
        )
    if world == 1:
        yield Crew(device)
        return
    if plan.distribution == "none":
        raise UsageError(f"torchrun started {world} processes but distribution=none; say distribution=ddp or fsdp2")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    group_here = dist.is_initialized()
    if not group_here:
        # A validation on process 0 may take long while the others wait; torchrun ends them if it dies.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=12))
    try:
        yield Crew(device, rank, world, plan.distribution)
    finally:
        if not group_here:
            dist.destroy_process_group()


def share_weights(net: nn.Module, crew: Crew) -> None:
    """Give every process the weights and buffers of process 0."""
    if crew.world > 1:
        for tensor in [*net.parameters(), *net.buffers()]:
            dist.broadcast(tensor.detach(), 0)


def share_buffers(net: nn.Module, crew: Crew) -> None:
    """Give every process the floating-point buffers of process 0 (batch norm's statistics), as DDP does by itself."""
    buffers = [b for b in net.buffers() if b.is_floating_point()]
    if crew.distribution != "fsdp2" or not buffers:
        return
    flat = torch.cat([b.detach().flatten().float() for b in buffers])
    dist.broadcast(flat, 0)
    for buffer, values in zip(buffers, flat.split([b.numel() for b in buffers])):
        buffer.detach().copy_(values.view_as(buffer))


def shard(net: nn.Module, *, least: int = 1_000_000) -> None:
    """FSDP2 in place: the repeated blocks (members of a `ModuleList` or `Sequential` with `least` parameters or more)
    and then the whole are split over all processes; each process computes with whole weights, block by block."""
    from torch.distributed.fsdp import fully_shard

    for parent in net.modules():
        if isinstance(parent, nn.ModuleList | nn.Sequential):
            for block in parent:
                big = sum(p.numel() for p in block.parameters()) >= least
                if big and not isinstance(block, nn.ModuleList | nn.ModuleDict | nn.Sequential):
                    fully_shard(block)
    fully_shard(net, reshard_after_forward=True)  # a validation too leaves the weights sharded


def wrap(learner: nn.Module, crew: Crew) -> nn.Module:
    """What the loop calls: the learner itself, or DDP around it.

    `find_unused_parameters`: heads that a loss leaves out do no harm, and DDP keeps one order of its buckets
    for ever, so that sums are the same bits after a resume.
    """
    if crew.distribution != "ddp":
        return learner
    devices = [crew.device] if crew.device.type == "cuda" else None
    return DistributedDataParallel(learner, device_ids=devices, find_unused_parameters=True)


@contextmanager
def syncing(learner: nn.Module, net: nn.Module, last: bool) -> Iterator[None]:
    """Gradients travel between processes only with the last of the accumulated batches."""
    if isinstance(learner, DistributedDataParallel):
        with nullcontext() if last else learner.no_sync():
            yield
        return
    sync = getattr(net, "set_requires_gradient_sync", None)
    if sync is not None:
        sync(last)
    yield


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts, on the CPU (for sharded ones all processes must call this)."""
    tensor = tensor.detach()
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).cpu()
