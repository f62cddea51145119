"""Cityscapes (Cordts et al. 2016): 19 classes that are trained on, all other ids never scored; a city is a group.

leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png + gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png (or labelTrainIds), or
gtCoarse/ with the further split train_extra.
"""

from __future__ import annotations

from pathlib import Path

from sightline.datasets.classes import Meaning
from sightline.datasets.folders import pictures, split_name, subfolders
from sightline.datasets.pairs import Pair, record
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
COLOURS = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of the 19 classes
TRAIN_ID = {**dict.fromkeys((*range(35), 255), 255), **{number: k for k, number in enumerate(IDS)}}


def read_fine(root: Path, asked: Asked) -> Survey:
    """The 5,000 finely labelled frames, in their splits."""
    return _read(root, asked, "cityscapes", "gtFine")


def read_coarse(root: Path, asked: Asked) -> Survey:
    """The coarsely labelled frames: train, val and train_extra (which counts as train)."""
    return _read(root, asked, "cityscapes_coarse", "gtCoarse")


def _read(root: Path, asked: Asked, name: str, kind: str) -> Survey:
    if not (root / "leftImg8bit").is_dir() or not (root / kind).is_dir():
        raise SightlineError(f"{root} is not in Cityscapes' format; expected the folders leftImg8bit/ and {kind}/")
    if asked.classes and len(asked.classes) != len(CLASSES):
        raise SightlineError(f"{root} is Cityscapes with 19 classes, not {len(asked.classes)}; leave classes out")
    survey = Survey(root, name, classes=asked.classes or CLASSES, colours=COLOURS)
    survey.notes.append("label ids become the 19 train ids, all other ids are never scored")
    ids, trained = Meaning(survey.classes, values=TRAIN_ID), Meaning(survey.classes)
    for folder in (f for f in subfolders(root / "leftImg8bit") if (root / kind / f.name).is_dir()):
        split = "train" if folder.name == "train_extra" else split_name(folder.name)
        for image in pictures(folder):
            stem = image.stem.removesuffix("_leftImg8bit")
            base = root / kind / folder.name / image.parent.name
            options = (
                (base / f"{stem}_{kind}_labelTrainIds.png", trained),
                (base / f"{stem}_{kind}_labelIds.png", ids),
            )
            mask, meaning = next(((m, how) for m, how in options if m.is_file()), (None, ids))
            if mask is None and split != "test":
                survey.error(image, f"{image} has no {options[1][0].name} in {base}; unpack {kind} again")
                continue
            survey.records.append(record(Pair(image, mask, split, image.parent.name), -1, meaning, root))
    return survey
