"""Names: which systems there are, what is known of each, and the network itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from sightline.contracts import Entry, PublishedWeights, Task
from sightline.errors import SightlineError, UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

ROOMS = ("segmentation", "detection", "instance", "classification", "action")
"""The rooms of the house, in the order a newcomer meets them."""


@dataclass(frozen=True)
class ModelRow:
    """One line of `sightline models`."""

    name: str
    task: str
    parameters: int
    paper: str
    weights: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {
            "name": self.name,
            "task": self.task,
            "parameters": self.parameters,
            "paper": self.paper,
            "weights": list(self.weights),
        }


@dataclass(frozen=True)
class ModelInfo:
    """All that the catalogue knows of a system, and the preface of its file."""

    name: str
    entry: Entry
    preface: str
    arguments: Mapping[str, Any]  # the builder's values with their defaults
    options: Mapping[str, Any]  # of a system that learns in stages: what `train.KEY=VALUE` changes

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {
            "name": self.name,
            "task": self.entry.task,
            "paper": self.entry.paper,
            "parameters": self.entry.parameters,
            "inputs": list(self.entry.inputs),
            "traits": sorted(self.entry.traits),
            "arguments": {k: repr(v) if not _plain(v) else v for k, v in self.arguments.items()},
            "stage_options": dict(self.options),
            "weights": [
                {
                    "name": w.name,
                    "url": w.url,
                    "megabytes": w.megabytes,
                    "licence": w.licence,
                    "trained_on": w.trained_on,
                    "published_scores": dict(w.scores),
                }
                for w in self.entry.weights
            ],
            "preface": self.preface,
        }

    def __str__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        lines = [
            self.name,
            f"  paper       {self.entry.paper}",
            f"  task        {self.entry.task}",
            f"  parameters  {self.entry.parameters:,}",
            f"  values      {values}",
        ]
        if self.options:
            lines.append("  stages      " + ", ".join(f"train.{k}={v!r}" for k, v in self.options.items()))
        for w in self.entry.weights:
            scores = ", ".join(f"{k} {v}" for k, v in w.scores.items())
            lines.append(f"  weights     {w.name}: {w.trained_on}; published: {scores or 'none'}; licence {w.licence}")
        return "\n".join([*lines, "", self.preface])


@cache
def catalogue() -> dict[str, Entry]:
    """Every entry by name: the rooms' own, then those of installed packages (entry-point group `sightline.models`)."""
    found: dict[str, Entry] = {}
    for room in ROOMS:
        found |= import_module(f"sightline.{room}.catalog").MODELS
    for point in entry_points(group="sightline.models"):
        found.setdefault(point.name, point.load())
    return found


def models(pattern: str | None = None, *, task: str | None = None) -> list[ModelRow]:
    """The systems whose name fits `pattern` (wild: `*`, `?`; a plain word fits anywhere), of one `task` or all."""
    tasks = sorted({entry.task for entry in catalogue().values()})
    if task is not None and task not in tasks:
        raise UsageError(f"there is no task '{task}'; choose from {', '.join(tasks)}.{did_you_mean(task, tasks)}")
    if pattern and not set(pattern) & set("*?["):
        pattern = f"*{pattern}*"
    return [
        ModelRow(name, entry.task, entry.parameters, entry.paper, tuple(w.name for w in entry.weights))
        for name, entry in catalogue().items()
        if (not pattern or fnmatchcase(name, pattern)) and task in (None, entry.task)
    ]


def info(name: str) -> ModelInfo:
    """Paper, departures, parameters, builder values and published weights of one system."""
    entry = entry_of(name)
    preface = inspect.getdoc(inspect.getmodule(resolve(entry.build))) or ""
    return ModelInfo(name, entry, preface, defaults_of(builder_of(entry)), stage_options(entry))


def entry_of(model: str | Entry) -> Entry:
    """The entry called `model`, or the entry itself."""
    if isinstance(model, Entry):
        return model
    known = catalogue()
    if model not in known:
        raise UsageError(
            f"there is no model '{model}'; `sightline models` lists {len(known)} names.{did_you_mean(model, known)}"
        )
    return known[model]


def name_of(model: str | Entry) -> str:
    """What cards and folders call a model: its name, or the name of the builder of an entry of one's own."""
    return model.build.rpartition(":")[2] if isinstance(model, Entry) else model


def task_of(entry: Entry) -> Task:
    """The room's own `TASK`."""
    return task_named(entry.task)


def task_named(task: str) -> Task:
    """The `TASK` of the room called `task`."""
    if task not in ROOMS:
        raise UsageError(f"there is no task '{task}'; choose from {', '.join(ROOMS)}.{did_you_mean(task, ROOMS)}")
    return import_module(f"sightline.{task}.task").TASK


def resolve(words: str) -> Callable[..., Any]:
    """`"package.module:name"` -> the object. Raises `UsageError` when it is not there."""
    module, _, name = words.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"the builder '{words}' cannot be imported ({error}); expected package.module:name") from error


def builder_of(model: str | Entry) -> Callable[..., Any]:
    """The builder of a model, with the entry's own values in place of the builder's defaults."""
    entry = entry_of(model)
    builder = resolve(entry.build)
    return partial(builder, **entry.values) if entry.values else builder


def defaults_of(builder: Callable[..., Any]) -> dict[str, Any]:
    """A builder's values by name, with their defaults."""
    return {p.name: p.default for p in inspect.signature(builder).parameters.values()}


def stage_options(entry: Entry) -> dict[str, Any]:
    """The options of a system that learns in stages, with their defaults; none of all others."""
    if entry.fit is None:
        return {}
    listed = inspect.signature(resolve(entry.fit)).parameters.values()
    named = {p.name: p.default for p in listed if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return {name: default for name, default in named.items() if name not in ("preprocess", "seed")}


def create(model: str | Entry, *, weights: str | None = None, **arguments: Any) -> nn.Module:
    """Build a network.

    Args:
        model: a name of `models()`, or an `Entry` of your own.
        weights: a file, or the name of published weights; None: seeded by `torch.manual_seed`.
        arguments: the builder's values, such as `num_classes=12`; an unknown one raises with a did-you-mean.
    """
    entry = entry_of(model)
    builder = builder_of(entry)
    known = defaults_of(builder)
    for name in arguments:
        if name not in known:
            raise UsageError(
                f"{model if isinstance(model, str) else entry.build} has no value '{name}'; it takes "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )
    try:
        net = builder(**arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        if isinstance(error, SightlineError):
            raise
        told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UsageError(
            f"{name_of(model)} cannot be built with {told} ({' '.join(str(error).split())}); "
            "`sightline info` shows the values and their defaults"
        ) from error
    if weights is not None:
        from sightline.verbs.load import load_weights

        load_weights(net, weights)
    return net


def published(name: str) -> PublishedWeights | None:
    """The record of published weights called `name`, of any entry, or None."""
    records = (w for entry in catalogue().values() for w in entry.weights)
    return next((w for w in records if w.name == name), None)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple))
