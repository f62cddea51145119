"""From sample keys to batches, here or in loading workers; faults come back as sentences, not as tracebacks."""

from __future__ import annotations

import re
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset

from sightline.contracts import Batch
from sightline.errors import SightlineError
from sightline.training.plan import OnError
from sightline.training.sampler import Batches, Key

PATIENCE_WITH_FILES = 100  # broken samples in a row before even on_error=skip gives up


class Samples(Protocol):
    """A map-style data set: item `(epoch, index)` is one sample, random only through (seed, epoch, index)."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Key, /) -> Any: ...


@dataclass(frozen=True)
class Fetched:
    """What came out of a loading worker: a batch, or the sentence (and traceback) of what went wrong."""

    batch: Batch | None
    skipped: tuple[tuple[int, str], ...] = ()  # (index, sentence) of the broken samples that others stand in for
    fault: str = ""
    trace: str = ""

    def pin_memory(self) -> Fetched:
        """The same in page-locked memory; PyTorch's loader calls this for GPUs."""
        if self.batch is None:
            return self
        pinned = {
            name: tree_map_only(Tensor, Tensor.pin_memory, getattr(self.batch, name))
            for name in ("images", "targets", "sizes", "inputs")
        }
        return replace(self, batch=replace(self.batch, **pinned))


class _Fetch(Dataset):
    """Item `[keys]` is a `Fetched`: this is what runs in a worker."""

    def __init__(self, samples: Samples, collate: Callable[[list[Any]], Batch], on_error: OnError) -> None:
        self.samples, self.collate, self.on_error = samples, collate, on_error

    def __getitem__(self, keys: Sequence[Key]) -> Fetched:
        skipped: list[tuple[int, str]] = []
        doing = ""
        try:
            found = []
            for key in keys:
                doing = f"sample {key[1]} (epoch {key[0]})"
                found.append(self._sample(key, skipped))
            doing = "putting samples " + ", ".join(str(index) for _, index in keys) + " into one batch"
            return Fetched(self.collate(found), tuple(skipped))
        except SightlineError as error:
            return Fetched(None, fault=str(error))
        except Exception as error:  # a bug in a data set: say which sample, keep where it happened for the developer
            return Fetched(None, fault=f"{doing}: {type(error).__name__}: {error}", trace=traceback.format_exc())

    def _sample(self, key: Key, skipped: list[tuple[int, str]]) -> Any:
        """The sample, or the next whole one in its place when broken ones are skipped."""
        epoch, index = key
        count = len(self.samples)
        for tried in range(min(count, PATIENCE_WITH_FILES)):
            place = (index + tried) % count
            try:
                return self.samples[epoch, place]
            except SightlineError as error:
                if self.on_error == "stop":
                    raise
                skipped.append((place, str(error)))
        raise SightlineError(f"{skipped[-1][1]} ({len(skipped)} samples in a row are broken: on_error=skip gives up)")


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then stops the workers


def _as_is(fetched: Fetched) -> Fetched:
    return fetched


def load(
    samples: Samples,
    batches: Batches,
    *,
    collate: Callable[[list[Any]], Batch],
    workers: int,
    device: torch.device,
    on_error: OnError,
) -> Iterator[Fetched]:
    """Fetch `batches` in order, ahead of time when there are workers.

    Raises `SightlineError` with the data set's own sentence for a broken sample, and one about memory when a
    worker was killed.
    """
    loader = DataLoader(
        _Fetch(samples, collate, on_error),
        batch_size=None,
        sampler=batches,
        collate_fn=_as_is,  # pyright: ignore[reportArgumentType] (no batching here: it gets one item)
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or the loader would draw from the global one
    )
    iterator = iter(loader)
    while True:
        try:
            fetched = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            raise _killed_worker(error) from None
        if fetched.fault:
            fault = SightlineError(fetched.fault)
            if fetched.trace:
                fault.add_note(fetched.trace)
            raise fault
        yield fetched


def _killed_worker(error: RuntimeError) -> RuntimeError:
    """A sentence for a worker that died; any other error as it is."""
    text = str(error)
    if "DataLoader worker" not in text:
        return error
    pid = re.search(r"pid\D*(\d+)", text)
    return _WorkerDied(
        f"a loading worker{f' (process {pid.group(1)})' if pid else ''} was killed, most often by the system because "
        "memory ran out; use fewer workers (workers=0 loads in the main process) or a smaller batch, then resume"
    )


class _WorkerDied(SightlineError, RuntimeError):
    """A loading worker is gone."""
