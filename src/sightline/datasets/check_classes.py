"""What `check` looks at in a sample with one class: a picture, a video, a folder of frames, a volume."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sightline.datasets.brains import is_volume_record, volume_at
from sightline.datasets.records import ClassRecord
from sightline.datasets.survey import Fault
from sightline.datasets.youtube8m import FeatureRecord, video_at
from sightline.errors import SightlineError
from sightline.media.clips import read_frames, video_info
from sightline.media.image import read_image
from sightline.media.video import read_video


def examine(record: ClassRecord) -> tuple[bytes, list[Fault]]:
    """A hash of what the sample shows, and what looks suspicious; every frame is decoded.

    Raises `SightlineError` for what cannot be read.
    """
    path, digest = record.image.path, hashlib.blake2b(digest_size=16)
    if isinstance(record, FeatureRecord):
        video = video_at(path, record.image.page)
        digest.update(video.rgb.tobytes() + video.audio.tobytes())
        return digest.digest(), []
    if is_volume_record(record):
        digest.update(volume_at(path, record.image.page).array.tobytes())
        return digest.digest(), []
    if not record.video:
        picture = read_image(path, page=record.image.page)
        digest.update(f"{picture.shape}{picture.dtype}".encode() + picture.tobytes())
        return digest.digest(), []
    if path.is_dir():
        info = video_info(path)
        for k in range(info.frames):
            digest.update(read_frames(path, [k], info=info).tobytes())
        return digest.digest(), _moments(path, list(info.times))
    times = [frame.time for frame in read_video(path)]
    digest.update(path.read_bytes())
    return digest.digest(), _moments(path, times)


def _moments(path: Path, times: list[float]) -> list[Fault]:
    """Faults of a video that shows nothing over time."""
    if not times:
        raise SightlineError(f"{path} holds no frame: it is empty or damaged; copy it again or leave it out")
    if len(times) == 1:
        sentence = f"{path} has a single frame, which every clip would repeat; leave it out if it is no video"
        return [Fault("warning", path, sentence)]
    if max(times) <= min(times):
        sentence = f"{path} has {len(times)} frames that last no time; write it again with a frame rate"
        return [Fault("warning", path, sentence)]
    return []


def two_classes(record: ClassRecord, first: ClassRecord) -> Fault:
    """The error of one picture or video that stands in two classes."""
    names = " and ".join(str(path.parent.name) for path in (first.image.path, record.image.path))
    sentence = f"{record.key} shows what {first.key} shows, in another class ({names}); correct one of them"
    return Fault("error", record.image.path, sentence)
