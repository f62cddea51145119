"""Kill a training run over and over, resume it, and see that it ends with the bits of a run left in peace.

    python bench/kill.py                    100 kills of one process
    python bench/kill.py --processes 2      20 kills of two processes (DDP over gloo)

Half of the kills strike at a random moment; the other half strike just before a random file-system call of the run
(opening, renaming, removing a file), so that every gap in the writing of a checkpoint is met. After every kill what the
folder holds must open. The network is a tiny one with batch norm, dropout, a moving average and accumulation, and it
saves after every step. `--seed` gives another series.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))

import torch
from children import finish, start
from safetensors.torch import load_file
from toy_task import train, train_and_die

from sightline.training.checkpoint import Checkpoints
from sightline.training.log import read_metrics
from sightline.training.parallel import Crew
from sightline.training.plan import Plan

STEPS = 20
NEWEST = f"step-{STEPS:08d}.safetensors"
CLOCKS = ("time", "images_per_second", "memory")


def plan_for(processes: int) -> Plan:
    """Saves after every step: most of the time of the run is spent writing."""
    return Plan(
        steps=STEPS, batch_size=2, accumulate=2, ema=0.9, clip=1.0, save_every=1, validate_every=4, log_every=3,
        device="cpu", devices=processes, distribution="ddp" if processes > 1 else "none",
    )  # fmt: skip


def strike(children: list[BaseProcess], moment: float, rng: random.Random) -> None:
    """Kill all processes, or one of them and leave the others to notice, after `moment` seconds.

    Those that wait for it where they meet cannot notice: they are ended after a while, as a launcher ends them.
    """
    time.sleep(moment)
    for child in children if rng.random() < 0.5 else [rng.choice(children)]:
        child.kill()
    for child in children:
        child.join(20)
        child.kill()


def check_folder(run: Path) -> None:
    """Whatever a kill left behind must open."""
    checkpoints = Checkpoints(run / "state", Crew(torch.device("cpu")))
    newest = checkpoints.steps()
    saved = checkpoints.load()
    if newest and (saved is None or saved[1]["step"] != max(newest)):
        raise AssertionError(f"{run}: the newest checkpoint does not open")
    for name in ("last", "best"):
        if (run / name / "model.safetensors").exists():
            load_file(run / name / "model.safetensors")


def compare(run: Path, straight: Path) -> None:
    """The same weights, optimiser, average, best weights and log, bit for bit."""
    pairs = [(run / "state" / NEWEST, straight / "state" / NEWEST)]
    pairs += [(run / n / "model.safetensors", straight / n / "model.safetensors") for n in ("last", "best")]
    for ours, theirs in pairs:
        a, b = load_file(ours), load_file(theirs)
        differing = [name for name in b if not torch.equal(a[name], b[name])]
        if a.keys() != b.keys() or differing:
            raise AssertionError(f"{ours} differs from the run left in peace: {differing[:5]}")
    logs = [
        [{k: v for k, v in r.items() if k not in CLOCKS} for r in read_metrics(folder / "metrics.jsonl")]
        for folder in (run, straight)
    ]
    if logs[0] != logs[1]:
        raise AssertionError(f"{run / 'metrics.jsonl'} differs from the run left in peace")


def kill_and_resume(
    folder: Path, *, times: int, processes: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> tuple[int, int]:
    """Kill `times` runs in all; returns (kills, runs that were then carried to their end). Raises on any difference."""
    rng = random.Random(seed)
    plan = plan_for(processes)
    straight = folder / "straight"
    finish(start(time.sleep, 0))  # the server of the child processes loads PyTorch once
    begun = time.monotonic()
    assert finish(start(train, straight, plan, world=processes)) == [0] * processes
    typical = time.monotonic() - begun
    kills, runs = 0, 0
    while kills < times:
        run = folder / f"run-{runs}"
        target = min(times, kills + 1 + rng.randrange(12))  # kills in this run's life, unless it ends before
        alive = True
        while alive:
            if kills >= target:
                codes = finish(start(train, run, plan, True, world=processes))
                assert codes == [0] * processes, f"the resumed run failed: {codes}"
            elif rng.random() < 0.5:
                children = start(train, run, plan, True, world=processes)
                strike(children, rng.random() * typical, rng)
                codes = finish(children)
            else:
                codes = finish(start(train_and_die, run, plan, 1 + rng.randrange(80), world=processes))
            assert processes > 1 or codes in ([0], [-signal.SIGKILL]), f"it failed by itself: {codes}"
            alive = any(codes)
            kills += alive
            check_folder(run)
        compare(run, straight)
        say(f"{kills} kills, {runs + 1} runs ended with the bits of the run left in peace")
        shutil.rmtree(run)
        runs += 1
    return kills, runs


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill a training run over and over, and resume it.")
    parser.add_argument("--times", type=int, help="kills in all (100; with two processes 20)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    times = asked.times or (100 if asked.processes == 1 else 20)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills, runs = kill_and_resume(Path(folder), times=times, processes=asked.processes, seed=asked.seed, say=_say)
    took = time.monotonic() - begun
    _say(f"{kills} kills of {asked.processes} process(es), {runs} runs resumed to the end, bits equal ({took:.0f} s)")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
