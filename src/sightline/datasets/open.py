"""Open a folder as a data set: its format is recognised, its splits are kept or cut, every decision is said aloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sightline.datasets.class_files import asked_colours, read_json, read_names
from sightline.datasets.detect import detect, detect_classes, detect_clips, detect_objects
from sightline.datasets.folders import exists, natural, split_name, subfolders
from sightline.datasets.records import DataSet
from sightline.datasets.splits import Val, apply_splits, counts
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError, UsageError, did_you_mean

FORMATS: dict[str, str] = {
    "pairs": "sightline.datasets.pairs:read_pairs",
    "instances": "sightline.datasets.pairs:read_instances",
    "stack": "sightline.datasets.pairs:read_stack",
    "multilabel": "sightline.datasets.multilabel:read_multilabel",
    "volumes": "sightline.datasets.volumes:read_volumes",
    "nnunet": "sightline.datasets.volumes:read_nnunet",
    "table": "sightline.datasets.table:read_table",
    "labelme": "sightline.datasets.labelme:read_labelme",
    "cvat": "sightline.datasets.cvat:read_cvat",
    "coco": "sightline.datasets.coco:read_coco",
    "camvid": "sightline.datasets.camvid:read_camvid",
    "voc": "sightline.datasets.voc:read_voc",
    "cityscapes": "sightline.datasets.cityscapes:read_fine",
    "cityscapes_coarse": "sightline.datasets.cityscapes:read_coarse",
    "ade20k": "sightline.datasets.ade20k:read_ade20k",
    "coco_stuff": "sightline.datasets.coco_stuff:read_coco_stuff",
}

OBJECTS: dict[str, str] = {
    "voc": "sightline.datasets.voc_objects:read_voc_objects",
    "coco": "sightline.datasets.coco_objects:read_coco_objects",
    "yolo": "sightline.datasets.yolo:read_yolo",
    "labelme": "sightline.datasets.drawn_objects:read_labelme_objects",
    "cvat": "sightline.datasets.drawn_objects:read_cvat_objects",
    "instances": "sightline.datasets.instances:read_instance_objects",
}
"""The formats in which pictures have objects; the same folder may also be read for its pixels."""

CLASSES: dict[str, str] = {"pictures_by_class": "sightline.datasets.by_class:read_pictures_by_class"}
CLIPS: dict[str, str] = {
    "clips_by_class": "sightline.datasets.by_class:read_clips_by_class",
    "frames_by_class": "sightline.datasets.by_class:read_frames_by_class",
    "volumes_by_class": "sightline.datasets.brains:read_volumes_by_class",
    "fmri_runs": "sightline.datasets.brains:read_runs",
    "kinetics": "sightline.datasets.clip_lists:read_kinetics",
    "something": "sightline.datasets.clip_lists:read_something",
    "sports1m": "sightline.datasets.clip_lists:read_sports1m",
    "weizmann": "sightline.datasets.clip_lists:read_weizmann",
    "clip_list": "sightline.datasets.clip_lists:read_clip_list",
    "youtube8m": "sightline.datasets.youtube8m:read_youtube8m",
}

KINDS: dict[str, dict[str, str]] = {"pixels": FORMATS, "objects": OBJECTS, "classes": CLASSES, "clips": CLIPS}
"""What a task learns from: a class for every pixel, a list of objects, a class for a picture, a class for a video."""

_DETECT = {"pixels": detect, "objects": detect_objects, "classes": detect_classes, "clips": detect_clips}

Colours = Mapping[str, Any] | Sequence[Any] | str | Path | None
Splits = Mapping[str, Sequence[str]] | str | Path | None


def open_dataset(
    path: str | Path,
    *,
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    splits: Splits = None,
    val: Val = 0.2,
    seed: int = 0,
    kind: str = "pixels",
) -> DataSet:
    """The records of a folder, with splits and classes; no pixels are read but those needed to know the classes.

    kind: what is read: `pixels`, `objects` (boxes, masks and joints of single things), `classes` (of pictures) or
        `clips` (classes of videos).
    format: one of `FORMATS` (or `OBJECTS`); None: recognised from the folder, and the reason is noted.
    classes: names in the order of their ids, or a file of names; None: class files of the folder, else from the masks.
        Names such as "void" or "unlabelled" mark values that are never scored.
    colours: for masks painted in colours: `{name: (r, g, b)}`, a list of colours, or a CSV with name, r, g, b.
    splits: explicit `{split: keys}` (or a JSON file of it); pictures that are not named are left out.
    val: used only when the data set gives no val split: a share in (0, 1), a count of pictures, "last(4)" or
        "first(4)" in the order of their names, or 0 for none.
    Raises `SightlineError` at the first fault that would stop training (`check` lists all), `UsageError` for options.
    """
    survey = look_into(path, format=format, classes=classes, colours=colours, seed=seed, kind=kind)
    errors = [f for f in survey.faults if f.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: sightline data check {path})" if len(errors) > 1 else ""
        raise SightlineError(errors[0].sentence + more)
    return with_splits(survey, splits=splits, val=val, seed=seed)


def look_into(
    path: str | Path,
    *,
    format: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    colours: Colours = None,
    seed: int = 0,
    kind: str = "pixels",
) -> Survey:
    """What a reader finds in a folder, faults included; `open_dataset` and `check` begin here."""
    if kind not in KINDS:
        raise UsageError(f"kind '{kind}' is unknown; choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    known = KINDS[kind]
    root, name, why = _place(Path(path), format, kind)
    asked = Asked(_names(classes), asked_colours(colours), seed)
    if asked.classes and asked.colours and not {n for n, _ in asked.colours} & set(asked.classes):
        if len(asked.classes) != len(asked.colours):
            raise UsageError(f"{len(asked.classes)} classes but {len(asked.colours)} colours; give one colour a class")
        asked = Asked(asked.classes, tuple((n, c) for n, (_, c) in zip(asked.classes, asked.colours)), seed)
    survey = _reader(known[name])(root, asked)
    survey.notes.insert(0, f"format {survey.format}: {why}")
    if not survey.records and not survey.faults:
        raise SightlineError(f"{root} holds no pictures in the format {name}; check the path, or name another format")
    return survey


def with_splits(survey: Survey, *, splits: Splits = None, val: Val = 0.2, seed: int = 0) -> DataSet:
    """The data set of a survey, records in natural order of their keys, with train and val filled in."""
    ordered = sorted(survey.records, key=lambda r: natural(r.key))
    records, notes = apply_splits(ordered, splits=_split_keys(splits), val=val, seed=seed)
    facts = {**survey.facts, "splits": counts(records), "val": str(val), "seed": seed}
    return DataSet(
        root=survey.root,
        format=survey.format,
        records=tuple(records),
        classes=survey.classes,
        colours=survey.colours,
        notes=(*survey.notes, *notes),
        facts=facts,
    )


def _place(path: Path, format: str | None, kind: str) -> tuple[Path, str, str]:
    """Root, format and the reason; a folder that only holds one folder (an unpacked archive) is entered."""
    formats = KINDS[kind]
    if format is not None and format not in formats:
        known = ", ".join(formats)
        raise UsageError(f"unknown data format '{format}'; known are {known}.{did_you_mean(format, formats)}")
    if not path.exists():
        raise SightlineError(f"the data set {path} does not exist; check the path")
    if format is not None:
        return path, format, "as asked"
    root = path
    for _ in range(3):
        name, why = _DETECT[kind](root)
        if name:
            return root, name, why if root == path else f"in {root.relative_to(path)}/ {why}"
        inner = subfolders(root)
        if len(inner) != 1:
            break
        root = inner[0]
    raise SightlineError(_unknown(path, kind))


def _unknown(path: Path, kind: str) -> str:
    what = "is empty" if path.is_dir() and not any(path.iterdir()) else "is in no format that can be recognised"
    if kind == "objects":
        return (
            f"{path} {what} as objects; expected VOC's JPEGImages/ and Annotations/ with an .xml a picture, COCO's "
            "annotations/instances_*.json, YOLO's data.yaml or images/ and labels/ with a .txt a picture, LabelMe's "
            "JSON a picture, CVAT's annotations.xml, or images/ beside masks/ that number their objects "
            "(format=instances)"
        )
    if kind in ("classes", "clips"):
        word = "pictures" if kind == "classes" else "videos"
        more = "" if kind == "classes" else ", or a list of them (Kinetics, Something-Something, `path label` lines)"
        return f"{path} {what} as {word} by class; expected a folder of {word} for each class, two or more{more}"
    return (
        f"{path} {what}; expected images/ and masks/ with the same file names, name.jpg with name_mask.png, an "
        "index.csv, COCO, CVAT or LabelMe annotations, VOC, Cityscapes, ADE20K or CamVid"
    )


def _reader(words: str) -> Callable[[Path, Asked], Survey]:
    module, _, function = words.partition(":")
    return getattr(import_module(module), function)


def _names(classes: Sequence[str] | str | Path | None) -> tuple[str, ...]:
    if classes is None:
        return ()
    if isinstance(classes, (str, Path)):
        if exists(Path(classes)):
            return read_names(Path(classes))
        classes = str(classes).split(",")
    names = tuple(str(c).strip() for c in classes)
    if not all(names) or len(set(names)) != len(names):
        raise UsageError(f"classes={','.join(names)}: expected different names, such as classes=road,tree,car")
    return names


def _split_keys(splits: Splits) -> Mapping[str, Sequence[str]] | None:
    if splits is None or isinstance(splits, Mapping):
        return splits
    content = read_json(Path(splits))
    if not isinstance(content, dict) or not all(
        isinstance(keys, list) and all(isinstance(k, str) for k in keys) for keys in content.values()
    ):
        raise SightlineError(
            f'{splits} must hold {{"train": [keys], "val": [keys]}}; a key is a path below the data set'
        )
    return {split_name(name): keys for name, keys in content.items()}
