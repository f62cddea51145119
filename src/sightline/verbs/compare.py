"""Runs side by side: one table, one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError

SCORED = ("data", "split", "images", "metrics")


@dataclass(frozen=True)
class Comparison:
    """Scores of several runs; prints as a table. `page` is the HTML file, when one was written."""

    rows: tuple[dict[str, Any], ...]
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"runs": list(self.rows), "page": str(self.page) if self.page else None}

    @property
    def comparable(self) -> bool:
        """Whether all were scored on the same pictures."""
        return len({(row["data"], row["split"], row["images"]) for row in self.rows}) == 1

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row["metrics"]))
        width = max(len(row["run"]) for row in self.rows)
        lines = [f"{'':<{width}}  " + "  ".join(names)]
        for row in self.rows:
            cells = (f"{_number(row['metrics'].get(name)):>{len(name)}}" for name in names)
            lines.append(f"{row['run']:<{width}}  " + "  ".join(cells))
        if not self.comparable:
            where = "; ".join(f"{row['images']} of {row['data']}, split {row['split']}" for row in self.rows)
            lines.append(f"not scored on the same pictures ({where}): give data= to score all of them there")
        return "\n".join(lines)


def compare(
    runs: Sequence[str | Path],
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Put runs beside each other: their last scores or, with `data`, new ones on one split of that data set.

    runs: folders of runs and, with `data`, exported files. out: the HTML page to write, about the folders.

    Raises `UsageError` for what is no run, or a run without scores, and `SightlineError` for one that is damaged.
    """
    if len(runs) < 2:
        raise UsageError("compare needs two runs or more: sightline compare RUN RUN")
    if data is None:
        rows = [_stored(Path(run)) for run in runs]
    else:
        from sightline.verbs.evaluate import evaluate

        rows = [_row(Path(run), evaluate(run, data, split=split).to_json()) for run in runs]
    folders = [Path(run) for run in runs if Path(run).is_dir()]
    page = None
    if out is not None and len(folders) > 1:
        from sightline.verbs.comparison import write_comparison

        page = write_comparison(folders, Path(out))
    return Comparison(tuple(rows), page)


def _stored(path: Path) -> dict[str, Any]:
    """The scores that a run's folder holds."""
    from sightline.verbs.runs import read_run

    if path.is_file():
        raise UsageError(f"{path} is a file, which stores no scores; give data= to score it and the runs there")
    scores = read_run(path).scores
    if not scores:
        raise UsageError(f"{path} has not been scored; finish it (resume={path}) or run sightline evaluate")
    try:
        return _row(path, dict(scores))
    except KeyError as error:
        raise SightlineError(
            f"{path / 'evaluation.json'} is damaged: it lacks {error}; write it anew with sightline evaluate"
        ) from error


def _row(path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    return {"run": str(path), "model": scores["model"]} | {name: scores[name] for name in SCORED}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
