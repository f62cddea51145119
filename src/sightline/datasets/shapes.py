"""What LabelMe, CVAT and COCO have in common: numbers that are checked, names that become class ids, painting order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.folders import shown
from sightline.datasets.survey import NOT_SCORED, Asked
from sightline.errors import SightlineError
from sightline.media.image import MAX_PIXELS

BACKGROUND = frozenset({"background", "_background_", "__background__", "bg"})


def points_of(values: Any, source: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    """Points `(N, 2)` of x, y from a list of pairs or a flat list; anything but numbers near the picture is refused."""
    try:
        points = np.asarray(values, np.float64)
        points = points.reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise SightlineError(f"{source}: {shown(values)} are not points; expected pairs of numbers x, y") from None
    reach = 2 * np.array([size[1], size[0]], np.float64) + 100
    if not (np.isfinite(points).all() and (np.abs(points) <= reach).all()):
        raise SightlineError(
            f"{source}: a point of {shown(values)} is far outside the picture of {size[1]} x {size[0]} pixels; "
            "expected pixel coordinates x, y"
        )
    return points


def size_of(height: Any, width: Any, source: Path) -> tuple[int, int]:
    """A picture size (height, width) from an annotation file."""
    if not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in (height, width)):
        raise SightlineError(f"{source}: height {shown(height)}, width {shown(width)} are no picture size; give pixels")
    if height * width > MAX_PIXELS:
        raise SightlineError(f"{source}: {width} x {height} pixels, expected at most {MAX_PIXELS}; is the size right?")
    return height, width


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """The corners of a box."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ellipse(cx: float, cy: float, rx: float, ry: float) -> list[tuple[float, float]]:
    """A polygon of 72 points on an ellipse."""
    angles = (2 * math.pi * i / 72 for i in range(72))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


class Names:
    """From the names of labels to class ids: asked names, or all names met; background is 0 and fills the rest.

    One class besides the background is a binary set: its shapes are 1, everything else 0.
    """

    def __init__(self, asked: Asked, met: Iterable[str]) -> None:
        names = asked.classes or tuple(met)
        shapes = [n for n in names if n.lower() not in BACKGROUND and n.lower() not in NOT_SCORED]
        self.classes = tuple(shapes) if len(shapes) == 1 else ("background", *shapes)
        self.ids = {name: i for i, name in enumerate(shapes, start=1)}

    def number(self, name: Any, source: Path) -> int:
        """The class id of a label, 255 for names that mean "never scored"."""
        if isinstance(name, str):
            low = name.lower()
            if name in self.ids:
                return self.ids[name]
            if low in NOT_SCORED or low in BACKGROUND:
                return 255 if low in NOT_SCORED else 0
        raise SightlineError(
            f"{source}: the label {shown(name)} is not among the classes {', '.join(self.ids)}; add it to classes"
        )

    @property
    def notes(self) -> list[str]:
        """What was decided, in words."""
        if len(self.ids) == 1:
            return [f'one class "{self.classes[0]}": its shapes, everything else is background']
        return [
            f"{len(self.classes)} classes: background and {len(self.ids)} labels; pixels without a shape are background"
        ]


def check_names(names: Sequence[str], source: Path) -> None:
    """Refuse annotation files without labels, or with more than one byte can number."""
    if not names:
        raise SightlineError(f"{source} has no labels at all; expected shapes with class names")
    if len(names) > 254:
        raise SightlineError(f"{source}: {len(names)} labels, expected at most 254; merge some, or choose with classes")
