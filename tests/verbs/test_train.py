"""`train` end to end on made-up pictures: its folder, choices, refusals, kills, Ctrl-C, broken numbers and files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightline.cli import main
from sightline.contracts import Entry
from sightline.errors import SightlineError, UsageError
from sightline.training.lock import locked
from sightline.verbs.load import load
from sightline.verbs.train import describe, free_folder, read_setup, train

MINE = Entry(build="sightline.segmentation.models.unet:unet_same", task="segmentation", paper="none", parameters=0)

HOOK = """
import os, signal, sys
left = [{count}]
def hook(name, arguments):
    if name == "os.rename" and {path!r} in str(arguments[1]) and {also!r} in str(arguments[1]):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), {signal})
sys.addaudithook(hook)
"""
"""What a started interpreter runs first: a signal to itself just before the n-th file is renamed to its place."""


def words(options: dict[str, Any]) -> list[str]:
    """Options of `train` as one types them."""
    plain = {k: v for k, v in options.items() if not k.endswith("_values")}
    nested = {
        f"{k.removesuffix('_values')}.{name}": v
        for k, values in options.items()
        if k.endswith("_values")
        for name, v in values.items()
    }
    return [f"{k}={v}" for k, v in (plain | nested).items()]


def environment(folder: Path | None = None, **hook: Any) -> dict[str, str]:
    """One thread, and the hook of a child that shoots itself."""
    found = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if folder is not None:
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(HOOK.format(**({"also": ""} | hook)))
        found["PYTHONPATH"] = str(folder)
    return found


def start(arguments: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sightline", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def same_weights(one: Path, other: Path) -> bool:
    """Whether both states of two runs are equal, bit by bit."""
    for state in ("best", "last"):
        a, b = (load_file(run / state / "model.safetensors") for run in (one, other))
        if a.keys() != b.keys() or not all(torch.equal(a[k], b[k]) for k in a):
            return False
    return True


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of the log of one kind, without what differs from sitting to sitting."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in r.items() if k not in ("time", "images_per_second", "memory")}
        for r in found
        if r["kind"] == kind
    ]


# The folder ------------------------------------------------------------------------------------------------------


def test_a_run_is_a_folder_with_every_promised_file(tiny_run: Path) -> None:
    found = {p.relative_to(tiny_run).as_posix() for p in tiny_run.rglob("*") if p.is_file()}
    assert found == {
        "config.json",
        "metrics.jsonl",
        "evaluation.json",
        "next.txt",
        "report.html",
        "best/card.json",
        "best/model.safetensors",
        "last/card.json",
        "last/model.safetensors",
        "samples/worst-1.jpg",
        "samples/worst-2.jpg",
        "samples/worst-3.jpg",
        "state/lock",
        "state/step-00000005.safetensors",
        "state/step-00000006.safetensors",
    }


def test_the_config_says_what_was_decided_and_why(tiny_run: Path, shapes: Path) -> None:
    config = json.loads((tiny_run / "config.json").read_text())
    assert config["format"] == 1
    assert (config["task"], config["model"], config["data"]) == ("segmentation", "unet", str(shapes))
    assert config["classes"] == ["background", "disc", "square", "triangle"]
    assert config["split"] == {"train": 6, "val": 3}
    assert config["arguments"]["num_classes"] == 4
    assert config["choices"]["batch"] == {"value": 2, "reason": "as asked"}
    assert config["choices"]["size"] == {"value": [32, 32], "reason": "as asked"}
    assert config["choices"]["model.width"] == {"value": 4, "reason": "as asked"}
    for name in ("intensity", "augment", "lr", "loss", "class_weights", "model.mean", "resize"):
        reason = config["choices"][name]["reason"]
        assert len(reason) > 10, name
        assert reason != "as asked", name
    assert {"sightline", "torch", "torchvision", "numpy"} == set(config["versions"])
    assert config["notes"][0].startswith("format pairs")


def test_the_log_holds_losses_with_their_terms_and_scores_of_each_class(tiny_run: Path) -> None:
    (line,) = records(tiny_run, "train")
    assert (line["step"], line["steps"], line["epoch"], line["skipped"]) == (6, 6, 2.0, 0)
    assert set(line["terms"]) == {"ce", "dice"}
    assert line["loss"] == pytest.approx(sum(line["terms"].values()))
    scores = records(tiny_run, "val")
    assert [r["step"] for r in scores] == [3, 6]
    assert set(scores[0]["per_class"]) == {"background", "disc", "square", "triangle"}


def test_best_and_last_carry_their_own_scores(tiny_run: Path) -> None:
    scores = [r["metrics"] for r in records(tiny_run, "val")]
    best = max(scores, key=lambda m: m["dataset_miou"])
    cards = {name: json.loads((tiny_run / name / "card.json").read_text()) for name in ("best", "last")}
    assert cards["best"]["scores"]["dataset_miou"] == pytest.approx(best["dataset_miou"], abs=1e-3)
    assert cards["last"]["scores"] == pytest.approx(scores[-1])
    evaluation = json.loads((tiny_run / "evaluation.json").read_text())
    assert cards["best"]["scores"] == evaluation["metrics"]


def test_the_next_commands_are_of_this_run(tiny_run: Path, shapes: Path) -> None:
    lines = (tiny_run / "next.txt").read_text().splitlines()
    assert lines[0] == f"sightline evaluate {tiny_run} {shapes}"
    assert all(line.startswith("sightline ") for line in lines)


def test_the_same_seed_gives_the_same_bits(
    tiny_run: Path, shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    again = train("unet", shapes, run=tmp_path / "again", **tiny_options)
    assert same_weights(tiny_run, again.folder)
    assert records(again.folder, "train") == records(tiny_run, "train")
    assert again.stopped == "done"
    assert again.to_json()["report"] == str(tmp_path / "again" / "report.html")


# Choices and refusals --------------------------------------------------------------------------------------------


def test_an_unpadded_network_gets_a_crop_it_takes(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    values = {"width": 2, "depth": 3}
    train("unet_valid", shapes, run=tmp_path / "run", model_values=values, steps=1, batch=1, say=said.append)
    assert any("it loses 20 on every side" in line for line in said)
    size = json.loads((tmp_path / "run" / "config.json").read_text())["choices"]["size"]["value"]
    assert all((side - 44) % 4 == 0 and side > 40 for side in size)


def test_a_dry_run_says_everything_and_writes_nothing(shapes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    planned = train("unet", shapes, epochs=2, batch=3, dry_run=True, say=said.append, device="cpu")
    assert list(tmp_path.iterdir()) == []
    assert planned.stopped == "planned"
    assert planned.steps == 4
    assert planned.choices["steps"].reason == "2 passes over 6 pictures"
    assert str(planned) == describe(planned.choices)
    assert said[-1] == str(planned)
    for name, choice in planned.choices.items():
        assert any(line.split()[0] == name and choice.reason in line for line in said[-1].splitlines())


def test_a_free_folder_counts_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_folder("unet", "data/shapes") == Path("runs/unet-shapes")
    Path("runs/unet-shapes").mkdir(parents=True)
    Path("runs/unet-shapes-2").mkdir()
    assert free_folder("unet", "data/shapes") == Path("runs/unet-shapes-3")
    assert free_folder(MINE, "data/shapes") == Path("runs/unet_same-shapes")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": "unte"}, "Did you mean 'unet'?"),
        ({"model_values": {"widht": 4}}, "Did you mean 'width'?"),
        ({"train_values": {"optimzer": "sgd"}}, "Did you mean 'optimizer'?"),
        ({"train_values": {"optimizer": "sdg"}}, "Did you mean 'sgd'?"),
        ({"augment_values": {"rotat": 3}}, "Did you mean 'rotate'?"),
        ({"augment": "mediun"}, "Did you mean 'medium'?"),
        ({"loss": "cee"}, "Did you mean 'ce'?"),
        ({"format": "pears"}, "Did you mean 'pairs'?"),
        ({"device": "cuda:x"}, "cuda:x"),
        ({"precision": "fp23"}, "Did you mean 'fp32'?"),
        ({"intensity": "windw(0, 1)"}, "windw(0, 1)"),
        ({"resize": "shrt(3)"}, "shrt(3)"),
        ({"size": 0}, "0"),
        ({"size": [32, 32, 32]}, "height and a width"),
        ({"batch": 0}, "batch"),
        ({"steps": -1}, "steps"),
        ({"epochs": -1.0}, "epochs"),
        ({"lr": -1.0}, "lr"),
        ({"seed": -1}, "seed"),
        ({"on_error": "skp"}, "Did you mean 'skip'?"),
        ({"devices": 0}, "devices"),
        ({"workers": -1}, "workers"),
        ({"weights": "unet_cco"}, "no file and no published weights called unet_cco"),
        ({"backbone": "resnet5"}, "Did you mean"),
        ({"model": None}, "train needs a model and a data set"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_refused_before_anything_is_written(
    wrong: dict[str, Any], says: str, shapes: Path, tmp_path: Path
) -> None:
    options = {"model": "unet", "data": shapes, "device": "cpu", "run": tmp_path / "run"} | wrong
    with pytest.raises(UsageError) as caught:
        train(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_options_beside_resume_are_refused_not_ignored(tiny_run: Path) -> None:
    with pytest.raises(UsageError, match=r"leave lr, model_values out"):
        train(resume=tiny_run, lr=1e-2, model_values={"width": 3})
    with pytest.raises(UsageError, match="is not a run"):
        train(resume=tiny_run / "best")


def test_a_folder_that_holds_a_run_is_not_written_over(tiny_run: Path, shapes: Path) -> None:
    before = (tiny_run / "config.json").stat()
    with pytest.raises(UsageError, match="holds a run already"):
        train("unet", shapes, run=tiny_run, device="cpu")
    assert (tiny_run / "config.json").stat() == before


# Kills, Ctrl-C, two at once --------------------------------------------------------------------------------------


def test_a_run_killed_while_it_writes_resumes_to_the_same_bits(
    tiny_run: Path, shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    env = environment(tmp_path / "hook", count=1, path=str(run), also="step-00000004", signal=9)
    child = start(["train", "unet", str(shapes), f"run={run}", *words(tiny_options)], env)
    _, said = child.communicate()
    assert child.returncode == (-9 if os.name != "nt" else 9), said
    assert (run / "state" / "step-00000003.safetensors").is_file()
    assert not (run / "state" / "step-00000004.safetensors").exists()
    net, card = load(run)  # what there is opens at any moment
    assert (card.model, next(net.parameters()).dtype) == ("unet", torch.float32)
    done = train(resume=run)
    assert (done.step, done.stopped) == (6, "done")
    assert same_weights(tiny_run, run)
    assert records(run, "train") == records(tiny_run, "train")
    assert records(run, "val") == records(tiny_run, "val")
    assert not list(run.rglob(".*"))  # no torn file is left


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_ctrl_c_saves_and_prints_how_to_go_on(
    tiny_run: Path, shapes: Path, tiny_options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "stopped"
    armed = [True]

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "os.rename" and armed and str(arguments[1]).startswith(str(run / "state" / "step-00000002")):
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)

    sys.addaudithook(hook)
    assert main(["train", "unet", str(shapes), f"run={run}", *words(tiny_options)]) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == f"interrupted; go on with: sightline train resume={run}"
    assert "(interrupted)" in out
    assert main(["train", f"resume={run}"]) == 0
    assert same_weights(tiny_run, run)


def test_a_run_in_use_is_refused_and_left_alone(tiny_run: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if "state" not in p.parts}
    with locked(run):
        assert main(["train", f"resume={run}"]) == 1
    said = capsys.readouterr().err
    assert f"{run}: another run is using this folder (process {os.getpid()}" in said
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if "state" not in p.parts} == before


def test_a_finished_run_resumes_to_itself_or_trains_longer(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    done = train(resume=run)
    assert (done.step, done.stopped) == (6, "done")
    assert same_weights(tiny_run, run)
    longer = train(resume=run, steps=8)
    assert (longer.step, longer.steps) == (8, 8)
    assert not torch.equal(
        load_file(run / "last" / "model.safetensors")["head.weight"],
        load_file(tiny_run / "last" / "model.safetensors")["head.weight"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(6))
def test_kills_at_any_moment_of_the_command(
    turn: int, tiny_run: Path, shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    """The n-th file that the run writes is the last one: also the configuration, a card, the page."""
    run = tmp_path / "run"
    call = ["train", "unet", str(shapes), f"run={run}", *words(tiny_options)]
    env = environment(tmp_path / "hook", count=[1, 2, 4, 9, 14, 19][turn], path=str(run), signal=9)
    for _ in range(30):
        child = start(call, env)
        _, said = child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -9, said
        if (run / "config.json").exists():
            call = ["train", f"resume={run}"]
            if turn < 3:  # no way forward with so few files a sitting
                env = environment()
    assert child.returncode == 0
    assert same_weights(tiny_run, run)


@pytest.mark.slow
def test_two_processes_killed_resume_to_the_same_bits(
    shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    options = words(tiny_options | {"devices": 2})
    smooth = start(["train", "unet", str(shapes), f"run={tmp_path / 'smooth'}", *options], environment())
    out, said = smooth.communicate()
    assert smooth.returncode == 0, said
    assert out.count("(done)") == 1  # one of them speaks
    run = tmp_path / "rough"
    child = start(["train", "unet", str(shapes), f"run={run}", *options], environment())
    deadline = time.monotonic() + 300
    while not list((run / "state").glob("step-0000000[2-5]*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    again = start(["train", f"resume={run}"], environment())
    out, said = again.communicate()
    assert again.returncode == 0, said
    assert same_weights(tmp_path / "smooth", run)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_ctrl_c_on_two_processes_says_it_once(shapes: Path, tiny_options: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = words(tiny_options | {"devices": 2, "steps": 5000})
    child = start(["train", "unet", str(shapes), f"run={run}", *options], environment())
    deadline = time.monotonic() + 300
    while not list((run / "state").glob("step-0000000[2-9]*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert said.count(f"interrupted; go on with: sightline train resume={run}") == 1
    assert "Traceback" not in said


# Bad numbers, other class counts, an entry of one's own ----------------------------------------------------------


def test_a_loss_that_is_not_a_number_ends_in_a_sentence_and_keeps_a_checkpoint(
    shapes: Path, tiny_options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "wild"
    options = tiny_options | {"lr": 1e30, "train_values": {"save_every": 1, "clip": 0, "warmup": 3}}
    assert main(["train", "unet", str(shapes), f"run={run}", *words(options)]) == 1
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("error: the loss is not a number in step ")
    assert "ce=nan" in said
    assert "for the samples images/train/" in said
    assert "lower lr than 1e+30" in said
    assert "is kept" in said
    kept = list((run / "state").glob("step-*.safetensors"))
    assert all(torch.isfinite(t).all() for path in kept for t in load_file(path).values())
    assert kept


def test_weights_of_another_class_count_start_all_but_the_head(
    tiny_run: Path, shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    binary = tmp_path / "binary"
    shutil.copytree(shapes, binary)
    for mask in binary.glob("masks/*/*.png"):
        from sightline.media.labels import read_labels, write_labels

        write_labels(mask, (read_labels(mask) > 0).astype("uint8"))
    (binary / "classes.txt").write_text("shape\n")
    said: list[str] = []
    options = tiny_options | {"steps": 1, "lr": 0.0}
    run = train(
        "unet", binary, run=tmp_path / "run", weights=str(tiny_run / "best" / "model.safetensors"), say=said.append,
        log=lambda record: None, **options,
    )  # fmt: skip
    assert any("head" in line and "4" in line for text in said for line in text.splitlines())
    ours = load_file(run.folder / "last" / "model.safetensors")
    theirs = load_file(tiny_run / "best" / "model.safetensors")
    assert ours["head.weight"].shape[0] == 1
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if "weight" in k and not k.startswith("head"))
    assert "foreground_dice" in run.metrics


def test_an_entry_of_ones_own_trains_loads_and_resumes(shapes: Path, tmp_path: Path) -> None:
    options = {"size": 32, "batch": 2, "steps": 2, "device": "cpu", "model_values": {"width": 2, "depth": 2}}
    run = train(MINE, shapes, run=tmp_path / "mine", **options)
    net, card = load(run.folder, entry=MINE)
    assert (card.model, card.task, type(net).__name__) == ("unet_same", "segmentation", "UNet")
    stranger = Entry(
        build="sightline.segmentation.models.unet:unet_bilinear", task="segmentation", paper="", parameters=0
    )
    with pytest.raises(UsageError, match=r"the builder .*unet_bilinear. cannot be"):
        train(stranger, shapes, run=tmp_path / "no", **options)
    lost = Entry(build=MINE.build, task="segmentatoin", paper="", parameters=0)
    with pytest.raises(UsageError, match="Did you mean 'segmentation'"):
        train(lost, shapes, run=tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()
    assert train(MINE, resume=run.folder, steps=3).step == 3


def test_broken_files_are_skipped_when_asked_and_counted(
    shapes: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    first, second = sorted((data / "images" / "train").iterdir())[:2]
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:200])
    third = sorted((data / "images" / "val").iterdir())[0]
    third.write_bytes(third.read_bytes()[:200])
    with pytest.raises(SightlineError, match=first.name):
        train("unet", data, run=tmp_path / "stops", **tiny_options)
    assert not (tmp_path / "stops").exists()
    run = train("unet", data, run=tmp_path / "skips", on_error="skip", **tiny_options)
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert set(evaluation["skipped"]) == {str(p.relative_to(data)) for p in (first, second, third)}
    assert evaluation["images"] == 2
    assert sorted(r["text"].split(":")[0] for r in records(run.folder, "note")) == ["skipped", "skipped"]
    assert records(run.folder, "train")[-1]["skipped"] == 2
    page = (run.folder / "report.html").read_text()
    assert "3 files" in page
    assert first.name in page
    assert any(note.startswith("skipped: ") for note in read_setup(run.folder).notes)
