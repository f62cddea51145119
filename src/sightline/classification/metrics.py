"""Scores of labels, every one named for its rule.

- `accuracy`: samples whose most probable class is the right one (top-1; of videos: Hit@1).
- `top5_accuracy`: the right class is among the five most probable; there from six classes on.
- `class_accuracy`: the mean over the classes that occur of their share of right samples (mean class accuracy).
- `log_loss`: mean of -log p of the right class. `ece`: expected calibration error in 15 bins of confidence.
- `average_precision`: mean over the classes that occur of average precision, samples ranked by the class's probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.classification.answer import named

BINS = 15


@dataclass(frozen=True)
class LabelReport:
    """Scores of one evaluation."""

    classes: tuple[str, ...]
    probabilities: Tensor  # (N, K), in the order of the samples
    labels: Tensor  # (N,)
    keys: tuple[str, ...] = ()
    image_scores: dict[str, float] = field(default_factory=dict)  # key -> probability of the right class

    @property
    def confusion(self) -> Tensor:
        """int64 `(K, K)`, rows = labels, columns = answers."""
        count = len(self.classes)
        said = self.probabilities.argmax(1) if len(self.labels) else self.labels
        return torch.bincount(self.labels * count + said, minlength=count * count).reshape(count, count)

    @property
    def metrics(self) -> dict[str, float]:
        """All scores of the module's list; NaN where nothing was labelled."""
        p, y = self.probabilities, self.labels
        if not len(y):
            return dict.fromkeys(("accuracy", "class_accuracy", "log_loss", "ece", "average_precision"), math.nan)
        right = p.argmax(1) == y
        found = {"accuracy": float(right.double().mean())}
        if p.shape[1] > 5:
            found["top5_accuracy"] = float((p.topk(5, dim=1).indices == y[:, None]).any(1).double().mean())
        matrix = self.confusion.double()
        rows = matrix.sum(1)
        found["class_accuracy"] = float((matrix.diagonal() / rows)[rows > 0].mean())
        found["log_loss"] = float(-p[torch.arange(len(y)), y].double().clamp(min=1e-12).log().mean())
        found["ece"] = calibration_error(p, y)
        present = [k for k in range(p.shape[1]) if bool((y == k).any())]
        found["average_precision"] = sum(average_precision(p[:, k], y == k) for k in present) / len(present)
        return found

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Recall (`accuracy`), precision and number of samples of every class."""
        matrix = self.confusion.double()
        hit, truth, said = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        return {
            name: {
                "accuracy": float(hit[k] / truth[k]) if truth[k] else math.nan,
                "precision": float(hit[k] / said[k]) if said[k] else math.nan,
                "samples": int(truth[k]),
            }
            for k, name in enumerate(self.classes)
        }

    @property
    def worst(self) -> list[str]:
        """Keys of the samples, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


class LabelMetric:
    """Collects probabilities and labels, one sample at a time; memory is K numbers a sample."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = named(classes, len(classes))
        self.image_scores: dict[str, float] = {}
        self._rows: list[tuple[str, Tensor, int]] = []

    def update(self, probabilities: Tensor, label: int, *, key: str) -> None:
        """Count one sample: `(K,)` probabilities and its class."""
        p = probabilities.detach().float().cpu()
        self._rows.append((key, p, int(label)))
        self.image_scores[key] = float(p[label])

    def merge(self, other: LabelMetric) -> None:
        """Add what another metric counted."""
        self._rows += other._rows
        self.image_scores |= other.image_scores

    def compute(self) -> LabelReport:
        """The scores so far."""
        probabilities = torch.stack([p for _, p, _ in self._rows]) if self._rows else torch.zeros(0, len(self.classes))
        return LabelReport(
            classes=self.classes,
            probabilities=probabilities,
            labels=torch.tensor([y for _, _, y in self._rows], dtype=torch.long),
            keys=tuple(key for key, _, _ in self._rows),
            image_scores=dict(self.image_scores),
        )


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Mean |confidence - share right| over equal bins of confidence, weighted by their samples (Guo et al. 2017)."""
    confidence, said = probabilities.double().max(1)
    right = (said == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    total = torch.zeros(bins, dtype=torch.double)
    total.index_add_(0, place, confidence - right)
    return float(total.abs().sum() / len(labels))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Mean of the precision at each positive, best score first; ties share the precision of their last."""
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], positive[order].double()
    seen = hits.cumsum(0)
    precision = seen / torch.arange(1, len(hits) + 1)
    last = torch.searchsorted(-ranked.contiguous(), -ranked.contiguous(), right=True) - 1  # the end of each tie
    return float((precision[last] * hits).sum() / hits.sum().clamp(min=1))
