"""A small ResNet on faces (ORL): 30 people, five pictures of each to learn from, the other five to score.

    python -m sightline.recipes.orl_resnet orl_faces

DATA: a folder with the people's folders s1, s2, ... anywhere below it. People 1 to 30; pictures 1 to 5 against 6 to 10.
From random weights, 1 CPU core, about 10 minutes. Beside it stands the nearest of the 150 pictures.
"""

from __future__ import annotations

from pathlib import Path

from sightline.errors import SightlineError
from sightline.media.image import read_image, write_image
from sightline.recipes.baselines import nearest_picture
from sightline.recipes.recipe import Recipe, main

PEOPLE, PICTURES, LEARNED = 30, 10, 5


def faces(folder: Path) -> Path:
    """Write `runs/orl/{train,val}/PERSON/NUMBER.png`, where they are not yet."""
    out = Path("runs") / "orl"
    if (out / "done").is_file():
        return out
    homes = {p.name: p for p in folder.rglob("s*") if p.is_dir()}
    missing = [f"s{k}" for k in range(1, PEOPLE + 1) if f"s{k}" not in homes]
    if missing:
        raise SightlineError(f"{folder} holds no folder {missing[0]}; expected s1 to s{PEOPLE} somewhere below it")
    for person in range(1, PEOPLE + 1):
        for k in range(1, PICTURES + 1):
            place = out / ("train" if k <= LEARNED else "val") / f"s{person:02d}"
            place.mkdir(parents=True, exist_ok=True)
            write_image(place / f"{k:02d}.png", read_image(homes[f"s{person}"] / f"{k}.pgm")[..., :1])
    (out / "done").write_text("made\n")
    return out


RECIPE = Recipe(
    name="orl_resnet",
    model="resnet",
    score="accuracy",
    expected=0.96,
    baseline=nearest_picture,
    prepare=faces,
    options={
        "seed": 0,
        "resize": "exact(80, 64)",
        "size": [80, 64],
        "batch": 30,
        "steps": 1000,
        "lr": 3e-3,
        "augment": "light",
        "augment_values": {"scale": [0.75, 1.0], "colour": 0.2},
        "model_values": {"width": 24, "depths": [1, 1, 1, 1], "in_channels": 1, "dropout": 0.2},
        "train_values": {"validate_every": 250, "weight_decay": 0.05},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
