"""What is in a data set of one class a picture or video: sizes, values, samples a class, frames a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.datasets.brains import is_volume_record, volume_at
from sightline.datasets.classes import order_by_hash
from sightline.datasets.records import ClassRecord, DataSet
from sightline.datasets.stats import Counting, Stats
from sightline.datasets.youtube8m import FeatureRecord, video_at
from sightline.errors import SightlineError
from sightline.media.image import read_image


@dataclass(frozen=True)
class LabelStats:
    """`pixels`: of a sample of the pictures, or of a frame of each video looked at; `counts`: samples of each class."""

    pixels: Stats
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    frames: int  # the median number of frames; 1: pictures
    fps: float  # the median rate
    volume: tuple[int, int, int] | None = None  # depth, height and width, where the samples are volumes
    features: bool = False  # the samples are features of videos, and may have several classes

    @property
    def samples(self) -> int:
        """How many there are in all."""
        return sum(self.counts)


def label_stats(data: DataSet, *, limit: int = 60, seed: int = 0, skipped: dict[str, str] | None = None) -> LabelStats:
    """Look at no more than `limit` samples, chosen by seed; count the labels of all.

    Raises `SightlineError` with the path of a file that cannot be read; with `skipped`, such files are left out and
    noted there, key -> why, unless none can.
    """
    from sightline.media.clips import video_info

    count, frames, rates = Counting(2), [], []
    chosen = sorted(order_by_hash([r.key for r in data.records], seed)[:limit])
    for record in (data.records[i] for i in chosen):
        try:
            if record.video:
                info = video_info(record.image.path)
                frames.append(info.frames)
                rates.append(info.fps)
            count.picture(look(record))
        except SightlineError as error:
            if skipped is None:
                raise
            skipped[record.key] = str(error)
    if not count.sizes:
        raise SightlineError(f"{data.root}: not one of {len(chosen)} files can be read; run sightline data check")
    counts = np.bincount([r.labels for r in data.records if r.labels is not None], minlength=len(data.classes))
    return LabelStats(
        pixels=count.result(len(data.records)),
        counts=tuple(int(n) for n in counts),
        classes=data.classes,
        frames=int(np.median(frames)) if frames else 1,
        fps=float(np.median(rates)) if rates else 25.0,
        volume=volume_size_of(data),
        features=isinstance(data.records[0], FeatureRecord),
    )


def volume_size_of(data: DataSet) -> tuple[int, int, int] | None:
    """The size that all volumes of a data set have; None of pictures and videos.

    Raises `SightlineError` where the first and the last one differ.
    """
    first, last = data.records[0], data.records[-1]
    if not is_volume_record(first):
        return None
    a, b = (volume_at(r.image.path, r.image.page).size for r in (first, last))
    if a != b:
        raise SightlineError(
            f"{last.image.path} has the size {b}, {first.image.path} {a}; bring all volumes to one size"
        )
    return a


def look(record: ClassRecord) -> np.ndarray:
    """The picture `(H, W, C)`, or the middle frame of the video, the middle slice of the volume, features as such."""
    path = Path(record.image.path)
    if isinstance(record, FeatureRecord):
        return video_at(path, record.image.page).rgb[..., None]
    if is_volume_record(record):
        volume = volume_at(path, record.image.page).array
        return volume[len(volume) // 2]
    if not record.video:
        return read_image(path, page=record.image.page)
    from sightline.media.clips import read_frames, video_info

    info = video_info(path)
    return read_frames(path, [info.frames // 2], info=info)[0]
