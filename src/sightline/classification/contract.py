"""The classification contract: what goes in, what comes out, in which units. Read this first.

Letters: B pictures, K classes, P parts that a network scores by themselves, H x W pixels.

- images: float32 `(B, C, H, W)` in [0, 1]; the network normalises.
- labels: int64 `(B,)`, class ids 0..K-1, or float32 `(B, K)`, shares of the classes (mixed pictures). A network of one
  class answers with one logit (a sigmoid); its labels are 0 (not it) and 1 (it).
- clips (`sightline.action`) have the same scores, targets and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sightline.classification.answer import Labels, named
from sightline.ops.tree import register_dataclass


@register_dataclass
@dataclass(frozen=True)
class Scores:
    """What a network sees: `logits`; `parts`, where the answer is the mean of the parts' probabilities.

    Networks that average probabilities (of positions, of time steps) give the logits of their parts, and `logits` is
    their mean; networks that average logits, or have one part only, give None.
    """

    logits: Tensor  # (B, K)
    parts: Tensor | None = None  # (B, P, K)
    aux: tuple[Tensor, ...] = ()  # further heads, (B, K); for losses only


@register_dataclass
@dataclass(frozen=True)
class Target:
    """What a network learns from."""

    labels: Tensor  # (B,) int64, or (B, K) float32 shares


class Classifier(Protocol):
    """The three verbs. Networks are plain `nn.Module`s; nothing inherits from this."""

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures to logits."""
        ...

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: named scalar terms, to be summed."""
        ...

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        ...


def probabilities(out: Scores) -> Tensor:
    """Class probabilities `(B, K)` of scores (one class: `(B, 2)`), of parts the mean of theirs."""
    found = of_logits((out.logits if out.parts is None else out.parts).float())
    return found if out.parts is None else found.mean(1)


def of_logits(logits: Tensor) -> Tensor:
    """Probabilities of logits `(..., K)`: a softmax; of one logit a sigmoid, as `(..., 2)` for "not it" and "it"."""
    if logits.shape[-1] == 1:
        return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=-1)
    return logits.softmax(dim=-1)


def decode(out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
    """The `decode` of every network with one answer a picture or clip."""
    names = named(classes, out.logits.shape[1])
    return [Labels(probabilities=p, classes=names) for p in probabilities(out)]
