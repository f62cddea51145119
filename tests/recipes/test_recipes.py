"""Recipes: options that `train` knows, a result that can be written down, and baselines against slow references."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest

from sightline import recipes
from sightline.datasets.open import open_dataset
from sightline.media.image import read_image, write_image
from sightline.media.labels import read_labels, write_labels
from sightline.recipes.baselines import location_prior, one_threshold, otsu, otsu_threshold
from sightline.recipes.recipe import Recipe, carry_out, main
from sightline.segmentation.losses import parse_loss
from sightline.verbs.models import builder_of, defaults_of, entry_of, resolve, task_of
from sightline.verbs.train import plan_of, read_setup, train

NAMES = [
    m.name for m in iter_modules(recipes.__path__) if hasattr(import_module(f"sightline.recipes.{m.name}"), "RECIPE")
]
TINY = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "model_values": {"width": 2, "depth": 2}}


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_told_in_words_that_train_knows(name: str) -> None:
    recipe: Recipe = import_module(f"sightline.recipes.{name}").RECIPE
    assert recipe.name == name
    assert set(recipe.options) <= set(signature(train).parameters)
    assert set(recipe.options.get("model_values", {})) <= set(defaults_of(builder_of(recipe.model)))
    if stages := entry_of(recipe.model).fit:  # a system that learns in stages has options of its own
        assert set(recipe.options.get("train_values", {})) <= set(signature(resolve(stages)).parameters)
        return
    assert isinstance(recipe.options["steps"], int)  # the number of steps is fixed; time is measured
    task = task_of(entry_of(recipe.model))
    if task.name == "segmentation":
        parse_loss(recipe.options.get("loss", "ce"))
    size = recipe.options.get("size")
    size = [size, size] if isinstance(size, int) else size
    task.augment(recipe.options.get("augment", "medium"), size, recipe.options.get("augment_values", {}))


def test_a_recipe_trains_scores_and_continues(shapes: Path, tmp_path: Path) -> None:
    recipe = Recipe("shapes", "unet", "dataset_miou", 0.0, TINY | {"seed": 3}, baseline=location_prior)
    said: list[str] = []
    result = carry_out(recipe, shapes, {"run": tmp_path / "run"}, said.append)
    assert json.loads((tmp_path / "run" / "RESULT.json").read_text()) == result
    stored = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert result["value"] == round(stored["metrics"]["dataset_miou"], 4)
    assert (result["seed"], result["split"], result["system"]) == (3, "val, 3 pictures", "unet")
    assert result["command"] == "python -m sightline.recipes.shapes shapes"
    assert result["baseline_value"] > 0
    assert said[-1].startswith("unet: dataset_miou ")
    again = carry_out(recipe, shapes, {"run": tmp_path / "run"}, said.append)
    assert again["value"] == result["value"]
    assert read_setup(tmp_path / "run").seed == plan_of(read_setup(tmp_path / "run")).seed == 3


def test_the_command_of_a_recipe(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe("shapes", "unet", "dataset_miou", 0.0, TINY)
    assert main(recipe, []) == 2
    assert "which data? python -m sightline.recipes.shapes DATA" in capsys.readouterr().err
    assert main(recipe, [str(shapes), "stepz=3"]) == 2
    assert "'stepz' is no option" in capsys.readouterr().err
    assert main(recipe, [str(tmp_path / "absent"), f"run={tmp_path / 'run'}"]) == 1
    assert "absent does not exist" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(recipe, [str(shapes), f"run={tmp_path / 'run'}", "steps=1"]) == 0
    assert read_setup(tmp_path / "run").training["steps"] == 1


@pytest.fixture(scope="module")
def binary(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up pictures in grey, with one class: whatever is brighter or darker than its ground."""
    folder = tmp_path_factory.mktemp("data") / "binary"
    shutil.copytree(shapes, folder)
    (folder / "classes.txt").write_text("shape\n")
    for mask in folder.glob("masks/*/*.png"):
        write_labels(mask, (read_labels(mask) > 0).astype(np.uint8))
    for picture in folder.glob("images/*/*.png"):
        write_image(picture, read_image(picture)[..., :1])
    return folder


def test_otsu_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    grey = np.concatenate([rng.normal(60, 8, 400), rng.normal(150, 20, 250)]).reshape(65, 10)
    found = otsu_threshold(grey)

    def between(t: float) -> float:
        low, high = grey[grey <= t], grey[grey > t]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(between(t) for t in np.sort(grey.ravel())[:-1])
    assert between(found) >= 0.99 * best


def test_the_dice_of_otsu_counts_pixels(binary: Path) -> None:
    data = open_dataset(binary)
    both = answered = labelled = 0
    for path in sorted((binary / "images" / "val").iterdir()):
        grey = read_image(path)[..., 0].astype(float)
        above = grey > otsu_threshold(grey)
        border = [above[y, x] for y in range(40) for x in range(48) if y in (0, 39)]
        border += [above[y, x] for y in range(40) for x in (0, 47)]
        inside = ~above if sum(border) / len(border) > 0.5 else above
        truth = read_labels(binary / "masks" / "val" / path.name) == 1
        both += int((inside & truth).sum())
        answered, labelled = answered + int(inside.sum()), labelled + int(truth.sum())
    assert otsu(data)[1] == pytest.approx(2 * both / (answered + labelled))


def test_one_threshold_is_chosen_on_train_and_scored_on_val(binary: Path) -> None:
    pairs = {
        split: [
            (read_image(path)[..., 0], read_labels(binary / "masks" / split / path.name) == 1)
            for path in sorted((binary / "images" / split).iterdir())
        ]
        for split in ("train", "val")
    }

    def right(split: str, t: int) -> float:
        hits = sum(int(((grey > t) == truth).sum()) for grey, truth in pairs[split])
        return hits / sum(truth.size for _, truth in pairs[split])

    scores = [right("train", t) for t in range(256)]
    assert one_threshold(open_dataset(binary))[1] == pytest.approx(right("val", int(np.argmax(scores))))


def test_a_location_prior_votes_at_each_place(shapes: Path) -> None:
    votes = np.zeros((4, 40, 48), int)
    for path in (shapes / "masks" / "train").iterdir():
        truth = read_labels(path)
        for y in range(40):
            for x in range(48):
                votes[truth[y, x], y, x] += 1
    answer = votes.argmax(0)
    masks = [read_labels(p) for p in (shapes / "masks" / "val").iterdir()]
    shares = []
    for k in range(4):
        both = sum(int(((m == k) & (answer == k)).sum()) for m in masks)
        either = sum(int(((m == k) | (answer == k)).sum()) for m in masks)
        if either:
            shares.append(both / either)
    assert location_prior(open_dataset(shapes))[1] == pytest.approx(np.mean(shares))
