"""Videos, frame by frame, in the order they are shown, and back.

PyAV (FFmpeg) decodes and encodes. Reading streams: one frame is in memory at a time, whatever the length.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.media.door import MAX_PIXELS, check_pixels, kind_of, reading, reason

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts")
LARGE = 320 * 320
"""Pixels of a frame from which several threads are worth their start."""
_WRITABLE = (".mp4", ".mov", ".m4v", ".mkv")


def is_video(path: str | Path) -> bool:
    """Whether the suffix is one of `SUFFIXES`; for listing folders (the file is not opened)."""
    return Path(path).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Frame:
    """One frame as shown: `image` (H, W, 3) uint8 RGB, rotation applied; `time` in seconds of the file's clock."""

    image: np.ndarray
    time: float
    index: int  # 0 for the first frame


def read_video(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """The frames of a video file, streaming, in presentation order.

    A file that cannot be opened raises a `SightlineError` at once. A file that is truncated or damaged further on gives
    the frames up to the damage and then raises one that says where. `max_pixels` bounds one frame.
    """
    path = Path(path)
    kind_of(path)  # missing, empty, a folder: said before FFmpeg says it in its own words
    with reading(path, "video"):
        return _streamed(path, open_container(path), max_pixels)


def read_camera(number: int, *, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """The frames of camera `number` (0 is the first), until the caller stops; a `SightlineError` when there is none."""
    import sys

    import av

    device, system = {
        "linux": (f"/dev/video{number}", "v4l2"),
        "darwin": (str(number), "avfoundation"),
        "win32": (f"video={number}", "dshow"),
    }.get(sys.platform, (f"/dev/video{number}", "v4l2"))
    try:
        container = av.open(device, format=system)
    except (OSError, ValueError) as error:
        raise SightlineError(
            f"camera {number} cannot be opened ({error.args[-1] if error.args else error}): plug it in, "
            "choose another number, or give a video file"
        ) from error
    return _streamed(Path(f"camera {number}"), container, max_pixels)


def open_container(path: Path) -> Any:
    """The file, opened by PyAV, with a video stream in it; a context manager."""
    import av

    container = av.open(str(path))
    if not container.streams.video:
        container.close()
        raise SightlineError(f"{path} holds no video stream: a video was expected")
    return container


def threads(stream: Any) -> None:
    """Let the decoder or encoder use all cores for large frames only: starting threads costs more than small frames."""
    if stream.height * stream.width < LARGE:
        stream.codec_context.thread_count = 1
    else:
        stream.thread_type = "AUTO"


def _streamed(path: Path, container: Any, max_pixels: int) -> Iterator[Frame]:
    """Frames until the end, or until the first sign of damage, which becomes a `SightlineError`."""
    index, time, damage = 0, 0.0, ""
    try:
        stream = container.streams.video[0]
        check_pixels(path, stream.height, stream.width, max_pixels)
        threads(stream)
        for frame in _decoded(container, stream):
            if isinstance(frame, str):
                damage = frame
                break
            check_pixels(path, frame.height, frame.width, max_pixels)
            time = _time(frame, index, stream)
            yield Frame(_image(frame), time, index)
            index += 1
    except SightlineError:
        raise
    except Exception as error:
        damage = reason(error)
    finally:
        container.close()
    if index == 0:
        why = f" ({damage})" if damage else ""
        raise SightlineError(f"{path} holds no frame that can be decoded{why}: it seems damaged; copy it again")
    if damage or _ends_early(path):
        raise SightlineError(
            f"{path} is truncated or damaged after {index} frames ({time:.2f} s): {damage or 'the file ends early'}; "
            "the frames before are good, copy it again for the rest"
        )


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; at damage, first the frames the decoder still holds, then the reason as a string."""
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise ValueError("a packet is cut short")
            yield from packet.decode()
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):
            yield from stream.codec_context.decode(None)
        yield reason(error)


def _ends_early(path: Path) -> bool:
    """Whether a Matroska file is shorter than its segment says, which FFmpeg takes for a normal end (RFC 9559)."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        if stream.read(4) != b"\x1aE\xdf\xa3":
            return False
        stream.seek(_element_size(stream) or 0, 1)
        if stream.read(4) != b"\x18S\x80g":
            return False
        size = _element_size(stream)
        return size is not None and stream.tell() + size > path.stat().st_size


def _element_size(stream: BinaryIO) -> int | None:
    """The size that follows an EBML element's name; None when it was left open."""
    first = int.from_bytes(stream.read(1) or b"\xff", "big")
    length = 9 - first.bit_length()
    value = int.from_bytes(bytes([first & (0xFF >> length)]) + stream.read(length - 1), "big")
    return None if value == 2 ** (7 * length) - 1 else value


def _time(frame: Any, index: int, stream: Any) -> float:
    if frame.pts is not None:
        return float(frame.pts * stream.time_base)
    return index / float(stream.average_rate or 25)  # raw streams carry no times


def _image(frame: Any) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90 counts
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class VideoWriter:
    """Writes frames into an H.264 video; nothing at `path` until the block ends well.

        with VideoWriter("out.mp4", fps=25) as out:
            out.write(image)                # (H, W, 3) uint8 RGB, or (H, W) grey; all of one size

    quality: the encoder's constant rate factor, 0 (lossless) to 51; 20 is hard to tell from the original. H.264 needs
    even sides: an odd one gains a copy of its last row or column.
    """

    def __init__(self, path: str | Path, fps: float, *, quality: int = 20) -> None:
        self._path, self._quality = Path(path), quality
        if self._path.suffix.lower() not in _WRITABLE:
            raise UsageError(f"{path} has no suffix of a video that can be written: use one of {', '.join(_WRITABLE)}")
        if not 0 < fps <= 1000:
            raise UsageError(f"fps {fps} for {path}: a rate above 0 and up to 1000 frames a second was expected")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._size: tuple[int, int] | None = None
        self._count = 0
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        import av

        temporary = self._stack.enter_context(replacing(self._path))
        options = {} if self._path.suffix.lower() == ".mkv" else {"movflags": "faststart"}
        self._container = self._stack.enter_context(av.open(str(temporary), "w", options=options))
        return self

    def write(self, image: np.ndarray) -> None:
        """Append one frame."""
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8 or 0 in image.shape:
            raise UsageError(
                f"a frame of shape {image.shape} and type {image.dtype.name}: (H, W, 3) uint8 was expected"
            )
        if self._size is None:
            self._start(image.shape[0], image.shape[1])
        if image.shape[:2] != self._size:
            raise UsageError(
                f"a frame of {image.shape[:2]} in {self._path}: all frames must be {self._size} like the first"
            )
        self._encode(_even(np.broadcast_to(image, (*image.shape[:2], 3))))
        self._count += 1

    def _start(self, height: int, width: int) -> None:
        import av

        if "libx264" not in av.codecs_available:
            raise UsageError("this build of PyAV has no H.264 encoder (libx264): pip install --force-reinstall av")
        self._size = (height, width)
        self._stream: Any = self._container.add_stream("libx264", rate=self._rate)
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        threads(self._stream)
        self._stream.options = {"crf": str(self._quality)}

    def _encode(self, image: np.ndarray) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._size is None:
                raise SightlineError(f"{self._path} got no frame: a video needs at least one")
            self._container.mux(self._stream.encode(None))


def _even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else image
    return np.ascontiguousarray(padded)
