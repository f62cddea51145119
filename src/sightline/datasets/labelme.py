"""LabelMe: a JSON beside each picture, with labelled polygons, rectangles, circles and masks; later ones on top."""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.class_files import find_classes, read_json
from sightline.datasets.folders import SPLITS, exists, inside, key_of, natural, pictures, shown, split_name
from sightline.datasets.pairs import with_files
from sightline.datasets.records import Picture, PixelRecord, Polygons, Runs
from sightline.datasets.shapes import Names, check_names, ellipse, points_of, rectangle, size_of
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.image import image_size

_HEAD = 4096
_AREALESS = ("line", "linestrip", "point", "points")


def find_annotations(root: Path, *, first: bool = False) -> list[Path]:
    """The JSON files below `root`, any of which may be LabelMe's; `first`: one that is, among the first 20."""
    found = []
    for where, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names, key=natural):
            if name.lower().endswith(".json") and not name.startswith("."):
                found.append(Path(where, name))
                if first and _looks_right(found[-1]):
                    return found[-1:]
        if first and len(found) >= 20:
            return []
    return [] if first else found


def _looks_right(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            return b'"shapes"' in head or b'"imagePath"' in head or b'"imagePath"' in _tail(path)
    except OSError:
        return False


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - _HEAD, 0))
        return stream.read()


def read_labelme(root: Path, asked: Asked) -> Survey:
    """The labelled pictures below `root`; pictures without a JSON are left out, aloud."""
    survey = Survey(root, "labelme")
    listed, source = find_classes(root)
    contents = contents_below(root, survey)
    names = Names(with_files(asked, listed), labels_in(contents))
    if not contents:
        return survey
    check_names(list(names.ids), root)
    survey.classes = names.classes
    survey.notes += [*([f"class names from {source}"] if source else []), *names.notes]
    for path, content in contents.items():
        try:
            survey.records.append(_record(path, content, names, root))
        except SightlineError as error:
            survey.error(path, str(error))
    without = len(set(pictures(root)) - {r.image.path for r in survey.records})
    if without and not survey.faults:
        survey.notes.append(f"{without} pictures without a JSON are left out")
    return survey


def contents_below(root: Path, survey: Survey) -> dict[Path, dict[str, Any]]:
    """LabelMe's files below `root`; none when all of them have faults, which the survey then holds."""
    found = [root] if root.is_file() else find_annotations(root)
    contents = {path: content for path in found if (content := _content(path, survey)) is not None}
    if not contents and not survey.faults:
        raise SightlineError(f"{root} has no LabelMe files; expected a JSON beside each picture")
    return contents


def labels_in(contents: Mapping[Path, dict[str, Any]]) -> list[str]:
    """All labels, in order of the alphabet."""
    return sorted({s["label"] for c in contents.values() for s in c["shapes"] if isinstance(s.get("label"), str)})


def _content(path: Path, survey: Survey) -> dict[str, Any] | None:
    """A LabelMe file; other JSON files (no shapes and no imagePath) are passed over."""
    try:
        content = read_json(path, 2**30)
    except SightlineError as error:
        survey.error(path, str(error))
        return None
    if not isinstance(content, dict) or not ({"shapes", "imagePath"} & content.keys()):
        return None
    shapes = content.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(s, dict) for s in shapes):
        survey.error(path, f"{path}: shapes is {shown(shapes)}; expected a list of shapes, save it with LabelMe again")
        return None
    return content


def _record(path: Path, content: dict[str, Any], names: Names, root: Path) -> PixelRecord:
    image = image_of(path, content, root)
    size = size_in(path, content, image)
    shapes = []
    for shape in content["shapes"]:
        number = names.number(shape.get("label"), path)
        outline = outline_of(shape, path, size)
        if outline is not None:
            shapes.append((number, outline))
    split = split_of(path, root)
    return PixelRecord(key_of(image, root), Picture(image), Polygons(tuple(shapes), size, path), split=split)


def split_of(path: Path, root: Path) -> str:
    """The split that a folder on the way says."""
    return next((split_name(p) for p in path.relative_to(root).parts[:-1] if p.lower() in SPLITS), "")


def size_in(path: Path, content: dict[str, Any], image: Path) -> tuple[int, int]:
    """Height and width that the file says, else the picture's own."""
    if content.get("imageHeight") and content.get("imageWidth"):
        return size_of(content["imageHeight"], content["imageWidth"], path)
    return image_size(image)


def image_of(path: Path, content: dict[str, Any], root: Path) -> Path:
    """The picture that a file is about."""
    name = content.get("imagePath")
    if isinstance(name, str) and name:
        image = inside(root, path.parent, name, path)
        if exists(image):
            return image
    same = [p for p in pictures(path.parent, deep=False) if p.stem == path.stem]
    if not same:
        raise SightlineError(f"{path}: its picture {shown(name)} is not there; put the picture beside the JSON")
    return same[0]


def outline_of(shape: dict[str, Any], path: Path, size: tuple[int, int]) -> np.ndarray | Runs | None:
    """A shape as a polygon `(N, 2)` or runs; None for lines and points, which have no area."""
    kind = shape.get("shape_type") or "polygon"
    points = points_of(shape.get("points"), path, size)
    if kind in _AREALESS:
        return None
    need = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}.get(kind) if isinstance(kind, str) else None
    if need is None:
        raise SightlineError(
            f"{path}: the shape type {shown(kind)} has no area; expected polygon, rectangle, circle, mask"
        )
    if len(points) < need:
        raise SightlineError(f"{path}: a {kind} of {len(points)} points, expected {need} or more; draw it again")
    first, second = points[0], points[1]
    if kind == "mask":
        return _runs(shape.get("mask"), first, path, size)
    if kind == "rectangle":  # of two corners, or, as newer programs write it, of four
        return points_of(rectangle(*points.min(axis=0), *points.max(axis=0)), path, size)
    if kind == "circle":
        radius = math.dist(first, second)
        return np.array(ellipse(first[0], first[1], radius, radius))
    return points


def _runs(text: Any, corner: np.ndarray, path: Path, size: tuple[int, int]) -> Runs:
    """The PNG of a mask shape, base64 text, as runs along its rows; placed with its corner at the first point."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",))
        if picture.width * picture.height > 4 * size[0] * size[1]:
            raise ValueError("larger than the picture")
        inside = np.asarray(picture.convert("L")) > 0
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SightlineError(
            f"{path}: the PNG of a mask cannot be read ({error}); save it with LabelMe again"
        ) from error
    return Runs(row_runs(inside), (inside.shape[0], inside.shape[1]), (int(corner[1]), int(corner[0])), by_rows=True)


def row_runs(inside: np.ndarray) -> tuple[int, ...]:
    """Run lengths of a mask along its rows, beginning with the background."""
    flat = np.concatenate([[False], np.asarray(inside, bool).ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], edges, [flat.size - 1]])
    return tuple(int(n) for n in np.diff(ends))
