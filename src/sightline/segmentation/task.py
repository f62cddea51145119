"""All that the verbs need to know of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.contracts import Choice, Machine, Preprocess, Task
from sightline.datasets.read import read_labels_of, read_picture
from sightline.datasets.records import DataSet, PixelRecord, VolumeRecord
from sightline.datasets.stats import Stats
from sightline.datasets.volumes import read_volume_of
from sightline.errors import UsageError, did_you_mean
from sightline.media.volume import Volume
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores
from sightline.segmentation.draw import triptych
from sightline.segmentation.losses import Criterion, parse_loss
from sightline.segmentation.metrics import SegmentationMetric
from sightline.segmentation.multilabel import MultiLabelMetric
from sightline.segmentation.plan import class_weight_choice, plan
from sightline.segmentation.predict import Procedure, answer, label_tiff
from sightline.segmentation.slices import volume_panel
from sightline.segmentation.targets import Augment, Samples, collate
from sightline.segmentation.volumes import VolumeAugment, VolumeSamples, answer_volume, plan_volumes, volume_augment

AUGMENTS = {
    "none": Augment(flip=False),
    "light": Augment(scale=(0.8, 1.25)),
    "medium": Augment(scale=(0.7, 1.5), rotate=10, colour=0.2),
    "strong": Augment(scale=(0.5, 2.0), rotate=25, colour=0.4),
}
"""Named strengths of augmentation; single values are changed with `augment.KEY=value`."""


def augment(name: str, size: Sequence[int] | None, values: Mapping[str, Any]) -> Augment | VolumeAugment:
    """The augmentation called `name`, cut to `size` (three numbers: of volumes), with single values replaced."""
    if size is not None and len(size) == 3:
        return volume_augment(name, size, values)
    if name not in AUGMENTS:
        raise UsageError(
            f"augment '{name}' is unknown; choose from {', '.join(AUGMENTS)}.{did_you_mean(name, AUGMENTS)}"
        )
    known: dict[str, Any] = vars(AUGMENTS[name]) | {"crop": tuple(size) if size else None}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"augment has no value '{key}'; it takes {', '.join(known)}.{did_you_mean(key, known)}")
        known[key] = tuple(value) if isinstance(value, list) else value
    return Augment(**known)


def configure(net: Any, *, loss: str, class_weights: Sequence[float] | None, multilabel: bool = False) -> None:
    """Hand the chosen loss to the network, whose `losses` asks its `criterion`; auxiliary heads keep their weight.

    multilabel: whoever asks the network (`answer`) then takes a sigmoid a class.
    """
    if multilabel:
        net.multilabel = True
    weights = tuple(class_weights) if class_weights else None
    own = getattr(net, "criterion", None)
    base = own if isinstance(own, Criterion) else Criterion()
    net.criterion = replace(base, terms=parse_loss(loss), class_weights=weights)


def score(
    net: nn.Module,
    record: PixelRecord,
    metric: SegmentationMetric | MultiLabelMetric,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    procedure: Procedure,
) -> LabelMap:
    """Answer one labelled record and count the answer, at the picture's own size."""
    picture = read_volume_of(record) if isinstance(record, VolumeRecord) else read_picture(record)
    labels = torch.from_numpy(read_labels_of(record, len(classes)))
    found = any_answer(net, picture, preprocess=preprocess, classes=classes, name=record.key, procedure=procedure)
    where = {"spacing": found.spacing} if found.spacing else {}
    metric.update(found.labels, labels, key=record.key, probabilities=found.probabilities, **where)
    return found


def metric(
    classes: Sequence[str], *, policy: str | None = None, measures: Sequence[str] = (), multilabel: bool = False
) -> SegmentationMetric | MultiLabelMetric:
    """What counts the answers. policy, measures: see `SegmentationMetric`; multi-label answers know neither."""
    if not multilabel:
        return SegmentationMetric(classes, policy=policy, measures=measures)
    if policy is not None or set(measures) - {"ece"}:
        raise UsageError("multi-label answers have no policy and no measure but ece; leave policy and metrics out")
    return MultiLabelMetric(classes, measures=measures)


def panel(
    record: PixelRecord, found: LabelMap, colours: Sequence[tuple[int, int, int]], num_classes: int
) -> np.ndarray:
    """Picture, truth and answer side by side; of volumes, three slices of each."""
    if isinstance(record, VolumeRecord):
        return volume_panel(read_picture(record), read_labels_of(record, num_classes), found, colours)
    return triptych(
        read_picture(record), read_labels_of(record, num_classes), found.labels.numpy(), found.classes, colours
    )


def samples(data: DataSet, *, preprocess: Preprocess, seed: int, augment: Any = None, keep: bool = False) -> Any:
    """The records as samples: pictures, or pieces of volumes."""
    kind = VolumeSamples if preprocess.axes == 3 else Samples
    return kind(data, preprocess=preprocess, seed=seed, augment=augment, keep=keep)


def any_plan(stats: Stats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """The choices for pictures, or for volumes."""
    chosen = plan_volumes(stats, values, machine) if stats.spacings else plan(stats, values, machine)
    if values.get("class_weights") is not None:
        chosen["class_weights"] = class_weight_choice(stats, values["class_weights"])
    return chosen


def any_answer(
    net: nn.Module,
    image: np.ndarray | Volume,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "picture",
    procedure: Procedure | None = None,
) -> LabelMap:
    """Label a picture `(H, W, C)`, or a volume, at its own size."""
    how = {"preprocess": preprocess, "classes": classes, "colours": colours, "name": name, "procedure": procedure}
    return answer_volume(net, image, **how) if isinstance(image, Volume) else answer(net, image, **how)


def example(preprocess: Preprocess, batch: int) -> Tensor | None:
    """Small volumes to prove a changed network on; None for networks of pictures, which all rooms know to make."""
    if preprocess.axes == 2:
        return None
    return torch.rand(batch, preprocess.channels, 32, 32, 32, generator=torch.Generator().manual_seed(0))


def out(tensors: Mapping[str, Tensor]) -> Scores:
    """An exported file's named tensors as this room's output."""
    return Scores(tensors["logits"])


TASK = Task(
    name="segmentation",
    monitor="dataset_miou",
    samples=samples,
    collate=collate,
    augment=augment,
    plan=any_plan,
    configure=configure,
    out=out,
    metric=metric,
    procedure=Procedure,
    answer=any_answer,
    stream=label_tiff,
    score=score,
    panel=panel,
    example=example,
)
