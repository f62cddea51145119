"""One command, several processes: what torchrun is told, and what comes back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.errors import UsageError
from sightline.training.launch import command_again, torchrun

HERE = Path(__file__).parent
SCRIPT = """
import os, sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from sightline.training.launch import launched, rank, relaunch, restarted
if not launched():
    relaunch(2)
import torch
torch.set_num_threads(1)
from toy_task import Stripes, collate, fresh, score
from sightline.training.fit import fit
from sightline.training.plan import Plan

class Crashing(Stripes):
    def __getitem__(self, key):
        if {crash} and rank() == 1 and key[0] == 1 and not restarted():
            os.kill(os.getpid(), 9)
        time.sleep({nap})
        return super().__getitem__(key)

plan = Plan(steps={steps}, batch_size=2, save_every=2, distribution="ddp", devices=2, device="cpu")
history = fit(fresh(), Crashing(broken={broken}), collate=collate, plan=plan, run=Path({run!r}), validate=score)
print(history.stopped, history.step)
sys.exit(130 if history.stopped == "interrupted" else 0)
"""


def script(folder: Path, name: str, **values) -> list[str]:
    values = {"here": str(HERE), "run": str(folder / name), "crash": False, "broken": (), "nap": 0, "steps": 8} | values
    path = folder / f"{name}.py"
    path.write_text(SCRIPT.format(**values))
    return [sys.executable, str(path)]


def test_the_same_command_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    file = tmp_path / "mine.py"
    file.touch()
    assert command_again([str(file), "a=1"]) == [str(file), "a=1"]
    assert command_again(["/usr/bin/sightline", "train", "unet"]) == ["--module", "sightline", "train", "unet"]
    with pytest.raises(UsageError, match="use a script or the command line"):
        command_again(["-c"])


def test_torchrun_meets_on_this_machine_or_at_a_given_address(monkeypatch):
    here = torchrun(["x.py"], devices=2, nodes=1)
    assert "--standalone" in here and "--nproc-per-node=2" in here and "--max-restarts=3" in here and here[-1] == "x.py"
    monkeypatch.delenv("SIGHTLINE_RENDEZVOUS", raising=False)
    with pytest.raises(UsageError, match="nodes=4: set SIGHTLINE_RENDEZVOUS=HOST:PORT"):
        torchrun(["x.py"], devices=2, nodes=4)
    monkeypatch.setenv("SIGHTLINE_RENDEZVOUS", "10.0.0.1:29400")
    there = torchrun(["x.py"], devices=2, nodes=4)
    assert "--rdzv-backend=c10d" in there and "--rdzv-endpoint=10.0.0.1:29400" in there and "--nnodes=4" in there


@pytest.mark.slow
def test_a_crashed_process_is_started_again_and_ends_with_the_same_bits(tmp_path):
    smooth = subprocess.run(script(tmp_path, "smooth"), capture_output=True, text=True)
    assert smooth.returncode == 0 and smooth.stdout == "done 8\n", smooth.stderr
    rough = subprocess.run(script(tmp_path, "rough", crash=True), capture_output=True, text=True)
    assert rough.returncode == 0 and rough.stdout == "done 8\n", rough.stderr
    a, b = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("smooth", "rough"))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_a_mistake_ends_all_processes_at_once_with_its_sentence(tmp_path):
    done = subprocess.run(script(tmp_path, "broken", broken=(3,)), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("error: pictures/3.png: not a readable picture; remove it") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_ctrl_c_reaches_the_processes_which_save(tmp_path):
    child = subprocess.Popen(script(tmp_path, "long", steps=5000, nap=0.05), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "long" / "state").glob("step-*4.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    word, step = said.split()
    assert word == "interrupted" and (tmp_path / "long" / "state" / f"step-{int(step):08d}.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_nothing_outlives_a_killed_launcher(tmp_path):
    run = tmp_path / "orphan"
    child = subprocess.Popen(script(tmp_path, "orphan", steps=100000, nap=0.05))
    deadline = time.monotonic() + 120
    while not list((run / "state").glob("step-*4.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.2)
    child.kill()
    child.wait()
    time.sleep(3)
    before = sorted(p.name for p in (run / "state").glob("step-*"))
    time.sleep(3)
    assert before == sorted(p.name for p in (run / "state").glob("step-*"))
