"""Every system of boxes, masks and joints learns: from random weights, small widths, a few minutes each.

    python -m sightline.recipes.every_detector boxes bccd                    all without a result yet
    python -m sightline.recipes.every_detector masks dsb2018_nuclei solov2   these
    python -m sightline.recipes.every_detector joints tiny_coco

Boxes on blood cells (`ap50`, a seeded fifth of train and val), masks on nuclei (`ap50` of masks, a seeded fifth),
joints on eight photos learned by heart (`ap50` of keypoint similarity on the same photos). It shows that a system
learns, no more: widths, steps and time are far below the papers'. Beside each score stand those of boxes at the data's
mean positions and of the system before its first step. Runs stand in `runs/every_detector/NAME`, results in
`runs/every_detector/results.json`; a command that was stopped goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.recipes import keypoints_by_heart
from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, Stopped, carry_out
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.models import builder_of, catalogue, defaults_of, entry_of
from sightline.verbs.train import network, read_setup

FOLDER = Path("runs") / "every_detector"
TOLD = FOLDER / "results.json"
KINDS = ("boxes", "masks", "joints")

NARROW: dict[str, Any] = {
    "backbone": "resnet18",
    "channels": 64,
    "hidden": 128,
    "mask_channels": 32,
    "joint_channels": 64,
    "joint_depth": 3,
    "head_width": 48,
    "head_depth": 2,
    "features": 32,
    "kernels": 32,
    "rpn_count": 96,
    "propose": "dense",
}
"""What a builder that knows the value is given, unless `OWN` says otherwise."""

RESIDUAL = {"depths": [1, 1, 2, 1], "width": 24}
VGG = {"depths": [1, 1, 2, 2, 2], "width": 16}
OWN: dict[str, dict[str, Any]] = {
    "faster_rcnn_torchvision_mobilenet_v3_large_fpn": {"width": 0.5},
    "fast_rcnn_vgg16": VGG,
    "yolov1": {"size": 224, "width": 16, "local": 64},
    "yolov1_paper": {"size": 224, "width": 16, "hidden": 256},
    "yolov1_tiny": {"size": 224},
    "yolov2": {"width": 12},
    "yolov2_tiny": {"width": 12, "last": [192, 192]},
    "yolov3": {"width": 12, "depths": [1, 1, 2, 2, 1]},
    "yolov3_spp": {"width": 12, "depths": [1, 1, 2, 2, 1]},
    "yolov3_tiny": {"width": 12},
    "yolov3_mmdet": {"width": 12, "depths": [1, 1, 2, 2, 1]},
    "ssd": {"size": 256},
    "ssd300": VGG,
    "ssd512": VGG,
    "ssd300_torchvision": VGG,
    "ssd300_mmdet": VGG,
    "ssd512_mmdet": VGG,
    "ssdlite_torchvision": {"width": 0.5, "size": 256},
    "mask_rcnn_torchvision_x101_32x8d_fpn": {**RESIDUAL, "groups": 8, "width_per_group": 8},
    "solo": {"width": 48, "depth": 3},
    "decoupled_solo": {"width": 48, "depth": 3},
    "solov2": {"width": 48, "depth": 2},
    "adaptis": {"width": 12, "widest": 96, "depth": 3, "tried": 80},
    "adaptis_toy": {"width": 12, "widest": 96, "depth": 3, "tried": 80},
}
"""Builder values of single systems for a laptop."""

LEFT_OUT = {"darknet": "it is whatever its cfg file says"}

OPTIONS: dict[str, dict[str, Any]] = {
    "boxes": {
        "seed": 3,
        "val": "again(seeded(0.2))",
        "resize": "long(320)",
        "batch": 4,
        "steps": 350,
        "lr": 1e-3,
        "augment": "light",
        "augment_values": {"turn": True, "flip_vertical": True},
        "train_values": {"clip": 5.0, "validate_every": 350},
    },
    "masks": {
        "seed": 0,
        "val": "seeded(0.2)",
        "intensity": "zscore",
        "resize": "long(256)",
        "batch": 2,
        "steps": 350,
        "lr": 1e-3,
        "limit": 200,
        "augment": "light",
        "augment_values": {"turn": True, "flip_vertical": True},
        "train_values": {"clip": 5.0, "validate_every": 350},
    },
    "joints": {**keypoints_by_heart.RECIPE.options, "steps": 250},
}

WINDOWS: dict[str, Any] = {
    "size": [128, 128],
    "augment_values": {"scale": [1.8, 2.2], "turn": True, "flip_vertical": True},
}
OTHERS = {"adaptis": WINDOWS, "adaptis_toy": WINDOWS}
"""Options of single systems: AdaptIS draws a map of the whole picture for each object, so it sees windows of it."""

SIZED = (
    *("yolov1", "yolov1_paper", "yolov1_tiny", "ssd", "ssd300", "ssd512", "ssd300_torchvision", "ssd300_mmdet"),
    *("ssd512_mmdet", "ssdlite_torchvision"),
)
"""Systems that see every picture at one size, which they say themselves."""


def systems(kind: str) -> list[str]:
    """The names of all systems of boxes, masks or joints."""
    room = "detection" if kind == "boxes" else "instance"
    found = [name for name, entry in catalogue().items() if entry.task == room and entry.fit is None]
    return [
        n
        for n in found
        if n not in LEFT_OUT and (room == "detection" or n.startswith("keypoint") == (kind == "joints"))
    ]


def values_of(name: str) -> dict[str, Any]:
    """Builder values of a system: small, with batch norm where its own is frozen, for nothing here is trained yet."""
    known = defaults_of(builder_of(name))
    values = {key: value for key, value in NARROW.items() if key in known}
    if isinstance(known.get("depths"), (list, tuple)) and len(known["depths"]) == 4 and "backbone" not in known:
        values |= RESIDUAL
    if known.get("norm") == "frozen":
        values["norm"] = "batch"
    if "norm_eps" in known:
        values["norm_eps"] = 1e-5
    if "before" in known and "rpn_count" in known:
        values |= {"before": [300, 300], "after": [150, 200], "count": 96}
    if entry_of(name).task == "instance" and "most" in known and not name.startswith("keypoint"):
        values["most"] = 200
    if "anchors" in known and entry_of(name).task == "instance":
        values["anchors"] = [16, 32, 64, 128, 256] if name.startswith("keypoint") else [8, 16, 32, 64, 128]
    elif "anchors" in known and isinstance(known["anchors"][0], (int, float)):
        values["anchors"] = [16, 32, 64, 128, 256]
    return values | OWN.get(name, {})


def recipe(kind: str, name: str) -> Recipe:
    """The experiment of one system."""
    options = {key: value for key, value in OPTIONS[kind].items() if key != "resize" or name not in SIZED}
    options |= OTHERS.get(name, {})
    joints = kind == "joints"
    return Recipe(
        name="every_detector",
        model=name,
        score="ap50",
        expected=0.1,
        split="train" if joints else "val",
        baseline=None if joints else mean_boxes,
        options=options | {"model_values": values_of(name)},
        prepare=keypoints_by_heart.RECIPE.prepare if joints else None,
    )


def untrained(folder: Path, split: str, data: Path) -> float:
    """The score of a run's system before its first step."""
    setup = read_setup(folder)
    net, _ = network(setup, entry_of(setup.model))
    card = load(folder)[1]
    return evaluate((net.eval(), card), data, split=split, device="cpu").metrics["ap50"]


def read_results() -> dict[str, Mapping[str, Any]]:
    """The results there are, by system."""
    return {row["system"]: row for row in (json.loads(TOLD.read_text()) if TOLD.is_file() else [])}


def carry_out_all(kind: str, data: str | Path, names: list[str]) -> list[Mapping[str, Any]]:
    """Train and score `names`, or every system of that kind without a result; returns and writes all results."""
    results, failed = read_results(), list[str]()
    todo = names or [name for name in systems(kind) if name not in results]
    for done, name in enumerate(todo):
        print(f"{name}, {done + 1} of {len(todo)}", flush=True)
        told = recipe(kind, name)
        try:
            row = carry_out(told, data, {"run": FOLDER / name})
            begun = untrained(FOLDER / name, told.split, Path(read_setup(FOLDER / name).data))
        except Stopped:
            raise
        except SightlineError as error:
            failed.append(f"{name}: {error}")
            print(failed[-1], flush=True)
            continue
        print(f"{name} untrained: {begun:.4f}", flush=True)
        results = read_results()  # another command may have written meanwhile
        command = f"python -m sightline.recipes.every_detector {kind} {Path(data).name} {name}"
        results[name] = row | {"command": command, "untrained": round(begun, 4), "values": values_of(name)}
        write_text(TOLD, json.dumps([results[key] for key in sorted(results)], indent=1) + "\n")
    if failed:
        raise SightlineError(f"{len(failed)} of {len(todo)} failed: " + "; ".join(failed))
    return list(results.values())


def main() -> int:
    """The command line: boxes, masks or joints, DATA, then names."""
    words = sys.argv[1:]
    try:
        if len(words) < 2 or words[0] not in KINDS:
            raise UsageError("which? python -m sightline.recipes.every_detector boxes|masks|joints DATA [SYSTEM ...]")
        known = systems(words[0])
        for name in words[2:]:
            if name not in known:
                raise UsageError(f"'{name}' is not among the systems of {words[0]}.{did_you_mean(name, known)}")
        carry_out_all(words[0], words[1], words[2:])
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
