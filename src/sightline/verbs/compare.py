"""Runs side by side: one table, one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import UsageError


@dataclass(frozen=True)
class Comparison:
    """Scores of several runs; prints as a table. `page` is the HTML file, when one was written."""

    rows: tuple[dict[str, Any], ...]
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"runs": list(self.rows), "page": str(self.page) if self.page else None}

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row["metrics"]))
        width = max(len(row["run"]) for row in self.rows)
        lines = [f"{'':<{width}}  " + "  ".join(names)]
        for row in self.rows:
            cells = (f"{_number(row['metrics'].get(name)):>{len(name)}}" for name in names)
            lines.append(f"{row['run']:<{width}}  " + "  ".join(cells))
        return "\n".join(lines)


def compare(runs: Sequence[str | Path], *, out: str | Path | None = None) -> Comparison:
    """Put finished runs beside each other; `out` names the HTML page to write.

    Raises `UsageError` for a folder that is no run, or when the runs were scored on different data.
    """
    if len(runs) < 2:
        raise UsageError("compare needs two runs or more: sightline compare RUN RUN")
    rows = tuple(_row(Path(run)) for run in runs)
    page = None
    if out is not None:
        from sightline.verbs.comparison import write_comparison

        page = write_comparison([Path(run) for run in runs], Path(out))
    return Comparison(rows, page)


def _row(folder: Path) -> dict[str, Any]:
    config, found = folder / "config.json", folder / "evaluation.json"
    if not config.is_file():
        raise UsageError(f"{folder} is not a run: it holds no config.json; give folders that `sightline train` made")
    if not found.is_file():
        raise UsageError(f"{folder} has not been scored; finish it (resume={folder}) or run sightline evaluate")
    score = json.loads(found.read_text())
    model = json.loads(config.read_text())["model"]
    return {"run": str(folder), "model": model} | {k: score[k] for k in ("data", "split", "images", "metrics")}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
