"""Our scores beside the public packages': wherever a package's call follows the same rule, the number is the same.

The fast suite runs a copy cut to the calls below; the slow suite every case of metrics in the folder of golden cases
(`SIGHTLINE_GOLDEN`, or `shared/golden` beside the checkout).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.ops.confusion import confusion_matrix
from sightline.segmentation.metrics import SegmentationMetric, SegmentationReport

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
COPY = HERE / "cases" / "metrics" / "metrics.json"


class Pair:
    """Predictions and labels of a case, scored by us."""

    def __init__(self, prediction: np.ndarray, label: np.ndarray, classes: int) -> None:
        self.prediction, self.label = torch.from_numpy(prediction), torch.from_numpy(label)
        metric = SegmentationMetric([str(k) for k in range(classes)])
        for i, (said, true) in enumerate(zip(self.prediction, self.label)):
            metric.update(said, true, key=str(i))
        self.report: SegmentationReport = metric.compute()
        self.classes = classes

    def score(self, name: str) -> float:
        return self.report.metrics[name]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.report.per_class.values()]

    def column_or_zero(self, name: str) -> list[float]:
        return np.nan_to_num(self.column(name)).tolist()

    def image_miou(self) -> float | None:
        """Ours counts a class that was said but not labelled as 0, MONAI leaves it out: where the two must agree."""
        known = all(
            set(said[true != 255].unique().tolist()) <= set(true.unique().tolist()) for said, true in self._pairs()
        )
        return self.score("image_miou") if known else None

    def counts(self, what: str) -> list[list[float]]:
        """True and false positives and negatives, `(images, classes)`, from a confusion matrix an image."""
        rows = []
        for said, true in self._pairs():
            m = confusion_matrix(said, true, self.classes)
            hit, labelled, answered = m.diagonal(), m.sum(1), m.sum(0)
            table = {"tp": hit, "fp": answered - hit, "fn": labelled - hit, "tn": m.sum() - labelled - answered + hit}
            rows.append(table[what].tolist())
        return rows

    def _pairs(self) -> Any:
        return zip(self.prediction, self.label)


RULES: dict[str, Callable[[Pair], Any]] = {
    r"torchmetrics.*MulticlassJaccardIndex\(.*average='macro'": lambda p: p.score("dataset_miou"),
    r"torchmetrics.*MulticlassJaccardIndex\(.*average='weighted'": lambda p: p.score("frequency_weighted_iou"),
    r"torchmetrics.*MulticlassJaccardIndex\(.*average='none'": lambda p: p.column_or_zero("iou"),
    r"torchmetrics.*MulticlassAccuracy\(.*average='micro'": lambda p: p.score("pixel_accuracy"),
    r"torchmetrics.*MulticlassAccuracy\(.*average='none'": lambda p: p.column_or_zero("accuracy"),
    r"torchmetrics.*MulticlassF1Score\(.*average='macro'": lambda p: p.score("dataset_dice"),
    r"torchmetrics.*MulticlassF1Score\(.*average='none'": lambda p: p.column_or_zero("dice"),
    r"torchmetrics.*DiceScore\(.*=True, average='macro', aggregation_level='global'": lambda p: p.score("dataset_dice"),
    r"torchmetrics.*DiceScore\(.*=True, average='none', aggregation_level='global'": lambda p: p.column("dice"),
    r"mmseg .*\[aAcc\]$": lambda p: p.score("pixel_accuracy"),
    r"mmseg .*\[IoU\]$": lambda p: p.column("iou"),
    r"mmseg .*\[IoU\], numpy.nanmean$": lambda p: p.score("dataset_miou"),
    r"mmseg .*\[(Acc|Recall)\]$": lambda p: p.column("accuracy"),
    r"mmseg .*\[(Acc|Recall)\], numpy.nanmean$": lambda p: p.score("class_accuracy"),
    r"mmseg .*\[Dice\]$": lambda p: p.column("dice"),
    r"mmseg .*\[Dice\], numpy.nanmean$": lambda p: p.score("dataset_dice"),
    r"mmseg .*\[Precision\]$": lambda p: p.column("precision"),
    r"hszhao/semseg .*iou_class = ": lambda p: p.column_or_zero("iou"),
    r"hszhao/semseg mIoU": lambda p: p.score("dataset_miou_absent_zero"),
    r"hszhao/semseg allAcc": lambda p: p.score("pixel_accuracy"),
    r"VainF.*\[Overall Acc\]": lambda p: p.score("pixel_accuracy"),
    r"VainF.*\[Mean Acc\]": lambda p: p.score("class_accuracy"),
    r"VainF.*\[FreqW Acc\]": lambda p: p.score("frequency_weighted_iou"),
    r"VainF.*\[Mean IoU\]": lambda p: p.score("dataset_miou"),
    r"jfzhang95.*\.Pixel_Accuracy\(": lambda p: p.score("pixel_accuracy"),
    r"jfzhang95.*\.Pixel_Accuracy_Class\(": lambda p: p.score("class_accuracy"),
    r"jfzhang95.*\.Mean_Intersection_over_Union\(": lambda p: p.score("dataset_miou"),
    r"jfzhang95.*\.Frequency_Weighted_Intersection_over_Union\(": lambda p: p.score("frequency_weighted_iou"),
    r"monai.*MeanIoU\(include_background=True, reduction='mean', ignore_empty=True": Pair.image_miou,
    r"segmentation_models_pytorch.*get_stats.*\[tp\]": lambda p: p.counts("tp"),
    r"segmentation_models_pytorch.*get_stats.*\[fp\]": lambda p: p.counts("fp"),
    r"segmentation_models_pytorch.*get_stats.*\[fn\]": lambda p: p.counts("fn"),
    r"segmentation_models_pytorch.*get_stats.*\[tn\]": lambda p: p.counts("tn"),
    r"segmentation_models.*iou_score\(.*'macro', zero_division=0": lambda p: p.score("dataset_miou_absent_zero"),
}  # fmt: skip
"""A call of a public package -> our score by the same rule."""

OURS = {
    "pixel_accuracy",
    "class_accuracy",
    "dataset_miou",
    "dataset_miou_absent_zero",
    "frequency_weighted_iou",
    "dataset_dice",
    "image_miou",
}


def cases() -> list[Path]:
    """Every case of metrics in the folder of golden cases."""
    found = sorted(FOLDER.glob("**/*.json"))
    return [p for p in found if json.loads(p.read_text(encoding="utf-8")).get("system") == "segmentation metrics"]


def rule_of(call: str) -> Callable[[Pair], Any] | None:
    """Our score for `call`, or None when we have none by its rule."""
    return next((rule for words, rule in RULES.items() if re.match(words, call)), None)


def check(path: Path) -> dict[str, set[str]]:
    """Compare a case; returns, for each pair, the calls that were compared."""
    case = json.loads(path.read_text(encoding="utf-8"))
    compared: dict[str, set[str]] = {}
    with np.load(path.with_suffix(".npz")) as arrays:
        for name, values in case["values"].items():
            label = arrays[f"label_{name}"]
            if label.ndim != 3:
                continue  # volumes are scored by other rules
            counted = next(int(found[1]) for call in values if (found := re.search(r"num_classes=(\d+)", call)))
            pair = Pair(arrays[f"prediction_{name}"], label, counted)
            compared[name] = {call for call, value in values.items() if _agrees(pair, call, value, case["tolerance"])}
    return compared


def _agrees(pair: Pair, call: str, value: Any, tolerance: float) -> bool:
    rule = rule_of(call)
    ours = None if rule is None else rule(pair)
    if ours is None:
        return False
    expected = np.array(value, dtype=np.float64)  # null becomes NaN
    found = np.array(ours, dtype=np.float64).reshape(expected.shape)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=call)
    largest = float(np.nanmax(np.abs(expected), initial=0.0))
    difference = float(np.nanmax(np.abs(found - expected), initial=0.0))
    assert difference <= tolerance * largest, f"{call}: ours {ours}, theirs {value}"
    return True


def test_copy() -> None:
    compared = check(COPY)
    unused = [c for name in compared for c in json.loads(COPY.read_text())["values"][name] if c not in compared[name]]
    assert not unused
    assert len(compared["a"]) >= 36 and len(compared["b"]) >= 33
    for package in ("torchmetrics", "mmseg", "hszhao/semseg", "VainF", "jfzhang95", "segmentation_models_pytorch"):
        assert all(any(call.startswith(package) for call in calls) for calls in compared.values()), package
    assert any(call.startswith("monai") for call in compared["a"])


def test_every_score_has_a_public_twin() -> None:
    """No score of ours is left without a public call that checks it."""

    class Asked(Pair):
        def __init__(self) -> None:
            self.names: set[str] = set()

        def score(self, name: str) -> float:
            self.names.add(name)
            return math.nan

        def column(self, name: str) -> list[float]:
            return []

        def counts(self, what: str) -> list[list[float]]:
            return []

        def _pairs(self) -> Any:
            return []

    asked = Asked()
    for rule in RULES.values():
        rule(asked)
    assert asked.names == OURS


@pytest.mark.slow
def test_cases() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"the golden cases are not at {FOLDER}; set SIGHTLINE_GOLDEN")
    found = cases()
    assert found, f"no case of metrics among the golden cases at {FOLDER}"
    for path in found:
        compared = check(path)
        print(f"{path.name}: {', '.join(f'{len(calls)} calls on pair {name}' for name, calls in compared.items())}")
        assert all(len(calls) >= 20 for calls in compared.values())
