"""Reading and writing pictures: the file decides what it is, never its suffix.

JPEG, PNG (16-bit colour without loss), WebP, BMP, GIF (first frame), AVIF (where Pillow can), TIFF and PBM/PGM/PPM.
Every failure is one `SightlineError` sentence with the path; nothing is decoded above the pixel limit.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import replacing
from sightline.media import pnm, stills, tiff
from sightline.media.door import MAX_PIXELS, kind_of, reading
from sightline.media.geo import fill_nodata, read_geo
from sightline.media.raster import Raster, picture, turned_size

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "image_size",
    "is_image",
    "pages",
    "read_image",
    "read_raster",
    "write_image",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".avif", ".pgm", ".ppm", ".pbm", ".pnm")
_JPEG_QUALITY = 90


def is_image(path: str | Path) -> bool:
    """Whether the suffix is one of `SUFFIXES`; for listing folders (the file is not opened)."""
    return Path(path).suffix.lower() in SUFFIXES


def read_image(
    path: str | Path,
    *,
    page: int = 0,
    max_pixels: int = MAX_PIXELS,
    reduce_to: tuple[int, int] | None = None,
) -> np.ndarray:
    """The picture in a file, as it is meant to be seen.

    Returns (H, W, C) uint8, uint16 or float32, writable; C is 1 (grey) or 3 (RGB), more for multi-band TIFF. Palettes
    become RGB, CMYK becomes RGB, alpha is dropped, EXIF orientation is applied, 1-bit pictures are 0 and 255. Where a
    GeoTIFF names a value for "nothing measured", the lowest measured value stands there; see `without_data`.

    page: of a multi-page TIFF, from 0. max_pixels: larger pictures are refused before decoding. reduce_to: (H, W) that
    is needed; a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, never below (H, W), other formats in full.
    Raises `SightlineError` for every file that cannot be read.
    """
    path = Path(path)
    found = read_raster(path, page=page, max_pixels=max_pixels, reduce_to=reduce_to)
    with reading(path, "picture"):
        return fill_nodata(picture(found), read_geo(path, page=page))


def without_data(path: str | Path, *, page: int = 0, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """True where a GeoTIFF says that nothing was measured, bool `(H, W)`; None for files that name no such value."""
    geo = read_geo(path, page=page)
    if geo is None or geo.nodata is None:
        return None
    found = read_raster(Path(path), page=page, max_pixels=max_pixels)
    with reading(path, "picture"):
        return geo.without_data(picture(found))


def read_raster(
    path: Path, *, page: int = 0, max_pixels: int = MAX_PIXELS, reduce_to: tuple[int, int] | None = None
) -> Raster:
    """What stands in a picture file, for the readers of pictures and of labels."""
    kind = _known_kind(path)
    with reading(path, f"{kind} picture"):
        if kind == "TIFF":
            return tiff.read_page(path, page, max_pixels)
        if page != 0:
            raise UsageError(f"{path} has one page, but page {page} was asked for: pages count from 0")
        if kind == "PNM":
            return pnm.raster(path, max_pixels)
        return stills.raster(path, kind, max_pixels, reduce_to)


def image_size(path: str | Path, *, page: int = 0) -> tuple[int, int]:
    """(H, W) of a picture as `read_image` returns it, from the header alone."""
    path = Path(path)
    kind = _known_kind(path)
    with reading(path, f"{kind} picture"):
        if kind == "TIFF":
            return tiff.page_size(path, page)
        if kind == "PNM":
            found = pnm.header(path)
            return found.height, found.width
        head = stills.head(path, kind)
        return turned_size(head.height, head.width, head.orientation)


def pages(path: str | Path) -> int:
    """How many pages a file has: 1 unless it is a multi-page TIFF."""
    path = Path(path)
    kind = _known_kind(path)
    with reading(path, f"{kind} picture"):
        return tiff.count_pages(path) if kind == "TIFF" else 1


def write_image(path: str | Path, array: np.ndarray, *, quality: int = _JPEG_QUALITY) -> Path:
    """Write a picture in the format of the path's suffix, whole or not at all, and return the path.

    array: (H, W), (H, W, 1) or (H, W, 3); uint8 for every format, uint16 for PNG, TIFF and PGM/PPM, and any number of
    channels or float32 for TIFF. quality: 1 to 100, for JPEG and WebP.
    """
    path = Path(path)
    values = np.asarray(array)
    values = values[..., None] if values.ndim == 2 else values
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        hint = did_you_mean(suffix, _WRITERS)
        raise UsageError(
            f"{path} has no suffix of a picture that can be written: use one of {', '.join(_WRITERS)}.{hint}"
        )
    kinds = _WRITERS[suffix]
    channels_fit = values.ndim == 3 and (values.shape[2] in (1, 3) or suffix in (".tif", ".tiff"))
    if values.dtype.name not in kinds or not channels_fit or 0 in values.shape:
        raise UsageError(
            f"{path} cannot hold an array of shape {np.shape(array)} and type {values.dtype.name}: "
            f"give (H, W), (H, W, 1) or (H, W, 3) of {' or '.join(kinds)}, or choose another suffix"
        )
    with replacing(path) as temporary:
        _write(temporary, suffix, np.ascontiguousarray(values), quality)
    return path


_WRITERS = {
    ".png": ("uint8", "uint16"),
    ".jpg": ("uint8",),
    ".jpeg": ("uint8",),
    ".webp": ("uint8",),
    ".bmp": ("uint8",),
    ".tif": ("uint8", "uint16", "float32"),
    ".tiff": ("uint8", "uint16", "float32"),
    ".pgm": ("uint8", "uint16"),
    ".ppm": ("uint8", "uint16"),
}


def _write(path: Path, suffix: str, values: np.ndarray, quality: int) -> None:
    grey = values.shape[2] == 1
    if suffix in (".tif", ".tiff"):
        tiff.write_picture(path, values)
    elif suffix == ".png" and values.dtype == np.uint16:
        write_png_16(path, values)
    elif suffix in (".pgm", ".ppm"):
        white = np.iinfo(values.dtype).max
        header = f"P{5 if grey else 6}\n{values.shape[1]} {values.shape[0]}\n{white}\n".encode()
        path.write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())
    else:
        image = Image.fromarray(values[..., 0] if grey else values)
        if suffix in (".jpg", ".jpeg", ".webp"):
            image.save(path, quality=quality)
        else:
            image.save(path)


def write_png_16(path: Path, values: np.ndarray) -> None:
    """A 16-bit PNG of (H, W, 1 or 3) uint16, each row stored as its difference from the row above (filter 2)."""
    height, width, channels = values.shape
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if channels == 1 else 2, 0, 0, 0)
    with path.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")):
            stream.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))


def _known_kind(path: Path) -> str:
    """The kind of a picture this library reads, or the sentence why not."""
    kind = kind_of(path)
    if kind in stills.KINDS or kind in ("TIFF", "PNM"):
        return kind
    if kind in ("HEIC", "JPEG 2000", "JPEG XL"):
        raise SightlineError(f"{path} is a {kind} picture, which is not supported: convert it to PNG or JPEG first")
    if kind == "video":
        raise SightlineError(
            f"{path} is a video, but a picture was expected: give it to predict as it is, or take its frames out first"
        )
    raise SightlineError(
        f"{path} is not a picture this library knows (its first bytes decide, not its suffix): "
        "expected JPEG, PNG, TIFF, WebP, BMP, GIF or PGM/PPM"
    )
