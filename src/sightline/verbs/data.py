"""`sightline data info | check | convert`: look at a data set, find its faults, write it in a plain arrangement."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.datasets.check import Faults
    from sightline.datasets.convert import Converted
    from sightline.datasets.open import Colours, Splits
    from sightline.datasets.splits import Val
    from sightline.datasets.stats import Stats


@dataclass(frozen=True)
class Info:
    """A data set in numbers; `str()` is a page of text, `as_json()` values that JSON can hold."""

    data: str
    format: str
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    labelled: Mapping[str, int]
    notes: tuple[str, ...]
    stats: Stats

    def __str__(self) -> str:
        """Lines for a terminal."""
        s = self.stats
        what = "voxels (median width x height x depth)" if s.spacings else "pixels (median width x height)"
        sizes = f"{_size(s.median_size)} {what}"
        if s.smallest != s.largest:
            sizes += f", from {_size(s.smallest)} to {_size(s.largest)}"
        if s.spacings:
            every = sorted(set(s.spacings))
            sizes += f"; {_size(every[0])} mm" + (f" to {_size(every[-1])} mm" if len(every) > 1 else "")
        kinds = ", ".join(f"{n} {name}" for name, n in s.dtypes.items())
        channels = ", ".join(f"{n} {_KINDS.get(c, f'of {c} channels')}" for c, n in s.channels.items())
        lines = [
            f"{self.data}: {self.format}, {len(self.classes)} class{'es' if len(self.classes) > 1 else ''}",
            *(f"  {note}" for note in self.notes),
            "splits    " + ", ".join(f"{name} {n} ({self.labelled[name]} labelled)" for name, n in self.splits.items()),
            f"pictures  {sizes}",
            f"values    {kinds}; {channels}; {s.low:g} to {s.high:g}",
            f"          mean {_numbers(s.mean)}, std {_numbers(s.std)} in [0, 1] ({s.looked} pictures looked at)",
        ]
        if s.object_size is not None:
            lines.append(f"objects   about {s.object_size:.0f} pixels across (square root of the mean area)")
        if s.sides:
            low, middle, high = s.sides[0], statistics.median(s.sides), s.sides[-1]
            lines.append(
                f"objects   {len(s.sides)} in the pictures looked at, at most {s.most_objects} in one; "
                f"{low:.0f} to {high:.0f} pixels across, median {middle:.0f} (square root of the area)"
            )
        return "\n".join([*lines, *self._classes()])

    def _classes(self) -> list[str]:
        s, names = self.stats, self.classes if len(self.classes) > 1 else ("background", *self.classes)
        if s.sides:
            width, total = max(len(n) for n in self.classes), max(sum(s.class_objects), 1)
            rows = zip(self.classes, s.class_objects)
            lines = [f"  {n:<{width}}  {count:7} objects, {count / total:.1%}" for n, count in rows]
            return ["classes", *lines]
        if not s.labelled:
            return []
        width = max(len(n) for n in names)
        rows = zip(names, s.class_shares, s.class_pictures)
        lines = [
            f"  {n:<{width}}  {share:7.2%} of pixels, in {seen} of {s.labelled} pictures" for n, share, seen in rows
        ]
        return ["classes", *lines, *([f"  {s.ignored:.2%} of the pixels are never scored"] if s.ignored else [])]

    def as_json(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        s = self.stats
        names = self.classes if len(self.classes) > 1 else ("background", *self.classes)
        return {
            "data": self.data,
            "format": self.format,
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "labelled": dict(self.labelled),
            "notes": list(self.notes),
            "pictures_looked_at": s.looked,
            "size": {"median": [*s.median_size], "smallest": [*s.smallest], "largest": [*s.largest]},
            **({"spacing": [*map(statistics.median, zip(*s.spacings))]} if s.spacings else {}),
            "dtypes": dict(s.dtypes),
            "channels": {str(c): n for c, n in s.channels.items()},
            "values": {"low": s.low, "high": s.high, **{f"p{p:g}": v for p, v in s.percentiles.items()}},
            "mean": list(s.mean),
            "std": list(s.std),
            "ignored": s.ignored,
            "object_size": s.object_size,
            **self._objects(),
            "per_class": {
                name: {"pixels": pixels, "share": share, "pictures": seen}
                for name, pixels, share, seen in zip(names, s.class_pixels, s.class_shares, s.class_pictures)
            },
        }

    def _objects(self) -> dict[str, Any]:
        s = self.stats
        if not s.sides:
            return {}
        return {
            "objects": len(s.sides),
            "most_objects": s.most_objects,
            "sides": {"smallest": s.sides[0], "median": statistics.median(s.sides), "largest": s.sides[-1]},
            "objects_per_class": dict(zip(self.classes, s.class_objects)),
        }


_KINDS = {1: "grey", 3: "colour"}


def _size(size: Sequence[float]) -> str:
    """Width first, as people say it."""
    return " x ".join(f"{n:g}" for n in reversed(size))


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{v:.3f}" for v in values)


def info(
    path: str | Path,
    *,
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = 0.2,
    seed: int = 0,
    limit: int = 200,
    kind: str | None = None,
) -> Info:
    """Open a data set and count at most `limit` of its pictures (chosen by `seed`); options as of `open_dataset`.

    kind: `pixels` or `objects`; None: what the folder is recognised as, pixels where it holds both.
    """
    from sightline.datasets.check import kind_of
    from sightline.datasets.open import open_dataset
    from sightline.datasets.stats import stats

    kind = _counted(path, kind or kind_of(Path(path), format))
    data = open_dataset(
        path, format=format, classes=classes, colours=colours, splits=splits, val=val, seed=seed, kind=kind
    )
    parts = {name: data.split(name).records for name in data.splits}
    return Info(
        data=str(path),
        format=data.format,
        classes=data.classes,
        splits={name: len(part) for name, part in parts.items()},
        labelled={name: sum(r.labels is not None for r in part) for name, part in parts.items()},
        notes=data.notes,
        stats=stats(data, limit=limit, seed=seed),
    )


def _counted(path: str | Path, kind: str) -> str:
    from sightline.errors import UsageError

    if kind in ("classes", "clips"):
        what = "pictures" if kind == "classes" else "videos"
        raise UsageError(f"{path} holds {what} by class; sightline data check counts them, data info does not")
    return kind


def check(
    path: str | Path,
    *,
    out: str | Path | None = None,
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = 0.2,
    seed: int = 0,
    kind: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Faults:
    """All faults of a data set in one pass; `out`: also write the list there (JSON for `.json`, else lines)."""
    from sightline.datasets.check import check as look

    found = look(
        path, format=format, classes=classes, colours=colours, splits=splits, val=val, seed=seed, kind=kind,
        progress=progress,
    )  # fmt: skip
    if out is not None:
        found.write(out)
    return found


def convert(
    path: str | Path,
    out: str | Path,
    *,
    to: str = "pairs",
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = 0.2,
    seed: int = 0,
    kind: str | None = None,
) -> Converted:
    """Write a data set to the new folder `out` as `pairs`, `voc`, `coco` or `yolo`.

    `colours` turns painted masks into ids. kind: `objects` reads boxes where the folder holds pixels too (COCO,
    LabelMe, CVAT); to=yolo does so by itself.
    """
    from sightline.datasets.check import kind_of
    from sightline.datasets.convert import convert as write
    from sightline.datasets.open import open_dataset

    kind = kind or ("objects" if to == "yolo" else kind_of(Path(path), format))
    data = open_dataset(
        path, format=format, classes=classes, colours=colours, splits=splits, val=val, seed=seed, kind=kind
    )
    return write(data, out, to=to)
