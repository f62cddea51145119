"""Showing answers: as text for people, or as exactly one JSON object on stdout for programs."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Json = Annotated[bool, Parameter(help="print one JSON object on stdout and nothing else", show_default=False)]


def answer(
    work: Callable[[], Any],
    *,
    as_json: bool,
    to_text: Callable[[Any], str] = str,
    to_json: Callable[[Any], Any] | None = None,
) -> Any:
    """Do the work, print what it answers, and return it.

    With `as_json`, whatever the work prints goes to stderr, and stdout gets one JSON object: `to_json` of the answer,
    its own `to_json()` by default. Of several processes that train together, the first one speaks.
    """
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = work()
    if os.environ.get("RANK", "0") != "0":
        return result
    if as_json:
        plain = to_json(result) if to_json else result.to_json()
        print(json.dumps(jsonable(plain), ensure_ascii=False, allow_nan=False))
    else:
        print(to_text(result))
    return result


def jsonable(value: Any) -> Any:
    """The value in JSON's own types: numbers that are not finite become null, paths and unknown things their text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        return jsonable(value.item())
    return value.as_posix() if isinstance(value, Path) else str(value)


def columns(rows: Iterable[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> str:
    """Rows of text in aligned columns; those whose index is in `right` are set flush right."""
    rows = list(rows)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = (f"{c:>{w}}" if k in right else f"{c:<{w}}" for k, (c, w) in enumerate(zip(row, widths)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Ticker:
    """Progress on stderr: one line that rewrites itself in a terminal, a plain line now and then elsewhere."""

    def __init__(self, *, every: float = 10.0):
        self.every = every
        self.live = sys.stderr.isatty()
        self.last = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show `text` as where the work stands."""
        now = time.monotonic()
        if self.live:
            print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)
        elif now - self.last >= self.every:
            print(text, file=sys.stderr, flush=True)
            self.last = now

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:  # the line was only for the time being
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
