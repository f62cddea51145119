"""Every example runs, with tiny values in the place of its own."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sightline as sl
from sightline.datasets.bundled import bundled

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TINY = {"size": 32, "batch": 2, "augment": "none", "model_values": {"width": 4, "depth": 3}}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Gives an example as a module by its name; the current folder is a fresh one."""
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a tiny network on the bundled nuclei, two steps long."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return str(sl.train("unet", bundled("nuclei"), run=folder, steps=2, **TINY).folder)


def test_every_example_is_tested_here():
    here = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.stem}")' in here, f"{path.name} has no test"


def test_train_and_predict(example, capsys):
    example("train_and_predict").main(run="run", steps=2, **TINY)
    assert len(list(Path("run/answers").glob("*-overlay.jpg"))) == 8
    assert "foreground_dice" in capsys.readouterr().out


def test_arrays(example, run, capsys):
    example("arrays").main(run)
    said = capsys.readouterr().out
    assert "8 and 16 bits agree on 100.0%" in said
    assert "the corner: (91, 77) pixels" in said


def test_tiles(example, run, capsys):
    example("tiles").main(run, rows=1, columns=2, tile=160)
    said = capsys.readouterr().out
    assert "256 x 512 pixels" in said and "in tiles, mirrored" in said


def test_the_mosaic_of_the_tiles_example_is_made_of_whole_pictures(example):
    from sightline.media.image import read_image

    large = example("tiles").mosaic(2, 3)
    assert large.shape == (512, 768, 1)
    originals = [read_image(p) for p in (bundled("nuclei") / "images" / "train").glob("*.png")]
    assert any((large[256:, 512:] == p).all() for p in originals if p.shape == (256, 256, 1))


def test_moving_shapes(example, capsys):
    example("moving_shapes").main("shapes", steps=2, pictures=4, frames=3, **TINY)
    assert "3 frames" in capsys.readouterr().out
    assert Path("shapes/answered.mp4").stat().st_size > 0


def test_weights(example, capsys):
    example("weights").main("weights", width=4)
    said = capsys.readouterr().out
    assert "largest difference of the answers: 0.0" in said
    assert "reinitialised" in said and "milesial" in said


def test_custom_entry(example):
    from sightline.verbs.models import create

    module = example("custom_entry")
    trained = sum(p.numel() for p in create(module.ENTRY).parameters())
    assert trained == module.ENTRY.parameters
    tiny = {**TINY, "model_values": {"width": 4}}
    assert 0 <= module.main("dots", steps=2, pictures=4, **tiny) <= 1
