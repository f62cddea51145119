"""`sightline features`: what a network saw, as a table of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.cli.show import Json, answer


def features(
    run: str,
    source: Annotated[list[str], Parameter(help="files, folders, globs, videos")],
    *,
    out: Annotated[Path, Parameter(help="a file: .npy, .npz, .csv or .parquet")] = Path("features.npy"),
    layer: Annotated[
        str | None, Parameter(help="the module whose input is taken; the last classifier when open")
    ] = None,
    unit: Annotated[bool, Parameter(help="rows of length 1")] = False,
    views: Annotated[int | None, Parameter(help="clips of a video; as many as cover it when open")] = None,
    crops: Annotated[int | None, Parameter(help="crops of each picture or frame: 1, 3 or 10")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps")] = "auto",
    on_error: Annotated[Literal["stop", "skip"], Parameter(help="at a file that cannot be read")] = "stop",
    json: Json = False,
) -> None:
    """Write a row of features for every picture or video of the sources."""
    from sightline.verbs.features import features as verb

    skipped: dict[str, str] = {}

    def work() -> dict[str, Any]:
        found = verb(
            run, source[0] if len(source) == 1 else source, out=out, layer=layer, unit=unit, views=views, crops=crops,
            device=device, on_error=on_error, skipped=skipped,
        )  # fmt: skip
        samples, channels = found.values.shape
        return {"file": str(out), "samples": samples, "channels": channels, "layer": found.layer, "skipped": skipped}

    def text(found: dict[str, Any]) -> str:
        lines = [f"skipped: {reason}" for reason in skipped.values()]
        return "\n".join(
            [*lines, f"{found['file']}: {found['samples']} rows of {found['channels']} ({found['layer']})"]
        )

    answer(work, as_json=json, to_text=text, to_json=lambda found: found)
