"""Deformable parts' cells and the generalised distance transform, against slow loops and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.ops.distance_transform import best_nearby
from sightline.ops.hog import MIRRORED, hog_32


def slow_cells(image: np.ndarray, cell: int) -> np.ndarray:
    """The 32 numbers of every inner cell, a pixel at a time."""
    rows, columns = (int(n / cell + 0.5) for n in image.shape[:2])
    votes = np.zeros((rows, columns, 18))
    height, width = min(image.shape[0], rows * cell), min(image.shape[1], columns * cell)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            slopes = [
                (image[y, x + 1, c] - image[y, x - 1, c], image[y + 1, x, c] - image[y - 1, x, c])
                for c in range(image.shape[2])
            ]
            dx, dy = max(slopes, key=lambda s: s[0] ** 2 + s[1] ** 2)
            along = [dx * np.cos(o * np.pi / 9) + dy * np.sin(o * np.pi / 9) for o in range(18)]
            direction, slope = int(np.argmax(along)), np.hypot(dx, dy)
            at_y, at_x = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
            for i in (int(np.floor(at_y)), int(np.floor(at_y)) + 1):
                for j in (int(np.floor(at_x)), int(np.floor(at_x)) + 1):
                    if 0 <= i < rows and 0 <= j < columns:
                        votes[i, j, direction] += slope * (1 - abs(at_y - i)) * (1 - abs(at_x - j))
    found = np.zeros((rows - 2, columns - 2, 32))
    energy = ((votes[..., :9] + votes[..., 9:]) ** 2).sum(-1)
    for i in range(rows - 2):
        for j in range(columns - 2):
            own = votes[i + 1, j + 1]
            numbers = []
            for a, b in ((1, 1), (0, 1), (1, 0), (0, 0)):
                numbers.append(1 / np.sqrt(energy[i + a : i + a + 2, j + b : j + b + 2].sum() + 1e-4))
            found[i, j, :18] = [sum(min(v * n, 0.2) for n in numbers) / 2 for v in own]
            found[i, j, 18:27] = [sum(min((own[o] + own[o + 9]) * n, 0.2) for n in numbers) / 2 for o in range(9)]
            found[i, j, 27:31] = [0.2357 * sum(min(v * n, 0.2) for v in own) for n in numbers]
    return found


@pytest.mark.parametrize(("size", "cell", "channels"), [((24, 32), 8, 3), ((21, 18), 4, 1)])
def test_cells_against_a_slow_reference(size: tuple[int, int], cell: int, channels: int) -> None:
    image = np.random.default_rng(0).random((*size, channels)) * 255
    assert hog_32(image, cell=cell) == pytest.approx(slow_cells(image, cell), abs=1e-5)


def test_a_mirrored_picture_has_mirrored_cells() -> None:
    image = np.random.default_rng(1).random((40, 48, 3)) * 255
    there, here = hog_32(np.ascontiguousarray(image[:, ::-1])), hog_32(image)
    assert there == pytest.approx(here[:, ::-1][..., MIRRORED], abs=1e-5)


def test_an_even_picture_and_one_that_is_too_small() -> None:
    assert not hog_32(np.full((32, 32, 3), 9, np.uint8)).any()
    assert hog_32(np.zeros((17, 9, 3), np.uint8)).size == 0


def test_the_distance_transform_against_a_slow_reference() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 5, 7, generator=random)
    costs = torch.tensor([[0.1, 0.0, 0.1, 0.0], [0.3, -0.5, 0.02, 0.4], [2.0, 0.0, 0.0, 0.0]])
    rows, columns = torch.tensor([[0, 2, 4]] * 3), torch.tensor([[1, 3], [0, 6], [2, 5]])
    best, y, x = best_nearby(scores, costs, rows, columns)
    for f in range(3):
        a, b, c, d = costs[f].tolist()
        for i, q in enumerate(rows[f].tolist()):
            for j, p in enumerate(columns[f].tolist()):
                values = {
                    (m, n): float(scores[f, m, n]) - a * (n - p) ** 2 - b * (n - p) - c * (m - q) ** 2 - d * (m - q)
                    for m in range(5)
                    for n in range(7)
                }
                place = max(values, key=values.__getitem__)
                assert float(best[f, i, j]) == pytest.approx(values[place], abs=1e-5)
                assert (int(y[f, i, j]), int(x[f, i, j])) == place


def test_a_single_peak_is_a_cone_turned_over() -> None:
    scores = torch.full((1, 1, 5), -100.0)
    scores[0, 0, 2] = 4.0
    best, _, x = best_nearby(scores, torch.tensor([[1.0, 0, 1, 0]]), torch.tensor([[0]]), torch.arange(5)[None])
    assert best[0, 0].tolist() == [0.0, 3.0, 4.0, 3.0, 0.0] and set(x.flatten().tolist()) == {2}
