"""Videos that can be asked for frames: of a file, a folder or an array; of motion, or of both side by side.

What a network reads is told by its channels: 3 (or 1) are frames; 2 are fields of flow, x and y; 5 are a frame and the
field that begins with it. Field i leads from frame i to frame i + 1. Fields come, in this order, from

- the source itself, where it is a folder of flow;
- a folder of flow beside it: in the path of the video, the folder `frames` (or `rgb`, `images`, `jpegs`, `jpegs_256`,
  `videos`) becomes `flow` (or `tvl1_flow`, `flow/u`, `tvl1_flow/u`); or VIDEO_flow beside VIDEO;
- OpenCV, where the clip's rule ends in `+dis` or `+tvl1`;
- without any of these, for networks of flow alone, red and green of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sightline.classification.targets import resize_frames
from sightline.datasets.brains import is_volume_record, volume_at
from sightline.datasets.records import ClassRecord
from sightline.errors import SightlineError, UsageError
from sightline.media.clips import read_frames, video_info
from sightline.media.flow_made import flow_bytes, flow_method
from sightline.media.frame_folders import is_frame_folder
from sightline.media.volume import Volume

FLOW, BOTH = 2, 5
"""Channels of networks of flow, and of networks of frames and flow."""
FRAMES = ("frames", "rgb", "images", "jpegs", "jpegs_256", "videos")
FIELDS = ("flow", "tvl1_flow", "flow/u", "tvl1_flow/u")


@dataclass(frozen=True)
class Video:
    """A video that can be asked for frames: how many, how fast, how large, and `read(indices, size)`.

    path: where it is; None in memory. fields: what it holds is flow in two channels.
    """

    frames: int
    fps: float
    size: tuple[int, int]
    times: tuple[float, ...]
    read: Callable[[Sequence[int], tuple[int, int]], np.ndarray]
    path: Path | None = None
    fields: bool = False


def of_record(record: ClassRecord) -> Video | Volume:
    """The video or volume of a record."""
    image = record.image
    return volume_at(image.path, image.page) if is_volume_record(record) else of_file(image.path)


def of_file(path: str | Path) -> Video:
    """A video file, or a folder of frames."""
    info = video_info(path)
    return Video(
        info.frames,
        info.fps,
        info.size,
        info.times,
        lambda wanted, size: read_frames(path, wanted, size=size, info=info),
        Path(path),
        bool(info.files) and len(info.files[0]) == 2,
    )


def of_array(frames: np.ndarray, fps: float = 25.0) -> Video:
    """Frames `(T, H, W, 3)` uint8 in memory."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise UsageError(f"an array of shape {frames.shape} is no video: (T, H, W, 3) uint8 was expected")

    def read(wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
        x = torch.from_numpy(frames[list(wanted)]).permute(3, 0, 1, 2)
        return resize_frames(x, size).permute(1, 2, 3, 0).numpy()

    times = tuple(k / fps for k in range(len(frames)))
    return Video(len(frames), fps, (frames.shape[1], frames.shape[2]), times, read)


def as_read(video: Video, channels: int, method: str = "") -> Video:
    """The video as a network of that many channels reads it; method: how flow is computed where there is none."""
    if channels not in (FLOW, BOTH):
        return video
    if channels == FLOW and video.fields:
        return video
    name = video.path or "the video"
    if video.fields:
        raise SightlineError(f"{name} holds flow, and this network reads frames too: give the frames, flow beside them")
    beside = None if video.path is None else flow_beside(video.path)
    if beside is not None:
        fields = of_file(beside)
    elif method:
        fields = computed(video, method)
    elif channels == FLOW:
        return video
    else:
        raise SightlineError(
            f"{name} has no flow beside it (a folder flow beside frames): give one, or a rule such as arange(10,1)+dis"
        )
    return fields if channels == FLOW else both(video, fields)


def flow_beside(path: Path) -> Path | None:
    """The folder of flow that belongs to a video, by the names of folders; None where there is none."""
    parts = path.parts
    places = [path.with_name(path.stem + "_flow")]
    for k in reversed(range(len(parts) - 1)):
        if parts[k].lower() in FRAMES:
            rest = Path(*parts[k + 1 :])
            places += [Path(*parts[:k], name, rest.with_suffix("") if path.is_file() else rest) for name in FIELDS]
    return next((place for place in places if is_frame_folder(place)), None)


def computed(video: Video, method: str) -> Video:
    """The fields of a video, each computed between two frames when it is read, at the size that is asked for."""
    if video.frames < 2:
        raise SightlineError(f"{video.path or 'the video'} has one frame: motion needs two")
    between = flow_method(method)

    def read(wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
        starts = sorted({int(i) for i in wanted})
        needed = sorted({*starts, *(i + 1 for i in starts)})
        place = {frame: k for k, frame in enumerate(needed)}
        frames = video.read(needed, size)
        fields = {i: flow_bytes(between(frames[place[i]], frames[place[i + 1]])) for i in starts}
        return np.stack([fields[int(i)] for i in wanted])

    return Video(video.frames - 1, video.fps, video.size, video.times[:-1], read, video.path, fields=True)


def both(video: Video, fields: Video) -> Video:
    """Frames with their fields: `(N, H, W, 5)`. Raises `SightlineError` where their numbers do not belong together."""
    if fields.frames not in (video.frames - 1, video.frames):
        raise SightlineError(
            f"{fields.path} holds {fields.frames} fields, {video.path} {video.frames} frames: "
            f"expected {video.frames - 1}; compute the flow again"
        )

    def read(wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
        return np.concatenate([video.read(wanted, size), fields.read(wanted, size)], axis=3)

    return Video(fields.frames, video.fps, video.size, video.times[: fields.frames], read, video.path)


def shown_frame(frame: np.ndarray) -> np.ndarray:
    """A frame for looking: of flow (x, y) the third colour stays at none, of a frame with flow the frame."""
    if frame.shape[2] == FLOW:
        return np.concatenate([frame, np.full_like(frame[..., :1], 128)], axis=2)
    return frame[..., :3]
