"""Average precision from columns: matching, curves and numbers as COCO's and VOC's programs have them.

Everything is told in flat columns, one entry an object: which picture, which class, which score. Pictures and classes
are numbered from 0; equal scores keep the order in which they come. Nothing here knows how an overlap is computed: the
functions `box_overlaps`, `mask_overlaps` and `keypoint_overlaps` give one number for each pair that is asked for.

Letters: N answers, G true objects, P pairs of an answer and a true object of one picture and class, T thresholds of
overlap, R recalls, K classes, A ranges of area, M limits of answers a picture and class.

Sources: pycocotools 2.0.11 (`cocoeval.py`, by whose rules ties and thresholds go), the VOC development kit's rule as in
py-faster-rcnn's `voc_eval.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Overlaps = Callable[[Ints, Ints], Floats]
"""Indices of answers `(P,)` and of true objects `(P,)` to their overlaps `(P,)`."""

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = tuple(np.linspace(0.0, 1.0, 101).tolist())
AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of area in pixels, both ends included."""

SIGMAS = tuple(
    s / 10
    for s in (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
)
"""How far COCO's 17 joints may be off, in units of the person's size."""

_BLOCK = 2_000_000  # entries of one step's table


# Columns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truths:
    """True objects. picture, label: `(G,)` int. area: `(G,)` in pixels. crowd: `(G,)` bool, may absorb many answers.

    ignore: `(G,)` bool, counts neither way; crowds are among them.
    """

    picture: Ints
    label: Ints
    area: Floats
    crowd: Flags
    ignore: Flags


@dataclass(frozen=True)
class Answers:
    """Answers. picture, label: `(N,)` int. score: `(N,)`. area: `(N,)` in pixels."""

    picture: Ints
    label: Ints
    score: Floats
    area: Floats


@dataclass(frozen=True)
class Matches:
    """What every answer within the limit is worth, sorted by picture, class, and score.

    order: `(N',)` which answers these are. rank: `(N',)` their place in their picture and class.
    hit, counted: `(N', T, A)` whether it takes a true object, and whether it counts at all.
    real: `(K, A)` how many true objects there are to find. taken: `(G, T, A)` whether a true object is taken.
    """

    order: Ints
    rank: Ints
    hit: Flags
    counted: Flags
    real: Ints
    taken: Flags


@dataclass(frozen=True)
class Curves:
    """pycocotools' arrays: precision and scores `(T, R, K, A, M)`, recall `(T, K, A, M)`; -1 where nothing is true."""

    precision: Floats
    recall: Floats
    scores: Floats
    thresholds: tuple[float, ...]
    areas: tuple[str, ...]
    limits: tuple[int, ...]

    def ap(self, threshold: float | None = None, area: str = "all") -> float:
        """Average precision over classes, and over thresholds unless one is asked for; -1 where nothing is true."""
        values = self.precision[..., self.areas.index(area), -1]
        return _mean(values if threshold is None else values[self._place(threshold)])

    def ar(self, limit: int | None = None, area: str = "all", threshold: float | None = None) -> float:
        """Average recall with at most `limit` answers a picture and class (the largest limit unless asked for)."""
        place = -1 if limit is None else self.limits.index(limit)
        values = self.recall[..., self.areas.index(area), place]
        return _mean(values if threshold is None else values[self._place(threshold)])

    def ap_of(self, label: int, threshold: float | None = None, area: str = "all") -> float:
        """Average precision of one class."""
        values = self.precision[:, :, label, self.areas.index(area), -1]
        return _mean(values if threshold is None else values[self._place(threshold)])

    def _place(self, threshold: float) -> int:
        return int(np.argmin(np.abs(np.asarray(self.thresholds) - threshold)))


def _mean(values: Floats) -> float:
    real = values[values > -1]
    return float(np.mean(real)) if real.size else -1.0


# Matching --------------------------------------------------------------------------------------------------------


def match(
    truths: Truths,
    answers: Answers,
    overlaps: Overlaps,
    *,
    num_classes: int,
    thresholds: Sequence[float] = THRESHOLDS,
    areas: Sequence[tuple[float, float]] = tuple(AREAS.values()),
    most: int = 100,
) -> Matches:
    """Give every answer, best first, the free true object of its picture and class that it overlaps most.

    Objects that count are preferred to those that are ignored; of equal overlaps the last wins; crowds stay free. Of an
    answer's picture and class only the `most` best take part. All pictures and classes go at once: step r places the
    r-th answers of all of them, and only answers that overlap something at all are placed.
    """
    low, high = np.asarray(areas, np.float64).T
    least = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)
    cell, true_cell = answers.picture * num_classes + answers.label, truths.picture * num_classes + truths.label
    order = np.lexsort((-answers.score, cell))
    rank = _place_in_run(cell[order])
    order, rank = order[rank < most], rank[rank < most]
    inside = (answers.area[order, None] >= low) & (answers.area[order, None] <= high)  # (N', A)
    ignored = truths.ignore[:, None] | (truths.area[:, None] < low) | (truths.area[:, None] > high)  # (G, A)

    shape = (len(order), len(least), len(low))
    hit, counted = np.zeros(shape, bool), np.broadcast_to(inside[:, None, :], shape).copy()
    taken = np.zeros((len(truths.label), *shape[1:]), bool)
    who, which, overlap = _near(cell[order], true_cell, order, overlaps, float(least.min(initial=1.0)))
    for i, row, true in _steps(cell[order], who, which):  # answers (n,), pairs (n, C) and true objects (n, C), -1: none
        value = np.where(true >= 0, overlap[row], -1.0)
        free = ~taken[true] | truths.crowd[true][..., None, None]  # (n, C, T, A)
        open_ = (value[..., None] >= least)[..., None] & free
        place = np.arange(true.shape[1])[:, None] + true.shape[1] * ~ignored[true]  # later is better; counting first
        best = np.where(open_, place[:, :, None, :], -1).max(1)  # (n, T, A)
        n, t, a = np.nonzero(best >= 0)
        chosen = true[n, best[n, t, a] % true.shape[1]]
        taken[chosen, t, a] = True
        hit[i[n], t, a] = True
        counted[i[n], t, a] = ~ignored[chosen, a]
    real = np.zeros((num_classes, len(low)), np.int64)
    np.add.at(real, truths.label, ~ignored)
    return Matches(order, rank, hit, counted, real, taken)


def _place_in_run(sorted_keys: Ints) -> Ints:
    """For sorted keys: the place of each among its equals."""
    place = np.arange(len(sorted_keys))
    new = np.ones(len(sorted_keys), bool)
    new[1:] = sorted_keys[1:] != sorted_keys[:-1]
    return place - np.maximum.accumulate(np.where(new, place, 0))


def _pairs(cell: Ints, true_cell: Ints) -> tuple[Ints, Ints]:
    """All pairs of one cell: positions in `cell` `(P,)`, and indices of true objects, in their order."""
    by_cell = np.argsort(true_cell, kind="stable")
    first, last = (np.searchsorted(true_cell[by_cell], cell, side=side) for side in ("left", "right"))
    count = last - first
    who = np.repeat(np.arange(len(cell)), count)
    place = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
    return who, by_cell[first[who] + place]


def _near(cell: Ints, true_cell: Ints, order: Ints, overlaps: Overlaps, least: float) -> tuple[Ints, Ints, Floats]:
    """The pairs that overlap by `least`, sorted by answer, then overlap, then the true object's place."""
    who, which = _pairs(cell, true_cell)
    overlap = overlaps(order[who], which) if len(who) else np.zeros(0)
    near = overlap >= least
    who, which, overlap = who[near], which[near], overlap[near]
    by = np.lexsort((which, overlap, who))
    return who[by], which[by], overlap[by]


def _steps(cell: Ints, who: Ints, which: Ints):
    """Answers that may be placed at the same time: no two of a step share a picture and class.

    Yields positions of answers `(n,)`, rows of their pairs `(n, C)` and true objects `(n, C)`, -1 where there is none.
    """
    if not len(who):
        return
    each, start, count = np.unique(who, return_index=True, return_counts=True)
    turn = _place_in_run(cell[each])
    by_turn = np.argsort(turn, kind="stable")
    for step in np.split(by_turn, np.flatnonzero(np.diff(turn[by_turn])) + 1):
        wide = int(count[step].max())
        for some in np.array_split(step, math.ceil(len(step) * wide * 40 / _BLOCK)):
            column = np.arange(int(count[some].max()))
            real = column < count[some, None]
            row = np.where(real, start[some, None] + column, start[some, None])
            yield each[some], row, np.where(real, which[row], -1)


# Curves ----------------------------------------------------------------------------------------------------------


def curves(
    matches: Matches,
    answers: Answers,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    areas: Sequence[str] = tuple(AREAS),
    limits: Sequence[int] = (1, 10, 100),
    recalls: Sequence[float] = RECALLS,
) -> Curves:
    """Precision at each recall: the best at that recall or beyond; only answers that are right can change it."""
    wanted, num_classes = np.asarray(recalls), len(matches.real)
    shape = (len(thresholds), len(wanted), num_classes, len(areas), len(limits))
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full((shape[0], *shape[2:]), -1.0)
    label, score = answers.label[matches.order], answers.score[matches.order]
    by_class = np.lexsort((-score, label))
    bounds = np.searchsorted(label[by_class], np.arange(num_classes + 1))
    for k in range(num_classes):
        if not matches.real[k].any():
            continue
        rows = by_class[bounds[k] : bounds[k + 1]]
        right = np.ascontiguousarray((matches.hit[rows] & matches.counted[rows]).transpose(1, 2, 0))  # (T, A, n)
        counted = np.ascontiguousarray(matches.counted[rows].transpose(1, 2, 0))
        for m, limit in enumerate(limits):
            some = matches.rank[rows] < limit
            every = bool(some.all())
            hit, valid = (right, counted) if every else (right[..., some], counted[..., some])
            seen, value = np.cumsum(valid, axis=-1, dtype=np.int32), score[rows] if every else score[rows][some]
            for a, real in enumerate(matches.real[k]):
                for t in range(shape[0]) if real else ():
                    column = _curve(hit[t, a], seen[t, a], value, int(real), wanted)
                    precision[t, :, k, a, m], scores[t, :, k, a, m], recall[t, k, a, m] = column
    return Curves(precision, recall, scores, tuple(thresholds), tuple(areas), tuple(limits))


def _curve(
    hit: Flags, seen: NDArray[np.int32], score: Floats, real: int, wanted: Floats
) -> tuple[Floats, Floats, float]:
    """Precision and score at the wanted recalls, and the last recall, of answers sorted by score."""
    at = np.flatnonzero(hit)
    found = np.arange(1, len(at) + 1)
    exact = np.maximum.accumulate((found / (seen[at] + np.spacing(1.0)))[::-1])[::-1]
    place = np.searchsorted(found / real, wanted, side="left")
    inside = place < len(at)
    precision, scores = np.zeros(len(wanted)), np.zeros(len(wanted))
    precision[inside], scores[inside] = exact[place[inside]], score[at[place[inside]]]
    if len(score):
        scores[wanted <= 0] = score[0]  # a recall of 0 is reached by the very first answer, right or wrong
    return precision, scores, len(at) / real


def summary(found: Curves) -> dict[str, float]:
    """The numbers that COCO's program prints, -1 where nothing is true: twelve, or ten for keypoints."""
    sizes = found.areas[1:]
    if len(sizes) < 3:
        ap = {"ap": found.ap(), "ap50": found.ap(0.5), "ap75": found.ap(0.75)}
        ar = {"ar": found.ar(), "ar50": found.ar(threshold=0.5), "ar75": found.ar(threshold=0.75)}
    else:
        ap = {"ap": found.ap(), "ap50": found.ap(0.5), "ap75": found.ap(0.75)}
        ar = {f"ar{limit}": found.ar(limit) for limit in found.limits}
    return {
        **ap,
        **{f"ap_{size}": found.ap(area=size) for size in sizes},
        **ar,
        **{f"ar_{size}": found.ar(area=size) for size in sizes},
    }


# Overlaps --------------------------------------------------------------------------------------------------------


def box_overlaps(answers: Floats, truths: Floats, crowd: Flags) -> Overlaps:
    """Intersection over union of boxes x, y, width, height `(N, 4)` and `(G, 4)`; of a crowd: over the answer's."""

    def overlaps(i: Ints, j: Ints) -> Floats:
        a, b = answers[i], truths[j]
        inner = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        shared = np.where((inner > 0).all(1), inner[:, 0] * inner[:, 1], 0.0)
        own, other = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
        union = np.where(crowd[j], own, own + other - shared)
        return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)

    return overlaps


def mask_overlaps(answers: Sequence[Any], truths: Sequence[Any], crowd: Flags) -> Overlaps:
    """The same of masks in COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
    from pycocotools import mask as coco

    def overlaps(i: Ints, j: Ints) -> Floats:
        found = np.zeros(len(i))
        edges = np.flatnonzero(np.diff(i, prepend=-1, append=-1))
        for start, stop in pairwise(edges):
            some = j[start:stop]
            found[start:stop] = coco.iou([answers[i[start]]], [truths[k] for k in some], crowd[some].tolist())[0]
        return found

    return overlaps


def mask_areas(masks: Sequence[Any]) -> Floats:
    """Pixels of masks in COCO's compressed run lengths; one at a time, for pycocotools fails on lists above 255."""
    from pycocotools import mask as coco

    return np.array([coco.area(mask) for mask in masks], np.float64)


def keypoint_overlaps(
    answers: Floats, truths: Floats, boxes: Floats, areas: Floats, sigmas: Sequence[float] = SIGMAS
) -> Overlaps:
    """Object keypoint similarity of `(N, J, 2+)` and `(G, J, 3)` (x, y, visible); boxes `(G, 4)` x, y, width, height.

    The mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2)); of a person without labelled joints, d is how far
    an answer's joint lies outside the box enlarged to three times its size.
    """
    spread = (np.asarray(sigmas) * 2) ** 2

    def overlaps(i: Ints, j: Ints) -> Floats:
        a, b = answers[i, :, :2], truths[j]
        seen: Flags = np.asarray(b[:, :, 2] > 0, bool)
        some: Flags = np.asarray(seen.any(1), bool)
        corner, side = boxes[j, None, :2], boxes[j, None, 2:]
        outside = np.maximum(0, corner - side - a) + np.maximum(0, a - (corner + side * 2))
        d = np.where(some[:, None, None], a - b[:, :, :2], outside)
        e = (d**2).sum(-1) / spread / (areas[j, None] + np.spacing(1.0)) / 2
        used = seen | ~some[:, None]
        return np.where(used, np.exp(-e), 0.0).sum(1) / used.sum(1)

    return overlaps


# Other rules -----------------------------------------------------------------------------------------------------


def voc_ap(
    truths: Truths,
    answers: Answers,
    true_boxes: Floats,
    boxes: Floats,
    *,
    num_classes: int,
    threshold: float = 0.5,
    eleven_points: bool = False,
    plus_one: bool = False,
) -> Floats:
    """PASCAL VOC's average precision of every class, `(K,)`, NaN where nothing is true. Boxes: x0, y0, x1, y1.

    An answer belongs to the true box that it overlaps most, by more than `threshold`, taken or not: the first one is
    right, later ones are wrong; at a difficult box (`truths.ignore`) it counts neither way. eleven_points: precision at
    the recalls 0, 0.1 ... 1 (VOC 2007), else the whole area below the envelope. plus_one: sides are x1 - x0 + 1, as the
    development kit and py-faster-rcnn count them.
    """
    extra = float(plus_one)
    cell, true_cell = answers.picture * num_classes + answers.label, truths.picture * num_classes + truths.label
    who, which = _pairs(cell, true_cell)
    a, b = boxes[who], true_boxes[which]
    inner = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + extra, 0).prod(1)
    own, other = ((x[:, 2:] - x[:, :2] + extra).prod(1) for x in (a, b))
    overlap = inner / np.maximum(own + other - inner, np.finfo(np.float64).tiny)
    by = np.lexsort((-which, overlap, who))  # the last of an answer is its best; of equal ones the first true box
    last = by[np.flatnonzero(np.diff(who[by], append=-1))]
    best, chosen = np.zeros(len(cell)), np.zeros(len(cell), np.int64)
    best[who[last]], chosen[who[last]] = overlap[last], which[last]

    found = np.full(num_classes, np.nan)
    for k in range(num_classes):
        real = int((~truths.ignore[truths.label == k]).sum())
        if not real:
            continue
        rows = np.flatnonzero(answers.label == k)
        rows = rows[np.argsort(-answers.score[rows], kind="stable")]
        near = best[rows] > threshold
        counted = ~(near & truths.ignore[chosen[rows]]) if len(truths.ignore) else np.ones(len(rows), bool)
        rows, near = rows[counted], near[counted]
        first = np.zeros(len(rows), bool)
        at = np.flatnonzero(near)
        first[at[np.unique(chosen[rows[at]], return_index=True)[1]]] = True
        found[k] = _area(np.cumsum(first) / real, np.cumsum(first) / np.arange(1, len(rows) + 1), eleven_points)
    return found


def _area(recall: Floats, precision: Floats, eleven_points: bool) -> float:
    if eleven_points:
        points = np.arange(0.0, 1.1, 0.1)
        return float(sum(precision[recall >= p].max(initial=0.0) for p in points) / 11)
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float((np.diff(recall) * envelope[1:]).sum())


def challenge_score(overlap: Floats, thresholds: Sequence[float] = THRESHOLDS) -> Floats:
    """The rule of the 2018 Data Science Bowl for one picture: TP / (TP + FP + FN) at each threshold, `(T,)`.

    overlap: `(N, G)` of answers, best first, with true objects of one kind. An answer is right when it overlaps a true
    object that no better answer has by more than the threshold. Nothing to find and nothing found: 1.
    """
    count, real = overlap.shape
    found = np.ones(len(thresholds))
    for t, threshold in enumerate(thresholds):
        free, right = np.ones(real, bool), 0
        for row in overlap:
            open_ = np.where(free, row, -1.0)
            if real and open_.max() > threshold:
                free[open_.argmax()] = False
                right += 1
        total = count + real - right
        if total:
            found[t] = right / total
    return found
