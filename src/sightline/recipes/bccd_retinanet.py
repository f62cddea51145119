"""RetinaNet on blood cells: 234 photos to learn from, a seeded fifth of the train and val lists to score.

    python -m sightline.recipes.bccd_retinanet bccd

From random weights, 2 CPU cores, about 20 minutes, photos at half their size. AP at an IoU of 0.5; some red cells
are unlabelled in the truth, which no detector can know.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="bccd_retinanet",
    model="retinanet",
    score="ap50",
    expected=0.8,
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
            "channels": 96,
            "depth": 2,
            "before": 300,
            "anchors": [12, 24, 48, 96, 192],
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
