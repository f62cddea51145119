"""The sliding window learns an outline, is harder on what fooled it, and finds objects of another size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.detection.hog_svm import HogSvm, fit, machine
from sightline.errors import UsageError
from sightline.ops.boxes import iou
from sightline.ops.hog import descriptor, hog_blocks

WINDOW = (32, 32)


def scene(seed: int, side: int = 24, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A bright ring among bars of the same brightness, and the ring's box."""
    random = np.random.default_rng(seed)
    image = random.integers(60, 80, (size, size)).astype(np.float64)
    for _ in range(4):
        x, y = random.integers(0, size - 20, 2)
        image[y : y + 4, x : x + 20] = 200
    left, top = random.integers(4, size - side - 4, 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    far = np.hypot(rows - top - side / 2, columns - left - side / 2)
    image[(far < side / 2) & (far > side / 2 - side / 6)] = 220
    return image.astype(np.uint8), np.array([[left, top, left + side, top + side]], float)


@pytest.fixture(scope="module")
def detector() -> HogSvm:
    pictures, boxes = zip(*(scene(i) for i in range(12)))
    return fit(pictures, boxes, window=WINDOW, context=0.75, c=0.1)


@pytest.mark.parametrize("side", [24, 40])
def test_rings_are_found_at_their_size(detector: HogSvm, side: int) -> None:
    good = 0
    for seed in range(50, 56):
        image, box = scene(seed, side)
        found = detector.detect(image, score=-1.0)
        assert bool(((found.scores >= 0) & (found.scores <= 1)).all()) and bool((found.scores.diff() <= 0).all())
        good += int(len(found) and float(iou(found.boxes[:1], torch.from_numpy(box))) > 0.5)
    assert good >= 4


def test_margins_of_the_slide_are_those_of_each_window(detector: HogSvm) -> None:
    image, _ = scene(99)
    places, margins = detector.slide(image)
    blocks = hog_blocks(image)
    for (top, left), margin in list(zip(places, margins))[::17]:
        window = descriptor(blocks, top // 8, left // 8, (3, 3))
        assert margin == pytest.approx(float(window @ detector.weights + detector.bias), abs=1e-4)


def test_the_machine_separates_and_is_as_wide_as_it_can() -> None:
    right, wrong = [np.array([2.0, 0.3]), np.array([2.0, -0.3])], [np.array([0.0, 0.3]), np.array([0.0, -0.3])]
    weights, bias = machine(right, wrong, 1e4)
    assert weights == pytest.approx([1.0, 0.0], abs=1e-2) and bias == pytest.approx(-1.0, abs=1e-2)


def test_what_cannot_be_learned_is_refused() -> None:
    image, box = scene(0)
    with pytest.raises(UsageError, match="both are needed"):
        fit([image], [box[:0]], window=WINDOW)
    with pytest.raises(UsageError, match="multiples of 8"):
        fit([image], [box], window=(30, 32))
