"""Pictures and masks in folders, in the usual arrangements; also multi-page TIFF stacks and instance numbers.

images/a.jpg + masks/a.png                    one folder each, extensions may differ, sub-folders mirrored
images/train/a.jpg + labels/train/a.png       split folders inside
train/images/a.jpg + train/labels/a.png       split folders outside
train/a.png + trainannot/a.png                a folder of masks beside each split (also train_labels, train_masks)
a.jpg + a_mask.png                            marked by a word at the end (or start) of the name
train-volume.tif + train-labels.tif           stacks: page n of one belongs to page n of the other
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.datasets.class_files import find_classes
from sightline.datasets.classes import Meaning, meaning
from sightline.datasets.folders import IMAGE_FOLDERS, LABEL_FOLDERS, SPLITS, key_of, pictures, split_name, subfolders
from sightline.datasets.records import Picture, PixelRecord
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.image import pages

_MARK = r"(?:masks?|labels?|gts?|seg|segmentation|annotations?|annot|truth|ground[_-]?truth|L|matte)"
_MASK_NAME = re.compile(rf"^(?:(?P<stem>.+?)[_\-.]{_MARK}|{_MARK}[_\-.](?P<rest>.+))$", re.IGNORECASE)
_IMAGE_MARK = r"(?:images?|img|imgs|sat|rgb|volume|raw|photo)"
_IMAGE_NAME = re.compile(rf"^(?:(?P<stem>.+?)[_\-.]{_IMAGE_MARK}|{_IMAGE_MARK}[_\-.](?P<rest>.+))$", re.IGNORECASE)
_BESIDE = (
    "annot",
    "_annot",
    "_labels",
    "_label",
    "_masks",
    "_mask",
    "_gt",
    "_annotations",
    "-labels",
    "-masks",
    "labels",
)
MULTIPAGE = (".tif", ".tiff")


@dataclass(frozen=True)
class Branch:
    """One folder of pictures with its folder of masks. labels None: no masks; the same folder: marked by name."""

    split: str
    images: Path
    labels: Path | None


@dataclass(frozen=True)
class Pair:
    """A picture file and its mask file, before pages are told apart."""

    image: Path
    mask: Path | None
    split: str
    group: str = ""


def read_pairs(root: Path, asked: Asked) -> Survey:
    """Pictures and masks in folders or marked by name; classes from class files or the values of the masks."""
    return _read(root, asked, "pairs")


def read_instances(root: Path, asked: Asked) -> Survey:
    """The same arrangements, where every mask numbers its objects: everything above 0 is one foreground class."""
    return _read(root, asked, "instances", instances=True)


def read_stack(root: Path, asked: Asked) -> Survey:
    """Multi-page TIFF files side by side: train-volume.tif with train-labels.tif, test-volume.tif without."""
    survey = Survey(root, "stack")
    images, masks = _files(Branch("", root, root))
    _, by_stem = _index(masks, root)
    matched = [Pair(p, by_stem.get(_plain(p.stem, _IMAGE_NAME)), _stack_split(p)) for p in images]
    for pair in (p for p in matched if p.mask is None and p.split in ("train", "val")):
        survey.error(pair.image, f"{pair.image} has no stack of masks beside it; expected e.g. train-labels.tif")
    for mask in set(masks) - {p.mask for p in matched}:
        survey.error(mask, f"{mask} has no picture beside it; add the stack of pictures, or rename it to match")
    return from_pairs(survey, matched, asked)


def _stack_split(path: Path) -> str:
    word = re.split(r"[_\-.]", path.stem)[0].lower()
    return SPLITS.get(word, "")


def _read(root: Path, asked: Asked, name: str, *, instances: bool = False) -> Survey:
    survey = Survey(root, name)
    found = branches(root)
    if not found:
        raise SightlineError(
            f"{root} holds no pictures with masks that can be told apart; expected images/ and masks/ with the same "
            "file names, or name.jpg with name_mask.png, or an index.csv with the columns image and mask"
        )
    matched = [pair for branch in found for pair in match(branch, survey)]
    return from_pairs(survey, matched, asked, instances=instances)


def from_pairs(survey: Survey, matched: Sequence[Pair], asked: Asked, *, instances: bool = False) -> Survey:
    """Fill `survey` with the records of matched files, pages told apart, classes decided from files and values."""
    listed, source = find_classes(survey.root)
    asked = with_files(asked, listed)
    paged = [page for pair in matched for page in expand(pair, survey)]
    masks = [(p.mask, max(n, 0)) for p, n in paged if p.mask is not None]
    if not masks and survey.faults:
        return survey
    if not masks:
        what = f"{survey.root} holds {len(matched)} pictures and no masks"
        raise SightlineError(f"{what}; put a mask of the same name for each into masks/")
    found = meaning(masks, asked, instances=instances)
    survey.classes, survey.colours = found.classes, found.colours
    survey.facts["classes_guessed"] = found.guessed
    survey.notes += [
        *([f"class names from {source}"] if source and listed.classes == asked.classes else []),
        *found.notes,
    ]
    survey.records += [record(pair, page, found, survey.root) for pair, page in paged]
    return survey


def with_files(asked: Asked, listed: Asked) -> Asked:
    """What the user said, completed by what the class files of the folder say."""
    if asked.classes or asked.colours:
        colours = asked.colours or (listed.colours if len(listed.colours) == len(asked.classes) else ())
        return replace(asked, colours=colours)
    return replace(asked, classes=listed.classes, colours=listed.colours)


def record(pair: Pair, page: int, found: Meaning, root: Path) -> PixelRecord:
    """The record of one page of a pair; `page` is -1 for files of a single page."""
    key = key_of(pair.image, root) + (f"#{page}" if page >= 0 else "")
    labels = found.mask(pair.mask, max(page, 0)) if pair.mask is not None else None
    return PixelRecord(key, Picture(pair.image, max(page, 0)), labels, group=pair.group, split=pair.split)


def expand(pair: Pair, survey: Survey) -> list[tuple[Pair, int]]:
    """A pair once for every page of its stack (page numbers from 0), or once with -1 when it is a single picture."""
    if pair.image.suffix.lower() not in MULTIPAGE:
        return [(pair, -1)]
    try:
        count = pages(pair.image)
        labelled = pages(pair.mask) if pair.mask is not None else count
    except SightlineError as error:
        survey.error(pair.image, str(error))
        return []
    if count != labelled:
        survey.error(
            pair.image,
            f"{pair.image} has {count} pages but its mask {pair.mask} has {labelled}; expected a mask page a page",
        )
        return []
    return [(pair, page) for page in range(count)] if count > 1 else [(pair, -1)]


def branches(root: Path) -> list[Branch]:
    """The folders of pictures and masks in `root`, in the first arrangement that fits; empty when none does."""
    folders = {f.name.lower(): f for f in subfolders(root)}
    images, labels = _named(folders, IMAGE_FOLDERS), _named(folders, LABEL_FOLDERS)
    if images is not None and labels is not None:
        return _split_inside(images, labels)
    splits = {name: f for name, f in folders.items() if name in SPLITS}
    if splits:
        return [b for name, f in splits.items() for b in _split_outside(split_name(name), f, folders)]
    if any(_MASK_NAME.match(p.stem) for p in pictures(root)):
        return [Branch("", root, root)]
    return []


def _named(folders: dict[str, Path], names: frozenset[str]) -> Path | None:
    """The folder with one of the usual names; among several the first that holds pictures."""
    found = [folders[n] for n in sorted(names & folders.keys())]
    return next((f for f in found if pictures(f)), found[0] if found else None)


def _split_inside(images: Path, labels: Path) -> list[Branch]:
    inner = subfolders(images)
    if not inner or not all(f.name.lower() in SPLITS for f in inner):
        return [Branch("", images, labels)]
    masks = {split_name(f.name): f for f in subfolders(labels)}
    return [Branch(split_name(f.name), f, masks.get(split_name(f.name))) for f in inner]


def _split_outside(split: str, folder: Path, beside: dict[str, Path]) -> list[Branch]:
    for word in _BESIDE:
        if labels := beside.get(folder.name.lower() + word):
            return [Branch(split, folder, labels)]
    inner = {f.name.lower(): f for f in subfolders(folder)}
    images, labels = _named(inner, IMAGE_FOLDERS), _named(inner, LABEL_FOLDERS)
    if images is not None:
        return [Branch(split, images, labels)]
    if any(_MASK_NAME.match(p.stem) for p in pictures(folder)):
        return [Branch(split, folder, folder)]
    return [Branch(split, folder, None)]


def match(branch: Branch, survey: Survey) -> list[Pair]:
    """Pairs of one branch; partners that are missing become faults of the survey.

    A picture without a mask is a fault in a branch that has masks, except that a test split may have none at all.
    """
    if branch.labels is None:
        if branch.split in ("train", "val"):
            survey.error(branch.images, f"{branch.images} has no folder of masks beside it; expected masks/ or labels/")
            return []
        return [Pair(p, None, branch.split) for p in pictures(branch.images)]
    images, masks = _files(branch)
    by_name, by_stem = _index(masks, branch.labels)
    pairs, used = [], set[Path]()
    for path in images:
        name = path.relative_to(branch.images).with_suffix("").as_posix()
        mask = by_name.get(name) or by_stem.get(name) or by_stem.get(_plain(name, _IMAGE_NAME))
        if mask is None:
            survey.error(
                path, f"{path} has no mask in {branch.labels}; add one of the same name or move the picture away"
            )
            continue
        if mask in used:
            survey.error(
                mask, f"{mask} is the mask of two pictures, one is {path}; give each picture a mask of its own name"
            )
        used.add(mask)
        pairs.append(Pair(path, mask, branch.split, _folder_group(name)))
    for mask in (m for m in masks if m not in used):
        survey.error(mask, f"{mask} has no picture in {branch.images}; add the picture or remove the mask")
    return pairs


def _files(branch: Branch) -> tuple[list[Path], list[Path]]:
    assert branch.labels is not None
    if branch.labels != branch.images:
        return pictures(branch.images), pictures(branch.labels)
    both: defaultdict[bool, list[Path]] = defaultdict(list)
    for path in pictures(branch.images):
        both[bool(_MASK_NAME.match(path.stem))].append(path)
    return both[False], both[True]


def _index(masks: Iterable[Path], root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    by_name, by_stem = {}, {}
    for mask in masks:
        name = mask.relative_to(root).with_suffix("").as_posix()
        by_name[name] = mask
        by_stem.setdefault(_plain(name, _MASK_NAME), mask)
    return by_name, by_stem


def _plain(name: str, pattern: re.Pattern[str]) -> str:
    """A name without the word that marks it as mask or picture: `a/x_mask` -> `a/x`, `mask_x` -> `x`."""
    folder, slash, stem = name.rpartition("/")
    found = pattern.match(stem)
    return folder + slash + (found["stem"] or found["rest"]) if found else name


def _folder_group(name: str) -> str:
    """Pictures in a sub-folder (a patient, a slide, a sequence) belong together."""
    return name.rpartition("/")[0]
