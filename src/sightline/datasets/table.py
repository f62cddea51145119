"""A CSV that lists pictures: index.csv with paths or ids, and if it likes a split and a group for each.

Columns, by their usual names: image|filename|path|... (a path below the folder of the CSV, or below images/),
mask|label|mask_path|... (the same, below masks/ or labels/), or id|image_id (the stem of a picture in images/ and of a
mask in masks/ or labels/); split|set|subset; group|sequence|patient|slide|case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.datasets.class_files import read_rows
from sightline.datasets.folders import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    exists,
    inside,
    pictures,
    shown,
    split_name,
    subfolders,
)
from sightline.datasets.pairs import Pair, from_pairs
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

NAMES = ("index.csv", "dataset.csv", "data.csv", "metadata.csv", "annotations.csv", "train.csv")
COLUMNS = {
    "image": ("image", "image_path", "img", "img_path", "picture", "file", "filename", "file_name", "path", "images"),
    "mask": ("mask", "mask_path", "label", "label_path", "labels", "annotation", "gt", "masks", "segmentation"),
    "id": ("id", "image_id", "imageid", "img_id", "name", "stem"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "sequence", "patient", "patient_id", "slide", "case", "video"),
}


@dataclass(frozen=True)
class Table:
    """A CSV understood: which column says what, and its rows."""

    path: Path
    columns: Mapping[str, int]
    rows: list[list[str]]

    def cell(self, row: list[str], what: str) -> str:
        """The text of one cell, "" when the table or the row has no such column."""
        at = self.columns.get(what, -1)
        return row[at] if 0 <= at < len(row) else ""


def columns_of(header: list[str]) -> dict[str, int]:
    """Which column is the image, the mask, the id, the split, the group."""
    low = [h.strip().lower() for h in header]
    return {
        what: next(low.index(n) for n in names if n in low) for what, names in COLUMNS.items() if set(names) & set(low)
    }


def find_table(root: Path) -> Path | None:
    """The CSV in `root` (or `root` itself) that lists pictures, if there is one."""
    if root.suffix.lower() == ".csv":
        return root
    for name in NAMES:
        path = root / name
        if exists(path):
            columns = columns_of(next(iter(read_rows(path)), []))
            if "id" in columns or "image" in columns:
                return path
    return None


def read_table(root: Path, asked: Asked) -> Survey:
    """The pictures a CSV lists, with its splits and groups."""
    survey, matched = listed_pairs(root)
    return from_pairs(survey, matched, asked)


def listed_pairs(root: Path) -> tuple[Survey, list[Pair]]:
    """The pictures and masks a CSV lists, and a survey with the faults of its rows."""
    path = find_table(root)
    if path is None:
        raise SightlineError(
            f"{root} has no table of pictures; expected index.csv with the columns image and mask, or id"
        )
    rows = read_rows(path)
    table = Table(path, columns_of(rows[0]) if rows else {}, rows[1:])
    if not table.rows or not ("image" in table.columns or "id" in table.columns):
        raise SightlineError(
            f"{path} lists no pictures; expected a header with the columns image and mask, or id, and rows"
        )
    survey = Survey(path.parent, "table", notes=[f"pictures, splits and groups as {path.name} lists them"])
    finder = Finder(path)
    return survey, [pair for row in table.rows if (pair := _pair(table, row, finder, survey)) is not None]


class Finder:
    """Finds the files a table names: by path, or by stem in the folders of pictures and masks."""

    def __init__(self, table: Path) -> None:
        self.table, self.root = table, table.parent
        folders = subfolders(self.root)
        self.images = [f for f in folders if f.name.lower() in IMAGE_FOLDERS]
        self.masks = [f for f in folders if f.name.lower() in LABEL_FOLDERS]
        self._stems: dict[Path, dict[str, Path]] = {}

    def by_path(self, name: str, folders: list[Path]) -> Path | None:
        """The file `name` below the root or one of `folders`; absolute names and escapes are refused."""
        tried = [inside(self.root, folder, name, self.table) for folder in (self.root, *folders)]
        return next((p for p in tried if exists(p)), None)

    def by_stem(self, stem: str, folders: list[Path]) -> Path | None:
        """The picture with that stem in one of `folders`."""
        for folder in folders:
            if folder not in self._stems:
                self._stems[folder] = {p.stem: p for p in pictures(folder)}
            if found := self._stems[folder].get(stem):
                return found
        return None

    def find(self, name: str, folders: list[Path]) -> Path | None:
        """By path, else by stem."""
        return self.by_path(name, folders) or self.by_stem(Path(name).stem, folders) or self.by_stem(name, folders)


def _pair(table: Table, row: list[str], finder: Finder, survey: Survey) -> Pair | None:
    name = table.cell(row, "image") or table.cell(row, "id")
    label = table.cell(row, "mask")
    try:
        image = finder.find(name, finder.images) if name else None
        mask = finder.find(label, finder.masks) if label else None
        if not label and "mask" not in table.columns and image is not None:
            mask = finder.by_stem(image.stem, finder.masks) or finder.by_stem(f"{image.stem}_mask", finder.masks)
    except SightlineError as error:
        survey.error(table.path, str(error))
        return None
    split = split_name(table.cell(row, "split"))
    if image is None:
        survey.error(
            table.path, f"{table.path} lists the picture {shown(name)}, which is not there; add it or remove the row"
        )
        return None
    if mask is None and (label or split in ("train", "val")):
        survey.error(image, f"{image} is listed in {table.path.name} but has no mask; add the mask or remove the row")
        return None
    return Pair(image, mask, split, table.cell(row, "group"))
