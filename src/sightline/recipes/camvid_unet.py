"""U-Net on street scenes (CamVid): train to val, 11 classes.

    python -m sightline.recipes.camvid_unet camvid

From random weights, 2 CPU cores, about 20 minutes. `dataset_miou` at the pictures' own 360 x 480; the network works at
half that size. The most frequent class at each place is printed beside it.
"""

from sightline.recipes.baselines import location_prior
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="camvid_unet",
    model="unet",
    score="dataset_miou",
    expected=0.578,
    baseline=location_prior,
    options={
        "seed": 0,
        "resize": "exact(180, 240)",
        "size": [160, 224],
        "batch": 4,
        "steps": 1700,
        "lr": 2e-3,
        "augment": "light",
        "augment_values": {"scale": [0.75, 1.5], "colour": 0.1},
        "model_values": {"width": 16},
        "train_values": {"validate_every": 850},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
