"""Scores of boxes, masks and keypoints over a data set, one picture at a time.

COCO's rules (Lin et al. 2014, arXiv:1405.0312), equal to pycocotools to 1e-12: see `average_precision`. Classes without
a true object are left out of every mean; where nothing is true at all a score is NaN.

- `ap`: mean over classes and over overlaps from 0.5 to 0.95 in steps of 0.05. `ap50`, `ap75`: at one overlap.
- `ap_small`, `ap_medium`, `ap_large`: true objects of less than 32^2, up to 96^2, and more pixels.
- `ar1`, `ar10`, `ar100`: recall with that many answers a picture and class, the mean over overlaps; `ar_small` ...
- `recall50`: the share of true objects found at an overlap of 0.5.
- `voc07`, `voc`: PASCAL VOC's rule at 0.5, at eleven points and over all (boxes only).
- `challenge`: TP / (TP + FP + FN), the mean over the ten overlaps and over pictures (answers with a score from 0.5 on).

Keypoints have `ap`, `ap50`, `ap75`, `ap_medium`, `ap_large` and the same for recall, with 20 answers a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.detection import average_precision as ap
from sightline.detection.answer import Detections
from sightline.errors import UsageError

Kind = Literal["boxes", "masks", "keypoints"]
KINDS_OF_ERRORS: tuple[str, ...] = ("class", "place", "both", "duplicate", "background", "missed")
SURE = 0.5
"""The score from which an answer counts in numbers without a curve."""


class Objects(Protocol):
    """The true objects of a picture: boxes `(G, 4)`, labels `(G,)`, ignore `(G,)` bool (crowds and difficult ones)."""

    @property
    def boxes(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def ignore(self) -> Tensor: ...


@dataclass(frozen=True)
class DetectionReport:
    """Scores of one evaluation: `metrics`, `per_class`, each picture's own score (F1 of answers from 0.5 on).

    confusion: `(K + 1, K + 1)` int64, rows: what is true, columns: what was said at a score of 0.5 and an overlap of
    0.5, classes left aside; last row: said where nothing is, last column: missed. errors: how often each kind of error
    is made by the answers that count there (`class`, `place`, `both`, `duplicate`, `background`, `missed`).
    curves: precision at 101 recalls of every class at an overlap of 0.5, `(K, 101)`.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    image_scores: dict[str, float] = field(default_factory=dict)
    confusion: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    errors: dict[str, int] = field(default_factory=dict)
    curves: np.ndarray = field(default_factory=lambda: np.zeros((0, 101)))

    @property
    def worst(self) -> list[str]:
        """The pictures' keys, worst first."""
        return sorted(self.image_scores, key=lambda key: (self.image_scores[key], key))


@dataclass(frozen=True)
class _Picture:
    """One picture's columns. boxes: x0, y0, x1, y1, float64. form, true_form: masks or joints, if scored."""

    key: str
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    form: Any
    true_boxes: np.ndarray
    true_labels: np.ndarray
    true_areas: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    true_form: Any


class DetectionMetric:
    """Collects what each picture's answers are worth; pictures may be counted in any order and by several processes.

    kind: what overlaps: `boxes`, `masks` or `keypoints`. limits: answers a picture and class; the last is the limit of
    average precision (pass (1, 10, 500) where pictures hold more than 100 objects); None: COCO's, 1, 10 and 100, or 20
    for keypoints. limit: the last of them alone, the others stay COCO's. sigmas: of the joints, for keypoints.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        kind: Kind = "boxes",
        limits: Sequence[int] | None = None,
        limit: int | None = None,
        sigmas: Sequence[float] = ap.SIGMAS,
    ) -> None:
        if kind not in ("boxes", "masks", "keypoints"):
            raise UsageError(f"kind '{kind}' is unknown; choose from boxes, masks, keypoints")
        limits = tuple(limits) if limits is not None else ((20,) if kind == "keypoints" else (1, 10, 100))
        if limit is not None:
            if limit < 1:
                raise UsageError(f"limit {limit} must be a whole number from 1: answers a picture and class that count")
            limits = (*(n for n in limits[:-1] if n < limit), limit)
        if not limits or list(limits) != sorted(set(limits)) or limits[0] < 1:
            raise UsageError(f"limits {limits} must be rising whole numbers from 1, such as 1,10,100")
        self.classes, self.kind, self.limits, self.sigmas = tuple(classes), kind, limits, tuple(sigmas)
        self._pictures: list[_Picture] = []

    def update(
        self,
        answer: Detections,
        truth: Objects,
        *,
        key: str,
        areas: Sequence[float] | np.ndarray | Tensor | None = None,
        masks: Sequence[Mapping[str, Any]] | None = None,
        points: np.ndarray | Tensor | None = None,
        crowd: np.ndarray | Tensor | None = None,
    ) -> None:
        """Count one picture, answer and truth in the same pixels.

        areas: of the true objects, `(G,)`; None: of their masks or boxes. masks: of the true objects, COCO's compressed
        run lengths. points: of the true objects, `(G, J, 3)`. crowd: which of the ignored are crowds; None: all.
        """
        boxes, true_boxes = (_array(x.boxes).reshape(-1, 4) for x in (answer, truth))
        ignore = _array(truth.ignore).astype(bool)
        own, true_areas = _sizes(boxes), _sizes(true_boxes)
        form: Any = None
        true_form: Any = None
        if self.kind == "masks":
            if answer.masks is None or masks is None:
                raise ValueError("scores of masks need answers with masks and the true masks")
            form, true_form = [_coded(m) for m in answer.masks.runs()], [_coded(m) for m in masks]
            own, true_areas = ap.mask_areas(form), ap.mask_areas(true_form)
        elif self.kind == "keypoints":
            if answer.keypoints is None or points is None:
                raise ValueError("scores of keypoints need answers with keypoints and the true ones")
            form, true_form = _array(answer.keypoints), _array(points).reshape(-1, len(self.sigmas), 3)
            form = form.reshape(-1, *true_form.shape[1:])
            own = np.ptp(form[..., :2], axis=1).prod(-1) if len(form) else own
            ignore = ignore | ~(true_form[..., 2] > 0).any(1)
        true_areas = true_areas if areas is None else _array(areas)
        which = ignore & _array(truth.ignore).astype(bool) if crowd is None else _array(crowd).astype(bool)
        self._pictures.append(
            _Picture(
                self._free(key), boxes, _array(answer.labels).astype(np.int64), _array(answer.scores), own, form,
                true_boxes, _array(truth.labels).astype(np.int64), true_areas, which, ignore | which, true_form,
            )
        )  # fmt: skip

    def merge(self, other: DetectionMetric) -> None:
        """Add what another process counted, of other pictures and the same classes."""
        if (self.classes, self.kind) != (other.classes, other.kind):
            raise UsageError(
                f"counts of {len(other.classes)} classes by {other.kind} do not fit counts of {len(self.classes)} "
                f"classes by {self.kind}"
            )
        for picture in other._pictures:
            self._pictures.append(replace(picture, key=self._free(picture.key)))

    def compute(self) -> DetectionReport:
        """The scores so far."""
        truths, answers = self.columns()
        areas = {k: v for k, v in ap.AREAS.items() if self.kind != "keypoints" or k != "small"}
        overlaps = self._overlaps(truths)
        matches = ap.match(
            truths, answers, overlaps,
            num_classes=len(self.classes), areas=tuple(areas.values()), most=self.limits[-1],
        )  # fmt: skip
        curves = ap.curves(matches, answers, areas=tuple(areas), limits=self.limits)
        metrics = ap.summary(curves) | {"recall50": curves.ar(threshold=0.5)}
        rows = {
            name: {
                "ap50": curves.ap_of(k, 0.5),
                "ap": curves.ap_of(k),
                "recall50": float(curves.recall[0, k, 0, -1]),
                "objects": int(matches.real[k, 0]),
            }
            for k, name in enumerate(self.classes)
        }
        if self.kind == "boxes":
            metrics |= self._voc(truths, answers)
        if self.kind != "keypoints":
            metrics["challenge"] = self._challenge(truths, answers, overlaps)
        confusion, errors = self._errors(truths, answers, overlaps)
        return DetectionReport(
            {name: _or_nan(value) for name, value in metrics.items()},
            {name: {word: _or_nan(value) for word, value in row.items()} for name, row in rows.items()},
            self._image_scores(truths, answers, matches),
            torch.from_numpy(confusion),
            errors,
            curves.precision[0, :, :, 0, -1].T,
        )

    def columns(self) -> tuple[ap.Truths, ap.Answers]:
        """All pictures as flat columns."""
        pictures = self._pictures
        number = [np.full(len(p.labels), i) for i, p in enumerate(pictures)]
        true_number = [np.full(len(p.true_labels), i) for i, p in enumerate(pictures)]
        truths = ap.Truths(
            _joined(true_number, np.int64), _joined([p.true_labels for p in pictures], np.int64),
            _joined([p.true_areas for p in pictures]), _joined([p.crowd for p in pictures], bool),
            _joined([p.ignore for p in pictures], bool),
        )  # fmt: skip
        answers = ap.Answers(
            _joined(number, np.int64), _joined([p.labels for p in pictures], np.int64),
            _joined([p.scores for p in pictures]), _joined([p.areas for p in pictures]),
        )  # fmt: skip
        return truths, answers

    def _overlaps(self, truths: ap.Truths) -> ap.Overlaps:
        pictures = self._pictures
        true_boxes = _xywh(_rows([p.true_boxes for p in pictures]))
        if self.kind == "masks":
            masks, true_masks = [m for p in pictures for m in p.form], [m for p in pictures for m in p.true_form]
            return ap.mask_overlaps(masks, true_masks, truths.crowd)
        if self.kind == "keypoints":
            shape = (-1, len(self.sigmas), 3)
            joints = [
                _joined([x.reshape(-1) for x in xs]).reshape(shape)
                for xs in zip(*((p.form, p.true_form) for p in pictures))
            ]
            found, true = joints if joints else (np.zeros((0, *shape[1:])), np.zeros((0, *shape[1:])))
            return ap.keypoint_overlaps(found, true, true_boxes, truths.area, self.sigmas)
        return ap.box_overlaps(_xywh(_rows([p.boxes for p in pictures])), true_boxes, truths.crowd)

    def _voc(self, truths: ap.Truths, answers: ap.Answers) -> dict[str, float]:
        boxes, true_boxes = _rows([p.boxes for p in self._pictures]), _rows([p.true_boxes for p in self._pictures])
        found = {}
        for name, eleven in (("voc07", True), ("voc", False)):
            each = ap.voc_ap(truths, answers, true_boxes, boxes, num_classes=len(self.classes), eleven_points=eleven)
            found[name] = float(np.nanmean(each)) if not np.isnan(each).all() else math.nan
        return found

    def _challenge(self, truths: ap.Truths, answers: ap.Answers, overlaps: ap.Overlaps) -> float:
        """The challenge's rule, classes left aside, objects that are ignored too."""
        scores = []
        for i in range(len(self._pictures)):
            some = np.flatnonzero((answers.picture == i) & (answers.score >= SURE))
            some = some[np.argsort(-answers.score[some], kind="stable")]
            true = np.flatnonzero((truths.picture == i) & ~truths.ignore)
            scores.append(ap.challenge_score(_table(overlaps, some, true)).mean())
        return float(np.mean(scores)) if scores else math.nan

    def _errors(
        self, truths: ap.Truths, answers: ap.Answers, overlaps: ap.Overlaps
    ) -> tuple[np.ndarray, dict[str, int]]:
        """The confusion matrix and the kinds of errors (Bolya et al. 2020, arXiv:2008.08115) of sure answers.

        An answer is right at an overlap of 0.5 with a free object of its class. Else: it has an object's place but not
        its class (`class`), its class but not its place, an overlap of 0.1 to 0.5 (`place`), neither quite (`both`), an
        object that a better answer has (`duplicate`), or it has nothing (`background`). Objects nobody has are `missed`
        unless a `class` or `place` error stands for them.
        """
        last = len(self.classes)
        confusion = np.zeros((last + 1, last + 1), np.int64)
        count: dict[str, int] = dict.fromkeys(KINDS_OF_ERRORS, 0)
        for i in range(len(self._pictures)):
            some = np.flatnonzero((answers.picture == i) & (answers.score >= SURE))
            some = some[np.argsort(-answers.score[some], kind="stable")]
            true = np.flatnonzero((truths.picture == i) & ~truths.ignore)
            blind = np.flatnonzero((truths.picture == i) & truths.ignore)
            table = _table(overlaps, some, true)
            hidden = _table(overlaps, some, blind).max(1, initial=0.0) >= 0.5
            said, real = answers.label[some], truths.label[true]
            same = said[:, None] == real[None, :]
            taken, owner = np.zeros(len(true), bool), np.full(len(true), -1)
            left = []
            for row in range(len(some)):  # right ones first
                open_ = np.where(same[row] & ~taken, table[row], -1.0)
                if len(true) and open_.max() >= 0.5:
                    taken[open_.argmax()], owner[open_.argmax()] = True, said[row]
                elif not hidden[row]:
                    left.append(row)
            excused = taken.copy()
            for row in left:
                alike, other = np.where(same[row], table[row], 0.0), np.where(same[row], 0.0, table[row])
                free = np.where(taken, -1.0, other)
                if other.max(initial=0.0) >= 0.5:
                    kind = "class"
                    excused |= other >= 0.5
                    if free.max() >= 0.5 and owner[free.argmax()] < 0:
                        owner[free.argmax()] = said[row]
                        count[kind] += 1
                        continue
                elif (alike[taken] >= 0.5).any():
                    kind = "duplicate"
                elif alike.max(initial=0.0) >= 0.1:
                    kind = "place"
                    excused |= alike >= 0.1
                else:
                    kind = "both" if other.max(initial=0.0) >= 0.1 else "background"
                count[kind] += 1
                confusion[last, said[row]] += 1
            np.add.at(confusion, (real, np.where(owner < 0, last, owner)), 1)
            count["missed"] += int((~excused).sum())
        return confusion, count

    def _image_scores(self, truths: ap.Truths, answers: ap.Answers, matches: ap.Matches) -> dict[str, float]:
        """F1 of each picture's sure answers at an overlap of 0.5; 1 where nothing is and nothing was said."""
        n = len(self._pictures)
        sure = (answers.score[matches.order] >= SURE) & matches.counted[:, 0, 0]
        picture = answers.picture[matches.order]
        said = np.bincount(picture[sure], minlength=n)
        right = np.bincount(picture[sure & matches.hit[:, 0, 0]], minlength=n)
        real = np.bincount(truths.picture[~truths.ignore], minlength=n)
        return {
            p.key: float(2 * right[i] / (said[i] + real[i])) if said[i] + real[i] else 1.0
            for i, p in enumerate(self._pictures)
        }

    def _free(self, key: str) -> str:
        """`key`, or `key (2)`, `key (3)` ... when a picture of that name has been counted."""
        known, name, n = {p.key for p in self._pictures}, key, 1
        while name in known:
            n += 1
            name = f"{key} ({n})"
        return name


def _array(x: Any) -> np.ndarray:
    x = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    return x.astype(np.float64)


def _sizes(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _joined(parts: Sequence[np.ndarray], kind: Any = np.float64) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)


def _rows(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, 4))


def _coded(mask: Mapping[str, Any]) -> dict[str, Any]:
    """pycocotools takes the counts as bytes."""
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}


def _table(overlaps: ap.Overlaps, some: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Overlaps of some answers with some true objects, `(N, G)`."""
    i, j = np.repeat(some, len(true)), np.tile(true, len(some))
    return (overlaps(i, j) if len(i) else np.zeros(0)).reshape(len(some), len(true))


def _or_nan(value: float) -> float:
    return math.nan if value == -1 else float(value)
