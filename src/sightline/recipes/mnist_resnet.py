"""A small ResNet on handwritten digits: 9,000 of MNIST's test digits to learn from, the last 1,000 to score.

    python -m sightline.recipes.mnist_resnet mnist_t10k

DATA: a folder with MNIST's IDX files of one set (`*images-idx3-ubyte`, `*labels-idx1-ubyte`, or .gz). From random
weights, 1 CPU core, about 10 minutes. Beside it stands the nearest of the 9,000 digits.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError
from sightline.media.door import reading
from sightline.media.image import write_image
from sightline.recipes.baselines import nearest_picture
from sightline.recipes.recipe import Recipe, main

LEARNED = 9000


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an IDX file, gzipped or not, as an array of the shape that its header tells."""
    with reading(path, "IDX file"):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        if content[:3] != b"\0\0\x08":
            raise SightlineError(f"{path} is no IDX file of bytes: it must begin with 00 00 08; download it again")
        axes = content[3]
        shape = np.frombuffer(content, ">u4", axes, 4)
        return np.frombuffer(content, np.uint8, int(shape.prod()), 4 + 4 * axes).reshape(shape)


def digits(folder: Path) -> Path:
    """Write `runs/mnist/{train,val}/DIGIT/NUMBER.png`, where they are not yet."""
    out = Path("runs") / "mnist"
    if (out / "done").is_file():
        return out
    images, labels = (_find(folder, word) for word in ("images-idx3", "labels-idx1"))
    pictures, truth = read_idx(images), read_idx(labels)
    if len(pictures) != len(truth) or len(pictures) <= LEARNED:
        raise SightlineError(f"{folder} holds {len(pictures)} digits and {len(truth)} labels; expected 10,000 of both")
    for k, (picture, label) in enumerate(zip(pictures, truth)):
        place = out / ("train" if k < LEARNED else "val") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        write_image(place / f"{k:05d}.png", picture[..., None])
    (out / "done").write_text("made\n")
    return out


def _find(folder: Path, word: str) -> Path:
    found = sorted(p for p in folder.glob("*") if word in p.name) if folder.is_dir() else []
    if not found:
        raise SightlineError(f"{folder} holds no file called *{word}-ubyte; name the folder of MNIST's files")
    return found[0]


RECIPE = Recipe(
    name="mnist_resnet",
    model="resnet",
    score="accuracy",
    expected=0.985,
    baseline=nearest_picture,
    prepare=digits,
    options={
        "seed": 0,
        "resize": "exact(48, 48)",
        "size": 48,
        "batch": 64,
        "steps": 1400,
        "lr": 3e-3,
        "augment": "sided",
        "augment_values": {"scale": [0.85, 1.0], "colour": 0.1},
        "model_values": {"width": 16, "depths": [1, 1, 1, 1], "in_channels": 1, "mean": None, "std": None},
        "train_values": {"validate_every": 350},
    },
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
