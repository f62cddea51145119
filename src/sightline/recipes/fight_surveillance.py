"""Fight or no fight in surveillance clips: five folds over the 200 clips, none with a source in two folds.

    python -m sightline.recipes.fight_surveillance fight_surveillance

From random weights, 1 CPU core, an hour and a quarter; a command that was stopped goes on. Three networks, which
differ in their seeds alone, learn each fold, and the mean of their probabilities answers: 160 clips are few, and one
network's score moves by several clips with its seed. Size, length and rate of a file tell its class (the two classes
come from different places), so every clip becomes the same: 24 frames, 15 a second, from the middle of the video,
their middle 4:3 at 72 x 96 pixels. Shown is how it moves: red is the grey frame, scaled to its own contrast, green
the change to the next frame, blue the size of that change.

Beside the mean accuracy over the folds stand, on the same folds, a ridge on motion energy (mean and deviation over time
of the change of grey in 4 x 4 cells) and one on the file's size, rate, length and bytes alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from sightline.datasets.class_files import read_rows
from sightline.errors import SightlineError, UsageError
from sightline.files import write_text
from sightline.media.clips import read_frames, video_info
from sightline.media.image import write_image
from sightline.recipes.recipe import Recipe, carry_out
from sightline.verbs.config import nested_value
from sightline.verbs.load import load
from sightline.verbs.predict import predict

FOLDER = Path("runs") / "fight_surveillance"
FOLDS, SEEDS = 5, (0, 1, 2)
FRAMES, RATE, SIZE = 24, 15.0, (72, 96)

OPTIONS = {
    "seed": 0,
    "clip": "segments(12)",
    "resize": "exact(72, 96)",
    "size": [64, 80],
    "batch": 16,
    "steps": 600,
    "lr": 2e-3,
    "augment": "strong",
    # no colour: brighter motion would be stronger motion, and its strength is the best single clue
    "augment_values": {"scale": [0.6, 1.0], "colour": 0.0, "mixup": 0.2},
    "model_values": {"width": 16, "depths": [1, 1, 1, 1], "fold": 4, "dropout": 0.5},
    "train_values": {"validate_every": 600, "weight_decay": 0.05, "ema": 0.99},
}
JUDGE: dict[str, Any] = {"views": 2, "crops": 10}


@dataclass(frozen=True)
class Clips:
    """All clips in memory: frames `(N, T, H, W, 3)` uint8, class 1 = fight, source, and what the files tell."""

    frames: np.ndarray
    labels: np.ndarray
    sources: list[str]
    metadata: np.ndarray
    names: list[str]


def read_clips(root: Path) -> Clips:
    """The clips of the train split of `root/index.csv`, all of one size, length and rate."""
    rows = read_rows(root / "index.csv")
    head = rows[0]
    table = [dict(zip(head, row)) for row in rows[1:]]
    kept = [row for row in table if row.get("split") == "train"]
    if not kept or not {"id", "class", "source_url_group", "width", "height", "fps", "frames", "bytes"} <= set(head):
        raise SightlineError(f"{root / 'index.csv'} has no train clips with source_url_group; name the data's folder")
    frames = np.stack([fixed(root / row["class"] / f"{row['id']}.mp4") for row in kept])
    told = [[float(row[k]) for k in ("width", "height", "fps", "frames", "bytes")] for row in kept]
    return Clips(
        frames,
        np.array([row["class"] == "fight" for row in kept], int),
        [row["source_url_group"] for row in kept],
        np.array(told),
        [row["id"] for row in kept],
    )


def fixed(path: Path) -> np.ndarray:
    """`FRAMES` frames at `RATE` around the middle of a video, their middle 4:3 at `SIZE`."""
    info = video_info(path)
    times = np.array(info.times)
    wanted = (times[0] + times[-1]) / 2 + (np.arange(FRAMES) - (FRAMES - 1) / 2) / RATE
    chosen = [int(np.abs(times - t).argmin()) for t in wanted]
    factor = max(SIZE[0] / info.size[0], SIZE[1] / info.size[1])
    height, width = (max(s, round(n * factor)) for s, n in zip(SIZE, info.size))
    top, left = (height - SIZE[0]) // 2, (width - SIZE[1]) // 2
    frames = read_frames(path, chosen, size=(height, width), info=info)
    return frames[:, top : top + SIZE[0], left : left + SIZE[1]]


def folds(sources: Sequence[str], labels: np.ndarray, count: int = FOLDS) -> np.ndarray:
    """The fold of each clip: whole sources, the largest first, where they keep size and classes most even."""
    names = sorted(set(sources))
    counts = {n: np.array([sum(s == n and y == k for s, y in zip(sources, labels)) for k in (0, 1)]) for n in names}
    total, place = np.zeros((count, 2)), {}
    for name in sorted(names, key=lambda n: (-int(counts[n].sum()), n)):
        cost = [((total + np.eye(count)[k][:, None] * counts[name]) ** 2).sum() for k in range(count)]
        place[name] = int(np.argmin(cost))
        total[place[name]] += counts[name]
    return np.array([place[s] for s in sources])


def motion(frames: np.ndarray) -> np.ndarray:
    """Frames `(T, H, W, 3)` as pictures of motion, uint8 `(T - 1, H, W, 3)`."""
    grey = frames.astype(np.float32).mean(-1)
    spread = max(float(grey.std()), 8.0)
    change = grey[1:] - grey[:-1]
    planes = [128 + 40 * (grey[:-1] - grey.mean()) / spread, 128 + 2 * change, 6 * np.abs(change)]
    return np.stack(planes, -1).round().clip(0, 255).astype(np.uint8)


def energy(frames: np.ndarray, cells: int = 4) -> np.ndarray:
    """Mean and deviation over time of the size of change in each cell of a grid, `(2 cells cells,)`."""
    change = np.abs(np.diff(frames.astype(np.float32).mean(-1), axis=0))
    rows = np.array_split(np.arange(change.shape[1]), cells)
    columns = np.array_split(np.arange(change.shape[2]), cells)
    found = np.stack([change[:, r][:, :, c].mean((1, 2)) for r in rows for c in columns], 1)
    return np.concatenate([found.mean(0), found.std(0)])


def ridge(features: np.ndarray, labels: np.ndarray, fold: np.ndarray, *, weight: float = 0.1) -> float:
    """Mean accuracy over the folds of a ridge on standardised features; weight: of the penalty, a sample."""
    scores = []
    for k in range(int(fold.max()) + 1):
        learn, test = fold != k, fold == k
        mean, std = features[learn].mean(0), features[learn].std(0) + 1e-9
        a, b, y = (features[learn] - mean) / std, (features[test] - mean) / std, 2.0 * labels[learn] - 1
        w = np.linalg.solve(a.T @ a + weight * len(a) * np.eye(a.shape[1]), a.T @ (y - y.mean()))
        scores.append(float(((b @ w + y.mean() > 0) == (labels[test] > 0)).mean()))
    return fmean(scores)


def write_fold(clips: Clips, fold: np.ndarray, k: int) -> Path:
    """`FOLDER/fold-K/{train,val}/CLASS/NAME/00000.png ...`, where it is not there yet."""
    out = FOLDER / f"fold-{k}"
    if (out / "done").is_file():
        return out
    shutil.rmtree(out, ignore_errors=True)
    for frames, label, name, place in zip(clips.frames, clips.labels, clips.names, fold):
        home = out / ("val" if place == k else "train") / ("fight" if label else "noFight") / name
        home.mkdir(parents=True)
        for t, picture in enumerate(motion(frames)):
            write_image(home / f"{t:05d}.png", picture)
    (out / "done").write_text("made\n")
    return out


def recipe_of(seed: int) -> Recipe:
    """The experiment of one network of one fold."""
    options = OPTIONS | {"seed": seed}
    return Recipe(name="fight_surveillance", model="tsm", score="accuracy", expected=0.7, options=options, judge=JUDGE)


def together(runs: Sequence[Path], videos: Path) -> float:
    """Accuracy of the mean of the runs' probabilities over `videos/CLASS/NAME`."""
    total: dict[tuple[str, str], Any] = {}
    for run in runs:
        model = load(run)
        for home in sorted(path for path in videos.iterdir() if path.is_dir()):
            for found in predict(model, home, device="cpu", **JUDGE):
                key = home.name, found.name
                total[key] = total.get(key, 0) + found.probabilities
    classes = model[1].classes
    return fmean(classes[int(sums.argmax())] == truth for (truth, _), sums in total.items())


def carry_out_all(root: Path, options: dict) -> dict:
    """All networks of all folds, the two ridges, and the row for docs/systems.md."""
    clips = read_clips(root)
    fold = folds(clips.sources, clips.labels)
    by_energy = ridge(np.stack([energy(f) for f in clips.frames]), clips.labels, fold)
    by_metadata = ridge(clips.metadata, clips.labels, fold)
    print(f"motion-energy ridge {by_energy:.4f}, metadata alone {by_metadata:.4f}", flush=True)
    rows, scores = [], []
    for k in range(FOLDS):
        data = write_fold(clips, fold, k)
        runs = [FOLDER / f"run-{k}-{seed}" for seed in SEEDS]
        for seed, run in zip(SEEDS, runs):
            if not (run / "RESULT.json").is_file():
                carry_out(recipe_of(seed), data, {**options, "run": run})
            rows.append(json.loads((run / "RESULT.json").read_text()))
        scores.append(round(together(runs, data / "val"), 4))
        print(f"fold {k}: {scores[-1]:.4f}", flush=True)
    result = {
        **rows[0],
        "what": f"mean accuracy of {FOLDS} folds on {root.name}, {len(SEEDS)} networks a fold",
        "value": round(fmean(scores), 4),
        "folds": scores,
        "one_network": round(fmean(row["value"] for row in rows), 4),
        "command": f"python -m sightline.recipes.fight_surveillance {root.name}",
        "seed": ", ".join(map(str, SEEDS)),
        "data": root.name,
        "split": f"{FOLDS} folds of {len(clips.labels)} clips, sources apart",
        "seconds": sum(row["seconds"] for row in rows),
        "baseline": f"motion-energy ridge (metadata alone: {by_metadata:.4f})",
        "baseline_value": round(by_energy, 4),
    }
    write_text(FOLDER / "RESULT.json", json.dumps(result, indent=1) + "\n")
    print(f"mean accuracy {result['value']:.4f}, ridge {by_energy:.4f}, metadata {by_metadata:.4f}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """DATA, then OPTION=VALUE of `train`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or "=" in words[0]:
            raise UsageError("which data? python -m sightline.recipes.fight_surveillance DATA [OPTION=VALUE ...]")
        pairs = [word.partition("=") for word in words[1:]]
        carry_out_all(Path(words[0]), {name: nested_value(value) for name, _, value in pairs})
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
