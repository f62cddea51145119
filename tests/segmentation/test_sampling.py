"""Windows around classes and U-Net's weights, against loops; both reach the samples that are trained on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, MaskFile, Picture, PixelRecord
from sightline.errors import UsageError
from sightline.segmentation.sampling import apart, border_weights, window_with_class
from sightline.segmentation.targets import Augment, Samples, collate


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 6)] * 3)),
    side=st.integers(1, 14),
    planes=st.booleans(),
)
def test_a_window_holds_a_pixel_of_a_class(seed: int, shape: tuple[int, ...], side: int, planes: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < 0.1, rng.choice([1, 2, 255], shape), 0).astype(np.uint8)
    if planes:
        labels = np.stack([labels == 1, labels == 2]).astype(np.uint8)
    start = window_with_class(labels, (side,) * len(shape), rng)
    wanted = (labels == 1) | ((labels == 2) & (not planes))
    if not wanted.any():
        assert start is None
        return
    assert start is not None
    for first, have in zip(start, shape):
        assert min(0, have - side) <= first <= max(0, have - side)
    inside = tuple(slice(max(0, first), first + side) for first in start)
    assert wanted[(..., *inside)].any()


def test_rare_classes_are_drawn_as_often_as_frequent_ones() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[:, :30] = 1
    labels[50, 50] = 2
    rng = np.random.default_rng(0)
    starts = [window_with_class(labels, (6, 6), rng) for _ in range(400)]
    rare = sum(s[0] <= 50 < s[0] + 6 and s[1] <= 50 < s[1] + 6 for s in starts)  # pyright: ignore
    assert 150 < rare < 250


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(8, 9), (3, 5, 6)]))
def test_border_weights_equal_a_search_of_all_pixels(seed: int, shape: tuple[int, ...]) -> None:
    labels = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.12).long()
    found = border_weights(labels, w0=7.0, sigma=2.0)
    objects: list[set[tuple[int, ...]]] = []
    for at in map(tuple, labels.nonzero().tolist()):
        touching = [o for o in objects if any(sum(abs(a - b) for a, b in zip(at, q)) == 1 for q in o)]
        objects = [o for o in objects if o not in touching] + [{at}.union(*touching)]
    for at in np.ndindex(shape):
        nearest = sorted(min(math.dist(at, q) for q in o) for o in objects)
        expected = 1.0
        if not labels[at] and len(nearest) > 1:
            expected += 7 * math.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * 2.0**2))
        assert found[at].item() == pytest.approx(expected, abs=7 / 2900)


def test_objects_that_touch_are_set_apart() -> None:
    objects = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 3, 3, 0]])
    found = apart((objects > 0).astype(np.uint8), objects)
    assert found.tolist() == [[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]]


@pytest.fixture
def cells(tmp_path: Path) -> DataSet:
    """A picture of two cells that touch, numbered, far from the middle of a large empty field."""
    objects = np.zeros((64, 64), np.uint16)
    objects[2:8, 2:6], objects[2:8, 6:10] = 1, 2
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(objects).save(tmp_path / "mask.png")
    record = PixelRecord("a.png", Picture(tmp_path / "a.png"), MaskFile(tmp_path / "mask.png", foreground=True))
    return DataSet(tmp_path, "instances", (record,), ("cell",))


def test_samples_carry_weights_and_look_where_cells_are(cells: DataSet) -> None:
    augment = Augment(crop=(16, 16), foreground=1.0, border_weight=10.0, border_sigma=3.0)
    samples = Samples(cells, preprocess=Preprocess(), seed=0, augment=augment)
    drawn = [samples[epoch, 0] for epoch in range(8)]
    assert all((s.labels == 1).any() for s in drawn)
    batch = collate(drawn)
    assert batch.targets.weights.shape == (8, 16, 16) and batch.targets.weights.max() > 8
    gap = batch.targets.weights[batch.targets.labels == 1]
    assert (gap == 1).all()
    plain = Samples(cells, preprocess=Preprocess(), seed=0, augment=Augment(crop=(16, 16)))
    assert collate([plain[0, 0]]).targets.weights is None
    assert sum((plain[epoch, 0].labels == 1).any().item() for epoch in range(8)) < 8
    with pytest.raises(UsageError, match="classes that do not overlap"):
        augment.weights(torch.zeros(2, 4, 4))
    with pytest.raises(UsageError, match=r"augment.foreground 2 must be a number from 0 to 1"):
        Augment(foreground=2)
