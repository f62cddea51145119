"""Our detection scores beside pycocotools' and VOC's, for every array of the public case of metrics.

The slow suite runs every case of detection metrics in the folder of golden cases (`SIGHTLINE_GOLDEN`, or
`shared/golden` beside the checkout); `tests/detection/test_metrics.py` compares with pycocotools itself.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.datasets.paint import polygon_mask, text_of
from sightline.detection import average_precision as ap

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
CASES = [p for p in sorted(FOLDER.glob("**/metrics*.json")) if "box_gt" in p.read_text()]
CORNERS = ((0, 0.3), (0.3, 0), (0.75, 0.05), (1, 0.4), (0.9, 1), (0.35, 0.85))


def columns(truth: np.ndarray, said: np.ndarray, categories: list[int]) -> tuple[ap.Truths, ap.Answers]:
    label = {c: k for k, c in enumerate(categories)}
    crowd = truth[:, 7] > 0
    truths = ap.Truths(
        truth[:, 0].astype(int), np.array([label[int(c)] for c in truth[:, 1]], int), truth[:, 6], crowd, crowd
    )
    answers = ap.Answers(
        said[:, 0].astype(int), np.array([label[int(c)] for c in said[:, 1]], int), said[:, 6], said[:, 4] * said[:, 5]
    )
    return truths, answers


def boxes_curves(truth: np.ndarray, said: np.ndarray, categories: list[int]) -> ap.Curves:
    truths, answers = columns(truth, said, categories)
    overlaps = ap.box_overlaps(said[:, 2:6], truth[:, 2:6], truths.crowd)
    return ap.curves(ap.match(truths, answers, overlaps, num_classes=len(categories)), answers)


def numbers(curves: ap.Curves) -> np.ndarray:
    return np.array(list(ap.summary(curves).values()))


def masks_of(case: dict[str, Any], truth: np.ndarray, said: np.ndarray) -> tuple[list[Any], list[Any], np.ndarray]:
    """The case's rule: hexagons in the true boxes, ellipses in the answers'."""
    from pycocotools import mask as coco

    size = 400
    hexagons = []
    for x, y, w, h in truth[:, 2:6]:
        corners = [round(v, 2) for a, c in CORNERS for v in (x + a * w, y + c * h)]
        hexagons.append(coco.frPyObjects([corners], size, size)[0])
    rows, cols = np.mgrid[:size, :size] + 0.5
    ellipses = []
    for x, y, w, h in said[:, 2:6]:
        inside = ((cols - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
        ellipses.append(coco.encode(np.asfortranarray(inside.astype(np.uint8))))
    return hexagons, ellipses, np.asarray(coco.area(hexagons), float)


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, beginning with background."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *counts] if flat[0] else counts


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        given = dict(arrays)
    say = {name: given[f"given.{name}" if f"given.{name}" in given else name] for name in case["given"]}
    categories = case["config"]["category_ids"]
    truth, said = say["box_gt"], say["box_dt"]
    found: dict[str, Any] = {}

    curves = boxes_curves(truth, said, categories)
    found["bbox.stats"] = numbers(curves)
    found["bbox.precision"], found["bbox.recall"] = curves.precision[[0, 5, 9]][:, ::10], curves.recall
    found["bbox.scores"] = curves.scores[0, ::10, :, 0, -1]
    crowd = truth[:, 7] > 0
    first = truth[~crowd][:1]
    same = np.concatenate([first[:, :6], [[0.9]]], axis=1)
    for name, some, answered in (
        ("no_gt", truth[:0], said), ("no_det", truth, said[:0]), ("crowd_only", truth[crowd], said),
        ("one_perfect", first, same),
    ):  # fmt: skip
        found[f"edge.{name}"] = numbers(boxes_curves(some, answered, categories))

    hexagons, ellipses, area = masks_of(case, truth, said)
    truths, answers = columns(truth, said, categories)
    from pycocotools import mask as coco

    found["segm.gt_area"] = area
    mask_answers = ap.Answers(answers.picture, answers.label, answers.score, np.asarray(coco.area(ellipses), float))
    mask_truths = ap.Truths(truths.picture, truths.label, area, truths.crowd, truths.ignore)
    overlaps = ap.mask_overlaps(ellipses, hexagons, truths.crowd)
    matches = ap.match(mask_truths, mask_answers, overlaps, num_classes=len(categories))
    found["segm.stats"] = numbers(ap.curves(matches, mask_answers))

    meta, points, about, joints = say["kp_meta"], say["kp_gt"], say["kp_dtmeta"], say["kp_dt"]
    ranges = {k: v for k, v in ap.AREAS.items() if k != "small"}
    crowd = meta[:, 6] > 0
    ignore = crowd | ~(points[:, :, 2] > 0).any(1)
    none = np.zeros(len(meta), int)
    people = ap.Truths(meta[:, 0].astype(int), none, meta[:, 5], crowd, ignore)
    sides = np.ptp(joints[:, :, :2], axis=1)
    guesses = ap.Answers(about[:, 0].astype(int), np.zeros(len(about), int), about[:, 1], sides.prod(1))
    overlaps = ap.keypoint_overlaps(joints, points, meta[:, 1:5], meta[:, 5])
    matches = ap.match(people, guesses, overlaps, num_classes=1, areas=tuple(ranges.values()), most=20)
    found["keypoints.stats"] = numbers(ap.curves(matches, guesses, areas=tuple(ranges), limits=(20,)))
    here, there = np.flatnonzero(about[:, 0] == 1), np.flatnonzero(meta[:, 0] == 1)
    here = here[np.argsort(-about[here, 1], kind="stable")]
    found["keypoints.oks"] = overlaps(np.repeat(here, len(there)), np.tile(there, len(here))).reshape(len(here), -1)

    corners, true_corners = (np.concatenate([b[:, 2:4], b[:, 2:4] + b[:, 4:6]], 1) for b in (said, truth))
    for points_word in ("11point", "all"):
        for plus in (0, 1):
            scores = ap.voc_ap(
                truths, answers, true_corners, corners, num_classes=len(categories),
                eleven_points=points_word == "11point", plus_one=bool(plus),
            )  # fmt: skip
            found[f"voc.{points_word}.plus{plus}"] = np.nan_to_num(scores, nan=-1.0)

    found["rle.counts"] = [text_of(runs(mask)) for mask in say["masks"]]
    coded = [coco.encode(np.asfortranarray(mask)) for mask in say["masks"]]
    n = len(coded)
    overlaps = ap.mask_overlaps(coded, coded[::-1], np.arange(n) % 2 == 1)
    found["rle.iou"] = overlaps(np.repeat(np.arange(n), n), np.tile(np.arange(n), n)).reshape(n, n)
    found["rle.area"] = say["masks"].reshape(len(say["masks"]), -1).sum(1)
    polygons = np.zeros((len(case["polygons"]), 60, 80), np.uint8)
    for mask, polygon in zip(polygons, case["polygons"]):
        window, inside = polygon_mask(np.array(polygon, float).reshape(-1, 2), (60, 80))
        mask[window] = inside
    found["polygon.masks"], found["polygon.area"] = polygons, polygons.reshape(len(polygons), -1).sum(1)
    found["polygon.counts"] = [text_of(runs(mask)) for mask in polygons]
    found["polygon.union"] = [text_of(runs(polygons.max(0)))]
    found["polygon.intersection"] = [text_of(runs(polygons[:2].min(0)))]

    for name, ours in found.items():
        about = case["outputs"][name]
        theirs = given[name]
        if about.get("dtype") == "text":
            assert [str(t) for t in theirs.tolist()] == ours, name
        else:
            assert ours.shape == theirs.shape, name
            assert np.abs(ours - theirs).max() <= (0 if about.get("exact") else 1e-12), name
    assert set(case["outputs"]) - set(found) <= {"rle.bbox"}  # a box of a mask is no score
