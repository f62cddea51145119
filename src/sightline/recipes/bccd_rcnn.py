"""R-CNN on blood cells, all its stages: 234 photos to learn from, a seeded fifth of the train and val lists to score.

    python -m sightline.recipes.bccd_rcnn bccd

From random weights, a small backbone, one CPU core, about 75 minutes. AP at an IoU of 0.5, photos at half their size.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="bccd_rcnn",
    model="rcnn",
    score="ap50",
    expected=0.6,
    baseline=mean_boxes,
    options={
        "seed": 3,
        "val": "again(seeded(0.2))",
        "resize": "long(320)",
        "lr": 1e-3,
        "batch": 64,
        "steps": 800,
        "train_values": {"c": 0.01, "rescore": True},
        "model_values": {
            "backbone": "resnet18",
            "hidden": 256,
            "size": 64,
            "context": 6,
            "cells": 2,
            "proposals": 600,
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
