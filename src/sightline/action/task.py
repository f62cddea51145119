"""All that the verbs need to know of this room; what it shares with single pictures comes up its stair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.action.features import RULE, FeatureSample, as_picture
from sightline.action.features import collate as collate_features
from sightline.action.metrics import ClipMetric
from sightline.action.plan import plan
from sightline.action.predict import answer, sources
from sightline.action.sampling import parse_rule, whole_size
from sightline.action.targets import ClipSamples
from sightline.action.video import of_record, shown_frame
from sightline.classification.answer import Labels, named
from sightline.classification.draw import side_by_side
from sightline.classification.predict import Procedure, procedure
from sightline.classification.targets import collate
from sightline.classification.task import augment, configure, out, too_large
from sightline.contracts import Batch, Preprocess, Task
from sightline.datasets.brains import is_volume_record
from sightline.datasets.label_stats import label_stats
from sightline.datasets.records import ClassRecord
from sightline.datasets.youtube8m import FeatureRecord, video_at
from sightline.media.clips import read_frames, video_info
from sightline.media.prepare import target_size


def score(
    net: nn.Module,
    record: ClassRecord,
    metric: ClipMetric,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    procedure: Procedure,
) -> Labels:
    """Answer one labelled video and count the answer."""
    several = isinstance(record, FeatureRecord)
    video = video_at(record.image.path, record.image.page) if several else of_record(record)
    found = answer(net, video, preprocess=preprocess, classes=classes, name=record.key, procedure=procedure)
    if isinstance(record, FeatureRecord):
        metric.update_several(found.probabilities, record.every, key=record.key)
        return found
    assert record.labels is not None
    metric.update(found.probabilities, record.labels, key=record.key)
    metric.update_clips([moment.probabilities for moment in found.timeline], record.labels)
    return found


def stacked(samples: list[Any]) -> Batch:
    """Samples of one kind as a batch."""
    return collate_features(samples) if isinstance(samples[0], FeatureSample) else collate(samples)


def panel(record: ClassRecord, found: Labels, colours: Sequence[tuple[int, int, int]], num_classes: int) -> np.ndarray:
    """Four frames of the video, or the slice in the middle of the volume, with its truth and answer."""
    names = named(found.classes, num_classes)
    assert record.labels is not None
    said = ", ".join(f"{name} {p:.0%}" for name, p in found.top(2))
    if isinstance(record, FeatureRecord):
        truth = ", ".join(names[k] for k in record.every[:3])
        return side_by_side([as_picture(video_at(record.image.path, record.image.page))], truth, said)
    if is_volume_record(record):
        assert found.image is not None
        return side_by_side([found.image], names[record.labels], said)
    info = video_info(record.image.path)
    chosen = np.linspace(0, info.frames - 1, 4).astype(int).tolist()
    height, width = info.size
    size = (120, max(1, round(120 * width / height)))
    shown = [shown_frame(frame) for frame in read_frames(info.path, chosen, size=size, info=info)]
    return side_by_side(shown, names[record.labels], said)


def example(preprocess: Preprocess, batch: int) -> Tensor:
    """Clips or volumes as the network is fed, for proving what was done to it."""
    if preprocess.clip == RULE:
        return torch.randn(batch, preprocess.channels, 8, generator=torch.Generator().manual_seed(0))
    volume = whole_size(preprocess.clip)
    if volume is not None:
        return torch.rand(batch, preprocess.channels, *volume, generator=torch.Generator().manual_seed(0))
    size = target_size((64, 64), preprocess.resize)
    frames = parse_rule(preprocess.clip).frames if preprocess.clip else 16
    return torch.rand(batch, preprocess.channels, frames, *size, generator=torch.Generator().manual_seed(0))


TASK = Task(
    name="action",
    monitor="accuracy",
    samples=ClipSamples,
    collate=stacked,
    augment=augment,
    plan=plan,
    configure=configure,
    out=out,
    metric=ClipMetric,
    procedure=procedure,
    answer=answer,
    stream=too_large,
    score=score,
    panel=panel,
    stats=label_stats,
    sources=sources,
    example=example,
    kind="clips",
)
