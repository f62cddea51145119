"""The run folder of format 1, as the first version wrote it, opens, scores, predicts, compares and resumes for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.verbs.compare import compare
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.predict import predict
from sightline.verbs.report import write_report
from sightline.verbs.train import read_setup, train

HERE = Path(__file__).parent
V1, PICTURES = HERE / "v1", HERE / "pictures"
EXPECTED = json.loads((HERE / "expected.json").read_text())


def test_the_folder_is_small_and_of_format_1() -> None:
    assert sum(p.stat().st_size for p in V1.rglob("*") if p.is_file()) < 150_000
    assert json.loads((V1 / "config.json").read_text())["format"] == 1
    assert json.loads((V1 / "best" / "card.json").read_text())["format"] == 1


@pytest.mark.parametrize("state", ["best", "last"])
def test_it_scores_and_predicts_the_stored_numbers(state: str) -> None:
    """Other machines may turn a pixel on the border of two classes; ten of 3,840 are more than that."""
    network = load(V1 / state)
    expected = EXPECTED[state]
    found = evaluate(network, PICTURES, split="all")
    assert np.abs(np.array(found.confusion) - np.array(expected["confusion"])).sum() <= 10
    assert found.metrics.keys() >= expected["metrics"].keys()  # later versions may score more, never less
    for name, value in expected["metrics"].items():
        assert found.metrics[name] == pytest.approx(value, abs=0.01), name
    assert found.metrics["dataset_miou"] > 0.25  # more than background everywhere
    answers = {a.name: a.pixels for a in predict(network, PICTURES / "images")}
    assert answers.keys() == expected["pixels"].keys()
    for name, pixels in expected["pixels"].items():
        assert answers[name].keys() == pixels.keys()
        assert sum(abs(answers[name][k] - n) for k, n in pixels.items()) <= 10


def test_its_decisions_are_understood() -> None:
    setup = read_setup(V1)
    assert (setup.model, setup.classes) == ("unet", ("background", "disc", "square", "triangle"))
    assert setup.value("size") == [32, 32]
    assert setup.choices["batch"].reason == "as asked"
    assert setup.training["steps"] == 400
    _, card = load(V1)
    assert (card.model, card.task, card.preprocess) == ("unet", "segmentation", setup.preprocess)
    assert card.arguments == setup.arguments


def test_pages_and_tables_are_made_of_it(tmp_path: Path) -> None:
    run = shutil.copytree(V1, tmp_path / "run")
    assert "dataset_miou" in str(compare([V1, run], out=tmp_path / "page.html"))
    assert write_report(run).stat().st_size > 10_000


def test_it_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own pictures are gone; it goes on with others where they stood."""
    from sightline.datasets.moving import write_pictures

    monkeypatch.chdir(tmp_path)
    shutil.copytree(V1, "v1")
    write_pictures("made-up", train=24, val=2, size=(40, 48), shapes=3)
    done = train(resume="v1", steps=401)
    assert (done.step, done.stopped) == (401, "done")
    assert done.metrics["dataset_miou"] > 0.25
