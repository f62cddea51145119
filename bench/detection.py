"""The detection room beside its peers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from bench.harness import Row, race

from sightline.detection import average_precision as ap

PICTURES, CLASSES, TRUTHS, ANSWERS = 5_000, 80, 7, 100


def rows() -> Iterator[Row]:
    """Every comparison of this room."""
    yield from scoring()


def made_up(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True objects (picture, class, x, y, w, h) and answers (the same and a score); half the answers are near one."""
    random = np.random.default_rng(seed)
    true = np.empty((PICTURES, TRUTHS, 6))
    true[..., 0] = np.arange(1, PICTURES + 1)[:, None]
    true[..., 1] = random.integers(1, CLASSES + 1, true.shape[:2])
    true[..., 2:4], true[..., 4:6] = random.uniform(0, 400, (2, *true.shape[:2], 2)) * [[[[1, 1]]], [[[0.4, 0.4]]]] + 4
    said = np.empty((PICTURES, ANSWERS, 7))
    which = random.integers(0, TRUTHS, (PICTURES, ANSWERS))
    said[..., :6] = np.take_along_axis(true, which[..., None], 1)
    said[..., 2:6] += random.normal(0, 0.15, said[..., 2:6].shape) * said[..., [4, 5, 4, 5]]
    far = random.random(which.shape) < 0.5
    said[far, 1] = random.integers(1, CLASSES + 1, int(far.sum()))
    said[far, 2:4], said[far, 4:6] = (
        random.uniform(0, 400, (int(far.sum()), 2)),
        random.uniform(4, 160, (int(far.sum()), 2)),
    )
    said[..., 4:6] = np.maximum(said[..., 4:6], 1)
    said[..., 6] = random.random(which.shape)
    return true.reshape(-1, 6), said.reshape(-1, 7)


def scoring() -> Iterator[Row]:
    """COCO's scores of boxes: matching and accumulating, lists already read on both sides."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true, said = made_up()
    crowd = np.zeros(len(true), bool)
    truths = ap.Truths(true[:, 0].astype(int), true[:, 1].astype(int) - 1, true[:, 4] * true[:, 5], crowd, crowd)
    answers = ap.Answers(said[:, 0].astype(int), said[:, 1].astype(int) - 1, said[:, 6], said[:, 4] * said[:, 5])

    def ours() -> ap.Curves:
        overlaps = ap.box_overlaps(said[:, 2:6], true[:, 2:6], crowd)
        return ap.curves(ap.match(truths, answers, overlaps, num_classes=CLASSES), answers)

    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": i} for i in range(1, PICTURES + 1)],
            "categories": [{"id": k} for k in range(1, CLASSES + 1)],
            "annotations": [
                {"id": i + 1, "image_id": int(t[0]), "category_id": int(t[1]), "bbox": t[2:].tolist(),
                 "area": t[4] * t[5], "iscrowd": 0}
                for i, t in enumerate(true)
            ],
        }  # fmt: skip
        data.createIndex()
        found = data.loadRes(said[:, [0, 2, 3, 4, 5, 6, 1]])

    def peer() -> COCOeval:
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(data, found, "bbox")
            judge.evaluate()
            judge.accumulate()
        return judge

    judge, mine = peer(), ours()
    difference = max(
        float(np.abs(a - b).max())
        for a, b in ((mine.precision, judge.eval["precision"]), (mine.recall, judge.eval["recall"]))
    )
    assert difference <= 1e-12, difference
    yield race(
        f"COCO box scores, {PICTURES} pictures, {CLASSES} classes, {TRUTHS} true and {ANSWERS} answered boxes each",
        ours,
        peer,
        names=("average_precision", "pycocotools"),
        difference=f"all precisions and recalls within {difference:.0e}",
        bar="8",
        repeats=1,
        warm=True,
    )
