"""Scores of videos: what single clips of them say, and of videos with several classes (YouTube-8M).

Of videos of one class, those of `classification.metrics` and, when several clips of each were looked at,

- `clip_accuracy` (Clip Hit@1): clips whose own most probable class is the right one.

Of videos of several classes:

- `accuracy` (Hit@1): videos whose most probable class is one of theirs.
- `gap20`: global average precision: the 20 most probable classes of every video in one list, best first; the sum over
  its hits of the precision so far, divided by the number of all labels.
- `average_precision`: mean over the classes that occur of average precision (mAP).
- `log_loss`: cross-entropy of yes and no, summed over the classes, mean over the videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.classification.answer import named
from sightline.classification.metrics import LabelMetric, LabelReport, average_precision

TOP = 20


@dataclass(frozen=True)
class ClipReport(LabelReport):
    """Scores of one evaluation of videos of one class. hits, clips: of single clips the right ones, and all."""

    hits: int = 0
    clips: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """All scores of the module's list."""
        found = super().metrics
        if self.clips > len(self.labels):
            found["clip_accuracy"] = self.hits / self.clips
        return found


@dataclass(frozen=True)
class SeveralReport:
    """Scores of one evaluation of videos with several classes."""

    classes: tuple[str, ...]
    probabilities: Tensor  # (N, K)
    truth: Tensor  # (N, K) bool
    image_scores: dict[str, float] = field(default_factory=dict)  # key -> the lowest probability of its classes

    @property
    def confusion(self) -> Tensor:
        """Videos of several classes are not confused with one: an empty table."""
        return torch.zeros(0, 0, dtype=torch.long)

    @property
    def metrics(self) -> dict[str, float]:
        """All scores of the module's list."""
        p, truth = self.probabilities.double(), self.truth
        if not len(p):
            return dict.fromkeys(("accuracy", "gap20", "average_precision", "log_loss"), math.nan)
        logs = torch.where(truth, p, 1 - p).clamp(min=1e-12).log()
        each = [row["average_precision"] for row in self.per_class.values()]
        return {
            "accuracy": float(truth[torch.arange(len(p)), p.argmax(1)].double().mean()),
            "gap20": global_average_precision(p, truth),
            "average_precision": sum(each) / len(each) if each else math.nan,
            "log_loss": float(-logs.sum(1).mean()),
        }

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Average precision and number of videos of every class that occurs."""
        found = {}
        for k, name in enumerate(self.classes):
            if bool(self.truth[:, k].any()):
                precision = average_precision(self.probabilities[:, k], self.truth[:, k])
                found[name] = {"average_precision": precision, "samples": int(self.truth[:, k].sum())}
        return found

    @property
    def worst(self) -> list[str]:
        """Keys of the videos, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


class ClipMetric(LabelMetric):
    """A `LabelMetric` that also counts clips and samples with several classes; the first sample says which it is."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._several: list[tuple[Tensor, tuple[int, ...]]] = []
        self._hits, self._clips = 0, 0

    def update_clips(self, clips: Sequence[Tensor], label: int) -> None:
        """Count the clips of one video, each `(K,)` probabilities; the video itself is counted by `update`."""
        self._hits += sum(int(p.argmax()) == label for p in clips)
        self._clips += len(clips)

    def update_several(self, probabilities: Tensor, labels: Sequence[int], *, key: str) -> None:
        """Count one sample: `(K,)` probabilities, each of its own, and its classes."""
        p = probabilities.detach().float().cpu()
        self._several.append((p, tuple(labels)))
        self.image_scores[key] = min((float(p[k]) for k in labels), default=1.0)

    def merge(self, other: LabelMetric) -> None:
        """Add what another metric counted."""
        super().merge(other)
        if isinstance(other, ClipMetric):
            self._several += other._several
            self._hits, self._clips = self._hits + other._hits, self._clips + other._clips

    def compute(self) -> ClipReport | SeveralReport:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scores so far."""
        if not self._several:
            return ClipReport(**vars(super().compute()), hits=self._hits, clips=self._clips)
        truth = torch.zeros(len(self._several), len(self.classes), dtype=torch.bool)
        for row, (_, labels) in zip(truth, self._several):
            row[list(labels)] = True
        probabilities = torch.stack([p for p, _ in self._several])
        return SeveralReport(named(self.classes, len(self.classes)), probabilities, truth, dict(self.image_scores))


def global_average_precision(probabilities: Tensor, truth: Tensor, top: int = TOP) -> float:
    """GAP@20: `(N, K)` probabilities and the classes that are true; ties keep the order of the samples."""
    best = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
    scores, hits = best.values.flatten(), truth.gather(1, best.indices).flatten()
    order = scores.argsort(descending=True, stable=True)
    ranked = hits[order].double()
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return float((precision * ranked).sum() / truth.sum().clamp(min=1))
