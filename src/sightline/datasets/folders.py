"""Looking at folders: pictures in natural order, the usual names of folders and splits, paths kept inside the root."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from sightline.errors import SightlineError
from sightline.media.image import is_image

IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpegimages"})
LABEL_FOLDERS = frozenset(
    {
        *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "gt", "gts", "truth"),
        *("groundtruth", "ground_truth", "segmentation", "segmentations", "segmentationclass"),
    }
)
SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "train2017"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val2017"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}


def split_name(word: str) -> str:
    """`train`, `val` or `test` for their usual spellings, any other word as it is."""
    return SPLITS.get(word.strip().lower(), word.strip())


def natural(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sort key that puts `slice2` before `slice10`; different texts never tie."""
    parts = (part for part in re.split(r"([0-9]+)", text) if part)
    return tuple((0, int(part)) if part[0] in "0123456789" else (1, part) for part in parts), text


def _junk(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name == "Thumbs.db"


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below `folder`, in natural order; none when it cannot be read or is no folder."""
    try:
        return sorted((p for p in folder.iterdir() if p.is_dir() and not _junk(p.name)), key=lambda p: natural(p.name))
    except OSError:
        return []


def files(folder: Path, suffix: str = "") -> list[Path]:
    """The files directly in `folder` with that suffix (any, when empty), in natural order."""
    try:
        found = [p for p in folder.iterdir() if not _junk(p.name) and p.is_file()]
    except OSError:
        return []
    return sorted((p for p in found if p.name.lower().endswith(suffix)), key=lambda p: natural(p.name))


def pictures(folder: Path, *, deep: bool = True) -> list[Path]:
    """The picture files in `folder` (and below it when `deep`), by suffix, in natural order of their paths."""
    if not deep:
        return [p for p in files(folder) if is_image(p)]
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not _junk(f)]
        found += [Path(where, n) for n in names if not _junk(n) and is_image(Path(n))]
    return sorted(found, key=lambda p: natural(p.relative_to(folder).as_posix()))


def key_of(path: Path, root: Path) -> str:
    """The name of a sample: its path below the root, with slashes on every system."""
    return path.relative_to(root).as_posix()


def inside(root: Path, folder: Path, name: str, source: Path) -> Path:
    """`folder / name` for a file name that stands in the annotation file `source`.

    Absolute names and names that climb out of `root` are refused: annotations come from strangers.
    """
    posix = name.replace("\\", "/")
    absolute = PurePosixPath(posix).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).is_absolute()
    if not posix.strip() or "\0" in posix or absolute:
        raise SightlineError(
            f"{source}: the file name {shown(name)} must be a path below {root}; write it relative to the data set"
        )
    path = Path(os.path.normpath(folder / posix))
    if not path.is_relative_to(os.path.normpath(root)):
        raise SightlineError(f"{source}: the file name {shown(name)} leaves the folder {root}; move the file inside")
    return path


def home_of(path: Path) -> Path:
    """The folder of the data set an annotation file belongs to: the one above when it lies in `annotations/`."""
    return path.parent.parent if path.parent.name.lower() in LABEL_FOLDERS else path.parent


def shown(value: object, limit: int = 60) -> str:
    """A value from a file for a message: quoted, printable, short."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + "...'"


def exists(path: Path) -> bool:
    """Whether `path` is a file; names no system accepts (too long, odd characters) are not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
