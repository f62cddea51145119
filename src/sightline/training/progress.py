"""What a training looks like while it runs: a moving bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO


def duration(seconds: float) -> str:
    """`4 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def line(record: Mapping[str, Any], *, remaining: float | None = None) -> str:
    """One record of the log in words; `remaining` seconds are told when they are known."""
    if record["kind"] == "note":
        return str(record["text"])
    if record["kind"] == "val":
        scores = ", ".join(f"{name} {value:.4f}" for name, value in record["metrics"].items() if value is not None)
        return f"step {record['step']}: {scores}"
    if record["kind"] == "stage":
        parts = [f"{record['stage']} {record['done']}/{record['total']}"]
        parts += [f"{name} {value:.4g}" for name, value in record["numbers"].items()]
        return "  ".join(parts if remaining is None else [*parts, f"{duration(remaining)} left"])
    terms = record["terms"]
    parts = [f"step {record['step']}/{record['steps']}", f"loss {_number(record['loss'])}"]
    if len(terms) > 1:
        parts[1] += " (" + ", ".join(f"{name} {_number(value)}" for name, value in terms.items()) + ")"
    parts.append(f"{record['images_per_second']:.3g} images/s")
    if remaining is not None:
        parts.append(f"{duration(remaining)} left")
    if record.get("memory"):
        parts.append(f"{record['memory'] / 1e3:.1f} GB")
    if record.get("skipped"):
        parts.append(f"{record['skipped']} broken samples skipped")
    return "  ".join(parts)


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4f}"


class Remaining:
    """How long it still takes, from the steps of this sitting (a resumed run does not count its past)."""

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None

    def seconds(self, record: Mapping[str, Any]) -> float | None:
        """Seconds left after a `train` record; None with the first one, which starts the count."""
        step, now = record["step"], record["time"]
        if self.first is None or step <= self.first[0]:
            self.first = (step, now)
            return None
        pace = (now - self.first[1]) / (step - self.first[0])
        return pace * (record["steps"] - step)


class Progress:
    """Shows the records of a log; give it to `fit` as `log`.

        with Progress() as progress:
            fit(..., log=progress)

    On a terminal it draws a bar with `rich`; elsewhere it prints a line at most every `every` seconds, and every
    validation and note. It writes to stderr, so that stdout stays free for answers.
    """

    def __init__(self, *, stream: TextIO | None = None, every: float = 10.0, bar: bool | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.every = every
        self.bar = self.stream.isatty() if bar is None else bar
        self.remaining = Remaining()
        self.shown_at = float("-inf")
        self.drawn: Any = None  # rich's own, made with the first train record
        self.task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.drawn is not None:
            self.drawn.stop()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Show one record."""
        if record["kind"] == "stage":
            done, total = record["done"], record["total"]
        elif record["kind"] == "train":
            done, total = record["step"], record["steps"]
        else:
            self._print(line(record))
            return
        left = self.remaining.seconds({"step": done, "steps": total, "time": record["time"]})
        if self.bar:
            self._draw(done, total, line(record, remaining=left))
        last = done == total
        if not self.bar and (last or time.monotonic() - self.shown_at >= self.every):
            self.shown_at = time.monotonic()
            self._print(line(record, remaining=left))

    def _print(self, text: str) -> None:
        if self.drawn is not None:
            self.drawn.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def _draw(self, done: int, total: int, text: str) -> None:
        if self.drawn is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
            self.drawn = Progress(*columns, console=Console(file=self.stream))
            self.task = self.drawn.add_task("", total=total)
            self.drawn.start()
        self.drawn.update(self.task, completed=done, total=total, description=text)
