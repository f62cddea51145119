"""Deformable parts on pedestrians: four fifths of Penn-Fudan's photos to learn from, a seeded fifth to score.

    python -m sightline.recipes.penn_fudan_parts penn_fudan

From nothing, one CPU core, about forty minutes. AP at an IoU of 0.5, photos at 400 pixels of their longer side.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="penn_fudan_parts",
    model="deformable_parts",
    score="ap50",
    expected=0.4,
    baseline=mean_boxes,
    options={
        "seed": 0,
        "val": "seeded(0.2)",
        "resize": "long(400)",
        "train_values": {"negatives": 10, "rounds": 6, "hard": 10, "c": 0.02},
        "model_values": {"windows": [[12, 5]], "parts": 8, "part": 6, "interval": 5, "overlap": 0.3},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
