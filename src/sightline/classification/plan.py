"""Every option the user left open, chosen from data and machine, each with its reason; for pictures and clips."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sightline.contracts import Choice, Machine
from sightline.datasets.label_stats import LabelStats
from sightline.errors import SightlineError

BALANCED = 3.0
"""Samples of the most frequent class over those of the rarest, up to which plain cross-entropy is fair."""

_SIDED = re.compile(r"left|right|clockwise|(^|[^a-z])(cw|ccw)([^a-z]|$)", re.I)


def plan(stats: LabelStats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """Choices for intensity, size, augmentation, batch, steps, learning rate, loss and the network's open values.

    values: the builder's values, the user's over the defaults, and the user's own options; besides `builder`: the
    builder's values alone, `own`: the names of those that the user gave, `asked`: the user's `size`.
    """
    small = machine.device == "cpu"
    side = _side(stats, values, small)
    batch = (8 if stats.frames > 1 else 32) if small else (16 if stats.frames > 1 else 64)
    batch = max(2, min(batch, stats.samples))
    low, high = (300, 3000) if small else (2000, 30000)
    steps = max(low, min(high, round(30 * stats.samples / batch)))
    chosen = {
        "intensity": _intensity(stats),
        "resize": Choice(f"exact({side[0]}, {side[1]})", "every sample becomes one size"),
        "size": Choice(list(side), f"pictures of about {stats.pixels.median_size}, a size for this {machine.device}"),
        "augment": _augment(stats, small),
        "batch": Choice(batch, "on a CPU many small steps learn more in the same time" if small else "fills a GPU"),
        "steps": Choice(steps, f"{steps * batch / max(stats.samples, 1):.0f} passes over {stats.samples} samples"),
        "lr": Choice(1e-3, "AdamW; a short warm-up, then down to 0 along a cosine"),
    }
    return chosen | _loss(stats) | _network(values, side, small)


def _side(stats: LabelStats, values: Mapping[str, Any], small: bool) -> tuple[int, int]:
    """Height and width the network sees: a multiple of 16, and no larger than the machine bears."""
    asked = values["builder"]["size"] if "size" in values["own"] else values["asked"]
    if asked is not None:
        return (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])
    most = (112 if stats.frames > 1 else 128) if small else 224
    height, width = stats.pixels.median_size
    side = max(32, min(most, min(height, width) // 16 * 16))
    return side, side


def _intensity(stats: LabelStats) -> Choice:
    kinds = set(stats.pixels.dtypes)
    if kinds <= {"uint8"}:
        return Choice("dtype_max", "8-bit pictures: values are divided by 255")
    if stats.pixels.low >= 0 and stats.pixels.high <= 1:
        return Choice("dtype_max", "the values are in 0..1 already")
    return Choice("percentile(0.5, 99.5)", f"{', '.join(sorted(kinds))} values: scaled within each picture")


def _augment(stats: LabelStats, small: bool) -> Choice:
    if any(_SIDED.search(name) for name in stats.classes):
        return Choice("sided", "names of classes tell left from right: nothing is mirrored")
    if small:
        return Choice("light", "crops and mirror: a short training is better spent on the samples as they are")
    return Choice("medium", "crops, mirror and colour: right for most data")


def _loss(stats: LabelStats) -> dict[str, Choice]:
    counts = [n for n in stats.counts if n]
    if not counts:
        raise SightlineError("no sample of the training data has a class; look for the fault: sightline data check")
    ratio = max(counts) / min(counts)
    words = f"the most frequent class has {ratio:.1f} times the samples of the rarest"
    if ratio <= BALANCED or len(stats.counts) < 2:
        return {"loss": Choice("ce", words + ": nearly balanced")}
    mean = sum(counts) / len(counts)
    weights = [round((mean / n) ** 0.5, 4) if n else 0.0 for n in stats.counts]
    return {
        "loss": Choice("ce", "cross-entropy"),
        "class_weights": Choice(weights, words + ": square roots of inverse-frequency weights"),
    }


def _network(values: Mapping[str, Any], side: tuple[int, int], small: bool) -> dict[str, Choice]:
    """The builder's values that depend on data and machine, where it has them."""
    chosen = {}
    width = values["builder"].get("width")
    if small and isinstance(width, int) and width >= 64 and values.get("weights") is None:
        chosen["model.width"] = Choice(16, "a quarter of the published width: minutes on a CPU instead of hours")
    std = values["builder"].get("std")
    if std and max(std) < 0.02 and values.get("weights") is None and not {"mean", "std"} & set(values["own"]):
        reason = "fresh weights want values near 0; the published scale of 0 to 255 is for published weights"
        chosen["model.mean"], chosen["model.std"] = (Choice([n] * len(std), reason) for n in (0.5, 0.25))
    size = values["builder"].get("size")
    if isinstance(size, (list, tuple)) and len(size) == 2:
        chosen["model.size"] = Choice(list(side), "the size every sample is brought to")
    elif isinstance(size, int):
        chosen["model.size"] = Choice(side[0], "the size every sample is brought to")
    return chosen
