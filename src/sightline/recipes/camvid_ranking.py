"""Six systems on street scenes (CamVid) at equal time: FCN-8s, SegNet, U-Net, PSPNet, DeepLabv3+, TransUNet.

    python -m sightline.recipes.camvid_ranking camvid                   20 minutes each, seeds 0 and 1: four hours
    python -m sightline.recipes.camvid_ranking camvid minutes=2 seeds=0

Each gets the same minutes on this machine, the same crops, augmentation, optimiser and loss, from random weights, at
small widths (`SYSTEMS`). How many steps fit is measured first, on ten steps that are thrown away; then the number is
fixed. `dataset_miou` over 11 classes on val at 360 x 480. Runs and `results.json` stand in `runs/camvid_ranking`; the
same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError
from sightline.files import write_text
from sightline.recipes.baselines import location_prior
from sightline.recipes.every_segmenter import OPTIONS
from sightline.recipes.recipe import Recipe, carry_out
from sightline.verbs.train import train

FOLDER = Path("runs") / "camvid_ranking"
SYSTEMS: dict[str, dict[str, Any]] = {
    "fcn8s": {"widths": [16, 32, 64, 96, 96], "hidden": 256},
    "segnet": {"width": 16},
    "unet": {"width": 16},
    "pspnet": {"backbone": "resnet18", "channels": 128},
    "deeplabv3plus": {"backbone": "resnet18", "channels": 64},
    "transunet": {"backbone": "resnet18", "channels": 128, "layers": 4, "heads": 4, "decoder": [64, 48, 32, 16, 16]},
}
"""Builder values: the published forms do not fit a laptop's twenty minutes."""


def options_for(name: str, seed: int, steps: int) -> dict[str, Any]:
    """The options of `train`: the same for all but the builder's values."""
    return {
        **OPTIONS,
        "seed": seed,
        "steps": steps,
        "model_values": SYSTEMS[name],
        "train_values": {"validate_every": steps, "log_every": 10},
    }


def steps_in(minutes: float, name: str, data: str | Path) -> int:
    """Steps that fit into `minutes`, from the time between the third and the tenth."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = options_for(name, 0, 10) | {"train_values": {"log_every": 1}}
        run = train(name, data, run=Path(folder) / "run", **options)
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    times = {row["step"]: row["time"] for row in rows if row["kind"] == "train"}
    return max(1, round(60 * minutes / ((times[10] - times[3]) / 7)))


def rank(data: str | Path, *, minutes: float = 20, seeds: Sequence[int] = (0, 1)) -> list[dict[str, Any]]:
    """Train and score what is missing; returns and writes every system's scores, the best mean first."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
    for seed in seeds:
        for name in SYSTEMS:
            folder = FOLDER / f"{name}-{seed}"
            if (folder / "RESULT.json").is_file():
                found[name].append(json.loads((folder / "RESULT.json").read_text()))
                continue
            resumed = (folder / "config.json").is_file()
            steps = 0 if resumed else steps_in(minutes, name, data)
            print(
                f"{name}, seed {seed}: {'resumed' if resumed else f'{steps} steps in {minutes:g} minutes'}", flush=True
            )
            recipe = Recipe(
                "camvid_ranking", name, "dataset_miou", 0.3, options_for(name, seed, steps), baseline=location_prior
            )
            found[name].append(carry_out(recipe, data, {"run": folder}))
    rows = [
        {
            **results[0],
            "what": f"dataset_miou after {minutes:g} minutes on {Path(data).name}",
            "value": round(statistics.mean(row["value"] for row in results), 4),
            "seed": ", ".join(str(seed) for seed in seeds),
            "values": [row["value"] for row in results],
            "seconds": round(statistics.mean(row["seconds"] for row in results)),
        }
        for results in found.values()
    ]
    rows.sort(key=lambda row: -row["value"])
    write_text(FOLDER / "results.json", json.dumps(rows, indent=1) + "\n")
    return rows


def main() -> int:
    """The command line: DATA, minutes=, seeds=."""
    words = sys.argv[1:]
    try:
        if not words or "=" in words[0]:
            raise UsageError("which data? python -m sightline.recipes.camvid_ranking DATA [minutes=20] [seeds=0,1]")
        given = {name: value for name, _, value in (word.partition("=") for word in words[1:])}
        if unknown := set(given) - {"minutes", "seeds"}:
            raise UsageError(f"'{sorted(unknown)[0]}' is no option; write minutes=20 or seeds=0,1")
        try:
            minutes, seeds = (
                float(given.get("minutes", 20)),
                [int(seed) for seed in given.get("seeds", "0,1").split(",")],
            )
        except ValueError:
            raise UsageError("minutes is a number and seeds are whole numbers: minutes=20 seeds=0,1") from None
        for row in rank(words[0], minutes=minutes, seeds=seeds):
            print(f"{row['system']:16} {row['value']:.4f}  ({', '.join(f'{v:.4f}' for v in row['values'])})")
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
