"""PBM, PGM and PPM (netpbm), plain and raw, 1 to 16 bits; Pillow would cut 16-bit colour to 8 bits.

The format's own page (netpbm.sourceforge.net/doc/pnm.html): a magic number, width, height, the largest value (not
for bitmaps), separated by white space and comments, one white space, then the values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError
from sightline.media.door import check_bytes, check_pixels
from sightline.media.raster import Raster

_GAP = rb"(?:\s|#[^\n]*\n)+"
_NUMBERS = re.compile(rb"P[1-6]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_MAXIMUM = re.compile(_GAP + rb"(\d{1,5})")
_LONGEST_HEADER = 65536  # comments included


@dataclass(frozen=True)
class Header:
    """What stands before the values. `start` is the offset of the byte after the single white space."""

    magic: int  # 1 to 6
    height: int
    width: int
    white: int
    start: int


def header(path: Path) -> Header:
    """Read and check the header alone."""
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER)
    found = _NUMBERS.match(head)
    if found is None:
        raise SightlineError(f"{path} starts like a PNM picture but gives no width and height; copy it again")
    magic, end, white = head[1] - ord("0"), found.end(), 1
    if magic not in (1, 4):
        maximum = _MAXIMUM.match(head, end)
        white = int(maximum[1]) if maximum else 0
        if maximum is None or not 0 < white < 65536:
            raise SightlineError(f"{path} gives no largest value between 1 and 65535 in its PNM header; copy it again")
        end = maximum.end()
    return Header(magic, int(found[2]), int(found[1]), white, end + 1)


def raster(path: Path, max_pixels: int) -> Raster:
    """The values of a PNM file."""
    head = header(path)
    check_pixels(path, head.height, head.width, max_pixels)
    channels = 3 if head.magic in (3, 6) else 1
    body = path.stat().st_size - head.start
    if head.magic <= 3:
        values = _plain(path, head, channels, body)
    elif head.magic == 4:
        values = _bits(path, head, body)
    else:
        kind = np.dtype(np.uint8 if head.white < 256 else ">u2")
        count = head.height * head.width * channels
        check_bytes(path, count * kind.itemsize, body, "values")
        values = np.fromfile(path, kind, count, offset=head.start).astype(kind.newbyteorder("="))
    if head.magic in (1, 4):
        values = 1 - values  # a bitmap's 1 is ink; here 1 is white, as in every other format
    return Raster(values.reshape(head.height, head.width, channels), white=head.white)


def _plain(path: Path, head: Header, channels: int, body: int) -> np.ndarray:
    count = head.height * head.width * channels
    check_bytes(path, count, body, "values")  # at least one digit a value
    text = re.sub(rb"#[^\n]*\n?", b" ", path.read_bytes()[head.start - 1 :])
    if head.magic == 1:  # digits of a bitmap need no space between them
        values = np.frombuffer(b"".join(text.split()), np.uint8)[:count].astype(np.int64) - ord("0")
    else:
        values = np.array(text.split()[:count], dtype=np.int64)
    if len(values) < count or values.min(initial=0) < 0 or values.max(initial=0) > head.white:
        raise SightlineError(f"{path} is truncated or damaged: {count} values of 0..{head.white} were expected")
    return values.astype(np.uint8 if head.white < 256 else np.uint16)


def _bits(path: Path, head: Header, body: int) -> np.ndarray:
    stride = -(-head.width // 8)
    check_bytes(path, stride * head.height, body, "values")
    packed = np.fromfile(path, np.uint8, stride * head.height, offset=head.start).reshape(head.height, stride)
    return np.unpackbits(packed, axis=1)[:, : head.width]
