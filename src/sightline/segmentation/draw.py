"""From answers to pictures: overlays with a legend, and the three-panel view of a picture, its truth and an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.media import draw

Colours = Sequence[tuple[int, int, int]]


def colours_for(classes: Sequence[str], colours: Colours = ()) -> np.ndarray:
    """A colour a class, `(K, 3)` uint8: the data set's own, else a palette; black for a class called background."""
    count = max(len(classes), len(colours), 1)
    if len(colours) >= len(classes) and len(colours):
        return np.asarray(colours, np.uint8)
    table = draw.palette(count)
    if classes and classes[0] == "background":
        table = np.concatenate([np.zeros((1, 3), np.uint8), draw.palette(max(count - 1, 1))])[:count]
    return table


def overlay(
    image: np.ndarray | None, labels: np.ndarray, classes: Sequence[str], colours: Colours = (), *, alpha: float = 0.5
) -> np.ndarray:
    """`labels` (H, W) painted over `image` with class outlines and, below it, a legend of the classes that occur."""
    table = colours_for(classes, colours)
    labels = labels if labels.ndim == 2 else _topmost(labels)
    if image is None:
        painted = table[np.minimum(labels, len(table) - 1)]
    else:
        plain = draw.to_display(image)
        keep = labels == 0 if classes and classes[0] == "background" else np.zeros(labels.shape, bool)
        painted = draw.blend(plain, labels, table, alpha=alpha)
        painted = np.where(keep[..., None], plain, painted)
        painted = draw.outline(painted, labels, table)
    seen = [k for k in np.unique(labels).tolist() if k < len(classes)]
    if not seen:
        return painted
    key = draw.legend([classes[k] for k in seen], table[seen], width=painted.shape[1])
    return _stack(painted, key)


def triptych(
    image: np.ndarray, truth: np.ndarray, answer: np.ndarray, classes: Sequence[str], colours: Colours = ()
) -> np.ndarray:
    """Picture, truth and answer side by side; where they differ is outlined in the answer."""
    plain = draw.to_display(image)
    table = colours_for(classes, colours)
    panels = [plain, draw.blend(plain, truth, table, alpha=0.6), draw.blend(plain, answer, table, alpha=0.6)]
    return draw.grid(panels, columns=3, gap=6)


def _topmost(labels: np.ndarray) -> np.ndarray:
    """Multi-label `(K, H, W)` as one map: the highest class that is set, for drawing only."""
    order = np.arange(len(labels)).reshape(-1, 1, 1)
    return np.max(labels * (order + 1), axis=0).astype(np.uint8)


def _stack(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    width = max(top.shape[1], bottom.shape[1])
    rows = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in (top, bottom)]
    return np.concatenate(rows)
