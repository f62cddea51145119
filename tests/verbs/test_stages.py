"""Systems that learn in stages: options, one stage after the other, a run that fell goes on to the same bits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sightline.contracts import Entry
from sightline.datasets.open import open_dataset
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.media.labels import write_labels
from sightline.verbs.evaluate import evaluate
from sightline.verbs.export import export
from sightline.verbs.load import load
from sightline.verbs.models import info
from sightline.verbs.train import read_setup, train

TOY = """
import torch
from sightline.contracts import Stage
from sightline.detection.targets import Samples, collate

BROKEN = set()


def stages(data, *, preprocess, seed, lr=0.1, steps=3, shift=1.0, words="plain"):
    samples = Samples(data, preprocess=preprocess, seed=seed)

    def begin(net, tools):
        tools.progress(1, 2, {"seen": len(samples)})
        with torch.no_grad():
            net.machine.weight.copy_(0.01 * torch.rand(net.machine.weight.shape))

    def loop(net, tools):
        if "loop" in BROKEN:
            raise RuntimeError("fell")
        tools.learn(net, samples, collate, steps=steps, lr=lr, batch=2)
        if "behind the loop" in BROKEN:
            raise RuntimeError("fell")

    def end(net, tools):
        if "end" in BROKEN:
            raise RuntimeError("fell")
        with torch.no_grad():
            net.machine.bias.add_(shift + float(torch.rand(())) + net.training)

    return Stage("begin", begin), Stage("the loop", loop), Stage("end", end)
"""
ENTRY = Entry(
    "sightline.detection.models.hog_svm:hog_svm", "detection", "none", 0, fit="toy_stages:stages",
    traits=frozenset({"outside_graph"}),
)  # fmt: skip
QUICK: dict[str, Any] = {
    "model_values": {"window": [16, 16], "step": 2.0, "most": 5}, "val": "seeded(1)", "seed": 3, "device": "cpu",
    "format": "instances",
}  # fmt: skip


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy_stages.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "toy_stages", raising=False)
    import importlib

    return importlib.import_module("toy_stages")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    for i in range(4):
        numbers = np.zeros((32, 32), np.uint8)
        numbers[4:16, 2 + 4 * i : 16 + 4 * i] = 1
        for name in ("images", "masks"):
            (root / name).mkdir(exist_ok=True)
        write_image(root / "images" / f"c{i}.png", (numbers * 90)[..., None].repeat(3, 2))
        write_labels(root / "masks" / f"c{i}.png", numbers, [(k, k, k) for k in range(3)])
    return root


def weights(run: Path, state: str = "best") -> dict[str, torch.Tensor]:
    return load_file(run / state / "model.safetensors")


def test_a_run_of_stages_is_a_run(toy: Any, cells: Path, tmp_path: Path) -> None:
    told: list[Any] = []
    done = train(ENTRY, cells, run=tmp_path / "run", train_values={"shift": 2.0}, lr=0.2, log=told.append, **QUICK)
    assert (done.stopped, done.step, done.steps) == ("done", 3, 3) and "ap50" in done.metrics
    run = tmp_path / "run"
    for name in ("report.html", "next.txt", "evaluation.json", "best/card.json", "samples/worst-1.jpg"):
        assert (run / name).is_file(), name
    assert [p.name for p in run.glob("state/stage-*")] == ["stage-0003.safetensors"]
    assert "3 of 3 stages" in str(done)
    setup = read_setup(run)
    assert setup.training["options"] == {"lr": 0.2, "steps": 3, "shift": 2.0, "words": "plain"}
    assert setup.choices["shift"].reason == "as asked" and setup.choices["words"].reason == "the system's own"
    assert "batch" not in setup.choices and "augment" not in setup.choices
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in lines if r["kind"] == "stage" and not r["done"]] == ["begin", "the loop", "end"]
    assert any(r["kind"] == "val" for r in lines) and any(r["kind"] == "train" for r in told)
    net, card = load(run, entry=ENTRY)
    data = open_dataset(cells, **setup.opened)
    assert evaluate((net, card), data, split="val").metrics["ap50"] == done.metrics["ap50"]
    with pytest.raises(SightlineError, match="hog_svm counts in numpy, which no compiled or exported program holds"):
        export((net, card), tmp_path / "hog.pt2")
    assert not (tmp_path / "hog.pt2").exists()


@pytest.mark.parametrize("place", ["loop", "behind the loop", "end"])
def test_a_run_that_fell_goes_on_to_the_same_bits(toy: Any, cells: Path, tmp_path: Path, place: str) -> None:
    train(ENTRY, cells, run=tmp_path / "whole", **QUICK)
    toy.BROKEN.add(place)
    with pytest.raises(RuntimeError, match="fell"):
        train(ENTRY, cells, run=tmp_path / "fallen", **QUICK)
    toy.BROKEN.clear()
    finished = 2 if place == "end" else 1
    assert [p.name for p in tmp_path.glob("fallen/state/stage-*")] == [f"stage-000{finished}.safetensors"]
    done = train(ENTRY, resume=tmp_path / "fallen")
    assert done.stopped == "done"
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "fallen")
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    lines = [json.loads(line) for line in (tmp_path / "fallen" / "metrics.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in lines if r["kind"] == "stage" and not r["done"]] == ["begin", "the loop", "end"]
    again = train(ENTRY, resume=tmp_path / "fallen")  # nothing is left to do, and nothing changes
    assert all(torch.equal(one[k], v) for k, v in weights(tmp_path / "fallen").items()) and again.stopped == "done"


def test_options_that_make_no_sense_get_a_sentence(toy: Any, cells: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"batch": 4}, "batch=4: hog_svm learns in stages, whose options are lr, steps, shift, words"),
        ({"loss": "dice"}, "learns in stages"),
        ({"augment_values": {"flip": True}}, "augment.flip=True"),
        ({"train_values": {"shfit": 1.0}}, "Did you mean 'shift'"),
        ({"train_values": {"shift": "far"}}, "shift='far': expected a value such as 1.0"),
        ({"train_values": {"steps": 2.5}}, "steps=2.5: expected"),
        ({"devices": 2}, "leave devices, nodes and on_error out"),
        ({"on_error": "skip"}, "leave devices, nodes and on_error out"),
    ):
        with pytest.raises(UsageError, match=words):
            train(ENTRY, cells, run=tmp_path / "run", **QUICK, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    planned = train(ENTRY, cells, run=tmp_path / "run", dry_run=True, **QUICK)
    assert planned.steps == 3 and "shift" in str(planned) and not (tmp_path / "run").exists()


def test_damaged_states_and_numbers_that_are_none(toy: Any, cells: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"the stage 'end' made 'machine\.bias' no number"):
        train(ENTRY, cells, run=tmp_path / "run", train_values={"shift": float("nan")}, **QUICK)
    state = tmp_path / "run" / "state" / "stage-0002.safetensors"
    assert state.is_file()
    with pytest.raises(UsageError, match="learns in stages, whose options stay"):
        train(ENTRY, resume=tmp_path / "run", steps=9)
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(SightlineError, match=r"stage-0002\.safetensors: not the weights of this run"):
        train(ENTRY, resume=tmp_path / "run")


def test_info_lists_the_options_of_stages() -> None:
    found = info("hog_svm")
    assert found.options["rounds"] == 1 and "train.rounds=1" in str(found)
    assert found.to_json()["stage_options"]["negatives"] == 10
    assert not info("retinanet").options and "stages  " not in str(info("retinanet"))
