"""Selective Search finds the boxes of what stands out, joins the most alike first, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.detection.selective_search import (
    Likeness,
    described,
    hsv_bytes,
    joined,
    lab_bytes,
    selective_search,
    slopes,
    steepness,
)
from sightline.errors import UsageError
from sightline.ops.boxes import iou

BOXES = [[10, 8, 40, 30], [50, 30, 80, 70], [8, 50, 30, 76]]


def picture() -> np.ndarray:
    random = np.random.default_rng(0)
    image = np.full((80, 90, 3), (90, 120, 90), np.uint8)
    for (x0, y0, x1, y1), colour in zip(BOXES, ((200, 40, 40), (40, 60, 220), (230, 220, 60))):
        image[y0:y1, x0:x1] = colour
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["fast", pytest.param("quality", marks=pytest.mark.slow)])
def test_what_stands_out_has_a_box(mode: str) -> None:
    found = selective_search(picture(), mode=mode)
    best = iou(torch.tensor(BOXES).float(), torch.from_numpy(found).float()).amax(1)
    assert bool((best > 0.8).all()), best
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found >= 0).all() and (found[:, 2] <= 90).all() and (found[:, 3] <= 80).all()
    assert [0, 0, 90, 80] in found.tolist()


def test_same_seed_same_order_and_small_ones_left_out() -> None:
    a, b, c = (
        selective_search(picture(), seed=1),
        selective_search(picture(), seed=1),
        selective_search(picture(), seed=2),
    )
    assert np.array_equal(a, b) and {*map(tuple, a)} == {*map(tuple, c)}
    large = selective_search(picture(), smallest=25)
    assert len(large) < len(a) and ((large[:, 2:] - large[:, :2]) >= 25).all()


def stripes() -> tuple[np.ndarray, np.ndarray]:
    """Three stripes, the right two nearly alike, and their labels."""
    image = np.zeros((6, 9, 3), np.uint8)
    image[:, 3:6], image[:, 6:] = 200, 198
    return image, np.repeat([[0, 1, 2]], 6, axis=0).repeat(3, axis=1)


def test_the_most_alike_join_first() -> None:
    image, labels = stripes()
    regions = described(image, slopes(image), labels)
    assert regions.pairs.tolist() == [[0, 1], [1, 2]] and regions.size.tolist() == [18] * 3
    assert np.allclose(regions.colour.sum(0), 1) and np.allclose(regions.texture.sum(0), 1)
    boxes = list(joined(regions, ("colour", "fill", "texture", "size"), 54))
    assert boxes[:3] == [((0, 0, 3, 6), 1), ((3, 0, 6, 6), 1), ((6, 0, 9, 6), 1)]
    assert boxes[3:] == [((3, 0, 9, 6), 2), ((0, 0, 9, 6), 3)]


def test_likeness_is_that_of_the_paper() -> None:
    """The sums of section 3.2 written out, before and after two regions are joined."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (12, 15, 3), np.uint8)
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((6, 8), int))[:, :15]
    regions = described(image, slopes(image), labels)
    alike = Likeness(regions, ("colour", "fill", "texture", "size"), 180)

    def wanted(one: np.ndarray, other: np.ndarray) -> float:
        sums = [
            sum(
                np.minimum(*(np.histogram(values[m][:, c], bins, (0, 256))[0] / m.sum() for m in (one, other))).sum()
                for c in range(values.shape[2])
            )
            / values.shape[2]
            for values, bins in ((image, 25), (slopes(image), 10))
        ]
        rows, columns = np.nonzero(one | other)
        around = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        both = one.sum() + other.sum()
        return (sum(sums) + 1 - (around - both) / 180 + 1 - both / 180) / 4

    at = np.array([0, 1])
    assert alike.between(at, np.array([1, 2])) == pytest.approx(
        [wanted(labels == 0, labels == 1), wanted(labels == 1, labels == 2)], abs=1e-6
    )
    assert alike.join(3, 1) == 1
    assert alike.between(at[:1], at[1:]) == pytest.approx([wanted(labels == 0, labels % 2 == 1)], abs=1e-6)


def test_colours_are_the_known_ones() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]]])
    assert hsv_bytes(rgb)[0].tolist() == [
        [0, 255, 255], [60, 255, 255], [120, 255, 255], [0, 0, 255], [0, 0, 0], [0, 0, 128]
    ]  # fmt: skip
    assert lab_bytes(rgb)[0].tolist() == [
        [136, 208, 195], [224, 42, 211], [82, 207, 20], [255, 128, 128], [0, 128, 128], [137, 128, 128]
    ]  # fmt: skip


def test_turned_there_and_back_a_smooth_picture_keeps_its_slopes() -> None:
    y, x = np.mgrid[:40, :50]
    plane = (2 * x + 3 * y).astype(np.uint8)
    found = slopes(plane[..., None]).astype(int)
    assert found.shape == (40, 50, 8)
    inner = found[15:25, 20:30]
    assert np.ptp(inner[..., 0]) <= 1  # across: even everywhere
    assert np.ptp(steepness(plane, 1)[1:-1, 1:-1]) == 0 and steepness(plane, 1)[5, 5] == 16 * 2 * 2
    assert steepness(plane, 0)[5, 5] == 16 * 2 * 3


def test_flat_pictures_have_one_box() -> None:
    assert selective_search(np.full((30, 40, 3), 77, np.uint8)).tolist() == [[0, 0, 40, 30]]


def test_pictures_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="bytes"):
        selective_search(np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match="fast, quality"):
        selective_search(picture(), mode="slow")  # pyright: ignore[reportArgumentType]
