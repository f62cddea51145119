"""Logistic models on the features of frames.

Paper: YouTube-8M: A Large-Scale Video Classification Benchmark (Abu-El-Haija et al. 2016, arXiv:1609.08675).

The idea: millions of videos as features of one frame a second (1,024 of the picture, 128 of the sound), computed once;
the plainest model averages them and asks, for every class by itself, whether the video has it.

- `youtube8m_logistic`: each frame's features are brought to length 1, averaged over the frames, weighed once a class.

Trait `features`: reads `(B, F, T)`, features of T frames, and `lengths` of videos that were padded; every class is a
yes or no (a sigmoid), and the loss is summed over the classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target
from sightline.classification.answer import named
from sightline.classification.losses import Criterion, shares
from sightline.errors import UsageError
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import TRANSPOSED


class MeanLogistic(nn.Module):
    """The mean over the frames, and one layer. unit: each frame's features have length 1 before."""

    HEAD = ("classifier.",)

    def __init__(self, num_classes: int, *, in_channels: int = 1152, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        self.classifier = nn.Linear(in_channels, num_classes)
        self.criterion = Criterion()  # rooms hand one to every network; here each class is by itself
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self,
        images: Tensor,
        *,
        lengths: Tensor | None = None,
        sizes: Tensor | None = None,
        targets: Target | None = None,
    ) -> Scores:
        """See: features `(B, F, T)`, zeros behind the `lengths` `(B,)` of each video, to `(B, K)` logits."""
        if images.ndim != 3 or images.shape[1] != self.classifier.in_features:
            raise UsageError(
                f"this network reads features (B, {self.classifier.in_features}, T), not {tuple(images.shape)}"
            )
        x = F.normalize(images, dim=1) if self.unit else images
        count = images.shape[2] if lengths is None else lengths.to(x.dtype)[:, None]
        return Scores(self.classifier(x.sum(2) / count))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: cross-entropy of yes and no, summed over the classes, mean over the videos."""
        truth = shares(targets.labels, out.logits.shape[1]).to(out.logits)
        each = F.binary_cross_entropy_with_logits(out.logits, truth, reduction="none")
        return {"bce": each.sum(1).mean()}

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a video; the probabilities of classes do not sum to 1."""
        names = named(classes, out.logits.shape[1])
        return [Labels(probabilities=p, classes=names) for p in out.logits.float().sigmoid()]


def youtube8m_logistic(num_classes: int = 3862, *, in_channels: int = 1152, unit: bool = True) -> MeanLogistic:
    """The mean-pooled logistic model. in_channels: 1152 (picture and sound) or 1024. unit: frames have length 1."""
    return MeanLogistic(num_classes, in_channels=in_channels, unit=unit)


KEY_MAPS = (
    KeyMap(
        "youtube-8m",
        (
            ("fully_connected/weights", "classifier.weight", TRANSPOSED),
            ("fully_connected/biases", "classifier.bias"),
        ),
        words="the starter code's FrameLevelLogisticModel, written to .npz",
    ),
)
