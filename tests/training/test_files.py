"""The files of a run: the lock, the log, the checkpoints."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from children import finish, start
from toy_task import limited, report_lock, train

from sightline.errors import SightlineError
from sightline.training.checkpoint import Checkpoints, write_tensors
from sightline.training.lock import locked
from sightline.training.log import Journal, read_metrics
from sightline.training.parallel import Crew
from sightline.training.plan import Plan

ALONE = Crew(torch.device("cpu"))
PLAN = Plan(steps=6, batch_size=2, save_every=2, device="cpu")


def checkpoints(run: Path) -> Checkpoints:
    return Checkpoints(run / "state", ALONE)


def test_two_runs_in_one_folder_are_refused_within_a_process_and_across(tmp_path):
    with locked(tmp_path):
        said = rf"another run is using this folder \(process {os.getpid()} on "
        with pytest.raises(SightlineError, match=said), locked(tmp_path):
            pass
        assert finish(start(report_lock, tmp_path)) == [1]
    assert finish(start(report_lock, tmp_path)) == [0]
    with locked(tmp_path):
        pass


def test_a_dead_process_holds_no_lock(tmp_path):
    assert finish(start(report_lock, tmp_path, 9)) == [9]  # dies inside
    assert (tmp_path / "state" / "lock.json").exists()
    with locked(tmp_path):
        pass


def test_the_lock_of_an_earlier_process_of_the_same_number_does_not_hold(tmp_path):
    (tmp_path / "state").mkdir()
    holder = {"pid": os.getpid(), "host": "here", "process": "an earlier one"}
    (tmp_path / "state" / "lock.json").write_text(json.dumps(holder))
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\x00\xff"])
def test_a_broken_lock_file_does_no_harm(tmp_path, content):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock.json").write_text(content)
    with locked(tmp_path):
        pass


def test_a_log_is_cut_back_to_the_checkpoint_and_survives_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    shown: list[dict] = []
    journal = Journal(path, shown.append, main=True, after=None)
    for step in (1, 2, 3):
        journal.write({"kind": "train", "step": step, "loss": float("nan"), "terms": {"a": float("inf")}})
    with path.open("a") as stream:
        stream.write('{"kind": "train", "st')
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]
    journal = Journal(path, shown.append, main=True, after=2)
    journal.write({"kind": "val", "step": 4})
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 4]
    assert read_metrics(path)[0]["loss"] is None and "NaN" not in path.read_text()
    assert len(shown) == 4 and shown[0]["loss"] != shown[0]["loss"]
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_only_the_main_process_writes(tmp_path):
    Journal(tmp_path / "metrics.jsonl", print, main=False, after=None).write({"step": 1})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_newest_two_are_kept_and_a_torn_one_falls_back_to_the_one_before(tmp_path):
    train(tmp_path, PLAN)
    found = checkpoints(tmp_path).steps()
    assert list(found) == [4, 6]
    file = found[6]
    file.write_bytes(file.read_bytes()[:-7])
    saved = checkpoints(tmp_path).load()
    assert saved is not None and saved[1]["step"] == 4
    train(tmp_path, PLAN, True)
    assert list(checkpoints(tmp_path).steps()) == [4, 6]


def test_what_a_kill_left_in_the_middle_of_a_write_is_ignored_and_cleaned(tmp_path):
    train(tmp_path, replace(PLAN, steps=2))
    torn = tmp_path / "state" / ".step-00000004.safetensors.x7.safetensors"
    torn.write_bytes(b"half")
    folder = tmp_path / "state" / ".step-00000004"
    folder.mkdir()
    (folder / "part").write_bytes(b"half")
    weights = tmp_path / "best" / ".model.safetensors.ab.safetensors"
    weights.write_bytes(b"half")
    train(tmp_path, PLAN, True)
    assert not torn.exists() and not folder.exists() and not weights.exists()


def test_nothing_readable_is_a_sentence(tmp_path):
    train(tmp_path, PLAN)
    for file in checkpoints(tmp_path).steps().values():
        file.write_bytes(b"")
    with pytest.raises(SightlineError, match=r"no checkpoint can be read: .*step-00000006.safetensors: not a readable"):
        train(tmp_path, PLAN, True)


def test_somebody_elses_safetensors_file_is_no_checkpoint(tmp_path):
    write_tensors(tmp_path / "state" / "step-00000001.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(SightlineError, match="not a checkpoint of a run in format 1"):
        checkpoints(tmp_path).load()


def test_tied_and_strided_tensors_are_written(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    write_tensors(tmp_path / "t.safetensors", {"a": base, "b": base, "c": base.T, "d": base[1:]})
    from safetensors.torch import load_file

    found = load_file(tmp_path / "t.safetensors")
    assert torch.equal(found["b"], base) and torch.equal(found["c"], base.T) and torch.equal(found["d"], base[1:])


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(tmp_path):
    """A limit on the size of files makes the real writes fail, as a full disk does."""
    train(tmp_path, replace(PLAN, steps=2))
    before = {p.name: p.read_bytes() for p in (tmp_path / "state").glob("step-*")}
    assert finish(start(limited, tmp_path, PLAN, 2000)) == [7]
    assert "cannot write" in (tmp_path / "said").read_text()
    assert {p.name: p.read_bytes() for p in (tmp_path / "state").glob("step-*")} == before
    assert not list(tmp_path.glob("*/.*")), "nothing half-written"
    train(tmp_path, PLAN, True)
    assert max(checkpoints(tmp_path).steps()) == 6


def test_a_moved_run_resumes(tmp_path):
    train(tmp_path / "a", replace(PLAN, steps=2))
    shutil.move(tmp_path / "a", tmp_path / "b")
    train(tmp_path / "b", PLAN, True)
    assert max(checkpoints(tmp_path / "b").steps()) == 6
