"""Curves as inline SVG: axes, ticks, hover titles; drawn for a page of 320 to 1280 pixels, no script, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 420, 250
RIGHT, TOP, BOTTOM = 14, 12, 38
LETTER = 7.3
"""Width of a digit of the style sheet's axis text."""
MOST_POINTS = 400
"""A line of more points is thinned to means of neighbours: what a page this wide can show."""


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y) in order; `kind` is main, faint or dots (a line with a mark at every point)."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "main"
    colour: int = 0  # index of the page's series colours


def chart(title: str, lines: Sequence[Line], *, x: str, low: float | None = None) -> str:
    """A chart as SVG text, or "" when no line has two finite points. `low`: where the y axis begins at the latest.

    The title and what the curves do are said in words for screen readers (`role="img"`, `<title>`, `<desc>`).
    """
    lines = [Line(line.name, _finite(line.points), line.kind, line.colour) for line in lines]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    xs = [p[0] for line in lines for p in line.points]
    if 0 < min(xs) < 0.34 * max(xs):
        xs.append(0.0)  # steps are counted from 0
    ys = [p[1] for line in lines for p in line.points] + ([] if low is None else [low])
    across, up = ticks(min(xs), max(xs), 5), ticks(min(ys), max(ys), 5)
    if all(value == int(value) for value in xs):
        across = [value for value in across if value == int(value)]  # there is no step 10.5
    left = 12 + LETTER * max(len(number(value)) for value in up)
    frame = _Frame(min(xs), max(xs), up[0], up[-1], left)
    said = "; ".join(f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>",
        *_axes(frame, across, up, x),
        *(part for line in lines for part in _curve(frame, line, x)),
        "</svg>",
    ]
    return "".join(parts)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (steps of 1, 2, 2.5 or 5 times a power of ten) that cover `low` to `high`, about so many.

    >>> ticks(0.03, 0.97, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        spread = abs(low) / 2 or 0.5
        low, high = low - spread, high + spread
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999) * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(k * step, digits) for k in range(first, last + 1)]


def smooth(points: Sequence[tuple[float, float]], share: float = 0.05) -> list[tuple[float, float]]:
    """Each value replaced by the mean of a centred window of that share of the points; the ends use what is there."""
    half = int(len(points) * share / 2)
    out = []
    for k, (x, _) in enumerate(points):
        reach = min(half, k, len(points) - 1 - k)
        window = points[k - reach : k + reach + 1]
        out.append((x, sum(y for _, y in window) / len(window)))
    return out


def number(value: float) -> str:
    """A tick's number: `12k` for 12000, no trailing zeros."""
    if value and abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}".replace("e-0", "e-")


@dataclass(frozen=True)
class _Frame:
    x0: float
    x1: float
    y0: float
    y1: float
    left: float

    def x(self, value: float) -> float:
        return self.left + (value - self.x0) / ((self.x1 - self.x0) or 1) * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def _axes(frame: _Frame, across: Sequence[float], up: Sequence[float], x: str) -> list[str]:
    bottom, left = HEIGHT - BOTTOM, round(frame.left, 1)
    parts = []
    for value in up:
        at = frame.y(value)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{left - 7:.1f}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in across:
        if frame.x0 <= value <= frame.x1:
            at = frame.x(value)
            anchor = "end" if at > WIDTH - RIGHT - 14 else "middle"
            parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{number(value)}</text>')
    parts.append(f'<path class="axis" d="M{left} {bottom}H{WIDTH - RIGHT}"/>')
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x)}</text>')
    return parts


def _curve(frame: _Frame, line: Line, x: str) -> list[str]:
    points = _thinned(line.points)
    path = "L".join(f"{frame.x(a):.1f} {frame.y(b):.1f}" for a, b in points)
    parts = [f'<path class="line {line.kind} s{line.colour}" d="M{path}"><title>{escape(line.name)}</title></path>']
    marks = points if line.kind == "dots" else []
    if line.kind == "main" and len(points) > 1:
        marks = [points[round(k * (len(points) - 1) / 24)] for k in range(25)] if len(points) > 25 else points
    kind, radius = ("dot", 4) if line.kind == "dots" else ("hover", 7)
    for a, b in marks:
        words = escape(f"{line.name}: {b:.4g} at {x} {number(a)}")
        where = f'cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="{radius}"'
        parts.append(f'<circle class="{kind} s{line.colour}" {where}><title>{words}</title></circle>')
    return parts


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MOST_POINTS:
        return list(points)
    edges = [round(k * len(points) / MOST_POINTS) for k in range(MOST_POINTS + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(a for a, _ in g) / len(g), sum(b for _, b in g) / len(g)) for g in groups]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in points if a is not None and b is not None and math.isfinite(b)]
