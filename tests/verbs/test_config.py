"""Layers of options: a YAML file means what the same characters mean on the command line."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.verbs.config import as_yaml, layer, nested_value, read_yaml, refuse_unknown


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_are_text_with_none_of_yamls_surprises(tmp_path: Path) -> None:
    text = "lr: 1e-3\nclasses: [yes, no, 'on']\nseed: 010\nsize:\nloss: null\nmodel:\n  width: 32\nmodel.depth: 4\n"
    expected = {"lr": "1e-3", "classes": "yes,no,on", "seed": "010", "model.width": "32", "model.depth": "4"}
    assert read_yaml(_file(tmp_path, text)) == expected


def test_an_empty_file_is_no_option(tmp_path: Path) -> None:
    assert read_yaml(_file(tmp_path, "# nothing\n")) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs: 3\nepochs: 4\n", "line 2: 'epochs' stands there twice"),
        ("- epochs\n- 3\n", "holds a list"),
        ("epochs: [1, {a: b}]\n", "line 1: a list may hold plain values"),
        ("epochs: {\n", "is not YAML"),
        ("epochs: !!python/object:os.system 3\nseed: *x\n", "is not YAML"),
        ("[a, b]: 3\n", "found a list as the option's name"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        read_yaml(path)
    assert says in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sightline init"):
        read_yaml(tmp_path / "absent.yaml")


def test_unknown_keys_are_refused_by_the_nearest_name() -> None:
    refuse_unknown(["epochs", "dry_run", "model.width"], ["epochs", "dry-run", "model"], "x.yaml")
    with pytest.raises(UsageError, match=r"x\.yaml has the option 'epoch'.*Did you mean 'epochs'\?"):
        refuse_unknown(["epoch"], ["epochs", "model"], "x.yaml")
    with pytest.raises(UsageError, match=r"'data\.x'"):
        refuse_unknown(["data.x"], ["data", "model"], "x.yaml")


def test_later_layers_win_and_say_so() -> None:
    settings = layer(
        ("default", {"a": 1, "b": 2, "c": 3}), ("x.yaml", {"b": 20, "c": 30}), ("command line", {"c": 300})
    )
    assert {k: (s.value, s.source) for k, s in settings.items()} == {
        "a": (1, "default"),
        "b": (20, "x.yaml"),
        "c": (300, "command line"),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("none", None),
        ("True", True),
        ("relu", "relu"),
        ("64,128", [64, 128]),
        ("[1, 2]", [1, 2]),
        ('"7"', "7"),
        ("a,b", ["a", "b"]),
        ("-3", -3),
        ("", ""),
    ],
)
def test_nested_values(text: str, value: object) -> None:
    assert nested_value(text) == value
    assert type(nested_value(text)) is type(value)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12))
def test_what_print_config_writes_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    if text.strip() in ("", "~", "null"):
        return
    path = _file(tmp_path_factory.mktemp("yaml"), as_yaml(layer(("command line", {"run": text, "seed": 3}))))
    assert read_yaml(path) == {"run": text, "seed": "3"}


def test_the_table_is_the_signature_of_train() -> None:
    from sightline.cli.train import train as command
    from sightline.verbs.config import NESTED, TRAIN
    from sightline.verbs.train import train as verb

    table = {option.name: option.default for option in TRAIN} | {f"{family}_values": None for family in NESTED}
    of_verb = {p.name: p.default for p in inspect.signature(verb).parameters.values()}
    of_command = {p.name: p.default for p in inspect.signature(command).parameters.values()}
    for only_in_python in ("say", "log"):
        assert of_verb.pop(only_in_python) is None
    for positional in ("model", "data"):
        assert of_verb.pop(positional) is None
        assert of_command.pop(positional) is None
    for only_here in ("config", "recipe", "print_config", "json"):
        assert not of_command.pop(only_here)
    assert of_verb == table
    assert of_command == table
