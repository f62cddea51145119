"""Videos as features of their frames (YouTube-8M): samples, batches, answers and choices.

A video is `(F, T)` float32: F features of each of T frames, picture before sound. It may have several classes, so every
class is a yes or no of its own. Videos of a batch are padded with zeros; `lengths` says how many frames are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.classification.answer import Labels, named
from sightline.classification.contract import Target
from sightline.contracts import Batch, Choice
from sightline.datasets.label_stats import LabelStats
from sightline.datasets.youtube8m import FeatureRecord, Video8M, video_at
from sightline.errors import UsageError

RULE = "features"
"""What a card says in place of a rule of clips."""


@dataclass(frozen=True)
class FeatureSample:
    """The features of one video, and all its classes."""

    key: str
    features: Tensor  # (F, T)
    labels: tuple[int, ...]
    classes: int


def sample_of(record: FeatureRecord, channels: int, classes: int) -> FeatureSample:
    """A record as the network reads it."""
    return FeatureSample(
        record.key, features_of(video_at(record.image.path, record.image.page), channels), record.every, classes
    )


def features_of(video: Video8M, channels: int) -> Tensor:
    """`(F, T)`: picture and sound of each frame, or the picture alone where the network reads as many features."""
    both = np.concatenate([video.rgb, video.audio], axis=1) if len(video.audio) == len(video.rgb) else video.rgb
    for rows in (both, video.rgb):
        if rows.shape[1] == channels and len(rows):
            return torch.from_numpy(rows.T.copy())
    raise UsageError(
        f"video {video.key} has {len(both)} frames of {both.shape[1]} features, the network reads {channels}; "
        f"create it with in_channels={both.shape[1]}"
    )


def collate(samples: Sequence[FeatureSample]) -> Batch:
    """Videos of one batch, padded to the longest."""
    lengths = [s.features.shape[1] for s in samples]
    images = torch.zeros(len(samples), samples[0].features.shape[0], max(lengths))
    truth = torch.zeros(len(samples), samples[0].classes)
    for k, sample in enumerate(samples):
        images[k, :, : lengths[k]] = sample.features
        truth[k, list(sample.labels)] = 1
    return Batch(images, Target(truth), keys=tuple(s.key for s in samples), inputs={"lengths": torch.tensor(lengths)})


def answer(net: nn.Module, video: Video8M, *, channels: int, classes: Sequence[str], name: str) -> Labels:
    """Every class's probability of its own; they need not sum to 1."""
    device = next(net.parameters()).device
    logits = net(features_of(video, channels)[None].to(device)).logits[0].float().cpu()
    return Labels(logits.sigmoid(), named(classes, len(logits)), name)


def as_picture(video: Video8M) -> np.ndarray:
    """The features as a picture, frames downwards: uint8 `(T, 1024, 3)`."""
    grey = ((video.rgb.clip(-2, 2) + 2) * (255 / 4)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def plan(stats: LabelStats, values: Mapping[str, Any]) -> dict[str, Choice]:
    """What a run on features leaves open."""
    batch = max(2, min(128, stats.samples))
    steps = max(200, min(20_000, round(5 * stats.samples / batch)))
    return {
        "intensity": Choice("dtype_max", "features are used as they are"),
        "resize": Choice("none", "features have no size"),
        "size": Choice([1, 1], "features have no size"),
        "augment": Choice("none", "features are used as they are"),
        "batch": Choice(batch, "a video is a few kilobytes"),
        "steps": Choice(steps, f"{steps * batch / max(stats.samples, 1):.0f} passes over {stats.samples} videos"),
        "lr": Choice(1e-2, "the model is linear"),
        "loss": Choice("ce", "cross-entropy of every class by itself: a video may have several"),
        "clip": Choice(RULE, "a video is looked at as a whole"),
    }
