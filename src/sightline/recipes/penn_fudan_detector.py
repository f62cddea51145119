"""Faster R-CNN on pedestrians: four fifths of Penn-Fudan's photos to learn from, a seeded fifth to score, twice.

    python -m sightline.recipes.penn_fudan_detector penn_fudan

From random weights, one CPU core, about 40 minutes a seed: the seed decides split and weights, and the result is the
mean of two. AP at an IoU of 0.5, photos at 320 pixels of their longer side.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sightline.errors import SightlineError, UsageError
from sightline.files import write_text
from sightline.recipes.baselines import mean_boxes
from sightline.recipes.recipe import Recipe, carry_out

SEEDS = (0, 1)
RECIPE = Recipe(
    name="penn_fudan_detector",
    model="faster_rcnn",
    score="ap50",
    expected=0.4,
    baseline=mean_boxes,
    options={
        "val": "seeded(0.2)",
        "resize": "long(320)",
        "batch": 4,
        "steps": 1000,
        "lr": 1e-3,
        "augment": "light",
        "augment_values": {"scale": [0.7, 1.3], "colour": 0.3},
        "train_values": {"clip": 5.0, "validate_every": 500},
        "model_values": {
            "backbone": "resnet18",
            "channels": 96,
            "hidden": 192,
            "before": [400, 300],
            "after": [200, 150],
            "rpn_count": 96,
            "count": 96,
            "anchors": [16, 32, 64, 128, 256],
            "ratios": [1.0, 2.0, 3.0],
        },
    },
)


def both(data: str | Path, seeds: tuple[int, ...] = SEEDS, **options: object) -> dict:
    """Train and score with each seed; returns and writes the result, whose value is the mean."""
    folder = Path(str(options.pop("run", Path("runs") / RECIPE.name)))
    rows = [carry_out(RECIPE, data, {**options, "seed": s, "run": folder / f"seed-{s}"}) for s in seeds]
    values = [row["value"] for row in rows]
    result = rows[0] | {
        "value": round(sum(values) / len(values), 4),
        "values": values,
        "seed": list(seeds),
        "baseline_value": round(sum(row["baseline_value"] for row in rows) / len(rows), 4),
        "seconds": sum(row["seconds"] for row in rows),
    }
    write_text(folder / "RESULT.json", json.dumps(result, indent=1) + "\n")
    print(f"{RECIPE.model}: mean {RECIPE.score} {result['value']:.4f} of seeds {', '.join(map(str, seeds))}")
    return result


def main() -> int:
    """The command line: DATA."""
    try:
        if len(sys.argv) != 2:
            raise UsageError(f"which data? python -m sightline.recipes.{RECIPE.name} DATA")
        both(sys.argv[1])
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
