"""Exact frames of a video file: frame i is the i-th in the order of presentation, or an error.

One pass over the packets, which decodes nothing, finds how many frames there are, when each is shown and where decoding
can begin. Then only what is asked for is decoded (from the key frame before it, when that saves work), and only what is
kept is converted, at the size that is wanted. After a jump the first frame that comes out is checked against the list;
files whose packets do not tell (old AVI) are decoded from the start and counted.

PyAV decodes, which brings its FFmpeg along. With torchcodec and a system's FFmpeg, `backend="torchcodec"` or the
environment's `SIGHTLINE_VIDEO=torchcodec` (training, workers and all) decodes with those: the same frames, held against
the same list; where the two disagree over a file, PyAV decodes it.

A folder of numbered pictures is a video too: see `sightline.media.frame_folders`.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import SightlineError, UsageError
from sightline.media.door import MAX_PIXELS, check_pixels, kind_of, reading, reason
from sightline.media.frame_folders import FPS, frame_files, frame_size, read_folder
from sightline.media.video import LARGE, open_container, read_video, threads

MAX_FRAMES = 10_000_000
FAR = 24
"""Frames that a jump to a key frame must save to be worth it."""
BACKENDS = ("pyav", "torchcodec")


@dataclass(frozen=True)
class VideoInfo:
    """What the packets of a video say. times: seconds of each frame, in the order of presentation."""

    path: Path
    times: tuple[float, ...]
    size: tuple[int, int]  # height and width as shown
    stamps: tuple[int, ...] = ()  # presentation stamps, ascending; () when the packets do not tell
    keys: tuple[int, ...] = ()  # places in `stamps` at which decoding can begin
    files: tuple[tuple[Path, ...], ...] = ()  # of a folder of frames: the pictures of each

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames a second, on average; 25 where the times do not tell."""
        span = self.times[-1] - self.times[0] if self.frames > 1 else 0.0
        return (self.frames - 1) / span if span > 0 else 25.0


def video_info(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> VideoInfo:
    """Count and time the frames of a video without decoding them (but one, for the size).

    Raises `SightlineError` for a file that is missing, damaged, or holds no video.
    """
    path = Path(path)
    if path.is_dir():
        files = frame_files(path)
        size = frame_size(files)
        check_pixels(path, *size, max_pixels)
        return VideoInfo(path, tuple(k / FPS for k in range(len(files))), size, files=files)
    info = _listed(path, max_pixels)
    with reading(path, "video"), open_container(path) as container:
        if _turned(container, container.streams.video[0], path):
            info = replace(info, size=info.size[::-1])
    return info


def _listed(path: Path, max_pixels: int) -> VideoInfo:
    """The frames' times as the packets tell them, and the size before turning: what reading needs, nothing decoded."""
    kind_of(path)
    with reading(path, "video"), open_container(path) as container:
        stream = container.streams.video[0]
        size = (stream.height, stream.width)
        check_pixels(path, *size, max_pixels)
        stamps, keys, tells = _packets(container, stream, path)
        base = float(stream.time_base)
    order = sorted(stamps)
    if not tells or len(set(order)) != len(order) or not order:
        return _counted(path, size, max_pixels)
    places = {stamp: k for k, stamp in enumerate(order)}
    first = order[0]
    times = tuple((stamp - first) * base for stamp in order)
    return VideoInfo(path, times, size, tuple(order), tuple(sorted(places[k] for k in keys)))


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    *,
    size: tuple[int, int] | None = None,
    info: VideoInfo | None = None,
    max_pixels: int = MAX_PIXELS,
    backend: str | None = None,
) -> np.ndarray:
    """The frames `indices` (any order, repeated at will) of a video: uint8 RGB `(N, H, W, 3)`; of flow x and y.

    size: height and width of every frame; None: the video's own. info: from `video_info`, when it is at hand.
    backend: one of `BACKENDS`; None: what the environment's `SIGHTLINE_VIDEO` says, or PyAV.
    Raises `UsageError` for a frame the video does not have, `SightlineError` for one that cannot be decoded.
    """
    path = Path(path)
    backend = backend or os.environ.get("SIGHTLINE_VIDEO") or "pyav"
    if backend not in BACKENDS:
        raise UsageError(f"'{backend}' decodes no video here; choose {' or '.join(BACKENDS)}")
    if info is None:
        info = video_info(path, max_pixels=max_pixels) if path.is_dir() else _listed(path, max_pixels)
    wanted = sorted({int(i) for i in indices})
    if not wanted:
        raise UsageError("no frames were asked for; name at least one")
    if wanted[0] < 0 or wanted[-1] >= info.frames:
        bad = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise UsageError(f"{path} has {info.frames} frames, 0 to {info.frames - 1}; there is no frame {bad}")
    if info.files:
        pictures = read_folder([info.files[i] for i in wanted], info.size)
        places = {frame: k for k, frame in enumerate(wanted)}
        kept = {k: _fitted(picture, size) for k, picture in pictures.items()}
        return np.stack([kept[places[int(i)]] for i in indices])
    kept = Kept(path, indices, size)
    if backend == "torchcodec" and info.stamps and _by_torchcodec(info, wanted, kept):
        return kept.frames
    if not info.stamps or not _jumped(info, wanted, kept):
        kept = Kept(path, indices, size)
        _sequential(info, wanted, kept, max_pixels)
    return kept.frames


class Kept:
    """The frames that are asked for, converted one after the other straight into the answer.

    One converter serves all of them (a new one for each frame costs as much as the conversion), and no frame is held
    twice.
    """

    def __init__(self, path: Path, indices: Sequence[int], size: tuple[int, int] | None) -> None:
        from av.video.reformatter import VideoReformatter

        self.path, self.size, self.frames = path, size, np.empty(0, np.uint8)
        self._converter: Any = VideoReformatter()
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            self._places.setdefault(int(index), []).append(place)
        self._count, self._found = len(indices), set[int]()

    def put(self, index: int, frame: Any) -> None:
        """Convert the decoded `frame` and write it to every place that asked for it."""
        picture = self._converted(frame)
        if not self._found:
            self.frames = np.empty((self._count, *picture.shape), np.uint8)
        before = self.frames.shape[1:]
        if picture.shape != before:
            now, then = (" x ".join(map(str, shape[:2])) for shape in (picture.shape, before))
            raise SightlineError(
                f"{self.path}: frame {index} is {now}, frames before it were {then}; name a size for all of them"
            )
        for place in self._places[index]:
            self.frames[place] = picture
        self._found.add(index)

    def missing(self) -> int:
        """How many frames have not come."""
        return len(self._places) - len(self._found)

    def _converted(self, frame: Any) -> np.ndarray:
        """A decoded frame as RGB, turned as it is shown, resized by FFmpeg's bilinear filter."""
        turns = round(frame.rotation / 90) % 4
        few = 1 if frame.height * frame.width < LARGE else 0  # threads: 0 are all
        if self.size is None:
            image = self._converter.reformat(frame, format="rgb24", threads=few).to_ndarray()
        else:
            height, width = self.size if turns % 2 == 0 else self.size[::-1]
            image = self._converter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=few
            ).to_ndarray()
        return np.rot90(image, turns) if turns else image


def _packets(container: Any, stream: Any, path: Path) -> tuple[list[int], list[int], bool]:
    """Presentation stamps of all shown packets, those of key frames, and whether every packet has one."""
    stamps, keys, tells = [], [], True
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.is_corrupt:
            raise SightlineError(f"{path} is truncated or damaged after {len(stamps)} frames: copy it again")
        if packet.pts is None:
            tells = False
            stamps.append(len(stamps))
            continue
        stamps.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
        if len(stamps) > MAX_FRAMES:
            raise SightlineError(f"{path} has more than {MAX_FRAMES} frames: cut it into pieces")
    return stamps, keys, tells


def _turned(container: Any, stream: Any, path: Path) -> bool:
    """Whether the first frame is shown turned by a quarter."""
    threads(stream)
    for packet in container.demux(stream):
        for frame in packet.decode():
            return round(frame.rotation / 90) % 2 == 1
    raise SightlineError(f"{path} holds no frame that can be decoded: it seems damaged; copy it again")


def _counted(path: Path, size: tuple[int, int], max_pixels: int) -> VideoInfo:
    """The slow way: decode all frames and count them."""
    times = tuple(frame.time for frame in read_video(path, max_pixels=max_pixels))
    first = times[0] if times else 0.0
    return VideoInfo(path, tuple(t - first for t in times), size)


def _jumped(info: VideoInfo, wanted: Sequence[int], kept: Kept) -> bool:
    """Put the wanted frames, with jumps to key frames; False when what comes out is not what the packets promised."""
    places = {stamp: k for k, stamp in enumerate(info.stamps)}
    with reading(info.path, "video"), open_container(info.path) as container:
        stream = container.streams.video[0]
        threads(stream)
        queue = list(wanted)
        at = 0
        while queue:
            key = info.keys[max(bisect_right(info.keys, queue[0]) - 1, 0)] if info.keys else 0
            if key - at > FAR:
                container.seek(info.stamps[key], stream=stream, backward=True, any_frame=False)
            before = len(queue)
            for frame in container.decode(stream):
                place = places.get(frame.pts)
                if place is None or (len(queue) == before and place > queue[0]):
                    return False
                at = place + 1
                if queue and place == queue[0]:
                    kept.put(queue.pop(0), frame)
                elif queue and place > queue[0]:
                    return False
                if not queue or _worth_a_jump(info, at, queue[0]):
                    break
            if len(queue) == before:
                return False
    return True


def _by_torchcodec(info: VideoInfo, wanted: Sequence[int], kept: Kept) -> bool:
    """Put the wanted frames as torchcodec finds them; False when it counts or times the file's frames otherwise."""
    from av import VideoFrame

    try:
        from torchcodec.decoders import VideoDecoder

        with open_container(info.path) as container:
            first = container.streams.video[0].index  # torchcodec would take the best
        decoder = VideoDecoder(str(info.path), stream_index=first, dimension_order="NHWC", seek_mode="exact")
    except ImportError as error:
        raise UsageError("torchcodec is not installed: pip install 'sightline[video]', or take pyav") from error
    except RuntimeError as error:
        if "libtorchcodec" in str(error):
            raise UsageError(
                "torchcodec finds no FFmpeg: install the system's FFmpeg, a version that torchcodec knows, or take pyav"
            ) from error
        return False
    if len(decoder) != info.frames:
        return False
    start = decoder.get_frame_at(0).pts_seconds
    for place in wanted:
        frame = decoder.get_frame_at(place)
        if abs(frame.pts_seconds - start - info.times[place]) > 1e-4:
            return False
        kept.put(place, VideoFrame.from_ndarray(frame.data.numpy(), format="rgb24"))
    return True


def _worth_a_jump(info: VideoInfo, at: int, target: int) -> bool:
    key = info.keys[max(bisect_right(info.keys, target) - 1, 0)] if info.keys else 0
    return key - at > FAR


def _sequential(info: VideoInfo, wanted: Sequence[int], kept: Kept, max_pixels: int) -> None:
    """Put the wanted frames by decoding from the start and counting."""
    keep, index = set(wanted), 0
    try:
        with reading(info.path, "video"), open_container(info.path) as container:
            stream = container.streams.video[0]
            threads(stream)
            check_pixels(info.path, stream.height, stream.width, max_pixels)
            for frame in container.decode(stream):
                if index in keep:
                    kept.put(index, frame)
                index += 1
                if index > wanted[-1]:
                    break
    except SightlineError:
        raise
    except Exception as error:
        raise SightlineError(f"{info.path} is damaged after {index} frames ({reason(error)}): copy it again") from error
    if kept.missing():
        raise SightlineError(f"{info.path} is damaged: it ends after {index} frames; copy it again")


def _fitted(picture: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A picture `(H, W, C)` at another size, bilinear with anti-aliasing."""
    if size is None or picture.shape[:2] == size:
        return picture
    from PIL import Image

    planes = [
        Image.fromarray(picture[..., c]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for c in range(picture.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)
