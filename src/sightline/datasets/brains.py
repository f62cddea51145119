"""Volumes with a class each: what a brain did while it was scanned (fMRI), a folder a class, a run with labels, a .mat.

    DATA/CLASS/*.nii.gz (or .npz, .npy, .mgz)      `volumes_by_class`, splits as for pictures
    DATA/bold.nii.gz + attributes.txt              `fmri_runs`: a volume a time step; the text has a line a volume,
                                                   `label run` (PyMVPA), or a header, labels and chunks (nilearn)
    DATA/*.mat with X_train (N, D, H, W), y_train, X_test, y_test      the same, of a MATLAB file up to version 7

Volumes called `rest` are no class and are left out. The runs are the groups: a run never stands on both sides of a
split.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.by_class import read_by_class
from sightline.datasets.class_files import read_text
from sightline.datasets.folders import files, key_of, natural, shown
from sightline.datasets.records import ClassRecord, Picture
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.door import reading
from sightline.media.volume import NIBABEL, Volume, as_volume, is_volume, read_volume, suffix_of

REST = ("rest", "baseline", "fixation")
NAMED = ("attributes_literal.txt", "labels.txt", "labels.csv", "labels.tsv", "attributes.txt")


def is_brain(path: str | Path) -> bool:
    """Whether a file is a volume by its name (not a TIFF, which may be a picture)."""
    return is_volume(Path(path), stacks=False) and Path(path).is_file()


def is_volume_record(record: ClassRecord) -> bool:
    """Whether the sample is a volume."""
    return not record.video and (is_brain(record.image.path) or record.image.path.suffix.lower() == ".mat")


def read_volumes_by_class(root: Path, asked: Asked) -> Survey:
    """A folder of volumes for each class."""
    return read_by_class(root, asked, "volumes_by_class", is_brain)


def volume_at(path: str | Path, page: int = 0) -> Volume:
    """One volume of a file: itself, or the one at time step `page` of a run or of a .mat."""
    path = Path(path)
    whole = _load(path, path.stat().st_mtime_ns if path.is_file() else 0)
    steps = whole.array.shape[3]
    if not 0 <= page < steps:
        raise SightlineError(f"{path} has {steps} volumes; there is no volume {page}")
    return Volume(whole.array[..., page : page + 1], whole.spacing, whole.affine)


@lru_cache(maxsize=1)
def _load(path: Path, changed: int) -> Volume:
    """A whole file `(D, H, W, steps)`; the last one is kept, since the steps of a run are asked for one by one."""
    return _of_mat(path)[0] if path.suffix.lower() == ".mat" else read_volume(path)


# Runs ------------------------------------------------------------------------------------------------------------


def find_runs(root: Path) -> tuple[Path, Path] | None:
    """A volume over time and the file of its labels (the same file, of a .mat); None when there is no such pair."""
    if not root.is_dir():
        return None
    for mat in files(root, ".mat"):
        return mat, mat
    labels = next((root / name for name in NAMED if (root / name).is_file()), None)
    runs = [p for p in files(root) if suffix_of(p) in NIBABEL and _steps(p) > 1]
    return (runs[0], labels) if runs and labels is not None else None


def read_runs(root: Path, asked: Asked) -> Survey:
    """A run with a label for each of its volumes."""
    survey = Survey(root, "fmri_runs")
    found = find_runs(root)
    if found is None:
        raise SightlineError(
            f"{root} holds no run: expected a 4-D .nii.gz beside {NAMED[0]} or labels.csv, or a .mat with X_train"
        )
    path, told = found
    if path.suffix.lower() == ".mat":
        _, labels, splits = _of_mat(path)
        rows = [(label, split, split) for label, split in zip(labels, splits)]
    else:
        rows = [(label, run, "") for label, run in _rows(told)]
        if len(rows) != _steps(path):
            raise SightlineError(
                f"{told} has labels for {len(rows)} volumes and {path.name} has {_steps(path)}; write one for each"
            )
    names = asked.classes or tuple(sorted({row[0] for row in rows if row[0].lower() not in REST}, key=natural))
    rest = 0
    for step, (label, run, split) in enumerate(rows):
        if label.lower() in REST and label not in names:
            rest += 1
        elif label not in names:
            survey.error(told, f"{told}: volume {step} has the class {shown(label)}, which was not asked for; add it")
        else:
            key = f"{key_of(path, root)}#{step:05d}"
            survey.records.append(ClassRecord(key, Picture(path, step), names.index(label), f"run {run}", split))
    survey.classes = tuple(names)
    survey.facts["classes_guessed"] = not asked.classes
    survey.notes.append(
        f"{len(survey.records)} labelled volumes of {len(names)} classes"
        + (f", {rest} of rest left out" if rest else "")
    )
    return survey


def _rows(path: Path) -> list[tuple[str, str]]:
    """(label, run) of each volume."""
    lines = [line.replace(",", " ").replace("\t", " ").split() for line in read_text(path, 2**24).splitlines()]
    lines = [cells for cells in lines if cells]
    label, run = 0, 1
    head = [cell.strip('"').lower() for cell in lines[0]] if lines else []
    if "labels" in head or "label" in head:
        label = head.index("labels") if "labels" in head else head.index("label")
        run = next((head.index(word) for word in ("chunks", "chunk", "run", "runs") if word in head), -1)
        lines = lines[1:]
    for number, cells in enumerate(lines, start=1):
        if max(label, run) >= len(cells):
            raise SightlineError(f"{path}, line {number}: {shown(' '.join(cells))} has no label and run; write both")
    return [(cells[label].strip('"'), cells[run].strip('"') if run >= 0 else "1") for cells in lines]


def _steps(path: Path) -> int:
    from sightline.media.volume import _nibabel

    with reading(path, "volume"):
        shape = _nibabel().load(path).shape
    return int(shape[3]) if len(shape) > 3 else 1


def _of_mat(path: Path) -> tuple[Volume, list[str], list[str]]:
    """All volumes of a .mat `(D, H, W, N)`, their labels and their splits."""
    from scipy.io import loadmat

    with reading(path, "MATLAB file"):
        try:
            content: dict[str, Any] = loadmat(path)
        except NotImplementedError as error:
            raise SightlineError(
                f"{path} is a MATLAB file of version 7.3; save it with -v7, or as .npz volumes in a folder a class"
            ) from error
    stacks, labels, splits = [], [], []
    for split in ("train", "test"):
        x, y = content.get(f"X_{split}"), content.get(f"y_{split}")
        if x is None and y is None:
            continue
        y = None if y is None else (y.argmax(1) if y.ndim == 2 and min(y.shape) > 1 else y.ravel())
        if x is None or y is None or x.ndim != 4 or len(x) != len(y):
            raise SightlineError(f"{path}: X_{split} must be (N, D, H, W) and y_{split} its N labels; save it again")
        stacks.append(x)
        labels += [str(int(v)) for v in y]
        splits += [split] * len(x)
    if not stacks:
        raise SightlineError(
            f"{path} holds {', '.join(k for k in content if k[0] != '_')}; expected X_train and y_train"
        )
    return as_volume(np.concatenate(stacks).transpose(1, 2, 3, 0).astype(np.float32)), labels, splits
