"""Side by side: both sides in one process, answers compared first, interleaved repeats, medians and spread.

A row is a ratio, never one absolute time: this machine's clock is worth little to another. What is compared, on how
many threads and on which machine stands beside it.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One measured comparison. ratio: peer's time over ours (above 1: we are faster); spread: of the ratio."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    spread: str
    difference: str  # of the answers, or what was checked
    bar: str  # the promise, "" where the row only reports
    threads: int
    note: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or `reported` where nothing was promised."""
        if not self.bar or self.ratio is None:
            return "reported" if self.ratio is not None else "n/a"
        return "met" if self.ratio >= float(self.bar) else "missed"


def race(
    what: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    names: tuple[str, str],
    difference: str,
    bar: str = "",
    repeats: int = 7,
    warm: bool = False,
    note: str = "",
) -> Row:
    """Time both sides in turns. The caller has compared their answers and says how in `difference`.

    warm: both sides have run before; otherwise a first turn does not count.
    """
    pairs = []
    for turn in range(int(warm), repeats + 1):
        begun = time.perf_counter()
        ours()
        between = time.perf_counter()
        peer()
        end = time.perf_counter()
        if turn:
            pairs.append((between - begun, end - between))
    ratios = sorted(b / a for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs))
    return Row(
        what=what,
        ours=f"{names[0]}: {_seconds(a)}",
        peer=f"{names[1]}: {_seconds(b)}",
        ratio=statistics.median(ratios),
        spread=f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        difference=difference,
        bar=bar,
        threads=torch.get_num_threads(),
        note=note,
    )


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest |difference| relative to the largest |value|."""
    return float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1e-12))


def machine() -> str:
    """The machine in one line, without names of people or folders."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = found[0] if found else model
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {device}; {platform.system()}; {versions}"


def markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    head = "| what | ours | peer | ratio | spread | promised | | answers | threads |\n" + "|---" * 9 + "|\n"
    lines = [
        f"| {r.what} | {r.ours} | {r.peer} | {f'{r.ratio:.2f}' if r.ratio is not None else 'n/a'} | {r.spread} | "
        f"{r.bar or '-'} | {r.verdict} | {r.difference}{f'; {r.note}' if r.note else ''} | {r.threads} |"
        for r in rows
    ]
    return head + "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
