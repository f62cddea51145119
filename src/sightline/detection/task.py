"""All that the verbs need to know of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess, Task
from sightline.datasets.read import read_picture
from sightline.datasets.records import ObjectRecord
from sightline.datasets.things import things_of
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Seen
from sightline.detection.draw import triptych
from sightline.detection.metrics import DetectionMetric
from sightline.detection.plan import plan
from sightline.detection.predict import Procedure, answer, stream
from sightline.detection.targets import Augment, Samples, collate, objects_of
from sightline.errors import UsageError, did_you_mean

AUGMENTS = {
    "none": Augment(flip=False),
    "light": Augment(scale=(0.8, 1.25)),
    "medium": Augment(scale=(0.6, 1.6), colour=0.2),
    "strong": Augment(scale=(0.5, 2.0), crop=0.5, colour=0.4),
}
"""Named strengths of augmentation; single values are changed with `augment.KEY=value`."""


def augment(name: str, size: Sequence[int] | None, values: Mapping[str, Any]) -> Augment:
    """The augmentation called `name`, on a canvas of `size`, with single values replaced."""
    if name not in AUGMENTS:
        raise UsageError(
            f"augment '{name}' is unknown; choose from {', '.join(AUGMENTS)}.{did_you_mean(name, AUGMENTS)}"
        )
    known: dict[str, Any] = vars(AUGMENTS[name]) | {"size": tuple(size) if size else None}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"augment has no value '{key}'; it takes {', '.join(known)}.{did_you_mean(key, known)}")
        known[key] = tuple(value) if isinstance(value, list) else value
    return Augment(**known)


def configure(net: Any, *, loss: str | None, class_weights: Sequence[float] | None) -> None:
    """Detectors bring their own losses; another one is refused."""
    if loss is not None:
        raise UsageError(f"loss={loss}: {type(net).__name__} learns by its paper's losses; leave loss out")


def score(
    net: nn.Module,
    record: ObjectRecord,
    metric: DetectionMetric,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    procedure: Procedure,
) -> Detections:
    """Answer one labelled record and count the answer, at the picture's own size."""
    picture = read_picture(record)
    things = things_of(record, len(classes), (picture.shape[0], picture.shape[1]))
    found = answer(net, picture, preprocess=preprocess, classes=classes, name=record.key, procedure=procedure)
    sides = [(t.box[2] - t.box[0], t.box[3] - t.box[1]) for t in things]
    areas = [t.area if t.area is not None else width * height for t, (width, height) in zip(things, sides)]
    metric.update(found, objects_of(things), key=record.key, areas=areas, crowd=np.array([t.crowd for t in things]))
    return found


def panel(
    record: ObjectRecord, found: Detections, colours: Sequence[tuple[int, int, int]], num_classes: int
) -> np.ndarray:
    """Picture, truth and answer side by side."""
    picture = read_picture(record)
    objects = objects_of(things_of(record, num_classes, (picture.shape[0], picture.shape[1])))
    truth = Detections(
        boxes=objects.boxes, scores=torch.ones(len(objects.labels)), labels=objects.labels, classes=found.classes,
        colours=found.colours,
    )  # fmt: skip
    return triptych(picture, truth, found)


def out(tensors: Mapping[str, Tensor]) -> Seen:
    """An exported file's named tensors as this room's output."""
    return Seen(Found(**{name.removeprefix("found."): value for name, value in tensors.items()}))


TASK = Task(
    name="detection",
    monitor="ap50",
    kind="objects",
    samples=Samples,
    collate=collate,
    augment=augment,
    plan=plan,
    configure=configure,
    out=out,
    metric=DetectionMetric,
    procedure=Procedure,
    answer=answer,
    stream=stream,
    score=score,
    panel=panel,
)
