"""The page of `compare`: runs side by side, best scores set off, only the choices that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sightline.errors import UsageError
from sightline.files import write_text
from sightline.verbs import page as p
from sightline.verbs.charts import Line, chart, smooth
from sightline.verbs.page import Section
from sightline.verbs.runs import RunFolder, first_share, plain, read_run

COLOURS = 8
"""Series colours of the style sheet; further runs begin again with the first."""


def write_comparison(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Write the page that compares `runs` to the file `out` and return its path.

    Raises `UsageError` for a folder that is no run or fewer than two, `SightlineError` for one that is damaged.
    """
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs or more")
    return write_text(out, comparison_html([read_run(run) for run in runs]))


def comparison_html(runs: Sequence[RunFolder]) -> str:
    """The page: scores, what differs, curves, classes, where the runs are."""
    names = short_names([run.folder for run in runs])
    sections = [
        Section("scores", "Scores", _warning(runs) + _scores(runs, names)),
        Section("curves", "Curves", _curves(runs, names)),
        Section("differences", "What differs", _differences(runs, names)),
        Section("classes", "Classes", _classes(runs, names)),
        Section("runs", "The runs", _where(runs, names)),
    ]
    footer = "Written by sightline compare from the files of the runs. This page fetches nothing from elsewhere."
    return p.page(f"{len(runs)} runs compared", "sightline comparison", _result(runs, names), sections, footer)


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest tails of the paths that tell them apart; a folder given twice gets its place as a number."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.name} ({k})" for k, folder in enumerate(folders, start=1)]


def best_places(values: Sequence[float | None], name: str) -> set[int]:
    """Indices of the best of the values (the lowest of a loss or error), empty when there is nothing to choose."""
    known = [v for v in values if v is not None]
    if len(known) < 2 or min(known) == max(known):
        return set()
    best = min(known) if "loss" in name or "error" in name else max(known)
    return {k for k, v in enumerate(values) if v == best}


def _result(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    metric = runs[0].main_metric
    values = [run.scores.get("metrics", {}).get(metric) for run in runs]
    best = best_places(values, metric)
    if not best:
        return "No run is ahead of the others."
    k = min(best)
    return f"{names[k]} is ahead: {p.words(metric)} {p.score(values[k])}."


def _warning(runs: Sequence[RunFolder]) -> str:
    tests = {tuple(str(run.scores.get(k, "nothing")) for k in ("data", "split", "images")) for run in runs}
    if len(tests) == 1:
        return ""
    said = "; ".join(f"{images} pictures of {data}, split {split}" for data, split, images in sorted(tests))
    words = f"The runs were not scored on the same pictures, so their scores do not compare: {said}."
    return f'<p class="warn">{escape(words)}</p>'


def _scores(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    rows = [run.scores.get("metrics", {}) for run in runs]
    return _numbers("Scores on held-out pictures, the best of each row set off", "score", rows, names)


def _classes(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    bar = first_share(runs[0].scores)
    rows = [{k: row.get(bar) for k, row in run.scores.get("per_class", {}).items()} for run in runs]
    return _numbers(f"{p.words(bar)} of every class", "class", rows, names, plain_names=True) if bar else ""


def _numbers(
    caption: str, first: str, columns: Sequence[Mapping[str, Any]], names: Sequence[str], *, plain_names: bool = False
) -> str:
    """A table with a column a run and a row a score, the best number of each row set off."""
    head = [p.column(first), *(p.column(name, right=True) for name in names)]
    lines = []
    for key in dict.fromkeys(key for column in columns for key in column):
        values = [column.get(key) for column in columns]
        best = best_places(values, "" if plain_names else key)
        cells = (p.best(p.score(v)) if k in best else p.cell(p.score(v), "n") for k, v in enumerate(values))
        lines.append(p.row_head(key if plain_names else p.words(key)) + "".join(cells))
    return p.table(caption, head, lines)


def _differences(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    settings = [_settings(run) for run in runs]
    lines = []
    for key in dict.fromkeys(key for setting in settings for key in setting):
        values = [setting.get(key, "") for setting in settings]
        if len(set(values)) > 1:
            lines.append(p.row_head(key) + "".join(p.cell(v, "value") for v in values))
    head = [p.column("option"), *(p.column(name) for name in names)]
    return p.table("Options that are not the same in all runs", head, lines) or "<p>All options are the same.</p>"


def _settings(run: RunFolder) -> dict[str, str]:
    """Everything that was asked for or chosen, as text."""
    config = run.config
    values = {"model": config.get("model"), "data": config.get("data"), "seed": config.get("seed")}
    values |= {name: choice.get("value") for name, choice in config.get("choices", {}).items()}
    values |= {f"model.{k}": v for k, v in config.get("arguments", {}).items()}
    values |= {f"train.{k}": v for k, v in config.get("training", {}).items() if k not in values}
    versions = {f"version of {k}": v for k, v in config.get("versions", {}).items()}
    return {key: plain(value) for key, value in (values | versions).items()}


def _curves(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    metric = runs[0].main_metric
    legend = [(name, k % COLOURS) for k, name in enumerate(names)]
    held_out = [
        Line(name, run.series("val", "metrics", metric), "dots", k % COLOURS)
        for k, (run, name) in enumerate(zip(runs, names))
    ]
    loss = [
        Line(name, smooth(run.series("train", "loss")), colour=k % COLOURS)
        for k, (run, name) in enumerate(zip(runs, names))
    ]
    title = p.sentence(f"{p.words(metric)} on held-out pictures")
    body = p.figure(title, chart(title, held_out, x="step"), legend)
    body += p.figure("Loss while training", chart("Loss while training", loss, x="step", low=0), legend)
    return f'<div class="charts">{body}</div>' if body else ""


def _where(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    parts = []
    for run, name in zip(runs, names):
        command = str(run.config.get("command", ""))
        parts.append(f"<h3>{escape(name)}</h3>" + p.commands([command] if command else []))
        last = (run.records("train") or [{}])[-1]
        rows = {"folder": run.folder.as_posix(), "model and data": run.title}
        rows |= {"steps": f"{last['step']:,}"} if last else {}
        rows |= {"time": p.duration(last["time"])} if "time" in last else {}
        parts.append(p.facts(rows))
    return "".join(parts)
