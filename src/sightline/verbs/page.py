"""The parts of a page: its frame, cards, tables, charts in frames. Everything that comes from a file is escaped here.

A page is one file: styles and pictures inside, no script, nothing fetched. It reads at 320 pixels and on paper, by
keyboard and by ear: headings in order, tables with scopes and captions, wide ones scroll in a region of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Section:
    """One part of a page: its anchor, its heading, its HTML; an empty body leaves the section out."""

    anchor: str
    title: str
    body: str


def page(title: str, kind: str, lead: str, sections: Iterable[Section], footer: str) -> str:
    """A whole page. `title`, `kind`, `lead` and `footer` are text; the sections' bodies are HTML."""
    sections = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-h">\n'
        f'<h2 id="{s.anchor}-h">{escape(s.title)}</h2>{s.body}</section>\n'
        for s in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="sightline">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style()}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the scores</a>
<header>
<p class="kind">{escape(kind)}</p>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
<nav aria-label="Parts of this page"><ul>{links}</ul></nav>
</header>
<main id="main" tabindex="-1">
{body}</main>
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def style() -> str:
    """The style sheet of every page."""
    return files("sightline.verbs").joinpath("page.css").read_text(encoding="utf-8")


def cards(rows: Iterable[tuple[str, str, str]]) -> str:
    """(name, value, a word below it) as a row of cards, the first one set off."""
    cells = [
        f"<div{' class=first' if k == 0 else ''}><dt>{escape(name)}</dt><dd>{escape(value)}{_small(below)}</dd></div>"
        for k, (name, value, below) in enumerate(rows)
    ]
    return f'<dl class="cards">{"".join(cells)}</dl>' if cells else ""


def table(caption: str, head: Sequence[str], rows: Iterable[str], *, kind: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page; `head` and `rows` are cells in HTML."""
    rows = "".join(f"<tr>{row}</tr>" for row in rows)
    if not rows:
        return ""
    said = escape(caption)
    return (
        f'<figure class="tabled"><figcaption>{said}</figcaption>'
        f'<div class="scroll" role="region" aria-label="{said}" tabindex="0">'
        f'<table class="{kind}" aria-label="{said}">'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{rows}</tbody></table></div></figure>"
    )


def column(name: str, *, right: bool = False, turned: bool = False) -> str:
    """The head of a column; `turned`: its text stands upright, for many narrow columns."""
    text = f'<span class="turned">{escape(name)}</span>' if turned else escape(name)
    return f'<th scope="col"{" class=n" if right else ""}>{text}</th>'


def row_head(name: str, *, colour: Sequence[int] | None = None) -> str:
    """The head of a row, with a colour's swatch when it has one."""
    text = escape(name)
    if colour:
        red, green, blue = (int(c) for c in colour[:3])
        swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        text = f'<span class="keyed">{swatch}<span>{text}</span></span>'
    return f'<th scope="row" class="name">{text}</th>'


def cell(text: str, kind: str = "") -> str:
    """A cell of text."""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def best(text: str) -> str:
    """A cell with the best number of its row; those who do not see that it is set off hear it."""
    return f'<td class="n best">{escape(text)}<span class="heard"> (best)</span></td>'


def meter(value: float | None) -> str:
    """A cell with a bar for a share of 1; the number itself stands in the cell before it."""
    share = 0.0 if value is None or not math.isfinite(value) else min(max(value, 0.0), 1.0)
    return f'<td class="bar" aria-hidden="true"><span class="meter"><i style="width:{share:.1%}"></i></span></td>'


def figure(title: str, chart: str, legend: Sequence[tuple[str, int]] = ()) -> str:
    """A chart in a frame, with a legend of (name, series) when it has more than one curve."""
    if not chart:
        return ""
    keys = "".join(f'<li><span class="key s{series}"></span>{escape(name)}</li>' for name, series in legend)
    keys = f'<ul class="legend">{keys}</ul>' if len(legend) > 1 else ""
    return f"<figure><h3>{escape(title)}</h3>{chart}{keys}</figure>"


def facts(rows: Mapping[str, Any]) -> str:
    """Names and values, two columns."""
    lines = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in rows.items())
    return f'<dl class="facts">{lines}</dl>' if lines else ""


def commands(lines: Iterable[str]) -> str:
    """Commands to type."""
    text = escape("\n".join(lines))
    return f'<pre tabindex="0"><code>{text}</code></pre>' if text else ""


def bullets(lines: Iterable[str]) -> str:
    """Sentences as a list."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def folded(summary: str, body: str) -> str:
    """A part that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>" if body else ""


def score(value: float | None) -> str:
    """A number of a report: 4 digits for shares, thousands apart for counts, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def words(name: str) -> str:
    """A metric's name for people: `dataset_miou` -> `dataset mIoU`."""
    special = {"miou": "mIoU", "iou": "IoU", "map": "mAP", "ap": "AP", "dice": "Dice", "lr": "learning rate"}
    return " ".join(special.get(part, part) for part in name.split("_"))


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """`75` -> `1 min 15 s`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest and minutes < 10 else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def _small(text: str) -> str:
    return f'<span class="small">{escape(text)}</span>' if text else ""
