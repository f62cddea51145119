"""From a data set's record to what a network of clips learns from.

Everything random about a sample derives from (run seed, epoch, index), never from a worker's global state.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from sightline.action.features import RULE, FeatureSample, sample_of
from sightline.action.sampling import parse_rule, whole_size
from sightline.action.video import BOTH, FLOW, Video, as_read, of_file
from sightline.classification.targets import Augment, Sample, varied
from sightline.contracts import Preprocess
from sightline.datasets.brains import is_volume_record, volume_at
from sightline.datasets.records import ClassRecord, DataSet
from sightline.datasets.youtube8m import FeatureRecord
from sightline.errors import SightlineError, UsageError
from sightline.media.prepare import as_float, intensity, target_size
from sightline.media.volume import Volume

MEMORY = 1.5e9
"""Bytes of decoded frames that are kept between epochs."""
FIRST_FIELD = {FLOW: 0, BOTH: 3}
"""By the channels of a network that reads flow: the one with x; y follows."""


class ClipSamples(torch.utils.data.Dataset):
    """Clips of the videos of a data set; the item `(epoch, index)` is a pure function of them and of `seed`.

    Videos are read at the size the preprocess gives; where all fit into `MEMORY` (`keep`), each is decoded once.
    """

    def __init__(
        self, data: DataSet, *, preprocess: Preprocess, seed: int, augment: Augment | None = None, keep: bool = False
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[ClassRecord, ...] = data.records
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        told = preprocess.clip
        self.rule = parse_rule(told) if told != RULE and whole_size(told) is None else None
        self._videos: dict[int, Video] = {}
        self.classes = len(data.classes)
        self._volumes: dict[int, Tensor] = {}
        self._frames: dict[int, np.ndarray] | None = {} if keep and fits(data, preprocess) else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample | list[Sample] | FeatureSample:
        epoch, index = ticket
        record = self.records[index]
        if isinstance(record, FeatureRecord):
            return sample_of(record, self.preprocess.channels, self.classes)
        assert record.labels is not None
        if self.rule is None or is_volume_record(record):
            return Sample(record.key, self._brain(index), record.labels)
        rng = np.random.default_rng([self.seed, epoch, index])
        fields = FIRST_FIELD.get(self.preprocess.channels)
        read = partial(self._clip, index, rng)
        return varied(record.key, record.labels, self.augment, self.classes, rng, read, fields=fields)

    def _clip(self, index: int, rng: np.random.Generator) -> Tensor:
        assert self.rule is not None
        video = self._video(index)
        if self.augment is None:
            chosen = self.rule.views(video.frames, 1, fps=video.fps)[0]
        else:
            chosen = self.rule.train(video.frames, rng, fps=video.fps)
        return to_clip(self._read(index, video, chosen), self.preprocess.channels)

    def _brain(self, index: int) -> Tensor:
        if index not in self._volumes:
            image = self.records[index].image
            found = to_volume(volume_at(image.path, image.page), self.preprocess)
            if self._frames is None:
                return found
            self._volumes[index] = found
        return self._volumes[index]

    def _video(self, index: int) -> Video:
        assert self.rule is not None
        if index not in self._videos:
            video = of_file(self.records[index].image.path)
            self._videos[index] = as_read(video, self.preprocess.channels, self.rule.flow)
        return self._videos[index]

    def _read(self, index: int, video: Video, chosen: np.ndarray) -> np.ndarray:
        size = frame_size(video, self.preprocess)
        if self._frames is None:
            return video.read(chosen.tolist(), size)
        if index not in self._frames:
            self._frames[index] = video.read(range(video.frames), size)
        return self._frames[index][chosen]


def fits(data: DataSet, preprocess: Preprocess) -> bool:
    """Whether all frames of all videos stay below `MEMORY` bytes, judged by a few of them."""
    looked = []
    if data.records and isinstance(data.records[0], FeatureRecord):
        return False
    if data.records and is_volume_record(data.records[0]):
        image = data.records[0].image
        return volume_at(image.path, image.page).array.size * 4 * len(data.records) < MEMORY
    for record in data.records[:: max(1, len(data.records) // 8)]:
        try:
            video = of_file(record.image.path)
        except SightlineError:  # whoever reads the videos decides about broken ones
            continue
        height, width = frame_size(video, preprocess)
        looked.append(video.frames * height * width * max(3, preprocess.channels))
    return bool(looked) and max(looked) * len(data.records) < MEMORY


def frame_size(video: Video, preprocess: Preprocess) -> tuple[int, int]:
    """Height and width at which the frames of a video are read."""
    return target_size(video.size, preprocess.resize)


def to_volume(volume: Volume, preprocess: Preprocess) -> Tensor:
    """A volume as the network's `(C, D, H, W)`, its values scaled over the whole of it."""
    if volume.array.shape[3] != preprocess.channels:
        raise UsageError(
            f"the network takes {preprocess.channels} channels, this volume has {volume.array.shape[3]}; "
            f"create it with in_channels={volume.array.shape[3]}"
        )
    depth, height, width, channels = volume.array.shape
    plane = volume.array.reshape(depth * height, width, channels)
    return as_float(intensity(plane, preprocess.intensity)).unflatten(1, (depth, height))


def to_clip(frames: np.ndarray, channels: int) -> Tensor:
    """Frames `(T, H, W, 3)` as a clip `(C, T, H, W)` of the same type; one channel: their mean.

    Two channels are flow: frames with x and y, or pictures with x in red and y in green. Five: a frame and its flow.
    """
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)
    if channels == 1 and x.shape[0] == 3:
        mean = x.float().mean(0, keepdim=True)
        return mean.round().to(x.dtype) if x.dtype == torch.uint8 else mean
    if channels == 2 and x.shape[0] == 3:
        x = x[:2]
    if channels != x.shape[0]:
        raise UsageError(
            f"the network takes {channels} channels, these frames have {x.shape[0]}; "
            f"create it with in_channels={x.shape[0]}"
        )
    return x.contiguous()
