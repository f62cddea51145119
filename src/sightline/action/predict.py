"""A video in; the probabilities of its classes, and a timeline of them, out.

The rule that the network was trained with (`Preprocess.clip`) says which frames make a clip; as many clips as cover the
video (or `views` of them) are looked at. Every frame that any of them needs is decoded once.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.action.features import RULE
from sightline.action.features import answer as answer_features
from sightline.action.sampling import parse_rule
from sightline.action.targets import to_clip, to_volume
from sightline.action.video import Video, as_read, of_array, of_file, shown_frame
from sightline.classification.answer import Labels, Moment, named
from sightline.classification.contract import of_logits
from sightline.classification.predict import Procedure, cropped, fused, view_scores
from sightline.contracts import Preprocess
from sightline.datasets.brains import is_brain, volume_at
from sightline.datasets.youtube8m import Video8M, feature_files, read_videos
from sightline.errors import SightlineError, UsageError
from sightline.media.draw import to_display
from sightline.media.frame_folders import is_frame_folder
from sightline.media.prepare import as_float, target_size
from sightline.media.sources import Source
from sightline.media.video import is_video
from sightline.media.volume import Volume

FEW = 4
"""Clips that are looked at together."""


@torch.inference_mode()
def answer(
    net: nn.Module,
    video: Video | Volume | Video8M | np.ndarray,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "video",
    procedure: Procedure | None = None,
) -> Labels:
    """Classify a video, or a volume, with a network in eval mode on any device; the timeline says it of each clip."""
    procedure = procedure or Procedure()
    device = next(net.parameters()).device
    if isinstance(video, Video8M) or preprocess.clip == RULE:
        if not isinstance(video, Video8M) or preprocess.clip != RULE:
            raise UsageError(f"{name}: features of frames (.tfrecord) and youtube8m_logistic belong together")
        return answer_features(net, video, channels=preprocess.channels, classes=classes, name=name)
    if isinstance(video, Volume):
        total = view_scores(net(to_volume(video, preprocess)[None].to(device)), procedure.fuse).cpu()
        middle = to_display(video.array[len(video.array) // 2])
        return Labels(fused([total], procedure.fuse), named(classes, total.shape[1]), name, image=middle)
    video = of_array(video) if isinstance(video, np.ndarray) else video
    rule = parse_rule(preprocess.clip)
    video = as_read(video, preprocess.channels, rule.flow)
    count = procedure.views or rule.covering(video.frames, fps=video.fps)
    chosen = rule.views(video.frames, count, fps=video.fps)  # (V, T)
    needed = sorted(set(chosen.flatten().tolist()))
    place = {frame: k for k, frame in enumerate(needed)}
    pixels = video.read(needed, target_size(video.size, preprocess.resize))
    scores: list[Tensor] = []
    for first in range(0, count, FEW):
        part = chosen[first : first + FEW]
        views = [to_clip(pixels[[place[k] for k in row.tolist()]], preprocess.channels) for row in part]
        seen = [crop for view in views for crop in cropped(view, procedure.crops)]
        found = view_scores(net(as_float(torch.stack(seen)).to(device)), procedure.fuse).cpu()
        scores += list(found.unflatten(0, (len(part), -1)).mean(1))
    each = torch.stack(scores)
    timeline = []
    step = 1 / video.fps
    for row, score in zip(chosen, each):
        p = score if procedure.fuse == "probabilities" else of_logits(score)
        timeline.append(Moment(video.times[int(row.min())], video.times[int(row.max())] + step, p))
    total = fused([each], procedure.fuse)
    return Labels(
        total,
        named(classes, len(total)),
        name,
        timeline=tuple(timeline) if count > 1 else (),
        image=shown_frame(pixels[place[int(chosen[count // 2][len(chosen[0]) // 2])]]),
    )


def sources(source: Any) -> Iterator[Source]:
    """The videos or volumes of any source: a file, a folder and what is below it, a glob, a list, an array of frames.

    Nothing is decoded before `read()`. Raises `SightlineError` when there is nothing, `UsageError` for no source.
    """
    if isinstance(source, np.ndarray):
        return iter([_source("video", lambda: of_array(source), None)])
    if isinstance(source, (str, Path)):
        return _listed(source)
    if isinstance(source, (list, tuple)) and source:
        return (found for item in source for found in sources(item))
    raise UsageError(f"a {type(source).__name__} is no source of videos: give a file, a folder, a pattern or an array")


def _listed(source: str | Path) -> Iterator[Source]:
    path = Path(source)
    if path.is_file() and path.suffix.lower() == ".tfrecord":
        return _features(path)
    if is_frame_folder(path):
        paths, names = [path], [path.name]
    elif path.is_dir():
        paths = sorted(p for p in path.rglob("*") if is_video(p) and p.is_file())
        paths = paths or sorted(p for p in path.rglob("*") if is_frame_folder(p) or is_brain(p))
        names = [p.relative_to(path).with_suffix("").as_posix() for p in paths]
        if not paths and (found := feature_files(path)):
            return (source for file in found for source in _features(file))
    elif path.is_file():
        paths, names = [path], [path.stem]
    else:
        paths = sorted(Path(p) for p in glob.glob(str(source), recursive=True))  # noqa: PTH207 (absolute patterns too)
        names = [p.stem for p in paths]
    if not paths:
        raise SightlineError(f"{source} holds no video: expected files such as .mp4 or .avi; check the path")
    return (_source(name, lambda p=p: volume_at(p) if is_brain(p) else of_file(p), p) for name, p in zip(names, paths))


def _features(path: Path) -> Iterator[Source]:
    """The videos of a file of features."""
    return (
        _source(video.key or f"{path.stem}-{k:06d}", lambda v=video: v, path)
        for k, video in enumerate(read_videos(path))
    )


def _source(name: str, read: Callable[[], Video | Volume | Video8M], path: Path | None) -> Source:
    return Source(name, read, path)  # pyright: ignore[reportArgumentType] (a video in place of a picture)
