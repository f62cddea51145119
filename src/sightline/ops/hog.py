"""Histograms of oriented gradients (Dalal & Triggs 2005), in two published arithmetics.

`hog_blocks` is OpenCV's: square roots of intensities, votes shared between neighbouring directions and cells, a
Gaussian window on each block, norms cut at 0.2. `hog_cells` is scikit-image's: each pixel votes for one direction of
its own cell. Both take the channel with the steepest slope at each pixel. All is numpy, float32 (OpenCV) or float64.
`hog_32` is deformable parts' (Felzenszwalb et al. 2010, section 6): 32 numbers a cell instead of blocks.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

BlockNorm = Literal["L1", "L1-sqrt", "L2", "L2-Hys"]
CELL, BLOCK, BINS = 8, 16, 9
"""Pixels of a cell and of a block (two cells), directions between 0 and 180 degrees."""

_ATAN = (0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128)


def hog_blocks(image: NDArray[np.uint8], *, gamma: bool = True, stride: int = 8) -> NDArray[np.float32]:
    """Every block of a picture `(H, W)` or `(H, W, C)`, normalised: `(rows, columns, 36)`, `stride` pixels apart.

    A block's numbers are its cells down the columns first, nine directions each. A window's descriptor are its blocks,
    down the columns first (`descriptor`). Slopes at the border are those of the mirrored picture.
    """
    image = image if image.ndim == 3 else image[..., None]
    height, width = image.shape[:2]
    rows, columns = (height - BLOCK) // stride + 1, (width - BLOCK) // stride + 1
    if rows < 1 or columns < 1:
        return np.zeros((max(rows, 0), max(columns, 0), 36), np.float32)
    votes = _votes(image, gamma)  # (H, W, 9)
    patches = np.lib.stride_tricks.sliding_window_view(votes, (BLOCK, BLOCK), axis=(0, 1))[::stride, ::stride]
    found = np.empty((rows, columns, 36), np.float32)
    weights = _weights().reshape(4, -1)  # (cells, pixels)
    for row in range(rows):  # a row of blocks at a time: the patches of all of them would fill the memory
        flat = patches[row].reshape(columns, BINS, -1)
        found[row] = np.einsum("cp,nbp->ncb", weights, flat).reshape(columns, 36)
    scale = 1 / (np.sqrt((found**2).sum(-1, keepdims=True)) + np.float32(3.6))
    found = np.minimum(found * scale, np.float32(0.2))
    return found / (np.sqrt((found**2).sum(-1, keepdims=True)) + np.float32(1e-3))


def descriptor(
    blocks: NDArray[np.float32], row: int, column: int, shape: tuple[int, int] = (15, 7)
) -> NDArray[np.float32]:
    """The numbers of the window whose first block is at `row`, `column`: 3,780 of them for 64 x 128 pixels."""
    window = blocks[row : row + shape[0], column : column + shape[1]]
    return window.transpose(1, 0, 2).reshape(-1)


def _votes(image: NDArray[np.uint8], gamma: bool) -> NDArray[np.float32]:
    """What each pixel says for each direction, `(H, W, 9)`: its slope, shared between the two nearest."""
    values = np.sqrt(image.astype(np.float32)) if gamma else image.astype(np.float32)
    across, down = (
        np.pad(values, ((0, 0), (1, 1), (0, 0)), "reflect"),
        np.pad(values, ((1, 1), (0, 0), (0, 0)), "reflect"),
    )
    dx, dy = across[:, 2:] - across[:, :-2], down[2:] - down[:-2]
    channels = dx.shape[-1]
    steepest = channels - 1 - (dx**2 + dy**2)[..., ::-1].argmax(-1)[..., None]  # of equal ones the last channel
    dx, dy = (np.take_along_axis(d, steepest, -1)[..., 0] for d in (dx, dy))
    slope = np.sqrt(dx**2 + dy**2)
    angle = _angle(dx, dy) * np.float32(BINS / np.pi) - np.float32(0.5)
    first = np.floor(angle).astype(np.int64)
    share = angle - first
    first = np.where(first < 0, first + BINS, np.where(first >= BINS, first - BINS, first)) % BINS
    second = (first + 1) % BINS
    votes = np.zeros((*slope.shape, BINS), np.float32)
    np.put_along_axis(votes, first[..., None], (slope * (1 - share))[..., None], -1)
    kept = np.take_along_axis(votes, second[..., None], -1) + (slope * share)[..., None]
    np.put_along_axis(votes, second[..., None], kept, -1)
    return votes


def _angle(dx: NDArray[np.float32], dy: NDArray[np.float32]) -> NDArray[np.float32]:
    """OpenCV's direction in radians, 0 to 2 pi: a polynomial that is off by a hundredth of a degree."""
    ax, ay = np.abs(dx), np.abs(dy)
    c = np.minimum(ax, ay) / (np.maximum(ax, ay) + np.float32(2.220446e-16))
    c2 = c * c
    p1, p3, p5, p7 = (np.float32(p * 180 / np.pi) for p in _ATAN)
    a = (((p7 * c2 + p5) * c2 + p3) * c2 + p1) * c
    a = np.where(ax >= ay, a, 90 - a)
    a = np.where(dx < 0, 180 - a, a)
    a = np.where(dy < 0, 360 - a, a)
    return (a * np.float32(np.pi / 180)).astype(np.float32)


def _weights() -> NDArray[np.float32]:
    """How much each pixel of a block counts in each of its four cells, `(4, 16, 16)`: down the columns first."""
    place = np.arange(BLOCK, dtype=np.float32)
    gauss = np.exp(-((place - BLOCK / 2) ** 2) / np.float32(2 * 4.0**2))
    cell = (place + 0.5) / CELL - 0.5
    share = np.stack([np.clip(1 - np.abs(cell - k), 0, None) for k in (0, 1)])  # (2, 16)
    one = share * gauss
    return np.stack([one[y][:, None] * one[x][None, :] for x in (0, 1) for y in (0, 1)]).astype(np.float32)


def hog_cells(image: NDArray, *, norm: BlockNorm = "L2-Hys") -> NDArray[np.float64]:
    """scikit-image's blocks of `(H, W)` or `(H, W, C)`: `(rows, columns, 2, 2, 9)`, block, cell, direction."""
    values = (image if image.ndim == 3 else image[..., None]).astype(np.float64)
    down, across = np.zeros_like(values), np.zeros_like(values)
    down[1:-1], across[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    steepest = np.hypot(down, across).argmax(-1)[..., None]
    down, across = (np.take_along_axis(d, steepest, -1)[..., 0] for d in (down, across))
    slope, angle = np.hypot(down, across), np.rad2deg(np.arctan2(down, across)) % 180
    rows, columns = (n // CELL for n in slope.shape)
    slope, angle = slope[: rows * CELL, : columns * CELL], angle[: rows * CELL, : columns * CELL]
    which = np.minimum((angle // (180 / BINS)).astype(int), BINS - 1)
    y, x = np.indices(slope.shape) // CELL
    cells = np.bincount(((y * columns + x) * BINS + which).ravel(), slope.ravel(), rows * columns * BINS)
    cells = cells.reshape(rows, columns, BINS) / CELL**2
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (2, 2), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    return _normed(blocks, norm)


def _normed(blocks: NDArray[np.float64], norm: BlockNorm, eps: float = 1e-5) -> NDArray[np.float64]:
    axes = (-3, -2, -1)
    if norm in ("L1", "L1-sqrt"):
        found = blocks / (np.abs(blocks).sum(axes, keepdims=True) + eps)
        return np.sqrt(found) if norm == "L1-sqrt" else found
    if norm not in ("L2", "L2-Hys"):
        raise ValueError(f"norm '{norm}' is unknown; choose from L1, L1-sqrt, L2, L2-Hys")
    found = blocks / np.sqrt((blocks**2).sum(axes, keepdims=True) + eps**2)
    if norm == "L2-Hys":
        found = np.minimum(found, 0.2)
        found = found / np.sqrt((found**2).sum(axes, keepdims=True) + eps**2)
    return found


PARTS_DIRECTIONS, PARTS_NUMBERS = 18, 32
MIRRORED = np.array(
    [*((9 - o) % 18 for o in range(18)), *(18 + (9 - o) % 9 for o in range(9)), 29, 30, 27, 28, 31]
)  # fmt: skip
"""Which of a cell's 32 numbers each becomes in a mirror."""


def hog_32(image: NDArray, *, cell: int = 8) -> NDArray[np.float32]:
    """Cells of a picture `(H, W, C)` from 0 to 255: `(rows, columns, 32)`, two rows and columns fewer than there are.

    18 directions with sign and 9 without, each half the sum of four normalisations cut at 0.2; the energy of each of
    the four; and 0, which is 1 where somebody pads the map. A vote is shared between the four nearest cells.
    """
    values = image.astype(np.float32 if image.dtype == np.uint8 else np.float64)
    all_rows, all_columns = (max(2, int(n / cell + 0.5)) for n in values.shape[:2])
    height, width = (min(n, v) for n, v in zip(values.shape[:2], (all_rows * cell, all_columns * cell)))
    if min(height, width) < 3 or min(all_rows, all_columns) < 3:
        return np.zeros((max(all_rows - 2, 0), max(all_columns - 2, 0), PARTS_NUMBERS), np.float32)
    inner = values[:height, :width]
    dx, dy = _steepest(inner[1:-1, 2:] - inner[1:-1, :-2], inner[2:, 1:-1] - inner[:-2, 1:-1])
    turns = np.arctan2(dy, dx) * (PARTS_DIRECTIONS / (2 * np.pi))
    direction = np.ceil(turns - 0.5).astype(np.int64) % PARTS_DIRECTIONS  # the nearest
    votes = _shared(np.hypot(dx, dy), direction, cell, all_rows, all_columns)
    unsigned = votes[..., :9] + votes[..., 9:]
    energy = (unsigned**2).sum(-1)
    block = energy[:-1, :-1] + energy[1:, :-1] + energy[:-1, 1:] + energy[1:, 1:]
    norms = 1 / np.sqrt(block + 1e-4)
    four = np.stack([norms[1:, 1:], norms[:-1, 1:], norms[1:, :-1], norms[:-1, :-1]], -1)  # below right, right ...
    signed, plain = (np.minimum(v[1:-1, 1:-1, :, None] * four[..., None, :], 0.2) for v in (votes, unsigned))
    zero = np.zeros((*four.shape[:2], 1))
    return np.concatenate([signed.sum(-1) / 2, plain.sum(-1) / 2, 0.2357 * signed.sum(-2), zero], -1).astype(np.float32)


def _steepest(dx: NDArray, dy: NDArray) -> tuple[NDArray, NDArray]:
    """Of slopes `(H, W, C)` those of the channel with the largest, the first of equal ones: `(H, W)`."""
    best_x, best_y = dx[..., 0], dy[..., 0]
    size = best_x**2 + best_y**2
    for c in range(1, dx.shape[-1]):
        other = dx[..., c] ** 2 + dy[..., c] ** 2
        better = other > size
        best_x, best_y = np.where(better, dx[..., c], best_x), np.where(better, dy[..., c], best_y)
        size = np.maximum(size, other)
    return best_x, best_y


def _shared(slope: NDArray, direction: NDArray, cell: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Votes `(rows, columns, 18)`: each pixel's slope, between the four nearest cells; its first pixel is (1, 1)."""
    y, x = ((np.arange(n) + 1.5) / cell - 0.5 for n in slope.shape)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    found = np.zeros((rows + 2) * (columns + 2) * PARTS_DIRECTIONS)  # a border of cells that are cut off
    for at_y, part_y in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for at_x, part_x in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            place = ((at_y[:, None] + 1) * (columns + 2) + at_x[None, :] + 1) * PARTS_DIRECTIONS + direction
            weight = slope * part_y[:, None] * part_x[None, :]
            found += np.bincount(place.ravel(), weight.ravel(), len(found))
    return found.reshape(rows + 2, columns + 2, PARTS_DIRECTIONS)[1:-1, 1:-1]
