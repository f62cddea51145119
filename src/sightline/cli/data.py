"""`sightline data info|check|convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from sightline.cli.show import Json, Ticker, answer

app = App(name="data", help="Look at a data set, find its faults, write it in another format.", help_format="plaintext")

Format = Annotated[str | None, Parameter(help="the data set's format; recognised from the folder when open")]
Classes = Annotated[str | None, Parameter(help="names in the order of their ids, comma-separated, or a file of names")]
Colours = Annotated[Path | None, Parameter(help="for masks painted in colours: a CSV with name, r, g, b")]
Splits = Annotated[Path | None, Parameter(help="a JSON file: {split: [keys]}")]
Val = Annotated[str, Parameter(help="where the data has no val split: a share, a count, last(4) or first(4)")]
Kind = Annotated[str | None, Parameter(help="pixels or objects, for folders that can be read as either")]
Seed = Annotated[int, Parameter(help="of that split")]


def _plain(found: Any) -> dict[str, Any]:
    return found.as_json()


@app.command
def info(
    data: str,
    *,
    format: Format = None,
    classes: Classes = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = "0.2",
    seed: Seed = 0,
    kind: Kind = None,
    limit: Annotated[int, Parameter(help="count pixels of this many pictures at most")] = 200,
    json: Json = False,
) -> None:
    """Sizes, bit depths, classes and splits of a data set."""
    from sightline.verbs import data as verbs

    answer(
        lambda: verbs.info(
            data,
            format=format,
            classes=classes,
            colours=colours,
            splits=splits,
            val=val,
            seed=seed,
            limit=limit,
            kind=kind,
        ),
        as_json=json,
        to_json=_plain,
    )


@app.command
def check(
    data: str,
    *,
    out: Annotated[Path | None, Parameter(help="also write the list to this file (.json or lines)")] = None,
    format: Format = None,
    classes: Classes = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = "0.2",
    seed: Seed = 0,
    kind: Kind = None,
    json: Json = False,
) -> int:
    """Find every fault of a data set in one pass; the exit code is 1 when there are errors."""
    from sightline.verbs import data as verbs

    def work() -> Any:
        with Ticker() as tick:
            return verbs.check(
                data, out=out, format=format, classes=classes, colours=colours, splits=splits, val=val, seed=seed,
                kind=kind, progress=lambda done, total: tick(f"{done}/{total} pictures checked"),
            )  # fmt: skip

    return 1 if answer(work, as_json=json, to_json=_plain).errors else 0


@app.command
def convert(
    data: str,
    out: str,
    *,
    to: Annotated[str, Parameter(help="pairs, voc or coco; objects: voc, coco or yolo")] = "pairs",
    format: Format = None,
    classes: Classes = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = "0.2",
    seed: Seed = 0,
    kind: Kind = None,
    json: Json = False,
) -> None:
    """Write a data set to a new folder in another format; colour tables turn painted masks into ids."""
    from sightline.verbs import data as verbs

    answer(
        lambda: verbs.convert(
            data,
            out,
            to=to,
            format=format,
            classes=classes,
            colours=colours,
            splits=splits,
            val=val,
            seed=seed,
            kind=kind,
        ),
        as_json=json,
        to_json=_plain,
    )
