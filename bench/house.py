"""What the house itself promises: how fast it starts, and how much memory a huge picture takes."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from bench.harness import Row


def rows() -> Iterator[Row]:
    """Every promise of this file."""
    yield from starting()
    yield from memory()


def starting() -> Iterator[Row]:
    """Seconds from nothing to an answer, each a fresh process; the time of Python itself is told beside it."""
    cases = (
        ("import sightline", ["-c", "import sightline"], 0.1),
        ("sightline --help", ["-m", "sightline", "--help"], 0.5),
        ("sightline models", ["-m", "sightline", "models"], 0.5),
    )
    bare = _seconds(["-c", "pass"])
    for what, arguments, limit in cases:
        found = _seconds(arguments)
        counted = found - bare if what.startswith("import") else found
        yield Row(
            what,
            f"{found:.2f} s",
            f"python -c pass: {bare:.2f} s",
            limit / max(counted, 1e-3),
            "median of 7",
            f"under {limit} s" + (" beyond Python's own start" if counted != found else ""),
            "1",
            1,
        )


def memory() -> Iterator[Row]:
    """Peak memory of labelling a tiled TIFF of 12,000 x 12,000 against one of 4,000 x 4,000."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = {side: _peak(Path(folder), side) for side in (4000, 12000)}
    growth = peaks[12000] - peaks[4000]
    yield Row(
        "peak memory: tiled TIFF of 12,000 x 12,000 against 4,000 x 4,000, tiny U-Net of 2 classes",
        f"{peaks[12000]:.0f} MB",
        f"{peaks[4000]:.0f} MB",
        150 / max(growth, 1.0),
        "-",
        f"grows by {growth:.0f} MB, promised below 150 MB",
        "1",
        torch.get_num_threads(),
    )


def _seconds(arguments: list[str]) -> float:
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _peak(folder: Path, side: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.huge", str(folder), str(side)], check=True, capture_output=True, text=True
    )
    found = re.search(r"peak ([0-9.]+) MB", done.stdout)
    assert found, done.stdout
    return float(found[1])
