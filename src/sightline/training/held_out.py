"""Losses on pictures that nobody learns from: the same terms as in training, in eval mode, without augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sightline.contracts import Batch
from sightline.training.learner import Learner
from sightline.training.loader import Samples

MOST = 100
"""Pictures that are looked at, at most: evenly spaced ones, always the same."""


@torch.no_grad()
def held_out_losses(
    net: nn.Module, samples: Samples, collate: Callable[[list[Any]], Batch], *, batch_size: int
) -> dict[str, float]:
    """`loss`, the sum of the terms, and `loss_NAME` of each; the mean over batches, weighed by their pictures.

    The network stays in the mode it is in, which should be eval: then every network draws its samples the same way each
    time, and a curve does not jitter. Raises `SightlineError` at a picture that cannot be read.
    """
    parameter = next(net.parameters())
    learner = Learner(net, parameter.device, precision="fp32", channels_last=False)
    count = len(samples)
    chosen = [i * count // min(count, MOST) for i in range(min(count, MOST))]
    sums: dict[str, float] = {}
    for start in range(0, len(chosen), batch_size):
        some = chosen[start : start + batch_size]
        terms = learner(collate([samples[0, i] for i in some]))
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(some)
    if not chosen:
        return {"loss": math.nan}
    means = {name: total / len(chosen) for name, total in sums.items()}
    return {"loss": sum(means.values()), **{f"loss_{name}": value for name, value in means.items()}}
