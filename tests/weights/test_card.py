"""A model's folder: written whole, read back, and every way a card can be wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.weights import card as cards
from sightline.weights.card import Card
from sightline.weights.load import load_weights

CARD = Card(
    model="unet",
    task="segmentation",
    arguments={"num_classes": 2, "width": 8, "mean": [0.5, 0.5, 0.5]},
    classes=("sky", "größe"),
    colours=((0, 0, 0), (255, 1, 2)),
    preprocess=Preprocess(intensity="window(-125, 275)", channels=1, resize="short(64)", multiple=16),
    versions={"sightline": "0.1.0"},
    scores={"dataset_miou": 0.5},
    licences=("CC0-1.0",),
    data="camvid, val",
    criterion={"terms": {"ce": 1.0}},
    extra={"room": [1, None, True]},
)

#: The first cards, as they were written; they must open for ever.
FORMAT_1 = """{"format": 1, "model": "unet", "task": "segmentation", "arguments": {"num_classes": 2},
"classes": ["sky", "road"], "colours": [[0, 0, 0], [255, 0, 0]],
"preprocess": {"intensity": "dtype_max", "channels": 3, "resize": "none", "multiple": 16},
"versions": {"sightline": "0.1.0"}, "scores": {"dataset_miou": 0.5, "boundary_f1": null}, "licences": [], "data": "",
"weights_origin": "random", "criterion": {}, "extra": {}, "weights_sha256": ""}"""


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def refusal(folder: Path) -> str:
    with pytest.raises(SightlineError) as caught:
        cards.read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_written_and_read_back(tmp_path: Path) -> None:
    written = cards.write(tmp_path, net(), CARD)
    assert cards.read(tmp_path) == written
    assert replace(written, weights_sha256="") == CARD
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "card.json"}
    other = net(1)
    assert load_weights(other, tmp_path / cards.WEIGHTS).loaded == ("weight", "bias")
    assert torch.equal(other.weight, net().weight)  # type: ignore[arg-type]


def test_format_1_opens_for_ever(tmp_path: Path) -> None:
    cards.write(tmp_path, net(), CARD)
    (tmp_path / "card.json").write_text(FORMAT_1)
    card = cards.read(tmp_path)
    assert (card.classes, card.colours[1], card.preprocess.multiple) == (("sky", "road"), (255, 0, 0), 16)
    assert card.scores == {"dataset_miou": 0.5, "boundary_f1": None}


def test_a_card_needs_only_format_model_and_task(tmp_path: Path) -> None:
    cards.write(tmp_path, net(), CARD)
    (tmp_path / "card.json").write_text('{"format": 1, "model": "unet", "task": "segmentation", "later": [1]}')
    assert cards.read(tmp_path) == Card("unet", "segmentation")


def test_scores_that_are_no_numbers_become_null(tmp_path: Path) -> None:
    cards.write(tmp_path, net(), replace(CARD, scores={"hd95": math.nan, "far": math.inf, "miou": 0.5}))
    assert cards.read(tmp_path).scores == {"hd95": None, "far": None, "miou": 0.5}
    assert "NaN" not in (tmp_path / "card.json").read_text()


def test_values_that_are_not_json_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="numbers, text, lists"):
        cards.write(tmp_path, net(), replace(CARD, arguments={"backbone": nn.Identity()}))
    assert list(tmp_path.iterdir()) == []


def test_a_crash_between_weights_and_card_leaves_a_folder_that_opens_with_the_newer_card(tmp_path: Path) -> None:
    cards.write(tmp_path, net(0), CARD)
    old = (tmp_path / "card.json").read_text()
    cards.write(tmp_path, net(1), replace(CARD, scores={"dataset_miou": 0.9}))
    (tmp_path / "card.json").write_text(old)
    assert cards.read(tmp_path).scores == {"dataset_miou": 0.9}
    (tmp_path / "card.json").unlink()
    assert cards.read(tmp_path).scores == {"dataset_miou": 0.9}


def test_a_card_beside_another_models_weights_is_noticed(tmp_path: Path) -> None:
    cards.write(tmp_path / "a", net(0), CARD)
    cards.write(tmp_path / "b", net(1), replace(CARD, classes=("cat", "dog")))
    (tmp_path / "a/model.safetensors").write_bytes((tmp_path / "b/model.safetensors").read_bytes())
    assert "are not of the same model" in refusal(tmp_path / "a")


def test_a_card_written_for_weights_that_still_change_is_not_compared_until_it_is_sealed(tmp_path: Path) -> None:
    cards.write_card(tmp_path, CARD)
    assert "holds no model.safetensors" in refusal(tmp_path)
    with pytest.raises(SightlineError, match="write the weights first"):
        cards.write_card(tmp_path, CARD, sealed=True)
    (tmp_path / "model.safetensors").write_bytes(b"first")
    assert cards.read(tmp_path) == CARD
    sealed = cards.write_card(tmp_path, CARD, sealed=True)
    assert cards.read(tmp_path) == sealed
    (tmp_path / "model.safetensors").write_bytes(b"second")
    assert "are not of the same model" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "made by a newer version of sightline (card format 2)"),
        ({"format": 0}, "'format' must be a whole number"),
        ({"format": "1"}, "'format' must be a whole number"),
        ({"format": True}, "'format' must be a whole number"),
        ({"model": None}, "'model' is wrong"),
        ({"task": 3}, "'task' is wrong"),
        ({"classes": "sky"}, "'classes' is wrong"),
        ({"classes": [1]}, "'classes.0' is wrong"),
        ({"colours": [[1, 2]]}, "'colours.0.2' is wrong"),
        ({"colours": [[1, 2, "x"]]}, "'colours.0.2' is wrong"),
        ({"arguments": []}, "'arguments' is wrong"),
        ({"preprocess": {"channels": "three"}}, "'preprocess.channels' is wrong"),
        ({"scores": {"miou": "good"}}, "'scores.miou"),
        ({"licences": 3}, "'licences' is wrong"),
    ],
)
def test_a_malformed_card_names_the_field(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    cards.write(tmp_path, net(), CARD)
    content = json.loads((tmp_path / "card.json").read_text()) | change
    (tmp_path / "card.json").write_text(json.dumps(content))
    sentence = refusal(tmp_path)
    assert words in sentence
    assert str(tmp_path / "card.json") in sentence


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1]", "must hold a JSON object, not a list"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 10_000, "is not JSON"),
        (b'{"format": 1, "model": "unet"}', "'task' is wrong"),
        (b" " * (cards.MAX_BYTES + 1), "is larger than 16 MB"),
    ],
)
def test_what_is_no_card(tmp_path: Path, data: bytes, words: str) -> None:
    cards.write(tmp_path, net(), CARD)
    (tmp_path / "card.json").write_bytes(data)
    assert words in refusal(tmp_path)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    assert "holds no model.safetensors" in refusal(tmp_path)
    assert "holds no model.safetensors" in refusal(tmp_path / "none")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "holds no card.json" in refusal(tmp_path)
