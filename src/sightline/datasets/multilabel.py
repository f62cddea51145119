"""Multi-label sets: a mask file a class, in a folder a class; classes may overlap.

images/a.jpg + masks/road/a.png + masks/shadow/a.png     a class that has no file for a picture is nowhere in it
train/images/a.jpg + train/masks/road/a.png              the same below split folders
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sightline.datasets.folders import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    SPLITS,
    files,
    key_of,
    natural,
    pictures,
    split_name,
    subfolders,
)
from sightline.datasets.records import MaskStack, Picture, PixelRecord
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.image import is_image


@dataclass(frozen=True)
class Home:
    """A folder of pictures beside a folder that holds a folder of masks for every class."""

    split: str
    images: Path
    masks: Path


def homes(root: Path) -> list[Home]:
    """The folders of a multi-label set, empty when `root` is none.

    The masks' folder holds folders only, two or more, none called like a split or like a folder of the pictures.
    """
    found = [_home("", root), *(_home(split_name(f.name), f) for f in subfolders(root) if f.name.lower() in SPLITS)]
    return [home for home in found if home is not None]


def _home(split: str, folder: Path) -> Home | None:
    inner = {f.name.lower(): f for f in subfolders(folder)}
    images = next((inner[name] for name in sorted(IMAGE_FOLDERS & inner.keys())), None)
    masks = next((inner[name] for name in sorted(LABEL_FOLDERS & inner.keys())), None)
    if images is None or masks is None:
        return None
    classes, mirrored = subfolders(masks), {f.name for f in subfolders(images)}
    stems = {p.stem for p in files(images) if is_image(p)}
    if len(classes) < 2 or not stems or any(is_image(p) for p in files(masks)):
        return None
    if any(c.name in mirrored or c.name.lower() in SPLITS for c in classes):
        return None
    named = all({p.stem for p in files(c) if is_image(p)} <= stems for c in classes)
    return Home(split, images, masks) if named else None


def read_multilabel(root: Path, asked: Asked) -> Survey:
    """The records of a multi-label set; the classes are the mask folders in natural order, or `asked`."""
    survey = Survey(root, "multilabel")
    found = homes(root)
    if not found:
        raise SightlineError(
            f"{root} is no multi-label set; expected images/NAME.jpg and masks/CLASS/NAME.png with two classes or "
            "more, the masks named like the pictures"
        )
    names = sorted({f.name for home in found for f in subfolders(home.masks)}, key=natural)
    if asked.classes and set(asked.classes) != set(names):
        raise SightlineError(f"{root} has masks of {', '.join(names)}, not of {', '.join(asked.classes)}")
    survey.classes = asked.classes or tuple(names)
    survey.facts["multilabel"] = True
    survey.notes.append(f"multi-label: each of the {len(names)} classes has masks of its own and may overlap others")
    for home in found:
        masks = {name: {p.stem: p for p in files(home.masks / name) if is_image(p)} for name in survey.classes}
        for path in pictures(home.images, deep=False):
            stack = MaskStack(tuple(masks[name].get(path.stem) for name in survey.classes), home.masks)
            survey.records.append(PixelRecord(key_of(path, root), Picture(path), stack, split=home.split))
    return survey
