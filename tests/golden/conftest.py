"""Says at the end of a run which golden cases are of systems that are not built yet."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the cases of the folder that no test ran, by room."""
    found = config.stash.get(CASES, None)
    if found is None:
        return
    known, unknown = found
    rooms: dict[str, list[str]] = defaultdict(list)
    for path in unknown:
        rooms[path.parent.name].append(path.stem)
    terminalreporter.section("golden cases")
    terminalreporter.line(f"{len(known)} known, {len(unknown)} of systems that are not built yet:")
    for room, names in sorted(rooms.items()):
        terminalreporter.line(f"  {room}: {', '.join(names)}")


CASES = pytest.StashKey[tuple[list[Path], list[Path]]]()


@pytest.fixture
def report_cases(request: pytest.FixtureRequest) -> Any:
    """Hand over (known, unknown) cases for the summary."""

    def keep(known: list[Path], unknown: list[Path]) -> None:
        request.config.stash[CASES] = (known, unknown)

    return keep
