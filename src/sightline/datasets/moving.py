"""Moving shapes: a made-up clip of discs, squares and triangles whose every truth is known.

Discs, squares and triangles of random colour drift over a soft background, turn, bounce off the borders and cover each
other. One seed gives the same clip on any machine. For demonstrations and tests of whatever needs masks, instances,
boxes or motion; a score on it says nothing about real pictures.

    for frame in moving_shapes(frames=16, seed=3):
        frame.image, frame.labels, frame.boxes
    write_clip("shapes.mp4", moving_shapes(frames=48))
    write_pictures("data/shapes", train=32, val=8)          # a segmentation data set: images/ + masks/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import UsageError

CLASSES = ("background", "disc", "square", "triangle")


@dataclass(frozen=True)
class ShapeFrame:
    """One frame and its truth; N is the number of shapes that can be seen in it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray  # (H, W) uint8, ids of CLASSES
    instances: np.ndarray  # (H, W) uint16: 0 background, 1..n the shapes, the same number through the clip
    ids: np.ndarray  # (N,) int64, the numbers that occur in `instances`
    classes: np.ndarray  # (N,) int64, ids of CLASSES: never 0
    boxes: np.ndarray  # (N, 4) float32 xyxy around the visible pixels, absolute, continuous (a pixel is 1 wide)
    centres: np.ndarray  # (N, 2) float32 x, y of the whole shape, covered or not


@dataclass(frozen=True)
class _Shape:
    """One shape of a clip: what it is and how it moves; lengths in pixels, angles in radians, per frame."""

    kind: int
    radius: float
    start: np.ndarray  # x, y
    speed: np.ndarray
    angle: float
    spin: float
    colour: np.ndarray


def moving_shapes(
    *, frames: int = 16, size: tuple[int, int] = (96, 128), shapes: int = 5, seed: int = 0
) -> Iterator[ShapeFrame]:
    """The frames of one clip, one at a time; `size` is height, width. Later shapes lie above earlier ones."""
    if frames < 1 or not 1 <= shapes <= 200 or min(size) < 16 or seed < 0:
        raise UsageError(
            f"frames {frames}, shapes {shapes}, size {size}, seed {seed}: a clip needs at least 1 frame, 1 to 200 "
            "shapes, sides of at least 16 pixels and a seed of 0 or more"
        )
    rng = np.random.default_rng([seed, *size])
    ground = _background(rng, size)
    cast = [_shape(rng, size) for _ in range(shapes)]
    return (_frame(cast, ground, size, t, seed) for t in range(frames))


def write_clip(path: str | Path, frames: Iterable[ShapeFrame], *, fps: float = 12) -> Path:
    """Write the pictures of `frames` as a video and return its path."""
    from sightline.media.video import VideoWriter

    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.write(frame.image)
    return Path(path)


def write_pictures(
    folder: str | Path,
    *,
    train: int = 32,
    val: int = 8,
    size: tuple[int, int] = (96, 128),
    shapes: int = 5,
    seed: int = 0,
) -> Path:
    """Write a segmentation data set (`images/SPLIT`, `masks/SPLIT`, `classes.txt`); every picture is its own clip.

    Raises `UsageError` when `folder` holds something already.
    """
    from sightline.files import write_text
    from sightline.media.image import write_image
    from sightline.media.labels import write_labels

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give a new folder for the made-up pictures")
    for number in range(train + val):
        split, name = ("train" if number < train else "val"), f"{number:04d}.png"
        frame = next(moving_shapes(frames=1, size=size, shapes=shapes, seed=seed * 1_000_003 + number))
        write_image(folder / "images" / split / name, frame.image)
        write_labels(folder / "masks" / split / name, frame.labels)
    write_text(folder / "classes.txt", "\n".join(CLASSES) + "\n")
    return folder


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A slope between two quiet colours, `(H, W, 3)` float64 in 0..255."""
    y, x = np.mgrid[: size[0], : size[1]]
    direction = rng.uniform(0, 2 * np.pi)
    slope = np.cos(direction) * x / size[1] + np.sin(direction) * y / size[0]
    share = ((slope - slope.min()) / np.ptp(slope))[..., None]
    first, last = rng.uniform(60, 190, (2, 3))
    return first * (1 - share) + last * share


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> _Shape:
    short = min(size)
    radius = rng.uniform(0.09, 0.2) * short
    room = np.array([size[1], size[0]], float)
    return _Shape(
        kind=int(rng.integers(1, len(CLASSES))),
        radius=radius,
        start=rng.uniform(radius, room - radius),
        speed=rng.uniform(-0.04, 0.04, 2) * short,
        angle=rng.uniform(0, 2 * np.pi),
        spin=rng.uniform(-0.15, 0.15),
        colour=rng.uniform(0, 255, 3),
    )


def _frame(cast: list[_Shape], ground: np.ndarray, size: tuple[int, int], t: int, seed: int) -> ShapeFrame:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5  # centres of the pixels
    image = ground.copy()
    labels, instances = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
    places = [_place(shape, size, t) for shape in cast]
    for number, (shape, place) in enumerate(zip(cast, places), start=1):
        inside = _inside(shape, x - place[0], y - place[1], t)
        image[inside] = shape.colour
        labels[inside], instances[inside] = shape.kind, number
    grain = np.random.default_rng([seed, *size, t]).normal(0, 8, (*size, 3))
    ids = np.setdiff1d(instances, [0]).astype(np.int64)
    return ShapeFrame(
        image=np.clip(image + grain, 0, 255).astype(np.uint8),
        labels=labels,
        instances=instances,
        ids=ids,
        classes=np.array([cast[k - 1].kind for k in ids], np.int64),
        boxes=np.array([_box(instances == k) for k in ids], np.float32).reshape(-1, 4),
        centres=np.array([places[k - 1] for k in ids], np.float32).reshape(-1, 2),
    )


def _place(shape: _Shape, size: tuple[int, int], t: int) -> np.ndarray:
    """Where the centre is at frame `t`: a straight path, folded back at the borders."""
    room = np.array([size[1], size[0]], float) - 2 * shape.radius
    travelled = (shape.start - shape.radius + shape.speed * t) % (2 * room)
    return shape.radius + np.minimum(travelled, 2 * room - travelled)


def _inside(shape: _Shape, dx: np.ndarray, dy: np.ndarray, t: int) -> np.ndarray:
    """Which pixels the shape covers; all shapes lie within their radius."""
    if CLASSES[shape.kind] == "disc":
        return dx**2 + dy**2 < shape.radius**2
    turn = shape.angle + shape.spin * t
    corners = {"square": 4, "triangle": 3}[CLASSES[shape.kind]]
    apothem = shape.radius * np.cos(np.pi / corners)
    normals = turn + 2 * np.pi * np.arange(corners) / corners
    return np.all([np.cos(a) * dx + np.sin(a) * dy < apothem for a in normals], axis=0)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
