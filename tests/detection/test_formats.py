"""Answers as COCO, VOC, YOLO, LabelMe and supervision: written, and read back by this library's own readers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.datasets.open import open_dataset
from sightline.datasets.paint import polygon_mask
from sightline.detection.answer import Detections
from sightline.detection.formats import border
from sightline.errors import UsageError
from sightline.instance.masks import RunMasks
from sightline.media.image import write_image

SIZE = (40, 60)


def answer(*, masks: bool = False) -> Detections:
    flags = torch.zeros(2, *SIZE, dtype=torch.bool)
    flags[0, 5:20, 10:30] = True
    flags[1, 21:39, 31:59] = True
    flags[1, 21:25, 31:40] = False
    return Detections(
        boxes=torch.tensor([[10.0, 5.0, 30.0, 20.0], [31.0, 21.0, 59.0, 39.0]]),
        scores=torch.tensor([0.75, 0.5]),
        labels=torch.tensor([1, 0]),
        masks=RunMasks.of(flags) if masks else None,
        classes=("cat", "dog & co"),
        size=SIZE,
        name="a",
    )


def test_coco_rows_are_read_by_the_reference_tools() -> None:
    from pycocotools import mask as coco

    rows = answer(masks=True).to_coco(7, categories={0: 18, 1: 3})
    assert [(r["image_id"], r["category_id"], r["bbox"], r["score"]) for r in rows] == [
        (7, 3, [10, 5, 20, 15], 0.75),
        (7, 18, [31, 21, 28, 18], 0.5),
    ]
    assert json.loads(json.dumps(rows)) == rows and answer().to_coco("x")[0]["category_id"] == 2
    np.testing.assert_array_equal(coco.decode(rows[1]["segmentation"]) > 0, answer(masks=True).masks.dense()[1])
    with pytest.raises(UsageError, match=r"no id for class 1 \(dog & co\)"):
        answer().to_coco(1, categories={0: 1})


def test_joints_leave_as_triples() -> None:
    points = torch.tensor([[[1.0, 2.0, 9.0], [3.0, 4.0, 8.0]]])
    found = Detections(torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([0.5]), torch.tensor([0]), keypoints=points)
    assert found.to_coco(1)[0]["keypoints"] == [1, 2, 1, 3, 4, 1]


def test_voc_comes_back(tmp_path: Path) -> None:
    text = answer().to_voc("a.jpg")
    assert "<xmin>11</xmin>" in text and "dog &amp; co" in text and "<score>0.750000</score>" in text
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    write_image(tmp_path / "JPEGImages/a.jpg", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "Annotations/a.xml").write_text(text)
    things = open_dataset(tmp_path, kind="objects", classes="cat,dog & co", val=0).records[0].labels
    assert [(t.label, t.box) for t in things] == [(1, (10, 5, 30, 20)), (0, (31, 21, 59, 39))]


@pytest.mark.parametrize("polygons", [False, True])
def test_yolo_comes_back(tmp_path: Path, polygons: bool) -> None:
    text = answer(masks=True).to_yolo(scores=False, polygons=polygons)
    write_image(tmp_path / "images/a.jpg", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(text)
    things = open_dataset(tmp_path, kind="objects", val=0).records[0].labels
    assert [t.label for t in things] == [1, 0]
    assert np.abs(np.array([t.box for t in things]) - answer().boxes.numpy()).max() < (0.2 if polygons else 1e-4)
    assert answer().to_yolo().splitlines()[0].split()[-1] == "0.75"
    with pytest.raises(UsageError, match="needs an answer with masks"):
        answer().to_yolo(polygons=True)


def test_labelme_comes_back(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "a.json").write_text(json.dumps(answer().to_labelme("a.png")))
    things = open_dataset(tmp_path, kind="objects", val=0).records[0].labels
    assert [(t.label, t.box) for t in things] == [(1, (10, 5, 30, 20)), (0, (31, 21, 59, 39))]
    shapes = answer(masks=True).to_labelme("a.png")["shapes"]
    assert [s["shape_type"] for s in shapes] == ["polygon"] * 2


def test_no_objects_and_no_size() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), size=SIZE)
    assert nothing.to_coco(1) == [] and nothing.to_yolo() == "" and nothing.to_labelme("x")["shapes"] == []
    assert "<object>" not in nothing.to_voc("x")
    with pytest.raises(UsageError, match="to_yolo needs the picture's size"):
        Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)).to_yolo()


def test_supervision_is_asked_for_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UsageError, match="needs the package 'supervision'"):
        answer().to_supervision()


def test_supervision_is_given_the_same_objects() -> None:
    pytest.importorskip("supervision", reason="the package supervision is not installed")
    found = answer(masks=True).to_supervision()
    assert len(found) == 2 and found.xyxy.tolist() == answer().boxes.tolist() and found.mask.shape == (2, *SIZE)
    assert found.class_id.tolist() == [1, 0] and found.data["class_name"].tolist() == ["dog & co", "cat"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_border_filled_again_is_its_region(seed: int) -> None:
    from scipy import ndimage

    rough = np.random.default_rng(seed).random((14, 17))
    inside = np.asarray(ndimage.gaussian_filter(rough, 1.5)) > 0.5
    regions, count = ndimage.label(inside, np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    ring = border(inside)
    if not count:
        assert len(ring) == 0
        return
    window, filled = polygon_mask(ring, (14, 17))
    found = np.zeros((14, 17), bool)
    found[window] = filled
    largest = [np.asarray(ndimage.binary_fill_holes(regions == k)) for k in range(1, count + 1)]
    overlap = max((found & region).sum() / (found | region).sum() for region in largest)
    assert overlap > 0.85
