"""Answers for any source, one at a time: a file, a folder, a glob, arrays, a multi-page TIFF, a video, a camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, UsageError
from sightline.verbs.models import task_named

HUGE = 2**25
"""Pixels above which a TIFF is labelled in constant memory, from windows of the file to rows of a file."""


def predict(
    run: str | Path | Any,
    source: Any,
    *,
    out: str | Path | None = None,
    tile: int | None = None,
    overlap: float = 0.5,
    flips: str = "none",
    scales: Sequence[float] = (1.0,),
    views: int | None = None,
    crops: int | None = None,
    fuse: str | None = None,
    samples: int | None = None,
    device: str = "auto",
    on_error: str = "stop",
    skipped: dict[str, str] | None = None,
) -> Iterator[Any]:
    """Answer every picture of `source` at its own size, streaming: one picture is in memory at a time.

    run: a run's folder, or a loaded `(net, card)`. out: a folder; each answer is saved there as it comes.
    tile, overlap, flips, scales, views, crops, fuse, samples: see the room's procedure. on_error: `stop`, or `skip` and
    write the reason to `skipped`.
    """
    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error '{on_error}' is unknown; choose stop or skip")
    from sightline.media.sources import sources
    from sightline.training.device import choose_device
    from sightline.verbs.evaluate import example_of, procedure_of
    from sightline.verbs.load import load
    from sightline.verbs.optimize import ready

    net, card = run if isinstance(run, tuple) else load(run)
    task = task_named(card.task)
    further = {"views": views, "crops": crops, "fuse": fuse, "samples": samples}
    procedure = procedure_of(task, tile, overlap, flips, scales, further)
    net, _ = ready(net.to(choose_device(device)), card.preprocess.channels, example_of(task, card))
    if card.preprocess.axes == 3:
        from sightline.media.volume_sources import volume_sources

        found = volume_sources(source)
    else:
        found = iter((task.sources or sources)(source))
    return _answers(net, card, task, procedure, found, out, on_error, {} if skipped is None else skipped)


def _answers(net, card, task, procedure, found, out, on_error, skipped) -> Iterator[Any]:
    for item in found:
        try:
            how = {
                "preprocess": card.preprocess,
                "classes": card.classes,
                "colours": card.colours,
                "name": item.name,
                "procedure": procedure,
            }
            if out is not None and card.preprocess.axes == 2 and _is_huge(item):
                yield task.stream(net, item.path, Path(out) / f"{item.name}.tif", page=item.page, **how)
                continue
            answer = _on_the_ground(task.answer(net, item.read(), **how), item)
        except SightlineError as error:
            if on_error == "stop":
                raise
            skipped[item.name] = str(error)
            continue
        yield answer if out is None else replace(answer, files=answer.save(out))


def _on_the_ground(answer: Any, item: Any) -> Any:
    """The answer to a GeoTIFF with its place; any other as it is."""
    from sightline.media.geo import read_geo
    from sightline.media.image import without_data

    placed = getattr(answer, "placed", None)
    geo = None if placed is None or item.path is None else read_geo(item.path, page=item.page)
    if placed is None or geo is None or item.path is None:
        return answer
    return placed(geo, without_data(item.path, page=item.page))


def _is_huge(item: Any) -> bool:
    """Whether a picture is a TIFF that is read in windows instead of at once."""
    from sightline.media.image import image_size
    from sightline.media.tiff import is_tiff

    if item.path is None or item.path.is_dir() or not is_tiff(item.path):
        return False
    height, width = image_size(item.path, page=item.page)
    return height * width > HUGE
