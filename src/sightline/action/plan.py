"""What a run on clips leaves open: the choices for pictures by class, and the rule by which clips are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.action.features import RULE
from sightline.action.features import plan as plan_of_features
from sightline.action.sampling import ClipRule, parse_rule
from sightline.classification.plan import plan as plan_of_classes
from sightline.contracts import Choice, Machine
from sightline.datasets.label_stats import LabelStats
from sightline.errors import UsageError


def plan(stats: LabelStats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """As for pictures; `clip` is the entry's own rule where the videos are long enough, else one that spans them."""
    if stats.features != (values["entry"].clip == RULE):
        words = "holds features" if stats.features else "holds no features"
        raise UsageError(f"the data {words}: features of frames are read by youtube8m_logistic, and by it alone")
    if stats.features:
        return plan_of_features(stats, values)
    if stats.volume is not None:
        return plan_of_volumes(stats, values, machine)
    chosen = plan_of_classes(stats, values, machine)
    chosen["clip"] = clip_choice(stats, values)
    return chosen


def plan_of_volumes(stats: LabelStats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """As for pictures, but nothing is resized, cut or mirrored: every voxel has its place in the brain."""
    assert stats.volume is not None
    chosen = plan_of_classes(stats, values, machine)
    chosen |= {
        "intensity": Choice("zscore", "the scanner's units mean nothing: every volume has mean 0 and deviation 1"),
        "resize": Choice("none", "all volumes have one grid"),
        "size": Choice(list(stats.volume[1:]), "the volumes' own"),
        "augment": Choice("none", "every voxel has its place in the brain"),
        "batch": Choice(max(2, min(16, stats.samples)), "volumes are large"),
        "clip": Choice(f"whole{stats.volume}", "a volume is looked at as a whole"),
    }
    if "size" in values["builder"]:
        chosen["model.size"] = Choice(list(stats.volume), "the volumes' own")
    return chosen


def clip_choice(stats: LabelStats, values: Mapping[str, Any]) -> Choice:
    """The rule by which clips are taken."""
    if values.get("clip"):
        return Choice(str(parse_rule(values["clip"])), "as asked")
    own = parse_rule(values["entry"].clip or "linspace(16, 2)")
    frames = values["builder"].get("frames")
    if isinstance(frames, int) and frames != own.frames:
        own = replace(own, frames=frames)
    if own.span(stats.frames, stats.fps) <= stats.frames:
        return Choice(str(own), "the rule of the paper's weights")
    if own.name == "dense":
        return Choice(f"segments({own.frames})", f"videos of about {stats.frames} frames are shorter than its window")
    if own.name == "arange":
        step = max(1, (stats.frames - 1) // max(1, own.frames - 1))
        return Choice(
            str(ClipRule("arange", own.frames, step)), f"clips that span videos of about {stats.frames} frames"
        )
    rate = max(1, int(stats.frames * 30 / stats.fps) // own.frames)
    return Choice(str(replace(own, number=rate)), f"clips that span videos of about {stats.frames} frames")
