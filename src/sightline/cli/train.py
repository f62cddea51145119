"""`sightline train`: every option of the table, written out, handed to the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from sightline.cli.show import answer
from sightline.cli.tokens import layers_below, nested
from sightline.verbs.config import NESTED, TRAIN, as_yaml, layer, nested_value, train_option

_GROUPS = {name: Group.create_ordered(name) for name in dict.fromkeys(option.group for option in TRAIN)}
_OPTIONS = {"model", "data", *(option.name for option in TRAIN), *(f"{family}_values" for family in NESTED)}
_CALL = Group.create_ordered("This call")


def _told(name: str) -> Parameter:
    option = train_option(name)
    return Parameter(help=option.about, group=_GROUPS[option.group], show_default=_says_something(option.default))


def _says_something(default: object) -> bool:
    return default is not None and default is not False


def _here(about: str) -> Parameter:
    return Parameter(help=about, group=_CALL, show_default=False)


def _family(name: str) -> Parameter:
    return Parameter(name=f"--{name}", show=False)  # the description tells of them


def train(
    model: Annotated[str | None, Parameter(help="a name of `sightline models`")] = None,
    data: Annotated[str | None, Parameter(help="a folder of pictures and masks, or data of a known format")] = None,
    *,
    backbone: Annotated[str | None, _told("backbone")] = None,
    weights: Annotated[str | None, _told("weights")] = None,
    format: Annotated[str | None, _told("format")] = None,
    classes: Annotated[str | None, _told("classes")] = None,
    val: Annotated[str | None, _told("val")] = None,
    intensity: Annotated[str | None, _told("intensity")] = None,
    resize: Annotated[str | None, _told("resize")] = None,
    clip: Annotated[str | None, _told("clip")] = None,
    size: Annotated[str | None, _told("size")] = None,
    augment: Annotated[str | None, _told("augment")] = None,
    on_error: Annotated[Literal["stop", "skip"], _told("on_error")] = "stop",
    steps: Annotated[int | None, _told("steps")] = None,
    epochs: Annotated[float | None, _told("epochs")] = None,
    batch: Annotated[int | None, _told("batch")] = None,
    lr: Annotated[float | None, _told("lr")] = None,
    loss: Annotated[str | None, _told("loss")] = None,
    class_weights: Annotated[str | None, _told("class_weights")] = None,
    limit: Annotated[int | None, _told("limit")] = None,
    seed: Annotated[int, _told("seed")] = 0,
    device: Annotated[str, _told("device")] = "auto",
    devices: Annotated[int, _told("devices")] = 1,
    nodes: Annotated[int, _told("nodes")] = 1,
    workers: Annotated[int | None, _told("workers")] = None,
    precision: Annotated[str | None, _told("precision")] = None,
    run: Annotated[str | None, _told("run")] = None,
    resume: Annotated[str | None, _told("resume")] = None,
    dry_run: Annotated[bool, _told("dry_run")] = False,
    model_values: Annotated[dict[str, str] | None, _family("model")] = None,
    augment_values: Annotated[dict[str, str] | None, _family("augment")] = None,
    train_values: Annotated[dict[str, str] | None, _family("train")] = None,
    config: Annotated[Path | None, _here("a YAML file with any of these; `sightline init` writes one")] = None,
    recipe: Annotated[str | None, _here("begin with the options of this recipe, such as camvid_unet")] = None,
    print_config: Annotated[bool, _here("print every option with its value and its source, and stop")] = False,
    json: Annotated[bool, _here("print one JSON object on stdout and nothing else")] = False,
) -> int:
    """Train a system on your data; what you leave open is chosen, with the reason.

    Single values are written with a dot, any number of them:
      model.KEY=VALUE    of the network's builder: see sightline info MODEL
      augment.KEY=VALUE  of the augmentation, such as augment.rotate=30
      train.KEY=VALUE    of the training plan, such as train.optimizer=sgd

    Ctrl-C finishes the step, saves, and says how to go on.
    """
    given = {name: value for name, value in locals().items() if name in _OPTIONS}
    if print_config:
        print(_resolved(given, config, recipe), end="")
        return 0
    from sightline.verbs import train as verbs

    given |= {f"{family}_values": nested(given[f"{family}_values"]) for family in NESTED}
    given["size"] = None if size is None else nested_value(size)
    done = answer(lambda: verbs.train(**given, say=print), as_json=json)
    if done.stopped == "interrupted":
        print(f"interrupted; go on with: sightline train resume={done.folder}", file=sys.stderr)
        return 130
    return 0


def _resolved(given: dict[str, Any], config: Path | None, recipe: str | None) -> str:
    """Every option as a YAML file that trains the same, each with the layer that decided it."""
    defaults = {"model": None, "data": None} | {option.name: option.default for option in TRAIN}
    for family in NESTED:
        values = nested(given.pop(f"{family}_values"))
        given |= {f"{family}.{key}": value for key, value in values.items()}
        defaults |= {f"{family}.{key}": None for key in values}
    layers, rest = [], dict(given)
    for source, texts in layers_below(config, recipe, {*defaults, *NESTED}):
        texts = {key.replace("-", "_"): text for key, text in texts.items()}
        decided = {k: v for k, v in rest.items() if k in texts and texts[k] in (str(v), str(v).lower())}
        decided |= {k: v for k, v in rest.items() if k in texts and nested_value(texts[k]) == v}
        rest = {k: v for k, v in rest.items() if k not in decided}
        layers.append((source, decided))
    rest = {k: v for k, v in rest.items() if v != defaults[k]}
    return as_yaml(layer(("default", defaults), *layers[::-1], ("command line", rest)))
