"""VOC xml and COCO json as objects: corners, classes, splits, crowds, joints, and faults as sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.open import look_into, open_dataset
from sightline.datasets.stats import stats
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image


def xml(*objects: tuple[str, tuple[int, int, int, int], int]) -> str:
    rows = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b, hard in objects
    )
    return f"<annotation><size><width>50</width><height>40</height></size>{rows}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for i in range(6):
        write_image(root / "JPEGImages" / f"p{i}.jpg", np.full((40, 50, 3), 30 * i, np.uint8))
        (root / "Annotations" / f"p{i}.xml").write_text(xml(("dog", (1, 2, 10, 20), 0), ("cat", (5, 5, 50, 40), i % 2)))
    (root / "ImageSets" / "Main" / "train.txt").write_text("p0\np1\np2\np3\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("p4\np5\n")
    return root


def test_voc_counts_from_one_and_we_from_zero(voc: Path) -> None:
    data = open_dataset(voc.parent, kind="objects")
    assert data.classes == ("cat", "dog") and data.format == "voc"
    assert [len(data.split(s).records) for s in ("train", "val")] == [4, 2]
    first, second = data.records[1].labels
    assert first.label == 1 and first.box == (0, 1, 10, 20) and not first.difficult
    assert second.label == 0 and second.box == (4, 4, 50, 40) and second.difficult and second.place == 1
    assert any("format voc" in note for note in data.notes)
    counted = stats(data.split("train"))
    assert counted.class_objects == (4, 4) and counted.most_objects == 2 and len(counted.sides) == 8


def test_voc_that_counts_from_zero_is_said_aloud(voc: Path) -> None:
    (voc / "Annotations" / "p2.xml").write_text(xml(("dog", (0, 2, 10, 20), 0)))
    data = open_dataset(voc, kind="objects")
    assert data.records[1].labels[0].box == (1, 2, 10, 20) and any("begins at 0" in note for note in data.notes)


def test_a_split_can_be_drawn_again(voc: Path) -> None:
    data = open_dataset(voc, kind="objects", val="again(seeded(2))", seed=1)
    other = open_dataset(voc, kind="objects", val="again(seeded(2))", seed=2)
    same = open_dataset(voc, kind="objects", val="again(seeded(0.34))", seed=1)
    keys = [[r.key for r in d.split("val").records] for d in (data, other, same)]
    assert len(keys[0]) == 2 and keys[0] == keys[2] and keys[0] != keys[1]


def test_classes_can_be_asked_and_unknown_ones_are_named(voc: Path) -> None:
    assert open_dataset(voc, kind="objects", classes="dog,cat").records[0].labels[0].label == 0
    with pytest.raises(SightlineError, match=r"object 1 is a 'cat', which is not among the classes dog, cats"):
        open_dataset(voc, kind="objects", classes="dog,cats")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object><bndbox/></object></annotation>", "object 0 has no name"),
        (xml(("dog", ("x", 2, 3, 4), 0)), "object 0 \\(dog\\) has xmin 'x'; expected a number"),  # type: ignore[list-item]
        ("<other/>", "expected VOC's <annotation>"),
        ("no xml", "p3.xml"),
    ],
)
def test_damaged_xml_is_one_sentence(voc: Path, text: str, words: str) -> None:
    (voc / "Annotations" / "p3.xml").write_text(text)
    with pytest.raises(SightlineError, match=words):
        open_dataset(voc, kind="objects")
    assert [f.path.name for f in look_into(voc, kind="objects").faults] == ["p3.xml"]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.jpg", np.zeros((40, 50, 3), np.uint8))
    write_image(tmp_path / "b.jpg", np.zeros((40, 50, 3), np.uint8))
    square = [[5, 5, 20, 5, 20, 25, 5, 25]]
    rows = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 5, 15, 20], "area": 300, "iscrowd": 0,
         "segmentation": square, "keypoints": [6, 7, 2, 8, 9, 1], "num_keypoints": 2},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 50, 40], "area": 2000, "iscrowd": 1,
         "segmentation": {"size": [40, 50], "counts": [0, 2000]}},
    ]  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{c}.jpg", "height": 40, "width": 50} for n, c in ((7, "a"), (8, "b"))],
        "annotations": rows,
        "categories": [{"id": 9, "name": "sheep"}, {"id": 3, "name": "person"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_objects(coco: Path) -> None:
    data = open_dataset(coco, kind="objects", val=0)
    assert data.classes == ("person", "sheep") and [r.key for r in data.records] == ["a.jpg", "b.jpg"]
    person, sheep = data.records[0].labels
    assert person.box == (5, 5, 20, 25) and person.area == 300 and person.points == ((6, 7, 2), (8, 9, 1))
    assert len(person.mask) == 1 and person.mask[0].shape == (4, 2)
    assert sheep.crowd and sheep.label == 1 and sheep.mask[0].counts == (0, 2000)
    assert data.records[1].labels == ()  # a picture without objects is no picture without labels


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"category_id": 4}, "category id 4, which is not in categories"),
        ({"bbox": [1, 2, 3]}, "expected x, y, width, height"),
        ({"keypoints": [1, 2]}, "expected x, y, v for each joint"),
    ],
)
def test_damaged_coco_is_one_sentence(coco: Path, change: dict, words: str) -> None:
    content = json.loads((coco / "boxes.json").read_text())
    content["annotations"][0] |= change
    (coco / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(SightlineError, match=rf"annotation 0 has .*{words}"):
        open_dataset(coco, kind="objects")


def test_a_folder_without_objects_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"as objects; expected VOC's JPEGImages/"):
        open_dataset(tmp_path, kind="objects")
    with pytest.raises(UsageError, match="known are voc, coco"):
        open_dataset(tmp_path, kind="objects", format="pairs")
