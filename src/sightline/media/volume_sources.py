"""Whatever a user calls "my volumes", as one stream of named volumes; the counterpart of `sources.py`."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import SightlineError, UsageError
from sightline.media.sources import Source
from sightline.media.volume import Volume, as_volume, is_volume, read_volume, stem_of


def volume_sources(source: Any) -> Iterator[Source]:
    """The volumes of any source, in the order of their names; `read()` gives a `Volume`.

    source: the path of a volume, of a folder with one DICOM series, or of a folder of volumes (searched with its
    subfolders); a glob pattern; an array `(D, H, W)` or `(D, H, W, C)`; a `Volume`; or a list of these.
    Raises `SightlineError` when there is nothing at the path, `UsageError` for what is no source.
    """
    if isinstance(source, (str, Path)):
        return iter(_of_paths(*_found(str(source))))
    if isinstance(source, (np.ndarray, Volume)):
        return iter([Source("volume", _holding(_volume(source)))])
    if isinstance(source, Iterable):
        return _of_list(list(source))
    raise UsageError(f"a {type(source).__name__} is no source of volumes: give a path, a pattern, an array or a list")


def _found(text: str) -> tuple[list[Path], Path | None]:
    """The volumes that a path or pattern means, and the folder their names begin below."""
    path = Path(text)
    if path.is_dir() and not is_volume(path):
        found = _below(path)
        if not found:
            raise SightlineError(
                f"{text} holds no volume: expected .nii.gz, .nii, .mgz, .npz or folders of DICOM slices"
            )
        return found, path
    if path.exists():
        return [path], None
    if glob.has_magic(text):
        matches = sorted(Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns too)
        found = [p for p in matches if is_volume(p)]
        if not found:
            raise SightlineError(f"no volume matches the pattern {text}: check the folder and the suffix")
        return found, None
    raise SightlineError(f"{text} does not exist: give the path of a volume, a folder or a pattern")


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if is_volume(path):
            found.append(path)
        elif path.is_dir():
            found += _below(path)
    return found


def _of_paths(paths: list[Path], root: Path | None) -> list[Source]:
    names = [(p.relative_to(root).parent / stem_of(p)).as_posix() if root is not None else stem_of(p) for p in paths]
    taken: dict[str, int] = {}
    found = []
    for name, path in zip(names, paths):
        taken[name.lower()] = taken.get(name.lower(), 0) + 1
        again = taken[name.lower()]
        found.append(Source(name if again == 1 else f"{name}-{again}", _reader(path), path))
    return found


def _of_list(items: list[Any]) -> Iterator[Source]:
    if not items:
        raise UsageError("the list of volumes is empty: give at least one path or array")
    if all(isinstance(item, (str, Path)) for item in items):
        yield from _of_paths([path for item in items for path in _found(str(item))[0]], None)
        return
    for number, item in enumerate(items, 1):
        if isinstance(item, (str, Path)):
            yield from volume_sources(item)
        else:
            yield Source(f"volume-{number:06d}", _holding(_volume(item)))


def _volume(item: Any) -> Volume:
    return item if isinstance(item, Volume) else as_volume(np.asarray(item))


def _reader(path: Path) -> Callable[[], Any]:
    return lambda: read_volume(path)


def _holding(volume: Volume) -> Callable[[], Any]:
    return lambda: volume
