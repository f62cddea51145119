"""`metrics.jsonl`: one JSON object a line, appended; after a resume it reads as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.files import write_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a log, oldest first. A line torn by a crash is left out; a missing file has no records."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class Journal:
    """Writes records to `metrics.jsonl` and hands each to `log`. Only process 0 does either."""

    def __init__(self, path: Path, log: Callable[[dict[str, Any]], None], *, main: bool, after: int | None) -> None:
        """`after`: keep the records up to this step and drop later ones; None: start an empty log."""
        self.path, self.log, self.main = path, log, main
        if main:
            kept = [r for r in read_metrics(path) if after is not None and r.get("step", 0) <= after]
            write_text(path, "".join(_line(r) for r in kept))

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and show it."""
        if not self.main:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_line(record))
        except OSError as error:
            raise SightlineError(f"cannot write {self.path}: {error.strerror}; free some space, then resume") from None
        self.log(record)

    def say(self, step: int, text: str) -> None:
        """Show a note without keeping it: about this process, not about the run (such as "resumed")."""
        if self.main:
            self.log({"kind": "note", "step": step, "text": text})

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        if self.main:
            with self.path.open("r+b") as stream:
                os.fsync(stream.fileno())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """NaN and infinity are not JSON: they are written as null."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
