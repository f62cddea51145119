"""key=value and --key value say the same, and a YAML file fills what the command line left open."""

from pathlib import Path

import pytest

from sightline.cli.tokens import spread

OPTIONS = {"epochs": True, "source": True, "out": True, "model": True, "dry-run": False, "on-error": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("unet data epochs=3", "unet data --epochs=3"),
        ("unet data --epochs=3", "unet data --epochs=3"),
        ("unet data --epochs 3", "unet data --epochs 3"),
        ("epochs=3 unet data", "--epochs=3 unet data"),
        ("run source=rtsp://h/x?a=b&c=d", "run --source=rtsp://h/x?a=b&c=d"),  # the first = parts, the rest is value
        ("run rtsp://h/x?a=b", "run rtsp://h/x?a=b"),
        ("unet data/fold=1", "unet data/fold=1"),  # a path with = is a path
        ("unet C:\\a=b", "unet C:\\a=b"),
        ("unet d model.width=32", "unet d --model.width=32"),
        ("unet d on_error=skip", "unet d --on_error=skip"),
        ("unet d dry_run=true --dry-run out=a", "unet d --dry_run=true --dry-run --out=a"),
        ("unet d --out a=b", "unet d --out a=b"),  # the value of the option before it
        ("unet d --dry-run epochs=3", "unet d --dry-run --epochs=3"),  # a flag takes no value
        ("unet d epoch=3", "unet d --epoch=3"),  # so that the parser refuses it by name
        ("run -- epochs=3", "run -- epochs=3"),
        ("unet d epochs=", "unet d --epochs="),
    ],
)
def test_pairs_become_options(given: str, expected: str) -> None:
    assert spread(given.split(), OPTIONS) == expected.split()


def test_a_file_whose_name_looks_like_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.jpg").touch()
    Path("epochs=3").touch()
    assert spread(["run", "a=b.jpg", "epochs=3", "./epochs=3"], OPTIONS) == [
        "run",
        "a=b.jpg",
        "--epochs=3",
        "./epochs=3",
    ]
