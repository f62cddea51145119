"""One picture's objects as arrays, and the steps of geometry that a picture and its objects take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sightline.datasets.records import Thing
from sightline.datasets.thing_masks import Crop
from sightline.detection.shapes import Shapes
from sightline.media.prepare import resize_pixels


@dataclass(frozen=True)
class Objects:
    """One picture's objects as arrays. boxes: `(G, 4)`. labels: `(G,)`. ignore: `(G,)` bool, crowds and difficult.

    masks: as they were read, with their place. joints: `(G, J, 3)`: x, y, and 0 (not labelled), 1 (hidden), 2 (seen);
    swap: which joint each becomes in a mirror.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    masks: Shapes | None = None
    joints: Tensor | None = None
    swap: tuple[int, ...] = ()

    def __getitem__(self, index: Tensor) -> Objects:
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            ignore=self.ignore[index],
            masks=None if self.masks is None else self.masks[index],
            joints=None if self.joints is None else self.joints[index],
        )

    def moved(self, step: Sequence[Sequence[float]]) -> Objects:
        """Everything after an affine step `(2, 3)` along the axes: x and y now of x, y and 1 before."""
        corners = torch.stack([_placed(self.boxes[:, i : i + 2], step) for i in (0, 2)])
        boxes = torch.cat([corners.amin(0), corners.amax(0)], 1)
        joints = self.joints
        if joints is not None:
            joints = torch.cat([_placed(joints[..., :2], step), joints[..., 2:]], -1)
        masks = None if self.masks is None else self.masks.moved(step)
        return replace(self, boxes=boxes, joints=joints, masks=masks)

    def mirrored(self) -> Objects:
        """The joints of a mirrored picture: what was a left hand is a right one."""
        if self.joints is None or not self.swap:
            return self
        return replace(self, joints=self.joints[:, list(self.swap)])


def _placed(points: Tensor, step: Sequence[Sequence[float]]) -> Tensor:
    """Points `(..., 2)` after a step."""
    (a, b, c), (d, e, f) = step
    x, y = points.unbind(-1)
    return torch.stack([a * x + b * y + c, d * x + e * y + f], -1)


def objects_of(things: tuple[Thing, ...]) -> Objects:
    """The arrays of a record's objects."""
    return Objects(
        torch.tensor([t.box for t in things], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([t.label for t in things], dtype=torch.long),
        torch.tensor([t.crowd or t.difficult for t in things], dtype=torch.bool),
    )


def resized(image: Tensor, objects: Objects, size: tuple[int, int]) -> tuple[Tensor, Objects]:
    """Picture and objects at another size (height, width)."""
    height, width = image.shape[-2:]
    if (height, width) == tuple(size):
        return image, objects
    return resize_pixels(image, size), objects.moved([[size[1] / width, 0, 0], [0, size[0] / height, 0]])


def in_window(objects: Objects, top: int, left: int, rows: int, columns: int, *, keep: float) -> Objects:
    """The objects of which at least `keep` is in a window, cut at its border, in the window's pixels.

    Joints outside are no longer labelled.
    """
    objects = objects.moved([[1, 0, -left], [0, 1, -top]])
    boxes = objects.boxes
    cut = torch.stack([boxes[:, 0::2].clamp(0, columns), boxes[:, 1::2].clamp(0, rows)], -1).flatten(1)
    before = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    after = (cut[:, 2:] - cut[:, :2]).prod(1)
    whole = (cut == boxes).all(1)  # less than a pixel perhaps, but no less than it was
    seen = (after >= keep * before) & (((cut[:, 2:] - cut[:, :2]) >= 1).all(1) | whole)
    return replace(objects, boxes=cut, joints=_within(objects.joints, rows, columns))[seen]


def _within(joints: Tensor | None, rows: int, columns: int) -> Tensor | None:
    if joints is None:
        return None
    x, y, _ = joints.unbind(-1)
    inside = (x >= 0) & (x <= columns) & (y >= 0) & (y <= rows)
    return joints * inside[..., None]


def window_with_objects(
    height: int, width: int, objects: Objects, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a window of 0.3 to 1 of each side, no flatter than 1 to 2, around some centre."""
    centres = ((objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2).numpy()
    for _ in range(50):
        rows, columns = (max(1, int(n * rng.uniform(0.3, 1))) for n in (height, width))
        if not 0.5 <= rows / columns <= 2:
            continue
        top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
        x, y = centres[:, 0], centres[:, 1]
        if ((x > left) & (x < left + columns) & (y > top) & (y < top + rows)).any():
            return top, left, rows, columns
    return 0, 0, height, width


def mirrored(image: Tensor, objects: Objects, axis: int) -> tuple[Tensor, Objects]:
    """Left and right (axis -1) or up and down (axis -2) exchanged; left joints become right ones."""
    side = image.shape[axis]
    step = [[-1, 0, side], [0, 1, 0]] if axis == -1 else [[1, 0, 0], [0, -1, side]]
    return image.flip(axis), objects.moved(step).mirrored()


def turned(image: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
    """A quarter turn to the left."""
    return image.rot90(1, (-2, -1)), objects.moved([[0, 1, 0], [-1, 0, image.shape[-1]]])


def drawn(objects: Objects, size: tuple[int, int]) -> tuple[Objects, tuple[Crop, ...]]:
    """Objects with something of their mask in a picture of `size` (and those that are ignored), and their masks."""
    if objects.masks is None:
        return objects, ()
    crops = objects.masks.drawn(size)
    seen = torch.tensor([crop.area > 0 for crop in crops], dtype=torch.bool) | objects.ignore
    return objects[seen], tuple(crop for crop, here in zip(crops, seen.tolist()) if here)
