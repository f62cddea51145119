"""ASLAN's pairs, similarities and protocol, by hand and on made-up descriptors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.aslan import SIMILARITIES, Pair, area, read_pairs, similarities, verify
from sightline.errors import SightlineError


def test_pairs_of_a_matlab_file(tmp_path: Path) -> None:
    from scipy.io import savemat

    table = np.array([[1, 2, 1, 5, 5], [3, 4, 0, 5, 6]])
    savemat(tmp_path / "train_pairs.mat", {"train_pairs": table})
    savemat(tmp_path / "View2.mat", {"action_splits_pairs": np.stack([table, table[::-1]], -1)})
    assert read_pairs(tmp_path / "train_pairs.mat") == [[Pair(1, 2, True), Pair(3, 4, False)]]
    assert read_pairs(tmp_path / "View2.mat")[1][0] == Pair(3, 4, False)
    savemat(tmp_path / "bad.mat", {"x": np.zeros((3, 4))})
    with pytest.raises(SightlineError, match="no table of pairs"):
        read_pairs(tmp_path / "bad.mat")


def test_twelve_similarities_by_hand() -> None:
    a, b = np.array([1.0, 4.0]), np.array([4.0, 4.0])
    found = dict(zip(SIMILARITIES, similarities([a], [b]), strict=True))
    assert len(found) == 12
    assert found["product"] == 20 and found["product_of_roots"] == 6 and found["squares"] == 9
    assert found["distance"] == 3 and found["absolute"] == 3 and found["squares_of_roots"] == 1
    assert found["chi_square"] == pytest.approx(9 / 5) and found["shared"] == pytest.approx(5 / 8)
    assert len(similarities([a, a], [b, b])) == 24


def test_area_and_protocol() -> None:
    assert area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert area(np.zeros(4), np.array([True, False, True, False])) == 0.5
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(4):
        same = rng.random(60) < 0.5
        first = np.abs(rng.normal(size=(60, 8)))
        second = np.where(same[:, None], first + 0.2 * rng.normal(size=(60, 8)), np.abs(rng.normal(size=(60, 8))))
        splits.append((np.stack([similarities([x], [np.abs(y)]) for x, y in zip(first, second)]), same))
    found = verify(splits)
    assert found.accuracy > 0.9 and found.auc > 0.95 and 0 <= found.error < 0.05
