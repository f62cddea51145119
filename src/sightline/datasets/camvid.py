"""CamVid (Brostow et al. 2008) in SegNet's cut: 11 classes, 11 = unlabelled and never scored.

Arrangements: train/ trainannot/ val/ valannot/ test/ testannot/ as published, or images/train + labels/train.
A sequence (the part of a name before the frame number) is the group: neighbouring frames are near copies.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sightline.datasets.classes import Meaning
from sightline.datasets.pairs import branches, match, record
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
COLOURS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
UNLABELLED = 11
NAME = re.compile(r"^(0001TP|0006R0|0016E5|Seq05VD)_")


def read_camvid(root: Path, asked: Asked) -> Survey:
    """The records of CamVid; `asked` may rename the 11 classes."""
    if asked.classes and len(asked.classes) != len(CLASSES):
        raise SightlineError(
            f"{root} is CamVid with 11 classes, not {len(asked.classes)}; use format=pairs for other labels"
        )
    survey = Survey(root, "camvid", classes=asked.classes or CLASSES, colours=COLOURS)
    meaning = Meaning(survey.classes, values={**{i: i for i in range(11)}, UNLABELLED: 255, 255: 255})
    for branch in branches(root):
        for pair in match(branch, survey):
            found = NAME.match(pair.image.name)
            survey.records.append(record(replace(pair, group=found[1] if found else ""), -1, meaning, root))
    survey.notes.append("mask value 11 (unlabelled) is never scored")
    return survey
