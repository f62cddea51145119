"""Volumes and their label volumes: in folders, or as nnU-Net and the Medical Segmentation Decathlon arrange them.

images/a.nii.gz + labels/a.nii.gz             NIfTI, MGZ, .npz, .npy, TIFF stacks; a folder a DICOM series
images/train/a.nii.gz + labels/train/...      split folders inside; or train/images + train/labels
imagesTr/a_0000.nii.gz + labelsTr/a.nii.gz    with dataset.json: nnU-Net, a file a channel
imagesTr/a.nii.gz + labelsTr/a.nii.gz         with dataset.json: the Decathlon
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.class_files import find_classes, read_json
from sightline.datasets.classes import order_by_hash
from sightline.datasets.folders import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    SPLITS,
    files,
    key_of,
    shown,
    split_name,
    subfolders,
)
from sightline.datasets.records import MaskFile, Picture, VolumeRecord
from sightline.datasets.survey import Asked, Survey, number_classes
from sightline.errors import SightlineError
from sightline.media.volume import Volume, is_volume, read_volume, stem_of, volume_size

IGNORE = 255
SCAN = 60  # label volumes that are looked at to learn which values a folder uses

# From a record to voxels -----------------------------------------------------------------------------------------


def read_volume_of(record: VolumeRecord) -> Volume:
    """The voxels of a record `(D, H, W, C)`: its files are the channels. Errors name the file."""
    parts = [read_volume(path) for path in record.files]
    for path, part in zip(record.files[1:], parts[1:]):
        if part.size != parts[0].size:
            raise SightlineError(
                f"{path} is {_size(part.size)} voxels but {record.files[0]} is {_size(parts[0].size)}; channels of one "
                "case need one grid"
            )
    if len(parts) == 1:
        return parts[0]
    return Volume(np.concatenate([part.array for part in parts], axis=-1), parts[0].spacing, parts[0].affine)


def read_volume_labels(record: VolumeRecord, num_classes: int) -> NDArray[np.uint8]:
    """The class of every voxel `(D, H, W)` uint8: 0..num_classes-1 (one class: 0 and 1), 255 = never scored.

    Raises `SightlineError`, naming the file, for labels that are missing, unreadable, of another size than the
    volume, or hold a value that stands for no class.
    """
    mask = record.labels
    if not isinstance(mask, MaskFile):
        raise SightlineError(f"{record.files[0]} has no labels; use a split that has label volumes")
    values = label_values(mask.path)
    size = volume_size(record.files[0])
    if values.shape != size:
        raise SightlineError(
            f"{mask.path} is {_size(values.shape)} voxels but its volume {record.files[0]} is {_size(size)}; "
            "export the labels again on the volume's grid"
        )
    if mask.foreground:
        return (values > 0).astype(np.uint8)
    table = mask.values or {**{k: k for k in range(max(num_classes, 2))}, IGNORE: IGNORE}
    met = np.unique(values)
    unknown = [int(v) for v in met if int(v) not in table]
    if unknown:
        expected = ", ".join(str(v) for v in sorted(table)[:20])
        raise SightlineError(
            f"{mask.path} holds the value {unknown[0]} ({int((values == unknown[0]).sum())} voxels); expected "
            f"{expected}; correct the labels or name all classes"
        )
    ids = np.array([table[int(v)] for v in met], np.uint8)
    return ids[np.searchsorted(met, values)]


def label_values(path: Path) -> np.ndarray:
    """The whole numbers of a label volume `(D, H, W)`. Raises `SightlineError` for fractions and channels."""
    array = read_volume(path, labels=True).array
    if array.shape[3] != 1:
        raise SightlineError(f"{path} has {array.shape[3]} channels; a label volume has one number a voxel")
    array = array[..., 0]
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if not np.isfinite(array).all() or np.abs(whole - array).max(initial=0) > 1e-3:
            raise SightlineError(f"{path} holds fractions; a label volume holds class numbers: export it with nearest")
        array = whole.astype(np.int32)
    return array


def _size(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)


# Folders ---------------------------------------------------------------------------------------------------------


def read_volumes(root: Path, asked: Asked) -> Survey:
    """`images/` and `labels/` with the same names; classes from class files or the values of the labels."""
    survey = Survey(root, "volumes")
    cases = [case for split, images, labels in volume_branches(root) for case in _cases(images, labels, split, survey)]
    if not cases and not survey.faults:
        raise SightlineError(f"{root} holds no volumes; expected images/ and labels/ with the same file names")
    listed, source = find_classes(root)
    names = asked.classes or listed.classes
    masks = [mask for _, mask, _ in cases if mask is not None]
    if not masks:
        if not survey.faults:
            raise SightlineError(
                f"{root} holds {len(cases)} volumes and no labels; put a label volume for each in labels/"
            )
        return survey
    if listed.classes and not asked.classes:
        survey.notes.append(f"class names from {source}")
    values, survey.classes = _meaning(masks, names, asked.seed, survey)
    survey.facts["classes_guessed"] = not names
    survey.records += [_record([image], mask, values, split, root) for image, mask, split in cases]
    return survey


def volume_branches(root: Path) -> list[tuple[str, Path, Path | None]]:
    """`(split, folder of volumes, folder of labels)` in the first arrangement that fits."""
    folders = {f.name.lower(): f for f in subfolders(root)}
    images, labels = _first(folders, IMAGE_FOLDERS | {"volumes", "scans"}), _first(folders, LABEL_FOLDERS)
    if images is not None:
        inner = {f.name.lower(): f for f in subfolders(images)}
        if inner and set(inner) <= set(SPLITS):
            masks = {split_name(f.name): f for f in subfolders(labels)} if labels is not None else {}
            return [(split_name(name), f, masks.get(split_name(name))) for name, f in inner.items()]
        return [("", images, labels)]
    found = []
    for name, folder in folders.items():
        if name in SPLITS:
            inner = {f.name.lower(): f for f in subfolders(folder)}
            images, labels = _first(inner, IMAGE_FOLDERS | {"volumes", "scans"}), _first(inner, LABEL_FOLDERS)
            if images is not None:
                found.append((split_name(name), images, labels))
    return found


def _first(folders: Mapping[str, Path], names: Iterable[str]) -> Path | None:
    return next((folders[n] for n in sorted(set(names) & set(folders))), None)


def volumes_in(folder: Path) -> list[Path]:
    """The volumes directly in a folder: files by suffix, and folders that hold DICOM files."""
    return [p for p in files(folder) if is_volume(p)] + [p for p in subfolders(folder) if is_volume(p)]


def _cases(images: Path, labels: Path | None, split: str, survey: Survey) -> list[tuple[Path, Path | None, str]]:
    """Volumes matched with their labels by name."""
    masks = {stem_of(p): p for p in volumes_in(labels)} if labels is not None else {}
    found, used = [], set()
    for image in volumes_in(images):
        mask = masks.get(stem_of(image))
        if mask is None and labels is not None:
            survey.error(image, f"{image} has no labels in {labels}; add a volume of the same name or move it away")
            continue
        used.add(mask)
        found.append((image, mask, split))
    for mask in (m for m in masks.values() if m not in used):
        survey.error(mask, f"{mask} has no volume in {images}; add the volume or remove the labels")
    return found


def _meaning(
    masks: Sequence[Path], names: Sequence[str], seed: int, survey: Survey
) -> tuple[Mapping[int, int] | None, tuple[str, ...]]:
    """`{value: class id}` (None: the values are the ids) and the classes, from names or from the values met."""
    if names:
        classes, ids = number_classes(names)
        return {**ids, **({1: 1} if len(names) == 1 else {}), IGNORE: IGNORE}, classes
    met: set[int] = set()
    looked = 0
    for i in sorted(order_by_hash([str(path) for path in masks], seed)[:SCAN]):
        try:
            met.update(int(v) for v in np.unique(label_values(masks[i])))
        except SightlineError as error:
            survey.error(masks[i], str(error))
            continue
        looked += 1
    if not looked:
        return None, ()
    ids = sorted(met - {IGNORE})
    if met & {IGNORE} and len(ids) > 1:
        survey.notes.append("voxels with the value 255 are never scored")
    elif IGNORE in met:  # 0 and 255: not it and it
        ids = [*ids, IGNORE]
    if len(ids) <= 2:
        table = {value: place for place, value in enumerate(ids)}
        survey.notes.append(f'one class "foreground": label values {", ".join(map(str, ids))}')
        return table | ({IGNORE: IGNORE} if IGNORE not in table else {}), ("foreground",)
    if len(ids) > 254:
        raise SightlineError(
            f"{masks[0].parent}: {len(ids)} label values, expected at most 254 classes; name the classes, or merge them"
        )
    if ids == list(range(len(ids))):
        survey.notes.append(f"{len(ids)} classes: label values 0 to {ids[-1]} were met in {looked} volumes")
        return None, tuple(str(v) for v in ids)
    survey.notes.append(f"{len(ids)} classes, called by their label values: {', '.join(map(str, ids[:12]))} ...")
    return {**{value: place for place, value in enumerate(ids)}, IGNORE: IGNORE}, tuple(str(v) for v in ids)


def _record(
    images: Sequence[Path], mask: Path | None, values: Mapping[int, int] | None, split: str, root: Path
) -> VolumeRecord:
    labels = None if mask is None else MaskFile(mask, values=values)
    return VolumeRecord(
        key=key_of(images[0], root), image=Picture(images[0]), labels=labels, split=split, files=tuple(images)
    )


# nnU-Net and the Decathlon ---------------------------------------------------------------------------------------


def read_nnunet(root: Path, asked: Asked) -> Survey:
    """`imagesTr`, `labelsTr`, `imagesTs` and `dataset.json`, of nnU-Net (a file a channel) or the Decathlon."""
    survey = Survey(root, "nnunet")
    about = read_json(root / "dataset.json") if (root / "dataset.json").is_file() else {}
    if not isinstance(about, dict):
        raise SightlineError(f"{root / 'dataset.json'} must hold an object with labels and channel_names")
    channels = about.get("channel_names") or about.get("modality") or {}
    cases = [
        (parts, mask, split)
        for split, images, labels in (("", "imagesTr", "labelsTr"), ("test", "imagesTs", "labelsTs"))
        for parts, mask in _nnunet_cases(root / images, root / labels, len(channels), survey)
        for split in [split]
    ]
    masks = [mask for _, mask, _ in cases if mask is not None]
    if not masks:
        if not survey.faults:
            raise SightlineError(f"{root} holds no labels; expected imagesTr/ and labelsTr/ with the same names")
        return survey
    values, classes = _json_classes(about.get("labels"), root / "dataset.json")
    if asked.classes or not classes:
        values, classes = _meaning(masks, asked.classes, asked.seed, survey)
    else:
        survey.notes.append("class names from dataset.json")
    survey.classes = classes
    survey.records += [_record(parts, mask, values, split, root) for parts, mask, split in cases]
    return survey


def _nnunet_cases(images: Path, labels: Path, channels: int, survey: Survey) -> list[tuple[list[Path], Path | None]]:
    """The files of each case, channel by channel, and its labels."""
    masks = {stem_of(p): p for p in volumes_in(labels)}
    parts: defaultdict[str, list[Path]] = defaultdict(list)
    for path in volumes_in(images):
        numbered = re.fullmatch(r"(.+)_(\d{4})", stem_of(path))
        single = numbered is None or stem_of(path) in masks
        parts[stem_of(path) if numbered is None or single else numbered[1]].append(path)
    found = []
    for name, paths in parts.items():
        mask = masks.pop(name, None)
        if mask is None and labels.is_dir():
            survey.error(paths[0], f"{paths[0]} has no labels in {labels}; add {name} there or move it away")
            continue
        if len(paths) > 1 and channels and len(paths) != channels:
            survey.error(
                paths[0], f"{name} in {images} has {len(paths)} channels, dataset.json names {channels}; add them"
            )
            continue
        found.append((sorted(paths), mask))
    for mask in masks.values():
        survey.error(mask, f"{mask} has no volume in {images}; add the volume or remove the labels")
    return found


def _json_classes(labels: Any, source: Path) -> tuple[Mapping[int, int] | None, tuple[str, ...]]:
    """`{value: class id}` and the classes of a dataset.json: `{"0": name}` (Decathlon) or `{name: 0}` (nnU-Net)."""
    if not isinstance(labels, dict) or not labels:
        return None, ()
    pairs: list[tuple[int, str]] = []
    for key, value in labels.items():
        try:
            pairs.append((int(key), str(value)) if str(key).isdecimal() else (int(value), str(key)))
        except (TypeError, ValueError):
            raise SightlineError(
                f"{source}: the label {shown(key)} is {shown(value)}; expected one number a class (regions of several "
                "labels are not read: write a label volume for each)"
            ) from None
    pairs.sort()
    classes, ids = number_classes([name for _, name in pairs])
    table = {value: ids[place] for place, (value, _) in enumerate(pairs)}
    if len(classes) == 2 and classes[0].lower() == "background":
        classes = classes[1:]
    return {**table, IGNORE: table.get(IGNORE, IGNORE)}, classes
