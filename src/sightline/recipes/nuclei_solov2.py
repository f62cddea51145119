"""SOLOv2, a network without boxes, on nuclei: 211 pictures to learn from, a seeded fifth to score.

    python -m sightline.recipes.nuclei_solov2 dsb2018_nuclei

From random weights, one CPU core, about 40 minutes. AP of masks at an overlap of 0.5, up to 500 answers a picture. An
object is told by the cell of a grid over the whole picture that its middle lies in, so pictures are seen whole, in
training as in scoring; masks have a quarter of the input's size, so pictures are enlarged by a half.
"""

from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, main

RECIPE = Recipe(
    name="nuclei_solov2",
    model="solov2",
    score="ap50",
    expected=0.5,
    baseline=mean_boxes,
    options={
        "seed": 0,
        "val": "seeded(0.2)",
        "intensity": "zscore",
        "resize": "long(384)",
        "batch": 2,
        "steps": 1300,
        "lr": 1e-3,
        "limit": 500,
        "augment": "light",
        "augment_values": {"scale": [1.0, 1.0], "turn": True, "flip_vertical": True, "colour": 0.1},
        "train_values": {"clip": 10.0, "validate_every": 650},
        "model_values": {
            "backbone": "resnet18",
            "channels": 64,
            "width": 64,
            "depth": 2,
            "features": 48,
            "kernels": 48,
            "grids": [48, 36, 24, 16, 12],
            "before": 500,
            "most": 500,
            "mean": None,
            "std": None,
        },
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
