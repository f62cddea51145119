"""Answers as pictures: the most probable classes below a picture, and a strip of colours for a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.classification.answer import Moment
from sightline.media.draw import caption, grid, legend, palette, to_display


def captioned(image: np.ndarray | None, lines: Sequence[str]) -> np.ndarray:
    """`image` `(H, W, C)` of any depth with lines of text below; a white square when there is none."""
    shown = np.full((160, 160, 3), 255, np.uint8) if image is None else to_display(image)
    if shown.shape[1] < 160:  # text needs room
        shown = np.repeat(np.repeat(shown, factor := -(-160 // shown.shape[1]), axis=0), factor, axis=1)
    for line in lines:
        shown = caption(shown, line)
    return shown


def side_by_side(images: Sequence[np.ndarray], truth: str, said: str) -> np.ndarray:
    """A picture, or some frames of a video, with the truth and the answer below."""
    shown = grid([to_display(image) for image in images], columns=len(images))
    return captioned(shown, [f"truth: {truth}", f"answer: {said}"])


def strip(timeline: Sequence[Moment], classes: Sequence[str], *, width: int = 640, height: int = 48) -> np.ndarray:
    """A video's timeline: a band in the colour of the most probable class, taller the surer; the classes below."""
    start, end = timeline[0].start, max(timeline[-1].end, timeline[0].start + 1e-6)
    colours = palette(max(len(classes), len(timeline[0].probabilities)))
    band = np.full((height, width, 3), 255, np.uint8)
    for column in range(width):
        time = start + (end - start) * (column + 0.5) / width
        moment = min(timeline, key=lambda m: abs((m.start + m.end) / 2 - time))
        label = int(moment.probabilities.argmax())
        tall = max(1, round(height * float(moment.probabilities[label])))
        band[height - tall :, column] = colours[label]
    seen = sorted({int(m.probabilities.argmax()) for m in timeline})
    names = [classes[k] if k < len(classes) else str(k) for k in seen]
    below = legend(names, colours[seen], width=width)
    return np.concatenate([band, below]) if below.shape[1] == width else band
