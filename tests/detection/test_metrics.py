"""Scores of boxes, masks and keypoints beside pycocotools itself, slow loops, and published numbers."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from sightline.detection import average_precision as ap
from sightline.detection.answer import Detections
from sightline.detection.metrics import DetectionMetric, _coded
from sightline.errors import UsageError


@dataclass
class Truth:
    boxes: Tensor
    labels: Tensor
    ignore: Tensor


def scene(
    pictures: int, classes: int, truths: int, answers: int, seed: int, *, grid: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """COCO's lists of true objects and answers; a share of the answers lies near a true object."""
    random = np.random.default_rng(seed)
    true, said = [], []
    for picture in range(1, pictures + 1):
        own = []
        for _ in range(int(random.integers(0, 2 * truths))):
            x, y, w, h = *random.uniform(0, 200, 2), *random.uniform(4, 160, 2)
            box = [float(round(v)) if grid else float(v) for v in (x, y, w, h)]
            crowd = int(random.random() < 0.15)
            own.append((box, int(random.integers(1, classes + 1))))
            true.append(
                {"id": len(true) + 1, "image_id": picture, "category_id": own[-1][1], "bbox": box, "iscrowd": crowd,
                 "area": box[2] * box[3] * float(random.uniform(0.5, 1))}
            )  # fmt: skip
        for _ in range(int(random.integers(0, 2 * answers))):
            if own and random.random() < 0.7:
                box, label = own[int(random.integers(len(own)))]
                step = (
                    (lambda s: float(random.integers(-4, 5))) if grid else (lambda s: float(random.normal(0, 0.15 * s)))
                )
                box = [
                    box[0] + step(box[2]),
                    box[1] + step(box[3]),
                    max(box[2] + step(box[2]), 1),
                    max(box[3] + step(box[3]), 1),
                ]
            else:
                box, label = random.uniform(1, 150, 4).tolist(), int(random.integers(1, classes + 1))
            score = float(random.integers(0, 10) / 10 if grid else random.random())  # grid: many equal scores
            said.append({"image_id": picture, "category_id": label, "bbox": box, "score": score})
    return true, said


def by_pycocotools(
    true: list[dict[str, Any]], said: list[dict[str, Any]], pictures: int, classes: int, limits: list[int]
) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": i} for i in range(1, pictures + 1)], "annotations": [dict(t) for t in true],
            "categories": [{"id": k} for k in range(1, classes + 1)],
        }  # fmt: skip
        data.createIndex()
        judge = COCOeval(data, data.loadRes([dict(s) for s in said]), "bbox")
        judge.params.maxDets = limits
        judge.evaluate()
        judge.accumulate()
        if limits == [1, 10, 100]:
            judge.summarize()
    return judge


def columns(true: list[dict[str, Any]], said: list[dict[str, Any]]) -> tuple[ap.Truths, ap.Answers, ap.Overlaps]:
    crowd = np.array([t["iscrowd"] for t in true], bool)
    boxes, true_boxes = (np.array([x["bbox"] for x in some], float).reshape(-1, 4) for some in (said, true))
    truths = ap.Truths(
        np.array([t["image_id"] for t in true], int), np.array([t["category_id"] - 1 for t in true], int),
        np.array([t["area"] for t in true], float), crowd, crowd,
    )  # fmt: skip
    answers = ap.Answers(
        np.array([s["image_id"] for s in said], int), np.array([s["category_id"] - 1 for s in said], int),
        np.array([s["score"] for s in said], float), boxes[:, 2] * boxes[:, 3],
    )  # fmt: skip
    return truths, answers, ap.box_overlaps(boxes, true_boxes, crowd)


@pytest.mark.parametrize("grid", [False, True], ids=["continuous", "ties"])
@pytest.mark.parametrize(("classes", "limits"), [(3, [1, 10, 100]), (1, [2, 5, 8])])
def test_every_number_is_that_of_pycocotools(classes: int, limits: list[int], grid: bool) -> None:
    true, said = scene(12, classes, 5, 15, seed=classes, grid=grid)
    judge = by_pycocotools(true, said, 12, classes, limits)
    truths, answers, overlaps = columns(true, said)
    matches = ap.match(truths, answers, overlaps, num_classes=classes, most=limits[-1])
    found = ap.curves(matches, answers, limits=limits)
    assert np.array_equal(found.precision, judge.eval["precision"])
    assert np.array_equal(found.recall, judge.eval["recall"])
    assert np.array_equal(found.scores, judge.eval["scores"])
    if limits == [1, 10, 100]:
        assert np.abs(np.array(list(ap.summary(found).values())) - judge.stats).max() <= 1e-12


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.long))


def truth(boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None) -> Truth:
    flags = torch.tensor(ignore or [False] * len(labels), dtype=torch.bool)
    return Truth(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.long), flags)


def fixture() -> DetectionMetric:
    """Three pictures of one class, worked out by hand: only the third, the copy and the last are wrong."""
    metric = DetectionMetric(["thing"])
    metric.update(
        detections([[12, 11, 61, 59], [105, 98, 178, 185], [300, 300, 340, 340]], [0.95, 0.9, 0.3], [0] * 3),
        truth([[10, 10, 60, 60], [100, 100, 180, 180]], [0, 0]),
        key="a",
    )
    metric.update(
        detections([[200, 200, 240, 240], [25, 35, 95, 118]], [0.85, 0.8], [0] * 2),
        truth([[20, 30, 90, 120]], [0]),
        key="b",
    )
    metric.update(
        detections(
            [[60, 66, 118, 150], [7, 4, 48, 52], [6, 6, 49, 51], [148, 30, 190, 95]], [0.7, 0.6, 0.55, 0.4], [0] * 4
        ),
        truth([[5, 5, 50, 50], [60, 60, 120, 140], [150, 20, 200, 80]], [0] * 3),
        key="c",
    )
    return metric


def test_three_pictures_by_hand() -> None:
    report = fixture().compute()
    expected = {"ap": 0.563060, "ap50": 0.875413, "ap75": 0.749175, "ar1": 0.25, "ar10": 0.65, "ar100": 0.65}
    for name, value in {**expected, "voc": 0.875, "voc07": 0.878788, "recall50": 1.0}.items():
        assert report.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert report.confusion.tolist() == [[5, 1], [2, 0]]  # the last object is found, but not surely
    assert report.errors == {"class": 0, "place": 0, "both": 0, "duplicate": 1, "background": 1, "missed": 1}
    assert report.image_scores == {"a": 1.0, "b": pytest.approx(2 / 3), "c": pytest.approx(4 / 6)}
    assert report.worst == ["b", "c", "a"]


def test_parts_merge_into_the_whole() -> None:
    whole, parts = fixture(), [DetectionMetric(["thing"]) for _ in range(2)]
    for i, picture in enumerate(whole._pictures):
        parts[i % 2]._pictures.append(picture)
    parts[0].merge(parts[1])
    assert parts[0].compute().metrics == pytest.approx(whole.compute().metrics, abs=0, nan_ok=True)
    parts[0].merge(whole)
    assert {"a", "a (2)", "c (2)"} <= set(parts[0].compute().image_scores)
    with pytest.raises(UsageError, match="do not fit"):
        whole.merge(DetectionMetric(["thing", "other"]))


def test_kinds_of_errors() -> None:
    metric = DetectionMetric(["a", "b"])
    metric.update(
        detections([[0, 0, 10, 10], [50, 50, 60, 70], [80, 80, 90, 90], [100, 0, 108, 10]], [0.9] * 4, [1, 0, 0, 1]),
        truth(
            [[0, 0, 10, 10], [50, 58, 60, 78], [80, 80, 90, 90], [100, 6, 108, 16]],
            [0, 0, 0, 0],
            [False, False, True, False],
        ),
        key="x",
    )
    report = metric.compute()
    # a thing of the other class at its place; its place missed by a little; nothing wrong at an ignored one; neither
    assert report.errors == {"class": 1, "place": 1, "both": 1, "duplicate": 0, "background": 0, "missed": 1}
    assert report.confusion.tolist() == [[0, 1, 2], [0, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize("pictures", [0, 1])
def test_nothing_true_is_no_number(pictures: int) -> None:
    metric = DetectionMetric(["a", "b"])
    for i in range(pictures):
        metric.update(detections([[0, 0, 5, 5]], [0.9], [1]), truth([], []), key=str(i))
    report = metric.compute()
    assert math.isnan(report.metrics["ap"]) and math.isnan(report.per_class["a"]["ap50"])
    assert report.per_class["b"]["objects"] == 0
    assert report.image_scores == {str(i): 0.0 for i in range(pictures)}


def test_the_limit_is_an_argument() -> None:
    boxes = [[float(i % 20 * 12), float(i // 20 * 12), i % 20 * 12 + 10.0, i // 20 * 12 + 10.0] for i in range(300)]
    for limits, expected in ((None, 1 / 3), ((1, 10, 500), 1.0)):
        metric = DetectionMetric(["cell"], limits=limits)
        metric.update(detections(boxes, [0.9] * 300, [0] * 300), truth(boxes, [0] * 300), key="x")
        assert metric.compute().metrics["recall50"] == pytest.approx(expected)
    with pytest.raises(UsageError, match="rising"):
        DetectionMetric(["cell"], limits=(100, 10))


def test_challenge_rule() -> None:
    overlap = np.array([[0.9, 0.1], [0.6, 0.0], [0.0, 0.55]])
    found = ap.challenge_score(overlap, (0.5, 0.6, 0.8, 0.9))
    assert found.tolist() == [2 / 3, 1 / 4, 1 / 4, 0.0]
    assert ap.challenge_score(np.zeros((0, 0))).tolist() == [1.0] * 10
    assert ap.challenge_score(np.zeros((0, 2))).tolist() == [0.0] * 10


def voc_by_loop(true: Any, said: Any, threshold: float, plus: float) -> float:
    """The development kit's loop, for one class: lists of (picture, box, difficult) and (picture, score, box)."""
    taken, right, wrong = set(), [], []
    for picture, _, box in sorted(said, key=lambda s: -s[1]):
        best, at = 0.0, -1
        for g, (where, other, _) in enumerate(true):
            if where != picture:
                continue
            w = min(box[2], other[2]) - max(box[0], other[0]) + plus
            h = min(box[3], other[3]) - max(box[1], other[1]) + plus
            shared = max(w, 0) * max(h, 0)
            union = sum((b[2] - b[0] + plus) * (b[3] - b[1] + plus) for b in (box, other)) - shared
            if shared / union > best:
                best, at = shared / union, g
        hit = best > threshold
        if hit and true[at][2]:
            continue
        right.append(hit and at not in taken)
        wrong.append(not right[-1])
        taken |= {at} if hit else set()
    real = sum(not difficult for _, _, difficult in true)
    recall = np.cumsum(right) / real
    exact = np.cumsum(right) / np.maximum(np.cumsum(right) + np.cumsum(wrong), 1)
    return sum(exact[recall >= t].max(initial=0) for t in np.arange(0, 1.1, 0.1)) / 11


@pytest.mark.parametrize("plus", [0, 1])
def test_voc_is_its_loop(plus: int) -> None:
    true, said = scene(8, 1, 5, 12, seed=4)
    truths, answers, _ = columns(true, said)
    corners = [
        np.array([[*x["bbox"][:2], x["bbox"][0] + x["bbox"][2], x["bbox"][1] + x["bbox"][3]] for x in some])
        for some in (true, said)
    ]
    found = ap.voc_ap(truths, answers, *corners, num_classes=2, eleven_points=True, plus_one=bool(plus))
    listed = [(t["image_id"], b, bool(t["iscrowd"])) for t, b in zip(true, corners[0].tolist())]
    loop = voc_by_loop(listed, [(s["image_id"], s["score"], b) for s, b in zip(said, corners[1].tolist())], 0.5, plus)
    assert found[0] == pytest.approx(loop, abs=1e-12)
    assert math.isnan(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_published_triples(kind: str, shared_data: Path) -> None:
    from pycocotools import mask as coco

    folder = shared_data / "metric_oracles"
    expected = json.loads((folder / "expected.json").read_text())
    if kind == "keypoints":
        files = folder / "coco_keypoints_small" / "gt_dataset.json", folder / "coco_keypoints_small" / "dt_dataset.json"
        numbers = expected["coco_keypoints_small"]
    else:
        files = (
            folder / "coco_det" / "instances_val2014_100.json",
            folder / "coco_det" / f"instances_val2014_fake{kind}100_results.json",
        )
        numbers = expected[f"coco_det/{kind}"]
    data, said = json.loads(files[0].read_text()), json.loads(files[1].read_text())
    said = said["annotations"] if isinstance(said, dict) else said
    seen = sorted(i["id"] for i in data["images"])
    picture = {i: n for n, i in enumerate(seen)}
    true = [t for t in data["annotations"] if t["image_id"] in picture]
    size = {i["id"]: (i["height"], i["width"]) for i in data["images"]}
    label = {c["id"]: k for k, c in enumerate(sorted(data["categories"], key=lambda c: c["id"]))}
    crowd = np.array([t["iscrowd"] for t in true], bool)
    truths = ap.Truths(
        np.array([picture[t["image_id"]] for t in true]), np.array([label[t["category_id"]] for t in true]),
        np.array([t["area"] for t in true], float), crowd, crowd,
    )  # fmt: skip
    areas, limits, names = dict(ap.AREAS), (1, 10, 100), list(numbers)
    boxes = np.array([t["bbox"] for t in true], float)
    if kind == "bbox":
        own = np.array([s["bbox"] for s in said], float)
        overlaps, sizes = ap.box_overlaps(own, boxes, crowd), own[:, 2] * own[:, 3]
    elif kind == "segm":
        codes = []
        for t in true:
            form = t["segmentation"]
            runs = coco.frPyObjects(form, *size[t["image_id"]])
            codes.append(coco.merge(runs) if isinstance(form, list) else runs)
        overlaps = ap.mask_overlaps([s["segmentation"] for s in said], codes, crowd)
        sizes = ap.mask_areas([_coded(s["segmentation"]) for s in said])
    else:
        points, own = (
            np.array([x["keypoints"] for x in some], float).reshape(len(some), -1, 3) for some in (true, said)
        )
        none = crowd | (np.array([t["num_keypoints"] for t in true]) == 0)
        truths = ap.Truths(truths.picture, truths.label, truths.area, crowd, none)
        overlaps, sizes = ap.keypoint_overlaps(own, points, boxes, truths.area), np.ptp(own[..., :2], axis=1).prod(1)
        areas, limits = {k: v for k, v in areas.items() if k != "small"}, (20,)
    answers = ap.Answers(
        np.array([picture[s["image_id"]] for s in said]), np.array([label[s["category_id"]] for s in said]),
        np.array([s["score"] for s in said], float), sizes,
    )  # fmt: skip
    matches = ap.match(truths, answers, overlaps, num_classes=len(label), areas=tuple(areas.values()), most=limits[-1])
    found = ap.summary(ap.curves(matches, answers, areas=tuple(areas), limits=limits))
    for name, value in zip(names, found.values()):
        assert value == pytest.approx(numbers[name], abs=1e-6), name
