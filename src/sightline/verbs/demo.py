"""`demo`: train, score and predict on bundled pictures, with the public verbs and nothing else.

Everything here is what a user types; reading this file is a way to learn the Python face.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError, UsageError
from sightline.files import write_text

if TYPE_CHECKING:
    import numpy as np

    from sightline.datasets.records import DataSet

STEPS = 70
OPTIONS: dict[str, Any] = {"steps": STEPS, "size": 128, "batch": 8, "lr": 2e-3}
"""Small crops of small pictures: about a minute on two CPU cores. The number of steps is fixed, time is not."""

SHOWN = ("foreground_dice", "dataset_miou", "pixel_accuracy")


@dataclass(frozen=True)
class Demo:
    """What the demo made; `str()` tells it in a few lines."""

    folder: Path
    metrics: dict[str, float]  # on the test pictures
    images: int
    seconds: float
    fresh: bool  # False: it had been there already
    following: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "run": str(self.folder),
            "metrics": self.metrics,
            "images": self.images,
            "seconds": self.seconds,
            "fresh": self.fresh,
            "report": str(self.folder / "report.html"),
            "picture": str(self.folder / "overview.jpg"),
            "answers": str(self.folder / "answers"),
            "next": list(self.following),
        }

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {self.metrics[name]:.3f}" for name in SHOWN if name in self.metrics)
        return "\n".join(
            [
                f"{self.images} test pictures, not trained on: {scores}",
                "",
                f"  {self.folder / 'report.html'}   the run: scores, curves, where it is wrong",
                f"  {self.folder / 'overview.jpg'}  picture, truth and answer of every test picture",
                f"  {self.folder / 'answers'}       what predict wrote: labels and overlays",
                "",
                "Three commands to try next:",
                *(f"  {line}" for line in self.following),
            ]
        )


def demo(out: str | Path = "runs/demo", say: Callable[[str], None] = print) -> Demo:
    """Train a small U-Net on the bundled nuclei, score it, answer the test pictures, and write `out`.

    A demo that is in `out` already is shown at once; one that was interrupted is finished. say: gets lines of progress.

    Raises `UsageError` when `out` holds another run.
    """
    from sightline.datasets.bundled import bundled

    folder, data = Path(out), bundled("nuclei")
    if (finished := _finished(folder, data)) is not None:
        say(f"{folder} holds a finished demo; here is what it found (delete the folder to see it learn again)\n")
        return finished
    started = time.monotonic()
    done = _perform(folder, data, say)
    done = replace(done, seconds=round(time.monotonic() - started, 1))
    write_text(folder / "demo.json", json.dumps(done.to_json(), indent=1))
    say(f"done in {done.seconds:.0f} seconds\n")
    return done


def _perform(folder: Path, data: Path, say: Callable[[str], None]) -> Demo:
    from sightline.datasets.open import open_dataset
    from sightline.verbs.evaluate import evaluate
    from sightline.verbs.load import load
    from sightline.verbs.predict import predict
    from sightline.verbs.train import train

    say(f"training a small U-Net on {data}: {STEPS} steps, a minute or so\n")

    if (folder / "config.json").exists():
        say("it was interrupted before: going on from there")
        run = train(resume=folder, say=say)
    else:
        run = train("unet", data, run=folder, train_values={"validate_every": STEPS // 2}, say=say, **OPTIONS)
    if run.stopped == "interrupted":
        raise SightlineError(f"the demo was interrupted at step {run.step}; call it again and it goes on from there")
    say("scoring the test pictures, which it has not seen")
    trained = load(folder)
    found = evaluate(trained, data, split="test")
    write_text(folder / "test.json", json.dumps(found.to_json(), indent=1))
    say("answering them")
    answers = list(predict(trained, data / "images" / "test", out=folder / "answers"))
    overview(open_dataset(data).split("test"), answers, folder / "overview.jpg")
    return Demo(folder, found.metrics, found.images, 0.0, True, following(folder, data))


def _finished(folder: Path, data: Path) -> Demo | None:
    """The demo in `folder`, None when there is none yet or it was interrupted."""
    if not (folder / "config.json").exists():
        return None
    try:
        config = json.loads((folder / "config.json").read_text())
        ours = Path(config["data"]).name == data.name and config["training"]["steps"] == STEPS
        stored = folder / "demo.json"
        was = json.loads(stored.read_text()) if stored.exists() else None
        found = was and Demo(folder, was["metrics"], was["images"], was["seconds"], False, following(folder, data))
    except (ValueError, KeyError, TypeError) as error:
        raise SightlineError(f"the demo in {folder} is damaged ({error}); delete the folder and start again") from error
    if not ours:
        raise UsageError(f"{folder} holds another run; choose another folder for the demo: out=runs/demo-2")
    return found


def following(folder: Path, data: Path) -> tuple[str, ...]:
    """Three commands that work as they stand, the last with the reader's own folder."""
    call = "sightline" if shutil.which("sightline") else f"{_shown(Path(sys.executable))} -m sightline"
    longer = folder.with_name(f"{folder.name}-longer")
    return (
        f"{call} train unet {_shown(data)} run={longer} steps=600",
        f"{call} compare {folder} {longer}",
        f"{call} train unet YOUR_FOLDER    # with images/ and masks/ in it",
    )


def overview(data: DataSet, answers: list[Any], path: Path) -> Path:
    """Picture, truth and answer of every record of `data` on one page; where they differ is outlined in white.

    The panels are cut to the size of the smallest picture, so that they stand in rows.
    """
    from sightline.datasets.read import read_labels_of, read_picture
    from sightline.media.draw import caption, grid
    from sightline.media.image import write_image
    from sightline.segmentation.draw import triptych

    by_name = {answer.name: answer for answer in answers}
    found = [by_name[record.image.path.stem] for record in data.records]
    height, width = (min(answer.labels.shape[axis] for answer in found) for axis in (0, 1))
    panels = []
    for record, answer in zip(data.records, found):
        picture, truth = for_the_eye(read_picture(record)), read_labels_of(record, len(data.classes))
        cut = [view[:height, :width] for view in (picture, truth, answer.labels.cpu().numpy())]
        panel = triptych(cut[0], cut[1], cut[2], answer.classes)
        panels.append(caption(panel, "picture, truth, answer") if len(panels) < 2 else panel)
    return write_image(path, grid(panels, columns=2, gap=12))


def for_the_eye(picture: np.ndarray) -> np.ndarray:
    """A dark fluorescence picture `(H, W, C)` uint8, brightened until half a percent is white; others as they are."""
    import numpy as np

    white = float(np.percentile(picture, 99.5))
    if white >= 200:
        return picture
    return np.clip(picture * (255 / max(white, 1.0)), 0, 255).astype(np.uint8)


def _shown(path: Path) -> Path:
    """The path as one types it from here: relative when it lies below the current folder."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path
