"""U-Net on neuron membranes (ISBI 2012): the first 20 slices to learn from, the last 4 of the 24 to score.

    python -m sightline.recipes.membranes_unet isbi2012_em

From random weights, 2 CPU cores, about 15 minutes. Pixel accuracy and ISBI's V-Rand and V-Info; the best single
threshold is printed beside them. Elastic deformation in training; overlapping tiles in four mirrored views in
judgement. Neighbouring slices look alike, so the two parts are contiguous.
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
        "steps": 1200,
        "lr": 2e-3,
        "loss": "ce+dice",
        "augment": "light",
        # one microscope, one scale: bent, turned and shaded as in the paper, not enlarged
        "augment_values": {"scale": [1.0, 1.0], "turn": True, "flip_vertical": True, "colour": 0.1, "elastic": 3.0},
        "model_values": {"width": 16},
    },
    judge={"tile": 256, "overlap": 0.5, "flips": "hv", "metrics": "v_rand,v_info"},
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
