"""Masks and joints through the verbs: a folder becomes a run that is scored by masks or joints, answers and draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sightline.contracts import Machine
from sightline.datasets.open import open_dataset
from sightline.datasets.stats import stats
from sightline.detection.answer import Detections
from sightline.detection.metrics import DetectionMetric
from sightline.errors import SightlineError, UsageError
from sightline.instance.catalog import MODELS
from sightline.instance.masks import RunMasks
from sightline.instance.metrics import InstanceMetric
from sightline.instance.plan import plan
from sightline.instance.task import TASK, truth_of
from sightline.media.image import read_image, write_image
from sightline.media.labels import write_labels
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.models import builder_of, create, defaults_of
from sightline.verbs.predict import predict
from sightline.verbs.train import train

SMALL = {"steps": 2, "batch": 2, "device": "cpu", "train_values": {"validate_every": 2}, "augment": "none"}


def tiny(name: str) -> dict:
    known = defaults_of(builder_of(name))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in MODELS[name].tiny.items() if k in known}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with bright discs and masks that number them; one has none."""
    root = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :96]
    for i in range(6):
        image, numbers = np.full((64, 96, 3), 30, np.uint8), np.zeros((64, 96), np.uint8)
        for k in range(3 if i else 0):
            disc = (x - 16 - 32 * k) ** 2 + (y - rng.integers(14, 50)) ** 2 <= rng.integers(6, 12) ** 2
            image[disc], numbers[disc] = 200, k + 1
        (root / "images").mkdir(exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        write_image(root / "images" / f"c{i}.png", image)
        write_labels(root / "masks" / f"c{i}.png", numbers, [(k, k, k) for k in range(4)])
    return root


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of one figure with three joints, in COCO's form, and a crowd."""
    root = tmp_path_factory.mktemp("people")
    (root / "annotations").mkdir()
    content: dict = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 1, "name": "figure", "keypoints": ["top", "left_end", "right_end"]}]
    for i in range(4):
        image = np.full((64, 96, 3), 60, np.uint8)
        left = 10 + 12 * i
        image[10:50, left : left + 30] = 180
        write_image(root / "train" / f"f{i}.jpg", image)
        content["images"].append({"id": i, "file_name": f"f{i}.jpg", "height": 64, "width": 96})
        joints = [left + 15, 12, 2, left + 2, 48, 2, left + 28, 48, 1]
        content["annotations"].append(
            {"id": 2 * i + 1, "image_id": i, "category_id": 1, "bbox": [left, 10, 30, 40], "area": 1200,
             "iscrowd": 0, "keypoints": joints, "num_keypoints": 3}
        )  # fmt: skip
        content["annotations"].append(
            {"id": 2 * i + 2, "image_id": i, "category_id": 1, "bbox": [0, 55, 90, 9], "area": 810, "iscrowd": 1}
        )
    (root / "annotations" / "person_keypoints_train.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "masks"
    train("mask_rcnn", cells, run=folder, val="seeded(2)", limit=300, model_values=tiny("mask_rcnn"), **SMALL)
    return folder


def test_masks_are_trained_scored_and_drawn(run: Path, cells: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert "masks" in next(r for r in records if r["kind"] == "train")["terms"]
    metrics = next(r for r in records if r["kind"] == "val")["metrics"]
    assert {"ap", "ap50", "ap75", "ar300", "challenge", "box_ap50", "loss", "loss_masks"} <= set(metrics)
    parts = [v for k, v in metrics.items() if k.startswith("loss_")]
    assert metrics["loss"] == pytest.approx(sum(parts)) and len(parts) == 5
    found = evaluate(run, cells)  # the limit is the run's own
    assert "ar300" in found.metrics and found.metrics["box_ap50"] >= 0
    assert "ar7" in evaluate(run, cells, limit=7).metrics
    assert (run / "samples" / "worst-1.jpg").is_file() and (run / "report.html").is_file()
    answers = list(predict(run, cells / "images", out=tmp_path / "out"))
    assert all(a.masks is not None and a.masks.dense().shape == (len(a), 64, 96) for a in answers)
    assert read_image(tmp_path / "out" / "c3-overlay.jpg").shape == (64, 96, 3)


def test_a_limit_is_no_choice_of_pixels(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="limit is no choice of segmentation"):
        train("unet", shapes, run=tmp_path / "x", limit=5, dry_run=True)


def test_joints_are_trained_and_scored(people: Path, tmp_path: Path) -> None:
    values = {k: v for k, v in tiny("keypoint_rcnn").items() if k != "joints"}  # the data says how many
    told = {**SMALL, "augment": "light"}
    train("keypoint_rcnn", people, run=tmp_path / "run", val="seeded(1)", model_values=values, **told)
    net, card = load(tmp_path / "run")
    assert card.arguments["joints"] == 3
    found = evaluate(tmp_path / "run", people)
    assert {"ap", "ap50", "ar", "box_ap50"} <= set(found.metrics)
    picture = read_image(people / "train" / "f0.jpg")
    from sightline.detection.predict import answer

    said = answer(net, picture, preprocess=card.preprocess, classes=card.classes)
    assert said.keypoints is not None and said.keypoints.shape == (len(said), 3, 3)
    assert said.draw(score=0.0).shape == picture.shape


@pytest.mark.parametrize("name", ["solov2", "polarmask", "embedding", "adaptis", "yolact", "decoupled_solo"])
def test_every_form_of_mask_learns_from_the_folder(name: str, cells: Path, tmp_path: Path) -> None:
    done = train(name, cells, run=tmp_path / "run", val="seeded(1)", model_values=tiny(name), **SMALL)
    assert done.stopped == "done" and {"ap50", "loss"} <= set(done.metrics | {"loss": 0})


def test_a_network_of_masks_says_that_boxes_are_not_enough(people: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="learns from masks, and the targets have none; take data with masks"):
        train("mask_rcnn", people, run=tmp_path / "x", val="seeded(1)", model_values=tiny("mask_rcnn"), **SMALL)


def test_pictures_of_crowds_alone_and_of_nothing_teach(cells: Path) -> None:
    """Every network of masks: finite losses with gradients, whatever a picture holds."""
    from sightline.detection.contract import PADDING, Target

    masks = torch.zeros(3, 2, 64, 64, dtype=torch.bool)
    masks[0, 0, 5:30, 5:30] = masks[2, 0, 7, 9] = True
    masks[0, 1] = masks[1, 0] = True
    boxes = torch.tensor(
        [[[5.0, 5, 30, 30], [0, 0, 64, 64]], [[0, 0, 64, 64], [0, 0, 0, 0]], [[9, 7, 10, 8], [0, 0, 0, 0]]]
    )
    labels = torch.tensor([[0, 0], [0, PADDING], [0, PADDING]])
    ignore = torch.tensor([[False, True], [True, False], [False, False]])
    whole = Target(boxes, labels, ignore, masks)
    crowds = Target(boxes[1:2], labels[1:2], ignore[1:2], masks[1:2])
    nothing = Target(boxes[:1, :0], labels[:1, :0], ignore[:1, :0], masks[:1, :0])
    for name in ("mask_rcnn", "yolact", "solo", "decoupled_solo", "solov2", "polarmask", "embedding", "adaptis"):
        torch.manual_seed(0)
        net = create(name, **tiny(name), num_classes=1).train()
        for targets in (whole, crowds, nothing):
            images = torch.rand(max(2, len(targets.labels)), 3, 64, 64)
            parts = [targets.boxes, targets.labels, targets.ignore, targets.masks]
            doubled = targets if len(targets.labels) > 1 else Target(*(torch.cat([x, x]) for x in parts))
            terms = net.losses(net(images, targets=doubled), doubled)
            total = torch.stack(list(terms.values())).sum()
            assert torch.isfinite(total), (name, terms)
            total.backward()
            assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None), name


# Scores -----------------------------------------------------------------------------------------------------------


def runs(*boxes: tuple[int, int, int, int]) -> list[dict]:
    found = []
    for x0, y0, x1, y1 in boxes:
        flags = np.zeros((40, 50), np.uint8, order="F")
        flags[y0:y1, x0:x1] = 1
        coded = coco.encode(flags)
        found.append({"size": [40, 50], "counts": coded["counts"].decode()})
    return found


def detections(boxes: list[tuple[int, int, int, int]], scores: list[float], **more) -> Detections:
    labels = torch.zeros(len(boxes)).long()
    return Detections(torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(scores), labels, **more)


def test_masks_are_scored_by_masks_and_boxes_by_boxes() -> None:
    truth = detections([(0, 0, 10, 10)], [1.0])
    answer = detections(
        [(0, 0, 10, 10)], [0.9], masks=RunMasks(runs((0, 0, 10, 4)), (40, 50))
    )  # a right box, 0.4 of it
    metric, alone = InstanceMetric(("a",)), DetectionMetric(("a",), kind="masks")
    for m in (metric, alone):
        m.update(answer, Truth(truth), key="x", masks=runs((0, 0, 10, 10)))
    report = metric.compute()
    assert report.metrics["ap50"] == 0 and report.metrics["box_ap50"] == pytest.approx(1)
    assert report.metrics["ap"] == alone.compute().metrics["ap"] and report.confusion.tolist() == [[0, 1], [1, 0]]
    other = InstanceMetric(("a",))
    other.update(
        detections([(0, 0, 10, 10)], [0.8], masks=RunMasks(runs((0, 0, 10, 10)), (40, 50))), Truth(truth), key="y",
        masks=runs((0, 0, 10, 10)),
    )  # fmt: skip
    metric.merge(other)
    assert metric.compute().metrics["recall50"] == 0.5 and metric.compute().metrics["challenge"] == 0.5
    with pytest.raises(SightlineError, match="z has no masks to score masks by"):
        metric.update(answer, Truth(truth), key="z")


class Truth:
    """Boxes, labels and what is ignored, of a picture's true objects."""

    def __init__(self, found: Detections) -> None:
        self.boxes, self.labels, self.ignore = found.boxes, found.labels, torch.zeros(len(found)).bool()


def test_joints_are_scored_by_their_distance() -> None:
    truth = detections([(0, 0, 40, 40)], [1.0])
    points = torch.tensor([[[10.0, 10, 2], [30, 30, 1], [0, 0, 0]]])
    for shift, expected in ((0.0, 1.0), (2.0, 0.6), (40.0, 0.0)):
        # exp(-d^2 / (2 s^2 (2 * 0.05)^2)) with s^2 = 1600: a shift of 2 px along both axes gives exp(-8 / 32) = 0.78,
        # which is right at six of the ten thresholds
        answer = detections([(0, 0, 40, 40)], [0.9], keypoints=points + torch.tensor([shift, shift, 0]))
        metric = InstanceMetric(("a",))
        metric.update(answer, Truth(truth), key="x", points=points, areas=[1600.0])
        found = metric.compute().metrics
        assert found["ap"] == pytest.approx(expected) and found["box_ap"] == pytest.approx(1)
    with pytest.raises(SightlineError, match="x has 0 joints an object, the network says 3"):
        InstanceMetric(("a",)).update(answer, Truth(truth), key="x")


def test_a_limit_below_the_objects_costs_recall() -> None:
    boxes = [(5 * i, 0, 5 * i + 4, 4) for i in range(6)]
    masks = RunMasks(runs(*boxes), (40, 50))
    values = {}
    for limit in (3, 6):
        metric = InstanceMetric(("a",), limit=limit)
        metric.update(detections(boxes, [0.9] * 6, masks=masks), Truth(detections(boxes, [1.0] * 6)), key="x",
                      masks=runs(*boxes))  # fmt: skip
        values[limit] = metric.compute().metrics["recall50"]
    assert values == {3: 0.5, 6: 1.0}
    with pytest.raises(UsageError, match="limit 0 must be a whole number from 1"):
        InstanceMetric(("a",), limit=0)


def test_the_truth_as_an_answer_is_perfect(cells: Path) -> None:
    data = open_dataset(cells, kind="objects", val=0)
    metric = TASK.metric(data.classes)
    for record in data.records:
        picture = read_image(record.image.path)
        truth = truth_of(record, picture, 1, 0)
        assert truth.masks is not None
        for mask, thing in zip(truth.masks.dense(), record.labels):
            assert int(mask.sum()) == thing.area
        metric.update(replace(truth, image=picture), Truth(truth), key=record.key, masks=truth.masks.runs())
    found = metric.compute().metrics
    assert found["ap"] == found["box_ap"] == found["challenge"] == 1


def test_the_plan_fits_grids_joints_and_answers_to_the_objects(cells: Path, people: Path) -> None:
    looked = stats(open_dataset(cells, kind="objects", val=0))
    solo = defaults_of(builder_of("solov2"))
    chosen = plan(looked, {**solo, "builder": solo}, Machine())
    middle = looked.sides[len(looked.sides) // 2]
    assert chosen["model.ranges"].value[1] == pytest.approx([middle / 2, middle * 2], abs=0.06)
    assert chosen["model.width"].value == 128 and "limit" not in chosen
    many = plan(replace(looked, most_objects=370), {**solo, "builder": solo}, Machine())
    assert many["model.most"].value == many["limit"].value == 500
    joints = defaults_of(builder_of("keypoint_rcnn"))
    seen = stats(open_dataset(people, kind="objects", val=0))
    assert plan(seen, {**joints, "builder": joints}, Machine())["model.joints"].value == 3
