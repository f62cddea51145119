"""What the values of mask files mean: class ids, one foreground class, instance numbers, colours; decided once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sightline.datasets.records import MaskFile
from sightline.datasets.survey import RGB, Asked, colour_table, number_classes
from sightline.errors import SightlineError
from sightline.media.image import read_image
from sightline.media.labels import read_labels

SCAN = 500  # masks that are looked at to learn which values a folder uses
MAX_CLASSES = 255  # 255 itself marks pixels that are never scored


@dataclass(frozen=True)
class Meaning:
    """How every mask of a folder is read; the fields of `MaskFile`, the classes, and the decisions in words."""

    classes: tuple[str, ...]
    colours: tuple[RGB, ...] = ()
    values: Mapping[int, int] | None = None
    table: Mapping[RGB, int] | None = None
    foreground: bool = False
    notes: tuple[str, ...] = ()
    guessed: bool = False  # the classes were counted in the values: other masks may hold more

    def mask(self, path: Path, page: int = 0) -> MaskFile:
        """The record of one mask file."""
        return MaskFile(path, page, values=self.values, colours=self.table, foreground=self.foreground)


@dataclass
class Seen:
    """The values met in a sample of masks, 255 included."""

    values: set[int] = field(default_factory=set)
    wide: bool = False  # some mask has more than 8 bits
    numbered: bool = True  # every mask holds 1..n without a gap, as instance numbers do
    looked: int = 0
    first_error: SightlineError | None = None


def order_by_hash(names: Sequence[str], seed: int) -> list[int]:
    """Positions of `names` in an order that depends on (seed, names) alone, on any machine and Python."""
    digests = [hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names]
    return sorted(range(len(names)), key=lambda i: (digests[i], names[i]))


def meaning(masks: Sequence[tuple[Path, int]], asked: Asked, *, instances: bool = False) -> Meaning:
    """Decide what the values of `masks` (path, page) mean, from what the user asked and what the files hold.

    instances: every value above 0 is an object number, whatever else the files look like.
    Raises `SightlineError` when no mask can be read, or when the values need more than 255 classes.
    """
    if instances:
        return _foreground(asked, "every value above 0 is foreground: instance numbers, as asked")
    if asked.colours and _is_painted(masks):
        classes, colours, table = colour_table(asked)
        _check_count(len(classes), masks[0][0])
        return Meaning(classes, colours, table=table, notes=(f"masks are painted in {len(table)} known colours",))
    seen = look(masks, asked.seed)
    if seen.first_error is not None and not seen.looked:
        raise seen.first_error
    found = _named(seen, asked) if asked.classes else _unnamed(seen)
    _check_count(len(found.classes), masks[0][0] if masks else Path())
    return found


def look(masks: Sequence[tuple[Path, int]], seed: int) -> Seen:
    """The values in at most `SCAN` masks, chosen by seed when there are more; unreadable ones are left to `check`."""
    seen = Seen()
    chosen = order_by_hash([f"{path}#{page}" for path, page in masks], seed)[:SCAN]
    for path, page in (masks[i] for i in sorted(chosen)):
        try:
            labels = read_labels(path, page=page)
        except SightlineError as error:
            seen.first_error = seen.first_error or error
            continue
        values = np.unique(labels)
        seen.values.update(values[:70_000].tolist())
        seen.wide |= labels.dtype.itemsize > 1
        above = values[values > 0]
        seen.numbered &= bool(above.size == 0 or above[-1] == above.size)
        seen.looked += 1
    return seen


def _is_painted(masks: Sequence[tuple[Path, int]]) -> bool:
    for path, page in masks[:20]:
        try:
            return read_image(path, page=page).shape[2] == 3
        except SightlineError:
            continue
    return False


def _check_count(count: int, path: Path) -> None:
    if count > MAX_CLASSES:
        raise SightlineError(
            f"{path.parent}: {count} classes, expected at most {MAX_CLASSES} (255 marks pixels that are never scored); "
            "merge classes, or say format=instances when the values number objects"
        )


def _foreground(asked: Asked, note: str) -> Meaning:
    name = asked.classes if len(asked.classes) == 1 else ("foreground",)
    return Meaning(
        name, tuple(c for _, c in asked.colours[:1]), foreground=True, notes=(f'one class "{name[0]}": {note}',)
    )


def _named(seen: Seen, asked: Asked) -> Meaning:
    classes, ids = number_classes(asked.classes)
    colours = tuple(c for i, (_, c) in enumerate(asked.colours) if ids.get(i) != 255)
    colours = colours if len(colours) == len(classes) else ()
    if len(classes) == 1 and seen.wide:
        return _foreground(asked, "every value above 0, because masks of 16 bits number their objects")
    if len(classes) <= 2 and (values := _two_values(seen)):
        return Meaning(classes, colours, values=values, notes=(_said(values),))
    if len(classes) < len(asked.classes):
        left = [n for i, n in enumerate(asked.classes) if ids[i] == 255]
        note = f"never scored, because of the name: {', '.join(left)}"
        return Meaning(classes, colours, values={**ids, 255: 255}, notes=(note,))
    return Meaning(classes, colours)


def _two_values(seen: Seen) -> dict[int, int] | None:
    """A translation to 0 and 1 when masks hold 0 and one other value above 1."""
    if seen.wide or not seen.values:
        return None
    if seen.values <= {0, 255}:
        return {0: 0, 255: 1}
    if len(seen.values) == 2 and min(seen.values) == 0 and max(seen.values) > 1:
        return {0: 0, max(seen.values): 1}
    return None


def _said(values: Mapping[int, int]) -> str:
    return "mask values " + ", ".join(f"{v} -> {c}" for v, c in sorted(values.items()))


def _unnamed(seen: Seen) -> Meaning:
    if seen.wide:
        return _foreground(Asked(), "every value above 0, because masks of more than 8 bits number their objects")
    if values := _two_values(seen):
        note = f'one class "foreground": {_said(values)}'
        return Meaning(("foreground",), values=values, notes=(note,), guessed=255 not in values)
    ids = sorted(seen.values - {255})
    if set(ids) <= {0, 1}:
        return Meaning(("foreground",), notes=('one class "foreground": mask values 0 and 1',), guessed=True)
    top = ids[-1]
    if ids == list(range(ids[0], top + 1)) or top < 64:
        return _counted(seen, top)
    coded = sorted(seen.values)
    if len(coded) <= 20:
        values = {v: i for i, v in enumerate(coded)}
        note = f"{len(coded)} classes, coded in grey: {_said(values)}"
        return Meaning(tuple(str(i) for i in range(len(coded))), values=values, notes=(note,), guessed=True)
    return _foreground(Asked(), f"every value above 0, because {len(ids)} values with gaps up to {top} number objects")


def _counted(seen: Seen, top: int) -> Meaning:
    notes = [f"{top + 1} classes: mask values 0 to {top} were met in {seen.looked} masks"]
    if 255 in seen.values:
        notes.append("pixels with the value 255 are never scored")
    if seen.numbered and top > 1:
        notes.append("every mask holds 1..n without a gap: say format=instances if these number objects")
    return Meaning(tuple(str(i) for i in range(top + 1)), notes=tuple(notes), guessed=True)
