"""Scores of boxes: answers are matched to the truth, class by class, and summed up as average precision.

COCO's rules (Lin et al. 2014): in order of score each answer takes the free true box of its class that it overlaps
most, from an IoU on; difficult objects and crowds count neither way; precision is read at 101 recalls, each the best at
that recall or beyond; classes without a true box are left out of means.

- `ap50`: average precision at an IoU of 0.5, the mean over classes.
- `ap`: the mean over IoUs from 0.5 to 0.95 in steps of 0.05.
- `recall50`: the share of true boxes found at an IoU of 0.5, the mean over classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sightline.detection.answer import Detections
from sightline.detection.targets import Objects
from sightline.ops.boxes import covered, iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class DetectionReport:
    """Scores of one evaluation: `metrics`, `per_class`, and each picture's own score (F1 at a score of 0.5)."""

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    image_scores: dict[str, float] = field(default_factory=dict)
    confusion: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))

    @property
    def worst(self) -> list[str]:
        """The pictures' keys, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


@dataclass
class DetectionMetric:
    """Collects what each picture's answers are worth; pictures may be counted in any order and by several processes.

    most: answers of a picture that count for each class.
    """

    classes: Sequence[str]
    most: int = 100
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    truths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    image_scores: dict[str, float] = field(default_factory=dict)

    def update(self, answer: Detections, truth: Objects, *, key: str) -> None:
        """Count one picture. Answers are sorted already, best first."""
        if not len(self.truths):
            self.truths = np.zeros(len(self.classes), np.int64)
        right = wrong = missed = 0
        for label in range(len(self.classes)):
            ours, theirs = answer[answer.labels == label], truth[truth.labels == label]
            ours = ours[torch.arange(min(len(ours), self.most))]
            hit, counted = match_answers(ours.boxes, theirs)
            scores = ours.scores.double().numpy()
            self.found.append((np.full(len(scores), label), scores, hit, counted))
            real = int((~theirs.ignore).sum())
            self.truths[label] += real
            sure = (scores >= 0.5) & counted[:, 0]
            right += int((hit[:, 0] & sure).sum())
            wrong += int((~hit[:, 0] & sure).sum())
            missed += real - int((hit[:, 0] & sure).sum())
        total = 2 * right + wrong + missed
        self.image_scores[key] = 2 * right / total if total else 1.0

    def merge(self, other: DetectionMetric) -> None:
        """Add what another process counted."""
        self.found += other.found
        self.truths = other.truths.copy() if not len(self.truths) else self.truths + other.truths
        self.image_scores |= other.image_scores

    def compute(self) -> DetectionReport:
        """The scores so far."""
        per_class = {}
        parts = [np.concatenate(column) for column in zip(*self.found)] if self.found else []
        for label, name in enumerate(self.classes):
            real = int(self.truths[label]) if len(self.truths) else 0
            some = parts[0] == label if parts else np.zeros(0, bool)
            curve = precision(parts[1][some], parts[2][some], parts[3][some], real) if parts else []
            ap = [value for value, _ in curve] or [math.nan] * len(THRESHOLDS)
            recall = curve[0][1] if curve else math.nan
            per_class[name] = {"ap50": ap[0], "ap": float(np.mean(ap)), "recall50": recall, "objects": real}
        rows = [row for row in per_class.values() if row["objects"]]
        mean = {
            name: float(np.mean([r[name] for r in rows])) if rows else math.nan for name in ("ap50", "ap", "recall50")
        }
        return DetectionReport(mean, per_class, dict(self.image_scores))


def match_answers(boxes: Tensor, truth: Objects) -> tuple[np.ndarray, np.ndarray]:
    """For answers of one class, best first: `(N, 10)` whether each is right at each IoU, and whether it counts."""
    hit, counted = np.zeros((len(boxes), 10), bool), np.ones((len(boxes), 10), bool)
    if not len(boxes) or not len(truth.boxes):
        return hit, counted
    ignore = truth.ignore.numpy()
    overlap = torch.where(truth.ignore, covered(boxes, truth.boxes), iou(boxes, truth.boxes)).double().numpy()
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(ignore), bool)
        for i in range(len(boxes)):
            open_ = np.where(free & ~ignore, overlap[i], -1.0)
            best = int(open_.argmax())
            if open_[best] >= threshold:
                hit[i, t], free[best] = True, False
            elif (overlap[i][ignore] >= threshold).any():
                counted[i, t] = False
    return hit, counted


def precision(scores: np.ndarray, hit: np.ndarray, counted: np.ndarray, real: int) -> list[tuple[float, float]]:
    """Average precision and recall at each IoU, of one class with `real` true boxes."""
    if not real:
        return [(math.nan, math.nan)] * len(THRESHOLDS)
    order = np.argsort(-scores, kind="stable")
    found = []
    for t in range(len(THRESHOLDS)):
        some = order[counted[order, t]]
        right = np.cumsum(hit[some, t])
        recall, exact = right / real, right / np.arange(1, len(some) + 1)
        exact = np.maximum.accumulate(exact[::-1])[::-1]
        place = np.searchsorted(recall, RECALLS, side="left")
        at = np.concatenate([exact, [0.0]])[np.minimum(place, len(exact))]
        found.append((float(at.mean()), float(recall[-1]) if len(recall) else 0.0))
    return found
