"""Scores that look at more than counts: surfaces, and regions between borders. Gathered a picture at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.segmentation.contract import IGNORE
from sightline.segmentation.instances import BORDERS
from sightline.segmentation.segments import regions, thinned, v_info, v_rand
from sightline.segmentation.surface_scores import NAMES, surface_scores

SURFACE = ("hd95", "assd", "surface_dice", "boundary_f1")
RAND = ("v_rand", "v_info")
MEASURES = (*SURFACE, *RAND, "ece")
"""What an evaluation can be asked for besides the scores of counts."""


class Surfaces:
    """Surface scores of every class of every picture. Ignored pixels belong to no class, in labels and answers."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.scored = [k for k, name in enumerate(classes) if name != "background"]
        self.count = len(classes)
        self.rows: list[NDArray[np.float64]] = []  # (K, scores) of every picture
        self.missing = 0

    def update(self, prediction: Tensor, labels: Tensor, spacing: Sequence[float] | None = None) -> None:
        """Measure one picture or volume."""
        prediction, labels = prediction.cpu(), labels.cpu()
        valid = labels != IGNORE
        row = np.full((self.count, len(NAMES)), np.nan)
        for k in self.scored:
            said, true = (prediction == k) & valid, labels == k
            self.missing += bool(said.any()) != bool(true.any())
            found = surface_scores(said, true, spacing=spacing)
            row[k] = [getattr(found, name) for name in NAMES]
        self.rows.append(row)

    def merge(self, other: Surfaces) -> None:
        """Add what another process measured."""
        self.rows += other.rows
        self.missing += other.missing

    @property
    def tables(self) -> dict[str, NDArray[np.float64]]:
        """Every score as `(I, K)`, NaN (or infinite) where it does not exist."""
        stacked = np.stack(self.rows) if self.rows else np.zeros((0, self.count, len(NAMES)))
        return {name: stacked[:, :, n] for n, name in enumerate(NAMES)}

    @property
    def means(self) -> dict[str, float]:
        """The mean of every score over all (picture, class) pairs that have one, and how many had one side only."""
        found = {name: _mean(table.ravel()) for name, table in self.tables.items()}
        return found | {"surface_missing": float(self.missing)}

    @property
    def per_class(self) -> dict[str, list[float]]:
        """The mean of every score over the pictures, a class."""
        return {name: [_mean(column) for column in table.T] for name, table in self.tables.items()}


class Rand:
    """V-Rand and V-Info of the regions between borders: the mean over pictures, the best over thresholds.

    The border is the class that is called so (membrane, boundary, border, edge), else class 0. Its probability is
    compared with thresholds; the regions of the rest grow over it until they touch (each pixel to the nearest).
    """

    THRESHOLDS = tuple(k / 10 for k in range(1, 10))

    def __init__(self, classes: Sequence[str]) -> None:
        self.border = next((k for k, name in enumerate(classes) if name.lower() in BORDERS), 0)
        self.pictures: list[NDArray[np.float64]] = []  # (thresholds or 1, 2)

    def update(self, prediction: Tensor, labels: Tensor, probabilities: Tensor | None = None) -> None:
        """Compare one picture; without probabilities the answer itself is the only threshold."""
        true = labels.cpu().numpy()
        truth = torch.from_numpy(regions((true != self.border) & (true != IGNORE)))
        if probabilities is None:
            border = (prediction.cpu().numpy() == self.border).astype(np.float64)
            cuts: Sequence[float] = (0.5,)
        else:
            p = probabilities.detach().cpu().double().numpy()
            border = p[self.border] if len(p) > 1 else (1 - p[0] if self.border == 0 else p[0])
            cuts = self.THRESHOLDS
        rows = []
        for cut in cuts:
            found = torch.from_numpy(thinned(border < cut))
            rows.append((v_rand(found, truth), v_info(found, truth)))
        self.pictures.append(np.array(rows))

    def merge(self, other: Rand) -> None:
        """Add what another process compared."""
        self.pictures += other.pictures

    @property
    def best(self) -> dict[str, float]:
        """`v_rand` and `v_info` at the threshold that is best for each, over all pictures."""
        if not self.pictures:
            return dict.fromkeys(RAND, float("nan"))
        most = max(len(rows) for rows in self.pictures)
        table = np.stack([np.broadcast_to(rows, (most, 2)) for rows in self.pictures])
        means = [[_mean(table[:, cut, n]) for cut in range(most)] for n in range(2)]
        return {
            name: float(np.nanmax(row)) if not np.isnan(row).all() else float("nan") for name, row in zip(RAND, means)
        }


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
