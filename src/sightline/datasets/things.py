"""What readers of objects have in common: class ids from names, and boxes that are checked before anything learns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.folders import shown
from sightline.datasets.paint import inside_of
from sightline.datasets.records import ObjectRecord, Runs, Thing
from sightline.datasets.survey import Asked
from sightline.errors import SightlineError, did_you_mean

REACH = 1.0
"""Pixels by which a box may reach beyond its picture: labelling programs round, and count from 0 or 1."""


class ClassIds:
    """From names to 0..K-1: the asked names, or all names met. There is no background among objects."""

    def __init__(self, asked: Asked, met: Sequence[str], source: Path) -> None:
        self.classes = asked.classes or tuple(met)
        self.notes = [f"classes as asked: {', '.join(asked.classes)}"] if asked.classes else []
        if not self.classes:
            raise SightlineError(f"{source} has no object of any class; expected at least one")
        self._ids = {name: k for k, name in enumerate(self.classes)}

    def number(self, name: str, source: Path, place: int) -> int:
        """The id of a name, or a sentence that says which object of which file has an unknown one."""
        if name not in self._ids:
            raise SightlineError(
                f"{source}: object {place} is a {shown(name)}, which is not among the classes "
                f"{', '.join(self.classes)}.{did_you_mean(name, self.classes)}"
            )
        return self._ids[name]


def fault_of(thing: Thing, size: tuple[int, int], num_classes: int) -> str:
    """What is wrong with an object in a picture of `size` (height, width), in words; "" when nothing is."""
    x0, y0, x1, y1 = thing.box
    if not all(math.isfinite(v) for v in thing.box):
        return f"has a corner that is no number: {thing.box}"
    if x1 < x0 or y1 < y0:
        return f"has swapped corners: {thing.box}"
    if x1 == x0 or y1 == y0:
        return f"has no area: {thing.box}"
    height, width = size
    if min(x0, y0) < -REACH or x1 > width + REACH or y1 > height + REACH:
        return f"reaches outside its picture of {width} x {height} pixels: {thing.box}"
    if not 0 <= thing.label < num_classes:
        return f"has class {thing.label}, expected 0 to {num_classes - 1}"
    return ""


def things_of(record: ObjectRecord, num_classes: int, size: tuple[int, int]) -> tuple[Thing, ...]:
    """The objects of a record whose picture has `size` (height, width); raises `SightlineError` at a bad one."""
    if record.labels is None:
        raise SightlineError(f"{record.image.path} has no labels; expected an annotation of its objects")
    for thing in record.labels:
        if fault := fault_of(thing, size, num_classes):
            source = record.source or record.image.path
            raise SightlineError(f"{source}: object {thing.place} of {record.key} {fault}; correct or remove it")
    return record.labels


Box = tuple[float, float, float, float]


def extent(parts: Sequence[Any]) -> Box:
    """The box around polygons `(N, 2)` and `Runs`; without any pixel it has no area."""
    boxes = [_of_runs(part) if isinstance(part, Runs) else _of_ring(part) for part in parts if len(_content(part))]
    if not boxes:
        return 0.0, 0.0, 0.0, 0.0
    low, high = np.array(boxes)[:, :2].min(axis=0), np.array(boxes)[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _content(part: Any) -> Sequence[Any]:
    return part.counts[1::2] if isinstance(part, Runs) else part


def _of_ring(ring: np.ndarray) -> list[float]:
    return [*ring.min(axis=0), *ring.max(axis=0)]


def _of_runs(runs: Runs) -> list[float]:
    seen = inside_of(runs.counts, runs.size, by_rows=runs.by_rows)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    top, left = runs.at
    return [columns[0] + left, rows[0] + top, columns[-1] + left + 1.0, rows[-1] + top + 1.0]


def joined(shapes: Iterable[tuple[Any, Thing]]) -> tuple[Thing, ...]:
    """Shapes `(group, thing)` of one class and one group (not None) are parts of one object, as LabelMe means it."""
    found: dict[Any, Thing] = {}
    for order, (group, thing) in enumerate(shapes):
        key = ("alone", order) if group is None else ("group", thing.label, thing.crowd, shown(group))
        if key in found:
            first = found[key]
            box = extent([np.array(t.box).reshape(2, 2) for t in (first, thing)])
            mask = [*(first.mask or ()), *(thing.mask or ())] or None
            thing = replace(first, box=box, mask=mask)
        found[key] = thing
    return tuple(found.values())
