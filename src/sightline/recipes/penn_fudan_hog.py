"""A sliding window on pedestrians: four fifths of Penn-Fudan's photos to learn from, a seeded fifth to score.

    python -m sightline.recipes.penn_fudan_hog penn_fudan

From nothing, one CPU core, some minutes. AP at an IoU of 0.5, photos at 400 pixels of their longer side.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="penn_fudan_hog",
    model="hog_svm",
    score="ap50",
    expected=0.3,
    baseline=mean_boxes,
    options={
        "seed": 0,
        "val": "seeded(0.2)",
        "resize": "long(400)",
        "train_values": {"negatives": 10, "rounds": 2, "hard": 20},
        "model_values": {"window": [128, 64], "context": 0.8, "step": 1.1},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
