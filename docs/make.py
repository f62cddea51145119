"""Write what the documents say about systems from the catalogue and from measurements: `python docs/make.py`.

It rewrites `docs/systems.md`, a page a paper in `docs/systems/`, the table between two markers in `README.md` and those
of scores in `docs/choose.md`; `--check` only says whether they are up to date. Names, papers, parameters and published
weights come from the catalogue, what is told of a paper from the preface of its file. Everything measured comes from
the JSON files in `docs/results/`, which commands write and nobody edits; what was not measured stays blank.

A file in `docs/results/` holds one result, or a list of them:

    system    the entry's name
    what      `difference` (largest difference of an output from the public implementation's, relative to its largest
              value), `speed` (time of the public implementation / ours, above 1 is faster), `export` (largest relative
              difference of an exported file), or the name of a score, also as "SCORE on DATA"
    value     the number
    command   what to type to get it again
    seed data split seconds machine date        how, on what, how long, where, when
    peer      of `difference` and `speed`: the public implementation
    baseline baseline_value                     of a score, if there is one: what a method without a network reaches

Of several results about the same thing the newest counts.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sightline.contracts import Entry
from sightline.files import write_text
from sightline.verbs.models import catalogue

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- systems: written by docs/make.py -->"
END = "<!-- systems end -->"
NEEDED = ("system", "what", "value", "command", "date")
BLANK = ""
NO_SCORES = ("difference", "speed", "export")


@dataclass(frozen=True)
class Result:
    """One measurement, as a command wrote it."""

    system: str
    what: str
    value: float
    command: str
    date: str
    details: Mapping[str, Any]  # the other fields of the file
    source: str  # the file, for messages

    @property
    def score(self) -> str:
        """The name of the score without the data's."""
        return self.what.partition(" on ")[0]

    def detail(self, name: str) -> str:
        """One of the other fields as text, empty when it is not there."""
        value = self.details.get(name)
        return "" if value is None else str(value)


def read_results(folder: Path) -> list[Result]:
    """All results in `folder`, the newest of each kind; raises ValueError for a file that is none."""
    newest: dict[tuple[str, ...], Result] = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for row in content if isinstance(content, list) else [content]:
            result = _result(row, path.name)
            about = (result.system, result.what, *(result.detail(k) for k in ("peer", "data", "split")))
            if about not in newest or newest[about].date <= result.date:
                newest[about] = result
    return sorted(newest.values(), key=lambda r: (r.what, r.system))


def _result(row: Mapping[str, Any], source: str) -> Result:
    missing = [name for name in NEEDED if name not in row]
    if missing:
        raise ValueError(f"docs/results/{source} lacks {', '.join(missing)}; the list is in docs/make.py")
    if row["what"] in ("difference", "speed") and not row.get("peer"):
        raise ValueError(f"docs/results/{source}: a {row['what']} needs a peer")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(row["date"])):
        raise ValueError(f"docs/results/{source}: the date {row['date']!r} is not of the form 2026-01-31")
    details = {k: v for k, v in row.items() if k not in NEEDED}
    return Result(row["system"], row["what"], float(row["value"]), row["command"], row["date"], details, source)


def readme_table(entries: Mapping[str, Entry]) -> str:
    """The short table, a row a paper: what it is called, and the names of its systems."""
    papers: dict[tuple[str, str], list[str]] = {}
    for name, entry in entries.items():
        papers.setdefault((entry.task, entry.paper), []).append(name)
    rows = [(task, paper, " ".join(f"`{name}`" for name in names)) for (task, paper), names in papers.items()]
    return table(("task", "paper", "systems"), rows)


def systems_page(entries: Mapping[str, Entry], results: Sequence[Result]) -> str:
    """`docs/systems.md`."""
    parts = [
        "# Systems",
        "<!-- Written by docs/make.py from the catalogue and docs/results/: change those, then run `make docs`. -->",
        "One row an entry of the catalogue. Parameters are those that learn, with the builder's defaults. What is"
        " measured was measured by a command in this repository, and is blank where none has been run yet:",
        "- **public checkpoints**: published weights by name, and the public implementations whose file was rebuilt,"
        " read by `load_weights` and compared;\n"
        "- **difference**: the largest difference of an output from that implementation's, on the same input and"
        " weights, relative to the output's largest value;\n"
        "- **score here**: on pictures not trained on, from random weights unless the details below say otherwise;\n"
        "- **speed**: time of the public implementation divided by ours, side by side: above 1, ours is faster;\n"
        "- **export**: the axes of any size in its `.pt2` and ONNX files, which `python bench/exports.py` wrote and"
        " compared.",
    ]
    for task in dict.fromkeys(entry.task for entry in entries.values()):
        rows = [_row(name, entry, results) for name, entry in entries.items() if entry.task == task]
        head = ("system", "paper", "parameters", "public checkpoints", "difference", "score here", "speed", "export")
        parts += [f"## {task.capitalize()}", table(head, rows, right=(2,))]
    scores = [r for r in results if r.what not in NO_SCORES]
    others = [r for r in results if r.what in ("difference", "speed")]
    if scores:
        parts += ["## Scores, and how to get them again", _scores(scores)]
    if others:
        parts += ["## Comparisons, and how to get them again", _comparisons(others)]
    parts += ["## Names of files that were never compared", _unverified(entries)]
    parts += ["## Published weights", _weights(entries)]
    return "\n\n".join(parts) + "\n"


def _row(name: str, entry: Entry, results: Sequence[Result]) -> tuple[str, ...]:
    own = [r for r in results if r.system == name]
    differences = [r for r in own if r.what == "difference"]
    loads = [*(f"`{w.name}`" for w in entry.weights), *(r.detail("peer") for r in differences)]
    return (
        f"`{name}`",
        f"{entry.paper} ([page](systems/{_key(entry)}.md))",
        f"{entry.parameters:,}",
        "<br>".join(dict.fromkeys(loads)),
        f"{max(r.value for r in differences):.1e}" if differences else BLANK,
        "<br>".join(f"{r.score} {r.value:.3f} ({r.detail('data')})" for r in own if r.what not in NO_SCORES),
        "<br>".join(f"{r.value:.2f} x {r.detail('peer')}" for r in own if r.what == "speed"),
        "<br>".join(f"any {r.detail('any') or 'nothing'}" for r in own if r.what == "export"),
    )


def paper_pages(entries: Mapping[str, Entry], results: Sequence[Result]) -> dict[str, str]:
    """A page a paper, by its file's key: the preface, the data's path, its entries, what was measured of them."""
    files: dict[str, list[str]] = {}
    for name, entry in entries.items():
        files.setdefault(_key(entry), []).append(name)
    return {key: _paper(key, names, entries, results) for key, names in files.items()}


def _key(entry: Entry) -> str:
    """`segmentation-unet` of `sightline.segmentation.models.unet:unet`."""
    parts = entry.build.partition(":")[0].split(".")
    return f"{parts[1]}-{parts[-1]}"


def _paper(key: str, names: Sequence[str], entries: Mapping[str, Entry], results: Sequence[Result]) -> str:
    module = entries[names[0]].build.partition(":")[0]
    source = Path("src", *module.split(".")).with_suffix(".py")
    preface = ast.get_docstring(ast.parse((ROOT / source).read_text(encoding="utf-8"))) or ""
    title, _, rest = preface.partition("\n")
    parts = [
        f"# {title.rstrip('.')}",
        "<!-- Written by docs/make.py from the preface of the file, the catalogue and docs/results/. -->",
        rest.strip(),
        f"The code: [{source.as_posix()}](../../{source.as_posix()}).",
    ]
    if (ROOT / "docs" / "images" / "paths" / f"{key}.svg").is_file():
        parts += [
            "## The data's path",
            f"![What each part of the network puts out](../images/paths/{key}.svg)",
            "Boxes are as high as the map and as wide as its channels, on a scale of logarithms; drawn from the network"
            " by `python docs/paths.py`.",
        ]
    head = ("entry", "parameters", "public checkpoints", "difference", "score here", "speed", "export")
    rows = [_row(name, entries[name], results) for name in names]
    parts += ["## Entries", table(head, [(row[0], *row[2:]) for row in rows], right=(1,))]
    parts += ["What the columns mean, and how to get the numbers again: [systems.md](../systems.md)."]
    return "\n\n".join(parts) + "\n"


def _scores(results: Iterable[Result]) -> str:
    rows = [
        (
            f"`{r.system}`",
            f"{r.score} {r.value:.4f}",
            f"{r.detail('data')}, {r.detail('split')}",
            f"{r.detail('baseline')}: {r.detail('baseline_value')}" if r.detail("baseline") else BLANK,
            f"`{r.command}`",
            r.detail("seed"),
            r.detail("seconds"),
            f"{r.detail('machine')}, {r.date}",
        )
        for r in results
    ]
    return table(("system", "score", "on", "without a network", "command", "seed", "seconds", "measured"), rows)


def _comparisons(results: Iterable[Result]) -> str:
    rows = [
        (
            f"`{r.system}`",
            f"difference {r.value:.1e}" if r.what == "difference" else f"speed {r.value:.2f} x",
            r.detail("peer"),
            f"`{r.command}`",
            ", ".join(filter(None, (r.detail("machine"), r.date))),
        )
        for r in results
    ]
    return table(("system", "what", "public implementation", "command", "measured"), rows)


def _weights(entries: Mapping[str, Entry]) -> str:
    rows = [
        (
            f"`{w.name}`",
            f"`{name}`",
            w.trained_on,
            ", ".join(f"{score} {value:g}" for score, value in w.scores.items()),
            f"{w.megabytes:g} MB",
            w.licence,
        )
        for name, entry in entries.items()
        for w in entry.weights
    ]
    head = ("name", "system", "trained on", "published scores", "size", "licence")
    return "Scores are as their publishers print them, not measured here.\n\n" + table(head, rows, right=(4,))


def _unverified(entries: Mapping[str, Entry]) -> str:
    rows = [
        (found.words, f"`{found.origin}`", f"[page](systems/{key}.md)", "*unverified*")
        for key, module in dict.fromkeys((_key(e), e.build.partition(":")[0]) for e in entries.values())
        for found in getattr(import_module(module), "KEY_MAPS", ())
        if not found.verified
    ]
    words = "`load_weights` reads these files by names and shapes; no public network's answers were met through them."
    return words + "\n\n" + table(("file of", "layout", "system", ""), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table in Markdown; columns in `right` are set flush right."""
    lines = [head, ["---:" if k in right else "---" for k in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def between(text: str, new: str) -> str:
    """`text` with `new` between the two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the markers {BEGIN} and {END}")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def with_scores(text: str, results: Sequence[Result]) -> str:
    """`text` with a table between `<!-- scores: DATA ... -->` and `<!-- end -->`: all scores on those data."""

    def scored(place: re.Match[str]) -> str:
        data = place[1].split()
        rows = [r for r in results if r.what not in NO_SCORES and r.detail("data") in data]
        rows.sort(key=lambda r: (data.index(r.detail("data")), r.score, -r.value))
        cells = [
            (
                f"`{r.system}`",
                f"{r.score} {r.value:.3f}",
                f"{r.detail('baseline')}: {r.detail('baseline_value')}" if r.detail("baseline") else BLANK,
                f"{float(r.detail('seconds') or 0) / 60:.0f}",
                f"`{r.command}`",
            )
            for r in rows
        ]
        found = table(("system", "score", "without a network", "minutes", "command"), cells, right=(3,))
        return f"<!-- scores: {place[1]} -->\n\n{found if rows else 'Not measured yet.'}\n\n<!-- end -->"

    return re.sub(r"<!-- scores: (.*?) -->.*?<!-- end -->", scored, text, flags=re.S)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """What every generated file should hold."""
    entries, results = catalogue(), read_results(root / "docs" / "results")
    entries = {name: entry for name, entry in entries.items() if entry.build.startswith("sightline.")}
    readme, choose = root / "README.md", root / "docs" / "choose.md"
    return {
        readme: between(readme.read_text(encoding="utf-8"), readme_table(entries)),
        choose: with_scores(choose.read_text(encoding="utf-8"), results),
        root / "docs" / "systems.md": systems_page(entries, results),
        **{root / "docs" / "systems" / f"{key}.md": page for key, page in paper_pages(entries, results).items()},
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` only compare; 1 when something differs."""
    stale = [p for p, text in pages().items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date: run python docs/make.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        write_text(path, pages()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
