"""U-Net on neuron membranes (ISBI 2012): the first 20 slices to learn from, the last 4 of the 24 to score.

    python -m sightline.recipes.membranes_unet isbi2012_em

From random weights, 2 CPU cores, about 10 minutes. Pixel accuracy; the best single threshold is printed beside it.
Neighbouring slices look alike, so the two parts are contiguous.
"""

from sightline.recipes.baselines import one_threshold
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="membranes_unet",
    model="unet",
    score="pixel_accuracy",
    expected=0.921,
    baseline=one_threshold,
    options={
        "seed": 0,
        "val": "last(4)",
        "size": 192,
        "batch": 4,
        "steps": 900,
        "lr": 2e-3,
        "loss": "ce+dice",
        "augment": "light",
        "augment_values": {"turn": True, "flip_vertical": True, "colour": 0.2},
        "model_values": {"width": 16},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
