"""A sliding window: histograms of oriented gradients, a linear support vector machine, hard negatives, a pyramid.

Paper: Histograms of Oriented Gradients for Human Detection (Dalal & Triggs 2005).

The idea: how strong edges of each direction are, cell by cell, describes the outline of an object well enough that one
weight for each number tells it from anything else. The window slides over the picture at many scales. After a first
training on random windows, those in which the machine wrongly sees an object are added, and it is trained once more.

Departures: the machine minimises squared hinge losses (smooth, so that L-BFGS finds the one minimum); the window is any
number of cells; mirrored objects are learned from too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.detection.answer import Detections
from sightline.errors import UsageError
from sightline.media.prepare import resize_pixels
from sightline.ops.hog import CELL, descriptor, hog_blocks
from sightline.ops.nms import nms

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class HogSvm:
    """A trained detector of one class. weights: one for each number of a window's descriptor. bias.

    window: height and width in pixels, multiples of 8. context: share of the window that the object's box fills.
    """

    weights: NDArray[np.float32]
    bias: float
    window: tuple[int, int] = (128, 64)
    context: float = 0.8

    def detect(
        self, image: Picture, *, score: float = 0.0, step: float = 1.2, overlap: float = 0.3, most: int = 100
    ) -> Detections:
        """The objects in `(H, W, 3)` or `(H, W)` bytes: windows with a margin above `score`, at scales `step` apart.

        Scores are margins m as 1 / (1 + exp(-m)), so that they lie between 0 and 1.
        """
        boxes, margins = [], []
        for factor, pixels in pyramid(image, self.window, step):
            for (top, left), margin in zip(*self.slide(pixels)):
                if margin > score:
                    boxes.append(np.array([left, top, left + self.window[1], top + self.window[0]]) * factor)
                    margins.append(margin)
        found = torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32)
        values = torch.tensor(margins, dtype=torch.float32)
        kept = nms(found, values, overlap)[:most]
        centre, half = (found[kept, :2] + found[kept, 2:]) / 2, (found[kept, 2:] - found[kept, :2]) / 2 * self.context
        inner = torch.cat([centre - half, centre + half], 1)
        labels = torch.zeros(len(kept), dtype=torch.long)
        return Detections(inner, values[kept].sigmoid(), labels, size=(image.shape[0], image.shape[1]), image=image)

    def slide(self, pixels: Picture) -> tuple[list[tuple[int, int]], NDArray[np.float32]]:
        """Every window of a picture at its own scale, 8 pixels apart: top and left, and margins."""
        shape = cells(self.window)
        blocks = hog_blocks(pixels)
        rows, columns = blocks.shape[0] - shape[0] + 1, blocks.shape[1] - shape[1] + 1
        if rows < 1 or columns < 1:
            return [], np.zeros(0, np.float32)
        kernel = self.weights.reshape(shape[1], shape[0], -1).transpose(1, 0, 2)  # rows, columns, numbers of a block
        views = np.lib.stride_tricks.sliding_window_view(blocks, shape, axis=(0, 1))  # rows, columns, 36, h, w
        margins = np.einsum("yxkij,ijk->yx", views, kernel) + self.bias
        places = [(y * CELL, x * CELL) for y in range(rows) for x in range(columns)]
        return places, margins.ravel().astype(np.float32)


def cells(window: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of blocks in a window."""
    if window[0] % CELL or window[1] % CELL or min(window) < 2 * CELL:
        raise UsageError(f"window {window} must be multiples of {CELL} pixels, from {2 * CELL} on")
    return window[0] // CELL - 1, window[1] // CELL - 1


def pyramid(image: Picture, window: tuple[int, int], step: float) -> Iterator[tuple[float, Picture]]:
    """The picture ever smaller, each with the factor that takes its pixels to the first's."""
    if step <= 1:
        raise UsageError(f"step {step} must be above 1, such as 1.2")
    height, width = image.shape[:2]
    factor = 1.0
    while round(height / factor) >= window[0] and round(width / factor) >= window[1]:
        yield factor, resized(image, (round(height / factor), round(width / factor)))
        factor *= step


def resized(image: Picture, size: tuple[int, int]) -> Picture:
    """`(H, W)` or `(H, W, C)` bytes at another size."""
    if image.shape[:2] == size:
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image if image.ndim == 3 else image[..., None])).permute(2, 0, 1)
    pixels = resize_pixels(planes, size).permute(1, 2, 0).numpy()
    return pixels if image.ndim == 3 else pixels[..., 0]


def fit(
    pictures: Sequence[Picture],
    boxes: Sequence[NDArray],
    *,
    window: tuple[int, int] = (128, 64),
    context: float = 0.8,
    negatives: int = 10,
    rounds: int = 1,
    c: float = 0.01,
    seed: int = 0,
) -> HogSvm:
    """Train on pictures and the boxes `(G, 4)` of their objects (x0, y0, x1, y1; none: a picture of background).

    negatives: random windows a picture that overlap no object by 0.3. rounds: of hard negatives. c: what a wrong window
    costs. Each box is widened to the window's proportions and shrunk to it.
    """
    random = np.random.default_rng(seed)
    shape, right, wrong = cells(window), [], []
    for image, objects in zip(pictures, boxes, strict=True):
        objects = np.asarray(objects, np.float64).reshape(-1, 4)
        for box in objects:
            seen = warped(image, box, window, context)
            right += [descriptor(hog_blocks(x), 0, 0, shape) for x in (seen, np.ascontiguousarray(seen[:, ::-1]))]
        levels = list(pyramid(image, window, 1.5))
        for _ in range(negatives if levels else 0):
            factor, pixels = levels[int(random.integers(len(levels)))]
            top, left = (int(random.integers(0, n - w + 1)) for n, w in zip(pixels.shape, window))
            if not touches(np.array([left, top, left + window[1], top + window[0]]) * factor, objects):
                part = np.ascontiguousarray(pixels[top : top + window[0], left : left + window[1]])
                wrong.append(descriptor(hog_blocks(part), 0, 0, shape))
    if not right or not wrong:
        raise UsageError(f"{len(right)} windows with and {len(wrong)} without an object: both are needed to learn from")
    found = HogSvm(*machine(right, wrong, c), window, context)
    for _ in range(rounds):
        for image, objects in zip(pictures, boxes):
            objects = np.asarray(objects, np.float64).reshape(-1, 4)
            for factor, pixels in pyramid(image, window, 1.2):
                blocks = hog_blocks(pixels)
                for (top, left), margin in zip(*found.slide(pixels)):
                    box = np.array([left, top, left + window[1], top + window[0]]) * factor
                    if margin > -1 and not touches(box, objects):
                        wrong.append(descriptor(blocks, top // CELL, left // CELL, shape))
        found = HogSvm(*machine(right, wrong, c), window, context)
    return found


def warped(image: Picture, box: NDArray, window: tuple[int, int], context: float) -> Picture:
    """The window around a box, at the window's size; what lies outside of the picture repeats its border."""
    centre, sides = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / context
    factor = max(sides[1] / window[0], sides[0] / window[1])
    height, width = window[0] * factor, window[1] * factor
    rows = np.clip(np.arange(round(centre[1] - height / 2), round(centre[1] + height / 2)), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(round(centre[0] - width / 2), round(centre[0] + width / 2)), 0, image.shape[1] - 1)
    return resized(np.ascontiguousarray(image[np.ix_(rows, columns)]), window)


def touches(box: NDArray, objects: NDArray, least: float = 0.3) -> bool:
    """Whether a window overlaps an object by an IoU of `least`, or holds most of one."""
    if not len(objects):
        return False
    inner = np.clip(np.minimum(objects[:, 2:], box[2:]) - np.maximum(objects[:, :2], box[:2]), 0, None).prod(1)
    own, other = (objects[:, 2:] - objects[:, :2]).prod(1), (box[2:] - box[:2]).prod()
    return bool((inner >= least * (own + other - inner)).any() or (inner > 0.7 * own).any())


def machine(right: Sequence[NDArray], wrong: Sequence[NDArray], c: float) -> tuple[NDArray[np.float32], float]:
    """Weights and bias that minimise |w|^2 / 2 plus c times the squared hinge losses of all windows."""
    from scipy.optimize import minimize

    x = np.concatenate([np.stack(right), np.stack(wrong)]).astype(np.float64)
    y = np.concatenate([np.ones(len(right)), -np.ones(len(wrong))])

    def cost(v: NDArray) -> tuple[float, NDArray]:
        short = np.maximum(1 - y * (x @ v[:-1] + v[-1]), 0)
        slope = -2 * c * y * short
        return 0.5 * v[:-1] @ v[:-1] + c * (short**2).sum(), np.append(v[:-1] + x.T @ slope, slope.sum())

    best = minimize(cost, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return best[:-1].astype(np.float32), float(best[-1])
