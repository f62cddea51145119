"""Objects from pictures of numbers: every value above 0 of a mask is one object.

The arrangements are those of `pairs` and `table`: images/ beside masks/ or labels/ (Penn-Fudan, the nuclei of the Data
Science Bowl as one picture of numbers each), NAME_mask.png, an index.csv. Boxes are drawn around the numbers when the
folder is opened, the masks themselves are read when they are needed. In masks of 8 bits 255 marks pixels that are never
scored, as in VOC, unless the numbers go as far.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.classes import look
from sightline.datasets.folders import key_of
from sightline.datasets.pairs import Pair, branches, expand, match
from sightline.datasets.read import IGNORE
from sightline.datasets.records import MaskFile, ObjectRecord, Thing
from sightline.datasets.records import Picture as PictureFile
from sightline.datasets.survey import Asked, Survey
from sightline.datasets.table import find_table, listed_pairs
from sightline.errors import SightlineError
from sightline.media.image import image_size
from sightline.media.labels import read_labels

LOOKED = 40
"""Masks that are looked at to learn whether a folder numbers its objects."""

MOST_NUMBERS = 1_000_000
"""Numbers above which they are counted anew, for a table of all would not fit."""


def find_pairs(root: Path) -> tuple[Survey, list[Pair]]:
    """Pictures and their masks of numbers, by a table or by names, with the faults of those without a partner."""
    if root.is_dir() and find_table(root) is None:
        survey = Survey(root, "instances")
        return survey, [pair for branch in branches(root) for pair in match(branch, survey)]
    survey, pairs = listed_pairs(root)
    return replace(survey, format="instances"), pairs


def numbers_objects(root: Path) -> str:
    """Why a folder's masks seem to number objects, in words; "" when they do not, or there are none."""
    try:
        _, pairs = find_pairs(root)
    except SightlineError:
        return ""
    masks = [(pair.mask, 0) for pair in pairs if pair.mask is not None][:LOOKED]
    seen = look(masks, 0)
    if not seen.looked:
        return ""
    if seen.wide and max(seen.values) > 0:
        return "its masks have 16 bits, as numbers of objects do"
    if seen.numbered and max(seen.values) > 1:
        return "every mask holds the numbers 1 to n, as numbers of objects do"
    return ""


def read_instance_objects(root: Path, asked: Asked) -> Survey:
    """The pictures of a folder with the objects that their masks number, all of one class."""
    survey, pairs = find_pairs(root)
    if not pairs and not survey.faults:
        raise SightlineError(
            f"{root} holds no pictures with masks that number objects; expected images/ beside masks/ with the same "
            "file names, or an index.csv"
        )
    if len(asked.classes) > 1:
        raise SightlineError(
            f"{root}: masks that number objects know one class, not {len(asked.classes)}; name one, such as "
            f"classes={asked.classes[0]}, or take COCO annotations"
        )
    survey.classes = asked.classes or ("object",)
    survey.notes.append(f'one class "{survey.classes[0]}": every value above 0 of a mask is one object')
    for pair, page in [paged for found in pairs for paged in expand(found, survey)]:
        key = key_of(pair.image, survey.root) + (f"#{page}" if page >= 0 else "")
        image = PictureFile(pair.image, max(page, 0))
        try:
            things = None if pair.mask is None else things_in(MaskFile(pair.mask, max(page, 0)), image)
        except SightlineError as error:
            survey.error(pair.mask or pair.image, str(error))
            continue
        survey.records.append(ObjectRecord(key, image, things, pair.mask, group=pair.group, split=pair.split))
    return survey


def things_in(mask: MaskFile, image: PictureFile) -> tuple[Thing, ...]:
    """The objects of one mask, in the order of their numbers."""
    numbers = read_labels(mask.path, page=mask.page)
    size = image_size(image.path, page=image.page)
    if numbers.shape != size:
        raise SightlineError(
            f"{mask.path} is {numbers.shape[1]} x {numbers.shape[0]} pixels but its picture {image.path} is {size[1]} "
            f"x {size[0]}; export the mask again at the picture's size"
        )
    return tuple(
        Thing(0, box, area=float(area), mask=mask, value=number, place=number)
        for number, box, area in boxes_of(numbers)
    )


def boxes_of(numbers: NDArray[np.integer]) -> list[tuple[int, tuple[float, float, float, float], int]]:
    """Number, box and pixels of every object in a picture of numbers `(H, W)`."""
    from scipy.ndimage import find_objects

    values = np.maximum(numbers, 0).astype(np.int32, copy=False)
    names = None
    if values.max(initial=0) > MOST_NUMBERS:
        names, place = np.unique(values, return_inverse=True)
        values = place.reshape(values.shape).astype(np.int32) + (names[0] > 0)  # 0 stays background
        names = names[names > 0]
    count = np.bincount(values.ravel())
    if numbers.dtype == np.uint8 and len(count) == IGNORE + 1 and not count[IGNORE - 1]:
        count[IGNORE] = 0
    found = find_objects(values)
    return [
        (
            number if names is None else int(names[number - 1]),
            (float(window[1].start), float(window[0].start), float(window[1].stop), float(window[0].stop)),
            int(count[number]),
        )
        for number, window in enumerate(found, start=1)
        if window is not None and count[number]
    ]
