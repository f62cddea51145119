"""All that the verbs need to know of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.classification.answer import Labels, named
from sightline.classification.contract import Scores
from sightline.classification.draw import side_by_side
from sightline.classification.losses import Criterion, parse_loss
from sightline.classification.metrics import LabelMetric
from sightline.classification.plan import plan
from sightline.classification.predict import Procedure, answer, procedure
from sightline.classification.targets import Augment, Samples, collate
from sightline.contracts import Preprocess, Task
from sightline.datasets.label_stats import label_stats
from sightline.datasets.records import ClassRecord
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.media.image import read_image

AUGMENTS = {
    "none": Augment(flip=False),
    "sided": Augment(scale=(0.85, 1.0), flip=False, colour=0.1),
    "light": Augment(scale=(0.85, 1.0)),
    "medium": Augment(scale=(0.7, 1.0), colour=0.2),
    "strong": Augment(scale=(0.5, 1.0), colour=0.4),
}
"""Named strengths of augmentation; single values are changed with `augment.KEY=value`."""


def augment(name: str, size: Sequence[int] | None, values: Mapping[str, Any]) -> Augment:
    """The augmentation called `name`, cut to `size`, with single values replaced."""
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


def configure(net: Any, *, loss: str, class_weights: Sequence[float] | None) -> None:
    """Hand the chosen loss to the network, whose `losses` asks its `criterion`."""
    weights = tuple(class_weights) if class_weights else None
    net.criterion = Criterion(terms=parse_loss(loss), class_weights=weights)


def score(
    net: nn.Module,
    record: ClassRecord,
    metric: LabelMetric,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    procedure: Procedure,
) -> Labels:
    """Answer one labelled picture and count the answer."""
    picture = read_image(record.image.path, page=record.image.page)
    found = answer(net, picture, preprocess=preprocess, classes=classes, name=record.key, procedure=procedure)
    assert record.labels is not None
    metric.update(found.probabilities, record.labels, key=record.key)
    return found


def panel(record: ClassRecord, found: Labels, colours: Sequence[tuple[int, int, int]], num_classes: int) -> np.ndarray:
    """The picture with its truth and answer."""
    names = named(found.classes, num_classes)
    assert record.labels is not None
    said = ", ".join(f"{name} {p:.0%}" for name, p in found.top(2))
    return side_by_side([read_image(record.image.path, page=record.image.page)], names[record.labels], said)


def too_large(
    net: nn.Module,
    path: Path,
    to: Path,
    *,
    page: int,
    preprocess: Preprocess,
    classes: Any,
    colours: Any,
    name: str,
    procedure: Procedure,
) -> Labels:
    """A picture that is read in windows has no single class."""
    raise SightlineError(f"{path} is too large to be classified as a whole; make a smaller copy of it")


def out(tensors: Mapping[str, Tensor]) -> Scores:
    """An exported file's named tensors as this room's output."""
    return Scores(tensors["logits"], tensors.get("parts"))


def example(preprocess: Preprocess, batch: int) -> Tensor:
    """Pictures as the network is fed, for proving what was done to it."""
    from sightline.media.prepare import target_size

    size = target_size((96, 96), preprocess.resize)
    return torch.rand(batch, preprocess.channels, *size, generator=torch.Generator().manual_seed(0))


TASK = Task(
    name="classification",
    monitor="accuracy",
    samples=Samples,
    collate=collate,
    augment=augment,
    plan=plan,
    configure=configure,
    out=out,
    metric=LabelMetric,
    procedure=procedure,
    answer=answer,
    stream=too_large,
    score=score,
    panel=panel,
    stats=label_stats,
    example=example,
    kind="classes",
)
