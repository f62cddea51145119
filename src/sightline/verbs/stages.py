"""Training of systems that learn in stages: one after the other, the weights stored after each.

A run has, beside what every run has, `state/stage-0002.safetensors`, the weights behind the last stage that ended, and
`stages/`: files that stages leave for later ones, and in `stages/NAME/` the run of a stage that uses the loop. Killed
at any moment, it goes on behind that stage (inside the loop: at its last checkpoint) to the same numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.contracts import Batch, Entry, Preprocess, Stage
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.verbs.models import name_of, resolve, stage_options
from sightline.verbs.train import Run, Setup, finish, write_cards

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sightline.datasets.records import DataSet
    from sightline.training.log import Journal

OPEN = ("backbone", "weights", "resize", "intensity", "clip", "limit")
"""Options of `train` that say what is built, read and scored, and so concern any system."""


class Interrupted(Exception):
    """Somebody stopped the loop inside a stage."""


def options_of(
    model: str | Entry,
    entry: Entry,
    given: Mapping[str, Any],
    train_values: Mapping[str, Any],
    augment_values: Mapping[str, Any],
) -> dict[str, Any]:
    """Every option of a system's stages: the user's over the defaults. `UsageError` for unknown and for wrong ones."""
    known = stage_options(entry)
    told = {name: value for name, value in given.items() if name not in OPEN} | dict(train_values)
    told |= {f"augment.{name}": value for name, value in augment_values.items()}
    for name, value in told.items():
        if name not in known:
            raise UsageError(
                f"{name}={value}: {name_of(model)} learns in stages, whose options are "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )
        if not _alike(value, known[name]):
            raise UsageError(f"{name}={value!r}: expected a value such as {known[name]!r}")
    return known | told


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    if isinstance(default, (int, float)):
        return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
    return not isinstance(default, str) or isinstance(value, str)


def stages_of(
    entry: Entry, part: DataSet, preprocess: Preprocess, seed: int, options: Mapping[str, Any]
) -> tuple[Stage, ...]:
    """The stages of a system on the data it learns from."""
    assert entry.fit is not None
    stages = resolve(entry.fit)(part, preprocess=preprocess, seed=seed, **options)
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"{entry.fit} lists stages of one name: {', '.join(names)}")
    return stages


@dataclass
class Workshop:
    """The tools of one stage."""

    folder: Path
    stage: str
    number: int
    seed: int
    device: str
    journal: Journal
    show: Callable[[dict[str, Any]], None]
    begun: float
    shown: float = field(default=float("-inf"))

    def progress(self, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """A line of the log, twice a second at most and at the end."""
        now = time.monotonic()
        if done < total and now - self.shown < 0.5:
            return
        self.shown = now
        self.journal.write(
            {"kind": "stage", "step": self.number, "stage": self.stage, "done": done, "total": total}
            | {"time": round(now - self.begun, 3), "numbers": dict(numbers or {})}
        )

    def learn(
        self,
        net: nn.Module,
        samples: Any,
        collate: Callable[[list[Any]], Batch],
        *,
        steps: int,
        lr: float,
        batch: int,
        optimizer: str = "adamw",
    ) -> None:
        """`training.fit` in a folder of its own, from its last checkpoint on."""
        from sightline.training.fit import fit
        from sightline.training.plan import Plan

        plan = Plan(
            steps=steps, batch_size=batch, lr=lr, optimizer=optimizer, schedule="cosine", warmup=min(100, steps // 10),  # pyright: ignore[reportArgumentType]
            clip=5.0, seed=self.seed, device=self.device,
        )  # fmt: skip
        run = self.folder / self.stage.replace(" ", "-")
        history = fit(net, samples, collate=collate, plan=plan, run=run, log=self.show, resume=True)
        net.eval()
        if history.stopped == "interrupted":
            raise Interrupted


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
    """Run the stages that are not done yet, then score and draw as after any training."""
    import torch

    from sightline.datasets.open import open_dataset
    from sightline.ops.layout import lay_out
    from sightline.training.checkpoint import sweep
    from sightline.training.device import choose_device
    from sightline.training.launch import settling
    from sightline.training.lock import locked
    from sightline.training.log import Journal
    from sightline.training.progress import Progress
    from sightline.training.sampler import derived_seed

    with settling(), ExitStack() as stack:
        data = open_dataset(setup.data, **setup.opened)
        stages = stages_of(entry, data.split("train"), setup.preprocess, setup.seed, setup.training["options"])
        stack.enter_context(locked(folder))
        sweep(folder)
        done, seconds = restore(net, folder, stages) if resume else (0, 0.0)
        show = log or (stack.enter_context(Progress()) if say else lambda record: None)
        journal = Journal(folder / "metrics.jsonl", show, main=True, after=done if resume else None)
        begun = time.monotonic() - seconds
        write_cards(folder, setup, entry, {})
        (folder / "stages").mkdir(exist_ok=True)
        device = choose_device(setup.training["device"])
        for number, stage in list(enumerate(stages, 1))[done:]:
            net = lay_out(net.to(device)).eval()  # as it would be behind a resume
            seed = derived_seed(setup.seed, number)
            torch.manual_seed(seed)
            tools = Workshop(
                folder / "stages", stage.name, number, seed, setup.training["device"], journal, show, begun
            )
            tools.progress(0, 1, {})
            try:
                stage.run(net, tools)
            except Interrupted:
                return Run(folder, "interrupted", number - 1, len(stages), {}, setup.choices)
            keep(net, folder, stage.name, number, time.monotonic() - begun)
        metrics = _ended(setup, folder, entry, data, len(stages), journal, begun)
    return Run(folder, "done", len(stages), len(stages), metrics, setup.choices)


def keep(net: nn.Module, folder: Path, stage: str, number: int, seconds: float) -> None:
    """Store the weights behind a stage; numbers that are none end the run, and the stage before stays."""
    from sightline.training.checkpoint import write_tensors

    tensors = dict(net.state_dict())
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise SightlineError(f"the stage '{stage}' made '{name}' no number; look at its options and at the data")
    write_tensors(folder / "last" / "model.safetensors", tensors)
    header = json.dumps({"format": 1, "stage": stage, "seconds": round(seconds, 3)})
    write_tensors(folder / "state" / f"stage-{number:04d}.safetensors", tensors, header=header)
    for old in (folder / "state").glob("stage-*.safetensors"):
        if old.stem != f"stage-{number:04d}":
            old.unlink()


def restore(net: nn.Module, folder: Path, stages: tuple[Stage, ...]) -> tuple[int, float]:
    """Put the weights behind the last finished stage into `net`: how many stages are done, in how many seconds."""
    from safetensors import SafetensorError, safe_open

    found = sorted((folder / "state").glob("stage-*.safetensors"))
    if not found:
        return 0, 0.0
    try:
        with safe_open(found[-1], framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("sightline", ""))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no dict)
        number = int(found[-1].stem.removeprefix("stage-"))
        seconds = float(meta["seconds"])
        net.load_state_dict(tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        raise SightlineError(f"{found[-1]}: not the weights of this run ({words}); remove it or train anew") from None
    if number > len(stages) or stages[number - 1].name != meta.get("stage"):
        raise SightlineError(
            f"{found[-1]} holds the stage '{meta.get('stage')}', which this system has not; train anew"
        )
    return number, seconds


def _ended(
    setup: Setup, folder: Path, entry: Entry, data: DataSet, count: int, journal: Journal, begun: float
) -> dict[str, float]:
    """The last state is the best one; its scores, its worst pictures, the page."""
    from sightline.training.checkpoint import write_tensors

    state = _tensors(folder / "last" / "model.safetensors")
    write_tensors(folder / "best" / "model.safetensors", state)
    metrics = finish(folder, setup, entry, data, {})
    if metrics:
        spent = round(time.monotonic() - begun, 3)
        journal.write({"kind": "val", "step": count, "time": spent, "metrics": metrics})
    write_cards(folder, setup, entry, {"best": metrics, "last": metrics})
    return metrics


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)
