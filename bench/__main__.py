"""`python -m bench [ROOM ...]`: measure, print the table, write it between the markers of bench/README.md."""

from __future__ import annotations

import sys
from datetime import date
from importlib import import_module
from pathlib import Path

from bench.harness import machine, markdown

from sightline.files import write_text

ROOMS = ("house", "segmentation", "windows", "detection", "objects", "volumes", "video", "clips")
BEGIN, END = "<!-- {room}: written by python -m bench {room} -->", "<!-- end of {room} -->"


def main(names: list[str]) -> int:
    """Measure the rooms called `names`, or all; 1 when a promise was missed."""
    missed = 0
    for room in names or ROOMS:
        rows = []
        for row in import_module(f"bench.{room}").rows():
            print(f"{row.what}: {row.ratio and round(row.ratio, 2)} ({row.verdict})", flush=True)
            rows.append(row)
        text = f"{date.today().isoformat()}. {machine()}.\n\n{markdown(rows)}"
        print(text)
        put(Path(__file__).with_name("README.md"), room, text)
        missed += sum(row.verdict == "missed" for row in rows)
    return 1 if missed else 0


def put(page: Path, room: str, text: str) -> None:
    """Replace what stands between the room's markers."""
    begin, end = BEGIN.format(room=room), END.format(room=room)
    old = page.read_text()
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2] if rest else "\n"
    write_text(page, f"{before.rstrip()}\n\n{begin}\n\n{text}\n{end}{after}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
