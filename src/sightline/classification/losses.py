"""The loss of classes, for pictures and clips.

Letters: B samples, K classes, P parts of a sample that are scored by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.classification.contract import Scores, Target
from sightline.errors import UsageError, did_you_mean


def cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean of -sum(t log p): logits `(N, K)`, labels `(N,)` ids or `(N, K)` shares; weighted means divide by weights.

    One logit: a sigmoid, labels 0 and 1 (or `(N, 2)` shares of them). smoothing: that share of each target is spread
    over all classes (Szegedy et al. 2015, section 7).
    """
    truth = shares(labels, max(logits.shape[1], 2)).to(logits.dtype)
    truth = truth * (1 - smoothing) + smoothing / truth.shape[1]
    if logits.shape[1] == 1:
        logs = torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    else:
        logs = F.log_softmax(logits, dim=1)
    weight = truth if class_weights is None else truth * class_weights.to(logits)
    return -(weight * logs).sum() / weight.sum().clamp(min=1e-12)


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 2.0,
) -> Tensor:
    """Mean of -(1 - p)^gamma log p (Lin et al. 2017, eq. 4), p the probability of the label; arguments as above."""
    truth = shares(labels, max(logits.shape[1], 2)).to(logits.dtype)
    truth = truth * (1 - smoothing) + smoothing / truth.shape[1]
    if logits.shape[1] == 1:
        logs = torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    else:
        logs = F.log_softmax(logits, dim=1)
    weight = truth if class_weights is None else truth * class_weights.to(logits)
    doubt = (-torch.expm1(logs)).clamp(min=1e-12)
    return -(weight * doubt**gamma * logs).sum() / weight.sum().clamp(min=1e-12)


def shares(labels: Tensor, classes: int) -> Tensor:
    """Ids `(N,)` as shares `(N, K)` of 0 and 1; shares stay as they are."""
    return labels if labels.ndim == 2 else F.one_hot(labels.long(), classes).float()


TERMS = {"ce": cross_entropy, "focal": focal}


@dataclass(frozen=True)
class Criterion:
    """A weighted sum of named terms over a network's main and auxiliary logits: what `losses` returns.

    terms: name of a term in `TERMS` -> its factor. class_weights: one a class (one class: for 0 and 1).
    smoothing: of the targets. aux_weight: the factor of every auxiliary head (GoogLeNet: 0.3).
    Where a network scores parts, each of them has the label of the whole.
    """

    terms: Mapping[str, float] = field(default_factory=lambda: {"ce": 1.0})
    class_weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    aux_weight: float = 0.3

    def __post_init__(self) -> None:
        for name, factor in self.terms.items():
            if name not in TERMS:
                known = ", ".join(TERMS)
                raise UsageError(f"there is no loss '{name}'; choose from {known}.{did_you_mean(name, TERMS)}")
            if not 0 < factor < math.inf:
                raise UsageError(f"the factor {factor:g} of the loss '{name}' must be a number above 0")
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"smoothing {self.smoothing} must be a share from 0 to below 1")

    def __call__(self, out: Scores, target: Target) -> dict[str, Tensor]:
        """Named scalar terms: `ce`, ... and `aux_ce`, ... when the network has auxiliary heads."""
        logits, labels = out.logits, target.labels
        if out.parts is not None:
            logits, labels = out.parts.flatten(0, 1), labels.repeat_interleave(out.parts.shape[1], dim=0)
        weights = self._weights(logits)
        found = {}
        for name, factor in self.terms.items():
            term = TERMS[name]
            found[name] = factor * term(logits.float(), labels, class_weights=weights, smoothing=self.smoothing)
            if out.aux:
                parts = [
                    term(x.float(), target.labels, class_weights=weights, smoothing=self.smoothing) for x in out.aux
                ]
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
    """`"ce"` or `"ce+0.5*focal"` as `{term: factor}`."""
    terms: dict[str, float] = {}
    for part in words.split("+"):
        factor, star, name = (word.strip() for word in part.rpartition("*"))
        try:
            number = float(factor) if star else 1.0
        except ValueError:
            raise UsageError(f"loss '{words}' is not a sum of terms; write for example ce+0.5*focal") from None
        if name in terms:
            raise UsageError(f"loss '{words}' names '{name}' twice; give it one factor, for example 2*{name}")
        terms[name] = number
    Criterion(terms)
    return terms
