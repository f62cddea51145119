"""Losses that ask every pixel: cross-entropy, focal, and their means over the hardest pixels only.

The letters, the kinds of target and the rule for ignored labels are those of `losses.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.segmentation.contract import IGNORE


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean of -log p(label), over valid pixels; weighted means divide by the sum of the weights.

    smoothing: this share of the truth is spread evenly over all classes (binary and multi-label: over yes and no)
    (Szegedy et al. 2016, section 7). class_weights: `(K,)`; binary: `(2,)` for 0 and 1. pixel_weights: `(B, ...)`.
    """
    loss, weight = pixel_terms(logits, labels, class_weights, smoothing=smoothing)
    return _mean(loss, weight, pixel_weights)


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean of -(1 - p)^gamma log p (Lin et al. 2017, arXiv:1708.02002, eq. 4), p the probability of the label."""
    loss, weight = pixel_terms(logits, labels, class_weights)
    doubt = -torch.expm1(-loss)  # 1 - p, exact for p near 1
    return _mean(
        doubt.clamp(min=1e-12) ** gamma * loss, weight, pixel_weights
    )  # clamped: 0^(gamma - 1) has no gradient


def ohem(
    logits: Tensor,
    labels: Tensor,
    *,
    threshold: float = 0.7,
    least: float = 0.0625,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over hard pixels: those whose label has a probability below `threshold`, at least this share.

    Online hard example mining (Shrivastava et al. 2016) as segmentation uses it: of all valid pixels of the batch the
    hardest `least` (a share, rounded up) always count, and every one below `threshold`.
    """
    loss, weight = pixel_terms(logits, labels, class_weights)
    hard = _hardest(loss, weight > 0, least) | (torch.exp(-loss.detach()) < threshold)
    return _mean(loss, weight * hard, pixel_weights)


def top_k(
    logits: Tensor,
    labels: Tensor,
    *,
    share: float = 0.1,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over the hardest `share` of the batch's valid pixels, rounded up (Wu et al. 2016; nnU-Net's)."""
    loss, weight = pixel_terms(logits, labels, class_weights)
    return _mean(loss, weight * _hardest(loss, weight > 0, share), pixel_weights)


def _hardest(loss: Tensor, valid: Tensor, share: float) -> Tensor:
    """True at the `share` of valid places with the largest loss; ties of the last one count too."""
    found = loss.detach()[valid]
    if not len(found):
        return valid
    count = min(len(found), max(1, -int(-share * len(found) // 1)))
    return valid & (loss.detach() >= found.topk(count).values[-1])


def pixel_terms(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, *, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """-log p(label) and the weight of each pixel (0 where ignored), of the labels' shape (binary: `(B, 1, ...)`)."""
    if logits.ndim == labels.ndim or logits.shape[1] == 1:
        truth = labels if labels.ndim == logits.ndim else labels.unsqueeze(1)
        valid = (truth != IGNORE).to(logits.dtype)
        truth = torch.where(truth == IGNORE, 0, truth).to(logits.dtype)
        wanted = truth * (1 - smoothing) + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * valid
        if class_weights is None:
            weight = valid
        elif logits.shape[1] == 1:
            weight = valid * (class_weights[0] * (1 - truth) + class_weights[1] * truth)
        else:
            weight = valid * class_weights.view(1, -1, *[1] * (logits.ndim - 2))
        return loss, weight
    valid = (labels != IGNORE).to(logits.dtype)
    loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
    if class_weights is None:
        return loss, valid
    return loss, valid * class_weights[torch.where(labels == IGNORE, 0, labels).long()]


def _mean(loss: Tensor, weight: Tensor, pixel_weights: Tensor | None) -> Tensor:
    if pixel_weights is not None:
        weight = weight * (pixel_weights if weight.ndim == pixel_weights.ndim else pixel_weights.unsqueeze(1))
    return (loss * weight).sum() / weight.sum().clamp(min=1e-12)
