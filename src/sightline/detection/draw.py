"""From answers to pictures: boxes with their class and score, and the three-panel view of picture, truth and answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sightline.detection.answer import Detections
from sightline.media import draw as pen

Colours = Sequence[tuple[int, int, int]]


def colours_for(classes: Sequence[str], colours: Colours = ()) -> np.ndarray:
    """A colour a class, `(K, 3)` uint8: the data set's own, else a palette."""
    count = max(len(classes), 1)
    return np.asarray(colours, np.uint8) if len(colours) >= count else pen.palette(count)


def draw(image: np.ndarray | None, found: Detections, *, words: bool = True) -> np.ndarray:
    """Boxes (and masks) on `image` `(H, W, C)` of any depth, worst first, so that the best is on top: uint8 RGB.

    Without a picture the boxes stand on black, as far as they reach.
    """
    boxes = found.boxes.cpu().numpy()
    if image is None:
        reach = np.ceil(boxes[:, 2:].max(axis=0)).astype(int)[::-1] if len(boxes) else np.array([64, 64])
        image = np.zeros((*(found.size or tuple(reach)), 3), np.uint8)
    canvas = np.ascontiguousarray(pen.to_display(image)).copy()
    labels = found.labels.cpu().tolist()
    table = colours_for(found.classes or [str(k) for k in range(max(labels, default=0) + 1)], found.colours)
    if found.masks is not None and len(found):
        for place in reversed(range(len(found))):  # one at a time: a hundred at the picture's size may fill memory
            mask = found.masks[torch.tensor([place])].dense()[0].cpu().numpy()
            canvas[mask] = (0.5 * canvas[mask] + 0.5 * table[labels[place] % len(table)]).astype(np.uint8)
    thick = max(1, round(min(canvas.shape[:2]) / 240))
    for box, label, score in zip(boxes[::-1], labels[::-1], found.scores.cpu().tolist()[::-1]):
        colour = table[label % len(table)]
        frame(canvas, box, colour, thick)
        if words:
            tag(canvas, box, f"{found.name_of(label)} {score:.2f}", colour)
    if found.keypoints is not None:
        for joints in found.keypoints.cpu().numpy()[::-1]:
            skeleton(canvas, joints, thick)
    return canvas


SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Which of COCO's 17 joints are joined, as its annotation files say."""


def skeleton(canvas: np.ndarray, joints: np.ndarray, thick: int) -> None:
    """Paint one object's joints `(J, 3)` into `canvas`: a colour each, those of COCO joined; a score of 0 is none."""
    colours = pen.palette(len(joints))
    seen = joints[:, 2] != 0
    for a, b in SKELETON if len(joints) == 17 else ():
        if seen[a] and seen[b]:
            line(
                canvas,
                joints[a, :2],
                joints[b, :2],
                ((colours[a].astype(int) + colours[b]) // 2).astype(np.uint8),
                thick,
            )
    for (x, y), colour, here in zip(joints[:, :2], colours, seen):
        if here:
            spot(canvas, np.array([[x, y]]), colour, thick + 1)


def line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: np.ndarray, thick: int) -> None:
    """Paint a straight line between two points (x, y) into `canvas`."""
    steps = int(np.ceil(np.abs(end - start).max())) + 1
    along = np.linspace(0.0, 1.0, min(steps, 4 * max(canvas.shape[:2])))[:, None]
    spot(canvas, start + along * (end - start), colour, thick)


def spot(canvas: np.ndarray, points: np.ndarray, colour: np.ndarray, thick: int) -> None:
    """Paint squares of `thick` pixels around points `(N, 2)` into `canvas`, as far as they lie in it."""
    height, width = canvas.shape[:2]
    reach = np.arange(thick) - (thick - 1) // 2
    column = (np.floor(points[:, 0]).astype(int)[:, None, None] + reach[None, None, :]) + 0 * reach[None, :, None]
    row = (np.floor(points[:, 1]).astype(int)[:, None, None] + reach[None, :, None]) + 0 * reach[None, None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    canvas[row[inside], column[inside]] = colour


def frame(canvas: np.ndarray, box: np.ndarray, colour: np.ndarray, thick: int) -> None:
    """Paint the border of a box into `canvas`, inwards."""
    height, width = canvas.shape[:2]
    x0, y0 = (int(np.clip(np.floor(v), 0, n - 1)) for v, n in zip(box[:2], (width, height)))
    x1, y1 = (int(np.clip(np.ceil(v), 1, n)) for v, n in zip(box[2:], (width, height)))
    for rows, columns in (
        (slice(y0, min(y0 + thick, y1)), slice(x0, x1)),
        (slice(max(y1 - thick, y0), y1), slice(x0, x1)),
        (slice(y0, y1), slice(x0, min(x0 + thick, x1))),
        (slice(y0, y1), slice(max(x1 - thick, x0), x1)),
    ):
        canvas[rows, columns] = colour


def tag(canvas: np.ndarray, box: np.ndarray, words: str, colour: np.ndarray) -> None:
    """Write `words` on the box's colour above its left corner, inside where there is no room above."""
    height, width = canvas.shape[:2]
    size = max(9, min(14, round(min(height, width) / 30)))
    dark = float(colour @ np.array([0.299, 0.587, 0.114])) < 140
    label = pen.text(words, size=size, colour=(255, 255, 255) if dark else (0, 0, 0), background=tuple(colour.tolist()))
    rows, columns = min(label.shape[0], height), min(label.shape[1], width)
    top = int(box[1]) - rows
    top = int(np.clip(top if top >= 0 else box[1], 0, height - rows))
    left = int(np.clip(box[0], 0, width - columns))
    canvas[top : top + rows, left : left + columns] = label[:rows, :columns]


def triptych(image: np.ndarray, truth: Detections, found: Detections, *, score: float = 0.3) -> np.ndarray:
    """Picture, truth and answer (objects with at least `score`) side by side."""
    panels = [pen.to_display(image), draw(image, truth, words=False), draw(image, found.above(score))]
    return pen.grid(
        [pen.caption(panel, words) for panel, words in zip(panels, ("picture", "truth", "answer"))], columns=3
    )
