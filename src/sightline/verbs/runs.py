"""A run folder as the pages read it: its configuration, history, scores and pictures, whatever of them is there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind; `scores` is its last evaluation, empty when it was never scored."""

    folder: Path
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]  # the records of metrics.jsonl
    scores: Mapping[str, Any]
    following: Sequence[str]  # the next commands to type

    @property
    def title(self) -> str:
        """Model and data, in words."""
        return f"{self.config.get('model', 'a model')} on {Path(str(self.config.get('data', 'data'))).name}"

    @property
    def main_metric(self) -> str:
        """The metric that decided which weights are best, else the first of the evaluation or validation."""
        metrics = self.scores.get("metrics") or next((r["metrics"] for r in self.records("val")), {})
        asked = self.config.get("training", {}).get("monitor", "")
        return asked if asked in metrics else next(iter(metrics), "")

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of one kind: train, val or note."""
        needed = {"train": "loss", "val": "metrics", "note": "text"}[kind]
        return [r for r in self.history if r.get("kind") == kind and needed in r and "step" in r]

    def series(self, kind: str, *path: str) -> list[tuple[float, float]]:
        """(step, number) of the records of a kind, the number found below the names of `path`."""
        points = []
        for record in self.records(kind):
            value: Any = record
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            if isinstance(value, (int, float)):
                points.append((float(record["step"]), float(value)))
        return points

    def pictures(self, stem: str) -> list[Path]:
        """`samples/STEM-1.jpg` and so on, in the order of their numbers."""
        found = self.folder.glob(f"samples/{stem}-*.jpg")
        return sorted(found, key=lambda path: (int((re.findall(r"\d+", path.stem) or [0])[-1]), path.name))


def read_run(folder: str | Path) -> RunFolder:
    """Read a run folder.

    Raises:
        UsageError: there is no such folder, or it is no run.
        SightlineError: a file in it is damaged; one sentence that names it.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder} is not a run: it holds no config.json; give the folder that `sightline train` named"
        )
    history, scores, following = folder / "metrics.jsonl", folder / "evaluation.json", folder / "next.txt"
    return RunFolder(
        folder=folder,
        config=_json(folder / "config.json"),
        history=_lines(history) if history.is_file() else [],
        scores=_json(scores) if scores.is_file() else {},
        following=following.read_text(encoding="utf-8").splitlines() if following.is_file() else [],
    )


def first_share(scores: Mapping[str, Any]) -> str:
    """The first per-class score of an evaluation that is a share of 1, not a count; "" when there is none."""
    rows = scores.get("per_class", {})
    names = next(iter(rows.values()), {})
    return next((k for k in names if any(isinstance(row.get(k), float) for row in rows.values())), "")


def plain(value: Any) -> str:
    """An option's value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    return str(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SightlineError(f"cannot read {path}: {error}; restore the file, or evaluate or train again") from error
    if not isinstance(content, dict):
        raise SightlineError(f"{path} must hold one JSON object; restore the file, or evaluate or train again")
    return content


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a line torn by a crash is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
