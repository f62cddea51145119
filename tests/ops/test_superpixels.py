"""Felzenszwalb's regions against the algorithm written with sets, and their means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sightline.errors import UsageError
from sightline.ops.superpixels import felzenszwalb, mean_of_regions


def with_sets(image: np.ndarray, scale: float, smallest: int) -> np.ndarray:
    """The paper's steps, regions as sets of pixels."""
    height, width = image.shape[:2]
    edges = []
    for order, (dy, dx) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    ends = ((y, x), (y + dy, x + dx))
                    if (dy, dx) == (1, -1):  # ties are taken in order of the upper left pixel
                        ends = ((y, x), (y + 1, x - 1))
                    difference = image[ends[0]] - image[ends[1]]
                    edges.append((float(np.sqrt((difference**2).sum())), order, y, x, ends))
    edges.sort(key=lambda e: e[:4])
    region = {(y, x): frozenset([(y, x)]) for y in range(height) for x in range(width)}
    inside = dict.fromkeys(region.values(), 0.0)
    passed = []
    for weight, _, _, _, (a, b) in edges:
        one, other = region[a], region[b]
        if one == other:
            continue
        if weight <= min(inside[one] + scale / len(one), inside[other] + scale / len(other)):
            inside[one | other] = weight
            region |= dict.fromkeys(one | other, one | other)
        else:
            passed.append((a, b))
    for a, b in passed:
        one, other = region[a], region[b]
        if one != other and min(len(one), len(other)) < smallest:
            region |= dict.fromkeys(one | other, one | other)
    numbers: dict[frozenset, int] = {}
    return np.array([[numbers.setdefault(region[y, x], len(numbers)) for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("scale", "smallest"), [(50.0, 1), (300.0, 4), (1000.0, 1)])
def test_regions_are_those_of_the_paper(seed: int, scale: float, smallest: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    found = felzenszwalb(image, scale=scale, sigma=0.8, smallest=smallest)
    smooth = gaussian_filter(image.astype(np.float64), (0.8, 0.8, 0), mode="nearest")
    assert 1 <= found.max() + 1 < 99
    assert (found == with_sets(smooth, scale, smallest)).all()


def test_regions_follow_edges() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 13:] = 200
    image[5:9, 20:24] = 90
    found = felzenszwalb(image, sigma=0, smallest=1)
    assert found.dtype == np.int64 and found.max() == 2
    expected = np.zeros((20, 30), int)
    expected[:, 13:] = 1
    expected[5:9, 20:24] = 2
    assert (found == expected).all()
    assert felzenszwalb(image, sigma=0, smallest=17).max() == 1  # sixteen pixels are too few
    assert felzenszwalb(np.zeros((1, 1, 1)), smallest=5).tolist() == [[0]]


def test_means_of_regions() -> None:
    values = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    regions = torch.tensor([[0, 0, 1], [1, 1, 2]])
    assert mean_of_regions(values, regions).tolist() == [[[1.5, 1.5, 4.0], [4.0, 4.0, 6.0]]]


def test_what_cannot_be_cut() -> None:
    with pytest.raises(UsageError, match="a scale above 0"):
        felzenszwalb(np.zeros((3, 3, 3)), scale=0)
    with pytest.raises(UsageError, match=r"expected \(H, W, C\)"):
        felzenszwalb(np.zeros((3, 3)))
