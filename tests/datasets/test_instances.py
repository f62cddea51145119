"""Masks that number objects as objects: boxes, arrangements, splits, classes; shapes of single objects; faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.datasets.instances import MOST_NUMBERS, boxes_of
from sightline.datasets.open import look_into, open_dataset
from sightline.datasets.records import MaskFile, ObjectRecord, Picture, Runs, Thing
from sightline.datasets.stats import stats
from sightline.datasets.thing_masks import NOTHING, Crop, crop_of, has_masks, shapes_of
from sightline.datasets.things import things_of
from sightline.errors import SightlineError
from sightline.media.image import write_image


def numbers(shape: tuple[int, int], objects: dict[int, tuple[int, int, int, int]], dtype: str) -> np.ndarray:
    found = np.zeros(shape, dtype)
    for number, (x0, y0, x1, y1) in objects.items():
        found[y0:y1, x0:x1] = number
    return found


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """Three pictures with masks of 16 bits, the numbers with gaps, and an index of ids and splits."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(3):
        write_image(tmp_path / "images" / f"n{i}.png", np.full((40, 50, 3), 60 * i, np.uint8))
        mask = numbers((40, 50), {3: (4, 5, 14, 11), 300: (20, 0, 21, 1)} if i else {}, "uint16")
        Image.fromarray(mask).save(tmp_path / "labels" / f"n{i}.png")
    (tmp_path / "index.csv").write_text("id,split\nn0,train\nn1,train\nn2,test\n")
    return tmp_path


def test_numbers_become_objects_with_their_splits(nuclei: Path) -> None:
    data = open_dataset(nuclei, kind="objects", val=0)
    assert data.format == "instances" and data.classes == ("object",) and data.splits == ("train", "test")
    assert any("16 bits" in note for note in data.notes)
    assert [len(r.labels) for r in data.records] == [0, 2, 2]
    first, second = data.records[1].labels
    assert first.box == (4, 5, 14, 11) and first.area == 60 and (first.value, first.place) == (3, 3)
    assert second.box == (20, 0, 21, 1) and second.area == 1  # one pixel is an object
    assert has_masks(data.records)
    counted = stats(data.split("train"))
    assert counted.most_objects == 2 and counted.joints == 0
    for crop, thing in zip(shapes_of(data.records[1], (first, second), (40, 50)), (first, second)):
        assert isinstance(crop, Crop) and crop.area == thing.area and (crop.left, crop.top) == thing.box[:2]


def test_penn_fudans_arrangement_and_an_asked_class(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(4):
        write_image(tmp_path / "images" / f"p{i}.jpg", np.full((30, 40, 3), 90, np.uint8))
        mask = numbers((30, 40), {k + 1: (9 * k, 2, 9 * k + 5, 20) for k in range(1 + i % 2)}, "uint8")
        picture = Image.fromarray(mask)
        picture.putpalette([v for k in range(256) for v in (k, 255 - k, k)])
        picture.save(tmp_path / "masks" / f"p{i}_mask.png")
    data = open_dataset(tmp_path, kind="objects", classes="pedestrian")
    assert data.format == "instances" and data.classes == ("pedestrian",)
    assert [len(r.labels) for r in data.records] == [1, 2, 1, 2]
    with pytest.raises(SightlineError, match="know one class, not 2"):
        open_dataset(tmp_path, kind="objects", classes="a,b")
    (tmp_path / "masks" / "p3_mask.png").unlink()
    assert "has no mask" in look_into(tmp_path, kind="objects").faults[0].sentence


def test_class_ids_are_not_taken_for_objects(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        write_image(tmp_path / "images" / f"c{i}.png", np.zeros((20, 20, 3), np.uint8))
        mask = numbers((20, 20), {2: (0, 0, 5, 5), 7: (8, 8, 12, 12)}, "uint8")
        Image.fromarray(mask).save(tmp_path / "masks" / f"c{i}.png")
    with pytest.raises(SightlineError, match="in no format that can be recognised as objects"):
        open_dataset(tmp_path, kind="objects")
    assert len(open_dataset(tmp_path, kind="objects", format="instances").records[0].labels) == 2


def test_a_mask_of_another_size_is_one_sentence(nuclei: Path) -> None:
    Image.fromarray(np.ones((10, 10), np.uint16)).save(nuclei / "labels" / "n1.png")
    with pytest.raises(SightlineError, match=r"n1\.png is 10 x 10 pixels but its picture .* is 50 x 40"):
        open_dataset(nuclei, kind="objects", val=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["uint8", "uint16", "int32"]))
def test_boxes_as_by_a_loop(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 0, 1, 2, 7, 200, 255 if dtype == "uint8" else 60_000], (9, 11)).astype(dtype)
    if dtype == "int32":
        values[values == 7] = MOST_NUMBERS + 7
        values[values == 2] = -3
    expected = []
    for number in sorted(set(values.ravel().tolist())):
        if number <= 0 or (dtype == "uint8" and number == 255):
            continue
        rows, columns = np.nonzero(values == number)
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        expected.append((number, box, len(rows)))
    assert boxes_of(values) == expected


def test_void_is_no_object_unless_numbers_go_as_far() -> None:
    assert [row[0] for row in boxes_of(np.array([[0, 1], [255, 255]], np.uint8))] == [1]
    assert [row[0] for row in boxes_of(np.array([[254, 1], [255, 255]], np.uint8))] == [1, 254, 255]
    assert boxes_of(np.zeros((4, 5), np.uint8)) == []


def test_every_form_of_mask_gives_the_same_pixels(tmp_path: Path) -> None:
    flags = np.zeros((12, 10), bool)
    flags[3:9, 2:7] = True
    columns = flags.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(int), [0]])))
    counts = tuple(np.diff(np.concatenate([[0], edges, [columns.size]])).tolist())
    square = np.array([[2.0, 3], [7, 3], [7, 9], [2, 9]])
    Image.fromarray(flags.astype(np.uint8) * 4).save(tmp_path / "m.png")
    masks = ([square], [Runs(counts, (12, 10))], MaskFile(tmp_path / "m.png"), [square[:3], square[[0, 2, 3]]])
    for mask in masks:
        thing = Thing(0, (2, 3, 7, 9), mask=mask, value=4)
        record = ObjectRecord("x", Picture(tmp_path / "x.png"), (thing,))
        crop = crop_of(shapes_of(record, (thing,), (12, 10))[0], (12, 10))
        found = np.zeros_like(flags)
        found[crop.top : crop.top + crop.inside.shape[0], crop.left : crop.left + crop.inside.shape[1]] = crop.inside
        assert (found == flags).mean() >= (0.99 if isinstance(mask, MaskFile | Runs) else 0.9)
        assert (isinstance(mask, list) and len(mask) == 2) or (found == flags).all()


def test_an_object_without_mask_is_refused_but_a_crowd_is_not(tmp_path: Path) -> None:
    record = ObjectRecord("x", Picture(tmp_path / "x.png"), (), source=tmp_path / "a.json")
    assert shapes_of(record, (Thing(0, (0, 0, 2, 2), crowd=True),), (5, 5)) == (NOTHING,)
    with pytest.raises(SightlineError, match=r"a\.json: object 4 of x has no mask, others do"):
        shapes_of(record, (Thing(0, (0, 0, 2, 2), place=4),), (5, 5))
    wrong = Thing(0, (0, 0, 2, 2), mask=[Runs((3,), (1, 4))], place=1)
    with pytest.raises(SightlineError, match="object 1 has run lengths that do not fit"):
        shapes_of(record, (wrong,), (5, 5))


def test_joints_and_their_names_come_from_coco(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", np.zeros((20, 30, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "keypoints": [3, 4, 2, 5, 6, 1]}
        ],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["left_ear", "right_ear"], "skeleton": [[1, 2]]}],
    }
    (tmp_path / "joints.json").write_text(json.dumps(content))
    data = open_dataset(tmp_path / "joints.json", kind="objects", val=0)
    assert data.facts["joints"] == ["left_ear", "right_ear"] and data.facts["skeleton"] == [[0, 1]]
    assert data.records[0].labels[0].points == ((3, 4, 2), (5, 6, 1)) and not has_masks(data.records)
    assert stats(data).joints == 2


@pytest.mark.slow
def test_the_real_sets(shared_data: Path) -> None:
    nuclei = open_dataset(shared_data / "dsb2018_nuclei", kind="objects", val="seeded(0.2)")
    assert nuclei.format == "instances" and len(nuclei.split("val").records) == 53
    people = open_dataset(shared_data / "penn_fudan", kind="objects")
    assert people.format == "instances" and min(len(r.labels) for r in people.records) >= 1
    coco = open_dataset(shared_data / "tiny_coco", kind="objects")
    for record in (nuclei.records[0], people.records[0], *coco.records[:20]):
        with Image.open(record.image.path) as picture:
            size = (picture.height, picture.width)
        things = things_of(record, len(coco.classes), size)
        for thing, shape in zip(things, shapes_of(record, things, size)):
            area = crop_of(shape, size).area
            assert thing.crowd or thing.area is None or abs(area - thing.area) <= 0.1 * thing.area + 30
