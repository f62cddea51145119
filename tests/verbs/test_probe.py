"""A linear machine on features and on answers: against the same steps by hand, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.ops.linear_svm import linear_svm
from sightline.verbs.features import features
from sightline.weights.card import Card

SHADES = {"bright": 170, "dark": 60, "grey": 110}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, count in (("train", 6), ("val", 4)):
        for k, (name, shade) in enumerate(SHADES.items()):
            for number in range(count):
                random = np.random.default_rng([k, number, count])
                image = random.integers(0, 40, (32, 32, 3), np.uint8) + np.uint8(shade)
                write_image(tmp_path / split / name / f"{number}.png", image)
    return tmp_path


def run(seed: int, classes: tuple[str, ...] = tuple(SHADES), task: str = "classification") -> tuple:
    torch.manual_seed(seed)
    net = sl.create("resnet", num_classes=len(classes), depths=[1, 1, 1, 1], width=8).eval()
    return net, Card(
        model="resnet", task=task, classes=classes, preprocess=Preprocess(resize="exact(32, 32)"), arguments={}
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_features_of_two_runs_side_by_side(data: Path) -> None:
    both = [run(0), run(1)]
    found = sl.probe(both, data, c=10.0, device="cpu")
    assert (found.learned, found.scored, found.channels, found.split) == (18, 12, 128, "val")
    sides = {}
    for split in ("train", "val"):
        paths = sorted((data / split).rglob("*.png"))
        seen = [unit(features(one, paths, device="cpu").values) for one in both]
        sides[split] = np.concatenate(seen, 1) / 2**0.5, np.array([list(SHADES).index(p.parent.name) for p in paths])
    weights, bias = linear_svm(*sides["train"], 3, c=10.0)
    said = (sides["val"][0] @ weights.T + bias).argmax(1)
    assert found.accuracy == pytest.approx((said == sides["val"][1]).mean()) and found.accuracy > 0.6
    assert found.frequent == pytest.approx(1 / 3) and found.average is None
    assert np.mean(list(found.per_class.values())) == pytest.approx(found.accuracy)
    assert "linear machine" in str(found) and found.to_json()["runs"] == ("resnet", "resnet")


def test_answers_are_averaged_and_learned_on(data: Path) -> None:
    both = [run(2), run(3)]
    found = sl.probe(both, data, of="answers", device="cpu")
    paths = sorted((data / "val").rglob("*.png"))
    truth = np.array([list(SHADES).index(p.parent.name) for p in paths])
    answers = [np.stack([a.probabilities.numpy() for a in sl.predict(one, paths, device="cpu")]) for one in both]
    assert found.channels == 6
    assert found.average == pytest.approx(((answers[0] + answers[1]).argmax(1) == truth).mean())


def test_what_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="of is 'scores'"):
        sl.probe(run(0), data, of="scores")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="come from no layer"):
        sl.probe(run(0), data, of="answers", layer="fc")
    with pytest.raises(UsageError, match="answers no class"):
        sl.probe(run(0, task="segmentation"), data)
    with pytest.raises(UsageError, match="must know the classes bright, dark, grey"):
        sl.probe([run(0), run(1, ("a", "b", "c"))], data, of="answers", device="cpu")
    with pytest.raises(UsageError, match="cannot be scored"):
        sl.probe(run(0), data, split="train")
    with pytest.raises(SightlineError, match="no labelled sample in its split 'test'"):
        sl.probe(run(0), data, split="test")
