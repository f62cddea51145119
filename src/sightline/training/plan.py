"""How to train: plain values only, so that a plan can be printed, stored in a checkpoint and compared on resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from sightline.errors import UsageError, did_you_mean

OptimizerName = Literal["sgd", "adamw", "adam"]
ScheduleName = Literal["poly", "cosine", "step", "constant"]
Precision = Literal["fp32", "bf16", "fp16", "tf32", "auto"]
Distribution = Literal["none", "ddp", "fsdp2"]
OnError = Literal["stop", "skip"]
Mode = Literal["max", "min"]

_WORDS: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "precision": get_args(Precision),
    "distribution": get_args(Distribution),
    "on_error": get_args(OnError),
    "mode": get_args(Mode),
}
_AT_LEAST: dict[str, float] = {
    "steps": 0,
    "batch_size": 1,
    "accumulate": 1,
    "lr": 0,
    "weight_decay": 0,
    "momentum": 0,
    "warmup": 0,
    "clip": 0,
    "validate_every": 0,
    "save_every": 0,
    "save_seconds": 0,
    "log_every": 1,
    "patience": 0,
    "seed": 0,
    "workers": 0,
    "devices": 1,
    "nodes": 1,
}


@dataclass(frozen=True)
class Plan:
    """Everything `fit` has to be told. One step sees `batch_size * accumulate` samples on each of `devices * nodes`."""

    steps: int  # optimiser steps in all
    batch_size: int = 4  # samples in one forward pass of one process
    accumulate: int = 1  # forward passes of one step; gradients are their mean
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2  # not applied to biases, norms and other parameters of one dimension
    momentum: float = 0.9  # sgd only
    schedule: ScheduleName = "poly"
    warmup: int = 0  # steps of linear warm-up
    clip: float = 0.0  # largest norm of the whole gradient; 0: not clipped
    ema: float = 0.0  # decay of the moving average of the weights, such as 0.999; 0: none
    precision: Precision = "fp32"
    sync_bn: bool = False  # batch norm over all processes; only with ddp on GPUs
    lr_groups: Mapping[str, float] = field(default_factory=dict)  # {prefix of a parameter's name: factor}
    validate_every: int = 0  # steps; 0: only at the end
    save_every: int = 0  # steps; 0: only by time
    save_seconds: float = 300.0  # seconds between checkpoints; 0: only by steps
    log_every: int = 10  # steps in one line of the log
    patience: int = 0  # validations without a better score before it stops; 0: never
    seed: int = 0
    workers: int = 0  # loading processes; 0: load in this process
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    distribution: Distribution = "none"
    devices: int = 1  # processes on each machine
    nodes: int = 1  # machines
    on_error: OnError = "stop"  # what a broken sample does
    monitor: str = ""  # the metric that decides which weights are best; "": the first one `validate` returns
    mode: Mode = "max"  # whether more or less of it is better
    channels_last: bool = True  # memory format of 4-D images and weights: faster convolutions
    deterministic: bool = False  # on GPUs: kernels whose sums have a fixed order (CPUs need no such word)

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            value = getattr(self, name)
            if value not in words:
                raise UsageError(
                    f"{name}={value!r}: expected one of {', '.join(words)}.{did_you_mean(str(value), words)}"
                )
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or value < least:
                raise UsageError(f"{name}={value!r}: expected a number of at least {least:g}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema={self.ema!r}: expected a decay from 0 (off) to below 1, such as 0.999")

    @property
    def share(self) -> int:
        """Samples one process sees in one step."""
        return self.batch_size * self.accumulate

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "lr_groups": dict(self.lr_groups)}


# What may differ between a run and its continuation without changing a single bit of the result.
HARMLESS = frozenset({"workers", "save_every", "save_seconds", "patience", "on_error"})


def differences(old: Mapping[str, Any], new: Plan) -> list[str]:
    """Sentences about every option that changes the numbers of a run that is continued under another plan."""
    return [
        f"{name} was {old[name]!r} when this run began and is {value!r} now"
        for name, value in new.as_dict().items()
        if name in old and old[name] != value and name not in HARMLESS
    ]
