"""What stands in a picture file, before it is read as a picture (`image.py`) or as labels (`labels.py`).

The same PNG can be a photograph or a map of class numbers; decoders here say what is stored (indices, palette,
which value is white) and leave the meaning to the two readers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.errors import UsageError

Colours = Sequence[Sequence[int]] | np.ndarray

# EXIF orientation -> (swap rows and columns, then flip rows, then flip columns) that turns stored into shown.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Raster:
    """Decoded values and what they mean.

    values: (H, W, C) as stored, alpha already dropped. palette: (N, 3) uint8 when the values are indices into it.
    white: the stored value that is shown as white (1 for 1-bit files, 15 for 4-bit, 255, 65535 ...); 0 when the
    full range of the type counts (floats too). inverted: zero is white. lossy: values went through JPEG or the like.
    """

    values: np.ndarray
    palette: np.ndarray | None = None
    white: int = 0
    inverted: bool = False
    lossy: bool = False


def picture(raster: Raster) -> np.ndarray:
    """The raster as a picture: (H, W, C) uint8, uint16 or float32 over the full range of its type, writable."""
    values = raster.values
    if raster.palette is not None:
        return _coloured(values[..., 0], raster.palette)
    if raster.inverted:
        white = raster.white or np.iinfo(values.dtype).max
        values = white - np.minimum(values, white)
    if raster.white and raster.white not in (255, 65535):
        full = 255 if raster.white < 255 else 65535
        scaled = (values.astype(np.uint64) * full + raster.white // 2) // raster.white
        values = np.minimum(scaled, full).astype(np.uint8 if full == 255 else np.uint16)
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        values = values.astype(np.float32)
    return np.require(values, requirements=["C", "W"])


def _coloured(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    entries = max(int(indices.max(initial=0)) + 1, len(palette))
    table = np.zeros((entries, 3), np.uint8)  # indices beyond the palette are black, as other readers show them
    table[: len(palette)] = palette
    return table[indices]


def turned(raster: Raster, orientation: int) -> Raster:
    """The raster as it is meant to be looked at, by its EXIF `orientation` (1 to 8; anything else changes nothing)."""
    return replace(raster, values=turn(raster.values, orientation))


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """`array` (H, W, ...) turned from stored to shown by an EXIF orientation; a copy only where needed."""
    swap, rows, columns = _TURNS.get(orientation, _TURNS[1])
    if not (swap or rows or columns):
        return array
    array = array.swapaxes(0, 1) if swap else array
    return np.ascontiguousarray(array[:: -1 if rows else 1, :: -1 if columns else 1])


def turned_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(H, W) as shown, of a picture stored as `height` x `width`."""
    return (width, height) if _TURNS.get(orientation, _TURNS[1])[0] else (height, width)


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Where the shown `window` (y0, y1, x0, x1) stands in the stored picture whose shown size is `size` (H, W)."""
    swap, rows, columns = _TURNS.get(orientation, _TURNS[1])
    y0, y1, x0, x1 = window
    if rows:
        y0, y1 = size[0] - y1, size[0] - y0
    if columns:
        x0, x1 = size[1] - x1, size[1] - x0
    return (x0, x1, y0, y1) if swap else (y0, y1, x0, x1)


def exif_orientation(exif: bytes | None) -> int:
    """The orientation (1 to 8) in a block of EXIF data; 1 when there is none or the block is damaged.

    Only the one tag is looked for (TIFF 6.0, section 2: header, then the entries of the first directory).
    """
    exif = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 14:
        return 1
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(order + "H", exif, entry + 8)
            return value if value in _TURNS else 1
    return 1


def full_palette(colours: Colours) -> np.ndarray:
    """(256, 3) uint8: the given colours for the ids 0, 1, ..., black beyond them, white for 255."""
    given = np.asarray(colours)
    if (
        given.ndim != 2
        or given.shape[1] != 3
        or len(given) > 256
        or given.min(initial=0) < 0
        or given.max(initial=0) > 255
    ):
        raise UsageError(f"colours of shape {given.shape}: up to 256 triples (r, g, b) of 0..255 were expected")
    table = np.zeros((256, 3), np.uint8)
    table[255] = 255
    table[: len(given)] = given
    return table
