"""Pages: `report.html` of a run, the comparison of runs, and the table of an evaluation in a notebook.

Everything is made from files of the run folder alone, so a page can be written again at any time, anywhere.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from sightline.files import write_text
from sightline.verbs import page as p
from sightline.verbs.charts import Line, chart, smooth
from sightline.verbs.page import Section
from sightline.verbs.runs import RunFolder, first_share, plain, read_run

PANELS = ("picture", "truth", "prediction")
GAP = 6
"""Pixels between the panels of a sample, as the rooms draw them."""
PANEL_WIDTH = 720
"""Wider panels are made smaller before they go into the page."""
MATRIX = 30
"""Classes up to which a confusion matrix can be read."""


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises `UsageError` for a folder that is no run and `SightlineError` when one of its files is damaged.
    """
    run = read_run(folder)
    return write_text(run.folder / "report.html", report_html(run))


def report_html(run: RunFolder) -> str:
    """The page of a run: result, scores, choices, curves, classes, worst pictures, notes, how to go on."""
    task = str(run.config.get("task", ""))
    sections = [
        Section("scores", "Scores", _scores(run)),
        Section("worst", "Where it is wrong", _worst(run)),
        Section("classes", "Classes", _classes(run)),
        Section("curves", "Curves", _curves(run)),
        Section("choices", "Choices", _choices(run)),
        Section("notes", "Notes", _notes(run)),
        Section("next", "Next", p.commands(run.following)),
        Section("again", "How to repeat it", _again(run)),
    ]
    version = run.config.get("versions", {}).get("sightline", "")
    return p.page(run.title, f"sightline {task} run".strip(), _result(run), sections, _footer(run, version))


def table_html(evaluation: Mapping[str, Any]) -> str:
    """An evaluation's JSON object as a piece of HTML: scores and classes, for notebooks (`_repr_html_`)."""
    metrics = evaluation.get("metrics", {})
    head = "".join(f"<th>{escape(p.words(name))}</th>" for name in metrics)
    line = "".join(f"<td>{escape(p.score(value))}</td>" for value in metrics.values())
    rows = evaluation.get("per_class", {})
    columns = list(next(iter(rows.values()), {}))
    classes = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(p.score(row.get(c)))}</td>' for c in columns)}</tr>"
        for name, row in rows.items()
    )
    heads = "".join(f"<th>{escape(p.words(c))}</th>" for c in columns)
    below = f"<table><thead><tr><th>class</th>{heads}</tr></thead><tbody>{classes}</tbody></table>" if rows else ""
    above = f"<table><thead><tr>{head}</tr></thead><tbody><tr>{line}</tr></tbody></table>"
    return f"<p>{escape(evaluation.get('model', 'model'))}, {escape(_pictures(evaluation))}</p>{above}{below}"


# The parts of a report ------------------------------------------------------------------------------------------------


def _result(run: RunFolder) -> str:
    """One sentence: the score, on what, after how much, and the weakest class."""
    last, metric = (run.records("train") or [{}])[-1], run.main_metric
    steps, of = last.get("step", 0), last.get("steps", 0)
    after = f"{steps:,} steps" if steps >= of else f"{steps:,} of {of:,} steps"
    spent = f" in {p.duration(last['time'])}" if "time" in last else ""
    if not run.scores:
        return f"Trained for {after}{spent}; not scored on held-out pictures yet." if last else "Not trained yet."
    value = p.score(run.scores["metrics"].get(metric))
    text = f"{p.words(metric)} {value} on {_pictures(run.scores)}"
    text += f", after {after}{spent}." if last else "."
    return p.sentence(text) + _weakest(run.scores)


def _weakest(scores: Mapping[str, Any]) -> str:
    name, rows = first_share(scores), scores.get("per_class", {})
    known = {k: row[name] for k, row in rows.items() if name and row.get(name) is not None}
    if len(known) < 3:
        return ""
    worst = min(known, key=lambda k: known[k])
    return f" Weakest class: {worst}, {p.words(name)} {p.score(known[worst])}."


def _scores(run: RunFolder) -> str:
    if not run.scores:
        return "<p>This run has not been scored: it was stopped early, or its data has no pictures held out.</p>"
    metrics, main = run.scores["metrics"], run.main_metric
    order = [main, *(name for name in metrics if name != main)]
    shown = [main, *(name for name in metrics if not name.startswith(main))][:4]
    rows = [(p.words(name), p.score(metrics[name]), "") for name in shown]
    rows[0] = (*rows[0][:2], f"{run.scores.get('images', 0):,} {run.scores.get('split', '')} pictures")
    if last := (run.records("train") or [{}])[-1]:
        rest = [f"of {last['steps']:,}"] if last.get("steps", 0) > last["step"] else []
        rest += [p.duration(last["time"])] if "time" in last else []
        rows.append(("steps", f"{last['step']:,}", ", ".join(rest)))
    rules = _rules(str(run.config.get("task", "")))
    lines = [p.row_head(p.words(k)) + p.cell(p.score(metrics[k]), "n") + p.cell(rules.get(k, "")) for k in order]
    head = [p.column("score"), p.column("value", right=True), p.column("rule")]
    return p.cards(rows) + p.folded(
        f"All {len(order)} scores, and the rule of each", p.table("Every score", head, lines)
    )


def _rules(task: str) -> dict[str, str]:
    """What the room's `metrics.py` says of each score: the list in its preface."""
    try:
        said = import_module(f"sightline.{task}.metrics").__doc__ or ""
    except ImportError:
        return {}
    found: dict[str, str] = {}
    for names, text in re.findall(r"^- ((?:`\w+`(?:, )?)+): (.+?)(?=^- |\n\n|\Z)", said, re.DOTALL | re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), " ".join(text.split()).replace("`", ""))
    return found


def _choices(run: RunFolder) -> str:
    choices = run.config.get("choices", {})
    rows = [
        p.row_head(k) + p.cell(plain(c.get("value")), "value") + p.cell(c.get("reason", "")) for k, c in choices.items()
    ]
    head = [p.column("option"), p.column("value"), p.column("reason")]
    return p.table("What was asked for or chosen, and why", head, rows)


def _curves(run: RunFolder) -> str:
    loss = run.series("train", "loss")
    terms = list(dict.fromkeys(name for r in run.records("train") for name in r.get("terms", {})))
    terms = terms[:6] if len(terms) > 1 else []
    curves = [Line("loss of single batches", loss, "faint"), Line("loss", smooth(loss))]
    curves += [Line(name, smooth(run.series("train", "terms", name)), colour=k + 1) for k, name in enumerate(terms)]
    legend = [("loss", 0), *((name, k + 1) for k, name in enumerate(terms))]
    metric = run.main_metric
    held_out = run.series("val", "metrics", metric)
    best = f", best {max(y for _, y in held_out):.4g}" if held_out else ""
    figures = [
        p.figure("Loss while training", chart("Loss while training", curves, x="step", low=0), legend),
        p.figure(
            p.sentence(f"{p.words(metric)} on held-out pictures{best}"),
            chart("Score on held-out pictures", [Line(p.words(metric), held_out, "dots")], x="step"),
        ),
        _plain_curve(run, "Learning rate", "lr"),
        _plain_curve(run, "Pictures a second", "images_per_second"),
    ]
    body = "".join(figures)
    return f'<div class="charts">{body}</div>' if body else ""


def _plain_curve(run: RunFolder, title: str, name: str) -> str:
    return p.figure(title, chart(title, [Line(title, run.series("train", name))], x="step", low=0))


def _classes(run: RunFolder) -> str:
    rows = run.scores.get("per_class", {})
    if not rows:
        return ""
    bar, columns = first_share(run.scores), list(next(iter(rows.values())))
    head = [p.column("class")]
    for name in columns:
        head += [p.column(p.words(name), right=True)] + ([p.column("")] if name == bar else [])
    colours = _colours(run, list(rows))
    lines = []
    for name, row in rows.items():
        cells = [p.row_head(name, colour=colours.get(name))]
        for k in columns:
            cells += [p.cell(p.score(row.get(k)), "n")] + ([p.meter(row.get(k))] if k == bar else [])
        lines.append("".join(cells))
    table = p.table(f"Scores of every class on {_pictures(run.scores)}", head, lines)
    return table + _confusion(run.scores, list(rows)) + _reliability(run.scores)


def _reliability(scores: Mapping[str, Any]) -> str:
    """How sure the network was, and how often it was right: a curve on the diagonal is calibrated."""
    curve = [point for point in scores.get("reliability") or [] if len(point) == 3]
    error = sum(share * abs(right - sure) for sure, right, share in curve)
    lines = [
        Line("share of right answers", [(sure, right) for sure, right, _ in curve], "dots"),
        Line("as sure as right", [(0.0, 0.0), (1.0, 1.0)], "faint", 1),
    ]
    title = f"Reliability: right answers by confidence; the gap is {error:.3f} on average (ECE)"
    drawn = chart(title, lines, x="confidence", low=0) if len(curve) > 1 else ""
    figure = p.figure(title, drawn, [("share of right answers", 0), ("as sure as right", 1)])
    return f'<div class="charts">{figure}</div>' if figure else ""


def _colours(run: RunFolder, names: Sequence[str]) -> dict[str, Sequence[int]]:
    """The colour each class is painted in; the data's own, else those of the drawing room."""
    own = [c for c in run.config.get("colours", []) if len(c) == 3]
    try:
        table = import_module(f"sightline.{run.config.get('task', '')}.draw").colours_for(names, own).tolist()
    except (ImportError, AttributeError):
        table = own
    return dict(zip(names, table)) if len(table) == len(names) else {}


def _confusion(scores: Mapping[str, Any], names: Sequence[str]) -> str:
    matrix = scores.get("confusion") or []
    if len(matrix) != len(names) or not 1 < len(names) <= MATRIX:
        return ""
    lines, mistakes = [], []
    for i, (name, counts) in enumerate(zip(names, matrix)):
        total = sum(counts)
        shares = [n / total if total else 0.0 for n in counts]
        cells = (_share(n, s if total else None, right=i == j) for j, (n, s) in enumerate(zip(counts, shares)))
        lines.append(p.row_head(name) + "".join(cells))
        mistakes += [(n, s, name, names[j]) for j, (n, s) in enumerate(zip(counts, shares)) if i != j and s >= 0.05]
    head = [p.column("truth \\ answer"), *(p.column(name, right=True, turned=len(names) > 6) for name in names)]
    grid = p.table(
        "Of each class's labelled pixels (rows), how many were answered as which (columns), in percent",
        head,
        lines,
        kind="matrix",
    )
    worst = sorted(mistakes, key=lambda m: -m[1])[:3]
    said = p.bullets(f"{_percent(share)} % of {name} is taken for {other}." for _, share, name, other in worst)
    return (
        f"<h3>What is taken for what</h3>{said}{grid if len(names) <= 14 else p.folded('The confusion matrix', grid)}"
    )


def _share(count: int, share: float | None, *, right: bool) -> str:
    """A cell of the confusion matrix, the darker the larger its share of the row; None: the class never occurs."""
    text = "–" if share is None else _percent(share)
    return f'<td style="--v:{share or 0:.2f}"{" class=right" if right else ""} title="{count:,} pixels">{text}</td>'


def _percent(share: float) -> str:
    """A share in percent without a fraction; `<1` instead of a 0 that is not nothing."""
    return "<1" if 0 < share < 0.005 else f"{share * 100:.0f}"


def _worst(run: RunFolder) -> str:
    worst = run.scores.get("worst") or []
    marks = worst if isinstance(worst, Mapping) else {}
    keys = list(worst)
    shown = []
    for k, path in enumerate(run.pictures("worst")):
        key = str(keys[k]) if k < len(keys) else path.stem
        mark = f"<span>{p.score(marks[key])}</span>" if key in marks else ""
        panels = "".join(_panel(name, uri, key) for name, uri in _panels(path))
        if panels:
            shown.append(
                f'<article class="sample"><h3>{escape(key)} {mark}</h3><div class="panels">{panels}</div></article>'
            )
    if not shown:
        return ""
    intro = "<p>The pictures with the lowest scores, worst first. Broken labels show up here too.</p>"
    return f'{intro}<div class="samples">{"".join(shown)}</div>'


def _panel(name: str, uri: str, key: str) -> str:
    caption = f"<figcaption>{name}</figcaption>" if name else ""
    alt = escape(f"{name or 'picture, truth and prediction'} of {key}")
    return f'<figure>{caption}<img alt="{alt}" src="{uri}"></figure>'


def _panels(path: Path) -> list[tuple[str, str]]:
    """A sample's panels as (name, data URI); a picture that is not three of equal width stays whole, unnamed."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return []
    width = (picture.width - 2 * GAP) // 3
    if width < 1 or width * 3 + 2 * GAP != picture.width:
        return [("", _uri(picture, 3 * PANEL_WIDTH))]
    lefts = (k * (width + GAP) for k in range(3))
    return [(n, _uri(picture.crop((x, 0, x + width, picture.height)), PANEL_WIDTH)) for n, x in zip(PANELS, lefts)]


def _uri(picture: Any, widest: int) -> str:
    """A PIL picture as a JPEG data URI."""
    if picture.width > widest:
        picture = picture.resize((widest, max(1, round(picture.height * widest / picture.width))))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _notes(run: RunFolder) -> str:
    said = [*run.config.get("notes", []), *run.scores.get("notes", [])]
    said += [f"step {r['step']:,}: {r['text']}" for r in run.records("note")]
    skipped = run.scores.get("skipped") or {}
    warning = ""
    if skipped:
        warning = f'<p class="warn">{len(skipped)} files could not be scored and were left out.</p>'
        warning += p.bullets(f"{name}: {reason}" for name, reason in skipped.items())
    return warning + p.bullets(dict.fromkeys(said))


def _again(run: RunFolder) -> str:
    config = run.config
    versions = ", ".join(f"{k} {v}" for k, v in config.get("versions", {}).items())
    machine = ", ".join(f"{k} {v}" for k, v in config.get("machine", {}).items())
    rows = {
        "run": run.folder.as_posix(),
        "data": config.get("data"),
        "seed": config.get("seed"),
        "versions": versions,
        "machine": machine,
    }
    values = config.get("arguments", {}) | {f"preprocess {k}": v for k, v in config.get("preprocess", {}).items()}
    command = str(config.get("command", ""))
    return (
        p.commands([command] if command else [])
        + p.facts({k: v for k, v in rows.items() if v not in (None, "")})
        + p.folded(
            "Every value of the network and its preprocessing", p.facts({k: plain(v) for k, v in values.items()})
        )
    )


def _footer(run: RunFolder, version: str) -> str:
    words = f"Written by sightline {version} from the files in {run.folder.as_posix()}."
    return f"{words} This page fetches nothing from elsewhere."


def _pictures(scores: Mapping[str, Any]) -> str:
    data = Path(str(scores.get("data", ""))).name
    split = scores.get("split", "")
    return f"{scores.get('images', 0):,} {'' if split == 'all' else split + ' '}pictures of {data}"
