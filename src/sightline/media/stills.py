"""PNG, JPEG, WebP, BMP, GIF and AVIF through Pillow's decoders, without Pillow's global limits.

`PIL.Image.open` compares sizes with a limit that is global to the process and warns or raises by it. Here the
format's own reader is called instead, after our own look at the header (`Head`), so the caller's limit is the only one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    features,
)

from sightline.errors import SightlineError
from sightline.media.door import check_bytes, check_pixels
from sightline.media.raster import Raster, exif_orientation, turned

_DEFLATE_RATIO = 1032  # no deflate stream grows by more (zlib's technical page)
_JPEG_PIXELS_A_BYTE = 1024  # one bit for an 8 x 8 block, and subsampled components
_GIF_PIXELS_A_BYTE = 4096  # the longest entry of the code table
_GREY, _COLOUR, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 4, 6  # PNG colour types

_OPENERS = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
KINDS = frozenset(_OPENERS)


@dataclass(frozen=True)
class Head:
    """What a header says: the stored size, the EXIF orientation, and for PNG the bit depth and colour type."""

    height: int
    width: int
    orientation: int = 1
    depth: int = 8
    colour: int = _COLOUR
    compressed: int = 0  # bytes of compressed pixels


def head(path: Path, kind: str) -> Head:
    """The header of a picture, read without decoding any pixel."""
    if kind == "PNG":
        return _png_head(path)
    if kind == "WebP":
        return _webp_head(path)
    with path.open("rb") as stream:
        return _head_of(_opened(path, stream, kind))


def _opened(path: Path, stream: BinaryIO, kind: str) -> ImageFile.ImageFile:
    """The format's own reader, its header read."""
    if kind == "AVIF" and not features.check("avif"):
        raise SightlineError(f"{path} is an AVIF picture, and this Pillow cannot decode it: convert it to PNG or JPEG")
    return _OPENERS[kind](stream)


def _head_of(image: ImageFile.ImageFile) -> Head:
    return Head(image.height, image.width, exif_orientation(image.info.get("exif")))


def raster(path: Path, kind: str, max_pixels: int, reduce_to: tuple[int, int] | None = None) -> Raster:
    """The picture's values as stored, turned as it is meant to be seen.

    reduce_to: (H, W) as shown; a JPEG may come back smaller (by 2, 4 or 8) but never below it.
    """
    facts = head(path, kind) if kind in ("PNG", "WebP") else None  # before Pillow takes memory for what they promise
    if facts is not None:
        _check(path, kind, facts, max_pixels)
        if kind == "PNG" and facts.depth == 16 and facts.colour != _GREY:
            return turned(Raster(_png_16_bit(path, facts)), facts.orientation)
    with path.open("rb") as stream:
        image = _opened(path, stream, kind)
        if facts is None:
            facts = _head_of(image)
            _check(path, kind, facts, max_pixels)
        if kind == "BMP":
            _check_bmp(path, image)
        if kind == "JPEG" and reduce_to is not None:
            height, width = reduce_to if facts.orientation < 5 else reduce_to[::-1]
            image.draft(None, (max(width, 1), max(height, 1)))
        image.load()
        found = of_pillow(image, depth=facts.depth if kind == "PNG" else 8, lossy=kind in ("JPEG", "AVIF"))
    return turned(found, facts.orientation)


def of_pillow(image: Image.Image, *, depth: int = 8, lossy: bool = False) -> Raster:
    """The values of a Pillow picture, whatever its mode; alpha is dropped, palettes are kept apart.

    depth: bits a grey value had in its file (Pillow stretches 2 and 4 bits to 8; indices need them back).
    """
    mode = image.mode
    if mode in ("P", "PA"):
        indices = np.array(image).reshape(image.height, image.width, -1)[..., :1]
        table = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return Raster(indices, table)
    if mode == "1":
        return Raster(np.array(image).astype(np.uint8)[..., None], white=1)
    if mode in ("CMYK", "YCbCr", "HSV", "LAB", "RGBa", "La"):
        image = image.convert("L" if mode == "La" else "RGB")
    values = np.array(image)
    values = values[..., None] if values.ndim == 2 else values
    values = values[..., : 1 if values.shape[2] < 3 else 3]
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if depth < 8:
        white = 2**depth - 1
        return Raster(values // (255 // white), white=white)
    return Raster(values, lossy=lossy)


def _check(path: Path, kind: str, facts: Head, max_pixels: int) -> None:
    check_pixels(path, facts.height, facts.width, max_pixels)
    size, pixels = path.stat().st_size, facts.height * facts.width
    if kind == "PNG":
        samples = {_COLOUR: 3, _GREY_ALPHA: 2, _COLOUR_ALPHA: 4}.get(facts.colour, 1)
        check_bytes(path, pixels * samples * facts.depth / 8 / _DEFLATE_RATIO, facts.compressed, "pixels")
    elif kind == "JPEG":
        check_bytes(path, pixels / _JPEG_PIXELS_A_BYTE, size, "JPEG")
    elif kind == "GIF":
        check_bytes(path, pixels / _GIF_PIXELS_A_BYTE, size, "GIF")


def _check_bmp(path: Path, image: ImageFile.ImageFile) -> None:
    name, _, offset, arguments = image.tile[0]
    if name == "raw" and isinstance(arguments, tuple):
        check_bytes(path, arguments[1] * image.height, path.stat().st_size - offset, "BMP")
    elif name == "bmp_rle":
        check_bytes(path, image.width * image.height / 255, path.stat().st_size, "BMP")


def _png_head(path: Path) -> Head:
    """Walk the chunks (PNG specification, section 5.3) for the header, EXIF, and the bytes of compressed pixels."""
    header, exif, compressed = b"", b"", 0
    with path.open("rb") as stream:
        stream.seek(8)
        while len(start := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", start)
            if name == b"IHDR" and length == 13:
                header = stream.read(13)
                length = 0
            elif name == b"eXIf" and length < 2**20:
                exif, length = stream.read(length), 0
            elif name == b"IDAT":
                compressed += length
            elif name == b"IEND":
                break
            stream.seek(length + 4, 1)
    if len(header) < 13:
        raise SightlineError(f"{path} is truncated or damaged: its PNG header is missing; copy it again")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    compressed = min(compressed, path.stat().st_size)
    return Head(height, width, exif_orientation(exif), depth, colour, compressed)


def _png_16_bit(path: Path, facts: Head) -> np.ndarray:
    """(H, W, C) uint16 of a PNG with 16 bits and more than one channel, which Pillow would cut to 8 bits.

    Its decoder can be told how the bytes of a row are to be read. Colour: once for the high bytes, and once as if the
    low bytes came last, which gives the low ones. Grey with alpha: the four bytes of a pixel as four channels.
    """
    if facts.colour == _GREY_ALPHA:
        return _png_bytes(path, "RGBA", "RGBA").view(">u2")[..., :1].astype(np.uint16)
    mode = "RGB" if facts.colour == _COLOUR else "RGBA"
    values = _png_bytes(path, mode, f"{mode};16B")[..., :3].astype(np.uint16)
    values <<= 8
    values |= _png_bytes(path, mode, f"{mode};16L")[..., :3]
    return values


def _png_bytes(path: Path, mode: str, raw_mode: str) -> np.ndarray:
    with path.open("rb") as stream:
        image = PngImagePlugin.PngImageFile(stream)
        if not image.tile:
            raise SightlineError(f"{path} is truncated or damaged: it holds no pixels; copy it again")
        image._mode = mode
        image.tile = [image.tile[0]._replace(args=raw_mode)]
        image.load()
        return np.array(image)


def _webp_head(path: Path) -> Head:
    """Walk the RIFF chunks (WebP container specification) for the canvas and EXIF."""
    size, orientation = None, 1
    with path.open("rb") as stream:
        stream.seek(12)
        while len(start := stream.read(8)) == 8:
            name, length = struct.unpack("<4sI", start)
            body = stream.read(min(length, 2**16 if name == b"EXIF" else 10))
            if size is None and name in (b"VP8 ", b"VP8L", b"VP8X") and len(body) >= 10:
                size = _webp_size(name, body)
            elif name == b"EXIF":
                orientation = exif_orientation(body)
            stream.seek(length - len(body) + (length & 1), 1)
    if size is None:
        raise SightlineError(f"{path} is truncated or damaged: its WebP header is missing; copy it again")
    return Head(*size, orientation)


def _webp_size(name: bytes, body: bytes) -> tuple[int, int]:
    if name == b"VP8X":
        return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return int.from_bytes(body[8:10], "little") & 0x3FFF, int.from_bytes(body[6:8], "little") & 0x3FFF
