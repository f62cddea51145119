"""Folders of pictures or videos by class: `cats/1.jpg`, `dogs/1.jpg`; with splits above or below the classes.

    DATA/CLASS/file                     no split given
    DATA/train/CLASS/file, DATA/val/... splits above
    DATA/CLASS/train/file, ...          splits below

An index.csv beside the classes (columns `id` or `file`, and if it likes `split` and `group` or a column whose name ends
in group) adds splits and groups: clips of one group (a source video, a person) never stand on both sides of a split.
Official lists are read too (split 1 of three): UCF101's trainlist01.txt and testlist01.txt, HMDB51's
CLASS_test_split1.txt, beside the classes or in a folder there. So is the group that UCF101's file names tell
(_g08_c01).
A folder of numbered pictures stands for a video where folders take the place of files (DATA/CLASS/VIDEO/img_00001.jpg).
Classes are numbered in the natural order of their names, as in torchvision's ImageFolder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sightline.datasets.class_files import read_rows, read_text
from sightline.datasets.folders import SPLITS, exists, files, key_of, natural, split_name, subfolders
from sightline.datasets.records import ClassRecord, Picture
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.frame_folders import is_frame_folder
from sightline.media.image import is_image
from sightline.media.video import is_video

_GROUP = re.compile(r"_(g\d+)_c\d+$")
_LIST = 2**24  # bytes; the longest official list has 700 kB
Kind = Callable[[str | Path], bool]


def read_pictures_by_class(root: Path, asked: Asked) -> Survey:
    """A folder of pictures for each class."""
    return read_by_class(root, asked, "pictures_by_class", is_image)


def read_clips_by_class(root: Path, asked: Asked) -> Survey:
    """A folder of videos for each class."""
    return read_by_class(root, asked, "clips_by_class", is_video)


def read_frames_by_class(root: Path, asked: Asked) -> Survey:
    """A folder for each class, in it a folder of numbered pictures for each video."""
    return read_by_class(root, asked, "frames_by_class", is_frame_folder)


def class_folders(root: Path, kind: Kind) -> list[Path]:
    """The folders below `root` that stand for classes, two or more; [] when `root` is not laid out by class.

    Each folder directly holds files of that kind and none of the other, or is a split that holds such folders, or holds
    nothing but splits.
    """
    found = subfolders(root)
    if kind is is_frame_folder and any(is_frame_folder(f) for f in found):
        return []  # these are videos, not classes
    if found and all(f.name.lower() in SPLITS for f in found):
        return [folder for split in found for folder in class_folders(split, kind)]
    fitting = [f for f in found if _holds(f, kind) or _splits_of(f, kind)]
    others = [f for f in found if f not in fitting and (subfolders(f) or any(p.suffix != ".txt" for p in files(f)))]
    enough = len(fitting) >= 2 and not others  # a folder of lists may stand beside the classes
    return fitting if enough and not any(kind(f) for f in files(root) if f.parent == root and kind is is_image) else []


def _held(folder: Path, kind: Kind) -> list[Path]:
    """The pictures, videos or folders of frames directly in `folder`."""
    return [p for p in (subfolders(folder) if kind is is_frame_folder else files(folder)) if kind(p)]


def _holds(folder: Path, kind: Kind) -> bool:
    if kind is is_frame_folder:
        found = subfolders(folder)
        return bool(found) and all(is_frame_folder(f) for f in found)
    other = is_video if kind is is_image else is_image
    found = files(folder)
    return any(kind(f) for f in found) and not any(other(f) for f in found) and not subfolders(folder)


def _splits_of(folder: Path, kind: Kind) -> list[Path]:
    below = subfolders(folder)
    fits = below and all(f.name.lower() in SPLITS and _holds(f, kind) for f in below)
    return below if fits else []


def read_by_class(root: Path, asked: Asked, format: str, kind: Kind) -> Survey:
    """A folder for each class with what `kind` says yes to."""
    survey = Survey(root, format)
    folders = class_folders(root, kind)
    if not folders:
        kinds: tuple[tuple[Kind, str], ...] = (
            (is_image, "pictures"),
            (is_video, "videos"),
            (is_frame_folder, "folders of frames"),
        )
        word = next((name for known, name in kinds if known is kind), "volumes")
        raise SightlineError(f"{root} is not laid out by class; expected two folders of {word} or more, one a class")
    homes = [(place, folder) for folder in folders for place in _splits_of(folder, kind) or [folder]]
    names = sorted({folder.name for _, folder in homes}, key=natural)
    if asked.classes:
        missing = [name for name in names if name not in asked.classes]
        if missing:
            raise SightlineError(
                f"{root} has folders that are no classes: {', '.join(missing[:3])}; name them in classes, or move them"
            )
        names = list(asked.classes)
    listed = {**_official(root), **_index(root)}
    if kind is not is_image:
        _absent(survey, listed, {f.stem for place, _ in homes for f in _held(place, kind)})
    for place, folder in homes:
        above = folder.parent.name if folder.parent != root else ""
        split = split_name(place.name) if place != folder else split_name(above) if above.lower() in SPLITS else ""
        found = _held(place, kind)
        if not found:
            survey.warning(place, f"{place} holds no files of its class; remove it")
        for path in found:
            given, group = listed.get(path.stem, listed.get(path.name, ("", "")))
            if given == "unused":
                continue
            if not group and (told := _GROUP.search(path.stem)):
                group = f"{folder.name} {told[1]}"
            survey.records.append(
                ClassRecord(
                    key=key_of(path, root),
                    image=Picture(path),
                    labels=names.index(folder.name),
                    group=group,
                    split=split or given,
                    video=kind in (is_video, is_frame_folder),
                )
            )
    survey.classes = tuple(names)
    survey.facts["classes_guessed"] = not asked.classes
    counts = {name: sum(r.labels == k for r in survey.records) for k, name in enumerate(names)}
    few = ", ".join(f"{name} {n}" for name, n in list(counts.items())[:12])
    survey.notes.append(f"{len(names)} classes by folder: {few}" + (" ..." if len(counts) > 12 else ""))
    return survey


def _absent(survey: Survey, listed: dict[str, tuple[str, str]], there: set[str]) -> None:
    """A fault for every file that a list beside the classes names and that is not there.

    Lists of which nothing is there (another data set's) and of which most is missing (a part of a set) say one thing.
    """
    names = {name for name, (split, _) in listed.items() if split != "unused"}
    missing = sorted(name for name in names if name not in there and Path(name).stem not in there)
    if not missing or len(missing) == len(names):
        return
    if len(missing) > len(names) // 2:
        survey.notes.append(
            f"{len(missing)} of {len(names)} listed files are not there; this seems to be a part of a set"
        )
        return
    for name in missing:
        survey.error(
            survey.root / name, f"{survey.root}: a list names {name}, which is not there; add it, or take it out"
        )


def _official(root: Path) -> dict[str, tuple[str, str]]:
    """File name -> (split, "") from the first official split of UCF101 or HMDB51; {} without its lists."""
    found: dict[str, tuple[str, str]] = {}
    for home in (root, *subfolders(root)):
        for name, split in (("trainlist01.txt", "train"), ("testlist01.txt", "test")):
            if exists(home / name):
                lines = read_text(home / name, _LIST).splitlines()
                names = (line.strip().rsplit(" ", 1)[0] if split == "train" else line.strip() for line in lines)
                found |= {line.rpartition("/")[2]: (split, "") for line in names if line}
        for path in files(home, "_test_split1.txt"):
            for line in read_text(path, _LIST).splitlines():
                name, _, code = line.strip().rpartition(" ")  # file names hold brackets and signs, never spaces
                if name:
                    found[name.strip()] = ({"1": "train", "2": "test"}.get(code, "unused"), "")
    return found


def _index(root: Path) -> dict[str, tuple[str, str]]:
    """Stem or file name -> (split, group), from an index.csv; {} without one."""
    path = root / "index.csv"
    if not exists(path):
        return {}
    rows = read_rows(path)
    header = [name.lower() for name in rows[0]] if rows else []
    name = _column(header, ("id", "file", "filename", "path", "image", "video"))
    split = _column(header, ("split", "set", "subset"))
    group = _column(header, ("group", "sequence", "source", "person", "patient"))
    if group is None:
        group = next((k for k, word in enumerate(header) if word.endswith("group")), None)
    if name is None:
        return {}

    def cell(row: Sequence[str], column: int | None) -> str:
        return row[column] if column is not None and column < len(row) else ""

    return {
        Path(cell(row, name)).name: (split_name(cell(row, split)) if cell(row, split) else "", cell(row, group))
        for row in rows[1:]
        if cell(row, name)
    }


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
