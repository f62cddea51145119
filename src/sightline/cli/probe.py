"""`sightline probe`: a linear machine on what networks saw, or on what they answered."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from sightline.cli.show import Json, answer


def probe(
    run: str,
    data: Annotated[str, Parameter(help="pictures or clips by class")],
    *,
    also: Annotated[list[str] | None, Parameter(help="further runs, seen together with the first")] = None,
    of: Annotated[Literal["features", "answers"], Parameter(help="what the machine learns on")] = "features",
    layer: Annotated[
        str | None, Parameter(help="the module whose input are the features; the last classifier when open")
    ] = None,
    c: Annotated[float, Parameter(help="weight of the machine's errors")] = 1.0,
    split: Annotated[str | None, Parameter(help="what is scored: test where there is one, else val")] = None,
    val: Annotated[str | None, Parameter(help="how a split is made where the data gives none")] = None,
    seed: Annotated[int | None, Parameter(help="of that split")] = None,
    views: Annotated[int | None, Parameter(help="clips of a video; as many as cover it when open")] = None,
    crops: Annotated[int | None, Parameter(help="crops of each picture or frame: 1, 3 or 10")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps")] = "auto",
    json: Json = False,
) -> None:
    """Learn a linear machine (SVM) on features or answers of trained networks, and score it."""
    from sightline.verbs.probe import probe as verb

    answer(
        lambda: verb(
            [run, *(also or [])], data, of=of, layer=layer, c=c, split=split, val=val, seed=seed, views=views,
            crops=crops, device=device,
        ),
        as_json=json,
    )  # fmt: skip
