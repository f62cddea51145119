"""What somebody looked at, from a slice of fMRI (Haxby et al. 2001): a linear probe on averages of blocks.

    python -m sightline.recipes.haxby_probe volumes/haxby2001_slice

DATA: bold.nii.gz, attributes_literal.txt (label and run of each volume) and, if it is there, mask.nii.gz. Seconds.
Runs 0 to 7; in each run a category is shown for one block. Volumes are z-scored voxel by voxel within their run, those
of a block averaged, and a ridge learns on seven runs and answers for the eighth; the score is the mean over the runs.
Chance is 1 in 8.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from sightline.datasets.open import open_dataset
from sightline.errors import SightlineError, UsageError
from sightline.files import write_text
from sightline.media.volume import read_volume

RUNS = 8
WEIGHT = 0.01
"""The ridge's penalty, a sample and voxel."""


def blocks(root: Path, runs: int = RUNS) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Means of the blocks `(N, voxels)`, their classes and runs, and the classes' names."""
    data = open_dataset(root, kind="clips", format="fmri_runs", val=0)
    path = data.records[0].image.path
    bold = read_volume(path).array
    mask = (
        read_volume(root / "mask.nii.gz").array[..., 0] > 0 if (root / "mask.nii.gz").is_file() else bold[..., 0] != 0
    )
    series = bold[mask].T.astype(np.float64)  # (volumes, voxels)
    means, labels, where = [], [], []
    for run in range(runs):
        records = [r for r in data.records if r.group == f"run {run}"]
        if not records:
            raise SightlineError(f"{path} has no run {run}; expected the runs 0 to {runs - 1}")
        steps = np.array([r.image.page for r in records])
        part = series[steps]
        scaled = (part - part.mean(0)) / (part.std(0) + 1e-9)
        for label in sorted({r.labels for r in records if r.labels is not None}):
            means.append(scaled[[r.labels == label for r in records]].mean(0))
            labels.append(label)
            where.append(run)
    return np.stack(means), np.array(labels), np.array(where), data.classes


def leave_one_run_out(x: np.ndarray, labels: np.ndarray, runs: np.ndarray, weight: float = WEIGHT) -> float:
    """Mean accuracy over the runs of a ridge on one-hot classes that never saw the run."""
    scores = []
    for run in np.unique(runs):
        learn, test = runs != run, runs == run
        mean = x[learn].mean(0)
        a, y = x[learn] - mean, np.eye(int(labels.max()) + 1)[labels[learn]]
        kernel = a @ a.T + weight * x.shape[1] * np.eye(len(a))  # the dual form: fewer blocks than voxels
        said = ((x[test] - mean) @ a.T @ np.linalg.solve(kernel, y - y.mean(0))).argmax(1)
        scores.append(float((said == labels[test]).mean()))
    return float(np.mean(scores))


def main(arguments: Sequence[str] | None = None) -> int:
    """DATA."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(words) != 1:
            raise UsageError("which data? python -m sightline.recipes.haxby_probe DATA")
        root = Path(words[0])
        x, labels, runs, classes = blocks(root)
        score = leave_one_run_out(x, labels, runs)
        result = {
            "system": "linear_probe",
            "what": f"accuracy on {root.name}",
            "value": round(score, 4),
            "command": f"python -m sightline.recipes.haxby_probe {root.name}",
            "data": root.name,
            "split": f"one of {RUNS} runs left out, {len(labels)} blocks of {len(classes)} categories",
            "date": date.today().isoformat(),
        }
        write_text(Path("runs") / "haxby_probe" / "RESULT.json", json.dumps(result, indent=1) + "\n")
        print(f"accuracy {score:.4f} over {len(labels)} blocks, chance {1 / len(classes):.4f}")
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
