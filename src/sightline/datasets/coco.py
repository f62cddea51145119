"""COCO instance annotations as masks: polygons and run lengths, compressed or not.

Annotation files: annotations/*.json, *.json in the folder, or `_annotations.coco.json` in split folders (Roboflow).
Where objects overlap the smaller one is on top; crowd regions (`iscrowd`) are never scored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.datasets.class_files import read_json
from sightline.datasets.folders import (
    IMAGE_FOLDERS,
    SPLITS,
    exists,
    files,
    home_of,
    inside,
    key_of,
    shown,
    subfolders,
)
from sightline.datasets.paint import counts_of
from sightline.datasets.records import Picture, PixelRecord, Polygons, Runs
from sightline.datasets.shapes import Names, check_names, points_of, size_of
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

_HEAD = 65_536


def find_annotations(root: Path) -> list[tuple[Path, str]]:
    """`(file, split)` of the COCO files with segmentations in `root`; instances_*.json before all others."""
    if root.is_file():
        return [(root, "")] if root.suffix.lower() == ".json" and looks_right(root) else []
    homes = [root / "annotations", root, *(f for f in subfolders(root) if f.name.lower() in SPLITS)]
    found = [(path, split_of(path)) for home in homes for path in files(home, ".json") if looks_right(path)]
    instances = [(path, split) for path, split in found if path.stem.startswith("instances")]
    return instances or found


def split_of(path: Path) -> str:
    """The split that a file's name or folder says."""
    words = [*re.split(r"[_\-. ]", path.stem.lower()), path.parent.name.lower()]
    return next((SPLITS[w.rstrip("0123456789")] for w in words if w.rstrip("0123456789") in SPLITS), "")


def looks_right(path: Path, *, joints: bool = False) -> bool:
    """Whether the words of a COCO file stand in its beginning or end, and it is not one of captions (or joints)."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_HEAD)
            stream.seek(max(path.stat().st_size - _HEAD, 0))
            text += stream.read()
    except OSError:
        return False
    words = sum(
        word in text for word in (b'"images"', b'"annotations"', b'"categories"', b'"file_name"', b'"segmentation"')
    )
    return words >= 3 and (joints or b'"keypoints"' not in text) and b'"caption"' not in text


def read_coco(root: Path, asked: Asked) -> Survey:
    """The pictures of COCO files with their objects painted as classes."""
    found = [(root, "")] if root.is_file() else find_annotations(root)
    if not found:
        raise SightlineError(f"{root} has no COCO annotations; expected a JSON with images, annotations and categories")
    home = home_of(root) if root.is_file() else root
    survey = Survey(home, "coco", notes=["overlaps: smaller objects on top; crowd regions are never scored"])
    contents = [(path, split, content_of(path)) for path, split in found]
    categories: dict[Any, str] = {}
    for path, _, content in contents:
        categories |= categories_of(content, path)
    used = list(dict.fromkeys(categories[k] for k in sorted(categories)))
    names = Names(asked, used)
    check_names(list(names.ids), found[0][0])
    survey.classes = names.classes
    survey.notes += names.notes
    for path, split, content in contents:
        _records(survey, path, split, content, {k: names.number(v, path) for k, v in categories.items()})
    return survey


def content_of(path: Path) -> dict[str, Any]:
    """A COCO file, checked to hold its three lists."""
    content = read_json(path)
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(_is_table(content.get(part)) for part in parts):
        raise SightlineError(f"{path} must hold the lists images, annotations and categories; export it as COCO again")
    return content


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def categories_of(content: dict[str, Any], path: Path) -> dict[Any, str]:
    """`{category id: name}`."""
    for row in content["categories"]:
        if not isinstance(row.get("id"), int) or not isinstance(row.get("name"), str) or not row["name"].strip():
            raise SightlineError(f"{path}: the category {shown(row)} has no id and name; correct it")
    return {row["id"]: row["name"] for row in content["categories"]}


def _records(survey: Survey, path: Path, split: str, content: dict[str, Any], ids: Mapping[Any, int]) -> None:
    objects: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in content["annotations"]:
        if isinstance(row.get("image_id"), (int, str)):
            objects[row["image_id"]].append(row)
    finder = Finder(survey.root, path)
    for row in content["images"]:
        try:
            number = row.get("id")
            if not isinstance(number, (int, str)):
                raise SightlineError(f"{path}: the picture {shown(row)} has no id; correct it")
            image = finder.find(row.get("file_name"))
            size = size_of(row.get("height"), row.get("width"), path)
            labels = Polygons(_painted(objects.pop(number, []), ids, path, size), size, path)
            survey.records.append(PixelRecord(key_of(image, survey.root), Picture(image), labels, split=split))
        except SightlineError as error:
            survey.error(path, str(error))
    for number in list(objects)[:20]:
        survey.error(path, f"{path}: annotations of the picture id {shown(number)}, which images does not list; add it")


class Finder:
    """Finds pictures by the file names of one annotation file, in the folders where COCO's tools put them."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        homes = [path.parent, root, *(f for f in subfolders(root) if f.name.lower() not in ("annotations",))]
        homes += [deeper for f in homes[2:] if f.name.lower() in IMAGE_FOLDERS for deeper in subfolders(f)]
        year = re.sub(r"^.*?((train|val|test)\d*).*$", r"\1", path.stem.lower())
        self.homes = sorted(
            homes, key=lambda f: f.name.lower() != year
        )  # of two files the one of the split comes first

    def find(self, name: Any) -> Path:
        """The picture `name`, or a sentence."""
        if not isinstance(name, str):
            raise SightlineError(f"{self.path}: the file name {shown(name)} is no text; correct the annotations")
        for home in self.homes:
            image = inside(self.root, home, name, self.path)
            if exists(image):
                return image
        raise SightlineError(f"{self.path}: the picture {shown(name)} is not below {self.root}; add it or its folder")


def _painted(
    rows: list[dict[str, Any]], ids: Mapping[Any, int], path: Path, size: tuple[int, int]
) -> tuple[tuple[int, Any], ...]:
    shapes: list[tuple[bool, float, int, Any]] = []
    for row in rows:
        category = row.get("category_id")
        if not isinstance(category, int) or category not in ids:
            raise SightlineError(f"{path}: the category id {shown(category)} is not in categories; add it")
        crowd = row.get("iscrowd") in (1, True)
        parts = parts_of(row.get("segmentation"), path, size)
        area = row.get("area")
        known = isinstance(area, (int, float)) and not isinstance(area, bool) and 0 <= area < float("inf")
        big = float(area) if known and area is not None else _area(parts)
        shapes += [(not crowd, -big, 255 if crowd else ids[category], part) for part in parts]
    shapes.sort(key=lambda s: s[:2])  # crowds below everything, then the larger ones
    return tuple((number, part) for _, _, number, part in shapes)


def _area(parts: list[Any]) -> float:
    """Roughly how many pixels a shape has, for the painting order alone."""
    total = 0.0
    for part in parts:
        if isinstance(part, Runs):
            total += sum(part.counts[1::2])
        elif len(part):
            low, high = part.min(axis=0), part.max(axis=0)
            total += float((high[0] - low[0]) * (high[1] - low[1]))
    return total


def parts_of(segmentation: Any, path: Path, size: tuple[int, int]) -> list[Any]:
    """Polygons (a list of flat lists) or run lengths (`counts` as list or text); an empty list has no pixels."""
    if isinstance(segmentation, list):
        rings = segmentation if all(isinstance(ring, list) for ring in segmentation) else [segmentation]
        return [points_of(ring, path, size) for ring in rings if len(ring) >= 6]
    if not isinstance(segmentation, dict):
        raise SightlineError(f"{path}: the segmentation {shown(segmentation)} is neither polygons nor run lengths")
    counts, given = segmentation.get("counts"), segmentation.get("size")
    if given != [size[0], size[1]]:
        raise SightlineError(f"{path}: run lengths of size {shown(given)} for a picture of {[*size]} (height, width)")
    if isinstance(counts, str):
        try:
            counts = counts_of(counts, limit=size[0] * size[1] + 1)
        except ValueError as error:
            raise SightlineError(f"{path}: compressed run lengths are damaged ({error}); export it again") from error
    if not isinstance(counts, (list, tuple)) or not all(type(c) is int and 0 <= c <= size[0] * size[1] for c in counts):
        raise SightlineError(f"{path}: the run lengths {shown(counts)} are not numbers of pixels; export it again")
    if sum(counts) != size[0] * size[1]:
        raise SightlineError(f"{path}: run lengths cover {sum(counts)} pixels of {size[0] * size[1]}; export it again")
    return [Runs(tuple(counts), size)]
