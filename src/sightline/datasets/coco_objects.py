"""COCO's objects (Lin et al. 2014): boxes, masks as polygons or run lengths, crowds, joints.

Boxes are x, y, width, height in continuous pixels. Category ids are numbered anew, 0..K-1, in the order of the ids.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.datasets.coco import Finder, categories_of, content_of, looks_right, parts_of, split_of
from sightline.datasets.folders import SPLITS, files, home_of, key_of, shown, subfolders
from sightline.datasets.records import ObjectRecord, Picture, Thing
from sightline.datasets.shapes import size_of
from sightline.datasets.survey import Asked, Survey
from sightline.datasets.things import ClassIds
from sightline.errors import SightlineError


def find_annotations(root: Path) -> list[tuple[Path, str]]:
    """`(file, split)` of the COCO files with boxes in `root`; instances_*.json before all others."""
    if root.is_file():
        return [(root, "")] if root.suffix.lower() == ".json" and looks_right(root, joints=True) else []
    homes = [root / "annotations", root, *(f for f in subfolders(root) if f.name.lower() in SPLITS)]
    every = [path for home in homes for path in files(home, ".json") if looks_right(path, joints=True)]
    found = [(path, split_of(path)) for path in every]
    for start in ("instances", "person_keypoints"):
        if some := [(path, split) for path, split in found if path.stem.startswith(start)]:
            return some
    return found


def read_coco_objects(root: Path, asked: Asked) -> Survey:
    """The pictures of COCO files with their objects."""
    found = find_annotations(root)
    if not found:
        raise SightlineError(f"{root} has no COCO annotations; expected a JSON with images, annotations and categories")
    home = home_of(root) if root.is_file() else root
    survey = Survey(home, "coco")
    contents = [(path, split, content_of(path)) for path, split in found]
    categories: dict[Any, str] = {}
    for path, _, content in contents:
        categories |= categories_of(content, path)
    names = ClassIds(asked, list(dict.fromkeys(categories[k] for k in sorted(categories))), found[0][0])
    survey.classes = names.classes
    survey.notes += names.notes
    ids = {k: names.number(v, found[0][0], 0) for k, v in categories.items()}
    survey.facts["categories"] = {str(k): number for k, number in ids.items()}  # what results files call the classes
    survey.facts |= joints_of([row for _, _, content in contents for row in content["categories"]])
    for path, split, content in contents:
        _records(survey, path, split, content, ids)
    return survey


def joints_of(categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The names of the joints and which of them a skeleton joins (counted from 0), as the first category has them."""
    for row in categories:
        names, joined = row.get("keypoints"), row.get("skeleton")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            pairs = joined if isinstance(joined, list) else []
            whole = [p for p in pairs if isinstance(p, list) and len(p) == 2 and all(isinstance(n, int) for n in p)]
            return {"joints": names, "skeleton": [[a - 1, b - 1] for a, b in whole]}
    return {}


def _records(survey: Survey, path: Path, split: str, content: dict[str, Any], ids: Mapping[Any, int]) -> None:
    objects: defaultdict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for place, row in enumerate(content["annotations"]):
        if isinstance(row.get("image_id"), (int, str)):
            objects[row["image_id"]].append((place, row))
    finder = Finder(survey.root, path)
    _check_ids(survey, path, content)
    for row in content["images"]:
        try:
            number = row.get("id")
            if not isinstance(number, (int, str)):
                raise SightlineError(f"{path}: the picture {shown(row)} has no id; correct it")
            image = finder.find(row.get("file_name"))
            size = size_of(row.get("height"), row.get("width"), path)
            things = tuple(_thing(item, place, ids, path, size) for place, item in objects.pop(number, []))
            survey.records.append(ObjectRecord(key_of(image, survey.root), Picture(image), things, path, split=split))
        except SightlineError as error:
            survey.error(path, str(error))
    for number in list(objects)[:20]:
        survey.error(path, f"{path}: annotations of the picture id {shown(number)}, which images does not list; add it")


def _check_ids(survey: Survey, path: Path, content: dict[str, Any]) -> None:
    """Annotations' ids: evaluators take 0 for "not found", and of two with one id they see the last alone."""
    seen: dict[tuple[str, Any], int] = {}
    for part, what in (("images", "picture"), ("annotations", "annotation")):
        for place, row in enumerate(content[part]):
            number = row.get("id")
            if isinstance(number, bool) or not isinstance(number, (int, str)):
                continue
            first = seen.setdefault((part, number), place)
            if first != place:
                survey.error(
                    path, f"{path}: {what} {place} has the id {shown(number)} of {what} {first}; number it anew"
                )
            elif part == "annotations" and number == 0:
                survey.error(path, f"{path}: annotation {place} has the id 0, which means not found; begin with 1")


def _thing(row: dict[str, Any], place: int, ids: Mapping[Any, int], path: Path, size: tuple[int, int]) -> Thing:
    category = row.get("category_id")
    if not isinstance(category, int) or category not in ids:
        raise SightlineError(
            f"{path}: annotation {place} has category id {shown(category)}, which is not in categories"
        )
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise SightlineError(f"{path}: annotation {place} has bbox {shown(box)}; expected x, y, width, height")
    x, y, width, height = (float(v) for v in box)
    area: Any = row.get("area")
    drawn = row.get("segmentation")
    return Thing(
        label=ids[category],
        box=(x, y, x + width, y + height),
        crowd=row.get("iscrowd") in (1, True),
        area=float(area) if _is_number(area) else None,
        mask=parts_of(drawn, path, size) if drawn else None,
        points=_points(row.get("keypoints"), place, path),
        place=place,
    )


def _points(values: Any, place: int, path: Path) -> tuple[tuple[float, float, int], ...]:
    if not values:
        return ()
    if not isinstance(values, list) or len(values) % 3 or not all(_is_number(v) for v in values):
        raise SightlineError(
            f"{path}: annotation {place} has keypoints {shown(values)}; expected x, y, v for each joint"
        )
    return tuple((float(x), float(y), int(v)) for x, y, v in zip(values[::3], values[1::3], values[2::3]))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
