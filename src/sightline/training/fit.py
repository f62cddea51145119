"""The loop: see, learn, step; now and then validate and save. It knows no task.

Killed at any moment and resumed, it ends with the same bits (same hardware, same number of threads): what a sample
looks like depends on (seed, epoch, index) alone, which samples a step sees on (seed, step) alone, and the random
numbers inside the network (dropout) are seeded anew in every step from (seed, step, rank). Only tensors and a few
counters are saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sightline.contracts import Batch
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.ops.layout import lay_out
from sightline.training.checkpoint import Checkpoints, gather, model_weights, restore, sweep, write_tensors
from sightline.training.device import numerics, out_of_memory, peak_memory
from sightline.training.ema import Ema, local
from sightline.training.launch import restarted, settling
from sightline.training.learner import Learner, measure_precision, take_step
from sightline.training.loader import Fetched, Samples, load
from sightline.training.lock import locked
from sightline.training.log import Journal
from sightline.training.optim import make_optimizer, set_lr
from sightline.training.parallel import Crew, joined, shard, share_buffers, share_weights, wrap
from sightline.training.plan import Plan, differences
from sightline.training.sampler import Batches, derived_seed
from sightline.training.signals import Interrupted, Stop, interruptible

Validate = Callable[[nn.Module], Mapping[str, Any]]
Log = Callable[[dict[str, Any]], None]


@dataclass
class State:
    """What a run has to remember beside its tensors; JSON-able."""

    batch_size: int
    accumulate: int
    precision: str
    step: int = 0  # completed
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    validated: int = 0  # the step of the last validation
    waiting: int = 0  # validations since the best one
    sums: dict[str, float] = field(default_factory=dict)  # loss terms since the last line of the log
    counted: int = 0  # steps in `sums`
    skipped: dict[str, str] = field(default_factory=dict)  # broken samples: index -> sentence
    scaler: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """How a run went."""

    step: int
    steps: int
    stopped: Literal["done", "patience", "interrupted"]
    best: float | None  # score of the weights in best/
    best_step: int
    metrics: Mapping[str, float]  # of the last validation
    seconds: float  # of all sittings together
    skipped: Mapping[str, str]  # broken samples that were left out: index -> sentence


def fit(
    net: nn.Module,
    samples: Samples,
    *,
    collate: Callable[[list[Any]], Batch],
    plan: Plan,
    run: Path | str,
    validate: Validate | None = None,
    log: Log = lambda record: None,
    resume: bool = False,
) -> History:
    """Train `net` on `samples` into the folder `run`: `state/`, `metrics.jsonl`, `last/` and `best/model.safetensors`.

    `last/` goes with every checkpoint, `best/` with every better score; both hold the averaged weights when `plan.ema`.

    samples: a map-style data set; item `(epoch, index)` is one sample, random only through (seed, epoch, index).
    validate: gives `{"metrics": {name: number}, "per_class": {...}}` for the network in eval mode, with the averaged
        weights when `plan.ema`. With ddp it runs on process 0, with fsdp2 on all (and must answer the same on all).
    log: gets every record of `metrics.jsonl` when it is written, and notes about this sitting.
    resume: continue from the newest checkpoint in `run`; from the beginning when there is none.

    Raises `SightlineError` in one sentence for a broken sample, a loss that is not a number, a full disk, a folder in
    use, too little memory for one sample. The last good checkpoint always stays.
    """
    run = Path(run)
    with ExitStack() as stack:
        stack.enter_context(settling())
        crew = stack.enter_context(joined(plan))
        if crew.main:
            stack.enter_context(locked(run))
        crew.barrier()
        stop = stack.enter_context(interruptible())
        stack.enter_context(numerics(plan, crew.device))
        sitting = Sitting(net, samples, collate, plan, run, validate, log, crew, resume=resume or restarted())
        batches = sitting.batches()
        while True:
            if sitting.validation_due():
                sitting.validate(stop)
            ending, saving = sitting.agree(stop)
            if ending or saving:
                sitting.save()
            if ending:
                return sitting.history(stop)
            try:
                batches = sitting.settle_precision(batches)
                sitting.step(batches)
                continue
            except Exception as error:
                if not out_of_memory(error):
                    raise
            sitting.halve_batch()  # only here is the memory of the failed step free again
            batches = sitting.batches()


class Sitting:
    """The parts of one run in one process, and what the loop does with them."""

    def __init__(
        self,
        net: nn.Module,
        samples: Samples,
        collate: Callable[[list[Any]], Batch],
        plan: Plan,
        run: Path,
        validate: Validate | None,
        log: Log,
        crew: Crew,
        *,
        resume: bool,
    ) -> None:
        if len(samples) == 0:
            raise SightlineError("there are no samples to train on; check the data set and its split")
        self.samples, self.collate, self.plan, self.run, self.crew = samples, collate, plan, run, crew
        self.judge = validate
        self.checkpoints = Checkpoints(run / "state", crew)
        if crew.main:
            sweep(run)
        saved = self._saved(resume)
        self.net = _prepare(net, plan, crew)
        self.optimizer = make_optimizer(self.net, plan)
        self.ema = Ema(self.net, plan.ema) if plan.ema else None
        self.state = State(plan.batch_size, plan.accumulate, plan.precision)
        self.written: tuple[int, int] | None = None  # (step, validated) of the newest checkpoint
        if saved is not None:
            self._restore(*saved)
        self.learner = Learner(self.net, crew.device, precision=self.state.precision, channels_last=plan.channels_last)
        self.wrapped = wrap(self.learner, crew)
        self.scaler = torch.amp.GradScaler(crew.device.type, enabled=self.state.precision == "fp16")  # pyright: ignore[reportPrivateImportUsage]
        if self.state.scaler:
            self.scaler.load_state_dict(self.state.scaler)
        self.journal = Journal(run / "metrics.jsonl", log, main=crew.main, after=self.state.step if saved else None)
        if saved is not None:
            for text in [f"resumed at step {self.state.step}", *differences(saved[1]["plan"], plan)]:
                self.journal.say(self.state.step, text)
        self.pending: list[tuple[int, tuple[str, ...], dict[str, Tensor]]] = []  # losses still on the device
        self.fresh: dict[str, str] = {}  # broken samples met since the processes last agreed
        self.lr, self.images = 0.0, 0
        self.begun = time.monotonic() - self.state.seconds  # no calendar: a clock set back does no harm
        self.saved_at = self.logged_at = time.monotonic()
        self.net.train()

    def _saved(self, resume: bool) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if not resume and (steps := self.checkpoints.steps()):
            raise UsageError(
                f"{self.run} already holds a run at step {max(steps)}: resume it, or choose another folder with run="
            )
        saved = self.checkpoints.load()
        self.crew.barrier()  # nobody writes before all have looked
        return saved

    def _restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        restore(self.net, self.optimizer, self.ema, tensors)
        self.state = State(**meta["state"])
        if self.plan.batch_size * self.plan.accumulate != self.state.batch_size * self.state.accumulate:
            self.state.batch_size, self.state.accumulate = self.plan.batch_size, self.plan.accumulate
        if self.plan.precision != meta["plan"]["precision"]:
            self.state.precision = self.plan.precision
        self.written = (self.state.step, self.state.validated)

    def batches(self) -> Iterator[Batch]:
        """The batches of this process from the next step on."""
        keys = Batches(
            self.state.step,
            self.plan.steps,
            size=self.state.batch_size,
            accumulate=self.state.accumulate,
            count=len(self.samples),
            seed=self.plan.seed,
            rank=self.crew.rank,
            world=self.crew.world,
        )
        fetched = load(
            self.samples,
            keys,
            collate=self.collate,
            workers=self.plan.workers,
            device=self.crew.device,
            on_error=self.plan.on_error,
        )
        return self._whole(fetched)

    def _whole(self, fetched: Iterator[Fetched]) -> Iterator[Batch]:
        for item in fetched:
            self.fresh.update({str(index): text for index, text in item.skipped})
            assert item.batch is not None  # `load` raised the fault
            yield item.batch

    def step(self, batches: Iterator[Batch]) -> None:
        """One step: see, learn, step, and note what it cost."""
        state = self.state
        torch.manual_seed(derived_seed(self.plan.seed, state.step, self.crew.rank))
        self.lr = set_lr(self.optimizer, self.plan, state.step)
        terms, keys, images = take_step(
            self.wrapped, self.net, batches, self.optimizer, self.scaler, self.plan, state.accumulate
        )
        state.step += 1
        share_buffers(self.net, self.crew)
        if self.ema is not None:
            self.ema.update(self.net, state.step)
        self.pending.append((state.step, keys, terms))
        self.images += images * self.crew.world
        logging = state.step % self.plan.log_every == 0 or state.step == self.plan.steps
        if logging or self.crew.device.type == "cpu":  # asking a GPU for numbers makes it wait
            self.read_losses()
        if logging:
            self.write_losses()

    def read_losses(self) -> None:
        """Take the pending losses into the sums of the log; a loss that is not a number ends the run."""
        for step, keys, terms in self.pending:
            names = sorted(terms)
            values = torch.stack([terms[name] for name in names]).tolist()
            if not all(map(math.isfinite, values)):
                raise self._not_a_number(step, keys, dict(zip(names, values)))
            for name, value in zip(names, self.crew.mean(values)):
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.counted += 1
        self.pending.clear()

    def _not_a_number(self, step: int, keys: tuple[str, ...], terms: dict[str, float]) -> SightlineError:
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        kept = f"step {self.written[0]} in {self.run} is kept" if self.written else "nothing was saved yet"
        return SightlineError(
            f"the loss is not a number in step {step} ("
            + ", ".join(f"{name}={value:.4g}" for name, value in terms.items())
            + f") for the samples {shown or 'without keys'}: {kept}; look at these samples, "
            f"or try a lower lr than {self.plan.lr:g}, clip=1 or precision=fp32"
        )

    def write_losses(self) -> None:
        """One line of the log: the mean of every term since the line before."""
        state, now = self.state, time.monotonic()
        terms = {name: value / state.counted for name, value in state.sums.items()}
        samples = state.step * self.plan.share * self.crew.world
        self.journal.write(
            {
                "kind": "train",
                "step": state.step,
                "steps": self.plan.steps,
                "epoch": round(samples / len(self.samples), 3),
                "time": round(now - self.begun, 3),
                "lr": self.lr,
                "loss": sum(terms.values()),
                "terms": terms,
                "images_per_second": round(self.images / max(now - self.logged_at, 1e-9), 3),
                "skipped": len(state.skipped),
                "memory": peak_memory(self.crew.device),
            }
        )
        state.sums, state.counted, self.images, self.logged_at = {}, 0, 0, now

    def agree(self, stop: Stop) -> tuple[bool, bool]:
        """Whether to end and whether to save, decided by all processes together; broken samples are told to all."""
        plan, state, now = self.plan, self.state, time.monotonic()
        tired = plan.patience > 0 and state.waiting >= plan.patience
        ending = state.step >= plan.steps or tired or bool(stop.asked)
        by_time = plan.save_seconds > 0 and now - self.saved_at >= plan.save_seconds
        by_step = (
            plan.save_every > 0 and state.step % plan.save_every == 0 and self.written != (state.step, state.validated)
        )
        saving = self.written is None or by_time or by_step
        ending, saving, broken = map(bool, self.crew.largest(ending, saving, len(self.fresh)))
        if broken:
            for found in self.crew.everyone(self.fresh):
                for index, text in found.items():
                    if index not in state.skipped:
                        state.skipped[index] = text
                        self.journal.write({"kind": "note", "step": state.step, "text": f"skipped: {text}"})
            self.fresh = {}
        return ending, saving

    def validation_due(self) -> bool:
        """Whether this step's weights are to be validated and have not been yet."""
        step, every = self.state.step, self.plan.validate_every
        due = step == self.plan.steps or (every > 0 and step > 0 and step % every == 0)
        return self.judge is not None and due and self.state.validated < step

    def validate(self, stop: Stop) -> None:
        """Score the weights; the best ones go to `best/`. Ctrl-C leaves: the score is then taken after the resume."""
        self.read_losses()
        if self.crew.distribution == "ddp" and not self.crew.main:
            self.state.validated = self.state.step
            return
        assert self.judge is not None
        try:
            self.net.eval()
            averaged = self.ema.applied(self.net) if self.ema is not None else nullcontext()
            with torch.no_grad(), averaged, stop.leaving_early(self.crew.distribution != "fsdp2"):
                result = self.judge(self.net)
        except Interrupted:
            return
        finally:
            self.net.train()
        state = self.state
        state.metrics = {name: float(value) for name, value in result["metrics"].items()}
        state.validated = state.step
        score = self._score(state.metrics)
        better = state.best is None or (score > state.best if self.plan.mode == "max" else score < state.best)
        state.waiting = 0 if better else state.waiting + 1
        if better and math.isfinite(score):
            state.best, state.best_step = score, state.step
            self._write_model("best")
        self.journal.write(
            {"kind": "val", "step": state.step, "time": round(time.monotonic() - self.begun, 3)}
            | {name: value for name, value in result.items() if name != "metrics"}
            | {"metrics": state.metrics}
        )
        self.logged_at = time.monotonic()  # the time of a validation is not the time of training

    def _score(self, metrics: Mapping[str, float]) -> float:
        name = self.plan.monitor or next(iter(metrics), "")
        if name not in metrics:
            raise UsageError(
                f"monitor={name!r}: the validation gives {', '.join(metrics) or 'no metric'}."
                + did_you_mean(name, metrics)
            )
        return metrics[name]

    def save(self) -> None:
        """Write a checkpoint and `last/`, unless the newest one already says all this."""
        self.read_losses()
        state = self.state
        if self.written == (state.step, state.validated):
            return
        for name, parameter in self.net.named_parameters():
            if not torch.isfinite(local(parameter)).all():
                kept = f"the checkpoint of step {self.written[0]} is kept" if self.written else "nothing was saved"
                raise SightlineError(
                    f"the weights '{name}' are not numbers after step {state.step}: {kept}; "
                    f"try a lower lr than {self.plan.lr:g}, clip=1 or precision=fp32"
                )
        state.seconds = round(time.monotonic() - self.begun, 3)
        state.scaler = self.scaler.state_dict()
        self.journal.sync()
        # before the checkpoint: a run killed between the two does this step again, and writes both
        self._write_model("last")
        self.checkpoints.save(
            gather(self.net, self.optimizer, self.ema),
            {"step": state.step, "state": asdict(state), "plan": self.plan.as_dict()},
        )
        self.written, self.saved_at = (state.step, state.validated), time.monotonic()

    def _write_model(self, name: str) -> None:
        if self.crew.main or self.crew.distribution == "fsdp2":
            weights = model_weights(self.net, self.ema)
            if self.crew.main:
                write_tensors(self.run / name / "model.safetensors", weights)

    def settle_precision(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """For `precision=auto`: measure on the first batch, once in a run's life; all processes take the same."""
        if self.state.precision != "auto":
            return batches
        first = next(batches)
        word, reason = measure_precision(self.learner, first)
        bf16 = self.crew.largest(word == "bf16")[0]
        self.state.precision = self.learner.precision = "bf16" if bf16 else "fp32"
        self.journal.write({"kind": "note", "step": self.state.step, "text": reason})
        return chain([first], batches)

    def halve_batch(self) -> None:
        """After running out of memory: smaller batches, more of them; a step still sees the same samples."""
        state = self.state
        if self.crew.device.type == "cuda":
            torch.cuda.empty_cache()
        size = smaller_batch(state.batch_size, state.accumulate)
        if size is None:
            raise SightlineError(
                f"out of memory on {self.crew.device} with one sample at a time: "
                "take smaller pictures or crops, a smaller model, or another device"
            )
        before = f"batch_size={state.batch_size} accumulate={state.accumulate}"
        state.accumulate = state.batch_size * state.accumulate // size
        state.batch_size = size
        after = f"batch_size={state.batch_size} accumulate={state.accumulate}"
        if self.crew.world > 1:  # the other processes wait inside this very step
            raise SightlineError(f"process {self.crew.rank} ran out of memory with {before}; start with {after}")
        text = f"out of memory on {self.crew.device} with {before}: continuing with {after}, the same samples a step"
        self.optimizer.zero_grad(set_to_none=True)
        self.journal.write({"kind": "note", "step": state.step, "text": text})

    def history(self, stop: Stop) -> History:
        """The end of the story."""
        state = self.state
        done = state.step >= self.plan.steps and not self.validation_due()
        return History(
            step=state.step,
            steps=self.plan.steps,
            stopped="done" if done else "interrupted" if stop.asked else "patience",
            best=state.best,
            best_step=state.best_step,
            metrics=dict(state.metrics),
            seconds=round(time.monotonic() - self.begun, 3),
            skipped=dict(state.skipped),
        )


def smaller_batch(size: int, accumulate: int) -> int | None:
    """The largest batch of at most half the size that still divides a step's samples; None below one sample."""
    total = size * accumulate
    return next((n for n in range(size // 2, 0, -1) if total % n == 0), None)


def _prepare(net: nn.Module, plan: Plan, crew: Crew) -> nn.Module:
    """The network on its device, in its memory format, the same on all processes, sharded when asked."""
    if plan.sync_bn and crew.world > 1:
        if crew.device.type != "cuda":
            raise UsageError("sync_bn=true works on GPUs only; on CPUs use a larger batch_size")
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net = net.to(crew.device)
    if crew.distribution == "fsdp2":  # which can only cut weights that lie in one piece
        net = net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    elif plan.channels_last:
        net = lay_out(net)
    share_weights(net, crew)
    if crew.distribution == "fsdp2":
        shard(net)
    return net
