"""Decoding one strip or tile of a TIFF into values, with memory bounded by that strip or tile.

TIFF 6.0 and its supplements: fill order, bit packing, horizontal (2) and floating-point (3) predictors, byte order.
Deflate is inflated here, up to the size the header promises; what libtiff knows and Python does not (LZW, PackBits,
CCITT, JPEG, Zstandard, LZMA) goes through Pillow's libtiff, as a one-strip file around the same bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import TiffImagePlugin

from sightline.errors import SightlineError

NONE, CCITT, LZW, JPEG, PACKBITS = 1, (2, 3, 4), 5, 7, 32773
DEFLATE = (8, 32946)
LIBTIFF = (LZW, PACKBITS, 34925, 50000, *CCITT)  # 34925 LZMA, 50000 Zstandard
# The largest growth from stored to decoded bytes, where the method has one; a header that promises more is lying.
_GROWTH = {NONE: 1, PACKBITS: 64, LZW: 4096, 8: 1032, 32946: 1032}

SHORT, LONG, UNDEFINED, LONG8 = 3, 4, 7, 16
_CODES = {SHORT: "H", LONG: "I", UNDEFINED: "B", LONG8: "Q"}
Tag = tuple[int, int, tuple[int, ...] | bytes]  # code, type, values


@dataclass(frozen=True)
class Coding:
    """How the values of every segment of a page are stored."""

    compression: int
    predictor: int
    bits: int
    kind: str  # "u", "i" or "f"
    order: str  # "<" or ">"
    reversed_bits: bool
    photometric: int
    tables: bytes  # JPEG tables shared by all segments
    options: int  # of CCITT group 3 and 4

    @property
    def dtype(self) -> np.dtype:
        """The type of decoded values, in the machine's byte order; packed bits widen to whole bytes."""
        size = self.bits if self.bits in (8, 16, 32, 64) else 8 if self.bits < 8 else 16 if self.bits < 16 else 32
        return np.dtype(f"{self.kind}{size // 8}")


def promised(coding: Coding, stored: int) -> float:
    """The most bytes that `stored` bytes can decode to."""
    return stored * _GROWTH.get(coding.compression, float("inf"))


def decode(coding: Coding, data: bytes, rows: int, columns: int, samples: int) -> np.ndarray:
    """(rows, columns, samples) of one segment's bytes; raises `SightlineError` when the bytes hold less."""
    stride = -(-columns * samples * coding.bits // 8)
    size = stride * rows
    if promised(coding, len(data)) < size:
        raise SightlineError(f"a segment of {len(data)} bytes cannot hold {size}")
    if coding.compression == JPEG:
        return _jpeg(coding, data, rows, columns, samples)
    raw = _unpacked(coding, data, rows, stride, columns * samples)
    if len(raw) < size:
        raise SightlineError(f"a segment holds {len(raw)} of {size} bytes")
    flat = np.frombuffer(raw, np.uint8, size).reshape(rows, stride)
    if coding.predictor == 3:
        return _float_predictor(coding, flat, columns, samples)
    values = _typed(coding, flat, columns * samples).reshape(rows, columns, samples)
    if coding.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values


def _unpacked(coding: Coding, data: bytes, rows: int, stride: int, count: int) -> bytes:
    """The segment's bytes without compression, at most `rows * stride` of them; `count` values a row."""
    if coding.reversed_bits and coding.compression not in CCITT:
        data = _reverse_bits(data)
    if coding.compression == NONE:
        return data
    if coding.compression in DEFLATE:
        return zlib.decompressobj().decompress(data, rows * stride)
    if coding.compression in CCITT:
        fill = (266, SHORT, (2 if coding.reversed_bits else 1,))
        option = (293 if coding.compression == 4 else 292, LONG, (coding.options,))
        image = _through_libtiff(coding, data, count, rows, 1, 1, (fill, option))
        return np.packbits(image.astype(bool), axis=1).tobytes()
    return _through_libtiff(coding, data, stride, rows, 8, 1, ()).tobytes()


def _reverse_bits(data: bytes) -> bytes:
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()


def _typed(coding: Coding, flat: np.ndarray, count: int) -> np.ndarray:
    """(rows, bytes) to (rows, count) in the machine's byte order, unpacking odd bit depths."""
    if coding.bits in (8, 16, 32, 64):
        return flat.view(np.dtype(f"{coding.order}{coding.kind}{coding.bits // 8}")).astype(coding.dtype)
    bits = np.unpackbits(flat, axis=1)[:, : count * coding.bits].reshape(len(flat), count, coding.bits)
    values = np.zeros(bits.shape[:2], coding.dtype)
    for place in range(coding.bits):
        values = values << 1 | bits[..., place]
    return values.astype(coding.dtype)


def _float_predictor(coding: Coding, flat: np.ndarray, columns: int, samples: int) -> np.ndarray:
    """TIFF technical note 3: differences of bytes, and the bytes of a row's values sorted by significance."""
    size = coding.bits // 8
    summed = np.cumsum(flat.reshape(len(flat), -1, samples), axis=1, dtype=np.uint8)
    planes = summed.reshape(len(flat), size, columns * samples)
    values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
    return values.reshape(len(flat), columns, samples).astype(coding.dtype)


def _jpeg(coding: Coding, data: bytes, rows: int, columns: int, samples: int) -> np.ndarray:
    tags = ((347, UNDEFINED, coding.tables),) if coding.tables else ()
    image = _through_libtiff(coding, data, columns, rows, 8, samples, tags, coding.photometric)
    return image.reshape(rows, columns, -1)[..., :samples]


def _through_libtiff(
    coding: Coding,
    data: bytes,
    width: int,
    height: int,
    bits: int,
    samples: int,
    tags: tuple[Tag, ...],
    photometric: int = 1,
) -> np.ndarray:
    """The segment as a picture of its own, decoded by Pillow's libtiff: (H, W) or (H, W, C)."""
    header = 8
    entries = [
        (256, LONG, (width,)),
        (257, LONG, (height,)),
        (258, SHORT, (bits,) * samples),
        (259, SHORT, (coding.compression,)),
        (262, SHORT, (photometric,)),
        (273, LONG, (header,)),
        (277, SHORT, (samples,)),
        (278, LONG, (height,)),
        (279, LONG, (len(data),)),
        *tags,
    ]
    if samples == 4 and photometric == 2:
        entries.append((338, SHORT, (2,)))
    start = header + len(data) + len(data) % 2
    file = b"".join(
        (struct.pack("<2sHI", b"II", 42, start), data, b"\0" * (len(data) % 2), directory(entries, start, big=False))
    )
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(file))
    return np.asarray(image)


def directory(tags: list[Tag], start: int, *, big: bool) -> bytes:
    """The bytes of a little-endian TIFF directory that will stand at offset `start`, with its long values behind it."""
    count, entry, inline = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    tags = sorted(tags)
    behind = start + struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + inline
    head, tail = struct.pack(count, len(tags)), b""
    for code, kind, values in tags:
        body = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
        head += struct.pack(entry, code, kind, len(values))
        if len(body) <= inline:
            head += body.ljust(inline, b"\0")
        else:
            head += (behind + len(tail)).to_bytes(inline, "little")
            tail += body + b"\0" * (len(body) % 2)
    return head + b"\0" * inline + tail
