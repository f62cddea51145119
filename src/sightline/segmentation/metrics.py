"""Scores of label maps, every one named for its rule, nearly all from one confusion matrix over the data set.

The name of a score does not fix its value: the same answers get an "mIoU" between 0.53 and 0.79 from four public
packages. So each number here carries its rule in its name:

- `pixel_accuracy`: correct pixels / labelled pixels.
- `class_accuracy`: mean recall over the classes that occur in the labels.
- `dataset_miou`: mean over classes of intersection / union, both summed over the data set; classes that occur neither
  in labels nor answers are left out (VOC, Cityscapes, mmseg, torchmetrics' Jaccard).
- `dataset_miou_absent_zero`: the same, absent classes counted as 0 (hszhao/semseg, SegNet's script).
- `frequency_weighted_iou`: IoU weighted by the share of the class in the labels.
- `dataset_dice`: mean over classes of pooled Dice, absent classes left out.
- `image_miou`: each picture's own mIoU over the classes in its labels or answer, then the mean over pictures.
- `foreground_iou`, `foreground_dice`: binary sets only; IoU and Dice of class 1, pooled over all pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import UsageError
from sightline.ops.confusion import confusion_matrix
from sightline.segmentation.answer import named


@dataclass(frozen=True)
class SegmentationReport:
    """Scores of one evaluation: `metrics`, `per_class`, the confusion matrix, and each picture's own score."""

    classes: tuple[str, ...]
    confusion: Tensor  # int64 (K, K), rows = labels, columns = answers
    image_scores: dict[str, float] = field(default_factory=dict)  # key -> mIoU of that picture

    @property
    def metrics(self) -> dict[str, float]:
        """All scores of the module's list; NaN where nothing was labelled."""
        return scores(self.confusion) | {"image_miou": _mean(list(self.image_scores.values()))}

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """IoU, Dice, recall (`accuracy`), precision and labelled pixels of every class."""
        columns = class_scores(self.confusion)
        return {
            name: {score: float(column[k]) for score, column in columns.items()}
            | {"pixels": int(self.confusion[k].sum())}
            for k, name in enumerate(self.classes)
        }

    @property
    def worst(self) -> list[str]:
        """Keys of the pictures, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


class SegmentationMetric:
    """Counts label maps against truth, one picture at a time; memory is one K x K matrix."""

    def __init__(self, classes: Sequence[str], num_classes: int | None = None):
        self.classes = named(classes, num_classes or len(classes))
        self.confusion = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)
        self.image_scores: dict[str, float] = {}

    def update(self, prediction: Tensor, labels: Tensor, *, key: str = "") -> float:
        """Count one picture: two integer maps of one shape, labels with 255 where nothing is scored; its own mIoU."""
        counts = confusion_matrix(prediction, labels, len(self.classes)).cpu()
        self.confusion += counts
        score = scores(counts)["dataset_miou"]
        if not math.isnan(score):
            self.image_scores[self._free(key or str(len(self.image_scores)))] = score
        return score

    def merge(self, other: SegmentationMetric) -> None:
        """Add what another process counted, of other pictures and the same classes."""
        if self.classes != other.classes:
            raise UsageError(f"counts of {len(other.classes)} classes do not fit counts of {len(self.classes)} classes")
        self.confusion += other.confusion
        for key, score in other.image_scores.items():
            self.image_scores[self._free(key)] = score

    def compute(self) -> SegmentationReport:
        """The scores so far."""
        return SegmentationReport(self.classes, self.confusion.clone(), dict(self.image_scores))

    def _free(self, key: str) -> str:
        """`key`, or `key (2)`, `key (3)` ... when a picture of that name has been counted."""
        names = itertools.chain([key], (f"{key} ({n})" for n in itertools.count(2)))
        return next(name for name in names if name not in self.image_scores)


def class_scores(confusion: Tensor) -> dict[str, Tensor]:
    """IoU, Dice, recall and precision of every class, float64 `(K,)`, NaN where the rule divides by nothing."""
    counts = confusion.double()
    hit, labelled, answered = counts.diagonal(), counts.sum(1), counts.sum(0)
    return {
        "iou": hit / (labelled + answered - hit),
        "dice": 2 * hit / (labelled + answered),
        "accuracy": hit / labelled,
        "precision": hit / answered,
    }


def scores(confusion: Tensor) -> dict[str, float]:
    """Every score of the module's list that one int64 `(K, K)` confusion matrix gives."""
    column = class_scores(confusion)
    total = confusion.sum().double()
    share = confusion.sum(1).double() / total
    found = {
        "pixel_accuracy": (confusion.diagonal().sum() / total).item(),
        "class_accuracy": column["accuracy"].nanmean().item(),
        "dataset_miou": column["iou"].nanmean().item(),
        "dataset_miou_absent_zero": column["iou"].nan_to_num(0).mean().item() if total else math.nan,
        "frequency_weighted_iou": (share * column["iou"].nan_to_num(0)).sum().item(),
        "dataset_dice": column["dice"].nanmean().item(),
    }
    if len(confusion) == 2:
        found |= {"foreground_iou": column["iou"][1].item(), "foreground_dice": column["dice"][1].item()}
    return found


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
