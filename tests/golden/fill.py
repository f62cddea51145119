"""The numbers of the golden cases: every tensor is a function of its public name and shape, every input of a seed.

Whoever has the public implementation fills it by the same rules and gets the same answers.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor the public checkpoint calls `name`: variances, means, scales and kernels each from their own range."""
    leaf = name.replace("/", ".").split(".")[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if leaf in ("running_var", "moving_variance", "moving_var"):
        values = random.uniform(0.5, 2.0, shape)
    elif leaf in ("running_mean", "moving_mean", "bias", "beta", "biases"):
        values = 0.1 * random.standard_normal(shape)
    elif len(shape) <= 1:
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.standard_normal(shape) * np.sqrt(2.0 / int(np.prod(shape[1:])))
    return np.asarray(values, np.float32)


def checkpoint(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The public checkpoint of a case's description: filled, then `gain`, `override` and `aliases` applied."""
    tensors = {name: fill(name, tuple(shape)) for name, shape in case["schema"].items()}
    for name, factor in (case.get("gain") or {}).items():
        tensors[name] = tensors[name] * np.float32(factor)
    for name, value in (case.get("override") or {}).items():
        if isinstance(value, dict):
            for row, number in value.items():
                tensors[name][int(row)] = number
        else:
            tensors[name][...] = np.asarray(value, tensors[name].dtype)
    for name, original in (case.get("aliases") or {}).items():
        tensors[name] = tensors[original]
    return tensors


def image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A seeded input, uniform in [0, 1)."""
    return np.random.RandomState(seed).random_sample(shape).astype(np.float32)


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of the case at `path` (its .json)."""
    description = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as arrays:
        return description, dict(arrays)
