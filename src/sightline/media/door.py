"""The door where pictures come in: what a file is by its first bytes, and every failure as one sentence.

Suffixes lie, so the first bytes decide. Sizes are read from headers and compared with the pixel limit before
anything is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import SightlineError

MAX_PIXELS = 2**28  # 16,384 x 16,384; a picture of this size takes 0.8 GB as 8-bit colour

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\x1aE\xdf\xa3", "video"),  # Matroska, WebM
    (b"\0\0\x01\xba", "video"),  # MPEG program stream
    (b"FLV\x01", "video"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}


def sniff(head: bytes) -> str:
    """The format that a file's first 16 bytes promise: "PNG", "JPEG", ..., "video", or "" when unknown."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in _AVIF_BRANDS else "HEIC" if brand in _HEIC_BRANDS else "video"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#":
        return "PNM"
    return ""


def kind_of(path: Path) -> str:
    """`sniff` of a file; a missing, empty or unreadable file raises a `SightlineError`."""
    with reading(path, "file"):
        with path.open("rb") as stream:
            head = stream.read(16)
        if not head:
            raise SightlineError(f"{path} is empty (0 bytes): copy it again or leave it out")
        return sniff(head)


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """Turn whatever a decoder throws inside this block into one sentence about `path`.

    Decoders fail in a hundred ways (OSError, SyntaxError, struct.error, IndexError, zlib.error, MemoryError ...);
    here is the one place that catches them all, because a bad file must never end in a traceback.
    """
    try:
        yield
    except SightlineError:
        raise
    except FileNotFoundError as error:
        raise SightlineError(f"{path} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise SightlineError(f"{path} is a folder: a {what} was expected") from error
    except PermissionError as error:
        raise SightlineError(f"{path} cannot be opened: permission denied (or it is a folder)") from error
    except MemoryError as error:
        raise SightlineError(f"{path} needs more memory than there is to be read as a {what}") from error
    except Exception as error:
        raise SightlineError(
            f"{path} cannot be read as a {what}: it seems damaged ({reason(error)}); copy it again or leave it out"
        ) from error


def reason(error: BaseException) -> str:
    """What a foreign exception says, on one short line."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:120] or type(error).__name__


def check_pixels(path: Path | str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture without area or with more than `max_pixels` pixels, from its header alone."""
    if height < 1 or width < 1:
        raise SightlineError(f"{path} is damaged: its header says {width} x {height} pixels; copy it again")
    if height * width > max_pixels:
        raise SightlineError(
            f"{path} has {width} x {height} pixels, above the limit of {max_pixels}; if you trust the file, "
            f"raise the limit with max_pixels={height * width}"
        )


def check_bytes(path: Path | str, needed: float, available: int, what: str) -> None:
    """Refuse a header that promises more than the bytes behind it can hold, before memory is taken for it."""
    if needed > available:
        raise SightlineError(
            f"{path} is truncated or damaged: its header promises more pixels than {available} bytes of {what} "
            "can hold; copy it again or leave it out"
        )
