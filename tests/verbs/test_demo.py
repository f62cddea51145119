"""The demo, with a tiny network and two steps in the place of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError, UsageError
from sightline.media.image import image_size
from sightline.verbs import demo as verb

TINY = {
    "steps": 2,
    "size": 32,
    "batch": 2,
    "augment": "none",
    "intensity": "dtype_max",
    "model_values": {"width": 4, "depth": 3},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A finished demo and the lines it said."""
    folder, lines = tmp_path_factory.mktemp("runs") / "demo", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "OPTIONS", TINY)
        patch.setattr(verb, "STEPS", 2)
        yield verb.demo(folder, say=lines.append), lines


def test_it_leaves_everything_it_tells_of(made):
    done, lines = made
    assert done.fresh and done.images == 8
    told = done.to_json()
    for name in ("run", "report", "picture", "answers"):
        assert Path(told[name]).exists(), name
    assert len(list(Path(told["answers"]).glob("*-overlay.jpg"))) == 8
    assert json.loads(json.dumps(told))["metrics"] == json.loads((done.folder / "test.json").read_text())["metrics"]
    assert str(done.folder / "report.html") in str(done) and "foreground_dice" in str(done)
    assert any("dtype_max" in line for line in lines), "every automatic choice is said"


def test_a_second_call_shows_the_first_at_once(made):
    done, _ = made
    stamps = {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")}
    lines: list[str] = []
    again = verb.demo(done.folder, say=lines.append)
    assert not again.fresh and again.metrics == done.metrics and again.following == done.following
    assert len(lines) == 1 and "holds a finished demo" in lines[0]
    assert {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")} == stamps


def test_one_that_was_interrupted_is_finished(made):
    done, _ = made
    (done.folder / "demo.json").unlink()
    lines: list[str] = []
    again = verb.demo(done.folder, say=lines.append)
    assert any("interrupted" in line for line in lines)
    assert again.fresh and again.metrics == done.metrics
    assert (done.folder / "demo.json").is_file()


def test_the_overview_holds_every_test_picture(made):
    """Eight panels, in two columns: each three pictures wide."""
    height, width = image_size(made[0].folder / "overview.jpg")
    assert width >= 2 * 3 * 256 and height >= 4 * 256


def test_the_commands_it_names_are_real(made):
    from sightline.cli.overview import verb_called

    for line in made[0].following:
        words = line.partition("sightline ")[2].split()
        assert verb_called(words[0]) is not None, line
    assert Path(made[0].following[0].split("unet ")[1].split(" run=")[0]).name == "nuclei"


def test_another_run_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": "camvid", "training": {"steps": 70}}))
    with pytest.raises(UsageError, match="holds another run"):
        verb.demo(tmp_path, say=lambda line: None)


def test_a_damaged_demo_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SightlineError, match="is damaged"):
        verb.demo(tmp_path, say=lambda line: None)


def test_dark_pictures_are_brightened_for_the_eye_only():
    dark = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    bright = verb.for_the_eye(dark)
    assert bright.max() == 255 and (np.diff(bright.ravel().astype(int)) >= 0).all()
    assert dark.max() == 63
    light = np.full((4, 4, 3), 230, np.uint8)
    assert verb.for_the_eye(light) is light
