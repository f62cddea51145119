"""Keypoint R-CNN learns eight photos of COCO by heart: people above 96 pixels, 17 joints each.

    python -m sightline.recipes.keypoints_by_heart tiny_coco

From random weights, one CPU core, about 20 minutes. Scored on the same photos by object keypoint similarity (AP, 20
answers a photo): it shows that targets, loss, decoding and score of joints belong together, and nothing of other
photos.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sightline.datasets.coco import content_of
from sightline.datasets.open import look_into
from sightline.errors import SightlineError
from sightline.files import write_text
from sightline.recipes.recipe import Recipe, main

COUNT = 8
LARGE = 96.0
"""Pixels of the root of the box's area that every labelled person of a chosen photo has at least."""


def chosen(data: Path) -> Path:
    """The folder `runs/keypoints_by_heart/photos` with the first photos whose people are all large, made once."""
    folder = Path("runs") / "keypoints_by_heart-photos"
    if not (folder / "annotations" / "person_keypoints_train.json").is_file():
        write_photos(data, folder)
    return folder


def write_photos(data: Path, folder: Path, count: int = COUNT, large: float = LARGE) -> None:
    """Copy photos and their people from COCO's `data` to `folder`.

    Chosen are, in the order of the file, photos with no more than four people, all of them whole objects with at least
    five labelled joints. Raises `SightlineError` where there are fewer than `count`.
    """
    source = data / "annotations" / "person_keypoints_train2017.json"
    content = content_of(source)
    people: dict[Any, list[dict[str, Any]]] = {}
    for row in content["annotations"]:
        people.setdefault(row["image_id"], []).append(row)

    def fits(row: dict[str, Any]) -> bool:
        _, _, width, height = row["bbox"]
        known = row.get("num_keypoints", 0) >= 5 and not row.get("iscrowd")
        return known and (width * height) ** 0.5 >= large

    images = [
        row
        for row in content["images"]
        if 0 < len(people.get(row["id"], [])) <= 4 and all(map(fits, people[row["id"]]))
    ]
    if len(images) < count:
        raise SightlineError(
            f"{source} has {len(images)} photos with large people alone, expected {count}; see the file"
        )
    images = images[:count]
    paths = {Path(record.key).name: record.image.path for record in look_into(source, kind="objects").records}
    for row in images:
        to = folder / "train" / row["file_name"]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[row["file_name"]], to)
    kept = {row["id"] for row in images}
    part = {
        "images": images,
        "annotations": [row for row in content["annotations"] if row["image_id"] in kept],
        "categories": content["categories"],
    }
    write_text(folder / "annotations" / "person_keypoints_train.json", json.dumps(part))


RECIPE = Recipe(
    name="keypoints_by_heart",
    model="keypoint_rcnn",
    score="ap",
    expected=0.9,
    split="train",
    prepare=chosen,
    options={
        "seed": 0,
        "val": 0,
        "resize": "long(320)",
        "batch": 4,
        "steps": 480,
        "lr": 1e-3,
        "augment": "none",
        "train_values": {"clip": 5.0, "validate_every": 0},
        "model_values": {
            "backbone": "resnet18",
            "channels": 96,
            "hidden": 192,
            "joint_channels": 128,
            "joint_depth": 4,
            "before": [300, 200],
            "after": [150, 100],
            "rpn_count": 64,
            "count": 128,
            "anchors": [16, 32, 64, 128, 256],
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
