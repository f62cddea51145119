"""PASCAL VOC segmentation (Everingham et al. 2012) and folders arranged like it (LabelMe's and CVAT's exports).

JPEGImages/ + SegmentationClass/ (palette PNG of class ids, 255 on object borders: never scored) +
ImageSets/Segmentation/{train,val,test}.txt; also inside VOCdevkit/VOC2012. Masks painted in colours (CVAT) need the
labelmap.txt that CVAT writes beside them. Without lists of names all labelled pictures are for training.
"""

from __future__ import annotations

from pathlib import Path

from sightline.datasets.class_files import find_classes, read_text
from sightline.datasets.classes import Meaning, meaning
from sightline.datasets.folders import exists, files, inside, pictures, subfolders
from sightline.datasets.pairs import Pair, record, with_files
from sightline.datasets.survey import RGB, Asked, Survey
from sightline.errors import SightlineError

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_LABELS = ("SegmentationClass", "SegmentationClassPNG")


def voc_colours(count: int) -> tuple[RGB, ...]:
    """VOC's colours of the ids 0, 1, ...: bit 3k + c of the id is bit 7 - k of channel c."""

    def channel(number: int, c: int) -> int:
        return sum((number >> (3 * k + c) & 1) << (7 - k) for k in range(8))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count))


def read_voc(root: Path, asked: Asked) -> Survey:
    """The records of a VOC folder; 21 classes unless the folder or the user names others."""
    home = _home(root)
    survey = Survey(home, "voc")
    labels = next(home / name for name in _LABELS if (home / name).is_dir())
    images = {p.stem: p for p in pictures(home / "JPEGImages")}
    masks = {p.stem: p for p in files(labels, ".png")}
    matched = _listed(survey, images, masks) or _unlisted(survey, images, masks)
    found = _meaning(home, asked, matched)
    survey.classes, survey.colours = found.classes, found.colours
    survey.notes += found.notes
    survey.records += [record(pair, -1, found, home) for pair in matched]
    return survey


def _home(root: Path) -> Path:
    inner = subfolders(root)
    for home in (root, *inner, *(deeper for f in inner for deeper in subfolders(f))):
        if (home / "JPEGImages").is_dir() and any((home / name).is_dir() for name in _LABELS):
            return home
    raise SightlineError(f"{root} is not in VOC's format; expected the folders JPEGImages/ and SegmentationClass/")


def _meaning(home: Path, asked: Asked, matched: list[Pair]) -> Meaning:
    listed, source = find_classes(home)
    asked = with_files(asked, listed)
    masks = [(p.mask, 0) for p in matched if p.mask is not None]
    if asked.classes or asked.colours:
        found = meaning(masks, asked)
        return found if not source else Meaning(
            found.classes, found.colours, found.values, found.table, found.foreground,
            (f"class names from {source}", *found.notes),
        )  # fmt: skip
    colours = voc_colours(len(CLASSES))
    painted = meaning(masks, Asked(colours=((*zip(CLASSES, colours), ("void", (224, 224, 192))))))
    note = "VOC's 21 classes; the value 255 (object borders) is never scored"
    return Meaning(CLASSES, colours, table=painted.table if _is_colour(painted, masks) else None, notes=(note,))


def _is_colour(painted: Meaning, masks: list[tuple[Path, int]]) -> bool:
    """Whether masks are RGB files; VOC's own are palettes, whose indices need no table."""
    from PIL import Image

    if painted.table is None or not masks:
        return False
    with Image.open(masks[0][0]) as mask:
        return mask.mode in ("RGB", "RGBA")


def _listed(survey: Survey, images: dict[str, Path], masks: dict[str, Path]) -> list[Pair]:
    lists = {p.stem: p for p in files(survey.root / "ImageSets" / "Segmentation", ".txt")}
    chosen = [name for name in ("train", "val", "test") if name in lists] or list(lists)
    matched: list[Pair] = []
    for split in chosen:
        for name in read_text(lists[split], 2**28).split():
            inside(survey.root, survey.root, name, lists[split])
            if name not in images:
                survey.error(lists[split], f"{lists[split]} lists {name}, which is not in JPEGImages/; add the picture")
            elif name not in masks and split != "test":
                survey.error(images[name], f"{images[name]} is listed for {split} but has no mask; add it")
            else:
                matched.append(Pair(images[name], masks.get(name), split))
    twice = len(matched) - len({p.image for p in matched})
    if twice:
        survey.error(survey.root, f"{survey.root}: {twice} pictures are in more than one list; a picture has one split")
    return matched


def _unlisted(survey: Survey, images: dict[str, Path], masks: dict[str, Path]) -> list[Pair]:
    for name in masks.keys() - images.keys():
        survey.error(masks[name], f"{masks[name]} has no picture in JPEGImages/; add it or remove the mask")
    pairs = [Pair(images[name], masks[name], "") for name in images if name in masks]
    if len(pairs) < len(images):
        survey.notes.append(f"{len(images) - len(pairs)} pictures without a mask are left out")
    if not exists(survey.root / "ImageSets" / "Segmentation" / "train.txt"):
        survey.notes.append("no lists of names in ImageSets/Segmentation/")
    return pairs
