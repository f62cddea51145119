"""Losses of pixels. Each has one definition, takes ignored pixels, and is finite on empty targets.

Letters: B pictures, K classes, H x W pixels. Three kinds of target share every function:

- multi-class: logits `(B, K, ...)`, labels `(B, ...)` in 0..K-1;
- binary: logits `(B, 1, ...)`, labels `(B, ...)` in {0, 1};
- multi-label: logits `(B, K, ...)`, labels `(B, K, ...)` in {0, 1}.

Labels marked `IGNORE` (255) count nowhere: not in the value, not in the gradient, not in the average.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UsageError, did_you_mean
from sightline.ops.resize import centre_crop
from sightline.segmentation.contract import IGNORE, Scores, Target


def cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> Tensor:
    """Mean of -log p(label), over valid pixels; weighted means divide by the sum of the weights.

    class_weights: `(K,)`; binary: `(2,)` for 0 and 1. pixel_weights: `(B, ...)`.
    """
    loss, weight = _pixel_terms(logits, labels, class_weights)
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
    loss, weight = _pixel_terms(logits, labels, class_weights)
    doubt = -torch.expm1(-loss)  # 1 - p, exact for p near 1
    return _mean(
        doubt.clamp(min=1e-12) ** gamma * loss, weight, pixel_weights
    )  # clamped: 0^(gamma - 1) has no gradient


def soft_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    squared: bool = False,
    per_sample: bool = False,
    background: bool = True,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """1 - Dice of the probabilities, averaged over the classes that occur in the labels.

    Dice = (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), with p^2 and t^2 when `squared` (V-Net's form); sums run
    over the whole batch, or over each picture when `per_sample`. `background=False` leaves out class 0.
    A class without a labelled pixel is left out: it has no overlap to learn (its false positives cost cross-entropy).
    """
    probability, truth, valid = _one_hot(logits, labels)  # (B, K, N) each
    valid = valid if pixel_weights is None else valid * pixel_weights.flatten(1).unsqueeze(1)
    axes = (2,) if per_sample else (0, 2)
    power = 2 if squared else 1
    overlap = (probability * truth * valid).sum(axes)
    size = ((probability**power + truth**power) * valid).sum(axes)
    dice = (2 * overlap + smooth) / (size + smooth)
    counts = (truth * valid).sum(axes) > 0
    weight = counts.to(dice.dtype)
    if class_weights is not None and logits.shape[1] > 1:
        weight = weight * class_weights.to(dice)
    if not background and logits.shape[1] > 1:
        weight = torch.cat([torch.zeros_like(weight[..., :1]), weight[..., 1:]], dim=-1)
    return ((1 - dice) * weight).sum() / weight.sum().clamp(min=1e-12)


TERMS = {"ce": cross_entropy, "dice": soft_dice, "focal": focal}


@dataclass(frozen=True)
class Criterion:
    """A weighted sum of named terms over a network's main and auxiliary logits: what `losses` returns.

    terms: name of a term in `TERMS` -> its factor. class_weights: one a class (binary: for 0 and 1).
    aux_weight: the factor of every auxiliary head. Labels larger than the logits (unpadded networks) are cropped
    at the centre.
    """

    terms: Mapping[str, float] = field(default_factory=lambda: {"ce": 1.0})
    class_weights: tuple[float, ...] | None = None
    aux_weight: float = 0.4

    def __post_init__(self) -> None:
        for name, factor in self.terms.items():
            if name not in TERMS:
                known = ", ".join(TERMS)
                raise UsageError(f"there is no loss '{name}'; choose from {known}.{did_you_mean(name, TERMS)}")
            if not 0 < factor < math.inf:
                raise UsageError(f"the factor {factor:g} of the loss '{name}' must be a number above 0")

    def __call__(self, out: Scores, target: Target) -> dict[str, Tensor]:
        """Named scalar terms: `ce`, `dice`, ... and `aux_ce`, ... when the network has auxiliary heads."""
        weights = self._weights(out.logits)
        found = {}
        for name, factor in self.terms.items():
            found[name] = factor * _on(TERMS[name], out.logits, target, weights)
            if out.aux:
                parts = [_on(TERMS[name], logits, target, weights) for logits in out.aux]
                found[f"aux_{name}"] = self.aux_weight * factor * torch.stack(parts).sum()
        return found

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        expected = max(logits.shape[1], 2)
        if len(self.class_weights) != expected:
            raise UsageError(f"{len(self.class_weights)} class weights were given; this network needs {expected}")
        return torch.tensor(self.class_weights, device=logits.device, dtype=torch.float32)


def parse_loss(words: str) -> dict[str, float]:
    """`"ce"`, `"ce+dice"` or `"ce+0.5*dice"` as `{term: factor}`."""
    terms = {}
    for part in words.split("+"):
        factor, star, name = (word.strip() for word in part.rpartition("*"))
        try:
            number = float(factor) if star else 1.0
        except ValueError:
            raise UsageError(f"loss '{words}' is not a sum of terms; write for example ce+0.5*dice") from None
        if name in terms:
            raise UsageError(f"loss '{words}' names '{name}' twice; give it one factor, for example 2*{name}")
        terms[name] = number
    Criterion(terms)
    return terms


def median_frequency_weights(pixels: Sequence[float], *, power: float = 1.0, limit: float = 10.0) -> tuple[float, ...]:
    """(median share / share of the class) ** power, at most `limit`; absent classes get 0 (Eigen & Fergus 2015, 6.3.2).

    pixels: labelled pixels of each class over the training pictures. power 0.5 softens the weights.
    """
    present = [n for n in pixels if n > 0]
    if not present:
        return tuple(1.0 for _ in pixels)
    median = statistics.median(present)
    weights = (min((median / n) ** power, limit) if n > 0 else 0.0 for n in pixels)
    return tuple(float(f"{w:.4g}") for w in weights)


def _on(term, logits: Tensor, target: Target, class_weights: Tensor | None) -> Tensor:
    """One term on logits of any size up to the labels'; computed in float32 whatever the network's precision."""
    size = logits.shape[-2:]
    labels = target.labels if target.labels.shape[-2:] == size else centre_crop(target.labels, size)
    weights = target.weights
    if weights is not None and weights.shape[-2:] != size:
        weights = centre_crop(weights, size)
    return term(logits.float(), labels, class_weights=class_weights, pixel_weights=weights)


def _pixel_terms(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """-log p(label) and the weight of each pixel (0 where ignored), both of the labels' shape."""
    if logits.ndim == labels.ndim or logits.shape[1] == 1:
        truth = labels if labels.ndim == logits.ndim else labels.unsqueeze(1)
        valid = (truth != IGNORE).to(logits.dtype)
        truth = torch.where(truth == IGNORE, 0, truth).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * valid
        if class_weights is None:
            weight = valid
        elif logits.shape[1] == 1:
            weight = valid * (class_weights[0] * (1 - truth) + class_weights[1] * truth)
        else:
            weight = valid * class_weights.view(1, -1, *[1] * (logits.ndim - 2))
        return loss, weight
    valid = (labels != IGNORE).to(logits.dtype)
    loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
    if class_weights is None:
        return loss, valid
    return loss, valid * class_weights[torch.where(labels == IGNORE, 0, labels).long()]


def _mean(loss: Tensor, weight: Tensor, pixel_weights: Tensor | None) -> Tensor:
    if pixel_weights is not None:
        weight = weight * (pixel_weights if weight.ndim == pixel_weights.ndim else pixel_weights.unsqueeze(1))
    return (loss * weight).sum() / weight.sum().clamp(min=1e-12)


def _one_hot(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth and validity, each `(B, K, N)` (validity `(B, 1 or K, N)`)."""
    if logits.ndim == labels.ndim or logits.shape[1] == 1:
        truth = (labels if labels.ndim == logits.ndim else labels.unsqueeze(1)).flatten(2)
        valid = (truth != IGNORE).to(logits.dtype)
        return logits.sigmoid().flatten(2), (truth == 1).to(logits.dtype), valid
    flat = labels.flatten(1)
    valid = (flat != IGNORE).to(logits.dtype).unsqueeze(1)
    ids = torch.where(flat == IGNORE, 0, flat).long()
    truth = F.one_hot(ids, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * valid
    return logits.softmax(dim=1).flatten(2), truth, valid
