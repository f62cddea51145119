"""Training: a name and a folder in; a run folder with a scored network, its history and a page out."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import __version__
from sightline.contracts import Choice, Entry, Machine, Preprocess, Task
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.verbs.models import builder_of, create, defaults_of, entry_of, name_of, task_named, task_of

if TYPE_CHECKING:
    from torch import nn

    from sightline.datasets.records import DataSet
    from sightline.training.plan import Plan
    from sightline.verbs.evaluate import Evaluation

SHOWN = 6
"""Worst pictures that are kept for looking."""

ABOUT_PICTURES = ("intensity", "resize", "clip")
"""Choices of a room that concern systems without a loop too."""

WORKER = "SIGHTLINE_RUN"
"""How the processes that train together are told the run's folder."""


@dataclass(frozen=True)
class Run:
    """What training made: where it is, how it ended, the scores of its best state."""

    folder: Path
    stopped: str  # done, patience, interrupted, or planned (a dry run)
    step: int  # of a system that learns in stages: the stages
    steps: int
    metrics: dict[str, float]
    choices: dict[str, Choice]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "run": str(self.folder),
            "stopped": self.stopped,
            "step": self.step,
            "steps": self.steps,
            "metrics": self.metrics,
            "choices": {name: asdict(choice) for name, choice in self.choices.items()},
            "report": str(self.folder / "report.html"),
        }

    def __str__(self) -> str:
        if self.stopped == "planned":
            return describe(self.choices)
        scores = ", ".join(f"{k} {v:.4f}" for k, v in self.metrics.items())
        unit = "stages" if (self.folder / "stages").is_dir() else "steps"
        lines = [f"{self.folder}: {self.step} of {self.steps} {unit} ({self.stopped}). {scores}"]
        following = self.folder / "next.txt"
        if following.is_file():
            lines += ["", "Next:", *(f"  {line}" for line in following.read_text().splitlines())]
        return "\n".join(lines)


@dataclass(frozen=True)
class Setup:
    """All decisions of a run, resolved; stored as `config.json` and enough to start or continue it."""

    model: str
    data: str
    arguments: dict[str, Any]  # builder values
    preprocess: Preprocess
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    choices: dict[str, Choice]
    opened: dict[str, Any]  # how the data set was opened
    training: dict[str, Any]  # values of the training plan; of a system that learns in stages also their `options`
    seed: int
    split: dict[str, int]  # how many records each split has
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> Any:
        """The value of an option, None when it was not chosen."""
        return self.choices[name].value if name in self.choices else None


def train(
    model: str | Entry | None = None,
    data: str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    format: str | None = None,
    classes: Sequence[str] | str | None = None,
    val: float | str | None = None,
    resize: str | None = None,
    intensity: str | None = None,
    clip: str | None = None,
    size: int | Sequence[int] | None = None,
    augment: str | None = None,
    batch: int | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    loss: str | None = None,
    class_weights: str | Sequence[float] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    workers: int | None = None,
    precision: str | None = None,
    on_error: str = "stop",
    model_values: Mapping[str, Any] | None = None,
    train_values: Mapping[str, Any] | None = None,
    augment_values: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] | None = None,
    log: Callable[[Mapping[str, Any]], None] | None = None,
) -> Run:
    """Train `model` on `data`; what is left open is chosen from data and machine, with the reason.

    model: a name of `models()`, or an `Entry` of your own (which a resume needs again).
    model_values: values of the network's builder (`width`, ...). train_values: values of `training.plan.Plan`, or the
    options of a system that learns in stages.
    augment_values: values of the room's augmentation. limit: answers a picture and class that are scored, of objects.
    resume: a run's folder; all but `steps` then comes from it.
    dry_run: choose, say why, and stop before the first step. say: gets every decision in words; None is silent.
    log: gets every record of `metrics.jsonl`; None: a bar with an estimate on stderr, unless `say` is None.

    Raises `UsageError` for a wrong option and `SightlineError` when data or machine fail; a run that was stopped
    resumes to the same numbers.
    """
    from sightline.training.launch import launched, rank, relaunch

    given = {
        "backbone": backbone, "weights": weights, "resize": resize, "intensity": intensity, "clip": clip, "size": size,
        "augment": augment, "batch": batch, "steps": steps, "epochs": epochs, "lr": lr, "loss": loss,
        "class_weights": class_weights, "limit": limit,
        "workers": workers, "precision": precision,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    worker = launched() and WORKER in os.environ
    if resume is not None and not worker:
        told = given | {"run": run, "data": data, "format": format, "classes": classes, "val": val}
        told |= {"model_values": model_values, "train_values": train_values, "augment_values": augment_values}
        _only_steps({name for name, value in told.items() if value})
    if worker:
        resume = os.environ[WORKER]
    if resume is not None:
        folder = Path(resume)
        setup = read_setup(folder)
        if steps is not None:
            if "options" in setup.training:
                raise UsageError(f"steps={steps}: {folder} learns in stages, whose options stay; leave steps out")
            setup = replace(setup, training=setup.training | {"steps": steps})
    else:
        if model is None or data is None:
            raise UsageError("train needs a model and a data set: sightline train unet DATA (or resume=RUN)")
        opened = {"format": format, "classes": classes, "val": 0.2 if val is None else val, "seed": seed}
        setup = choose(
            model, data, given, opened, seed=seed, device=device,
            machines=(devices, nodes), on_error=on_error, model_values=model_values or {},
            train_values=train_values or {}, augment_values=augment_values or {},
        )  # fmt: skip
        folder = Path(run) if run is not None else free_folder(model, data)
    entry = model if isinstance(model, Entry) else entry_of(setup.model)
    if rank() != 0:
        say = log = None
    if entry.fit is None:
        plan_of(setup)
    net, loaded = network(setup, entry)  # wrong values are refused before anything is said or written
    if resume is None and not dry_run:
        if (folder / "config.json").exists():
            raise UsageError(f"{folder} holds a run already; continue it with resume={folder}, or choose another run=")
        write_setup(folder, setup, entry)
    if say:
        for words in (*setup.notes, describe(setup.choices), loaded):
            if words:
                say(words)
    if dry_run:
        return Run(folder, "planned", 0, setup.training["steps"], {}, setup.choices)
    if setup.training["devices"] * setup.training["nodes"] > 1 and not launched():
        del net  # the processes build their own
        os.environ[WORKER] = str(folder.resolve())
        relaunch(setup.training["devices"], setup.training["nodes"])
    if entry.fit is not None:
        from sightline.verbs.stages import carry_out as way
    else:
        way = carry_out
    try:
        return way(setup, folder, entry, net, resume=resume is not None, say=say, log=log)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; go on with: sightline train resume={folder}") from None


def _only_steps(told: set[str]) -> None:
    """Refuse options beside `resume` that would be ignored."""
    ignored = sorted(told - {"steps"})
    if ignored:
        raise UsageError(
            f"resume takes every option but steps from the run itself; leave {', '.join(ignored)} out, "
            "or start a new run without resume"
        )


def choose(
    model: str | Entry,
    data: str | Path,
    given: Mapping[str, Any],
    opened: Mapping[str, Any],
    *,
    seed: int,
    device: str,
    machines: tuple[int, int],
    on_error: str,
    model_values: Mapping[str, Any],
    train_values: Mapping[str, Any],
    augment_values: Mapping[str, Any],
) -> Setup:
    """Resolve every option: the user's own, then the room's choices from data and machine, then defaults."""
    from sightline.datasets.open import open_dataset
    from sightline.datasets.stats import stats
    from sightline.media.prepare import check
    from sightline.training.device import choose_device

    for name in ("batch", "epochs"):
        if name in given and not given[name] > 0:
            raise UsageError(f"{name}={given[name]}: expected a number above 0")
    entry = entry_of(model)
    task = task_of(entry)
    known = defaults_of(builder_of(entry))
    ours = dict(model_values) | {k: given[k] for k in ("backbone",) if k in given}
    for name in ours:
        if name not in known:
            raise UsageError(
                f"{name_of(model)} has no value '{name}'; it takes {', '.join(known)}.{did_you_mean(name, known)}"
            )
    if task.kind != "pixels":
        opened = {**opened, "kind": task.kind}
    options = _stage_options(model, entry, given, train_values, augment_values, machines, on_error)
    found = open_dataset(data, **opened)
    part = found.split("train")
    if not part.records:
        raise SightlineError(f"{data} has no pictures to train on; its splits are {', '.join(found.splits) or 'none'}")
    _check_axes(name_of(model), entry.preprocess.axes, part)
    kind = choose_device(device).type
    unread: dict[str, str] = {}
    looked = (task.stats or stats)(part, seed=seed, skipped=unread if on_error == "skip" else None)
    open_values = known | ours | dict(given) | {"builder": known | ours, "entry": entry.preprocess, "own": set(ours)}
    open_values["asked"] = given.get("size")
    choices = task.plan(looked, open_values, machine_here(kind))
    if "class_weights" in given and "class_weights" not in choices:
        raise UsageError(f"class_weights is no choice of {task.name}; leave it out")
    if "limit" in given:
        from inspect import signature as signature_of

        if "limit" not in signature_of(task.metric).parameters:
            raise UsageError(f"limit is no choice of {task.name}; leave it out")
    if options is not None:
        told = {**given, **train_values}
        choices = {name: c for name, c in choices.items() if name.startswith("model.") or name in ABOUT_PICTURES}
        choices |= {name: Choice(v, "as asked" if name in told else "the system's own") for name, v in options.items()}
    resolved = ("epochs", "class_weights")
    choices |= {name: Choice(value, "as asked") for name, value in given.items() if name not in resolved}
    choices |= {f"model.{name}": Choice(value, "as asked") for name, value in ours.items()}
    if found.facts.get("multilabel"):
        choices["multilabel"] = Choice(True, "each class has masks of its own: a yes or no for every one")
    if "size" in given:
        size = given["size"]
        sides = [size] * entry.preprocess.axes if isinstance(size, int) else list(size)
        if len(sides) != entry.preprocess.axes:
            words = "a height and a width" if entry.preprocess.axes == 2 else "a depth, a height and a width"
            raise UsageError(f"size={size} must be {words} in pixels, or one side for all")
        choices["size"] = Choice(sides, "as asked")
    if "epochs" in given and "steps" not in given and options is None:
        count = max(1, round(given["epochs"] * len(part.records) / choices["batch"].value))
        choices["steps"] = Choice(count, f"{given['epochs']} passes over {len(part.records)} pictures")
    arguments = {k.removeprefix("model."): c.value for k, c in choices.items() if k.startswith("model.")}
    arguments["num_classes"] = len(found.classes)
    if "unpadded" in entry.traits and "size" not in given and options is None:
        choices["size"] = _with_margin(entry, arguments, choices["size"].value)
    preprocess = replace(
        entry.preprocess,
        intensity=choices["intensity"].value,
        resize=choices["resize"].value,
        channels=arguments.get("in_channels", entry.preprocess.channels),
        tile=tuple(choices["size"].value) if entry.preprocess.axes == 3 else entry.preprocess.tile,
        clip=choices["clip"].value if "clip" in choices else entry.preprocess.clip,
    )
    check(preprocess)
    if options is None:
        training = _plan_values(choices, given, machines, kind, on_error) | dict(train_values)
        task.augment(choices["augment"].value, choices["size"].value, augment_values)  # refuses a wrong value now
    else:
        from sightline.verbs.stages import stages_of

        training = {"options": options, "steps": len(stages_of(entry, part, preprocess, seed, options))}
        training |= {"devices": 1, "nodes": 1, "on_error": on_error}
    training = {"seed": seed, "device": device, "monitor": task.monitor} | training
    extra = {f"augment.{k}": Choice(v, "as asked") for k, v in augment_values.items()}
    return Setup(
        model=name_of(model),
        data=str(Path(data)),
        arguments=arguments,
        preprocess=preprocess,
        classes=found.classes,
        colours=found.colours,
        choices=choices | extra,
        opened=dict(opened),
        training=training,
        seed=seed,
        split={name: len(found.split(name).records) for name in found.splits},
        notes=(*found.notes, *(f"skipped: {text}" for text in unread.values())),
    )


def _plan_values(
    choices: Mapping[str, Choice], given: Mapping[str, Any], machines: tuple[int, int], kind: str, on_error: str
) -> dict[str, Any]:
    """The values of the training plan that follow from the choices and the machine."""
    steps = choices["steps"].value
    return {
        "steps": steps,
        "batch_size": max(1, choices["batch"].value // max(1, machines[0] * machines[1])),
        "lr": choices["lr"].value,
        "schedule": "cosine",
        "warmup": min(100, steps // 10),
        "clip": 1.0,
        "ema": 0.0 if steps < 200 else 0.99 if steps < 2000 else 0.999,
        "precision": given.get("precision", "fp32" if kind == "cpu" else "auto"),
        "validate_every": max(1, steps // 5),
        "workers": given.get("workers", 0 if kind == "cpu" else min(8, os.cpu_count() or 1)),
        "devices": machines[0],
        "nodes": machines[1],
        "distribution": "ddp" if machines[0] * machines[1] > 1 else "none",
        "on_error": on_error,
    }


def _stage_options(
    model: str | Entry,
    entry: Entry,
    given: Mapping[str, Any],
    train_values: Mapping[str, Any],
    augment_values: Mapping[str, Any],
    machines: tuple[int, int],
    on_error: str,
) -> dict[str, Any] | None:
    """The options of a system that learns in stages, checked; None of all others."""
    if entry.fit is None:
        return None
    from sightline.verbs.stages import options_of

    if machines != (1, 1) or on_error != "stop":
        raise UsageError(
            f"{name_of(model)} learns in stages, in one process and from every picture; leave devices, nodes and "
            "on_error out"
        )
    return options_of(model, entry, given, train_values, augment_values)


def _with_margin(entry: Entry, arguments: Mapping[str, Any], size: Sequence[int]) -> Choice:
    """The crop of an unpadded network: what it answers is half as wide as another network's crop would be."""
    import torch

    with torch.device("meta"):
        net: Any = create(entry, **arguments)
    sides = [net.legal_size(max(1, side // 2)) for side in size]
    answered = " x ".join(str(side - 2 * net.margin) for side in sides)
    return Choice(sides, f"this network answers {answered} of it: it loses {net.margin} on every side")


def _check_axes(model: str, axes: int, part: DataSet) -> None:
    """Refuse volumes for a network of pictures and the other way round."""
    from sightline.datasets.records import VolumeRecord

    volumes = isinstance(part.records[0], VolumeRecord)
    if volumes and axes == 2:
        raise UsageError(f"{part.root} holds volumes and {model} reads pictures; choose a network of volumes: unet3d")
    if axes == 3 and not volumes:
        raise UsageError(
            f"{part.root} holds pictures and {model} reads volumes; choose a network of pictures such as unet, or say "
            "format=volumes where each file is a stack"
        )


def network(setup: Setup, entry: Entry) -> tuple[nn.Module, str]:
    """The network as it starts, with the loss it learns by, and what was loaded into it, in words."""
    import torch

    torch.manual_seed(setup.seed)
    net, loaded = create(entry, **setup.arguments), ""
    if setup.value("weights") is not None:
        from sightline.verbs.load import load_weights

        loaded = str(load_weights(net, setup.value("weights")))
    weights = setup.value("class_weights")
    task_of(entry).configure(net, loss=setup.value("loss"), class_weights=weights, **multilabel(setup))
    return net, loaded


def multilabel(setup: Setup) -> dict[str, Any]:
    """What the room is told besides when classes may overlap; nothing otherwise."""
    return {"multilabel": True} if setup.value("multilabel") else {}


def scored(setup: Setup) -> dict[str, Any]:
    """What the room's scores are told besides: that classes may overlap, how many answers count; mostly nothing."""
    limit = setup.value("limit")
    return multilabel(setup) | ({} if limit is None else {"limit": limit})


def carry_out(
    setup: Setup,
    folder: Path,
    entry: Entry,
    net: nn.Module,
    *,
    resume: bool,
    say: Callable[[str], None] | None,
    log: Callable[[Mapping[str, Any]], None] | None,
) -> Run:
    """Train the network, score its best state, draw its worst pictures, write the page."""
    from sightline.datasets.open import open_dataset
    from sightline.training.fit import fit
    from sightline.training.launch import rank, settling
    from sightline.training.progress import Progress

    task = task_of(entry)
    with settling(), ExitStack() as stack:
        data = open_dataset(setup.data, **setup.opened)
        augment = task.augment(setup.value("augment"), setup.value("size"), _family(setup, "augment"))
        learn, held_out = data.split("train"), data.split("val")
        samples = task.samples(
            learn, preprocess=setup.preprocess, seed=setup.seed, augment=augment, keep=fits_in_memory(learn)
        )
        plan = plan_of(setup)
        if rank() == 0:
            write_cards(folder, setup, entry, {})
        history = fit(
            net,
            samples,
            collate=task.collate,
            plan=plan,
            run=folder,
            validate=_validator(task, held_out, setup) if held_out.records else None,
            log=log or (stack.enter_context(Progress()) if say else lambda record: None),
            resume=resume,
        )
    metrics = dict(history.metrics)
    if rank() == 0 and history.stopped != "interrupted":
        skipped = {learn.records[int(index)].key: text for index, text in history.skipped.items()}
        best = finish(folder, setup, entry, data, skipped)
        write_cards(folder, setup, entry, {"best": best, "last": metrics})
        metrics = best or metrics
    return Run(folder, history.stopped, history.step, plan.steps, metrics, setup.choices)


def finish(folder: Path, setup: Setup, entry: Entry, data: DataSet, skipped: Mapping[str, str]) -> dict[str, float]:
    """What is looked at when training is over: scores, worst pictures, the next commands, the page."""
    from sightline.verbs.report import write_report

    metrics = {}
    if data.split("val").records:
        metrics = show_worst(folder, setup, entry, data, skipped).metrics
    write_text(folder / "next.txt", "\n".join(next_commands(folder, setup)) + "\n")
    write_report(folder)
    return metrics


def _family(setup: Setup, name: str) -> dict[str, Any]:
    """The single values of one family: `augment.rotate` as `rotate`."""
    return {k.removeprefix(f"{name}."): c.value for k, c in setup.choices.items() if k.startswith(f"{name}.")}


def plan_of(setup: Setup) -> Plan:
    """The training plan of the stored values. Raises `UsageError` for an unknown or wrong one."""
    from dataclasses import fields

    from sightline.training.plan import Plan

    known = [f.name for f in fields(Plan)]
    for name in setup.training:
        if name not in known:
            raise UsageError(f"train has no value '{name}'; it takes {', '.join(known)}.{did_you_mean(name, known)}")
    return Plan(**setup.training)


def _validator(task: Task, part: DataSet, setup: Setup) -> Callable[[nn.Module], dict[str, Any]]:
    """Scores the held-out pictures at their own size (of a video one clip); `fit` calls it now and then.

    Networks of objects say their losses on those pictures besides.
    """

    procedure = task.procedure(**({"views": 1} if task.kind == "clips" else {}))

    def validate(net: nn.Module) -> dict[str, Any]:
        metric = task.metric(setup.classes, **scored(setup))
        for record in part.records:
            if record.labels is not None:
                with suppress(SightlineError) if setup.training["on_error"] == "skip" else nullcontext():
                    task.score(
                        net, record, metric, preprocess=setup.preprocess, classes=setup.classes, procedure=procedure
                    )
        report = metric.compute()
        return {"metrics": report.metrics | losses(net), "per_class": report.per_class}

    def losses(net: nn.Module) -> dict[str, float]:
        from sightline.training.held_out import held_out_losses

        records = tuple(record for record in part.records if record.labels is not None)
        if task.kind != "objects" or not records or setup.training["on_error"] == "skip":
            return {}
        samples = task.samples(replace(part, records=records), preprocess=setup.preprocess, seed=setup.seed)
        return held_out_losses(net, samples, task.collate, batch_size=setup.training["batch_size"])

    return validate


def show_worst(folder: Path, setup: Setup, entry: Entry, data: DataSet, skipped: Mapping[str, str]) -> Evaluation:
    """Score the best state on the validation pictures, keep the numbers, and draw the worst answers."""
    from sightline.verbs.evaluate import evaluate
    from sightline.verbs.load import load

    net, card = load(folder, entry=entry)
    on_error = setup.training["on_error"]
    found = evaluate((net, card), data, split="val", device=setup.training["device"], on_error=on_error)
    found = replace(found, skipped=dict(found.skipped) | dict(skipped))
    write_text(folder / "evaluation.json", json.dumps(found.to_json(), indent=1))
    draw_worst(folder, net, card, data, found.worst[:SHOWN])
    return found


def draw_worst(folder: Path, net: nn.Module, card: Any, data: DataSet, keys: Sequence[str]) -> None:
    """`samples/worst-N.jpg`: picture, truth and answer of the pictures called `keys`."""
    from sightline.media.image import write_image

    task = task_named(card.task)
    records = {record.key: record for record in data.records}
    for place, key in enumerate(keys, start=1):
        record = records[key]
        metric = task.metric(card.classes)
        found = task.score(
            net, record, metric, preprocess=card.preprocess, classes=card.classes, procedure=task.procedure()
        )
        write_image(
            folder / "samples" / f"worst-{place}.jpg", task.panel(record, found, card.colours, len(card.classes))
        )


def fits_in_memory(data: DataSet, limit: float = 1e9) -> bool:
    """Whether the decoded pictures and labels stay below `limit` bytes, judged by the first few."""
    from sightline.datasets.read import size_of

    records = data.records[:: max(1, len(data.records) // 8)]
    sizes = []
    for record in records:
        with suppress(SightlineError):  # whoever reads the pictures decides about broken ones
            size = size_of(record)
            sizes.append(prod(size) * (4 if len(size) == 2 else 5))  # volumes are held as float32, labels beside them
    each = max(sizes, default=0)
    return each * len(data.records) < limit


def machine_here(device: str) -> Machine:
    """The machine as the automatic choices see it."""
    return Machine(device=device, cores=os.cpu_count() or 1)


def free_folder(model: str | Entry, data: str | Path) -> Path:
    """`runs/MODEL-DATA` in the current folder, with -2, -3 ... when it is taken."""
    stem = f"{name_of(model)}-{Path(data).resolve().name}"
    count = 1
    while (folder := Path("runs") / (stem if count == 1 else f"{stem}-{count}")).exists():
        count += 1
    return folder


def describe(choices: Mapping[str, Choice]) -> str:
    """A line for every option: its value and the reason."""
    width = max(map(len, choices), default=0)
    shown = {name: str(choice.value) for name, choice in choices.items()}
    column = min(40, max(map(len, shown.values()), default=0))
    return "\n".join(f"  {name:<{width}}  {shown[name]:<{column}}  {c.reason}" for name, c in choices.items())


def write_setup(folder: Path, setup: Setup, entry: Entry) -> None:
    """Store every decision in `config.json`."""
    content = {
        "format": 1,
        "task": entry.task,
        "model": setup.model,
        "data": setup.data,
        "arguments": setup.arguments,
        "preprocess": asdict(setup.preprocess),
        "classes": setup.classes,
        "colours": setup.colours,
        "choices": {name: asdict(choice) for name, choice in setup.choices.items()},
        "opened": setup.opened,
        "training": setup.training,
        "seed": setup.seed,
        "split": setup.split,
        "notes": setup.notes,
        "command": "sightline " + " ".join(sys.argv[1:]),
        "versions": versions(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    write_text(folder / "config.json", json.dumps(content, indent=1))


def read_setup(folder: Path) -> Setup:
    """The decisions of a run, as `write_setup` stored them."""
    try:
        content = json.loads((folder / "config.json").read_text())
        return Setup(
            model=content["model"],
            data=content["data"],
            arguments=content["arguments"],
            preprocess=Preprocess(**content["preprocess"]),
            classes=tuple(content["classes"]),
            colours=tuple(map(tuple, content["colours"])),
            choices={name: Choice(**choice) for name, choice in content["choices"].items()},
            opened=content["opened"],
            training=content["training"],
            seed=content["seed"],
            split=content.get("split", {}),
            notes=tuple(content["notes"]),
        )
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is not a run: it holds no config.json; give the folder that training named"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise SightlineError(f"{folder / 'config.json'} is damaged ({error}); restore it or train anew") from error


def write_cards(folder: Path, setup: Setup, entry: Entry, scores: Mapping[str, Mapping[str, float]]) -> None:
    """A card beside the weights of `best` and `last`, so that either opens at any moment.

    scores: those of each; without any, cards that lie there already are left alone.
    """
    from sightline.weights.card import Card, write_card

    card = Card(
        model=setup.model,
        task=entry.task,
        arguments={k: None if k == "backbone_weights" else v for k, v in setup.arguments.items()},
        classes=setup.classes,
        colours=setup.colours,
        preprocess=setup.preprocess,
        versions=versions(),
        data=setup.data,
        extra={"split": {"val": setup.opened["val"], "seed": setup.opened["seed"]}, **scored(setup)},
    )
    for name in ("best", "last"):
        if scores or not (folder / name / "card.json").exists():
            write_card(folder / name, replace(card, scores=scores.get(name, {})))


def versions() -> dict[str, str]:
    """What computed this."""
    from importlib.metadata import version

    return {"sightline": __version__} | {name: version(name) for name in ("torch", "torchvision", "numpy")}


def next_commands(folder: Path, setup: Setup) -> list[str]:
    """What one would type next."""
    return [
        f"sightline evaluate {folder} {setup.data}",
        f"sightline predict {folder} PICTURES out=answers",
        f"sightline compare {folder} OTHER_RUN",
    ]
