"""Scores of multi-label answers: every class is a question of its own, yes or no at each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.calibration import Reliability
from sightline.segmentation.contract import IGNORE


@dataclass(frozen=True)
class MultiLabelReport:
    """Scores of one evaluation. counts: int64 `(K, 4)`: hit, said too much, missed, rightly not said."""

    classes: tuple[str, ...]
    counts: Tensor
    image_scores: dict[str, float] = field(default_factory=dict)  # key -> that picture's mean IoU
    measured: dict[str, float] = field(default_factory=dict)
    reliability: list[tuple[float, float, float]] = field(default_factory=list)

    confusion = torch.zeros(0, 0, dtype=torch.int64)  # classes that overlap are not taken for each other

    @property
    def metrics(self) -> dict[str, float]:
        """`pixel_accuracy` (right answers / answers), `dataset_miou`, `dataset_dice` (means over classes of pooled
        IoU and Dice; classes that neither labels nor answers hold are left out) and `image_miou`."""
        columns = self._columns()
        right, asked = self.counts[:, [0, 3]].sum().item(), self.counts.sum().item()
        images = list(self.image_scores.values())
        return {
            "pixel_accuracy": right / asked if asked else math.nan,
            "dataset_miou": columns["iou"].nanmean().item(),
            "dataset_dice": columns["dice"].nanmean().item(),
            "image_miou": math.fsum(images) / len(images) if images else math.nan,
        } | self.measured

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """IoU, Dice, recall (`accuracy`), precision and labelled pixels of every class."""
        columns = self._columns()
        labelled = (self.counts[:, 0] + self.counts[:, 2]).tolist()
        return {
            name: {score: float(column[k]) for score, column in columns.items()} | {"pixels": labelled[k]}
            for k, name in enumerate(self.classes)
        }

    @property
    def worst(self) -> list[str]:
        """Keys of the pictures, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))

    def _columns(self) -> dict[str, Tensor]:
        hit, more, missed, _ = self.counts.double().unbind(1)
        return {
            "iou": hit / (hit + more + missed),
            "dice": 2 * hit / (2 * hit + more + missed),
            "accuracy": hit / (hit + missed),
            "precision": hit / (hit + more),
        }


class MultiLabelMetric:
    """Counts multi-label answers `(K, H, W)` against truth of the same shape, one picture at a time."""

    def __init__(self, classes: Sequence[str], *, measures: Sequence[str] = ()) -> None:
        self.classes, self.measures = tuple(classes), tuple(measures)
        self.counts = torch.zeros(len(self.classes), 4, dtype=torch.int64)
        self.image_scores: dict[str, float] = {}
        self.reliability = Reliability()

    def update(
        self, prediction: Tensor, labels: Tensor, *, key: str = "", probabilities: Tensor | None = None
    ) -> float:
        """Count one picture of 0 and 1, labels with 255 where nothing is scored; its own mean IoU."""
        if prediction.shape != labels.shape or len(labels) != len(self.classes):
            raise UsageError(
                f"answers of shape {tuple(prediction.shape)} and labels of shape {tuple(labels.shape)}: both need a "
                f"plane for each of the {len(self.classes)} classes"
            )
        said, true, valid = (prediction == 1).flatten(1), (labels == 1).flatten(1), (labels != IGNORE).flatten(1)
        pairs = (said & true, said & ~true, ~said & true, ~said & ~true)
        counts = torch.stack([(pair & valid).sum(1) for pair in pairs], dim=1).cpu()
        self.counts += counts
        if probabilities is not None:
            self.reliability.update(probabilities, labels)
        hit, more, missed, _ = counts.double().unbind(1)
        score = (hit / (hit + more + missed)).nanmean().item()
        if not math.isnan(score):
            name, n = key or str(len(self.image_scores)), 1
            while name in self.image_scores:
                n += 1
                name = f"{key} ({n})"
            self.image_scores[name] = score
        return score

    def merge(self, other: MultiLabelMetric) -> None:
        """Add what another process counted, of other pictures and the same classes."""
        if self.classes != other.classes:
            raise UsageError(f"counts of {len(other.classes)} classes do not fit counts of {len(self.classes)} classes")
        self.counts += other.counts
        self.reliability.merge(other.reliability)
        for key, score in other.image_scores.items():
            self.image_scores[key if key not in self.image_scores else f"{key} (2)"] = score

    def compute(self) -> MultiLabelReport:
        """The scores so far."""
        measured = {"ece": self.reliability.ece} if "ece" in self.measures else {}
        return MultiLabelReport(
            self.classes, self.counts.clone(), dict(self.image_scores), measured, self.reliability.curve
        )
