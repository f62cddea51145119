"""What the public packages print for the same answers: the rules behind six names, so that papers can be compared.

Every rule is a function of the counts of single pictures, `Counts`; the two that look at surfaces take those too.
Sources (read, and checked against the packages' own numbers in tests/golden): mmsegmentation 1.2 `IoUMetric`,
torchmetrics 1.9 (classification and segmentation), MONAI 1.6 `DiceMetric` and `MeanIoU`, segmentation_models_pytorch
0.6, nnU-Net v2 `evaluate_predictions`, TransUNet `utils.py`. Shares are in 0..1 (mmsegmentation prints percent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Pixels of every picture and class, each `(I, K)` float64: hit, said too much, missed, rightly not said."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array

    @property
    def pooled(self) -> Counts:
        """The counts of all pictures together, `(1, K)`."""
        return Counts(*(x.sum(axis=0, keepdims=True) for x in (self.tp, self.fp, self.fn, self.tn)))

    @property
    def foreground(self) -> Counts:
        """Without class 0."""
        return Counts(*(x[:, 1:] for x in (self.tp, self.fp, self.fn, self.tn)))


def counts_of(cases: Sequence[Tensor], classes: int) -> Counts:
    """Counts of pictures given as int64 `(3, K)`: hit, labelled and answered pixels of every class."""
    table = torch.stack(list(cases)) if len(cases) else torch.zeros(0, 3, classes, dtype=torch.int64)
    hit, labelled, answered = (column.double().numpy() for column in table.unbind(1))
    total = labelled.sum(axis=1, keepdims=True)
    return Counts(hit, answered - hit, labelled - hit, total - labelled - answered + hit)


@dataclass(frozen=True)
class Printed:
    """What a policy prints: numbers by the package's own names, and columns with a number a class `(K,)`."""

    metrics: dict[str, float]
    per_class: dict[str, Array] = field(default_factory=dict)


def ratio(a: Array, b: Array, empty: float = np.nan) -> Array:
    """a / b, `empty` where both are 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, float(empty)), where=b != 0)


def nan_mean(values: Array, axis: int | None = None, empty: float = np.nan) -> Array:
    """The mean of what is a number, `empty` where nothing is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis).astype(float), empty)


# mmsegmentation ------------------------------------------------------------------------------------------------------


def mmseg(counts: Counts) -> Printed:
    """All pictures pooled; NaN means over the classes. The F-score is NaN where precision or recall is."""
    c = counts.pooled
    tp, fp, fn = c.tp[0], c.fp[0], c.fn[0]
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    columns = {
        "IoU": ratio(tp, tp + fp + fn),
        "Acc": recall,
        "Dice": ratio(2 * tp, 2 * tp + fp + fn),
        "Fscore": ratio(2 * precision * recall, precision + recall),
        "Precision": precision,
        "Recall": recall,
    }
    means = {f"m{name}": float(nan_mean(column)) for name, column in columns.items()}
    return Printed({"aAcc": float(ratio(tp.sum(), (tp + fn).sum())), **means}, columns)


# torchmetrics --------------------------------------------------------------------------------------------------------


def torchmetrics_classification(counts: Counts, metric: str, average: str, ignore: int | None = None) -> Array:
    """`MulticlassJaccardIndex`, `MulticlassAccuracy` or `MulticlassF1Score`, pooled; `none` gives a number a class.

    Macro means leave out classes that occur neither in labels nor answers; 0 / 0 is 0. ignore: torchmetrics'
    `ignore_index` where it is one of the classes, which the Jaccard index then leaves out of its means.
    """
    c = counts.pooled
    tp, fp, fn = c.tp[0], c.fp[0], c.fn[0]
    above, below = {
        "MulticlassJaccardIndex": (tp, tp + fp + fn),
        "MulticlassAccuracy": (tp, tp + fn),
        "MulticlassF1Score": (2 * tp, 2 * tp + fp + fn),
    }[metric]
    left_out = np.zeros(len(tp), bool)
    if metric == "MulticlassJaccardIndex" and ignore is not None and 0 <= ignore < len(tp):
        left_out[ignore] = True
    if average == "micro":
        return ratio(above.sum(), below.sum() - below[left_out].sum(), 0.0)
    values = ratio(above, below, 0.0)
    if average == "none":
        return values
    weights = tp + fn if average == "weighted" else ((tp + fp + fn > 0) & ~left_out).astype(float)
    return ratio((weights * values).sum(), weights.sum(), np.nan if metric == "MulticlassJaccardIndex" else 0.0)


def torchmetrics_mean_iou(counts: Counts, *, per_class: bool = False) -> Array:
    """`segmentation.MeanIoU`: the mean over the (picture, class) pairs with a union; a class that has none is -1."""
    values = ratio(counts.tp, counts.tp + counts.fp + counts.fn)
    return nan_mean(values, axis=0, empty=-1.0) if per_class else nan_mean(values)


def torchmetrics_dice(counts: Counts, average: str, level: str) -> Array:
    """`segmentation.DiceScore`: `samplewise` (each picture, then the mean) or `global` (pooled); 0 / 0 is left out."""
    c = counts.pooled if level == "global" else counts
    above, below = 2 * c.tp, 2 * c.tp + c.fp + c.fn
    if average == "micro":
        return nan_mean(ratio(above.sum(1), below.sum(1)))
    values = ratio(above, below)
    if average == "none":
        return nan_mean(values, axis=0)
    if average == "macro":
        return nan_mean(nan_mean(values, axis=1))
    share = ratio(c.tp + c.fn, (c.tp + c.fn).sum(1, keepdims=True))
    weighted = np.nansum(values * share, axis=1)
    return nan_mean(np.where(np.isnan(values).all(axis=1), np.nan, weighted))


def torchmetrics(counts: Counts) -> Printed:
    """The Jaccard index, accuracy and F1 of `classification`, mean IoU and Dice of `segmentation`."""
    found = {}
    for metric in ("MulticlassJaccardIndex", "MulticlassAccuracy", "MulticlassF1Score"):
        for average in ("macro", "micro", "weighted"):
            found[f"{metric}({average})"] = float(torchmetrics_classification(counts, metric, average))
    for part, words in ((counts, ""), (counts.foreground, ", no background")):
        found[f"MeanIoU{words.replace(', ', '(')}{')' if words else ''}"] = float(torchmetrics_mean_iou(part))
        for level in ("samplewise", "global"):
            for average in ("macro", "micro", "weighted"):
                found[f"DiceScore({average}, {level}{words})"] = float(torchmetrics_dice(part, average, level))
    columns = {
        "MulticlassJaccardIndex": torchmetrics_classification(counts, "MulticlassJaccardIndex", "none"),
        "MeanIoU": torchmetrics_mean_iou(counts, per_class=True),
        "DiceScore": torchmetrics_dice(counts, "none", "global"),
    }
    return Printed(found, columns)


# segmentation_models_pytorch -----------------------------------------------------------------------------------------

SMP: Mapping[str, Callable[[Array, Array, Array, Array], tuple[Array, Array]]] = {
    "iou_score": lambda tp, fp, fn, tn: (tp, tp + fp + fn),
    "f1_score": lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn),
    "accuracy": lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn),
    "recall": lambda tp, fp, fn, tn: (tp, tp + fn),
    "precision": lambda tp, fp, fn, tn: (tp, tp + fp),
}
"""Above and below the fraction bar of each score."""


def smp_score(
    counts: Counts, metric: str, reduction: str, *, zero_division: float = 1.0, class_weights: Array | None = None
) -> float:
    """A score of `segmentation_models_pytorch.metrics`; 0 / 0 is `zero_division`, so absent classes count as 1.

    class_weights are divided by their sum, and the mean over classes is then taken once more, as the package does.
    """
    c = counts.pooled if reduction in ("micro", "macro", "weighted") else counts
    parts = (c.tp, c.fp, c.fn, c.tn)
    if reduction.startswith("micro"):
        above, below = SMP[metric](*(x.sum(axis=1) for x in parts))
        return float(ratio(above, below, np.nan if reduction == "micro" else zero_division).mean())
    above, below = SMP[metric](*parts)
    values = ratio(above, below, zero_division).mean(axis=0)
    if class_weights is not None:
        values = values * class_weights / class_weights.sum()
    return float(values.sum() if reduction == "weighted" else values.mean())


def smp(counts: Counts) -> Printed:
    """IoU, F1, accuracy, recall and precision, in the four reductions that need no weights."""
    found = {
        f"{metric}({reduction})": smp_score(counts, metric, reduction)
        for metric in SMP
        for reduction in ("micro", "macro", "micro-imagewise", "macro-imagewise")
    }
    c = counts.pooled
    columns = {metric: ratio(*rule(c.tp[0], c.fp[0], c.fn[0], c.tn[0]), 1.0) for metric, rule in SMP.items()}
    return Printed(found, columns)


# MONAI ---------------------------------------------------------------------------------------------------------------


def monai_table(counts: Counts, metric: str, *, ignore_empty: bool = True) -> Array:
    """`DiceMetric` or `MeanIoU` with reduction "none": `(I, K)`.

    A class that the labels of a picture do not hold is NaN, or without `ignore_empty` 1 where it is not said either.
    """
    labelled, said = counts.tp + counts.fn, counts.tp + counts.fp
    dice = metric == "DiceMetric"
    values = ratio((2 if dice else 1) * counts.tp, labelled + said - (0 if dice else counts.tp), 1.0)
    return np.where(labelled > 0, values, np.nan if ignore_empty else (said == 0).astype(float))


def monai_reduce(table: Array, reduction: str) -> Array:
    """`mean` (a picture's mean over classes, then over pictures), `mean_batch` or `mean_channel`; nothing left is 0."""
    if reduction == "mean_batch":
        return nan_mean(table, axis=0, empty=0.0)
    pictures = nan_mean(table, axis=1, empty=np.nan if reduction == "mean" else 0.0)
    return nan_mean(pictures, empty=0.0) if reduction == "mean" else pictures


def monai(counts: Counts, surfaces: Mapping[str, Array] | None = None) -> Printed:
    """`DiceMetric` and `MeanIoU`, with and without background and empty classes; distances where they were measured."""
    found = {}
    for metric in ("DiceMetric", "MeanIoU"):
        for part, words in ((counts, ""), (counts.foreground, "no background")):
            for ignore_empty in (True, False):
                said = ", ".join(w for w in (words, "" if ignore_empty else "ignore_empty=False") if w)
                table = monai_table(part, metric, ignore_empty=ignore_empty)
                found[metric + (f"({said})" if said else "")] = float(monai_reduce(table, "mean"))
    columns = {m: monai_reduce(monai_table(counts, m), "mean_batch") for m in ("DiceMetric", "MeanIoU")}
    if surfaces:
        for name, key in (
            ("HausdorffDistanceMetric(percentile=95)", "hd95"),
            ("SurfaceDistanceMetric(symmetric=True)", "assd"),
            ("SurfaceDiceMetric", "surface_dice"),
        ):
            found[name] = float(monai_reduce(surfaces[key][:, 1:], "mean"))
            columns[name] = monai_reduce(surfaces[key], "mean_batch")
    return Printed(found, columns)


# nnU-Net and TransUNet -----------------------------------------------------------------------------------------------


def nnunet_table(counts: Counts, metric: str) -> Array:
    """`Dice` or `IoU` of each case and label, `(I, K)`; NaN where neither labels nor answer hold it."""
    above = (2 if metric == "Dice" else 1) * counts.tp
    return ratio(above, above + counts.fp + counts.fn)


def nnunet(counts: Counts) -> Printed:
    """Each label's mean over the cases that have it, then the plain mean over the labels but background."""
    columns = {metric: nan_mean(nnunet_table(counts, metric), axis=0) for metric in ("Dice", "IoU")}
    return Printed({f"foreground_mean {m}": float(column[1:].mean()) for m, column in columns.items()}, columns)


def transunet_tables(counts: Counts, hd95_pooled: Array) -> tuple[Array, Array]:
    """Dice and HD95 (in voxels) of each case and organ, `(I, K)`, as `calculate_metric_percase` has them.

    Both there: the real ones. Said but not there: Dice 1, HD95 0. Missed, or both empty: Dice 0, HD95 0 - so an organ
    that is missed improves the mean HD95.
    """
    labelled, said = counts.tp + counts.fn > 0, counts.tp + counts.fp > 0
    dice = np.where(labelled & said, nnunet_table(counts, "Dice"), (said & ~labelled).astype(float))
    return dice, np.where(labelled & said, hd95_pooled, 0.0)


def transunet(counts: Counts, surfaces: Mapping[str, Array]) -> Printed:
    """Means over cases, then over the organs (all classes but 0)."""
    dice, distance = (t.mean(axis=0) for t in transunet_tables(counts, surfaces["hd95_pooled"]))
    found = {"performance (mean Dice)": float(dice[1:].mean()), "mean_hd95": float(distance[1:].mean())}
    return Printed(found, {"mean_dice": dice, "mean_hd95": distance})


POLICIES = ("mmseg", "torchmetrics", "monai", "smp", "nnunet", "transunet")
"""Whose numbers can be asked for."""

NEEDS_SURFACES = ("transunet",)
"""Policies that measure distances, in voxels, without being asked."""


def printed(policy: str, counts: Counts, surfaces: Mapping[str, Array] | None = None) -> Printed:
    """What `policy` prints. surfaces: `(I, K)` tables by the names of `SurfaceScores`, where they were measured."""
    if policy == "transunet":
        return transunet(counts, surfaces or {})
    if policy == "monai":
        return monai(counts, surfaces)
    return {"mmseg": mmseg, "torchmetrics": torchmetrics, "smp": smp, "nnunet": nnunet}[policy](counts)
