"""The file that `init` writes: every option of train with its default, and it reads back."""

from pathlib import Path

import pytest

from sightline.errors import UsageError
from sightline.verbs.config import TRAIN, read_yaml, yaml_value
from sightline.verbs.init import init


def test_every_option_stands_there_with_its_default(tmp_path: Path) -> None:
    path = init(tmp_path / "new" / "train.yaml")
    values = read_yaml(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for option in TRAIN:
        assert values.get(option.name, "") == yaml_value(option.default)
        assert any(line.startswith(f"{option.name}:") and option.about in line for line in lines)
    assert set(values) == {"model", "data"} | {o.name for o in TRAIN if o.default is not None}


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="force=true"):
        init(path)
    assert path.read_text() == "mine"
    assert init(path, force=True).read_text(encoding="utf-8") != "mine"


def test_a_folder_gets_a_file(tmp_path: Path) -> None:
    assert init(tmp_path) == tmp_path / "sightline.yaml"
