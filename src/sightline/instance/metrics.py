"""Scores of masks and joints, and of the boxes around them, over a data set.

What a network says decides what is scored: masks where it has masks, joints (object keypoint similarity) where it has
joints, else boxes. Those numbers have COCO's plain names (`ap`, `ap50`, ...; see `detection.metrics`); the boxes' own
stand beside them as `box_ap`, `box_ap50`, `box_ap75`, and where there are masks and joints, the joints' as `joint_ap`,
`joint_ap50`, `joint_ap75`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from sightline.detection import average_precision as ap
from sightline.detection.answer import Detections
from sightline.detection.metrics import DetectionMetric, DetectionReport, Objects
from sightline.errors import SightlineError

JOINT = 0.05
"""How far joints may be off, in units of the object's size (as COCO's sigmas), where nobody measured it: all but 17."""


class InstanceMetric:
    """Collects what each picture's answers are worth, by masks or joints, and by boxes.

    limit: answers a picture and class that count, at most; None: COCO's, 100 (joints: 20).
    """

    def __init__(self, classes: Sequence[str], *, limit: int | None = None) -> None:
        self.classes, self.limit = tuple(classes), limit
        self.boxes = DetectionMetric(classes, limit=limit)
        self.masks: DetectionMetric | None = None
        self.joints: DetectionMetric | None = None

    def update(
        self,
        answer: Detections,
        truth: Objects,
        *,
        key: str,
        areas: Sequence[float] | np.ndarray | Tensor | None = None,
        masks: Sequence[Mapping[str, Any]] | None = None,
        points: Tensor | None = None,
        crowd: np.ndarray | Tensor | None = None,
    ) -> None:
        """Count one picture; the arguments are those of `DetectionMetric.update`.

        Raises `SightlineError` where the answer has masks or joints and the truth has none.
        """
        if answer.masks is not None:
            if masks is None:
                raise SightlineError(f"{key} has no masks to score masks by; take data with masks")
            self.masks = self.masks or DetectionMetric(self.classes, kind="masks", limit=self.limit)
            self.masks.update(answer, truth, key=key, areas=areas, masks=masks, crowd=crowd)
        if answer.keypoints is not None:
            said = answer.keypoints.shape[1]
            if points is None or points.shape[1] != said:
                have = 0 if points is None else points.shape[1]
                raise SightlineError(
                    f"{key} has {have} joints an object, the network says {said}; take data with those"
                )
            sigmas = ap.SIGMAS if said == len(ap.SIGMAS) else (JOINT,) * said
            self.joints = self.joints or DetectionMetric(
                self.classes, kind="keypoints", limit=self.limit, sigmas=sigmas
            )
            self.joints.update(answer, truth, key=key, areas=areas, points=points, crowd=crowd)
        self.boxes.update(answer, truth, key=key, areas=areas, crowd=crowd)

    def merge(self, other: InstanceMetric) -> None:
        """Add what another process counted, of other pictures and the same classes."""
        self.boxes.merge(other.boxes)
        for name in ("masks", "joints"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None:
                setattr(self, name, theirs)
            elif theirs is not None:
                mine.merge(theirs)

    def compute(self) -> DetectionReport:
        """The scores so far."""
        main = self.masks or self.joints or self.boxes
        report = main.compute()
        beside: dict[str, float] = {}
        for word, metric in (("joint", self.joints), ("box", self.boxes)):
            if metric is not None and metric is not main:
                found = metric.compute().metrics
                beside |= {f"{word}_{name}": found[name] for name in ("ap", "ap50", "ap75")}
        return replace(report, metrics=report.metrics | beside)
