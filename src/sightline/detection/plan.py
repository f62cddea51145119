"""Every option the user left open, chosen from the data and the machine, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sightline.contracts import Choice, Machine
from sightline.datasets.choices import choose_intensity, mean_and_spread, most_channels
from sightline.datasets.stats import Stats
from sightline.errors import SightlineError
from sightline.ops.hog import CELL

SMALL = {"backbone": ("resnet50", "resnet18"), "channels": (256, 128), "hidden": (1024, 256), "depth": (4, 2)}
FEW = {"before": (600, 300), "after": (300, 150), "rpn_count": 128, "count": 128}
"""Builder values: what they are, and what a CPU gets where nobody asked for another."""

LONG = 320
"""Pixels of the longer side on a CPU."""


def plan(stats: Stats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """Choices for intensity, size, augmentation, batch, steps, learning rate and the network's open values.

    stats: of the training pictures; values: the builder's values, the user's over the defaults, and the user's own
    options.
    """
    if not stats.sides:
        raise SightlineError("no training picture has an object; look for the fault: sightline data check")
    small = machine.device == "cpu"
    batch = 4 if small else 16
    steps = _steps(stats.pictures, batch, small)
    intensity, resize = choose_intensity(stats), _whole(values) or _resize(stats, small)
    used = values.get("resize") or resize.value
    chosen = {
        "intensity": intensity,
        "resize": resize,
        "size": Choice(None, "every picture keeps its size; a batch is padded to the largest"),
        "augment": Choice("light", "scale and mirror: boxes move with the picture"),
        "batch": Choice(batch, "many small steps" if small else "fits a GPU's memory"),
        "steps": Choice(steps, f"{steps * batch / stats.pictures:.0f} passes over {stats.pictures} pictures"),
        "lr": Choice(5e-4 if small else 2e-4, "AdamW; a short warm-up, then down to 0 along a cosine"),
    }
    return chosen | _network(stats, values, small, values.get("intensity") or intensity.value, used)


def _whole(values: Mapping[str, Any]) -> Choice | None:
    """The one size of networks that see every picture at that size; None for all others."""
    entry, builder = values.get("entry"), values.get("builder", {})
    if entry is None or not entry.resize.startswith("exact"):
        return None
    side = builder.get("size")
    rule = f"exact({side}, {side})" if isinstance(side, int) else entry.resize
    return Choice(rule, "this network sees every picture at one size")


def _resize(stats: Stats, small: bool) -> Choice:
    longest = max(stats.median_size)
    if small and longest > LONG:
        return Choice(f"long({LONG})", f"pictures of about {longest} pixels: a size for this CPU")
    if not small and longest > 1333:
        return Choice("within(800, 1333)", "the usual size of detectors")
    return Choice("none", "the network works at the pictures' own size")


def _steps(pictures: int, batch: int, small: bool) -> int:
    """40 passes; from 400 to 2,000 steps on a CPU, from 2,000 to 40,000 elsewhere."""
    low, high = (400, 2000) if small else (2000, 40000)
    return max(low, min(high, round(40 * pictures / batch)))


def scale_of(stats: Stats, resize: str) -> float:
    """The factor by which the resize rule enlarges a picture of median size."""
    from sightline.media.prepare import target_size

    height, width = stats.median_size
    return max(target_size((height, width), resize)) / max(height, width)


def _network(stats: Stats, values: Mapping[str, Any], small: bool, intensity: str, resize: str) -> dict[str, Choice]:
    """The builder's values that depend on data and machine, where it has them."""
    chosen = {}
    channels = most_channels(stats)
    if "in_channels" in values and channels not in (1, 3):
        chosen["model.in_channels"] = Choice(channels, f"the pictures have {channels} channels")
    if small:
        for name, (usual, fewer) in SMALL.items():
            if values.get(name) == usual and "backbone" in values:
                chosen[f"model.{name}"] = Choice(fewer, "minutes on a CPU instead of hours")
        if "backbone" in values and "rpn_count" in values:
            reason = "small pictures hold fewer objects: proposals and samples to look at"
            chosen |= {f"model.{name}": Choice(value, reason) for name, value in FEW.items()}
    if "anchors" in values and "backbone" in values and not values.get("weights"):
        scale = scale_of(stats, resize)
        sides = [side * scale for side in stats.sides]
        chosen["model.anchors"] = _anchors(sides, len(values["anchors"]))
    if ("window" in values or "part" in values) and stats.shapes:
        chosen |= _windows(stats, values, scale_of(stats, resize))
    trained = values.get("weights") is not None or values.get("backbone_weights") is not None
    if "mean" in values and not trained:  # trained weights want the mean they were trained with
        mean, std, reason = mean_and_spread(stats, intensity)
        if channels == 1:
            mean, std = mean * 3, std * 3
        chosen["model.mean"] = Choice([round(m, 4) for m in mean], f"mean of {reason}")
        chosen["model.std"] = Choice([round(max(s, 1e-3), 4) for s in std], f"standard deviation of {reason}")
    return chosen


def _windows(stats: Stats, values: Mapping[str, Any], scale: float) -> dict[str, Choice]:
    """The sliding window of systems that have one: the shape of the median object, the size of the smaller ones."""
    side = min(max(stats.sides[len(stats.sides) // 10] * scale, 24.0), 96.0)
    shape = min(max(stats.shapes[len(stats.shapes) // 2], 0.25), 4.0)
    height, width = side * math.sqrt(shape), side / math.sqrt(shape)
    reason = f"the shape of the objects, height / width {shape:.2f}, as small as a tenth of them is seen"
    if "window" in values:
        grid = [max(2, round(n / values["context"] / CELL)) * CELL for n in (height, width)]
        return {"model.window": Choice(grid, f"{reason}, in pixels")}
    cells = [max(math.ceil(values["part"] / 2), round(n / CELL)) for n in (height, width)]
    return {"model.windows": Choice([cells], f"{reason}, in cells of {CELL} pixels")}


def _anchors(sides: list[float], levels: int) -> Choice:
    """One size a level, each twice the one before, so that the middle of them is the middle of the objects."""
    middle = math.sqrt(sides[len(sides) // 20] * sides[-1 - len(sides) // 20])
    first = middle / 2 ** ((levels - 1) / 2)
    first = min(max(2 ** (round(2 * math.log2(first)) / 2), 4.0), 32.0)
    sizes = [round(first * 2**i, 1) for i in range(levels)]
    return Choice(
        sizes, f"the objects' sides run from {sides[0]:.0f} to {sides[-1]:.0f} pixels as the network sees them"
    )
