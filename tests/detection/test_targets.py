"""Augmentation moves boxes with the pixels under them; lists are padded; a sample depends on its ticket alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Thing
from sightline.detection.contract import PADDING
from sightline.detection.targets import Augment, Objects, Samples, collate, in_window, mirrored, turned
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image


def painted(height: int = 60, width: int = 80) -> tuple[torch.Tensor, Objects]:
    """A dark picture with two bright rectangles, and their boxes."""
    image = torch.zeros(3, height, width)
    boxes = torch.tensor([[10.0, 12, 30, 40], [44, 6, 70, 24]])
    for k, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        image[k, y0:y1, x0:x1] = 1
    return image, Objects(boxes, torch.tensor([0, 1]), torch.zeros(2).bool())


def edges(plane: torch.Tensor) -> list[float]:
    """Where a bright rectangle lies, x0, y0, x1, y1."""
    rows, columns = (plane > 0.5).any(1).nonzero()[:, 0], (plane > 0.5).any(0).nonzero()[:, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def test_mirror_and_turn_move_boxes_with_their_pixels() -> None:
    image, objects = painted()
    for move in (
        lambda: mirrored(image, objects, -1),
        lambda: mirrored(image, objects, -2),
        lambda: turned(image, objects),
    ):
        seen, moved = move()
        for k in (0, 1):
            assert moved.boxes[k].tolist() == edges(seen[k])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_augmented_boxes_lie_on_their_rectangles(seed: int) -> None:
    image, objects = painted()
    rng = np.random.default_rng(seed)
    augment = Augment(size=(64, 96), scale=(0.5, 2.0), crop=0.5, flip_vertical=True, turn=True, keep=0.3)
    seen, moved = augment(image, objects, rng)
    assert seen.shape[1] <= 96 and seen.shape[2] <= 96
    for box, label in zip(moved.boxes.tolist(), moved.labels.tolist()):
        assert np.allclose(box, edges(seen[label]), atol=1.6)
    for label in {0, 1} - set(moved.labels.tolist()):  # what was left out is hardly there
        assert float((seen[label] > 0.5).sum()) <= 0.75 * float((image[label] > 0.5).sum()) * 4


def test_window_keeps_what_is_mostly_inside() -> None:
    _, objects = painted()
    found = in_window(objects, 0, 0, 60, 50, keep=0.3)
    assert found.labels.tolist() == [0] and found.boxes.tolist() == [[10, 12, 30, 40]]
    found = in_window(objects, 0, 0, 60, 60, keep=0.3)
    assert found.boxes[1].tolist() == [44, 6, 60, 24]


def folder(path: Path, things: list[tuple[Thing, ...]]) -> DataSet:
    records = []
    for i, labels in enumerate(things):
        write_image(path / f"{i}.png", np.full((40 + i, 50, 3), 40 * i, np.uint8))
        records.append(ObjectRecord(f"{i}.png", Picture(path / f"{i}.png"), labels, path / f"{i}.xml", split="train"))
    return DataSet(path, "voc", tuple(records), ("a", "b"))


def test_samples_are_functions_of_their_ticket_and_padded(tmp_path: Path) -> None:
    data = folder(tmp_path, [(Thing(1, (5, 6, 20, 30)), Thing(0, (1, 1, 9, 9), crowd=True)), ()])
    preprocess = Preprocess(resize="long(100)")
    for keep in (False, True):
        samples = Samples(data, preprocess=preprocess, seed=3, augment=Augment(scale=(0.8, 1.2)), keep=keep)
        assert len(samples) == 2
        one, again, other = samples[(2, 0)], samples[(2, 0)], samples[(3, 0)]
        assert torch.equal(one.image, again.image) and torch.equal(one.objects.boxes, again.objects.boxes)
        assert not torch.equal(one.objects.boxes, other.objects.boxes)
    plain = Samples(data, preprocess=preprocess, seed=3)
    assert plain[(0, 0)].objects.boxes[0].tolist() == [10, 12, 40, 60]
    batch = collate([plain[(0, 0)], plain[(0, 1)]])
    assert batch.images.dtype is torch.uint8 and batch.images.shape == (2, 3, 96, 128)
    assert batch.targets.labels.tolist() == [[1, 0], [PADDING, PADDING]]
    assert batch.targets.ignore.tolist() == [[False, True], [False, False]]
    assert batch.sizes is not None and batch.sizes.tolist() == [[80, 100], [82, 100]]
    empty = collate([plain[(0, 1)]])
    assert empty.targets.boxes.shape == (1, 0, 4)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((5, 5, 5, 9), "has no area"),
        ((9, 5, 2, 9), "swapped corners"),
        ((5, 5, 60, 9), "reaches outside its picture of 50 x 40"),
        ((5, 5, float("nan"), 9), "no number"),
    ],
)
def test_bad_boxes_are_refused_with_file_and_number(
    tmp_path: Path, box: tuple[float, float, float, float], words: str
) -> None:
    data = folder(tmp_path, [(Thing(0, (1, 1, 5, 5)), Thing(1, box, place=7))])
    with pytest.raises(SightlineError, match=rf"0\.xml: object 7 of 0\.png.*{words}"):
        Samples(data, preprocess=Preprocess(), seed=0)[(0, 0)]


def test_unknown_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="has class 2, expected 0 to 1"):
        Samples(folder(tmp_path, [(Thing(2, (1, 1, 5, 5)),)]), preprocess=Preprocess(), seed=0)[(0, 0)]


@pytest.mark.parametrize("values", [{"scale": (2, 1)}, {"crop": 2}, {"flip": 1}, {"size": (0, 4)}])
def test_wrong_values_are_one_sentence(values: dict) -> None:
    with pytest.raises(UsageError, match="must be"):
        Augment(**values)


def test_networks_of_one_size_get_it_whatever_the_augmentation(tmp_path: Path) -> None:
    data = folder(tmp_path, [(Thing(1, (5, 6, 20, 30)),), ()])
    augment = Augment(scale=(0.4, 2.0), expand=0.5, crop=0.5)
    samples = Samples(data, preprocess=Preprocess(resize="exact(52, 44)"), seed=0, augment=augment)
    for epoch in range(8):
        batch = collate([samples[epoch, 0], samples[epoch, 1]])
        assert batch.images.shape == (2, 3, 52, 44)
        assert batch.sizes is not None and bool((batch.sizes <= torch.tensor([52, 44])).all())
    plain = Samples(data, preprocess=Preprocess(resize="exact(52, 44)"), seed=0)
    assert collate([plain[0, 0]]).images.shape == (1, 3, 52, 44)
