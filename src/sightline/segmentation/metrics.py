"""Scores of label maps, every one named for its rule, nearly all from one confusion matrix over the data set.

The name of a score does not fix its value: the same answers get an "mIoU" between 0.53 and 0.79 from four public
packages. So each number here carries its rule in its name:

- `pixel_accuracy`: correct pixels / labelled pixels.
- `class_accuracy`: mean recall over the classes that occur in the labels.
- `dataset_miou`: mean over classes of intersection / union, both summed over the data set; classes that occur neither
  in labels nor answers are left out (VOC, Cityscapes, mmseg, torchmetrics' Jaccard).
- `dataset_miou_absent_zero`: the same, absent classes counted as 0 (hszhao/semseg, SegNet's script).
- `frequency_weighted_iou`: IoU weighted by the share of the class in the labels.
- `dataset_dice`: mean over classes of pooled Dice, absent classes left out.
- `image_miou`: each picture's own mIoU over the classes in its labels or answer, then the mean over pictures.
- `foreground_iou`, `foreground_dice`: binary sets only; IoU and Dice of class 1, pooled over all pixels.
- `case_dice`: each picture's own Dice, averaged over the classes in its labels or answer, then the mean over pictures.

Only when asked for by name, since they cost more; distances are in millimetres where the data knows its spacing, else
in pixels; a class called background has no surface:

- `hd95`: 95th percentile of the distances between the outlines, the larger of both directions, averaged over the
  classes and pictures where both have the class.
- `assd`: average symmetric surface distance, averaged in the same way.
- `surface_missing`: how many (picture, class) pairs those two leave out because only one of labels and answer has it.
- `surface_dice`: share of both outlines within 1 mm (pixel) of the other; 0 where only one has the class.
- `boundary_f1`: F1 of the outlines within 0.75 % of the diagonal; 0 where only one has the class.
- `v_rand`, `v_info`: agreement of the regions between borders, borders thinned, over the true regions; the best over
  thresholds of the border's probability, where probabilities are kept (ISBI 2012).
- `ece`: expected calibration error in 15 bins of confidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import UsageError, did_you_mean
from sightline.ops.confusion import confusion_matrix
from sightline.segmentation.answer import named
from sightline.segmentation.calibration import Reliability
from sightline.segmentation.judges import MEASURES, RAND, SURFACE, Rand, Surfaces
from sightline.segmentation.policies import NEEDS_SURFACES, POLICIES, Printed, counts_of, printed


@dataclass(frozen=True)
class SegmentationReport:
    """Scores of one evaluation: `metrics`, `per_class`, the confusion matrix, and each picture's own score."""

    classes: tuple[str, ...]
    confusion: Tensor  # int64 (K, K), rows = labels, columns = answers
    image_scores: dict[str, float] = field(default_factory=dict)  # key -> mIoU of that picture
    case_dice: float = math.nan
    measured: dict[str, float] = field(default_factory=dict)  # what was asked for besides
    measured_per_class: dict[str, list[float]] = field(default_factory=dict)
    reliability: list[tuple[float, float, float]] = field(default_factory=list)  # confidence, share right, share
    policy: Printed | None = None  # what another package prints; then `metrics` and `per_class` say only that

    @property
    def metrics(self) -> dict[str, float]:
        """All scores of the module's list; NaN where nothing was labelled. With a policy: its numbers instead."""
        if self.policy is not None:
            return self.policy.metrics | self.measured
        images = {"image_miou": _mean(list(self.image_scores.values())), "case_dice": self.case_dice}
        return scores(self.confusion) | images | self.measured

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """IoU, Dice, recall (`accuracy`), precision and labelled pixels of every class; with a policy: its columns."""
        columns = class_scores(self.confusion)
        if self.policy is not None:
            columns = {name: torch.as_tensor(column) for name, column in self.policy.per_class.items()}
        columns |= {name: torch.tensor(column) for name, column in self.measured_per_class.items()}
        return {
            name: {score: float(column[k]) for score, column in columns.items()}
            | {"pixels": int(self.confusion[k].sum())}
            for k, name in enumerate(self.classes)
        }

    @property
    def worst(self) -> list[str]:
        """Keys of the pictures, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


class SegmentationMetric:
    """Counts label maps against truth, one picture at a time; memory is one K x K matrix and three counts a picture.

    policy: report what another package prints (`policies.POLICIES`) instead of this module's scores.
    measures: scores of the second list above that are wanted too.
    """

    def __init__(
        self,
        classes: Sequence[str],
        num_classes: int | None = None,
        *,
        policy: str | None = None,
        measures: Sequence[str] = (),
    ):
        if policy is not None and policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise UsageError(f"policy '{policy}' is unknown; choose from {known}.{did_you_mean(policy, POLICIES)}")
        for name in measures:
            if name not in MEASURES:
                known = ", ".join(MEASURES)
                raise UsageError(f"metric '{name}' is unknown; choose from {known}.{did_you_mean(name, MEASURES)}")
        self.classes = named(classes, num_classes or len(classes))
        self.policy, self.measures = policy, tuple(measures)
        self.confusion = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)
        self.image_scores: dict[str, float] = {}
        self.cases: list[Tensor] = []  # of every picture: hit, labelled, answered pixels, int64 (3, K)
        self.reliability = Reliability()
        wanted = set(measures)
        self.surfaces = Surfaces(self.classes) if wanted & set(SURFACE) or policy in NEEDS_SURFACES else None
        self.rand = Rand(self.classes) if wanted & set(RAND) else None

    def update(
        self,
        prediction: Tensor,
        labels: Tensor,
        *,
        key: str = "",
        probabilities: Tensor | None = None,
        spacing: Sequence[float] | None = None,
    ) -> float:
        """Count one picture: two integer maps of one shape, labels with 255 where nothing is scored; its own mIoU.

        probabilities: `(K, ...)`, for calibration and thresholds. spacing: the length of a pixel along each axis.
        """
        counts = confusion_matrix(prediction, labels, len(self.classes)).cpu()
        self.confusion += counts
        self.cases.append(torch.stack([counts.diagonal(), counts.sum(1), counts.sum(0)]))
        if self.surfaces is not None:
            self.surfaces.update(prediction, labels, None if self.policy in NEEDS_SURFACES else spacing)
        if self.rand is not None:
            self.rand.update(prediction, labels, probabilities)
        if probabilities is not None:
            self.reliability.update(probabilities, labels)
        score = scores(counts)["dataset_miou"]
        if not math.isnan(score):
            self.image_scores[self._free(key or str(len(self.image_scores)))] = score
        return score

    def merge(self, other: SegmentationMetric) -> None:
        """Add what another process counted, of other pictures and the same classes."""
        if self.classes != other.classes:
            raise UsageError(f"counts of {len(other.classes)} classes do not fit counts of {len(self.classes)} classes")
        self.confusion += other.confusion
        self.cases += other.cases
        self.reliability.merge(other.reliability)
        if self.surfaces is not None and other.surfaces is not None:
            self.surfaces.merge(other.surfaces)
        if self.rand is not None and other.rand is not None:
            self.rand.merge(other.rand)
        for key, score in other.image_scores.items():
            self.image_scores[self._free(key)] = score

    def compute(self) -> SegmentationReport:
        """The scores so far."""
        found: dict[str, float] = {}
        columns: dict[str, list[float]] = {}
        if self.surfaces is not None:
            found |= self.surfaces.means
            columns |= self.surfaces.per_class
        if self.rand is not None:
            found |= self.rand.best
        found["ece"] = self.reliability.ece
        return SegmentationReport(
            self.classes,
            self.confusion.clone(),
            dict(self.image_scores),
            case_dice=self._case_dice(),
            measured={name: value for name, value in found.items() if name in self._shown()},
            measured_per_class={name: column for name, column in columns.items() if name in self.measures},
            reliability=self.reliability.curve,
            policy=self._printed(),
        )

    def _shown(self) -> set[str]:
        names = set(self.measures)
        return names | {"surface_missing"} if names & {"hd95", "assd"} else names

    def _case_dice(self) -> float:
        values = []
        for hit, labelled, answered in self.cases:
            mean = (2 * hit.double() / (labelled + answered)).nanmean().item()
            values += [] if math.isnan(mean) else [mean]
        return _mean(values)

    def _printed(self) -> Printed | None:
        if self.policy is None:
            return None
        surfaces = self.surfaces.tables if self.surfaces is not None else None
        return printed(self.policy, counts_of(self.cases, len(self.classes)), surfaces)

    def _free(self, key: str) -> str:
        """`key`, or `key (2)`, `key (3)` ... when a picture of that name has been counted."""
        names = itertools.chain([key], (f"{key} ({n})" for n in itertools.count(2)))
        return next(name for name in names if name not in self.image_scores)


def class_scores(confusion: Tensor) -> dict[str, Tensor]:
    """IoU, Dice, recall and precision of every class, float64 `(K,)`, NaN where the rule divides by nothing."""
    counts = confusion.double()
    hit, labelled, answered = counts.diagonal(), counts.sum(1), counts.sum(0)
    return {
        "iou": hit / (labelled + answered - hit),
        "dice": 2 * hit / (labelled + answered),
        "accuracy": hit / labelled,
        "precision": hit / answered,
    }


def scores(confusion: Tensor) -> dict[str, float]:
    """Every score of the module's list that one int64 `(K, K)` confusion matrix gives."""
    column = class_scores(confusion)
    total = confusion.sum().double()
    share = confusion.sum(1).double() / total
    found = {
        "pixel_accuracy": (confusion.diagonal().sum() / total).item(),
        "class_accuracy": column["accuracy"].nanmean().item(),
        "dataset_miou": column["iou"].nanmean().item(),
        "dataset_miou_absent_zero": column["iou"].nan_to_num(0).mean().item() if total else math.nan,
        "frequency_weighted_iou": (share * column["iou"].nan_to_num(0)).sum().item(),
        "dataset_dice": column["dice"].nanmean().item(),
    }
    if len(confusion) == 2:
        found |= {"foreground_iou": column["iou"][1].item(), "foreground_dice": column["dice"][1].item()}
    return found


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
