"""Whatever a user calls "my pictures", as one stream of named pictures.

A file, folder, glob pattern, list, array, tensor, Pillow picture, multi-page TIFF, video or camera number. Nothing is
decoded before `read()` is called (frames of a video excepted), and a file that cannot be read fails there, so that one
bad file among many can be skipped.
"""

from __future__ import annotations

import glob
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.media import image as images
from sightline.media import video as videos
from sightline.media.door import MAX_PIXELS, kind_of
from sightline.media.raster import picture, turn
from sightline.media.stills import of_pillow


@dataclass(frozen=True)
class Source:
    """One picture to come. `name` is unique in its stream and fit for a file name without suffix (it may have folders).

    path and page: where it stands, None and 0 for pictures that are no file. time: seconds, for frames.
    """

    name: str
    read: Callable[[], np.ndarray]  # (H, W, C) uint8, uint16 or float32, as `read_image` gives
    path: Path | None = None
    page: int = 0
    time: float | None = None


def sources(source: Any, *, max_pixels: int = MAX_PIXELS) -> Iterator[Source]:
    """The pictures of any source, in natural order (img2 before img10).

    source: the path of a picture, multi-page TIFF, video or folder (searched with its subfolders); a glob pattern; an
    array (H, W) or (H, W, C); a tensor (H, W) or (C, H, W); a Pillow picture; a camera number; or a list of these.
    Raises `SightlineError` when there is nothing at the path, `UsageError` for what is no source.
    """
    if isinstance(source, (str, Path)):
        return _of_text(str(source), max_pixels)
    if isinstance(source, bool):
        raise UsageError(f"{source} is no source of pictures: give a path, an array or a camera number")
    if isinstance(source, int):
        return _of_frames(f"camera-{source}/", None, lambda: videos.read_camera(source, max_pixels=max_pixels))
    if _is_single(source):
        return iter([_of_array(source, "picture")])
    if isinstance(source, Iterable):
        return _of_list(list(source), max_pixels)
    raise UsageError(
        f"a {type(source).__name__} cannot be a source: give a path, a pattern, a list, an array or a camera number"
    )


def _of_text(text: str, max_pixels: int) -> Iterator[Source]:
    path = Path(text)
    if "://" in text:
        raise UsageError(f"{text} is an address: download the file and give its path")
    if path.is_dir():
        found = _listed(path)
        if not found:
            raise SightlineError(f"{text} holds no picture or video: expected files such as .jpg, .png, .tif or .mp4")
        return _of_files(found, _names(found, path), max_pixels)
    if path.exists():
        alone = kind_of(path) == "video" or videos.is_video(path)
        return _of_files([path], [""] if alone else [path.stem], max_pixels)
    if glob.has_magic(text):
        matches = (Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns too)
        found = sorted((p for p in matches if p.is_file()), key=_natural)
        if not found:
            raise SightlineError(f"no file matches the pattern {text}: check the folder and the suffix")
        return _of_files(found, _names(found, None), max_pixels)
    if text.isdecimal():
        return sources(int(text), max_pixels=max_pixels)
    raise SightlineError(f"{text} does not exist: give the path of a picture, a video or a folder, or a pattern")


def _listed(folder: Path) -> list[Path]:
    """Pictures and videos below a folder, hidden files and folders left out."""
    found = (
        p
        for p in folder.rglob("*")
        if (images.is_image(p) or videos.is_video(p))
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
        and p.is_file()
    )
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which img2 comes before img10."""
    parts = re.split(r"(\d+)", path.as_posix().lower())
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p] + [(2, 0, path.as_posix())]


def _names(paths: list[Path], root: Path | None) -> list[str]:
    """A unique name for each path: below the root, or below what all share; the suffix stays where stems meet."""
    if root is None:
        parents = [p.parent.parts for p in paths]
        shared = 0
        while all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
            shared += 1
        relative = [Path(*p.parts[shared:]) for p in paths]
    else:
        relative = [p.relative_to(root) for p in paths]
    short = [p.with_suffix("").as_posix() for p in relative]
    met = Counter(name.lower() for name in short)  # some file systems do not tell A from a
    return [p.as_posix() if met[name.lower()] > 1 else name for p, name in zip(relative, short)]


def _of_files(paths: list[Path], names: list[str], max_pixels: int) -> Iterator[Source]:
    for path, name in zip(paths, names):
        try:
            kind = kind_of(path)
            count = images.pages(path) if kind == "TIFF" else 1
        except SightlineError as error:
            yield Source(name, _raising(error), path)
            continue
        if kind == "video" or (kind == "" and videos.is_video(path)):
            yield from _of_frames(f"{name}/" if name else "", path, _opener(path, max_pixels))
        elif count == 1:
            yield Source(name, _reader(path, 0, max_pixels), path)
        else:
            for page in range(count):
                yield Source(f"{name}-page-{page + 1:04d}", _reader(path, page, max_pixels), path, page)


def _reader(path: Path, page: int, max_pixels: int) -> Callable[[], np.ndarray]:
    return lambda: images.read_image(path, page=page, max_pixels=max_pixels)


def _opener(path: Path, max_pixels: int) -> Callable[[], Iterator[videos.Frame]]:
    return lambda: videos.read_video(path, max_pixels=max_pixels)


def _raising(error: SightlineError) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise error

    return read


def _of_frames(prefix: str, path: Path | None, start: Callable[[], Iterator[videos.Frame]]) -> Iterator[Source]:
    """frame-000001, frame-000002 ...; damage becomes a last source whose `read` tells it."""
    count = 0
    try:
        for frame in start():
            count = frame.index + 1
            yield Source(f"{prefix}frame-{count:06d}", _holding(frame.image), path, frame.index, frame.time)
    except SightlineError as error:
        if path is None and count == 0:  # a camera that is not there
            raise
        yield Source(f"{prefix}frame-{count + 1:06d}", _raising(error), path, count)


def _holding(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def _of_list(items: list[Any], max_pixels: int) -> Iterator[Source]:
    if not items:
        raise UsageError("the list of pictures is empty: give at least one path or array")
    if all(isinstance(item, (str, Path)) and Path(item).is_file() for item in items):
        paths = [Path(item) for item in items]
        return _of_files(paths, _unique(_names(paths, None)), max_pixels)
    return _mixed(items, max_pixels)


def _mixed(items: list[Any], max_pixels: int) -> Iterator[Source]:
    taken: Counter[str] = Counter()
    for number, item in enumerate(items, 1):
        single = _is_single(item)
        for found in [_of_array(item, f"picture-{number:06d}")] if single else sources(item, max_pixels=max_pixels):
            taken[found.name] += 1
            again = f"{found.name}-{taken[found.name]}" if taken[found.name] > 1 else found.name
            yield Source(again, found.read, found.path, found.page, found.time)


def _unique(names: list[str]) -> list[str]:
    taken: Counter[str] = Counter()
    out = []
    for name in names:
        taken[name] += 1
        out.append(f"{name}-{taken[name]}" if taken[name] > 1 else name)
    return out


def _is_tensor(item: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever has a tensor has imported torch
    return torch is not None and isinstance(item, torch.Tensor)


def _is_single(item: Any) -> bool:
    return isinstance(item, (np.ndarray, Image.Image)) or _is_tensor(item)


def _of_array(item: Any, name: str) -> Source:
    array = _as_array(item)
    return Source(name, _holding(array))


def _as_array(item: Any) -> np.ndarray:
    """An array, tensor or Pillow picture as (H, W, C), with a sentence for what is no picture."""
    if isinstance(item, Image.Image):
        orientation = item.getexif().get(0x0112, 1)
        return turn(picture(of_pillow(item)), orientation)
    if _is_tensor(item):
        array = item.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
        layout = "(H, W) or (C, H, W)"
    else:
        array, layout = item, "(H, W) or (H, W, C)"
    shape = tuple(item.shape)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise UsageError(f"an array of shape {shape} is no picture: {layout} was expected; give several as a list")
    if array.shape[2] > 4 and array.shape[0] in (1, 3, 4) and not _is_tensor(item):
        raise UsageError(f"an array of shape {shape} has its channels first: give (H, W, C), array.transpose(1, 2, 0)")
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        raise UsageError(f"an array of type {array.dtype.name} is no picture: uint8, uint16 or float32 was expected")
    return np.ascontiguousarray(array)
