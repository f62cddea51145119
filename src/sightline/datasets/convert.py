"""Write a data set in a plain arrangement that every tool reads: pairs of files, VOC or COCO. All or nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets import convert_objects
from sightline.datasets.paint import text_of
from sightline.datasets.read import IGNORE, read_labels_of, read_picture
from sightline.datasets.records import ClassRecord, DataSet, ObjectRecord, PixelRecord, VolumeRecord
from sightline.datasets.shapes import BACKGROUND
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_text
from sightline.media.image import image_size, pages, write_image
from sightline.media.labels import write_labels


@dataclass(frozen=True)
class Converted:
    """What was written where."""

    out: Path
    to: str
    pictures: int
    labelled: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, and the notes."""
        first = f"{self.out}: {self.pictures} pictures, {self.labelled} labelled, as {self.to}"
        return "\n".join([first, *(f"  {note}" for note in self.notes)])

    def as_json(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        return {
            "out": str(self.out),
            "to": self.to,
            "pictures": self.pictures,
            "labelled": self.labelled,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Item:
    """A record under its new, unique name."""

    record: PixelRecord | ObjectRecord
    name: str


def convert(data: DataSet, out: str | Path, *, to: str = "pairs") -> Converted:
    """Write `data` to the new folder `out` and say what was written.

    to: `pairs` (images/SPLIT, labels/SPLIT as palette PNG, classes.txt, index.csv), `voc` (JPEGImages,
        SegmentationClass, ImageSets, class_names.txt) or `coco` (images/SPLIT, annotations/instances_SPLIT.json).
        Objects: `coco`, `voc` (JPEGImages, Annotations, ImageSets/Main) or `yolo` (images/SPLIT, labels/SPLIT,
        data.yaml).
    Picture files are copied as they are; pages of stacks become files of their own. The folder appears when all of it
    is written; an existing one that is not empty is refused. Raises `SightlineError` at the first unreadable file.
    """
    out = Path(out)
    objects = any(isinstance(record, ObjectRecord) for record in data.records)
    known = convert_objects.LAYOUTS if objects else LAYOUTS
    if to not in known:
        what = "objects" if objects else "label maps"
        raise UsageError(
            f"cannot convert {what} to '{to}'; expected one of {', '.join(known)}.{did_you_mean(to, known)}"
        )
    if any(isinstance(record, ClassRecord) for record in data.records):
        raise UsageError(
            f"{data.root} holds classes of whole files, which are not converted; train on them as they are"
        )
    if any(isinstance(record, VolumeRecord) for record in data.records):
        raise UsageError(f"{data.root} holds volumes, which are not converted; train on them as they are")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose a new folder")
    items = _named(data.records)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise SightlineError(f"cannot write {out}: {error.strerror}; choose a folder that can be written") from error
    try:
        if objects:
            notes = convert_objects.LAYOUTS[to](data, items, partial, _picture)
        else:
            notes = LAYOUTS[to](data, items, partial)
        partial.chmod(0o777 & ~_umask())
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise SightlineError(
            f"cannot write {out}: {error.strerror}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    labelled = sum(i.record.labels is not None for i in items)
    return Converted(out, to, len(items), labelled, tuple(notes))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _named(records: Sequence[PixelRecord | ObjectRecord]) -> list[Item]:
    """Names without suffix: the stems where they are unique, else the whole keys."""
    keys = [r.key.partition("#") for r in records]
    stems = [PurePosixPath(path).stem + (f"_{int(page):04d}" if page else "") for path, _, page in keys]
    twice = max(Counter(s.lower() for s in stems).values(), default=0) > 1
    whole = [
        "_".join(PurePosixPath(path).with_suffix("").parts) + (f"_{int(page):04d}" if page else "")
        for path, _, page in keys
    ]
    return [Item(r, name) for r, name in zip(records, whole if twice else stems)]


def _picture(item: Item, folder: Path) -> Path:
    """Copy the picture file, or write the page of a stack as a file of its own."""
    source = item.record.image
    folder.mkdir(parents=True, exist_ok=True)
    if pages(source.path) == 1:
        return Path(shutil.copyfile(source.path, folder / (item.name + source.path.suffix.lower())))
    pixels = read_picture(item.record)
    simple = pixels.dtype != np.float32 and pixels.shape[2] in (1, 3)
    return write_image(folder / (item.name + (".png" if simple else ".tif")), pixels)


def _labels(item: Item, data: DataSet) -> NDArray[np.uint8]:
    assert isinstance(item.record, PixelRecord)
    return read_labels_of(item.record, len(data.classes))


def _colours(data: DataSet) -> Sequence[Sequence[int]]:
    from sightline.media.draw import palette

    count = max(len(data.classes), 2)
    if len(data.colours) == count:
        return data.colours
    return [(0, 0, 0), *data.colours] if len(data.colours) == 1 else palette(count).tolist()


def _pairs(data: DataSet, items: list[Item], out: Path) -> list[str]:
    rows = [["image", "mask", "split", "group"]]
    for item in items:
        image = _picture(item, out / "images" / item.record.split)
        mask = out / "labels" / item.record.split / f"{item.name}.png"
        if item.record.labels is not None:
            write_labels(mask, _labels(item, data), _colours(data))
        paths = [p.relative_to(out).as_posix() for p in (image, mask)]
        label = paths[1] if item.record.labels is not None else ""
        rows.append([paths[0], label, item.record.split, item.record.group])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_text(out / "index.csv", table.getvalue())
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in data.classes))
    return ["classes.txt names the ids 0, 1, ...; 255 is never scored"]


def _voc(data: DataSet, items: list[Item], out: Path) -> list[str]:
    lists: dict[str, list[str]] = {}
    for item in items:
        _picture(item, out / "JPEGImages")
        if item.record.labels is not None:
            write_labels(out / "SegmentationClass" / f"{item.name}.png", _labels(item, data), _colours(data))
        if item.record.labels is not None or item.record.split == "test":
            lists.setdefault(item.record.split, []).append(item.name)
    for split, names in lists.items():
        write_text(out / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{n}\n" for n in names))
    write_text(out / "class_names.txt", "".join(f"{name}\n" for name in data.classes))
    return ["class_names.txt names the ids 0, 1, ...; 255 is never scored"]


def _coco(data: DataSet, items: list[Item], out: Path) -> list[str]:
    first = 1 if len(data.classes) == 1 else 0
    ids = {k + first: name for k, name in enumerate(data.classes) if name.lower() not in BACKGROUND}
    numbers = {k: n for n, k in enumerate(ids, start=1)}
    categories = [{"id": numbers[k], "name": name, "supercategory": ""} for k, name in ids.items()]
    for split in dict.fromkeys(i.record.split for i in items):
        images, annotations = [], []
        for item in (i for i in items if i.record.split == split):
            path = _picture(item, out / "images" / split)
            height, width = image_size(path)
            number = len(images) + 1
            images.append({"id": number, "file_name": path.name, "height": height, "width": width})
            if item.record.labels is not None:
                regions = _regions(_labels(item, data), numbers)
                annotations += [{"id": len(annotations) + n, "image_id": number, **r} for n, r in enumerate(regions, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_text(out / "annotations" / f"instances_{split}.json", json.dumps(content))
    return ["one annotation a class and picture, as run lengths; pixels that are never scored are crowd regions"]


def _regions(ids: NDArray[np.uint8], numbers: Mapping[int, int]) -> list[dict[str, object]]:
    regions: list[dict[str, object]] = []
    for value in np.unique(ids).tolist():
        if value not in numbers and value != IGNORE:
            continue
        inside = ids == value
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        regions.append(
            {
                "category_id": numbers.get(value, min(numbers.values(), default=1)),
                "segmentation": {"size": [*ids.shape], "counts": text_of(column_runs(inside))},
                "area": int(inside.sum()),
                "bbox": [int(v) for v in box],
                "iscrowd": int(value == IGNORE),
            }
        )
    return regions


def column_runs(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Run lengths of a mask down its columns, beginning with the background, as COCO counts."""
    flat = np.concatenate([[False], inside.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [flat.size - 1]]))


LAYOUTS: dict[str, Callable[[DataSet, list[Item], Path], list[str]]] = {"pairs": _pairs, "voc": _voc, "coco": _coco}
