"""3-D U-Net on one head (voxelmorph's T1 scan): learn the right hemisphere, score the left one.

    python -m sightline.recipes.hemispheres_unet3d voxelmorph_t1

From random weights, 2 CPU cores, about 40 minutes. The scan is cut at its middle and the left half mirrored, so that
both lie the same way; the numbers of left and right structures are merged. Structures of more than 500 voxels (both
sides together) are classes, the few smaller ones are never scored. The score is the mean Dice over all structures on
the scan's own grid of 1 mm, though the network looks at 1.5 mm. Beside it stands what the right half's labels, laid
over the left half, would score: a head is nearly symmetric, so that is no weak baseline.

`system=nnunet_plain_3d` (or `unet3d_wolny`, `attention_unet_3d`) trains another network by the same rules, at the
widths that `train` chooses for this machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from sightline.datasets.read import read_labels_of
from sightline.datasets.records import DataSet
from sightline.errors import SightlineError
from sightline.files import write_text
from sightline.media.volume import read_volume, write_volume
from sightline.recipes.recipe import Recipe, main

LEFT_TO_RIGHT = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60, 30: 62,
    31: 63,
}  # fmt: skip
"""FreeSurfer's numbers of the structures that stand on both sides."""

NAMES = {
    2: "white matter", 3: "cortex", 4: "lateral ventricle", 5: "inferior lateral ventricle",
    7: "cerebellum white matter",
    8: "cerebellum cortex", 10: "thalamus", 11: "caudate", 12: "putamen", 13: "pallidum", 14: "third ventricle",
    15: "fourth ventricle", 16: "brain stem", 17: "hippocampus", 18: "amygdala", 24: "csf", 26: "accumbens",
    28: "ventral diencephalon", 31: "choroid plexus", 77: "white matter hypointensities", 251: "callosum posterior",
    252: "callosum mid posterior", 253: "callosum central", 254: "callosum mid anterior", 255: "callosum anterior",
}  # fmt: skip


def hemispheres(scan: Path, out: Path, *, least: int = 500) -> Path:
    """Write `out` with the right half to train on and the mirrored left half to score, where it is not there yet."""
    if (out / "classes.txt").is_file():
        return out
    image, labels = read_volume(scan).array[..., 0], read_volume(scan, labels=True).array[..., 0].astype(np.int32)
    for left, right in LEFT_TO_RIGHT.items():
        labels[labels == right] = left
    values, counts = np.unique(labels, return_counts=True)
    kept = [int(v) for v, n in zip(values, counts) if v and n > least]
    ids = np.full(int(values.max()) + 1, 255, np.uint8)
    ids[[0, *kept]] = range(len(kept) + 1)
    half = len(image) // 2
    halves = {"train": (image[:half], labels[:half]), "val": (image[-half:][::-1], labels[-half:][::-1])}
    for split, (voxels, truth) in halves.items():
        side = "right" if split == "train" else "left-mirrored"
        write_volume(out / "images" / split / f"{side}.npz", np.ascontiguousarray(voxels))
        write_volume(out / "labels" / split / f"{side}.npz", np.ascontiguousarray(ids[truth]))
    write_text(out / "classes.txt", "\n".join(["outside", *(NAMES.get(v, str(v)) for v in kept)]) + "\n")
    return out


def mirrored(data: DataSet) -> tuple[str, float]:
    """Mean Dice over the structures when the scored half is answered with the labels of the other one."""
    answer, truth = (read_labels_of(data.split(s).records[0], len(data.classes)) for s in ("train", "val"))
    known = truth != 255
    found = []
    for k in range(1, len(data.classes)):
        a, b = (answer == k) & known, truth == k
        found.append(2 * (a & b).sum() / max(1, a.sum() + b.sum()))
    return "mean Dice of the other half's labels", fmean(float(v) for v in found)


RECIPE = Recipe(
    name="hemispheres_unet3d",
    model="unet3d",
    score="dataset_dice",
    expected=0.6,
    baseline=mirrored,
    options={
        "seed": 0,
        "intensity": "zscore",
        "resize": "spacing(1.5, 1.5, 1.5)",
        "size": [48, 64, 64],
        "batch": 1,
        "steps": 2000,
        "lr": 3e-3,
        "loss": "ce+dice",
        "augment": "light",
        "augment_values": {"colour": 0.1, "elastic": 1.5, "foreground": 0.67},
        "model_values": {"width": 8},
        "train_values": {"validate_every": 500},
    },
)


def recipe_for(system: str) -> Recipe:
    """The recipe with another network, whose values are left to `train`."""
    if system == RECIPE.model:
        return RECIPE
    options = {name: value for name, value in RECIPE.options.items() if name != "model_values"}
    return replace(RECIPE, name=f"hemispheres_{system}", model=system, options=options)


def structures(evaluation: Path) -> float:
    """The mean Dice over every class of an `evaluation.json` but what lies outside."""
    rows = json.loads(evaluation.read_text())["per_class"]
    return fmean(row["dice"] or 0.0 for name, row in rows.items() if name != "outside")


def run(arguments: Sequence[str] | None = None) -> int:
    """The command: SCAN's folder (or file), then OPTION=VALUE of `train`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    recipe = recipe_for(next((w.partition("=")[2] for w in words if w.startswith("system=")), RECIPE.model))
    words = [word for word in words if not word.startswith("system=")]
    options = {name: value for name, _, value in (word.partition("=") for word in words[1:])}
    folder = Path(options.get("run") or Path("runs") / recipe.name)
    scan = Path(words[0]) if words and "=" not in words[0] else None
    try:
        if scan is not None:
            file = scan / "test_scan.npz" if scan.is_dir() else scan
            words[0] = str(hemispheres(file, folder.with_name(f"hemispheres-{scan.stem}")))
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    code = main(recipe, words)
    if code == 0 and scan is not None:
        score = structures(folder / "evaluation.json")
        result = json.loads((folder / "RESULT.json").read_text())
        other = "" if recipe is RECIPE else f" system={recipe.model}"
        result |= {
            "what": f"mean Dice over the structures of {scan.name}",
            "value": round(score, 4),
            "command": f"python -m sightline.recipes.{RECIPE.name} {scan.name}{other}",
            "data": scan.name,
            "split": "learned on the right hemisphere, scored on the left",
        }
        write_text(folder / "RESULT.json", json.dumps(result, indent=1) + "\n")
        print(f"mean Dice over the structures: {score:.4f} (the other half's labels: {result['baseline_value']:.4f})")
    return code


if __name__ == "__main__":
    raise SystemExit(run())
