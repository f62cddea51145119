"""U-Net on nuclei: 211 pictures to learn from, a seeded fifth of the training part to score.

    python -m sightline.recipes.nuclei_unet dsb2018_nuclei

From random weights, 2 CPU cores, about 10 minutes. Pooled foreground Dice; Otsu's threshold is printed beside it.
Every picture is scaled to mean 0 and deviation 1, since fluorescence is dark and stained tissue bright.
"""

from sightline.recipes.baselines import otsu
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="nuclei_unet",
    model="unet",
    score="foreground_dice",
    expected=0.888,
    baseline=otsu,
    options={
        "seed": 7,
        "val": 0.2,
        "intensity": "zscore",
        "size": 192,
        "batch": 4,
        "steps": 1150,
        "lr": 2e-3,
        "loss": "ce+dice",
        "augment": "light",
        "augment_values": {"turn": True, "flip_vertical": True, "colour": 0.1},
        "model_values": {"width": 16, "mean": None, "std": None},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
