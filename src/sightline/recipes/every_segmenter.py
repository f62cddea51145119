"""Every segmentation system learns: street scenes (CamVid), from random weights, small widths, minutes each.

    python -m sightline.recipes.every_segmenter camvid              all that have no result yet
    python -m sightline.recipes.every_segmenter camvid segnet unet  these

Trained on train, scored on val: `dataset_miou` over 11 classes at 360 x 480; every network works at half that size. It
shows that a system learns, no more: widths, steps and time are far below the papers'. Runs stand in
`runs/every_segmenter/NAME`, results in `runs/every_segmenter/results.json`; a command that was stopped goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.recipes.baselines import location_prior
from sightline.recipes.recipe import Recipe, Stopped, carry_out

FOLDER = Path("runs") / "every_segmenter"
VGG = {"widths": [16, 32, 64, 96, 96], "hidden": 256}
RESNET = {"width": 16}
VIT = {"channels": 96, "layers": 2, "heads": 4, "hidden": 192, "head_channels": 64, "decoder": [64, 48, 32, 16]}
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 12},
    "unet_same": {"width": 12},
    "unet_same_bilinear": {"width": 12},
    "unet_valid": {"width": 16, "depth": 4, "in_channels": 3},
    "fcn32s": VGG,
    "fcn16s": VGG,
    "fcn8s": VGG,
    "fcn8s_atonce": VGG,
    "fcn_torchvision_r50": RESNET,
    "fcn_torchvision_r101": RESNET,
    "deeplabv3": {"backbone": "resnet18", "channels": 64},
    "deeplabv3_torchvision_r50": RESNET,
    "deeplabv3_torchvision_r101": RESNET,
    "deeplabv3_torchvision_mobilenet_v3_large": {"width": 0.5},
    "deeplabv3plus": {"backbone": "resnet18", "channels": 64},
    "deeplabv3plus_google_xception65": {"widths": [16, 24, 32, 64, 96, 128, 160, 192], "middle": 4, "channels": 64},
    "deeplabv3plus_vainf_r50": RESNET,
    "deeplabv3plus_vainf_r101": RESNET,
    "deeplabv3plus_jfzhang95_r101": RESNET,
    "deeplabv3plus_smp_r50": RESNET,
    "deeplabv3plus_smp_r101": RESNET,
    "pspnet": {"backbone": "resnet18", "channels": 64},
    "pspnet50": {"width": 16, "channels": 64},
    "pspnet101": {"width": 16, "channels": 64},
    "segnet": {"width": 16},
    "segnet_semseg": {"width": 16},
    "segnet_basic": {"width": 16},
    "bayesian_segnet": {"width": 16, "samples": 8},
    "deconvnet": {"width": 16, "window": 96, "hidden": 256, "windows": 0},
    "deconvnet_ensemble": {"width": 16, "window": 96, "hidden": 256, "windows": 0},
    "farabet": {"hidden": 256},
    "pinheiro_rcnn": {"instances": 2},
    "transunet": {"backbone": "resnet18", "channels": 128, "layers": 4, "heads": 4, "decoder": [64, 48, 32, 16, 16]},
    "transunet_r50_vit_b16": VIT | {"depths": [1, 2, 3], "width": 16, "skips": 3},
    "transunet_r50_vit_l16": VIT | {"depths": [1, 2, 3], "width": 16, "skips": 3, "layers": 4},
    "transunet_vit_b16": VIT,
    "attention_unet": {"width": 12},
    "unet_mmseg": {"width": 12},
    "unet_phseg_v5": {"width": 16, "depth": 4, "in_channels": 3},
    "nnunet_plain_2d": {"features": [12, 24, 48, 96, 128], "strides": [1, 2, 2, 2, 2], "in_channels": 3},
    "resunet": {"width": 16},
    "resunet_a": {"width": 8},
    "resunet_a_d6": {"width": 8, "in_channels": 3},
    "resunet_a_d7": {"width": 8, "in_channels": 3},
}
"""Builder values of each system for a laptop."""

OPTIONS: dict[str, Any] = {
    "seed": 0,
    "resize": "exact(180, 240)",
    "size": [160, 224],
    "batch": 4,
    "steps": 500,
    "lr": 2e-3,
    "augment": "light",
    "augment_values": {"scale": [0.75, 1.5], "colour": 0.1},
    "train_values": {"validate_every": 500},
}
OTHERS: dict[str, dict[str, Any]] = {
    # VGG without batch norm, from random weights
    "fcn32s": {"steps": 900, "train_values": {"validate_every": 900}},
    "fcn16s": {"steps": 900, "train_values": {"validate_every": 900}},
    "fcn8s": {"steps": 900, "train_values": {"validate_every": 900}},
    "fcn8s_atonce": {"steps": 900, "train_values": {"validate_every": 900}},
    # unpadded: sizes are 92 + 8 k
    "unet_valid": {"size": [188, 252]},
    "unet_phseg_v5": {"size": [188, 252]},
    # every scale and every pass of the loop looks at the full size: fewer steps, and few weights, so longer ones
    "farabet": {"steps": 400},
    "pinheiro_rcnn": {"lr": 5e-3},
    # no skip connections of features: the decoder learns what is where by itself, which takes longer
    "segnet": {"steps": 1400, "train_values": {"validate_every": 1400}},
    "segnet_semseg": {"steps": 1400, "train_values": {"validate_every": 1400}},
    "segnet_basic": {"steps": 1700, "train_values": {"validate_every": 1700}},
    "bayesian_segnet": {"steps": 1400, "train_values": {"validate_every": 1400}},
    "deconvnet": {"steps": 1300, "train_values": {"validate_every": 1300}},
    "deconvnet_ensemble": {"steps": 340, "train_values": {"validate_every": 340}},
}
"""Options of single systems that differ, each with its reason."""


def recipe(name: str) -> Recipe:
    """The experiment of one system."""
    return Recipe(
        name="every_segmenter",
        model=name,
        score="dataset_miou",
        expected=0.3,
        baseline=location_prior,
        options={**OPTIONS, **OTHERS.get(name, {}), "model_values": SMALL[name]},
    )


def read_results() -> dict[str, Mapping[str, Any]]:
    """The results there are, by system."""
    told = FOLDER / "results.json"
    return {row["system"]: row for row in (json.loads(told.read_text()) if told.is_file() else [])}


def carry_out_all(data: str | Path, names: list[str]) -> list[Mapping[str, Any]]:
    """Train and score `names`, or every system without a result; returns and writes all results there are."""
    results, failed = read_results(), list[str]()
    for done, name in enumerate(names or [name for name in SMALL if name not in results]):
        print(f"{name}, {done + 1} of {len(names) or len(SMALL)}", flush=True)
        try:
            row = carry_out(recipe(name), data, {"run": FOLDER / name})
        except Stopped:
            raise
        except SightlineError as error:
            failed.append(f"{name}: {error}")
            print(failed[-1], flush=True)
            continue
        results = read_results()  # another command may have written meanwhile
        told = {"command": f"{row['command']} {name}", "split": f"{row['split']}, learned at half size"}
        results[name] = row | told | {"values": SMALL[name]}
        write_text(
            FOLDER / "results.json", json.dumps([results[key] for key in SMALL if key in results], indent=1) + "\n"
        )
    if failed:
        raise SightlineError(f"{len(failed)} of {len(names) or len(SMALL)} failed: " + "; ".join(failed))
    return list(results.values())


def main() -> int:
    """The command line: DATA, then names."""
    words = sys.argv[1:]
    try:
        if not words:
            raise UsageError("which data? python -m sightline.recipes.every_segmenter DATA [SYSTEM ...]")
        for name in words[1:]:
            if name not in SMALL:
                raise UsageError(f"'{name}' is not among the systems of this recipe.{did_you_mean(name, SMALL)}")
        carry_out_all(words[0], words[1:])
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
