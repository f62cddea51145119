"""Every fault of a folder in one pass: each picture and mask is decoded in full before an hour of training is lost."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.check_classes import examine, two_classes
from sightline.datasets.detect import detect, detect_classes, detect_clips, detect_objects
from sightline.datasets.open import KINDS, Colours, Splits, look_into, with_splits
from sightline.datasets.read import IGNORE, read_labels_of, read_picture
from sightline.datasets.records import ClassRecord, DataSet, MaskFile, ObjectRecord, PixelRecord
from sightline.datasets.splits import Val
from sightline.datasets.survey import Fault, Survey
from sightline.datasets.things import fault_of
from sightline.errors import SightlineError
from sightline.files import write_text
from sightline.media.image import image_size


@dataclass(frozen=True)
class Faults:
    """What `check` found; prints as a list, errors first."""

    root: Path
    format: str
    pictures: int  # decoded in full
    labelled: int  # label maps read in full, or lists of objects
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    objects: int | None = None  # boxes looked at; None: the data set has none

    @property
    def errors(self) -> tuple[Fault, ...]:
        """Faults that must be repaired."""
        return tuple(f for f in self.faults if f.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Things that look suspicious."""
        return tuple(f for f in self.faults if f.severity == "warning")

    def __str__(self) -> str:
        """A line a fault and a line of counts."""
        lines = [f"{f.severity}: {f.sentence}" for f in (*self.errors, *self.warnings)]
        number = f"{len(self.errors)} errors, {len(self.warnings)} warnings"
        what = f"{self.labelled} label maps" if self.objects is None else f"{self.objects} objects"
        return "\n".join([*lines, f"{self.pictures} pictures and {what} checked: {number}"])

    def as_json(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        return {
            "data": str(self.root),
            "format": self.format,
            "pictures": self.pictures,
            "labelled": self.labelled,
            **({} if self.objects is None else {"objects": self.objects}),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "faults": [{"severity": f.severity, "path": str(f.path), "sentence": f.sentence} for f in self.faults],
        }

    def write(self, path: str | Path) -> Path:
        """Write the list: JSON for `.json`, else a line a fault (severity, path and sentence between tabs)."""
        if Path(path).suffix.lower() == ".json":
            return write_text(path, json.dumps(self.as_json(), indent=1) + "\n")
        return write_text(path, "".join(f"{f.severity}\t{f.path}\t{f.sentence}\n" for f in self.faults))


def check(
    data: DataSet | str | Path,
    *,
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = 0.2,
    seed: int = 0,
    kind: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Faults:
    """All faults of a data set or a folder: what cannot be read, matched, mapped to classes, or stands there twice.

    The options are those of `open_dataset`, for a folder. kind: `pixels`, `objects`, `classes` or `clips`; None: what
    the folder is recognised as; where the same annotations hold pixels and objects (COCO, LabelMe, CVAT, VOC) both are
    checked. progress: called with (done, all) after each picture.
    Never raises for what is in the files; a folder that cannot be understood at all is one fault.
    """
    found: list[Fault] = []
    boxes = 0
    if not isinstance(data, DataSet):
        root = Path(data)
        try:
            both = kind is None and in_both(root, format)
            kind = kind or kind_of(root, format)
            survey = look_into(root, format=format, classes=classes, colours=colours, seed=seed, kind=kind)
            found += survey.faults
            if both:
                known = {fault.sentence for fault in found}
                survey_of_boxes = look_into(root, format=format, classes=classes, seed=seed, kind="objects")
                more, boxes = faults_of_boxes(survey_of_boxes)
                found += [fault for fault in more if fault.sentence not in known]
        except SightlineError as error:
            return Faults(root, format or "", 0, 0, (*found, Fault("error", root, str(error))))
        try:
            data = with_splits(survey, splits=splits, val=val, seed=seed)
        except SightlineError as error:
            found.append(Fault("error", root, str(error)))
            data = with_splits(survey, val=0)
    examined = Examined(len(data.classes))
    for done, record in enumerate(data.records, start=1):
        examined.record(record)
        if progress is not None:
            progress(done, len(data.records))
    faults = (*found, *examined.faults, *examined.duplicates(), *examined.empty())
    objects = examined.objects if any(isinstance(r, ObjectRecord) for r in data.records) else boxes or None
    return Faults(data.root, data.format, examined.pictures, examined.labelled, faults, data.notes, objects)


def kind_of(root: Path, format: str | None) -> str:
    """What a folder holds: the kind of the format that was named, or what is recognised, pixels before objects."""
    if format is not None:
        kinds = [kind for kind, formats in KINDS.items() if format in formats]
        if "pixels" in kinds and "objects" in kinds and detect(root)[0] != format:
            return "objects" if detect_objects(root)[0] == format else "pixels"
        return kinds[0] if kinds else "pixels"
    pixels = detect(root)[0]
    if pixels in ("", "pairs") and detect_objects(root)[0] in ("voc", "yolo"):  # texts beside pictures are no masks
        return "objects"
    if root.is_dir() and pixels in ("", "table"):  # videos by class may have an index.csv beside them
        if detect_clips(root)[0]:
            return "clips"
        return "classes" if not pixels and detect_classes(root)[0] else "pixels"
    return "pixels"


def in_both(root: Path, format: str | None) -> bool:
    """Whether the annotations that are read for pixels hold objects too."""
    name = format or detect(root)[0]
    return name in ("coco", "labelme", "cvat", "voc") and detect(root)[0] == name == detect_objects(root)[0]


def faults_of_boxes(survey: Survey) -> tuple[list[Fault], int]:
    """What is wrong with the objects of a survey, no pictures decoded, and how many there are."""
    faults, count = list(survey.faults), 0
    for record in survey.records:
        try:
            size = image_size(record.image.path, page=record.image.page)
        except SightlineError:
            continue  # the picture's own fault, found when it is decoded
        count += len(record.labels or ())
        faults += bad_boxes(record, size, len(survey.classes))
    return faults, count


def bad_boxes(record: ObjectRecord, size: tuple[int, int], classes: int) -> list[Fault]:
    """Boxes nothing can learn from, as errors, and objects that stand there twice, as warnings."""
    found: list[Fault] = []
    source = record.source or record.image.path
    seen: dict[tuple[Any, ...], int] = {}
    for thing in record.labels or ():
        where = f"{source}: object {thing.place} of {record.key}"
        if fault := fault_of(thing, size, classes):
            found.append(Fault("error", source, f"{where} {fault}; correct or remove it"))
            continue
        first = seen.setdefault((thing.label, thing.crowd, thing.box), thing.place)
        if first != thing.place:
            found.append(
                Fault("warning", source, f"{where} has the class and box of object {first}; remove one of them")
            )
    return found


class Examined:
    """What was seen while going through the records once."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.faults: list[Fault] = []
        self.pictures = self.labelled = self.objects = 0
        self.without: list[Path] = []  # pictures whose labels are nothing but class 0 and pixels that are not scored
        self.by_pixels: defaultdict[bytes, list[PixelRecord | ObjectRecord | ClassRecord]] = defaultdict(list)
        self.lists = False  # objects, not maps

    def record(self, record: PixelRecord | ObjectRecord | ClassRecord) -> None:
        """Decode one picture and its labels, or every frame of one video."""
        if isinstance(record, ClassRecord):
            self._of_class(record)
            return
        size = None
        try:
            picture = read_picture(record)
            size = (picture.shape[0], picture.shape[1])
            self.by_pixels[fingerprint(picture)].append(record)
            self.pictures += 1
        except SightlineError as error:
            self.faults.append(Fault("error", record.image.path, str(error)))
        if isinstance(record, ObjectRecord):
            self._of_objects(record, size)
        elif record.labels is not None:
            self._labels(record, record.labels.path if isinstance(record.labels, MaskFile) else record.labels.source)

    def _of_class(self, record: ClassRecord) -> None:
        try:
            found, suspicious = examine(record)
            self.faults += suspicious
            self.by_pixels[found].append(record)
            self.pictures += 1
            self.labelled += record.labels is not None
        except SightlineError as error:
            self.faults.append(Fault("error", record.image.path, str(error)))

    def _of_objects(self, record: ObjectRecord, size: tuple[int, int] | None) -> None:
        self.lists = True
        if size is None or record.labels is None:
            return
        self.objects += len(record.labels)
        self.labelled += 1
        self.faults += bad_boxes(record, size, self.classes)
        if not record.labels:
            self.without.append(record.image.path)

    def _labels(self, record: PixelRecord, path: Path) -> None:
        try:
            ids = read_labels_of(record, self.classes)
        except SightlineError as error:
            if str(path) in str(error):  # else it is the picture's own fault, which is listed already
                self.faults.append(Fault("error", path, str(error)))
            return
        self.labelled += 1
        if (ids == IGNORE).all():
            self.faults.append(Fault("warning", path, f"{path} has no pixel that is scored: every value means 255"))
        elif not ((ids > 0) & (ids != IGNORE)).any():
            self.without.append(record.image.path)

    def duplicates(self) -> list[Fault]:
        """Pictures with equal pixels: a warning, an error when they stand in different splits."""
        found: list[Fault] = []
        for first, *others in self.by_pixels.values():
            for other in others:
                if isinstance(other, ClassRecord) and isinstance(first, ClassRecord) and other.labels != first.labels:
                    found.append(two_classes(other, first))
                elif other.split != first.split:
                    how = f"one is in {first.split}, one in {other.split}, so the score would be too good; remove one"
                    found.append(Fault("error", other.image.path, f"{other.key} has the pixels of {first.key}: {how}"))
                else:
                    found.append(
                        Fault(
                            "warning",
                            other.image.path,
                            f"{other.key} has the pixels of {first.key}; remove one of them",
                        )
                    )
        return found

    def empty(self) -> list[Fault]:
        """One warning that counts the label maps without any object."""
        if not self.without:
            return []
        count, share = len(self.without), len(self.without) / max(self.labelled, 1)
        what = f"{count} of {self.labelled} label maps ({share:.0%}) hold no class above 0"
        if self.lists:
            what = f"{count} of {self.labelled} pictures ({share:.0%}) have no object"
        sentence = f"{what}, the first is of {self.without[0]}; remove them if they were never labelled"
        return [Fault("warning", self.without[0], sentence)]


def fingerprint(picture: np.ndarray) -> bytes:
    """A hash of shape, type and pixels: equal for the same picture in another lossless file."""
    digest = hashlib.blake2b(f"{picture.shape}{picture.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()
