"""LabelMe's and CVAT's shapes as objects: rectangles are boxes, polygons, circles and masks are boxes with a mask.

Shapes of one class and one group are parts of one object. Labels that mean "never scored" (void, ignore, ...) are
crowds; background is no object.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from sightline.datasets import cvat, labelme
from sightline.datasets.class_files import find_classes
from sightline.datasets.folders import home_of, key_of, pictures, shown
from sightline.datasets.pairs import with_files
from sightline.datasets.records import ObjectRecord, Picture, Runs, Thing
from sightline.datasets.shapes import BACKGROUND
from sightline.datasets.survey import NOT_SCORED, Asked, Survey
from sightline.datasets.things import Box, ClassIds, extent, joined
from sightline.errors import SightlineError


def read_labelme_objects(root: Path, asked: Asked) -> Survey:
    """The labelled pictures below `root`; pictures without a JSON are left out, aloud."""
    home = root.parent if root.is_file() else root
    survey = Survey(home, "labelme")
    listed, source = find_classes(home)
    contents = labelme.contents_below(root, survey)
    if not contents:
        return survey
    names = _names(with_files(asked, listed), labelme.labels_in(contents), root)
    survey.classes = names.classes
    survey.notes += [*([f"class names from {source}"] if source else []), *names.notes]
    survey.facts["classes_guessed"] = not asked.classes
    for path, content in contents.items():
        try:
            image = labelme.image_of(path, content, home)
            size = labelme.size_in(path, content, image)
            drawn = [_labelme(s, place, names, path, size) for place, s in enumerate(content["shapes"])]
            things = joined(shape for shape in drawn if shape is not None)
            split = labelme.split_of(path, home)
            survey.records.append(ObjectRecord(key_of(image, home), Picture(image), things, path, split=split))
        except SightlineError as error:
            survey.error(path, str(error))
    without = len(set(pictures(home)) - {r.image.path for r in survey.records}) if root.is_dir() else 0
    if without and not survey.faults:
        survey.notes.append(f"{without} pictures without a JSON are left out")
    return survey


def _labelme(
    shape: dict[str, Any], place: int, names: ClassIds, path: Path, size: tuple[int, int]
) -> tuple[Any, Thing] | None:
    label = shape.get("label")
    if not isinstance(label, str):
        raise SightlineError(f"{path}: object {place} has the label {shown(label)}; expected the name of a class")
    outline = labelme.outline_of(shape, path, size)
    if outline is None or label.lower() in BACKGROUND:
        return None
    box = shape.get("shape_type") == "rectangle"
    return shape.get("group_id"), _thing(label, place, names, path, outline, None if box else [outline])


def read_cvat_objects(root: Path, asked: Asked) -> Survey:
    """The pictures a CVAT export lists, with their shapes as objects."""
    home = home_of(root) if root.is_file() else root
    survey = Survey(home, "cvat")
    trees = cvat.trees_in(root)
    names = _names(asked, cvat.labels_in(trees), trees[0][0])
    survey.classes = names.classes
    survey.notes += names.notes
    survey.facts["classes_guessed"] = not asked.classes
    for path, tree in trees:
        for image in tree.iterfind("image"):
            try:
                file, size, split = cvat.opened(image, path, home)
                drawn = [_cvat(s, place, names, path, size) for place, s in enumerate(cvat.shapes_of(image, path))]
                things = joined(shape for shape in drawn if shape is not None)
                survey.records.append(ObjectRecord(key_of(file, home), Picture(file), things, path, split=split))
            except SightlineError as error:
                survey.error(path, str(error))
    return survey


def _cvat(
    shape: ElementTree.Element, place: int, names: ClassIds, path: Path, size: tuple[int, int]
) -> tuple[Any, Thing] | None:
    label = shape.get("label") or ""
    if label.lower() in BACKGROUND:
        return None
    group = cvat.whole(shape, "group_id", path, 0) or None
    if shape.tag != "box":
        outline = cvat.outline_of(shape, path, size)
        return group, _thing(label, place, names, path, outline, [outline])
    x0, y0, x1, y1 = (cvat.number(shape, name, path) for name in ("xtl", "ytl", "xbr", "ybr"))
    box = (x0, y0, x1, y1)
    if shape.get("rotation") is not None:
        box = _turned(box, cvat.number(shape, "rotation", path))
    return group, _thing(label, place, names, path, box, None)


def _turned(box: Box, degrees: float) -> Box:
    """The upright box around a box that is turned about its centre."""
    x0, y0, x1, y1 = box
    with np.errstate(invalid="ignore"):  # what is no number stays so, and is refused as a box
        cos, sin = abs(np.cos(np.radians(degrees))), abs(np.sin(np.radians(degrees)))
    width, height = (x1 - x0) * cos + (y1 - y0) * sin, (x1 - x0) * sin + (y1 - y0) * cos
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2)


def _names(asked: Asked, met: Sequence[str], source: Path) -> ClassIds:
    return ClassIds(asked, [n for n in met if n.lower() not in BACKGROUND and n.lower() not in NOT_SCORED], source)


def _thing(
    label: str,
    place: int,
    names: ClassIds,
    path: Path,
    outline: np.ndarray | Runs | Box,
    mask: list[Any] | None,
) -> Thing:
    box = outline if isinstance(outline, tuple) else extent([outline])
    if label.lower() in NOT_SCORED and label not in names.classes:
        return Thing(0, box, crowd=True, mask=mask, place=place)
    return Thing(names.number(label, path, place), box, mask=mask, place=place)
