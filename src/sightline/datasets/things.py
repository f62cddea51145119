"""What readers of objects have in common: class ids from names, and boxes that are checked before anything learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sightline.datasets.folders import shown
from sightline.datasets.records import ObjectRecord, Thing
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
