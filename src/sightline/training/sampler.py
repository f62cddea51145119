"""Which samples a step sees: a pure function of the seed and the step, so that nothing has to be remembered.

All epochs stand in one endless row: epoch 0 in its own order, then epoch 1, and so on. A step takes the next
`share * world` positions of the row; process `rank` takes the `rank`-th run of `share` of them. So

- nothing is ever dropped, and every sample is seen exactly once an epoch; a batch may hold the end of one epoch and the
  beginning of the next, and a set smaller than a batch wraps around (each time under another epoch number);
- two processes with a batch of B see, step for step, the same samples as one process with a batch of 2 B;
- halving the batch and doubling the accumulation changes nothing about who sees what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import torch

Key = tuple[int, int]  # (epoch, index)


def derived_seed(*numbers: int) -> int:
    """A seed of 63 bits that depends on all the numbers and on their order; the same on every machine."""
    digest = hashlib.blake2b(",".join(str(int(n)) for n in numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, epoch))
    return torch.randperm(count, generator=generator)


def sample_at(position: int, *, count: int, seed: int) -> Key:
    """The `(epoch, index)` at a position of the endless row of a set of `count` samples."""
    epoch, place = divmod(position, count)
    return epoch, int(_order(count, seed, epoch)[place])


def batch_at(step: int, part: int, *, size: int, share: int, count: int, seed: int, rank: int, world: int) -> list[Key]:
    """The `part`-th batch (of `size`) that process `rank` of `world` feeds to its network in a step (from 0)."""
    first = (step * world + rank) * share + part * size
    return [sample_at(p, count=count, seed=seed) for p in range(first, first + size)]


class Batches:
    """The batches of one process from step `first` to `last` (not included), in order; picklable."""

    def __init__(
        self, first: int, last: int, *, size: int, accumulate: int, count: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.first, self.last, self.size, self.accumulate = first, last, size, accumulate
        self.count, self.seed, self.rank, self.world = count, seed, rank, world

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.first, self.last):
            for part in range(self.accumulate):
                yield batch_at(
                    step,
                    part,
                    size=self.size,
                    share=self.size * self.accumulate,
                    count=self.count,
                    seed=self.seed,
                    rank=self.rank,
                    world=self.world,
                )
