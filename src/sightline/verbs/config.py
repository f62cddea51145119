"""Options and where they come from: defaults < recipe < YAML file < command line.

`TRAIN` is the one table of what `train` can be told. `sightline train --help`, `sightline init` and the check of a
YAML file all read it; a test holds it against the signature of `train` itself, so it cannot drift.

A value in a YAML file means what the same characters mean on the command line: `lr: 1e-3` is a number, `classes: [yes,
no]` are two names. (YAML's own rules would read a string and two truths.) Keys are option names, nested ones either
dotted (`model.width: 32`) or as a mapping.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Option:
    """One thing a verb can be told: its name, default (None: chosen from data and machine), and what it does."""

    name: str
    default: Any
    about: str
    group: str


@dataclass(frozen=True)
class Setting:
    """A value and the layer it comes from, in words."""

    value: Any
    source: str


WHAT, DATA, LEARN, MACHINE, RUN = "What to train", "The data", "How it learns", "The machine", "The run"

TRAIN: tuple[Option, ...] = (
    Option("backbone", None, "by name, such as resnet50 or timm:convnext_tiny; the model's own when open", WHAT),
    Option("weights", None, "start from this file or these published weights; random numbers when open", WHAT),
    Option("format", None, "the data set's format; recognised from the folder when open", DATA),
    Option("classes", None, "class names, comma-separated; as the data set says when open", DATA),
    Option("val", None, "to validate on where the data has no split: a share, a count or last(4); 0.2 when open", DATA),
    Option("intensity", None, "dtype_max, window(LOW, HIGH), percentile(LOW, HIGH) or zscore", DATA),
    Option("resize", None, "none, short(N), long(N), within(N, M) or exact(H, W), before everything else", DATA),
    Option("clip", None, "which frames make a clip: linspace(T,R), arange(T,R), segments(S) or dense(S,W)", DATA),
    Option("size", None, "what the network sees at a time, in pixels: SIDE or HEIGHT,WIDTH", DATA),
    Option("augment", None, "none, light, medium or strong", DATA),
    Option("on_error", "stop", "at a broken file: stop, or skip it and say so in the report", DATA),
    Option("steps", None, "optimiser steps; give this or epochs", LEARN),
    Option("epochs", None, "passes over the training pictures; give this or steps", LEARN),
    Option("batch", None, "pictures a step, over all devices", LEARN),
    Option("lr", None, "highest learning rate", LEARN),
    Option("loss", None, "ce, dice, lovasz, ... (docs/training.md), or a sum such as ce+0.5*dice(squared=true)", LEARN),
    Option("class_weights", None, "none, median, root (of median frequencies), or a number for each class", LEARN),
    Option("limit", None, "objects: answers a picture and class that are scored", LEARN),
    Option("seed", 0, "all randomness derives from it: same seed, same numbers", LEARN),
    Option("device", "auto", "auto, cpu, cuda, cuda:1 or mps", MACHINE),
    Option("devices", 1, "devices of this machine to train on", MACHINE),
    Option("nodes", 1, "machines to train on", MACHINE),
    Option("workers", None, "processes that read pictures", MACHINE),
    Option("precision", None, "fp32, tf32, bf16, fp16, or auto: measure what is faster here", MACHINE),
    Option("run", None, "the run's folder; runs/MODEL-DATA when open", RUN),
    Option("resume", None, "a run's folder: continue it where it stopped", RUN),
    Option("dry_run", False, "choose everything, say why, and stop before the first step", RUN),
)
"""Every option of `train`, in the order people think of them."""

NESTED: Mapping[str, str] = {
    "model": "of the network's builder: `sightline info MODEL` lists them",
    "augment": "of the augmentation, such as augment.rotate=30",
    "train": "of the training plan, such as train.optimizer=sgd",
}
"""Families of values with a dot: `model.width=32`. `train` takes each as a mapping `FAMILY_values`."""


def train_option(name: str) -> Option:
    """The row of `TRAIN` called `name`."""
    return next(option for option in TRAIN if option.name == name)


def read_yaml(path: str | Path) -> dict[str, str]:
    """The options of a YAML file as `{dotted name: text}`; empty values (`size:`) are left open, so left out.

    Raises:
        UsageError: the file is not there, is not YAML, is not a mapping, or names an option twice; one sentence.
    """
    import yaml

    path = Path(path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration {path}: {error.strerror}; `sightline init` writes one to start from"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {_one_line(error)}") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path} must hold lines of `option: value`, and holds {_kind(root)}")
    values: dict[str, str] = {}
    for key, text, line in _leaves(root, path, ""):
        if key in values:
            raise UsageError(f"{path} line {line}: '{key}' stands there twice; keep one of them")
        values[key] = text
    return {key: text for key, text in values.items() if text not in ("", "~", "null")}


def refuse_unknown(keys: Iterable[str], known: Iterable[str], source: str | Path) -> None:
    """Raise a `UsageError` with a did-you-mean for the first of `keys` that is no option; `model.` allows any tail."""
    known = [name.replace("-", "_") for name in known]
    families = tuple(f"{family}." for family in NESTED if family in known)
    for key in keys:
        name = key.replace("-", "_")
        if name not in known and not (families and name.startswith(families)):
            raise UsageError(f"{source} has the option '{key}', which is not known.{did_you_mean(name, known)}")


def layer(*layers: tuple[str, Mapping[str, Any]]) -> dict[str, Setting]:
    """Settings from `(source, values)` layers, later ones over earlier ones, in the order names first appear."""
    settings: dict[str, Setting] = {}
    for source, values in layers:
        settings |= {name: Setting(value, source) for name, value in values.items()}
    return settings


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Option values as the texts one would type: `{"size": [160, 224]}` -> `{"size": "160,224"}`.

    A mapping `model_values` becomes `model.KEY` options; options whose value is None are left open, so left out.
    """
    texts: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            texts |= {f"{name.removesuffix('_values')}.{key}": text for key, text in as_texts(value).items()}
        elif isinstance(value, (list, tuple)):
            texts[name] = ",".join(map(str, value))
        elif value is not None:
            texts[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return texts


def nested_value(text: str) -> Any:
    """The text of a nested option as a value: JSON where it is JSON, `none true false`, `1,2` a list, else a string.

    >>> nested_value("32"), nested_value("1e-3"), nested_value("none"), nested_value("64,128"), nested_value("relu")
    (32, 0.001, None, [64, 128], 'relu')
    """
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "," in text and not text.startswith(("[", "{", '"')):
        return [nested_value(part.strip()) for part in text.split(",") if part.strip()]
    try:
        return float(text)  # .5 and 1. are no JSON
    except ValueError:
        return text


def as_yaml(settings: Mapping[str, Setting]) -> str:
    """Settings as a YAML file that `config=` reads, the source of each value beside it."""
    lines = [
        (f"{name}:" if s.value is None else f"{name}: {yaml_value(s.value)}", s.source) for name, s in settings.items()
    ]
    width = min(max((len(text) for text, _ in lines), default=0), 40)
    return "".join(f"{text:<{width}}  # {source}\n" for text, source in lines)


def yaml_value(value: Any) -> str:
    """One value as YAML text that reads back as itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml_value(v) for v in value) + "]"
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
    plain = text and all(c.isalnum() or c in "_./-+*" for c in text) and text[0] not in "-*"
    return text if plain or isinstance(value, (int, float)) else json.dumps(text, ensure_ascii=False)


def _leaves(node: Any, path: Path, prefix: str) -> Iterator[tuple[str, str, int]]:
    """(dotted key, text, line) of every value below a mapping; a list becomes comma-separated text."""
    import yaml

    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{path} line {line}: expected `option: value`, found {_kind(key)} as the option's name")
        name = prefix + key.value
        if isinstance(value, yaml.MappingNode):
            yield from _leaves(value, path, f"{name}.")
        elif isinstance(value, yaml.ScalarNode):
            yield name, value.value, line
        else:
            yield name, _listed(value, path, line), line


def _listed(node: Any, path: Path, line: int) -> str:
    parts = [part.value for part in node.value]
    if not all(isinstance(part, str) for part in parts) or any("," in part for part in parts):
        raise UsageError(f"{path} line {line}: a list may hold plain values without commas only")
    return ",".join(parts)


def _kind(node: Any) -> str:
    return {"sequence": "a list", "mapping": "a mapping"}.get(node.id, "a single value")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
