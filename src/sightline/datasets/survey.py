"""What a reader is asked and what it hands back, before splits are made and faults become errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a data set: how bad, where, and one sentence that says what to do."""

    severity: Literal["error", "warning"]
    path: Path
    sentence: str


@dataclass(frozen=True)
class Asked:
    """What the user said about the classes.

    classes: names in the order of the ids; empty: find them.
    colours: `(name, colour)` for masks painted in colours, in the order of the ids; the name may be "".
    """

    classes: tuple[str, ...] = ()
    colours: tuple[tuple[str, RGB], ...] = ()
    seed: int = 0


@dataclass
class Survey:
    """A folder as its reader found it; `open.py` turns it into a `DataSet`, `check.py` into a list of faults."""

    root: Path
    format: str
    records: list[Any] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    colours: tuple[RGB, ...] = ()
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def error(self, path: Path, sentence: str) -> None:
        """Remember a fault that must be repaired before training."""
        self.faults.append(Fault("error", path, sentence))

    def warning(self, path: Path, sentence: str) -> None:
        """Remember something suspicious that does not stop the work."""
        self.faults.append(Fault("warning", path, sentence))


NOT_SCORED = frozenset({"void", "ignore", "ignored", "unlabelled", "unlabeled", "not scored"})


def number_classes(names: Sequence[str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names without those that mean "never scored", and `{position in names: class id, or 255}`."""
    classes = tuple(n for n in names if n.strip().lower() not in NOT_SCORED)
    numbers = iter(range(len(classes)))
    return classes, {i: 255 if n.strip().lower() in NOT_SCORED else next(numbers) for i, n in enumerate(names)}


def colour_table(asked: Asked) -> tuple[tuple[str, ...], tuple[RGB, ...], Mapping[RGB, int]]:
    """Classes, their colours, and `{colour: class id or 255}` from the table the user or the folder gave."""
    names = tuple(name or str(i) for i, (name, _) in enumerate(asked.colours))
    if asked.classes and len(asked.classes) == len(names):
        names = asked.classes
    classes, ids = number_classes(names)
    table = {colour: ids[i] for i, (_, colour) in enumerate(asked.colours)}
    return classes, tuple(c for i, (_, c) in enumerate(asked.colours) if ids[i] != 255), table
