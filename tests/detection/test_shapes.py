"""Masks and joints move with the pixels under them, through every augmentation, and are drawn once at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Runs, Thing
from sightline.datasets.thing_masks import Crop
from sightline.detection.answer import Detections
from sightline.detection.draw import draw, line, skeleton
from sightline.detection.shapes import SAME, Shapes, drawn
from sightline.detection.targets import (
    COCO_JOINTS,
    Augment,
    Objects,
    Samples,
    collate,
    in_window,
    mirrored,
    resized,
    swapped,
    turned,
)  # fmt: skip
from sightline.errors import SightlineError
from sightline.media.image import write_image


def scene() -> tuple[torch.Tensor, Objects]:
    """A disc as flags, a triangle as polygon; each in a plane of its own; a joint in the middle of each corner box."""
    y, x = np.mgrid[:50, :70]
    disc = (x - 20) ** 2 + (y - 18) ** 2 <= 100
    triangle = np.array([[40.0, 10.0], [64.0, 14.0], [50.0, 40.0]])
    rows, columns = np.nonzero(disc)
    crop = Crop(rows.min(), columns.min(), disc[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    image = torch.zeros(3, 50, 70)
    image[0] = torch.from_numpy(disc).float()
    flags = drawn((triangle,), SAME, (50, 70))
    image[1, flags.top : flags.top + flags.inside.shape[0], flags.left : flags.left + flags.inside.shape[1]] = (
        torch.from_numpy(flags.inside).float()
    )
    boxes = torch.tensor([[10.0, 8, 31, 29], [40, 10, 64, 40]])
    joints = torch.tensor([[[20.5, 18.5, 2.0], [12.5, 18.5, 1.0]], [[51.5, 21.5, 2.0], [0, 0, 0]]])
    return image, Objects(
        boxes, torch.tensor([0, 1]), torch.zeros(2).bool(), Shapes((crop, (triangle,))), joints, (1, 0)
    )


def dense(objects: Objects, size: tuple[int, int]) -> torch.Tensor:
    found = torch.zeros(len(objects.labels), *size)
    assert objects.masks is not None
    for plane, crop in zip(found, objects.masks.drawn(size)):
        height, width = crop.inside.shape
        plane[crop.top : crop.top + height, crop.left : crop.left + width] = torch.from_numpy(crop.inside)
    return found


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a > 0.5, b > 0.5
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def test_nothing_moved_is_the_mask_itself() -> None:
    image, objects = scene()
    assert torch.equal(dense(objects, (50, 70)), image[:2])


def test_mirrors_and_turns_are_exact_for_flags_and_near_for_outlines() -> None:
    image, objects = scene()
    for move in (lambda *a: mirrored(*a, -1), lambda *a: mirrored(*a, -2), turned, lambda *a: turned(*turned(*a))):
        seen, moved = move(image, objects)
        masks = dense(moved, (seen.shape[-2], seen.shape[-1]))
        assert torch.equal(masks[0], seen[0])
        assert overlap(masks[1], seen[1]) > 0.93  # COCO's tools round outlines by half a pixel to one side


def test_four_turns_are_none_and_two_mirrors_too() -> None:
    image, objects = scene()
    seen, moved = image, objects
    for _ in range(4):
        seen, moved = turned(seen, moved)
    assert torch.equal(dense(moved, (50, 70)), dense(objects, (50, 70))) and torch.equal(moved.boxes, objects.boxes)
    seen, moved = mirrored(*mirrored(image, objects, -1), -1)
    assert moved.joints is not None and objects.joints is not None
    assert torch.allclose(moved.joints, objects.joints)


def test_a_mirror_exchanges_left_and_right() -> None:
    image, objects = scene()
    _, moved = mirrored(image, objects, -1)
    assert moved.joints is not None
    assert moved.joints[0].tolist() == [[57.5, 18.5, 1.0], [49.5, 18.5, 2.0]]  # 70 - x, and each the other's
    assert swapped(COCO_JOINTS)[:7] == (0, 2, 1, 4, 3, 6, 5) and swapped(("nose", "Left_Hand", "right_hand")) == (
        0,
        2,
        1,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000))
def test_augmented_masks_and_joints_lie_on_their_pixels(seed: int) -> None:
    image, objects = scene()
    augment = Augment(size=(64, 80), scale=(0.6, 2.0), crop=0.5, flip_vertical=True, turn=True, keep=0.2)
    rng = np.random.default_rng(seed)
    seen, moved = augment(image, replace(objects, swap=()), rng)
    masks = dense(moved, (seen.shape[-2], seen.shape[-1]))
    for mask, label, points in zip(masks, moved.labels.tolist(), moved.joints if moved.joints is not None else ()):
        assert overlap(mask, seen[label]) > 0.72
        for x, y, known in points.tolist()[:1]:
            inside = 0 <= x < seen.shape[-1] and 0 <= y < seen.shape[-2]
            assert inside or known == 0
            if known and inside and 2 < x < seen.shape[-1] - 2 and 2 < y < seen.shape[-2] - 2:
                assert float(seen[label, int(y), int(x)]) > 0.5


def test_joints_outside_a_window_are_not_labelled() -> None:
    _, objects = scene()
    cut = in_window(objects, 0, 15, 50, 30, keep=0.3)
    assert cut.joints is not None and cut.labels.tolist() == [0]
    assert cut.joints[0].tolist() == [[5.5, 18.5, 2.0], [-0.0, 0.0, 0.0]]


def test_a_one_pixel_object_survives_what_does_not_cut_it() -> None:
    dot = Objects(torch.tensor([[5.0, 6, 6, 7]]), torch.tensor([0]), torch.zeros(1).bool(),
                  Shapes((Crop(6, 5, np.ones((1, 1), bool)),)))  # fmt: skip
    _, small = resized(torch.zeros(1, 20, 20), dot, (10, 10))
    kept = in_window(small, 0, 0, 8, 8, keep=0.3)
    assert len(kept.labels) == 1 and kept.boxes.tolist() == [[2.5, 3.0, 3.0, 3.5]]
    _, large = resized(torch.zeros(1, 20, 20), dot, (60, 60))
    assert dense(large, (60, 60)).sum() == 9


def folder(path: Path, things: list[tuple[Thing, ...]]) -> DataSet:
    records = []
    for i, labels in enumerate(things):
        write_image(path / f"{i}.png", np.full((40, 50, 3), 40 * i, np.uint8))
        records.append(ObjectRecord(f"{i}.png", Picture(path / f"{i}.png"), labels, path / f"{i}.json", split="train"))
    return DataSet(path, "coco", tuple(records), ("a",))


SQUARE = [np.array([[4.0, 5.0], [14.0, 5.0], [14.0, 15.0], [4.0, 15.0]])]


def test_batches_hold_masks_and_joints_with_padding(tmp_path: Path) -> None:
    first = Thing(0, (4, 5, 14, 15), mask=SQUARE, points=((6, 7, 2), (9, 9, 1)))
    crowd = Thing(0, (0, 0, 50, 40), crowd=True, mask=[Runs((0, 2000), (40, 50))])
    data = folder(tmp_path, [(first, crowd), ()])
    samples = Samples(data, preprocess=Preprocess(resize="long(100)"), seed=0, full=True, keep=True)
    batch = collate([samples[0, 0], samples[0, 1]])
    target = batch.targets
    assert target.masks.shape == (2, 2, 96, 128) and target.masks.dtype is torch.bool
    assert target.keypoints.shape == (2, 2, 2, 3)
    assert target.keypoints[0, 0].tolist() == [[12, 14, 2], [18, 18, 1]] and not target.keypoints[0, 1].any()
    assert target.masks[0, 0, 10:30, 8:28].all() and target.masks[0, 0].sum() == 400
    assert target.masks[0, 1, :80, :100].all() and target.masks[0, 1].sum() == 8000 and not target.masks[1].any()
    assert target.ignore.tolist() == [[False, True], [False, False]]
    plain = Samples(data, preprocess=Preprocess(), seed=0)
    assert collate([plain[0, 0]]).targets.masks is None and collate([plain[0, 0]]).targets.keypoints is None
    empty = collate([samples[0, 1]]).targets
    assert empty.masks.shape == (1, 0, 96, 128) and empty.keypoints.shape == (1, 0, 2, 3)


def test_joints_nobody_named_are_not_mirrored(tmp_path: Path) -> None:
    data = folder(tmp_path, [(Thing(0, (4, 5, 14, 15), points=((6, 7, 2), (9, 9, 1))),)])
    samples = Samples(data, preprocess=Preprocess(), seed=0, augment=Augment(flip_vertical=True), full=True)
    assert samples.augment is not None and not samples.augment.flip and not samples.augment.flip_vertical
    named = replace(data, facts={"joints": ["left_eye", "right_eye"]})
    samples = Samples(named, preprocess=Preprocess(), seed=0, augment=Augment(), full=True)
    assert samples.augment is not None and samples.augment.flip and samples.swap == (1, 0)
    seen = {tuple(samples[epoch, 0].objects.joints[0, 0].tolist()) for epoch in range(12)}  # type: ignore[index]
    assert seen == {(6, 7, 2), (41, 9, 1)}


def test_an_object_without_a_mask_among_others_is_refused(tmp_path: Path) -> None:
    data = folder(tmp_path, [(Thing(0, (4, 5, 14, 15), mask=SQUARE), Thing(0, (1, 1, 3, 3), place=6))])
    with pytest.raises(SightlineError, match=r"0\.json: object 6 of 0\.png has no mask, others do"):
        Samples(data, preprocess=Preprocess(), seed=0, full=True)[0, 0]


def test_skeletons_and_masks_are_drawn() -> None:
    image = np.full((60, 60, 3), 90, np.uint8)
    points = torch.zeros(1, 17, 3)
    points[0, 5] = torch.tensor([10.0, 10, 1])
    points[0, 7] = torch.tensor([40.0, 10, 1])
    found = Detections(torch.tensor([[5.0, 5, 50, 50]]), torch.ones(1), torch.zeros(1).long(), keypoints=points)
    drawn_on = draw(image, found, words=False)
    assert (drawn_on[10, 10:41] != 90).any(-1).all()  # shoulder to elbow
    assert (drawn_on[30, 10:45] == 90).all() and (image == 90).all()
    canvas = np.zeros((20, 20, 3), np.uint8)
    line(canvas, np.array([-1e6, 3.0]), np.array([1e6, 3.0]), np.array([255, 0, 0]), 1)
    assert canvas[4:].sum() == 0 and canvas[:3].sum() == 0
    skeleton(canvas, np.array([[np.float32(5), 15, 0.5], [7, 30, 0.5], [3, 3, 0.0]]), 1)
    assert canvas[15, 5].any()
