"""The verbs with few options: each function calls its verb and shows the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sightline.cli.show import answer, columns

Json = Annotated[bool, Parameter(help="print one JSON object on stdout and nothing else", show_default=False)]


def models(
    pattern: str | None = None,
    *,
    task: Annotated[str | None, Parameter(help="only the systems of this task, such as segmentation")] = None,
    json: Json = False,
) -> None:
    """List the systems: name, task, size, paper.

    PATTERN may hold * and ?; a plain word fits anywhere in the name: sightline models unet
    """
    from sightline.verbs import models as verbs

    rows = verbs.models(pattern, task=task)
    text = columns([(r.name, r.task, f"{r.parameters / 1e6:.1f} M", r.paper) for r in rows], right=(2,))
    nothing = f"no model fits '{pattern}'; `sightline models` lists all"
    answer(
        lambda: text or nothing,
        as_json=json,
        to_json=lambda _: {"models": [row.to_json() for row in rows]},
    )


def info(model: str, *, json: Json = False) -> None:
    """Tell all about one system: paper, departures from it, parameters, builder values, published weights."""
    from sightline.verbs import models as verbs

    answer(lambda: verbs.info(model), as_json=json)


def doctor(*, json: Json = False) -> None:
    """Say what this machine has: versions, devices, codecs, extras, folders."""
    from sightline.verbs import doctor as verbs

    answer(verbs.doctor, as_json=json)


def init(
    file: Path = Path("sightline.yaml"),
    *,
    force: Annotated[bool, Parameter(help="write over a file that is there", show_default=False)] = False,
) -> None:
    """Write a commented configuration with every option of train, its default and what it does."""
    from sightline.verbs import init as verbs

    path = verbs.init(file, force=force)
    print(f"wrote {path}\nnext: fill in model and data, then\n  sightline train config={path}")
