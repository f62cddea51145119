"""Made the run folder `v1` and its pictures, once, with the first released layout of runs (format 1).

    python tests/runs/make_v1.py FOLDER

`tests/runs/v1` must open for ever: do not write over it when the layout changes. A new layout gets a folder of its own,
and the code learns to read both.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import torch

from sightline.datasets.moving import write_pictures
from sightline.verbs.evaluate import evaluate
from sightline.verbs.predict import predict
from sightline.verbs.train import train

OPTIONS = {
    "size": 32,
    "batch": 8,
    "steps": 400,
    "lr": 1e-2,
    "augment": "light",
    "device": "cpu",
    "model_values": {"width": 3, "depth": 3},
    "train_values": {"validate_every": 100, "save_every": 200, "log_every": 50, "ema": 0.0},
}


def main(folder: Path) -> None:
    """Write `FOLDER/v1`, `FOLDER/pictures` (the two pictures that are scored) and `FOLDER/expected.json`."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_pictures("made-up", train=24, val=2, size=(40, 48), shapes=3)
    train("unet", "made-up", run="v1", **OPTIONS)
    for what in ("images", "masks"):
        shutil.copytree(Path("made-up", what, "val"), Path("pictures", what))
    shutil.copy(Path("made-up", "classes.txt"), "pictures")
    shutil.rmtree("made-up")
    Path("v1/report.html").unlink()  # it is made again from the other files
    for path in ("v1/state/lock", *(str(p) for p in sorted(Path("v1/state").glob("step-*"))[:-1])):
        Path(path).unlink()  # one checkpoint is enough to resume from
    config = json.loads(Path("v1/config.json").read_text())
    config["machine"], config["command"] = {}, ""  # of nobody's interest
    Path("v1/config.json").write_text(json.dumps(config, indent=1))
    expected = {}
    for state in ("best", "last"):
        found = evaluate(f"v1/{state}", "pictures", split="all")
        pixels = {a.name: a.pixels for a in predict(f"v1/{state}", "pictures/images")}
        expected[state] = {"metrics": found.metrics, "confusion": found.confusion, "pixels": pixels}
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
