"""Pictures made of several: boxes, masks and joints lie on the pixels that came with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Thing
from sightline.datasets.thing_masks import Crop
from sightline.detection.mixing import expanded, mosaic, pasted, settled, uncovered
from sightline.detection.objects import Objects
from sightline.detection.shapes import Shapes
from sightline.detection.targets import Augment, Samples, collate
from sightline.errors import UsageError
from sightline.media.image import write_image


def dense(objects: Objects, size: tuple[int, int]) -> torch.Tensor:
    found = torch.zeros(len(objects.labels), *size, dtype=torch.bool)
    assert objects.masks is not None
    for plane, crop in zip(found, objects.masks.drawn(size)):
        height, width = crop.inside.shape
        plane[crop.top : crop.top + height, crop.left : crop.left + width] = torch.from_numpy(crop.inside)
    return found


def picture(label: int, boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (48, 64)) -> tuple:
    """A picture whose objects have the value 50 + 10 * label + k, their masks without the upper left corner."""
    image = torch.full((1, *size), label, dtype=torch.uint8)
    crops = []
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        inside = np.ones((y1 - y0, x1 - x0), bool)
        inside[:2, :2] = False
        crops.append(Crop(y0, x0, inside))
        image[0, y0:y1, x0:x1][torch.from_numpy(inside)] = 50 + 10 * label + k
    joints = torch.tensor([[[(x0 + x1) / 2, (y0 + y1) / 2, 2.0]] for x0, y0, x1, y1 in boxes]).reshape(-1, 1, 3)
    count = len(boxes)
    objects = Objects(
        torch.tensor(boxes).reshape(-1, 4).float(), torch.full((count,), label), torch.zeros(count).bool(),
        Shapes(tuple(crops)), joints,
    )  # fmt: skip
    return image, objects


def test_a_larger_canvas_moves_everything() -> None:
    image, objects = picture(1, [(5, 6, 15, 20), (30, 10, 40, 44)])
    for seed in range(5):
        large, moved = expanded(image, objects, np.random.default_rng(seed))
        size = (large.shape[-2], large.shape[-1])
        assert size[0] >= 48 and size[1] >= 64
        for k, mask in enumerate(dense(moved, size)):
            assert torch.equal(mask, large[0] == 60 + k)
        assert moved.joints is not None and int(large[0, int(moved.joints[1, 0, 1]), int(moved.joints[1, 0, 0])]) == 61


@pytest.mark.parametrize("seed", range(10))
def test_four_pictures_in_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [(48, 64), (80, 40), (30, 90), (48, 64)]
    pictures = [picture(k, [(4, 5, 20, 25), (22, 6, 38, 28)], size) for k, size in enumerate(sizes)]
    image, objects = mosaic(pictures, rng, keep=0.3)
    assert image.shape == (1, 48, 64) and objects.masks is not None and objects.joints is not None
    assert len(objects.labels) == len(objects.masks) == len(objects.joints) == len(objects.ignore)
    for mask, box, label in zip(dense(objects, (48, 64)), objects.boxes.tolist(), objects.labels.tolist()):
        values = image[0][mask].float()
        assert (
            mask.any() and ((values - (50 + 10 * label)).abs() < 15).float().mean() > 0.4
        )  # a strip is mostly border, which is resized
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        inner = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert np.allclose(inner, box, atol=5)  # a strip may be no wider than the corner it lacks


def test_pasted_objects_cover_what_is_below() -> None:
    image, objects = picture(1, [(5, 5, 25, 25), (40, 5, 60, 25)])
    other, theirs = picture(2, [(8, 5, 25, 25), (30, 30, 34, 36), (50, 40, 100, 60)], (70, 110))
    seen = set()
    for seed in range(12):
        made, both = pasted(image, objects, other, theirs, np.random.default_rng(seed), keep=0.3)
        masks = dense(both, (48, 64))
        assert made.shape == image.shape and not (masks.sum(0) > 1).any()
        for mask, label in zip(masks, both.labels.tolist()):
            assert mask.any() and (made[0][mask] // 10 == 5 + label).all()
        seen.add(tuple(both.labels.tolist()))
        if 70 in made[0]:  # the first of ours is hidden but for a strip and a corner: less than 0.3
            assert both.boxes[both.labels == 1].tolist() == [[40, 5, 60, 25]]
    assert (1, 1) in seen and (1, 2) in seen and int(image.max()) == 61


def test_boxes_shrink_with_what_is_left() -> None:
    _, objects = picture(1, [(10, 10, 20, 20)])
    covered = np.zeros((48, 64), bool)
    covered[:, 15:] = True
    left = uncovered(settled(objects, (48, 64)), covered, 0.3)
    assert left.boxes.tolist() == [[10, 10, 15, 20]]
    assert len(uncovered(settled(objects, (48, 64)), np.ones((48, 64), bool), 0.0).labels) == 0


def test_samples_are_mixed_by_their_ticket(tmp_path: Path) -> None:
    records = []
    square = [np.array([[4.0, 5.0], [14.0, 5.0], [14.0, 15.0], [4.0, 15.0]])]
    for i in range(3):
        write_image(tmp_path / f"{i}.png", np.full((40, 50, 3), 40 * i, np.uint8))
        things = (Thing(0, (4, 5, 14, 15), mask=square),) if i else ()
        records.append(ObjectRecord(f"{i}", Picture(tmp_path / f"{i}.png"), things, split="train"))
    data = DataSet(tmp_path, "coco", tuple(records), ("a",))
    augment = Augment(size=(64, 64), expand=0.5, mosaic=0.5, paste=0.5, scale=(0.8, 1.2))
    one = Samples(data, preprocess=Preprocess(), seed=0, augment=augment, full=True)
    two = Samples(data, preprocess=Preprocess(), seed=0, augment=augment, full=True, keep=True)
    for epoch in range(6):
        a, b = collate([one[epoch, i] for i in range(3)]), collate([two[epoch, i] for i in range(3)])
        assert torch.equal(a.images, b.images) and torch.equal(a.targets.masks, b.targets.masks)
        assert a.targets.masks.flatten(2).any(-1).equal(a.targets.labels >= 0)
    boxes = Samples(data, preprocess=Preprocess(), seed=0, augment=augment)
    assert boxes[0, 1].masks is None and len(boxes[3, 1].objects.boxes) >= 0


def test_chances_are_shares() -> None:
    for name in ("expand", "mosaic", "paste"):
        with pytest.raises(UsageError, match=f"augment.{name} 2 must be a number from 0 to 1"):
            Augment(**{name: 2})
