"""The verbs with few options: each function calls its verb and shows the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.cli.show import Json, Ticker, answer, columns
from sightline.cli.tokens import numbers

OnError = Annotated[Literal["stop", "skip"], Parameter(help="at a file that cannot be read: stop, or skip and say so")]
_TILE = "side of the tiles a picture is cut into, 0: never; when open: only pictures above 4 megapixels"
_OVERLAP = "share of a tile that neighbours have in common"
_FLIPS = "views that are averaged: none, h (mirrored) or hv (upside down too)"
_POLICY = "whose rules: mmseg, torchmetrics, monai, smp, nnunet or transunet; our own when open"
_LIMIT = "objects: answers a picture and class that count; as the run was scored when open"
_VIEWS = "clips of a video that are averaged; as many as cover it when open"
_CROPS = "crops of each picture or frame that are averaged: 1, 3 or 10"
_FUSE = "what is averaged: probabilities or logits"
_SAMPLES = "looks with dropout on, for a mean and its uncertainty (Bayesian SegNet); 0: one look without"
_SCALES = "sizes that are averaged, relative to the picture's own, such as 0.75,1,1.25"


def models(
    pattern: str | None = None,
    *,
    task: Annotated[str | None, Parameter(help="only the systems of this task, such as segmentation")] = None,
    json: Json = False,
) -> None:
    """List the systems: name, task, size, paper.

    PATTERN may hold * and ?; a plain word fits anywhere in the name.
    """
    from sightline.verbs import models as verbs

    def table(rows: list[verbs.ModelRow]) -> str:
        lines = [(row.name, row.task, f"{row.parameters / 1e6:.1f} M", row.paper) for row in rows]
        return columns(lines, right=(2,)) or f"no model fits '{pattern}'; `sightline models` lists all"

    answer(
        lambda: verbs.models(pattern, task=task),
        as_json=json,
        to_text=table,
        to_json=lambda rows: {"models": [row.to_json() for row in rows]},
    )


def info(model: str, *, json: Json = False) -> None:
    """Tell all about one system: paper, departures from it, values, weights."""
    from sightline.verbs import models as verbs

    answer(lambda: verbs.info(model), as_json=json)


def evaluate(
    run: str,
    data: str,
    *,
    split: Annotated[str | None, Parameter(help="train, val, test or all; test, else val, when open")] = None,
    format: Annotated[str | None, Parameter(help="the data set's format; recognised from the folder when open")] = None,
    val: Annotated[str | None, Parameter(help="what to score where the data has no split; as in training")] = None,
    seed: Annotated[int | None, Parameter(help="of that split; the run's own when open")] = None,
    tile: Annotated[int | None, Parameter(help=_TILE)] = None,
    overlap: Annotated[float, Parameter(help=_OVERLAP)] = 0.5,
    flips: Annotated[str, Parameter(help=_FLIPS)] = "none",
    scales: Annotated[str, Parameter(help=_SCALES)] = "1",
    views: Annotated[int | None, Parameter(help=_VIEWS)] = None,
    crops: Annotated[int | None, Parameter(help=_CROPS)] = None,
    fuse: Annotated[str | None, Parameter(help=_FUSE)] = None,
    samples: Annotated[int | None, Parameter(help=_SAMPLES)] = None,
    policy: Annotated[str | None, Parameter(help=_POLICY)] = None,
    metrics: Annotated[str, Parameter(help="scores that cost more, such as hd95,boundary_f1,v_rand,ece")] = "",
    limit: Annotated[int | None, Parameter(help=_LIMIT)] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps")] = "auto",
    on_error: OnError = "stop",
    json: Json = False,
) -> None:
    """Score a run on labelled data, every picture at its own size."""
    from sightline.verbs import evaluate as verbs

    def work() -> verbs.Evaluation:
        with Ticker() as tick:
            return verbs.evaluate(
                run, data, split=split, format=format, val=val, seed=seed, tile=tile, overlap=overlap, flips=flips,
                scales=numbers("scales", scales), views=views, crops=crops, fuse=fuse, samples=samples,
                policy=policy, metrics=metrics, limit=limit, device=device, on_error=on_error,
                progress=tick,
            )  # fmt: skip

    answer(work, as_json=json)


def predict(
    run: str,
    source: Annotated[list[str], Parameter(help="files, folders, globs, videos, or a camera's number")],
    *,
    out: Annotated[Path, Parameter(help="the folder for pictures and labels")] = Path("out"),
    tile: Annotated[int | None, Parameter(help=_TILE)] = None,
    overlap: Annotated[float, Parameter(help=_OVERLAP)] = 0.5,
    flips: Annotated[str, Parameter(help=_FLIPS)] = "none",
    scales: Annotated[str, Parameter(help=_SCALES)] = "1",
    views: Annotated[int | None, Parameter(help=_VIEWS)] = None,
    crops: Annotated[int | None, Parameter(help=_CROPS)] = None,
    fuse: Annotated[str | None, Parameter(help=_FUSE)] = None,
    samples: Annotated[int | None, Parameter(help=_SAMPLES)] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps")] = "auto",
    on_error: OnError = "stop",
    json: Json = False,
) -> None:
    """Answer for every picture of the sources; each answer is saved as it comes."""
    from sightline.verbs import predict as verbs

    skipped: dict[str, str] = {}

    def work() -> list[dict[str, Any]]:
        found = verbs.predict(
            run, source[0] if len(source) == 1 else source, out=out, tile=tile, overlap=overlap, flips=flips,
            scales=numbers("scales", scales), views=views, crops=crops, fuse=fuse, samples=samples,
            device=device, on_error=on_error, skipped=skipped,
        )  # fmt: skip
        done = []
        with Ticker() as tick:
            for one in found:
                done.append(one.to_dict())
                tick(f"{len(done)} {one.name}")
        return done

    def told(done: list[dict[str, Any]]) -> str:
        left_out = [f"skipped {name}: {reason}" for name, reason in skipped.items()]
        return "\n".join([*left_out, f"{len(done)} answers in {out}"])

    def as_object(done: list[dict[str, Any]]) -> dict[str, Any]:
        return {"run": run, "out": str(out), "answers": done, "skipped": skipped}

    answer(work, as_json=json, to_text=told, to_json=as_object)


def compare(
    runs: Annotated[list[str], Parameter(help="folders of runs, two or more; with data, exported files too")],
    *,
    data: Annotated[str | None, Parameter(help="score all of them anew on this data set")] = None,
    split: Annotated[str | None, Parameter(help="of that data: train, val, test or all")] = None,
    out: Annotated[Path, Parameter(help="the page to write")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Put finished runs side by side: a table here, curves and classes in a page."""
    from sightline.verbs import compare as verbs

    def told(found: verbs.Comparison) -> str:
        return f"{found}\n\nwrote {found.page}" if found.page else str(found)

    answer(lambda: verbs.compare(runs, data=data, split=split, out=out), as_json=json, to_text=told)


def export(
    run: str,
    file: Annotated[Path, Parameter(help="what to write; its suffix says the format: .onnx or .pt2")],
    *,
    json: Json = False,
) -> None:
    """Write a run as one file for other programs, and compare the file with the network at two sizes."""
    from sightline.verbs import export as verbs

    answer(lambda: verbs.export(run, file), as_json=json)


def doctor(*, json: Json = False) -> None:
    """Say what this machine has: versions, devices, codecs, extras, folders."""
    from sightline.verbs import doctor as verbs

    answer(verbs.doctor, as_json=json)


def init(
    file: Path = Path("sightline.yaml"),
    *,
    force: Annotated[bool, Parameter(help="write over a file that is there", show_default=False)] = False,
) -> None:
    """Write a commented configuration: every option of train, and what it does."""
    from sightline.verbs import init as verbs

    path = verbs.init(file, force=force)
    print(f"wrote {path}\nnext: fill in model and data, then\n  sightline train config={path}")


def demo(
    *,
    out: Annotated[Path, Parameter(help="the run's folder")] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Train, score and predict on bundled pictures in about a minute."""
    from sightline.verbs import demo as verbs

    answer(lambda: verbs.demo(out=out), as_json=json)
