"""Every option the user left open: the detection room's choices, and what masks, grids and joints need besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.contracts import Choice, Machine
from sightline.datasets.stats import Stats
from sightline.detection.plan import plan as plan_boxes
from sightline.detection.plan import scale_of
from sightline.instance.cells import RANGES

SMALL = {"mask_channels": (256, 64), "joint_channels": (512, 128), "joint_depth": (8, 4), "width": (512, 128)}
"""Builder values: what they are, and what a CPU gets where nobody asked for another."""

USUAL = 100
"""Answers a picture: of every paper here."""


def plan(stats: Stats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """The choices of `detection.plan`, and: widths of the heads, the number of joints, grids' ranges, answers."""
    chosen = plan_boxes(stats, values, machine)
    known = values.get("builder", values)
    resize = values.get("resize") or chosen["resize"].value
    scale = scale_of(stats, resize)
    sides = [side * scale for side in stats.sides]
    if machine.device == "cpu" and "backbone" in known:
        for name, (usual, fewer) in SMALL.items():
            if known.get(name) == usual:
                chosen[f"model.{name}"] = Choice(fewer, "minutes on a CPU instead of hours")
    if "joints" in known and stats.joints:
        chosen["model.joints"] = Choice(stats.joints, "as many as the data's objects have")
    if "ranges" in known:
        chosen["model.ranges"] = _ranges(sides)
    if "radius" in known:
        large = sides[-1 - len(sides) // 10]
        chosen["model.radius"] = Choice(round(large, 1), f"nine of ten objects are smaller than {large:.0f} pixels")
    if "step" in known and "tried" in known:
        small = sides[len(sides) // 10]
        chosen["model.step"] = Choice(
            min(12, max(2, round(small / 2))),
            f"nine of ten objects are larger than {small:.0f} pixels: two points each",
        )
    if "most" in known and stats.most_objects > USUAL:
        most = next(n for n in (200, 500, 1000, 10**6) if n >= stats.most_objects or n == 10**6)
        reason = f"a picture holds {stats.most_objects} objects"
        chosen |= {"model.most": Choice(most, reason), "limit": Choice(most, f"{reason}: so many answers are scored")}
    return chosen


def _ranges(sides: list[float]) -> Choice:
    """SOLO's ranges, shrunk so that the middle of the objects lies where its second level begins to fill."""
    middle = sides[len(sides) // 2]
    factor = min(1.0, middle / 96)
    ranges = [[round(low * factor, 1), round(high * factor, 1)] for low, high in RANGES]
    ranges[0][0], ranges[-1][1] = 0.0, 1e5
    return Choice(ranges, f"the objects' middle side is {middle:.0f} pixels as the network sees them")
