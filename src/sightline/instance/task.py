"""All that the verbs need to know of this room: the task of boxes, with masks and joints in what is learned and said.

Pictures, boxes, augmentation and answers are the detection room's; masks and joints travel with them where the data
have any. A network that learns from masks or joints says so when its data have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.datasets.read import read_picture
from sightline.datasets.records import ObjectRecord
from sightline.datasets.thing_masks import Crop, Shape, Size, shapes_of
from sightline.datasets.things import things_of
from sightline.detection import average_precision as ap
from sightline.detection.answer import Detections
from sightline.detection.contract import Found
from sightline.detection.draw import triptych
from sightline.detection.predict import Procedure, answer
from sightline.detection.targets import Samples, joints_of, objects_of
from sightline.detection.task import TASK as BOXES
from sightline.instance.masks import RunMasks, coded, filled, window_runs
from sightline.instance.metrics import InstanceMetric
from sightline.instance.plan import plan
from sightline.ops.tree import register_dataclass


@register_dataclass
@dataclass(frozen=True)
class Exported:
    """The output of an exported file, as every network of the room decodes it; see their own outputs for the fields."""

    found: Found
    sizes: Tensor
    canvas: Tensor | None = None
    heat: Tensor | None = None


def out(tensors: Mapping[str, Tensor]) -> Exported:
    """An exported file's named tensors as this room's output."""
    found = {name.removeprefix("found."): value for name, value in tensors.items() if name.startswith("found.")}
    others = {name: value for name, value in tensors.items() if "." not in name}
    return Exported(Found(**found), **others)


def runs_of(shape: Shape, size: Size) -> dict:
    """A true mask in a picture of `size` as COCO's run lengths; polygons are filled as its tools fill them."""
    if not isinstance(shape, Crop):
        return filled([part.ravel() for part in shape], size)
    return coded(window_runs(shape.inside, shape.top, shape.left, size), size)


def truth_of(record: ObjectRecord, picture: np.ndarray, num_classes: int, joints: int) -> Detections:
    """A record's objects as an answer would give them, masks and joints included where it has any."""
    size = (picture.shape[0], picture.shape[1])
    things = things_of(record, num_classes, size)
    objects = objects_of(things)
    masks = None
    if not things or any(thing.mask is not None for thing in things):
        masks = RunMasks(tuple(runs_of(shape, size) for shape in shapes_of(record, things, size)), size)
    count = joints or max((len(thing.points) for thing in things), default=0)
    return Detections(
        boxes=objects.boxes, scores=torch.ones(len(things)), labels=objects.labels, masks=masks,
        keypoints=joints_of(things, count) if count else None, size=size,
    )  # fmt: skip


def score(
    net: nn.Module,
    record: ObjectRecord,
    metric: InstanceMetric,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    procedure: Procedure,
) -> Detections:
    """Answer one labelled record and count the answer, at the picture's own size."""
    picture = read_picture(record)
    found = answer(net, picture, preprocess=preprocess, classes=classes, name=record.key, procedure=procedure)
    joints = 0 if found.keypoints is None else found.keypoints.shape[1]
    truth = truth_of(record, picture, len(classes), joints)
    things = record.labels or ()
    masks = truth.masks.runs() if found.masks is not None and truth.masks is not None else None
    pixels = [None] * len(things) if masks is None else ap.mask_areas(masks).tolist()
    sides = (truth.boxes[:, 2:] - truth.boxes[:, :2]).double().prod(1).tolist()
    areas = [t.area if t.area is not None else side if p is None else p for t, p, side in zip(things, pixels, sides)]
    metric.update(
        found, objects_of(things), key=record.key, areas=areas, masks=masks,
        points=truth.keypoints if joints else None, crowd=np.array([thing.crowd for thing in things], bool),
    )  # fmt: skip
    return found


def panel(
    record: ObjectRecord, found: Detections, colours: Sequence[tuple[int, int, int]], num_classes: int
) -> np.ndarray:
    """Picture, truth and answer side by side."""
    picture = read_picture(record)
    truth = truth_of(record, picture, num_classes, 0)
    return triptych(picture, replace(truth, classes=found.classes, colours=found.colours), found)


TASK = replace(
    BOXES,
    name="instance",
    samples=partial(Samples, full=True),
    plan=plan,
    out=out,
    metric=InstanceMetric,
    score=score,
    panel=panel,
)
