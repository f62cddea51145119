"""ASLAN: are two videos of the same action? Lists of pairs, twelve similarities, the protocol of ten splits.

Kliper-Gross, Hassner & Wolf, The Action Similarity Labeling Challenge (2012). 3,697 clips, `train_pairs.mat`,
`test_pairs.mat` (view 1) and `View2.mat` (ten splits of 600 pairs, whose classes do not overlap). The data's page calls
the combination of similarities "12-sim" and names two of them (sum of products, sum of square roots of products); the
other ten are the usual companions and no official list: `SIMILARITIES` may be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError, UsageError
from sightline.media.door import reading
from sightline.ops.linear_svm import linear_svm

EPS = 1e-12


@dataclass(frozen=True)
class Pair:
    """Two clips by number (from 1), and whether they show the same action."""

    first: int
    second: int
    same: bool


def read_pairs(path: str | Path) -> list[list[Pair]]:
    """The splits of a `.mat` file: one of `train_pairs`, `test_pairs`, ten of `View2`."""
    from scipy.io import loadmat

    with reading(path, "MATLAB file"):
        content = loadmat(path)
        tables = [v for k, v in content.items() if k[0] != "_" and getattr(v, "ndim", 0) in (2, 3) and v.shape[1] == 5]
        if not tables:
            raise SightlineError(f"{path} holds no table of pairs: expected (N, 5) or (N, 5, 10); download it again")
        table = tables[0] if tables[0].ndim == 3 else tables[0][..., None]
        if not np.isin(table[:, 2], (0, 1)).all():
            raise SightlineError(f"{path}: its third column must be 1 (same) or 0; download it again")
        return [[Pair(int(a), int(b), bool(same)) for a, b, same in table[:, :3, k]] for k in range(table.shape[2])]


def _roots(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(x, 0))


SIMILARITIES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "product": lambda a, b: float(a @ b),
    "root_of_product": lambda a, b: float(np.sqrt(max(a @ b, 0))),
    "product_of_roots": lambda a, b: float(_roots(a * b).sum()),
    "root_of_product_of_roots": lambda a, b: float(np.sqrt(_roots(a * b).sum())),
    "squares": lambda a, b: float(((a - b) ** 2).sum()),
    "distance": lambda a, b: float(np.sqrt(((a - b) ** 2).sum())),
    "absolute": lambda a, b: float(np.abs(a - b).sum()),
    "root_of_absolute": lambda a, b: float(np.sqrt(np.abs(a - b).sum())),
    "squares_of_roots": lambda a, b: float(((_roots(a) - _roots(b)) ** 2).sum()),
    "hellinger": lambda a, b: float(np.sqrt(((_roots(a) - _roots(b)) ** 2).sum())),
    "chi_square": lambda a, b: float(((a - b) ** 2 / (np.abs(a) + np.abs(b) + EPS)).sum()),
    "shared": lambda a, b: float(np.minimum(a, b).sum() / (np.maximum(a, b).sum() + EPS)),
}
"""Twelve similarities of two descriptors that are not negative (features after a ReLU, probabilities)."""


def similarities(
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    which: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = SIMILARITIES,
) -> np.ndarray:
    """Each similarity of each descriptor of two videos (C3D: prob, fc7, fc6, pool5), one after the other."""
    if len(a) != len(b):
        raise UsageError(f"{len(a)} and {len(b)} descriptors: both videos need the same ones")
    return np.array([value(x, y) for x, y in zip(a, b) for value in which.values()])


@dataclass(frozen=True)
class Verification:
    """Accuracy: mean over the splits; error: its standard error; auc: of all splits' answers pooled."""

    accuracy: float
    error: float
    auc: float


def verify(splits: Sequence[tuple[np.ndarray, np.ndarray]], *, c: float = 1.0) -> Verification:
    """Leave one split out: `(features (N, D), same (N,))` of each; a linear machine on features of unit spread."""
    if len(splits) < 2:
        raise UsageError(f"{len(splits)} splits: at least two are needed to leave one out")
    right, scores, truth = [], [], []
    for k, (x, same) in enumerate(splits):
        learn = np.concatenate([s[0] for i, s in enumerate(splits) if i != k])
        known = np.concatenate([s[1] for i, s in enumerate(splits) if i != k])
        mean, std = learn.mean(0), learn.std(0) + EPS
        weights, bias = linear_svm((learn - mean) / std, known.astype(int), c=c)
        found = (x - mean) / std @ weights[1] + bias[1]
        right.append(float(((found > 0) == same).mean()))
        scores.append(found)
        truth.append(np.asarray(same, bool))
    error = float(np.std(right) / np.sqrt(len(right)))
    return Verification(float(np.mean(right)), error, area(np.concatenate(scores), np.concatenate(truth)))


def area(scores: np.ndarray, truth: np.ndarray) -> float:
    """The area under the ROC curve: how often a true pair scores above a false one; ties count half."""
    from scipy.stats import rankdata

    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        raise UsageError("an area needs pairs of both kinds")
    return float((rankdata(scores)[truth].sum() - yes * (yes + 1) / 2) / (yes * no))
