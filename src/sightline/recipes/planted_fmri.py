"""The fMRI networks on made-up brains: four tasks, each with a faint pattern of its own, planted in smooth noise.

    python -m sightline.recipes.planted_fmri SYSTEM [OPTION=VALUE ...]

SYSTEM: fmri_3dcnn or fmri_3dcnn_strided. Writes 240 volumes of 53 x 63 x 46 to learn from and 120 to score, then
trains from random weights on 1 CPU core, about 10 minutes. Each volume is a map of change: an ellipsoid of brain with
smooth noise, and no change around it (were the outline in it, a network would see nothing else for hundreds of steps).
A task raises two regions by about twice the deviation of the noise, at a place that shifts by up to two voxels. Beside
the score stands the nearest class mean.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import numpy as np

from sightline.datasets.brains import volume_at
from sightline.datasets.records import DataSet
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.media.volume import write_volume
from sightline.recipes.recipe import Recipe, carry_out
from sightline.verbs.config import nested_value
from sightline.verbs.train import train

SIZE = (53, 63, 46)
MADE = "maps of change\n"
"""What the finished set says of itself; one that says otherwise is made again."""
TASKS = {
    "auditory": ((26, 30, 8), (26, 30, 38)),
    "left-hand": ((20, 38, 34), (34, 22, 14)),
    "right-hand": ((20, 38, 12), (34, 22, 32)),
    "visual": ((24, 8, 18), (24, 8, 28)),
}
"""Centres of the two regions of each task, in voxels."""
SYSTEMS = {"fmri_3dcnn": 160, "fmri_3dcnn_strided": 600}
"""Steps of 16 volumes."""


def brain(task: str, rng: np.random.Generator, *, strength: float = 1.8) -> np.ndarray:
    """One volume of a task, uint8 `SIZE`."""
    from scipy.ndimage import gaussian_filter

    z, y, x = np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij")
    place = [(axis - (n - 1) / 2) / (0.46 * n) for axis, n in zip((z, y, x), SIZE)]
    inside = sum(p**2 for p in place) < 1
    noise = gaussian_filter(rng.standard_normal(SIZE), 1.2)
    values = noise / noise.std()
    for centre in TASKS[task]:
        c = np.array(centre) + rng.uniform(-2, 2, 3)
        distance = (z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2
        values += strength * rng.uniform(0.8, 1.2) * np.exp(-distance / (2 * 3.0**2))
    return np.where(inside, 128 + 20 * values, 128).round().clip(0, 255).astype(np.uint8)


def write_brains(out: Path, *, train: int = 240, val: int = 120, seed: int = 0) -> Path:
    """`out/{train,val}/TASK/NUMBER.npz`, where it is not there yet."""
    done = out / "done"
    if done.is_file() and done.read_text() == MADE:
        return out
    shutil.rmtree(out, ignore_errors=True)
    for split, number in (("train", train), ("val", val)):
        for k in range(number):
            task = list(TASKS)[k % len(TASKS)]
            rng = np.random.default_rng([seed, split == "train", k])
            write_volume(out / split / task / f"{k:04d}.npz", brain(task, rng))
    done.write_text(MADE)
    return out


def nearest_mean(data: DataSet) -> tuple[str, float]:
    """Accuracy of the nearest class mean of the volumes."""

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        records = data.split(split).records
        rows = [volume_at(r.image.path).array.astype(np.float32).ravel() for r in records]
        return np.stack(rows), np.array([r.labels for r in records])

    (a, y), (b, truth) = read("train"), read("val")
    means = np.stack([a[y == k].mean(0) for k in range(len(data.classes))])
    distance = (means**2).sum(1) - 2 * b @ means.T
    return "accuracy of the nearest class mean", float((distance.argmin(1) == truth).mean())


def recipe_of(name: str) -> Recipe:
    """The experiment of one network."""
    if name not in SYSTEMS:
        raise UsageError(
            f"there is no system '{name}' here; choose from {', '.join(SYSTEMS)}.{did_you_mean(name, SYSTEMS)}"
        )
    return Recipe(
        name=f"planted_{name}",
        model=name,
        score="accuracy",
        expected=0.9,
        baseline=nearest_mean,
        typed=f"planted_fmri {name}",
        options={
            "seed": 0,
            "batch": 16,
            "steps": SYSTEMS[name],
            "lr": 1e-3,
            "model_values": {"dropout": 0.3},
            "train_values": {"validate_every": SYSTEMS[name]},
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """SYSTEM, then OPTION=VALUE of `train`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or "=" in words[0]:
            raise UsageError(f"which system? python -m sightline.recipes.planted_fmri {' or '.join(SYSTEMS)}")
        recipe = recipe_of(words[0])
        pairs = [word.partition("=") for word in words[1:]]
        known = [name for name in signature(train).parameters if name not in ("model", "data", "resume", "say", "log")]
        for name, equals, _ in pairs:
            if not equals or name not in known:
                raise UsageError(f"'{name}' is no option; write OPTION=VALUE with one of {', '.join(known)}")
        folder = write_brains(Path("runs") / "planted_fmri")
        carry_out(recipe, folder, {name: nested_value(value) for name, _, value in pairs})
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
