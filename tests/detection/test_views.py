"""Masks and joints through tiles, mirrors and sizes: the same objects as in the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sightline.contracts import Preprocess
from sightline.detection.answer import Detections
from sightline.detection.predict import Procedure, answer, flipped, merged
from sightline.detection.views import Placed, several
from sightline.errors import UsageError
from sightline.instance.masks import RunMasks

OBJECTS = [[20, 30, 50, 60], [95, 100, 125, 140], [250, 170, 290, 195]]


class Bright(torch.nn.Module):
    """Finds bright things by their pixels, with masks and 17 joints: an oracle for what surrounds a network."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(0))

    def forward(self, images: torch.Tensor, *, sizes: torch.Tensor) -> torch.Tensor:
        return images[..., : int(sizes[0, 0]), : int(sizes[0, 1])]

    def decode(self, out: torch.Tensor, *, score: float | None, classes: tuple[str, ...]) -> list[Detections]:
        from scipy.ndimage import find_objects, label

        parts, count = label(out[0, 0].numpy() > 0.5)  # type: ignore
        found = find_objects(parts)
        boxes = torch.tensor([[c.start, r.start, c.stop, r.stop] for r, c in found]).reshape(-1, 4).float()
        masks = torch.stack(
            [torch.zeros(parts.shape).bool(), *(torch.from_numpy(parts == k + 1) for k in range(count))]
        )
        points = torch.zeros(count, 17, 3)
        points[..., 2] = 1
        points[:, 5, :2], points[:, 6, :2] = boxes[:, [0, 1]], boxes[:, [2, 1]]  # a left and a right shoulder
        size = (parts.shape[0], parts.shape[1])
        return [
            Detections(
                boxes, torch.full((count,), 0.9), torch.zeros(count).long(), masks=RunMasks.of(masks[1:]),
                keypoints=points, size=size,
            )
        ]  # fmt: skip


def picture() -> np.ndarray:
    image = np.zeros((200, 300, 3), np.uint8)
    for x0, y0, x1, y1 in OBJECTS:
        image[y0:y1, x0:x1] = 255
        image[y0 : y0 + 6, x0 + 8 : x1] = 0  # no rectangle: a mirrored mask is another one
    return image


@pytest.mark.parametrize(
    "procedure",
    [
        Procedure(tile=128, overlap=0.5),
        Procedure(flips="hv"),
        Procedure(scales=(1.0, 2.0)),
        Procedure(tile=96, flips="h", scales=(1.0, 2.0)),
    ],
)
def test_masks_are_those_of_the_whole_picture(procedure: Procedure) -> None:
    image = picture()
    found = answer(Bright(), image, preprocess=Preprocess(multiple=32), procedure=procedure)
    assert len(found) == 3 and found.masks is not None and len(found.masks) == 3
    dense = found.masks.dense()
    assert dense.shape == (3, 200, 300) and torch.equal(dense.any(0), torch.from_numpy(image[..., 0] > 0))
    for box, mask, runs in zip(found.boxes.round().int().tolist(), dense, found.masks.runs()):
        inside = torch.zeros_like(mask)
        inside[box[1] : box[3], box[0] : box[2]] = True
        assert not (mask & ~inside).any() and runs["size"] == [200, 300]
        assert coco.area({"size": runs["size"], "counts": runs["counts"].encode()}) == int(mask.sum())
    half = found.scaled((100, 150), (200, 300))
    assert half.masks is not None and half.masks.dense().shape == (3, 100, 150)
    assert len(found[torch.tensor([2, 0])].masks or ()) == 2
    assert found.draw(image).shape == image.shape


def test_a_mirror_exchanges_left_and_right() -> None:
    one = Bright().decode(torch.from_numpy(picture()[..., 0] / 255.0)[None, None], score=None, classes=())[0]
    back = flipped(one, -1, (200, 300))
    assert back.keypoints is not None and one.keypoints is not None
    x0, _, x1, _ = one.boxes[0].tolist()
    assert back.keypoints[0, 5, 0] == 300 - x1 and back.keypoints[0, 6, 0] == 300 - x0
    found = answer(Bright(), picture(), preprocess=Preprocess(), procedure=Procedure(flips="h"))
    assert found.keypoints is not None and len(found) == 3
    assert (found.keypoints[:, 5, 0] < found.keypoints[:, 6, 0]).all()


def test_joints_of_unknown_sides_have_no_mirror() -> None:
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1).long(), keypoints=torch.zeros(1, 3, 3))
    with pytest.raises(UsageError, match="which of these 3 joints are left and right; leave flips out"):
        flipped(found, -1, (10, 10))


def test_views_without_objects_have_no_masks_to_merge() -> None:
    empty = Placed(RunMasks((), (10, 10)), (0, 0), (), (10, 10), (10, 10))
    assert several([empty, empty]).dense().shape == (0, 10, 10) and several([empty]).runs() == []
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), masks=empty)
    assert len(merged([nothing, nothing], 0.5)) == 0
