"""Folders of numbered pictures as videos: frames, or fields of optical flow in the usual layouts.

    VIDEO/img_00001.jpg ...                                 frames (any name that ends in a number)
    VIDEO/flow_x_00001.jpg, VIDEO/flow_y_00001.jpg ...      flow, two grey pictures a field (x_00001.jpg, y_... too)
    u/VIDEO/frame000001.jpg, v/VIDEO/frame000001.jpg ...    the same in two folders; the video is called u/VIDEO
    VIDEO/00001.jpg ...                                     flow in the red and green of one picture: read as frames

Frame i is the i-th in the order of the numbers. A number that is left out is an error, as is a picture of another size:
what follows would be another moment than it seems. There are no times in a folder: 25 pictures a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError
from sightline.media.image import image_size, is_image, read_image

FPS = 25.0
_FLOW = re.compile(r"^(?:flow_?)?([xyuv])_?(\d+)$", re.I)
_NUMBER = re.compile(r"(\d+)$")
_OTHER = {"u": "v", "x": "y", "flow_x": "flow_y"}


def is_frame_folder(path: str | Path) -> bool:
    """Whether `path` is a folder with numbered pictures and nothing below."""
    path = Path(path)
    try:
        first = next((p for p in sorted(path.iterdir())[:20] if is_image(p)), None) if path.is_dir() else None
    except OSError:
        return False
    return first is not None and bool(_NUMBER.search(first.stem))


def frame_files(path: Path) -> tuple[tuple[Path, ...], ...]:
    """The files of each frame, in order: one picture, or x and y of a field of flow.

    Raises `SightlineError` for an empty folder, a number that is left out, an x without its y.
    """
    try:
        found = [p for p in path.iterdir() if is_image(p) and _NUMBER.search(p.stem)]
    except OSError as error:
        raise SightlineError(
            f"{path} cannot be read as a folder of frames ({error.strerror}): check the path"
        ) from error
    if not found:
        raise SightlineError(f"{path} holds no numbered pictures: expected names such as img_00001.jpg")
    flow = {p: m for p in found if (m := _FLOW.match(p.stem))}
    if flow:
        return _pairs(path, {p: (m[1].lower(), int(m[2])) for p, m in flow.items()})
    numbers = {int(m[1]): p for p in found if (m := _NUMBER.search(p.stem))}
    if len(numbers) != len(found):
        raise SightlineError(f"{path} holds pictures of the same number; keep one video's frames in a folder")
    _gapless(path, numbers)
    other = _twin(path)
    if other is None:
        return tuple((numbers[k],) for k in sorted(numbers))
    rows = tuple((numbers[k], other / numbers[k].name) for k in sorted(numbers))
    missing = next((b for _, b in rows if not b.is_file()), None)
    if missing is not None:
        raise SightlineError(f"{missing} is missing: flow needs both directions of every field")
    return rows


def frame_size(files: tuple[tuple[Path, ...], ...]) -> tuple[int, int]:
    """Height and width of the first picture."""
    return image_size(files[0][0])


def read_folder(files: Sequence[tuple[Path, ...]], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Pictures `(H, W, C)` uint8 by their place in `files`; C is 3, or 2 of flow. Of another size: an error."""
    found = {}
    for k, row in enumerate(files):
        planes = [read_image(p) for p in row]
        for p, plane in zip(row, planes):
            if plane.shape[:2] != size or plane.dtype != np.uint8:
                raise SightlineError(
                    f"{p} has {plane.shape[1]} x {plane.shape[0]} pixels of {plane.dtype}, its video "
                    f"{size[1]} x {size[0]} of 8 bits; write all frames alike"
                )
        if len(planes) == 2:
            found[k] = np.stack([plane[..., 0] for plane in planes], axis=-1)
        else:
            picture = planes[0]
            found[k] = np.repeat(picture, 3, axis=-1) if picture.shape[2] == 1 else picture[..., :3]
    return found


def _pairs(path: Path, flow: dict[Path, tuple[str, int]]) -> tuple[tuple[Path, ...], ...]:
    first = {number: p for p, (letter, number) in flow.items() if letter in "xu"}
    second = {number: p for p, (letter, number) in flow.items() if letter in "yv"}
    odd = sorted(set(first) ^ set(second))
    if odd:
        raise SightlineError(f"{path}: field {odd[0]} has only one of its two directions; write it again")
    _gapless(path, first)
    return tuple((first[k], second[k]) for k in sorted(first))


def _gapless(path: Path, numbers: dict[int, Path]) -> None:
    lowest, highest = min(numbers), max(numbers)
    if highest - lowest + 1 != len(numbers):
        gap = next(k for k in range(lowest, highest) if k not in numbers)
        raise SightlineError(
            f"{path} has no frame {gap} between {lowest} and {highest}: later ones would be taken for others; "
            "copy the folder again"
        )


def _twin(path: Path) -> Path | None:
    """The folder of the other direction: v/VIDEO for u/VIDEO."""
    name = _OTHER.get(path.parent.name.lower())
    if name is None:
        return None
    twin = path.parent.parent / name / path.name
    if not twin.is_dir():
        raise SightlineError(f"{twin} is missing: {path} holds one direction of flow and needs the other")
    return twin
