"""Every system of clips learns a handful of real videos by heart: nothing on the way from file to loss is broken.

    python -m sightline.recipes.ucf101_by_heart ucf101_mini              all that have no result yet
    python -m sightline.recipes.ucf101_by_heart ucf101_mini tsm c3d      these

DATA: a folder of videos for each class. Small widths, frames of 48 x 64 (of 80 x 96 where an AlexNet needs them), from
random weights, about a minute each on 1 CPU core; `accuracy` on the very clips that were learned, which says nothing
about others. Networks of flow are shown red and green in place of x and y. Left out: the fMRI networks, which read
volumes, `two_stream`, which reads flow besides, and `youtube8m_logistic`, which reads features. Runs stand in
`runs/ucf101_by_heart/NAME`; a command that was stopped goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.action.catalog import MODELS
from sightline.action.sampling import parse_rule
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.recipes.recipe import Recipe, Stopped, carry_out

FOLDER = Path("runs") / "ucf101_by_heart"
TOLD = FOLDER / "results.json"
LEFT_OUT = ("fmri_3dcnn", "fmri_3dcnn_strided", "two_stream", "youtube8m_logistic")
ALEXNETS = {"widths": [16, 24, 32, 32, 32], "hidden": 64, "dropout": 0.1}
SLOWER = {"two_stream_spatial": 400, "two_stream_temporal": 400, "lrcn_caffe": 500, "s3d_tv": 300}
"""Steps of systems that need more than the others."""
FOLLOWING = {"momentum": 0.1}
"""The published statistics of these batch norms follow so slowly that they need thousands of steps."""
OTHERS: dict[str, dict[str, Any]] = {
    "i3d_rgb": FOLLOWING,
    "i3d_flow": FOLLOWING,
    "s3d_tv": FOLLOWING,
    "s3d_g": FOLLOWING,
    "two_stream_spatial": {"hidden": [64, 48]},
    "two_stream_temporal": {"hidden": [64, 48]},
    "lrcn_caffe": {"hidden": 48, "fc6": 64, "dropout": [0.1, 0.1]},
}


def values_of(name: str) -> dict[str, Any]:
    """Small builder values of an entry."""
    tiny = {k: list(v) if isinstance(v, tuple) else v for k, v in MODELS[name].tiny.items()}
    if "widths" in tiny:
        tiny |= ALEXNETS
    tiny |= OTHERS.get(name, {})
    if "width" in tiny and isinstance(tiny["width"], int):
        tiny["width"] = 16
    if "patches16" in MODELS[name].traits:
        tiny["size"] = [48, 64] if isinstance(tiny["size"], list) else 64
        tiny |= {"channels": 48, "hidden": 96}
    elif "size" in tiny:
        tiny["size"] = [80, 96] if name not in ("c3d", "c3d_pad") else [48, 64]
    if name == "context_fovea":
        tiny["size"] = [128, 160]
    return tiny


def frames_of(name: str, values: Mapping[str, Any]) -> str:
    """The entry's own rule with as many frames as the small network takes, 16 at most."""
    rule = parse_rule(MODELS[name].preprocess.clip)
    count = values.get("frames", values.get("fields", min(rule.frames, 16)))
    return f"segments({count})"


def recipe(name: str) -> Recipe:
    """The experiment of one system."""
    values = values_of(name)
    size = values.get("size", [48, 64])
    side = [size, size] if isinstance(size, int) else list(size)
    return Recipe(
        name="ucf101_by_heart",
        model=name,
        score="accuracy",
        expected=0.95,
        split="train",
        judge={"views": 1},
        options={
            "seed": 0,
            "val": 0,
            "clip": frames_of(name, values),
            "resize": f"exact({side[0]}, {side[1]})",
            "size": side,
            "batch": 8,
            "steps": SLOWER.get(name, 150),
            "lr": 2e-3,
            "augment": "none",
            "model_values": values,
            "train_values": {"ema": 0.9, "clip": 1.0},
        },
    )


def read_results() -> dict[str, Mapping[str, Any]]:
    """The results there are, by system."""
    return {row["system"]: row for row in (json.loads(TOLD.read_text()) if TOLD.is_file() else [])}


def carry_out_all(data: str | Path, names: list[str]) -> list[Mapping[str, Any]]:
    """Train and score `names`, or every system without a result; one that fails is told, the others go on."""
    done, known = read_results(), [name for name in MODELS if name not in LEFT_OUT]
    for name in names or [name for name in known if name not in done]:
        print(name, flush=True)
        try:
            row = carry_out(recipe(name), data, {"run": FOLDER / name})
        except Stopped:
            raise
        except SightlineError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        done = read_results()
        done[name] = row | {"command": f"{row['command']} {name}", "split": "the clips it learned"}
        write_text(TOLD, json.dumps([done[key] for key in known if key in done], indent=1) + "\n")
    return list(done.values())


def main() -> int:
    """The command line: DATA, then names."""
    words = sys.argv[1:]
    try:
        if not words:
            raise UsageError("which data? python -m sightline.recipes.ucf101_by_heart DATA [SYSTEM ...]")
        for name in words[1:]:
            if name not in MODELS or name in LEFT_OUT:
                raise UsageError(f"'{name}' is not among the systems of this recipe.{did_you_mean(name, MODELS)}")
        carry_out_all(words[0], words[1:])
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
