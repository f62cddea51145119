"""Volumes as pictures and as files: three orthogonal slices through the middle of what was found; NIfTI out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.media import draw
from sightline.segmentation.draw import Colours, overlay, triptych

if TYPE_CHECKING:
    from sightline.segmentation.answer import LabelMap

SHOWN = 256
"""Pixels of the longest side of a drawn slice."""


def middle(labels: np.ndarray) -> tuple[int, int, int]:
    """Along each axis, the slice with the most voxels of classes above 0 (the central one where there are none)."""
    inside = (labels > 0) & (labels != 255)
    counts = [inside.sum(axis=tuple(k for k in range(3) if k != axis)) for axis in range(3)]
    place = [int(c.argmax()) if c.any() else len(c) // 2 for c in counts]
    return place[0], place[1], place[2]


def cuts(x: np.ndarray, place: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    """The three slices of `(D, H, W, ...)` through `place`, pixels square: axial, coronal, sagittal.

    Slices are stretched by repetition; head up where D counts upwards, as in NIfTI.
    """
    found = []
    for axis, (rows, columns) in enumerate(((1, 2), (0, 2), (0, 1))):
        plane = np.take(x, place[axis], axis=axis)[::-1]
        height, width = plane.shape[0] * spacing[rows], plane.shape[1] * spacing[columns]
        scale = SHOWN / max(height, width)
        y = (np.arange(max(1, round(height * scale))) / (height * scale) * plane.shape[0]).astype(int)
        z = (np.arange(max(1, round(width * scale))) / (width * scale) * plane.shape[1]).astype(int)
        found.append(plane[y.clip(0, plane.shape[0] - 1)][:, z.clip(0, plane.shape[1] - 1)])
    return found


def grey(image: np.ndarray) -> np.ndarray:
    """The first channel of `(D, H, W, C)` as uint8 `(D, H, W, 1)`, from the 1st to the 99th percentile."""
    first = image[..., :1].astype(np.float32)
    low, high = np.nanpercentile(first.ravel()[:: max(1, first.size // 1_000_000)], (1, 99))
    scaled = np.nan_to_num((first - low) / max(float(high - low), 1e-6)).clip(0, 1)
    return (scaled * 255).astype(np.uint8)


def draw_volume(answer: LabelMap, image: np.ndarray | None, alpha: float) -> np.ndarray:
    """The three slices side by side, labels over the volume: uint8 `(H, W, 3)`."""
    labels = answer.labels.cpu().numpy()
    place = middle(labels)
    planes = cuts(labels, place, answer.spacing)
    pictures = [None] * 3 if image is None else cuts(grey(image), place, answer.spacing)
    panels = [
        overlay(picture, plane, answer.classes, answer.colours, alpha=alpha) for picture, plane in zip(pictures, planes)
    ]
    return draw.grid(panels, columns=3, gap=6)


def save_volume(answer: LabelMap, folder: str | Path) -> dict[str, str]:
    """Write the labels as NIfTI on the volume's own grid, or `.npz` where it has no place in space, and the slices."""
    from sightline.media.image import write_image
    from sightline.media.volume import write_volume

    folder = Path(folder)
    labels = folder / f"{answer.name}{'.npz' if answer.affine is None else '.nii.gz'}"
    write_volume(labels, answer.labels.cpu().numpy(), spacing=answer.spacing, affine=answer.affine)
    written = {"labels": str(labels)}
    if answer.image is not None:
        written["overlay"] = str(folder / f"{answer.name}-slices.jpg")
        write_image(written["overlay"], answer.draw())
    return written


def volume_panel(image: np.ndarray, truth: np.ndarray, answer: LabelMap, colours: Colours) -> np.ndarray:
    """Three rows (axial, coronal, sagittal) of volume, truth and answer side by side."""
    place = middle(np.where(truth == 255, 0, truth))
    rows = zip(
        cuts(grey(image), place, answer.spacing),
        cuts(truth, place, answer.spacing),
        cuts(answer.labels.cpu().numpy(), place, answer.spacing),
    )
    return draw.grid([triptych(a, b, c, answer.classes, colours) for a, b, c in rows], columns=1, gap=6)
