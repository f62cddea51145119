"""Our scores beside the public packages': every call of a case has a policy or a function here that gives its number.

The fast suite runs a copy; the slow suite every case of metrics in the folder of golden cases (`SIGHTLINE_GOLDEN`, or
`shared/golden` beside the checkout).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.segmentation import policies as p
from sightline.segmentation.metrics import SegmentationMetric, SegmentationReport
from sightline.segmentation.surface_scores import hausdorff, surface_scores

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
COPY = HERE / "cases" / "metrics" / "metrics.json"


class Pair:
    """Predictions and labels of a case, scored by us."""

    def __init__(self, prediction: np.ndarray, label: np.ndarray, classes: int, ignore: int | None) -> None:
        labels = torch.from_numpy(label)
        self.prediction = torch.from_numpy(prediction)
        self.label = labels if ignore is None else torch.where(labels == ignore, 255, labels)
        self.classes, self.ignore = classes, ignore
        self._reports: dict[str | None, SegmentationReport] = {}

    def report(self, policy: str | None = None) -> SegmentationReport:
        if policy not in self._reports:
            self._reports[policy] = self._scored(policy)
        return self._reports[policy]

    def _scored(self, policy: str | None) -> SegmentationReport:
        metric = SegmentationMetric([str(k) for k in range(self.classes)], policy=policy)
        for i, (said, true) in enumerate(zip(self.prediction, self.label)):
            metric.update(said, true, key=str(i))
        return metric.compute()

    @property
    def ours(self) -> SegmentationReport:
        return self.report()

    def printed(self, policy: str) -> dict[str, float]:
        return self.report(policy).metrics

    def column(self, policy: str | None, name: str) -> list[float]:
        report = self.ours if policy is None else self.report(policy)
        return [row[name] for row in report.per_class.values()]

    @cached_property
    def counts(self) -> p.Counts:
        metric = SegmentationMetric([str(k) for k in range(self.classes)])
        for said, true in zip(self.prediction, self.label):
            metric.update(said, true)
        return p.counts_of(metric.cases, self.classes)

    def cases(self, score: Callable[[Any, Any], float]) -> list[list[float]]:
        """A score of two masks for each case and each class but 0."""
        return [
            [score(said == k, true == k) for k in range(1, self.classes)]
            for said, true in zip(self.prediction, self.label)
        ]


def value_of(pair: Pair, call: str) -> Any:
    """Our number (or numbers) for a call of a public package, None for a call we know nothing of."""
    found = re.match(r"(?P<head>[\w.]*?)(?P<name>\w+)\((?P<given>.*)\)(?P<rest>.*)$", call)
    given = dict(re.findall(r"(\w+)='?([^',)]+)'?", found["given"])) if found else {}
    if call.startswith("torchmetrics"):
        return of_torchmetrics(pair, found["name"], given)
    if call.startswith("segmentation_models"):
        return of_smp(pair, found["name"], given, found["rest"], found["given"])
    if call.startswith("monai"):
        return of_monai(pair, found["name"], given, call)
    if call.startswith("mmseg"):
        name = re.findall(r"\[(\w+)\]", call)[-1]
        if name == "aAcc":
            return pair.printed("mmseg")["aAcc"]
        return pair.printed("mmseg")[f"m{name}"] if call.endswith("nanmean") else pair.column("mmseg", name)
    for words, rule in OTHERS.items():
        if re.match(words, call):
            return rule(pair)
    return None


def of_torchmetrics(pair: Pair, name: str, given: dict[str, str]) -> Any:
    average = given.get("average", "")
    if name.startswith("Multiclass"):
        if average == "none" or pair.ignore in range(pair.classes):
            return p.torchmetrics_classification(pair.counts, name, average, pair.ignore)
        return pair.printed("torchmetrics")[f"{name}({average})"]
    background = given["include_background"] == "True"
    counts = pair.counts if background else pair.counts.foreground
    if given.get("per_class") == "True":
        return p.torchmetrics_mean_iou(counts, per_class=True)
    if average == "none":
        return p.torchmetrics_dice(counts, "none", given["aggregation_level"])
    words = [w for w in (average, given.get("aggregation_level"), None if background else "no background") if w]
    return pair.printed("torchmetrics")[name + (f"({', '.join(words)})" if words else "")]


def of_smp(pair: Pair, name: str, given: dict[str, str], rest: str, text: str) -> Any:
    if name == "get_stats":
        return getattr(pair.counts, rest[1:3])
    if "class_weights=all ones" in text:
        return p.smp_score(pair.counts, name, given["reduction"], class_weights=np.ones(pair.classes))
    if "zero_division" in given:
        return p.smp_score(pair.counts, name, given["reduction"], zero_division=float(given["zero_division"]))
    return pair.printed("smp")[f"{name}({given['reduction']})"]


def of_monai(pair: Pair, name: str, given: dict[str, str], call: str) -> Any:
    spacing = re.search(r"spacing=\[([^\]]+)\]", call)
    lengths = tuple(float(s) for s in spacing[1].split(",")) if spacing else None
    if name == "HausdorffDistanceMetric":
        percentile = None if given["percentile"] == "None" else float(given["percentile"])
        found = pair.cases(lambda a, b: hausdorff(a, b, percentile=percentile, spacing=lengths))
        return found if percentile is None else np.where(np.isinf(found), np.nan, found)
    if name in ("SurfaceDistanceMetric", "SurfaceDiceMetric"):
        key = {"SurfaceDistanceMetric": "assd", "SurfaceDiceMetric": "surface_dice"}[name]
        return pair.cases(lambda a, b: getattr(surface_scores(a, b, spacing=lengths), key))
    background, empty = given["include_background"] == "True", given["ignore_empty"] == "True"
    if given["reduction"] == "mean":
        words = ", ".join(
            w for w in ("" if background else "no background", "" if empty else "ignore_empty=False") if w
        )
        return pair.printed("monai")[name + (f"({words})" if words else "")]
    table = p.monai_table(pair.counts if background else pair.counts.foreground, name, ignore_empty=empty)
    return table if given["reduction"] == "none" else p.monai_reduce(table, given["reduction"])


def _medpy(percentile: float | None, spacing: tuple[float, ...] | None = None) -> Callable[[Pair], Any]:
    def score(a: Any, b: Any) -> float:
        found = hausdorff(a, b, percentile=percentile, pooled=True, spacing=spacing)
        return float("nan") if found == float("inf") else found  # medpy raises there

    return lambda pair: pair.cases(score)


def _transunet(index: int) -> Callable[[Pair], Any]:
    def tables(pair: Pair) -> Any:
        pooled = np.array(pair.cases(lambda a, b: surface_scores(a, b).hd95_pooled))
        return p.transunet_tables(pair.counts.foreground, pooled)[index]

    return tables


OTHERS: dict[str, Callable[[Pair], Any]] = {
    r"hszhao/semseg .*iou_class = ": lambda c: np.nan_to_num(c.column(None, "iou")),
    r"hszhao/semseg mIoU": lambda c: c.ours.metrics["dataset_miou_absent_zero"],
    r"hszhao/semseg mAcc": lambda c: np.nan_to_num(c.column(None, "accuracy")).mean(),
    r"hszhao/semseg allAcc": lambda c: c.ours.metrics["pixel_accuracy"],
    r"(VainF.*\[Overall Acc\]|jfzhang95.*\.Pixel_Accuracy\()": lambda c: c.ours.metrics["pixel_accuracy"],
    r"(VainF.*\[Mean Acc\]|jfzhang95.*\.Pixel_Accuracy_Class\()": lambda c: c.ours.metrics["class_accuracy"],
    r"(VainF.*\[FreqW Acc\]|jfzhang95.*\.Frequency_W)": lambda c: c.ours.metrics["frequency_weighted_iou"],
    r"(VainF.*\[Mean IoU\]|jfzhang95.*\.Mean_Intersection)": lambda c: c.ours.metrics["dataset_miou"],
    r"Beckschen/TransUNet calculate.*Dice": _transunet(0),
    r"Beckschen/TransUNet calculate.*HD95": _transunet(1),
    r"Beckschen/TransUNet testing mean Dice per organ": lambda c: c.column("transunet", "mean_dice")[1:],
    r"Beckschen/TransUNet testing mean HD95 per organ": lambda c: c.column("transunet", "mean_hd95")[1:],
    r"Beckschen/TransUNet testing performance": lambda c: c.printed("transunet")["performance (mean Dice)"],
    r"Beckschen/TransUNet testing mean_hd95": lambda c: c.printed("transunet")["mean_hd95"],
    r"medpy.*\.dc ": lambda c: p.nnunet_table(c.counts.foreground, "Dice"),
    r"medpy.*\.hd95, voxelspacing \(2.5, 1.0, 0.75\)": _medpy(95, (2.5, 1.0, 0.75)),
    r"medpy.*\.hd95 ": _medpy(95),
    r"medpy.*\.hd ": _medpy(None),
    r"medpy.*\.assd ": lambda c: np.where(np.isinf(a := c.cases(lambda x, y: surface_scores(x, y).assd)), np.nan, a),
    r"nnunetv2 compute_metrics \[Dice\]": lambda c: p.nnunet_table(c.counts.foreground, "Dice"),
    r"nnunetv2 compute_metrics \[IoU\]": lambda c: p.nnunet_table(c.counts.foreground, "IoU"),
    r"nnunetv2 mean \[Dice\]": lambda c: c.column("nnunet", "Dice")[1:],
    r"nnunetv2 mean \[IoU\]": lambda c: c.column("nnunet", "IoU")[1:],
    r"nnunetv2 foreground_mean \[Dice\]": lambda c: c.printed("nnunet")["foreground_mean Dice"],
    r"nnunetv2 foreground_mean \[IoU\]": lambda c: c.printed("nnunet")["foreground_mean IoU"],
}  # fmt: skip
"""Calls without keyword arguments in their words -> our number."""


def cases() -> list[Path]:
    """Every case of metrics in the folder of golden cases."""
    found = sorted(FOLDER.glob("**/*.json"))
    return [q for q in found if json.loads(q.read_text(encoding="utf-8")).get("system") == "segmentation metrics"]


def check(path: Path) -> dict[str, set[str]]:
    """Compare a case; returns, for each pair, the calls that were compared."""
    case = json.loads(path.read_text(encoding="utf-8"))
    compared: dict[str, set[str]] = {}
    with np.load(path.with_suffix(".npz")) as arrays:
        for name, values in case["values"].items():
            counted = next(int(found[1]) for call in values if (found := re.search(r"num_classes=(\d+)", call)))
            ignored = next((int(f[1]) for call in values if (f := re.search(r"ignore_index=(-?\d+)", call))), None)
            pair = Pair(arrays[f"prediction_{name}"], arrays[f"label_{name}"], counted, ignored)
            compared[name] = {call for call, value in values.items() if _agrees(pair, call, value, case["tolerance"])}
    return compared


def _agrees(pair: Pair, call: str, value: Any, tolerance: float) -> bool:
    ours = value_of(pair, call)
    if ours is None:
        return False
    expected = np.array(value, dtype=np.float64)  # null becomes NaN, "inf" infinite
    found = np.array(ours, dtype=np.float64).reshape(expected.shape)
    if call.startswith("medpy.metric.binary.dc"):
        expected, found = np.nan_to_num(expected), np.nan_to_num(found)  # two empty masks: NaN or 0, by numpy's age
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=call)
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected), err_msg=call)
    known = np.isfinite(expected)
    largest = float(np.abs(expected[known]).max(initial=0.0))
    difference = float(np.abs(found[known] - expected[known]).max(initial=0.0))
    assert difference <= tolerance * largest, f"{call}: ours {ours}, theirs {value}"
    return True


def test_copy() -> None:
    compared = check(COPY)
    values = json.loads(COPY.read_text())["values"]
    assert {name: set(calls) for name, calls in values.items()} == compared
    assert sum(map(len, compared.values())) >= 240


@pytest.mark.slow
def test_cases() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"the golden cases are not at {FOLDER}; set SIGHTLINE_GOLDEN")
    found = cases()
    assert found, f"no case of metrics among the golden cases at {FOLDER}"
    for path in found:
        compared = check(path)
        values = json.loads(path.read_text())["values"]
        print(f"{path.name}: {', '.join(f'{len(calls)} calls on pair {name}' for name, calls in compared.items())}")
        unknown = [call for name, calls in values.items() for call in calls if call not in compared[name]]
        assert not unknown, f"{path.name}: no rule for {unknown}"
