"""A run folder without training: every file of a real one, numbers from a formula; used by the tests of the pages.

`python tests/verbs/make_run.py FOLDER` writes one to look at.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CAMVID = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)


def make_run(
    folder: Path,
    *,
    classes: Sequence[str] = CAMVID,
    steps: int = 1500,
    quality: float = 0.55,
    seed: int = 0,
    data: str = "data/camvid",
    scored: bool = True,
    samples: int = 3,
) -> Path:
    """Write a run folder that looks like one of `train`: `quality` is about the score it ends with."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    per_class = {
        name: _class(min(0.97, max(0.05, quality + 0.4 * math.sin(k * 2.1)))) for k, name in enumerate(classes)
    }
    (folder / "config.json").write_text(json.dumps(_config(classes, steps, seed, data)), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("\n".join(_history(steps, quality, per_class, rng)) + "\n", encoding="utf-8")
    (folder / "next.txt").write_text(
        f"sightline evaluate {folder.name} {data}\nsightline predict {folder.name} PICTURES out=answers\n"
    )
    keys = [f"val/0016E5_{7959 + 30 * k:05d}" for k in range(samples)]
    if scored:
        (folder / "evaluation.json").write_text(
            json.dumps(_evaluation(classes, per_class, keys, data, quality)), encoding="utf-8"
        )
        for k in range(samples):
            _sample(folder / "samples" / f"worst-{k + 1}.jpg", rng)
    return folder


def _class(iou: float) -> dict[str, float]:
    dice = 2 * iou / (1 + iou)
    return {
        "iou": iou,
        "dice": dice,
        "accuracy": dice * 0.96,
        "precision": min(1.0, dice * 1.04),
        "pixels": int(1e7 * iou**3),
    }


def _config(classes: Sequence[str], steps: int, seed: int, data: str) -> dict[str, Any]:
    reasons = {
        "intensity": ("dtype_max", "8-bit pictures: values are divided by 255"),
        "size": ([256, 256], "crops of pictures of about 360 x 480, a size for this cpu"),
        "augment": ("medium", "scale, mirror, small rotation and colour: right for most pictures"),
        "batch": (8, "8 crops a step suit batch norm and the memory of this cpu"),
        "steps": (steps, f"{steps * 8 / 367:.0f} passes over 367 pictures"),
        "lr": (0.001, "AdamW; a short warm-up, then down to 0 along a cosine"),
        "loss": ("ce+dice", "the most frequent class has 52 times the pixels of the rarest: Dice counts classes"),
        "class_weights": ([0.4123 + 0.31 * k for k in range(len(classes))], "square roots of median-frequency weights"),
        "model.width": (16, "a quarter of the published width: minutes on a CPU instead of hours"),
    }
    return {
        "format": 1,
        "task": "segmentation",
        "model": "unet",
        "data": data,
        "arguments": {"num_classes": len(classes), "width": 16, "mean": [0.39, 0.404, 0.413]},
        "choices": {k: {"value": value, "reason": reason} for k, (value, reason) in reasons.items()},
        "preprocess": {"intensity": "dtype_max", "channels": 3, "resize": "none", "multiple": 16},
        "classes": list(classes),
        "colours": [],
        "training": {"monitor": "dataset_miou", "steps": steps, "schedule": "cosine"},
        "seed": seed,
        "command": f"sightline train unet {data} seed={seed}",
        "versions": {"sightline": "0.1.0", "torch": "2.15.0"},
        "machine": {"system": "Linux", "cores": 2, "python": "3.11.7"},
        "notes": ["format camvid: its pictures have CamVid's sequence names", "splits as given: train 367, val 101"],
    }


def _history(steps: int, quality: float, per_class: dict[str, Any], rng: np.random.Generator) -> list[str]:
    lines = []
    for step in range(10, steps + 1, 10):
        loss = 0.6 + 2.2 * math.exp(-step / 300) + 0.12 * float(rng.normal())
        record = {"kind": "train", "step": step, "steps": steps, "epoch": step * 8 / 367, "time": step * 0.72}
        record |= {"lr": 0.0005 * (1 + math.cos(math.pi * step / steps)) * min(1, step / 100), "loss": loss}
        record |= {"terms": {"ce": loss * 0.6, "dice": loss * 0.4}, "images_per_second": 11 + float(rng.normal()) / 3}
        lines.append(json.dumps(record | {"skipped": 0}))
        if step % (steps // 5) == 0:
            miou = quality * (1 - math.exp(-2.5 * step / steps)) / (1 - math.exp(-2.5))
            lines.append(
                json.dumps(
                    {
                        "kind": "val",
                        "step": step,
                        "time": step * 0.72,
                        "metrics": {"pixel_accuracy": 0.9, "dataset_miou": miou},
                        "per_class": per_class,
                    }
                )
            )
    lines.insert(
        7, json.dumps({"kind": "note", "step": 70, "text": "out of memory: batch 8 -> 4, accumulation 1 -> 2"})
    )
    return lines


def _evaluation(
    classes: Sequence[str], per_class: dict[str, Any], keys: list[str], data: str, quality: float
) -> dict[str, Any]:
    size = len(classes)
    recall = [per_class[name]["accuracy"] for name in classes]

    def pixels(i: int, j: int) -> int:
        wrong = (1 - recall[i]) * 2 * ((j * 7 + i) % size) / (size * (size - 1))
        return int(1e6 * (recall[i] if i == j else wrong))

    confusion = [[pixels(i, j) for j in range(size)] for i in range(size)]
    metrics = {
        "pixel_accuracy": 0.873,
        "class_accuracy": 0.61,
        "dataset_miou": quality,
        "dataset_miou_absent_zero": quality,
        "frequency_weighted_iou": 0.79,
        "dataset_dice": 0.66,
        "image_miou": None,
    }
    return {
        "task": "segmentation", "model": "unet", "data": data, "split": "val", "images": 101, "metrics": metrics,
        "per_class": per_class, "confusion": confusion, "worst": keys,
        "skipped": {"val/broken.png": "val/broken.png is cut off after 1,204 bytes; copy it again"},
        "notes": ["mask value 11 (unlabelled) is never scored"],
    }  # fmt: skip


def _sample(path: Path, rng: np.random.Generator, size: tuple[int, int] = (180, 240)) -> None:
    """Picture, truth and answer side by side, six white pixels apart: shapes on a gradient."""
    from PIL import Image

    height, width = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([90 + y / 3, 120 + x / 4, 160 - y / 3], -1) + rng.normal(0, 6, (height, width, 3))
    truth, answer = picture.copy(), picture.copy()
    for colour in ((200, 80, 60), (60, 130, 200), (230, 190, 60)):
        cy, cx, r = rng.integers(30, height - 30), rng.integers(30, width - 30), rng.integers(15, 40)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        near = (y - cy - 4) ** 2 + (x - cx + 6) ** 2 < (r * 0.85) ** 2
        picture[inside] = picture[inside] * 0.7 + 40
        truth[inside], answer[near] = colour, colour
    white = np.full((height, 6, 3), 255.0)
    path.parent.mkdir(exist_ok=True)
    row = np.concatenate([picture, white, truth, white, answer], 1).clip(0, 255).astype(np.uint8)
    Image.fromarray(row).save(path, quality=90)


if __name__ == "__main__":
    print(make_run(Path(sys.argv[1])))
