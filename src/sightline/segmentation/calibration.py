"""Is a network right as often as it is sure? Reliability in bins of confidence, and its mean gap (ECE)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.segmentation.contract import IGNORE

BINS = 15


class Reliability:
    """Counts answers in bins of equal width by confidence: how many, how sure on average, how many right.

    One answer a pixel: the probability of the answered class (one class: of the answered yes or no); multi-label: one
    answer a pixel and class. Pixels marked 255 are not counted.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.table = torch.zeros(3, bins, dtype=torch.float64)  # answers, sum of confidences, right answers

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Count one picture: `(K, ...)` probabilities, labels `(...)`, or `(K, ...)` of 0 and 1 for multi-label."""
        p, labels = probabilities.detach().float(), labels.to(probabilities.device)
        if labels.ndim == p.ndim:
            said, sure = (p > 0.5).long(), torch.maximum(p, 1 - p)
        elif len(p) == 1:
            said, sure = (p[0] > 0.5).long(), torch.maximum(p[0], 1 - p[0])
        else:
            sure, said = p.max(dim=0)
        valid = labels != IGNORE
        sure, right = sure[valid].double().cpu(), (said == labels)[valid].double().cpu()
        bins = self.table.shape[1]
        where = (sure * bins).ceil().long().clamp(1, bins) - 1  # (low, high]
        for row, weights in zip(self.table, (torch.ones_like(sure), sure, right)):
            row += torch.bincount(where, weights=weights, minlength=bins)

    def merge(self, other: Reliability) -> None:
        """Add what another process counted."""
        self.table += other.table

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over answers of |share right - mean confidence| of their bin."""
        total = float(self.table[0].sum())
        return float((self.table[2] - self.table[1]).abs().sum()) / total if total else math.nan

    @property
    def curve(self) -> list[tuple[float, float, float]]:
        """(mean confidence, share right, share of all answers) of every bin that holds an answer."""
        total = float(self.table[0].sum())
        return [(sure / n, right / n, n / total) for n, sure, right in self.table.T.tolist() if n]
