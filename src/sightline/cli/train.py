"""`sightline train`: every option of the table, written out, handed to the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from sightline.cli.show import answer
from sightline.cli.tokens import nested
from sightline.verbs.config import NESTED, TRAIN, as_yaml, layer, nested_value, read_yaml, train_option

_GROUPS = {name: Group.create_ordered(name) for name in dict.fromkeys(option.group for option in TRAIN)}
_CALL = Group.create_ordered("This call")


def _told(name: str) -> Parameter:
    option = train_option(name)
    return Parameter(help=option.about, group=_GROUPS[option.group], show_default=bool(option.default))


def train(
    model: Annotated[str, Parameter(help="a name of `sightline models`")],
    data: Annotated[str, Parameter(help="a folder of pictures and masks, or a data set of a known format")],
    *,
    backbone: Annotated[str | None, _told("backbone")] = None,
    weights: Annotated[str | None, _told("weights")] = None,
    format: Annotated[str | None, _told("format")] = None,
    classes: Annotated[str | None, _told("classes")] = None,
    val: Annotated[str | None, _told("val")] = None,
    size: Annotated[str | None, _told("size")] = None,
    augment: Annotated[str | None, _told("augment")] = None,
    on_error: Annotated[Literal["stop", "skip"], _told("on_error")] = "stop",
    steps: Annotated[int | None, _told("steps")] = None,
    epochs: Annotated[int | None, _told("epochs")] = None,
    batch: Annotated[int | None, _told("batch")] = None,
    lr: Annotated[float | None, _told("lr")] = None,
    loss: Annotated[str | None, _told("loss")] = None,
    seed: Annotated[int, _told("seed")] = 0,
    device: Annotated[str, _told("device")] = "auto",
    devices: Annotated[int, _told("devices")] = 1,
    nodes: Annotated[int, _told("nodes")] = 1,
    workers: Annotated[int | None, _told("workers")] = None,
    precision: Annotated[str | None, _told("precision")] = None,
    run: Annotated[str | None, _told("run")] = None,
    resume: Annotated[str | None, _told("resume")] = None,
    dry_run: Annotated[bool, _told("dry_run")] = False,
    model_values: Annotated[dict[str, str] | None, Parameter(name="--model", show=False, help=NESTED["model"])] = None,
    train_values: Annotated[dict[str, str] | None, Parameter(name="--train", show=False, help=NESTED["train"])] = None,
    config: Annotated[
        Path | None, Parameter(help="a YAML file with any of these; `sightline init` writes one", group=_CALL)
    ] = None,
    print_config: Annotated[
        bool,
        Parameter(
            help="print every option, its value and where it comes from, and stop", group=_CALL, show_default=False
        ),
    ] = False,
    json: Annotated[
        bool, Parameter(help="print one JSON object on stdout and nothing else", group=_CALL, show_default=False)
    ] = False,
) -> None:
    """Train a system on your data; what you leave open is chosen from data and machine, with the reason.

    Values of the network's builder are written model.KEY=VALUE (`sightline info MODEL` lists them), values of the
    training plan train.KEY=VALUE.
    """
    given = {name: value for name, value in locals().items() if name not in ("config", "print_config", "json")}
    if print_config:
        print(_resolved(given, config), end="")
        return
    from sightline.verbs import train as verbs

    given["model_values"], given["train_values"] = nested(model_values), nested(train_values)
    answer(lambda: verbs.train(**given), as_json=json)


def _resolved(given: dict[str, Any], config: Path | None) -> str:
    """Every option as a YAML file that trains the same, each with the layer that decided it."""
    defaults = {"model": None, "data": None} | {option.name: option.default for option in TRAIN}
    for family in NESTED:
        values = nested(given.pop(f"{family}_values"))
        given |= {f"{family}.{key}": value for key, value in values.items()}
        defaults |= {f"{family}.{key}": None for key in values}
    file = {} if config is None else {key.replace("-", "_"): text for key, text in read_yaml(config).items()}
    from_file = {k: v for k, v in given.items() if k in file and (file[k] == str(v) or nested_value(file[k]) == v)}
    from_line = {k: v for k, v in given.items() if k not in from_file and v != defaults[k]}
    return as_yaml(layer(("default", defaults), (str(config), from_file), ("command line", from_line)))
