"""What every experiment is: a model, the options of `train`, and a baseline to print beside the score.

    python -m sightline.recipes.nuclei_unet DATA [OPTION=VALUE ...]

trains (or continues) `runs/NAME`, scores the best state, prints the baseline beside it, and writes the row for
docs/systems.md to `RESULT.json` in the run. Options on the command line replace the recipe's own.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from inspect import signature
from pathlib import Path
from typing import Any

from sightline.datasets.open import open_dataset
from sightline.datasets.records import DataSet
from sightline.errors import SightlineError, UsageError
from sightline.files import write_text
from sightline.training.log import read_metrics
from sightline.verbs.config import nested_value
from sightline.verbs.evaluate import evaluate
from sightline.verbs.train import read_setup, train


@dataclass(frozen=True)
class Recipe:
    """One experiment. score: the metric that counts; expected: its last value; baseline: a score without a network.

    judge: further options of `evaluate`: how pictures are looked at, what is measured besides.
    prepare: makes the folder that is learned from out of the one that was named, where it is not there yet.
    typed: what is typed after `sightline.recipes.`, where it is not the name and the data.
    """

    name: str
    model: str
    score: str
    expected: float
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "val"
    baseline: Callable[[DataSet], tuple[str, float]] | None = None
    judge: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path], Path] | None = None
    typed: str = ""


class Stopped(SightlineError):
    """Somebody stopped the training; the same command continues."""


def carry_out(recipe: Recipe, data: str | Path, options: Mapping[str, Any], say: Callable[[str], None] = print) -> dict:
    """Train, score, compare with the baseline; returns and writes the result."""
    import torch

    folder = Path(options.get("run", Path("runs") / recipe.name))
    told = {**recipe.options, **{k: v for k, v in options.items() if k != "run"}}
    named = Path(data)
    if recipe.prepare is not None:
        data = recipe.prepare(named)
    if (folder / "config.json").exists():
        run = train(resume=folder, say=say)
    else:
        run = train(recipe.model, data, run=folder, say=say, **told)
    if run.stopped == "interrupted":
        raise Stopped(f"stopped at step {run.step} of {run.steps}; the same command continues")
    seconds = max(record.get("time", 0.0) for record in read_metrics(folder / "metrics.jsonl"))  # of all sittings
    found = evaluate(folder, data, split=recipe.split, **recipe.judge)
    say(str(found))
    result = {
        "system": recipe.model,
        "what": f"{recipe.score} on {named.name}",
        "value": round(found.metrics[recipe.score], 4),
        "command": f"python -m sightline.recipes.{recipe.typed or f'{recipe.name} {named.name}'}",
        "seed": told.get("seed", 0),
        "data": named.name,
        "split": f"{recipe.split}, {found.images} pictures",
        "seconds": round(seconds),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, {read_setup(folder).training['device']}",
        "date": date.today().isoformat(),
    }
    if recipe.baseline is not None:
        opened = open_dataset(data, **read_setup(folder).opened)
        words, value = recipe.baseline(opened)
        result |= {"baseline": words, "baseline_value": round(value, 4)}
        say(f"{words}: {value:.4f}")
    say(f"{recipe.model}: {recipe.score} {result['value']:.4f} after {result['seconds']} s")
    write_text(folder / "RESULT.json", json.dumps(result, indent=1) + "\n")
    return result


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> int:
    """The command line of a recipe's file: DATA, then OPTION=VALUE of `train`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or "=" in words[0]:
            raise UsageError(f"which data? python -m sightline.recipes.{recipe.name} DATA [OPTION=VALUE ...]")
        pairs = [word.partition("=") for word in words[1:]]
        known = [name for name in signature(train).parameters if name not in ("model", "data", "resume", "say", "log")]
        for name, equals, _ in pairs:
            if not equals or name not in known:
                raise UsageError(f"'{name}' is no option; write OPTION=VALUE with one of {', '.join(known)}")
        carry_out(recipe, words[0], {name: nested_value(value) for name, _, value in pairs})
    except SightlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
