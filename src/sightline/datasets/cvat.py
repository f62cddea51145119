"""CVAT for images 1.1: one XML with polygons, boxes, ellipses and masks of every picture; higher z_order lies on top.

The XML comes from strangers: document types (and with them entities) are refused before anything is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from sightline.datasets.folders import (
    IMAGE_FOLDERS,
    exists,
    files,
    home_of,
    inside,
    key_of,
    shown,
    split_name,
    subfolders,
)
from sightline.datasets.records import Picture, PixelRecord, Polygons, Runs
from sightline.datasets.shapes import Names, check_names, ellipse, points_of, rectangle, size_of
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

_LIMIT = 2**31
_AREALESS = ("polyline", "points", "tag", "skeleton", "cuboid")


def find_annotations(root: Path) -> list[Path]:
    """The CVAT files directly in `root`."""
    found = [root] if root.is_file() else files(root, ".xml")
    return [p for p in found if p.suffix.lower() == ".xml" and _looks_right(p)]


def _looks_right(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"<annotations" in stream.read(4096)
    except OSError:
        return False


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type; every fault of the parser becomes one sentence."""
    try:
        if path.stat().st_size > _LIMIT:
            raise SightlineError(f"{path} has more than {_LIMIT} bytes; export the job in parts")
        text = path.read_bytes()
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = lambda *_: _refuse(path)
        parser.Parse(text, True)
        return ElementTree.fromstring(text)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise SightlineError(f"{path} is not valid XML ({error}); export it from CVAT again") from error
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}; check the file") from error


def _refuse(path: Path) -> None:
    raise SightlineError(f"{path} declares a document type, which annotations never need; remove the DOCTYPE line")


def read_cvat(root: Path, asked: Asked) -> Survey:
    """The pictures a CVAT export lists, with their shapes painted as classes."""
    home = home_of(root) if root.is_file() else root
    survey = Survey(home, "cvat")
    trees = trees_in(root)
    names = Names(asked, labels_in(trees))
    check_names(list(names.ids), trees[0][0])
    survey.classes = names.classes
    survey.notes += names.notes
    for path, tree in trees:
        for image in tree.iterfind("image"):
            try:
                survey.records.append(_record(image, path, names, home))
            except SightlineError as error:
                survey.error(path, str(error))
    return survey


def trees_in(root: Path) -> list[tuple[Path, ElementTree.Element]]:
    """The CVAT files of a folder, read."""
    found = find_annotations(root)
    if not found:
        raise SightlineError(f"{root} has no CVAT export; expected annotations.xml of 'CVAT for images 1.1'")
    trees = [(path, read_xml(path)) for path in found]
    for path, tree in trees:
        if tree.find("image") is None and tree.find("track") is not None:
            raise SightlineError(f"{path} is 'CVAT for video', expected <image> elements; export 'CVAT for images 1.1'")
    return trees


def labels_in(trees: list[tuple[Path, ElementTree.Element]]) -> list[str]:
    """The labels that the job declares, else all that shapes have."""
    declared = [n.text.strip() for _, tree in trees for n in tree.iterfind(".//labels/label/name") if n.text]
    met = sorted({s.get("label", "") for _, tree in trees for i in tree.iterfind("image") for s in i} - {""})
    return list(dict.fromkeys(declared or met))


def opened(image: ElementTree.Element, path: Path, root: Path) -> tuple[Path, tuple[int, int], str]:
    """The file, size and split of one `<image>`."""
    size = size_of(whole(image, "height", path), whole(image, "width", path), path)
    file = _find(image.get("name", ""), image.get("subset", ""), path, root)
    return file, size, split_name(image.get("subset", ""))


def shapes_of(image: ElementTree.Element, path: Path) -> list[ElementTree.Element]:
    """The shapes with an area, lowest first."""
    shapes = [s for s in image if s.tag not in _AREALESS]
    order = sorted(range(len(shapes)), key=lambda i: (whole(shapes[i], "z_order", path, 0), i))
    return [shapes[i] for i in order]


def _record(image: ElementTree.Element, path: Path, names: Names, root: Path) -> PixelRecord:
    file, size, split = opened(image, path, root)
    painted = tuple((names.number(s.get("label"), path), outline_of(s, path, size)) for s in shapes_of(image, path))
    return PixelRecord(key_of(file, root), Picture(file), Polygons(painted, size, path), split=split)


def _find(name: str, subset: str, path: Path, root: Path) -> Path:
    homes = [root, *(f for f in subfolders(root) if f.name.lower() in IMAGE_FOLDERS)]
    homes += [home / subset for home in homes if subset and os.sep not in subset and ".." not in subset]
    for home in homes:
        file = inside(root, home, name, path)
        if exists(file):
            return file
    raise SightlineError(f"{path}: the picture {shown(name)} is not below {root}; add it in images/")


def whole(element: ElementTree.Element, name: str, path: Path, default: int | None = None) -> int:
    """A whole number among the attributes."""
    text = element.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.lstrip("-").isdecimal() or len(text) > 9:
        raise SightlineError(f"{path}: {name}={shown(text)} of <{element.tag[:40]}> is no whole number; correct it")
    return int(text)


def number(element: ElementTree.Element, name: str, path: Path) -> float:
    """A number among the attributes."""
    try:
        return float(element.get(name, ""))
    except ValueError:
        raise SightlineError(
            f"{path}: {name}={shown(element.get(name))} of <{element.tag[:40]}> is no number; correct it"
        ) from None


def outline_of(shape: ElementTree.Element, path: Path, size: tuple[int, int]) -> np.ndarray | Runs:
    """A shape as a polygon `(N, 2)` or runs."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
        points = points_of(pairs if all(len(p) == 2 for p in pairs) else "points", path, size)
        if len(points) < 3:
            raise SightlineError(f"{path}: a polygon of {len(points)} points, expected 3 or more; draw it again")
        return points
    if shape.tag == "box":
        if shape.get("rotation") not in (None, "0", "0.0", "0.00"):
            raise SightlineError(f"{path}: a rotated box cannot be painted; convert it to a polygon in CVAT")
        return points_of(rectangle(*(number(shape, n, path) for n in ("xtl", "ytl", "xbr", "ybr"))), path, size)
    if shape.tag == "ellipse":
        return points_of(ellipse(*(number(shape, n, path) for n in ("cx", "cy", "rx", "ry"))), path, size)
    if shape.tag == "mask":
        return _runs(shape, path, size)
    raise SightlineError(
        f"{path}: shapes of the kind <{shape.tag[:40]}> are not known; expected polygon, box, ellipse, mask"
    )


def _runs(shape: ElementTree.Element, path: Path, size: tuple[int, int]) -> Runs:
    left, top, width, height = (whole(shape, n, path) for n in ("left", "top", "width", "height"))
    words = shape.get("rle", "").replace(" ", "").split(",")
    if not all(w.isdecimal() and len(w) < 10 for w in words):
        raise SightlineError(
            f"{path}: the run lengths {shown(shape.get('rle'))} of a mask are no numbers; export it again"
        )
    counts = tuple(int(w) for w in words)
    fits = min(left, top) >= 0 and width > 0 and height > 0 and top + height <= size[0] and left + width <= size[1]
    if not fits or sum(counts) != width * height:
        raise SightlineError(
            f"{path}: a mask of {width} x {height} at {left}, {top} does not fit its runs or the picture"
        )
    return Runs(counts, (height, width), (top, left), by_rows=True)
