"""A tiny task for the tests of the loop: which of two stripes a picture has; importable by child processes."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.contracts import Batch
from sightline.errors import SightlineError
from sightline.ops.tree import register_dataclass
from sightline.training.ema import local
from sightline.training.fit import fit
from sightline.training.lock import locked
from sightline.training.parallel import joined, shard, whole
from sightline.training.plan import Plan


@register_dataclass
@dataclass(frozen=True)
class Out:
    logits: Tensor


class Net(nn.Module):
    """Convolution, batch norm and dropout: everything a resume can get wrong."""

    def __init__(self, width: int = 4, *, dropout: float = 0.2, head_not_used: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, 2)
        if head_not_used:
            self.idle = nn.Linear(3, 3)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Any = None) -> Out:
        return Out(self.head(self.drop(F.relu(self.norm(self.stem(images))).mean((2, 3)))))

    def losses(self, out: Out, targets: Tensor) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(out.logits, targets), "size": 1e-3 * out.logits.square().mean()}


class Stripes:
    """Item (epoch, index): a noisy uint8 picture, brighter at the left (0) or at the top (1)."""

    def __init__(self, count: int = 11, *, seed: int = 0, broken: tuple[int, ...] = ()) -> None:
        self.count, self.seed, self.broken = count, seed, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> tuple[str, Tensor, int]:
        epoch, index = key
        if index in self.broken:
            raise SightlineError(f"pictures/{index}.png: not a readable picture; remove it")
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch * 1009 + index)
        ramp = torch.linspace(1, 0, 8)
        label = index % 2
        picture = (ramp[:, None] if label else ramp[None, :]).expand(8, 8)
        noise = torch.rand(3, 8, 8, generator=generator)
        return f"pictures/{index}.png", (255 * (0.6 * picture + 0.4 * noise)).to(torch.uint8), label


class Deadly(Stripes):
    """Reading a sample kills the process that reads it, as the system does when memory runs out."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[str, Tensor, int]:
        os._exit(9)


def collate(samples: list[tuple[str, Tensor, int]]) -> Batch:
    keys, images, labels = zip(*samples)
    return Batch(torch.stack(images), torch.tensor(labels), keys=tuple(keys))


def score(net: nn.Module) -> Mapping[str, Any]:
    """A validation that depends on every weight."""
    images = torch.stack([Stripes()[0, i][1] for i in range(6)]).float() / 255
    logits = net(images).logits
    right = (logits.argmax(1) == torch.arange(6) % 2).float().mean().item()
    return {"metrics": {"margin": logits.square().sum().item(), "accuracy": right}, "per_class": {}}


def fresh(seed: int = 1, **options: Any) -> Net:
    torch.manual_seed(seed)
    return Net(**options)


class Bomb(Stripes):
    """Samples that break off the training at the n-th read, as a crash would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def __getitem__(self, key: tuple[int, int]) -> tuple[str, Tensor, int]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__getitem__(key)


def train(run: Path, plan: Plan, resume: bool = False, plain: bool = False) -> None:
    """What a child process runs; a network without batch norm and dropout when `plain`."""
    begun = resume and any((run / "state").glob("step-*"))  # what a checkpoint says must win over other first weights
    net = fresh(7 if begun else 1, **({"dropout": 0.0, "head_not_used": True} if plain else {}))
    if plain:
        net.norm = nn.Identity()
    fit(net, Stripes(), collate=collate, plan=plan, run=run, validate=score, resume=resume)


def broken_off(run: Path, plan: Plan, after: int) -> None:
    """The same, dying at the n-th sample without a word."""
    try:
        fit(fresh(), Bomb(after), collate=collate, plan=plan, run=run, validate=score)
    except KeyboardInterrupt:
        os._exit(9)


def report_lock(run: Path, die: int = 0) -> None:
    """Exit with 1 when the folder is in use; with `die` inside the lock when asked to."""
    try:
        with locked(run):
            os._exit(die)
    except SightlineError:
        os._exit(1)


def limited(run: Path, plan: Plan, size: int) -> None:
    """Resume where no file may grow over `size` bytes; leave what was said in the file `said`."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train(run, plan, True)
    except SightlineError as error:
        (run / "said").write_text(str(error))
        os._exit(7)


def train_and_die(run: Path, plan: Plan, event: int) -> None:
    """Resume, and die (process 0) just before the `event`-th thing done to a file of the run."""
    left = event
    watched = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"}

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if name in watched and str(arguments[0]).startswith(str(run)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if os.environ.get("RANK", "0") == "0":
        sys.addaudithook(hook)
    train(run, plan, True)


def blocks_in_two_parts() -> None:
    """FSDP2 block by block gives the output and the gradients of the whole network."""
    with joined(Plan(steps=1, distribution="fsdp2", device="cpu")):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        plain, images = copy.deepcopy(net), torch.rand(2, 3, 8, 8)
        shard(net, least=1)
        assert hasattr(net[0], "unshard") and not hasattr(net[1], "unshard")
        torch.testing.assert_close(net(images), plain(images))
        net(images).square().mean().backward()
        plain(images).square().mean().backward()
        for ours, theirs in zip(net.parameters(), plain.parameters()):
            assert ours.grad is not None and local(ours.grad).numel() < theirs.numel()
            torch.testing.assert_close(whole(ours.grad), theirs.grad)
