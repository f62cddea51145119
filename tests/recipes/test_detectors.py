"""The experiments of boxes, masks and joints: values of their builders, small runs, rows that are written down."""

from __future__ import annotations

import json
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.media.image import write_image
from sightline.media.labels import write_labels
from sightline.recipes import every_detector, keypoints_by_heart, penn_fudan_detector
from sightline.verbs.models import builder_of, catalogue, defaults_of
from sightline.verbs.train import train


def test_every_system_has_a_row_and_values_its_builder_knows() -> None:
    names = [name for kind in every_detector.KINDS for name in every_detector.systems(kind)]
    rooms = {n for n, e in catalogue().items() if e.task in ("detection", "instance") and e.fit is None}
    assert set(names) | set(every_detector.LEFT_OUT) == rooms and len(names) == len(set(names))
    assert set(every_detector.OWN) <= rooms and set(every_detector.SIZED) <= rooms
    for kind in every_detector.KINDS:
        assert set(every_detector.OPTIONS[kind]) <= set(signature(train).parameters)
        for name in every_detector.systems(kind):
            recipe = every_detector.recipe(kind, name)
            known = defaults_of(builder_of(catalogue()[name]))
            assert set(recipe.options["model_values"]) <= set(known), name
            assert recipe.options["model_values"].get("norm", known.get("norm")) != "frozen", name


def test_networks_of_one_size_are_those_that_say_so() -> None:
    exact = {n for n in every_detector.systems("boxes") if catalogue()[n].preprocess.resize.startswith("exact")}
    assert exact == set(every_detector.SIZED)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    for i in range(5):
        numbers = np.zeros((64, 64), np.uint8)
        numbers[8:20, 6 + 4 * i : 20 + 4 * i], numbers[40:50, 10:30] = 1, 2
        for name in ("images", "masks"):
            (root / name).mkdir(exist_ok=True)
        write_image(root / "images" / f"c{i}.png", (numbers * 90)[..., None].repeat(3, 2))
        write_labels(root / "masks" / f"c{i}.png", numbers, [(k, k, k) for k in range(3)])
    return root


QUICK = {"seed": 0, "steps": 2, "batch": 2, "device": "cpu", "val": "seeded(2)"}
FEW = {"backbone": "mobilenet_v3_small", "channels": 16, "hidden": 16, "before": [40, 30], "after": [30, 20]}


def test_rows_say_what_was_there_before(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(every_detector.OPTIONS, "masks", QUICK)
    monkeypatch.setattr(every_detector, "NARROW", FEW | {"mask_channels": 8})
    monkeypatch.setattr(sys, "argv", ["every_detector", "masks", str(cells), "mask_rcnn"])
    assert every_detector.main() == 0
    (row,) = json.loads(Path("runs/every_detector/results.json").read_text())
    assert row["system"] == "mask_rcnn" and 0 <= row["value"] <= 1 and 0 <= row["untrained"] <= 1
    assert row["baseline_value"] >= 0 and row["split"] == "val, 2 pictures"
    assert row["command"] == f"python -m sightline.recipes.every_detector masks {cells.name} mask_rcnn"


@pytest.mark.parametrize("words", [[], ["boxes"], ["pixels", "x"], ["joints", "x", "mask_rcnn"]])
def test_a_wrong_call_is_one_sentence(words: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["every_detector", *words])
    assert every_detector.main() == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_two_seeds_are_averaged(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = [0.2, 0.5]

    def told(recipe: object, data: Path, options: dict) -> dict:
        return {"value": values[options["seed"]], "baseline_value": 0.1, "seconds": 3, "seed": options["seed"]}

    monkeypatch.setattr(penn_fudan_detector, "carry_out", told)
    found = penn_fudan_detector.both(cells)
    assert found["value"] == 0.35 and found["values"] == values and found["seed"] == [0, 1] and found["seconds"] == 6
    assert json.loads(Path("runs/penn_fudan_detector/RESULT.json").read_text()) == found


def people(root: Path, sizes: list[list[int]]) -> Path:
    """COCO's folders with a photo for each list of sides of its people."""
    content: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    for i, sides in enumerate(sizes):
        write_image(root / "train2017" / f"{i}.jpg", np.full((200, 300, 3), 9, np.uint8))
        content["images"].append({"id": i, "file_name": f"{i}.jpg", "height": 200, "width": 300})
        for k, side in enumerate(sides):
            content["annotations"].append(
                {"id": 10 * i + k + 1, "image_id": i, "category_id": 1, "bbox": [0, 0, side, side], "iscrowd": 0,
                 "area": side**2, "keypoints": [5, 5, 2] * 17, "num_keypoints": 17}
            )  # fmt: skip
    (root / "annotations").mkdir()
    (root / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(content))
    return root


def test_photos_with_large_people_alone_are_chosen(tmp_path: Path) -> None:
    data = people(tmp_path / "coco", [[100], [100, 20], [], [120, 150], [97]])
    keypoints_by_heart.write_photos(data, tmp_path / "some", count=3)
    content = json.loads((tmp_path / "some" / "annotations" / "person_keypoints_train.json").read_text())
    assert [row["id"] for row in content["images"]] == [0, 3, 4] and len(content["annotations"]) == 4
    assert sorted(p.name for p in (tmp_path / "some" / "train").iterdir()) == ["0.jpg", "3.jpg", "4.jpg"]
    with pytest.raises(SightlineError, match="has 3 photos with large people alone, expected 8"):
        keypoints_by_heart.write_photos(data, tmp_path / "more")
