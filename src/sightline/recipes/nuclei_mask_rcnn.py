"""Mask R-CNN on nuclei: 211 pictures to learn from, a seeded fifth of the training part to score.

    python -m sightline.recipes.nuclei_mask_rcnn dsb2018_nuclei

From random weights, one CPU core, about 40 minutes. AP of masks at an overlap of 0.5, up to 500 answers a picture; the
mean box of all nuclei is printed beside it. Nuclei are 5 to 60 pixels wide, so pictures are enlarged by a half; a step
sees windows of 224 x 224 pixels of them.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="nuclei_mask_rcnn",
    model="mask_rcnn",
    score="ap50",
    expected=0.6,
    baseline=mean_boxes,
    options={
        "seed": 0,
        "val": "seeded(0.2)",
        "intensity": "zscore",
        "resize": "long(384)",
        "size": [224, 224],
        "batch": 4,
        "steps": 1200,
        "lr": 1e-3,
        "limit": 500,
        "augment": "light",
        "augment_values": {"scale": [1.4, 2.1], "turn": True, "flip_vertical": True, "colour": 0.1},
        "train_values": {"clip": 5.0, "validate_every": 600},
        "model_values": {
            "backbone": "resnet18",
            "channels": 64,
            "hidden": 128,
            "mask_channels": 32,
            "before": [400, 600],
            "after": [200, 500],
            "rpn_count": 128,
            "count": 64,
            "anchors": [12, 24, 48, 96, 192],
            "most": 500,
            "mean": None,
            "std": None,
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
