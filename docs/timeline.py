"""Draw which frames of one video each sampling rule takes: `python docs/timeline.py` writes docs/images/clip-rules.svg.

`--check` only says whether the picture is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sightline.action.sampling import parse_rule
from sightline.files import write_text

FRAMES, FPS = 300, 30.0
RULES = ("linspace(8, 32)", "arange(8, 32)", "segments(8)", "dense(8, 64)")
VIEWS = 3
OUT = Path(__file__).with_name("images") / "clip-rules.svg"
LEFT, WIDTH, ROW, TOP = 190, 620, 16, 46
COLOURS = ("#c2410c", "#0369a1", "#4d7c0f")


def picture() -> str:
    """The drawing as SVG: a row a view, a mark a frame."""
    rows = [(rule, count, view) for rule in RULES for count in (1, VIEWS) for view in range(count)]
    height = TOP + ROW * len(rows) + 14 * len(RULES) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{LEFT + WIDTH + 30}" height="{height}" fill="white"/>',
        f'<text x="10" y="18">a video of {FRAMES} frames at {FPS:.0f} a second</text>',
    ]
    for second in range(0, FRAMES // int(FPS) + 1, 2):
        x = place(second * FPS)
        parts.append(f'<line x1="{x}" y1="34" x2="{x}" y2="{height - 8}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="30" text-anchor="middle" fill="#555">{second} s</text>')
    y = TOP
    for rule, count, view in rows:
        if view == 0:
            y += 7
            words = rule if count == 1 else f"{count} views"
            parts.append(f'<text x="10" y="{y + 11}" font-weight="{"bold" if count == 1 else "normal"}">{words}</text>')
        chosen = parse_rule(rule).views(FRAMES, count, fps=FPS)[view]
        colour = COLOURS[view]
        parts.append(f'<line x1="{LEFT}" y1="{y + 8}" x2="{LEFT + WIDTH}" y2="{y + 8}" stroke="#eee"/>')
        parts += [
            f'<rect x="{place(int(f)) - 1.5}" y="{y + 2}" width="3" height="12" fill="{colour}"/>' for f in chosen
        ]
        y += ROW
    return "\n".join([*parts, "</svg>"]) + "\n"


def place(frame: float) -> float:
    """Where a frame stands along the line."""
    return round(LEFT + WIDTH * frame / FRAMES, 1)


def main(arguments: list[str]) -> int:
    """Write the picture, or with `--check` compare it; 1 when it is not up to date."""
    if "--check" in arguments:
        return 0 if OUT.is_file() and OUT.read_text(encoding="utf-8") == picture() else 1
    write_text(OUT, picture())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
