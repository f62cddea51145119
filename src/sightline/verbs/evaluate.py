"""Scoring a trained network on labelled pictures, at their own size, with every number named for its rule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.verbs.models import task_named

if TYPE_CHECKING:
    from sightline.contracts import Task
    from sightline.datasets.records import DataSet
    from sightline.weights.card import Card


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; prints as a table, shows itself in a notebook."""

    task: str
    model: str
    data: str
    split: str
    images: int
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]] = field(default_factory=list)
    worst: list[str] = field(default_factory=list)  # keys, worst first
    skipped: dict[str, str] = field(default_factory=dict)  # key -> why it could not be read
    notes: list[str] = field(default_factory=list)
    reliability: list[list[float]] = field(default_factory=list)  # mean confidence, share right, share of answers

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints; numbers that do not exist are null."""
        return {
            "task": self.task,
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "images": self.images,
            "metrics": _finite(self.metrics),
            "per_class": {name: _finite(row) for name, row in self.per_class.items()},
            "confusion": self.confusion,
            "worst": self.worst[:20],
            "skipped": self.skipped,
            "notes": self.notes,
            "reliability": self.reliability,
        }

    def __str__(self) -> str:
        head = f"{self.model} on {self.data}, split {self.split}, {self.images} pictures"
        width = max(map(len, self.metrics), default=0)
        lines = [head, *(f"  {name:<{width}}  {value:.4f}" for name, value in self.metrics.items()), ""]
        if self.per_class:
            columns = list(next(iter(self.per_class.values())))
            width = max(map(len, self.per_class))
            lines.append(f"  {'class':<{width}}  " + "  ".join(f"{c:>9}" for c in columns))
            for name, row in self.per_class.items():
                cells = (f"{v:>9,}" if isinstance(v, int) else f"{v:>9.4f}" for v in row.values())
                lines.append(f"  {name:<{width}}  " + "  ".join(cells))
        if self.skipped:
            lines.append(f"  {len(self.skipped)} files could not be read and were skipped: {', '.join(self.skipped)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from sightline.verbs.report import table_html

        return table_html(self.to_json())


def evaluate(
    run: str | Path | Any,
    data: str | Path | DataSet,
    *,
    split: str | None = None,
    format: str | None = None,
    val: float | str | None = None,
    seed: int | None = None,
    device: str = "auto",
    tile: int | None = None,
    overlap: float = 0.5,
    flips: str = "none",
    scales: tuple[float, ...] = (1.0,),
    views: int | None = None,
    crops: int | None = None,
    fuse: str | None = None,
    samples: int | None = None,
    policy: str | None = None,
    metrics: Sequence[str] | str = (),
    limit: int | None = None,
    on_error: str = "stop",
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a run (or a loaded `(net, card)`) on one split of a data set.

    views, crops, fuse: of rooms that answer with classes: clips of a video, crops of a picture, and what is averaged.
    samples: looks with dropout on (Bayesian SegNet), whose mean is the answer.
    policy: whose rules the numbers follow instead of ours (`mmseg`, `torchmetrics`, ...), to compare with a paper.
    metrics: scores that cost more and are made when asked for (`hd95`, `v_rand`, `ece`, ...); docs/metrics.md.
    limit: of objects: answers a picture and class that count; None: as the run was scored, else COCO's 100.

    split: `test` when the data has one, else `val`, else everything. val and seed: how a split is made where the data
    gives none; the run's own by default, so that its validation pictures are found again. on_error: `stop` at the
    first file that cannot be read, or `skip` it and count it. The answer is kept in the run's folder as
    `evaluation.json`, where that can be written.
    """
    from sightline.datasets.open import open_dataset
    from sightline.datasets.records import DataSet
    from sightline.training.device import choose_device
    from sightline.verbs.load import load
    from sightline.verbs.optimize import ready

    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error '{on_error}' is unknown; choose stop or skip")
    net, card = run if isinstance(run, tuple) else load(run)
    task = task_named(card.task)
    if not isinstance(data, DataSet):
        made = card.extra.get("split", {})
        opened = {
            "format": format,
            "seed": made.get("seed", 0) if seed is None else seed,
            "val": 0 if split == "all" else made.get("val", 0.2) if val is None else val,
        }
        if task.kind != "pixels":
            opened["kind"] = task.kind
        found = open_dataset(data, **opened)
        if len(found.classes) != len(card.classes) and found.facts.get("classes_guessed"):
            found = open_dataset(data, classes=card.classes, **opened)  # a test folder may lack a class
        data = found
    _check_classes(card.classes, data.classes, data.root)
    part, split = _pick(data, split)
    net, words = ready(net.to(choose_device(device)), card.preprocess.channels, example_of(task, card))
    further = {"views": views, "crops": crops, "fuse": fuse, "samples": samples}
    if metrics and "keep" in signature(task.procedure).parameters:
        further["keep"] = True  # what is measured besides may need the probabilities of tiled pictures too
    options = procedure_of(task, tile, overlap, flips, scales, further)
    metric, skipped = metric_for(task, card, policy, metrics, limit), {}
    for done, scored in enumerate(score(net, part, task, card, options, metric, skipped, on_error), start=1):
        if progress:
            progress(f"{done}/{len(part.records)} {scored}")
    report = metric.compute()
    if not report.image_scores:
        raise SightlineError(
            f"{data.root}, split {split}: no labelled picture could be scored; run sightline data check"
        )
    answer = Evaluation(
        task=card.task,
        model=card.model,
        data=str(data.root),
        split=split,
        images=len(report.image_scores),
        metrics=report.metrics,
        per_class=report.per_class,
        confusion=report.confusion.tolist(),
        worst=report.worst,
        skipped=skipped,
        notes=[*data.notes, words, *([f"scores by the rules of {policy}"] if policy else [])],
        reliability=[list(point) for point in getattr(report, "reliability", ())],
    )
    if policy is None and isinstance(run, (str, Path)) and (Path(run) / "config.json").is_file():
        with suppress(SightlineError):  # somebody else's run may be read only
            write_text(Path(run) / "evaluation.json", json.dumps(answer.to_json(), indent=1))
    return answer


def metric_for(
    task: Task, card: Card, policy: str | None, metrics: Sequence[str] | str, limit: int | None = None
) -> Any:
    """The room's metric, told what it is asked for. Raises `UsageError` where the room knows no such choice."""
    names = metrics.split(",") if isinstance(metrics, str) else metrics
    asked = {"policy": policy, "measures": tuple(name.strip() for name in names if name.strip())}
    asked = {name: value for name, value in asked.items() if value}
    if card.extra.get("multilabel"):
        asked["multilabel"] = True
    if limit is not None or card.extra.get("limit"):
        asked["limit"] = limit if limit is not None else card.extra["limit"]
    known = signature(task.metric).parameters
    for name in asked:
        if name not in known:
            word = "metrics" if name == "measures" else name
            raise UsageError(f"{word} is no choice of {task.name}; leave it out")
    return task.metric(card.classes, **asked)


def procedure_of(
    task: Task, tile: int | None, overlap: float, flips: str, scales: Sequence[float], further: dict[str, Any]
) -> Any:
    """The room's procedure. Raises `UsageError` for a choice the room does not know."""
    asked = {name: value for name, value in further.items() if value is not None}
    for name in asked:
        if name not in signature(task.procedure).parameters:
            raise UsageError(f"{name} is no choice of {task.name}; leave it out")
    return task.procedure(tile=tile, overlap=overlap, flips=flips, scales=tuple(scales), **asked)


def example_of(task: Task, card: Card) -> Any:
    """An input of the room to prove a changed network on; None: a picture."""
    return None if task.example is None else task.example(card.preprocess, 1)


def score(net, part, task, card, options, metric, skipped, on_error="stop") -> Iterator[str]:
    """Feed every labelled record of `part` to the metric; yields the keys as they are done."""
    for record in part.records:
        if record.labels is None:
            continue
        try:
            task.score(net, record, metric, preprocess=card.preprocess, classes=card.classes, procedure=options)
        except SightlineError as error:
            if on_error == "stop":
                raise
            skipped[record.key] = str(error)
        yield record.key


def _pick(data: DataSet, split: str | None) -> tuple[DataSet, str]:
    """The split to score: the one asked for, or test, or val, or all records."""
    if split is None:
        labelled = {r.split for r in data.records if r.labels is not None}
        split = next((s for s in ("test", "val") if s in labelled), "all")
    if split == "all":
        return data, "all"
    if split not in data.splits:
        known = ", ".join((*data.splits, "all"))
        raise UsageError(f"{data.root} has no split '{split}'; it has {known}.{did_you_mean(split, data.splits)}")
    return data.split(split), split


def _check_classes(ours: tuple[str, ...], theirs: tuple[str, ...], root: Path) -> None:
    if len(ours) != len(theirs):
        raise UsageError(
            f"the run knows {len(ours)} classes ({', '.join(ours)}) and {root} has {len(theirs)} "
            f"({', '.join(theirs)}); evaluate on data with the same classes"
        )


def _finite(row: dict[str, float]) -> dict[str, float | None]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
