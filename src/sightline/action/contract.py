"""The contract of clips: what goes in, what comes out, in which units. Read this first.

Letters: B clips, K classes, P parts of a clip that are scored by themselves, T frames, H x W pixels.

- clips: float32 `(B, C, T, H, W)` in [0, 1]; the network normalises. Volumes are `(B, C, D, H, W)`.
- flow: `(B, 2 L, T, H, W)` in [0, 1] as flow pictures hold it (0.5 is no motion), channels x1, y1, x2, y2, ...
- scores, targets, answers are those of single pictures (`sightline.classification.contract`, the stair of this room):
  one label a clip. `Scores.parts` are there where a network averages the probabilities of positions or time steps.
- which frames of a video make a clip is a rule with a name (`sightline.action.sampling`), stored with the weights;
  times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from sightline.classification.answer import Labels, Moment
from sightline.classification.contract import Scores, Target, decode, of_logits, probabilities

__all__ = ["ClipClassifier", "Labels", "Moment", "Scores", "Target", "decode", "of_logits", "probabilities"]


class ClipClassifier(Protocol):
    """The three verbs. Networks are plain `nn.Module`s; nothing inherits from this."""

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to logits."""
        ...

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: named scalar terms, to be summed."""
        ...

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        ...
