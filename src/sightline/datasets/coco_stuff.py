"""COCO-Stuff (Caesar et al. 2018): 80 things and 91 stuff classes for every pixel of COCO's pictures.

stuffthingmaps/{train2017,val2017}/NAME.png (value = COCO's category id - 1, 171 of the 182 ids occur) or
annotations/.../NAME_labelTrainIds.png (value = class), 255 never scored; pictures in images/train2017/ or train2017/.
"""

from __future__ import annotations

from pathlib import Path

from sightline.datasets.classes import Meaning
from sightline.datasets.folders import files, pictures, split_name, subfolders
from sightline.datasets.pairs import Pair, record
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError

THINGS = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup,
    fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
    keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
    hair drier, toothbrush""".replace("\n    ", " ").split(", ")
)
STUFF = tuple(
    """banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other,
    ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble,
    floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel,
    ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper,
    pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug,
    salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
    tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone,
    wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood""".replace("\n    ", " ").split(
        ", "
    )
)
CLASSES = THINGS + STUFF
ABSENT = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})  # category ids that no picture of COCO has
CATEGORY_IDS = tuple(i for i in range(1, 183) if i not in ABSENT)
VALUES = {**{number - 1: k for k, number in enumerate(CATEGORY_IDS)}, 255: 255}


def read_coco_stuff(root: Path, asked: Asked) -> Survey:
    """The records of COCO-Stuff, by the years' folders."""
    if asked.classes and len(asked.classes) != len(CLASSES):
        raise SightlineError(f"{root} is COCO-Stuff with 171 classes, not {len(asked.classes)}; leave classes out")
    survey = Survey(root, "coco_stuff", classes=asked.classes or CLASSES)
    survey.notes.append("values of the label maps become 80 things and 91 stuff classes; 255 is never scored")
    ids, trained = Meaning(survey.classes, values=VALUES), Meaning(survey.classes)
    for maps in (f for home in ("stuffthingmaps", "annotations") for f in subfolders(root / home)):
        images = next((p for p in (root / "images" / maps.name, root / maps.name) if p.is_dir()), None)
        if images is None:
            survey.error(maps, f"{maps} has no pictures in images/{maps.name}/ or {maps.name}/; add them")
            continue
        by_name = {f.name: f for f in files(maps, ".png")}
        for image in pictures(images):
            train_ids, value_ids = by_name.get(f"{image.stem}_labelTrainIds.png"), by_name.get(f"{image.stem}.png")
            if train_ids is None and value_ids is None:
                survey.error(image, f"{image} has no label map in {maps}; add it or remove the picture")
                continue
            pair = Pair(image, train_ids or value_ids, split_name(maps.name.rstrip("0123456789")))
            survey.records.append(record(pair, -1, trained if train_ids else ids, root))
    return survey
