"""ADE20K as in the scene parsing challenge of 2016 (Zhou et al. 2017): 150 classes; 0 means "other", never scored.

images/{training,validation} + annotations/{training,validation}; the values 1..150 of a mask are the classes 0..149.
"""

from __future__ import annotations

from pathlib import Path

from sightline.datasets.classes import Meaning
from sightline.datasets.folders import split_name, subfolders
from sightline.datasets.pairs import Branch, match, record
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

CLASSES = tuple(
    """wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door,
    table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field,
    armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard,
    chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway,
    case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower,
    book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine,
    hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane,
    dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship,
    fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag,
    minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher,
    screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate,
    monitor, bulletin board, shower, radiator, glass, clock, flag""".replace("\n    ", " ").split(", ")
)


def read_ade20k(root: Path, asked: Asked) -> Survey:
    """The records of ADE20K, training as train and validation as val."""
    if asked.classes and len(asked.classes) != len(CLASSES):
        raise SightlineError(f"{root} is ADE20K with 150 classes, not {len(asked.classes)}; leave classes out")
    survey = Survey(root, "ade20k", classes=asked.classes or CLASSES)
    survey.notes.append("mask values 1..150 become the classes 0..149; 0 (other) is never scored")
    meaning = Meaning(survey.classes, values={0: 255, **{i + 1: i for i in range(150)}})
    for folder in subfolders(root / "images"):
        labels = root / "annotations" / folder.name
        branch = Branch(split_name(folder.name), folder, labels if labels.is_dir() else None)
        survey.records += [record(pair, -1, meaning, root) for pair in match(branch, survey)]
    return survey
