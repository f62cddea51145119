"""Typed records: what a data set says about each of its samples, without any pixels read yet.

A reader (one file a format) turns a folder into a `DataSet` of records; rooms turn records into targets.
Further kinds of truth (boxes, clips, volumes) are further record types beside `PixelRecord`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Picture:
    """Where the pixels of one picture are: a file, and the page of a multi-page file."""

    path: Path
    page: int = 0


@dataclass(frozen=True)
class MaskFile:
    """Labels that stand in a picture file, and how its values become class ids.

    values: `{value in the file: class id}`; values that are not listed are a fault named with the file.
        None: the values are the class ids (0..K-1, and 255 for "never scored").
    colours: `{(r, g, b): class id}` for masks painted in colours, when the user gave a colour table.
    foreground: every value above 0 is class 1 (instance ids as foreground).
    """

    path: Path
    page: int = 0
    values: Mapping[int, int] | None = None
    colours: Mapping[tuple[int, int, int], int] | None = None
    foreground: bool = False


@dataclass(frozen=True)
class MaskStack:
    """Multi-label: a mask of its own for every class, where any value above 0 says yes; classes may overlap.

    None: the class is nowhere in this picture.
    """

    masks: tuple[Path | None, ...]
    source: Path  # the folder they lie in, for messages


@dataclass(frozen=True)
class Runs:
    """Labels stored as run lengths that begin with background: down the columns (COCO), or along the rows (CVAT).

    The runs cover a rectangle of `size` (height, width) whose top left pixel stands `at` (row, column).
    """

    counts: tuple[int, ...]
    size: tuple[int, int]
    at: tuple[int, int] = (0, 0)
    by_rows: bool = False


@dataclass(frozen=True)
class Polygons:
    """Labels drawn as shapes: `(class id, points (N, 2) as x, y, or Runs)` in painting order."""

    shapes: tuple[tuple[int, Any], ...]
    size: tuple[int, int]  # height, width the polygons were drawn on
    source: Path  # the annotation file, for messages
    fill: int = 0


@dataclass(frozen=True)
class PixelRecord:
    """One picture with a class for every pixel."""

    key: str  # stable and unique in the data set: the path below its root, "#page" for pages
    image: Picture
    labels: MaskFile | MaskStack | Polygons | None  # None: a picture without labels (predict, test sets)
    group: str = ""  # pictures of one group (a sequence, a slide, a person) never stand on both sides of a split
    split: str = ""  # as given by the data set, or "" when it gives none


@dataclass(frozen=True)
class VolumeRecord(PixelRecord):
    """One volume with a class for every voxel; its labels are a `MaskFile` that is a volume too.

    files: a file (or a folder of DICOM slices) for each group of channels, in order; the first is `image.path`.
    """

    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Thing:
    """One object of a picture.

    box: x0, y0, x1, y1 in continuous pixels (readers have translated what their format counts from).
    crowd: many objects in one outline; difficult: marked so by the data set. Neither is learned from nor scored.
    area: of the mask, where the data set says it. mask: a list of polygons `(N, 2)` as x, y, or `Runs`, or a `MaskFile`
    whose value is `value`. points: x, y, and 0 (not labelled), 1 (hidden) or 2 (seen), for each joint.
    place: its number in the annotation file, for messages.
    """

    label: int
    box: tuple[float, float, float, float]
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    mask: Any = None
    value: int = 0
    points: tuple[tuple[float, float, int], ...] = ()
    place: int = 0


@dataclass(frozen=True)
class ObjectRecord:
    """One picture with its objects; an empty tuple is a picture without any, None one that nobody labelled."""

    key: str
    image: Picture
    labels: tuple[Thing, ...] | None
    source: Path | None = None  # the annotation file, for messages
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class ClassRecord:
    """One picture or video with one class for the whole of it."""

    key: str
    image: Picture  # the file: a picture, or a video
    labels: int | None  # the class id; None: without a label
    group: str = ""
    split: str = ""
    video: bool = False


@dataclass(frozen=True)
class DataSet:
    """A folder understood: its records, classes, and every decision that was taken on the way, in words."""

    root: Path
    format: str
    records: tuple[Any, ...]
    classes: tuple[str, ...]  # names of the ids 0..K-1; one name: a binary set with values 0 and 1
    colours: tuple[tuple[int, int, int], ...] = ()  # a colour a class, when the data set brings its own
    notes: tuple[str, ...] = ()  # decisions said aloud: "no split given: a seeded fifth ..."
    facts: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> DataSet:
        """The records of one split, in their order."""
        return replace(self, records=tuple(r for r in self.records if r.split == name))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that have records, train first."""
        order = {"train": 0, "val": 1, "test": 2}
        return tuple(sorted({r.split for r in self.records if r.split}, key=lambda s: (order.get(s, 3), s)))
