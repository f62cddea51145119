"""YOLO's text files: a line an object beside every picture, in shares of the picture's sides.

`class x y width height` is a box by its centre, `class x y x y x y ...` a polygon; with `kpt_shape` in data.yaml a box
is followed by its joints. Names stand in data.yaml (`names`), or in classes.txt or obj.names. Labels lie in a folder
`labels` beside `images`, or beside the pictures. A picture without a text file has no objects, as the training programs
have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.class_files import read_names, read_text
from sightline.datasets.folders import (
    SPLITS,
    exists,
    files,
    inside,
    key_of,
    natural,
    pictures,
    shown,
    split_name,
    subfolders,
)
from sightline.datasets.records import ObjectRecord, Picture, Thing
from sightline.datasets.shapes import points_of
from sightline.datasets.survey import Asked, Survey
from sightline.datasets.things import ClassIds, extent
from sightline.errors import SightlineError
from sightline.media.image import image_size, is_image

NAME_FILES = ("classes.txt", "obj.names", "names.txt")
_LIMIT = 2**24  # bytes of one label file: a hundred thousand objects


@dataclass(frozen=True)
class Layout:
    """What data.yaml says. splits: `{name: folders or lists}`; joints: numbers a joint has and how many joints."""

    names: tuple[str, ...] = ()
    splits: dict[str, list[Path]] = field(default_factory=dict)
    joints: tuple[int, int] = (0, 0)
    source: Path | None = None


def find_layout(root: Path) -> Path | None:
    """The data.yaml of a folder: a YAML file that names classes."""
    if root.is_file():
        return root if root.suffix.lower() in (".yaml", ".yml") and _looks_right(root) else None
    found = [*files(root, ".yaml"), *files(root, ".yml")]
    return next((path for path in sorted(found, key=lambda p: p.stem != "data") if _looks_right(path)), None)


def _looks_right(path: Path) -> bool:
    try:
        lines = path.read_bytes()[:65_536].splitlines()
    except OSError:
        return False
    return all(any(line.startswith(word) for line in lines) for word in (b"names:", b"train:"))


def find_labels(root: Path) -> Path | None:
    """The first text file of a picture that looks like YOLO's, where no data.yaml says so."""
    if not root.is_dir():
        return None
    homes = [root, *subfolders(root), *(deeper for f in subfolders(root) for deeper in subfolders(f))]
    for home in homes:
        for image in [p for p in files(home) if is_image(p)][:20]:
            path = label_of(image, root)
            if exists(path) and _is_row(path):
                return path
    return None


def _is_row(path: Path) -> bool:
    try:
        words = path.read_bytes()[:4096].split(b"\n")[0].split()
        return len(words) >= 5 and words[0].isdigit() and all(0 <= float(w) <= 1 for w in words[1:])
    except (OSError, ValueError):
        return False


def label_of(image: Path, root: Path) -> Path:
    """Where the text of a picture lies: `labels` for the last folder `images` of its path, else beside it."""
    parts = list(image.relative_to(root).parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if folders:
        beside = image.with_suffix(".txt")
        parts[folders[-1]] = "labels"
        swapped = root.joinpath(*parts).with_suffix(".txt")
        return beside if exists(beside) and not exists(swapped) else swapped
    return image.with_suffix(".txt")


def read_yolo(root: Path, asked: Asked) -> Survey:
    """The pictures of a YOLO folder (or of the folder of a data.yaml) with their objects."""
    yaml = find_layout(root)
    home = root.parent if root.is_file() else root
    layout = _layout(yaml, home) if yaml is not None else Layout(_names_beside(home))
    survey = Survey(home, "yolo")
    images = _images(layout, home, survey)
    if not images:
        if survey.faults:
            return survey
        raise SightlineError(f"{root} has no pictures in YOLO's format; expected images/ and labels/ with a .txt each")
    rows = {image: _rows(image, label_of(image, home), survey) for image, _ in images}
    met = {row[0] for found in rows.values() for row in found or ()}
    names = _names(layout, asked, met, home)
    survey.classes = names.classes
    survey.notes += names.notes
    survey.facts["classes_guessed"] = not (asked.classes or layout.names)
    listed = layout.names or names.classes
    lonely = _count_lonely(images, rows)
    for image, split in images:
        found = rows[image]
        things: tuple[Thing, ...] | None = None if split in lonely else ()
        source = label_of(image, home)
        try:
            if found:
                size = image_size(image)
                things = tuple(
                    _thing(row, place, names, listed, layout.joints, source, size) for place, row in enumerate(found)
                )
        except SightlineError as error:
            survey.error(source, str(error))
            continue
        record = ObjectRecord(
            key_of(image, home), Picture(image), things, source if exists(source) else None, split=split
        )
        survey.records.append(record)
    empty = sum(1 for image, split in images if rows[image] is None and split not in lonely)
    if empty:
        survey.notes.append(f"{empty} pictures without a .txt count as pictures without objects")
    return survey


def _count_lonely(
    images: Sequence[tuple[Path, str]], rows: dict[Path, list[tuple[int, list[float]]] | None]
) -> set[str]:
    """Splits in which no picture has a text file: nobody labelled them."""
    splits = {split for _, split in images}
    return splits - {split for image, split in images if rows[image] is not None}


def _names_beside(home: Path) -> tuple[str, ...]:
    places = [home, home / "labels", *subfolders(home)]
    path = next((place / name for place in places for name in NAME_FILES if exists(place / name)), None)
    return read_names(path) if path is not None else ()


def _names(layout: Layout, asked: Asked, met: set[int], home: Path) -> ClassIds:
    """Names asked for, or listed, or the numbers themselves."""
    if not layout.names and not asked.classes and max(met, default=0) > 10_000:
        raise SightlineError(f"{home}: a class has the number {max(met)} and no list of names; add classes.txt")
    names = layout.names or tuple(str(k) for k in range(max(met, default=-1) + 1))
    return ClassIds(asked, names, home)


def _layout(path: Path, home: Path) -> Layout:
    """The content of a data.yaml; every fault of it becomes one sentence."""
    import yaml

    try:
        content = yaml.safe_load(read_text(path, 2**20))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError, AttributeError) as error:
        raise SightlineError(f"{path} is not YAML ({' '.join(str(error).split())[:200]}); correct it") from error
    if not isinstance(content, dict):
        raise SightlineError(f"{path} must hold the lines train, val and names; write it as data.yaml is written")
    base = home
    if isinstance(content.get("path"), str) and content["path"].strip():
        wanted = home / content["path"]  # often the path of another machine: only used when it leads to a folder here
        base = wanted if _is_below(wanted, home) else home
    splits = {}
    for name in ("train", "val", "valid", "test"):
        places = content.get(name)
        if isinstance(places, str):
            places = [places]
        if places is None:
            continue
        if not isinstance(places, list) or not all(isinstance(p, str) for p in places):
            raise SightlineError(f"{path}: {name} is {shown(places)}; expected a folder of pictures or a list of them")
        splits[split_name(name)] = [_place(p, base, home, path) for p in places]
    return Layout(_listed(content, path), splits, _joints(content, path), path)


def _is_below(path: Path, home: Path) -> bool:
    try:
        return path.is_dir() and path.resolve().is_relative_to(home.resolve())
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name no system accepts
        return False


def _listed(content: dict[Any, Any], path: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict) and all(type(k) is int for k in names) and sorted(names) == list(range(len(names))):
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, (str, int, float)) for n in names):
        raise SightlineError(f"{path}: names is {shown(names)}; expected a list, or the numbers 0, 1, ... with names")
    listed = tuple(str(n) for n in names)
    if len(set(listed)) != len(listed):
        twice = next(n for i, n in enumerate(listed) if n in listed[:i])
        raise SightlineError(f"{path} names the class {shown(twice)} twice; give every class its own name")
    return listed


def _joints(content: dict[Any, Any], path: Path) -> tuple[int, int]:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0, 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)):
        raise SightlineError(f"{path}: kpt_shape is {shown(shape)}; expected joints and numbers a joint, as [17, 3]")
    if not (0 < shape[0] <= 1000 and shape[1] in (2, 3)):
        raise SightlineError(f"{path}: kpt_shape is {shown(shape)}; expected up to 1000 joints of 2 or 3 numbers")
    return shape[0], shape[1]


def _place(name: str, base: Path, home: Path, source: Path) -> Path:
    """A folder or list of data.yaml; `../train/images`, as exports write it, is meant from inside the folder."""
    while name.replace("\\", "/").startswith("../"):
        name = name[3:]
    return inside(home, base, name, source)


def _images(layout: Layout, home: Path, survey: Survey) -> list[tuple[Path, str]]:
    """All pictures and their splits."""
    found: dict[Path, str] = {}
    for split, places in layout.splits.items():
        if split != "train" and places == layout.splits.get("train"):
            survey.notes.append(f"{split} is the folder of train, so it is not a split of its own")
            continue
        for place in places:
            if split == "test" and not _is_folder(place) and not exists(place):
                survey.notes.append(
                    f"test: {place.relative_to(home).as_posix()} is not there, so there is no test split"
                )
                continue
            for image in _of_place(place, home, layout.source or home, survey):
                if found.setdefault(image, split) != split:
                    survey.error(image, f"{image} is in {found[image]} and in {split}; a picture has one split")
    if not layout.splits:
        for image in pictures(home):
            words = [p.lower() for p in image.relative_to(home).parts[:-1]]
            found[image] = next((SPLITS[word] for word in words if word in SPLITS), "")
    return sorted(found.items(), key=lambda item: natural(key_of(item[0], home)))


def _of_place(place: Path, home: Path, source: Path, survey: Survey) -> list[Path]:
    if place.suffix.lower() == ".txt" and exists(place):
        listed = []
        for line in read_text(place, 2**28).splitlines():
            if line.strip():
                image = inside(home, home, line.strip(), place)
                listed.append(image)
                if not exists(image):
                    survey.error(place, f"{place} lists {shown(line.strip())}, which is not there; add the picture")
        return [image for image in listed if exists(image)]
    if _is_folder(place):
        return pictures(place)
    survey.error(source, f"{source}: the folder {shown(str(place), 300)} is not there; add it or correct the line")
    return []


def _rows(image: Path, path: Path, survey: Survey) -> list[tuple[int, list[float]]] | None:
    """`(class number, further numbers)` of each line; None: there is no file."""
    if not exists(path):
        return None
    try:
        lines = [line.split() for line in read_text(path, _LIMIT).splitlines()]
        return [_row(words, place, path) for place, words in enumerate(w for w in lines if w)]
    except SightlineError as error:
        survey.error(path, str(error))
        return []


def _row(words: list[str], place: int, path: Path) -> tuple[int, list[float]]:
    try:
        number = float(words[0])
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise SightlineError(
            f"{path}: object {place} is {shown(' '.join(words))}; expected a class and numbers"
        ) from None
    if not (math.isfinite(number) and number == int(number) and 0 <= number < 2**31):
        raise SightlineError(f"{path}: object {place} has the class {shown(words[0])}; expected a number from 0 on")
    return int(number), values


def _thing(
    row: tuple[int, list[float]],
    place: int,
    names: ClassIds,
    listed: Sequence[str],
    joints: tuple[int, int],
    path: Path,
    size: tuple[int, int],
) -> Thing:
    number, values = row
    if number >= len(listed):
        raise SightlineError(
            f"{path}: object {place} has the class {number}, expected 0 to {len(listed) - 1} ({', '.join(listed[:20])})"
        )
    label = names.number(listed[number], path, place)
    count, each = joints
    height, width = size
    if len(values) == 4 + count * each:
        x, y, w, h = (v * side for v, side in zip(values, (width, height, width, height)))
        points = _points(values[4:], each, size) if count else ()
        return Thing(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), points=points, place=place)
    if not count and len(values) >= 6 and len(values) % 2 == 0:
        ring = points_of(np.asarray(values).reshape(-1, 2) * (width, height), path, size)
        return Thing(label, extent([ring]), mask=[ring], place=place)
    expected = f"{5 + count * each} numbers" if count else "5 numbers, or a class and three or more points"
    raise SightlineError(f"{path}: object {place} has {len(values) + 1} numbers; expected {expected}")


def _points(values: list[float], each: int, size: tuple[int, int]) -> tuple[tuple[float, float, int], ...]:
    rows = [values[i : i + each] for i in range(0, len(values), each)]
    seen = [int(r[2]) if each == 3 and r[2] in (0, 1, 2) else 2 * (r[:2] != [0, 0]) for r in rows]
    return tuple((r[0] * size[1], r[1] * size[0], v) for r, v in zip(rows, seen))
