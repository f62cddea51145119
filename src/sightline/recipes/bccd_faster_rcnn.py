"""Faster R-CNN on blood cells: 234 photos to learn from, a seeded fifth of the train and val lists to score.

    python -m sightline.recipes.bccd_faster_rcnn bccd

From random weights, 2 CPU cores, about 20 minutes, photos at half their size. AP at an IoU of 0.5; some red cells
are unlabelled in the truth, which no detector can know.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="bccd_faster_rcnn",
    model="faster_rcnn",
    score="ap50",
    expected=0.85,
    baseline=mean_boxes,
    options={
        "seed": 3,
        "val": "again(seeded(0.2))",
        "resize": "long(320)",
        "batch": 4,
        "steps": 1200,
        "lr": 1e-3,
        "augment": "light",
        "augment_values": {"turn": True, "flip_vertical": True, "colour": 0.1},
        "train_values": {"clip": 5.0},
        "model_values": {
            "backbone": "resnet18",
            "channels": 128,
            "hidden": 256,
            "before": [600, 300],
            "after": [300, 150],
            "rpn_count": 128,
            "count": 128,
            "anchors": [16, 32, 64, 128, 256],
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
