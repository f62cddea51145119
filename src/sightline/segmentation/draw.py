"""From answers to pictures: overlays with a legend, and the three-panel view of a picture, its truth and an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.media import draw
from sightline.segmentation.answer import named
from sightline.segmentation.contract import IGNORE

Colours = Sequence[tuple[int, int, int]]

NARROWEST = 160
"""Pixels of width below which nobody can read a legend."""


def colours_for(classes: Sequence[str], colours: Colours = ()) -> np.ndarray:
    """A colour a class, `(K, 3)` uint8: the data set's own, else a palette; black for a class called background.

    One colour less than classes is taken as theirs without the background's.
    """
    black = [(0, 0, 0)] if classes and classes[0] == "background" else []
    count = max(len(classes), 1)
    if len(colours) >= count:
        return np.asarray(colours, np.uint8)
    own = colours if black and len(colours) == count - 1 else draw.palette(count - len(black)).tolist()
    return np.array([*black, *own], np.uint8).reshape(-1, 3)


def overlay(
    image: np.ndarray | None, labels: np.ndarray, classes: Sequence[str], colours: Colours = (), *, alpha: float = 0.5
) -> np.ndarray:
    """`labels` painted over `image` with class outlines and, below it, a legend of the classes that occur.

    labels: `(H, W)`, or `(K, H, W)` of 0 and 1. A class called background is not painted. Without a picture the
    colours stand alone.
    """
    labels = labels if labels.ndim == 2 else _topmost(labels)
    seen = [k for k in np.unique(labels).tolist() if k != IGNORE]
    classes = named(classes, seen[-1] + 1 if seen else 1)
    table = colours_for(classes, colours)
    if image is None:
        painted = draw.blend(np.zeros((*labels.shape, 3), np.uint8), labels, table, alpha=1.0)
    else:
        painted = _paint(draw.to_display(image), labels, classes, table, alpha)
    if not seen:
        return painted
    width = max(painted.shape[1], NARROWEST)
    return _stack(painted, draw.legend([classes[k] for k in seen], table[seen], width=width))


def triptych(
    image: np.ndarray, truth: np.ndarray, answer: np.ndarray, classes: Sequence[str], colours: Colours = ()
) -> np.ndarray:
    """Picture, truth and answer side by side; in the answer, what differs from the truth is outlined in white.

    truth, answer: `(H, W)`, or `(K, H, W)` of 0 and 1; pixels without a true label are not wrong.
    """
    plain = draw.to_display(image)
    table = colours_for(classes, colours)
    truth, answer = (labels if labels.ndim == 2 else _topmost(labels) for labels in (truth, answer))
    panels = [plain, *(_paint(plain, labels, classes, table, 0.6) for labels in (truth, answer))]
    wrong = np.where((truth != answer) & (truth != IGNORE), 0, IGNORE)
    panels[2] = draw.outline(panels[2], wrong, [draw.WHITE])
    return draw.grid(panels, columns=3, gap=6)


def _paint(
    plain: np.ndarray, labels: np.ndarray, classes: Sequence[str], table: np.ndarray, alpha: float
) -> np.ndarray:
    """Tint and outline every class but the background."""
    shown = np.where(labels == 0, IGNORE, labels) if classes and classes[0] == "background" else labels
    return draw.outline(draw.blend(plain, shown, table, alpha=alpha), shown, table)


def _topmost(labels: np.ndarray) -> np.ndarray:
    """Multi-label `(K, H, W)` as one map, for drawing only: the highest class that is set, `IGNORE` where none is."""
    ids = np.arange(len(labels)).reshape(-1, 1, 1)
    highest = np.where(labels == 1, ids, -1).max(axis=0)
    return np.where(highest < 0, IGNORE, highest).astype(np.uint8)


def _stack(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    width = max(top.shape[1], bottom.shape[1])
    rows = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in (top, bottom)]
    return np.concatenate(rows)
