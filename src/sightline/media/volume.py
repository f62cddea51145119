"""Volumes in and out: NIfTI, MGZ, DICOM series, `.npz`, `.npy` and TIFF stacks.

One order of axes for all: `(D, H, W, C)`, slices, rows, columns, channels. NIfTI and MGZ count (x, y, z); their arrays
are turned to (z, y, x), so D is z. A DICOM series is sorted along the normal of its slices. `.npz`, `.npy` and TIFF
stacks are taken as they are, channels last. No volume is rotated or flipped: answers stand on the file's own grid.

`spacing` is in millimetres between voxels along D, H, W. `affine` is NIfTI's: voxel (x, y, z) to millimetres right,
anterior, superior; None where the file knows no place in space.

NIfTI, MGZ and DICOM need the extra `medical` (nibabel, pydicom), which is imported where it is used.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import SightlineError, UsageError, missing_extra
from sightline.files import replacing
from sightline.media.door import reading

MAX_VOXELS = 2**29
"""Voxels (times channels) of the largest volume that is read when nothing else is said: 812 x 812 x 812."""

NIBABEL = (".nii", ".nii.gz", ".mgz", ".mgh")
ARRAYS = (".npz", ".npy")
STACKS = (".tif", ".tiff")
DICOM = (".dcm", ".ima")
SUFFIXES = (*NIBABEL, *ARRAYS, *STACKS, *DICOM)
IMAGE_KEYS = ("image", "images", "vol", "volume", "data", "x", "arr_0")
LABEL_KEYS = ("labels", "label", "seg", "mask", "segmentation", "y")

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Volume:
    """One volume `(D, H, W, C)` of integers or float32, and where its voxels stand."""

    array: np.ndarray
    spacing: Spacing = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = field(default=None, compare=False)  # (4, 4) float64

    @property
    def size(self) -> tuple[int, int, int]:
        """Depth, height and width in voxels."""
        depth, height, width = self.array.shape[:3]
        return depth, height, width


def suffix_of(path: Path) -> str:
    """The suffix by which volumes are known (`.nii.gz` counts as one), "" for others."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")


def stem_of(path: Path) -> str:
    """The name without its suffix, `.nii.gz` as a whole."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix and not path.is_dir() else path.name


def is_volume(path: Path, *, stacks: bool = True) -> bool:
    """Whether `path` can be a volume: a file by its suffix (TIFF stacks when `stacks`), a folder that holds DICOM."""
    if path.is_dir():
        return bool(_slices(path, first=True))
    return suffix_of(path) not in ("", *DICOM, *(() if stacks else STACKS))


def read_volume(path: str | Path, *, labels: bool = False, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a file, or a folder that holds one DICOM series.

    labels: of an `.npz` with several arrays, the one named as labels is taken instead of the one named as a picture.
    Raises `SightlineError` for what is missing, damaged, or above `max_voxels`, `UsageError` without the extra.
    """
    path = Path(path)
    if path.is_dir():
        return _read_dicom(path, _slices(path), max_voxels)
    suffix = suffix_of(path)
    if not path.exists():
        raise SightlineError(f"{path} does not exist: check the path")
    if suffix in NIBABEL:
        return _read_nibabel(path, max_voxels)
    if suffix in ARRAYS:
        return _read_array(path, labels, max_voxels)
    if suffix in STACKS:
        return _read_stack(path, labels, max_voxels)
    if suffix in DICOM:
        return _read_dicom(path, [path], max_voxels)
    raise UsageError(f"{path} is no volume: expected .nii, .nii.gz, .mgz, .npz, .npy, a TIFF stack or a DICOM folder")


def volume_size(path: str | Path) -> tuple[int, int, int]:
    """Depth, height and width, from the header alone where the format has one."""
    path = Path(path)
    if path.is_file() and suffix_of(path) in NIBABEL:
        with reading(path, "volume"):
            x, y, z = (*_nibabel().load(path).shape, 1, 1, 1)[:3]
            return int(z), int(y), int(x)
    if path.is_file() and suffix_of(path) in STACKS:
        from sightline.media.image import image_size, pages

        return pages(path), *image_size(path)
    return read_volume(path).size


def write_volume(
    path: str | Path, array: np.ndarray, *, spacing: Sequence[float] = (1.0, 1.0, 1.0), affine: np.ndarray | None = None
) -> Path:
    """Write `(D, H, W)` or `(D, H, W, C)` as NIfTI (`.nii`, `.nii.gz`) or `.npz` (keys image, spacing, affine).

    affine: as `read_volume` gave it; None: made of the spacing. The file appears as a whole or not at all.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix == ".npz":
        extra: Any = {"image": array, "spacing": np.asarray(spacing, np.float64)}
        extra |= {} if affine is None else {"affine": affine}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **extra)
        return path
    if suffix not in (".nii", ".nii.gz"):
        raise UsageError(f"{path} cannot be written as a volume: choose .nii, .nii.gz or .npz")
    nibabel = _nibabel()
    if affine is None:
        affine = np.diag([*reversed([float(s) for s in spacing]), 1.0])
    turned = array.transpose(2, 1, 0, *range(3, array.ndim))
    picture = nibabel.Nifti1Image(np.ascontiguousarray(turned), affine)
    picture.header.set_xyzt_units("mm")
    content = picture.to_bytes()
    if suffix == ".nii.gz":
        import gzip

        content = gzip.compress(content, compresslevel=3, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def as_volume(array: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Volume:
    """An array `(D, H, W)` or `(D, H, W, C)` as a volume. Raises `UsageError` for any other."""
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or 0 in array.shape or array.dtype.kind not in "buif":
        raise UsageError(
            f"an array of shape {array.shape} of {array.dtype} is no volume: expected (D, H, W) of numbers"
        )
    return Volume(_plain(array), (float(spacing[0]), float(spacing[1]), float(spacing[2])))


# NIfTI and MGZ ---------------------------------------------------------------------------------------------------


def _nibabel() -> Any:
    try:
        import nibabel
        import nibabel.imageglobals
    except ImportError as error:
        raise missing_extra("nibabel", "medical", "reading and writing NIfTI and MGZ") from error
    nibabel.imageglobals.logger.setLevel("ERROR")  # errors say what matters; odd headers are common
    return nibabel


def _read_nibabel(path: Path, max_voxels: int) -> Volume:
    nibabel = _nibabel()
    with reading(path, "volume"):
        picture = nibabel.load(path, mmap=False)
        shape = tuple(int(n) for n in picture.shape)
        while len(shape) > 4 and shape[3] == 1:  # (x, y, z, 1, c): a vector at each voxel
            shape = (*shape[:3], *shape[4:])
        if not 2 <= len(shape) <= 4 or 0 in shape:
            raise SightlineError(
                f"{path} has {len(shape)} axes {shape}: a volume of 3, or 4 with channels, was expected"
            )
        _check_count(path, prod(shape), max_voxels)
        array = np.asanyarray(picture.dataobj).reshape(shape)
        if array.dtype.kind not in "buif":
            raise SightlineError(f"{path} holds {array.dtype}, not numbers: export it with one number a voxel")
        while array.ndim < 4:
            array = array[..., None]
        affine = np.asarray(picture.affine, np.float64)
        x, y, z = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(_plain(array.transpose(2, 1, 0, 3)), _spacing(path, (z, y, x)), affine)


# DICOM -----------------------------------------------------------------------------------------------------------


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise missing_extra("pydicom", "medical", "reading DICOM") from error
    return pydicom


def _slices(folder: Path, *, first: bool = False) -> list[Path]:
    """The DICOM files directly in a folder, by suffix or by their mark; only one when `first`."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if path.suffix.lower() in DICOM or (not path.suffix and _is_dicom(path)):
            found.append(path)
            if first:
                break
    return found


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(128)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def _read_dicom(path: Path, files: list[Path], max_voxels: int) -> Volume:
    if not files:
        raise SightlineError(f"{path} holds no DICOM files: give the folder of one series")
    pydicom = _pydicom()
    heads = []
    for file in files:
        with reading(file, "DICOM file"):
            head = pydicom.dcmread(file)
            if "PixelData" in head:  # a DICOMDIR or a report has none
                heads.append((file, head))
    series = {str(head.get("SeriesInstanceUID", "")) for _, head in heads}
    if len(series) != 1:
        raise SightlineError(f"{path} holds {len(series)} DICOM series with pixels; give a folder with a single one")
    with reading(path, "DICOM series"):
        if len({(int(h.Rows), int(h.Columns)) for _, h in heads}) != 1:
            raise SightlineError(f"{path}: its slices differ in size; give a folder with a single series")
        first = heads[0][1]
        _check_count(path, len(heads) * int(first.Rows) * int(first.Columns), max_voxels)
        along, across = _directions(first)
        normal = np.cross(along, across)
        heads.sort(key=lambda item: (float(_position(item[1]) @ normal), int(item[1].get("InstanceNumber") or 0)))
        planes = []
        for file, head in heads:
            with reading(file, "DICOM file"):
                planes.append(_values(head))
        array = np.concatenate(planes)
        rows, columns = (float(v) for v in first.get("PixelSpacing", (1.0, 1.0)))
        places = np.array([_position(head) @ normal for _, head in heads])
        between = _between(path, places, first)
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = along * columns, across * rows, normal * between
        affine[:3, 3] = _position(heads[0][1])
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM counts to the left and back, NIfTI right and front
    return Volume(_plain(array[..., None]), _spacing(path, (between, rows, columns)), affine)


def _directions(head: Any) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which columns and rows count up."""
    numbers = np.array([float(v) for v in head.get("ImageOrientationPatient", (1, 0, 0, 0, 1, 0))])
    return numbers[:3], numbers[3:]


def _position(head: Any) -> np.ndarray:
    return np.array([float(v) for v in head.get("ImagePositionPatient", (0.0, 0.0, 0.0))])


def _between(path: Path, places: np.ndarray, head: Any) -> float:
    """Millimetres between slices: from their positions, else from the header."""
    steps = np.diff(places)
    if len(steps) and float(steps.max(initial=0)) > 0:
        step = float(np.median(steps))
        if step <= 0 or np.abs(steps - step).max() > 0.1 * step:
            raise SightlineError(
                f"{path}: slices are missing or stand twice (distances {steps.min():g} to {steps.max():g} mm); "
                "copy the whole series again"
            )
        return step
    return float(head.get("SpacingBetweenSlices") or head.get("SliceThickness") or 1.0)


def _values(head: Any) -> np.ndarray:
    """One file's slices `(N, H, W)` in the units its header names (Hounsfield for CT)."""
    pixels = head.pixel_array
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    slope, intercept = float(head.get("RescaleSlope") or 1), float(head.get("RescaleIntercept") or 0)
    if slope == 1 and intercept == int(intercept):
        return pixels.astype(np.int32) + int(intercept)
    return (pixels * slope + intercept).astype(np.float32)


# Arrays and stacks -----------------------------------------------------------------------------------------------


def _read_array(path: Path, labels: bool, max_voxels: int) -> Volume:
    with reading(path, "volume"):
        if suffix_of(path) == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_count(path, array.size, max_voxels)
            return as_volume(np.array(array))
        with zipfile.ZipFile(path) as archive:
            _check_count(path, max((i.file_size // 8 for i in archive.infolist()), default=0), max_voxels)
        with np.load(path, allow_pickle=False) as content:
            key = _key(path, {k: content[k].ndim for k in content.files}, labels)
            spacing = content["spacing"] if "spacing" in content.files else (1.0, 1.0, 1.0)
            volume = as_volume(content[key], _spacing(path, spacing))
            affine = np.asarray(content["affine"], np.float64) if "affine" in content.files else None
        if affine is not None and affine.shape != (4, 4):
            raise SightlineError(f"{path}: its affine has the shape {affine.shape}, expected (4, 4)")
    return Volume(volume.array, volume.spacing, affine)


def _key(path: Path, axes: dict[str, int], labels: bool) -> str:
    """The name of the array to read."""
    names = [name for name, count in axes.items() if count in (3, 4)]
    wanted = LABEL_KEYS if labels else IMAGE_KEYS
    found = next((name for word in wanted for name in names if name.lower() == word), None)
    if found is None and len(names) == 1:
        found = names[0]
    if found is None:
        raise SightlineError(
            f"{path} holds {', '.join(axes) or 'no arrays'}: "
            f"expected a volume of 3 or 4 axes called {' or '.join(wanted[:4])}"
        )
    return found


def _read_stack(path: Path, labels: bool, max_voxels: int) -> Volume:
    from sightline.media.image import image_size, pages, read_image
    from sightline.media.labels import read_labels

    count, (height, width) = pages(path), image_size(path)
    _check_count(path, count * height * width, max_voxels)
    if labels:
        return as_volume(np.stack([read_labels(path, page=i) for i in range(count)]))
    planes = [read_image(path, page=i) for i in range(count)]
    if len({plane.shape for plane in planes}) != 1:
        raise SightlineError(f"{path}: its pages differ in size; a stack of equal pages was expected")
    return as_volume(np.stack(planes))


# Checks ----------------------------------------------------------------------------------------------------------


def _check_count(path: Path, count: int, most: int) -> None:
    if count > most:
        raise SightlineError(f"{path} has {count} voxels, above the limit of {most}; cut it, or raise max_voxels")


def _spacing(path: Path, values: Sequence[float]) -> Spacing:
    numbers = [float(v) for v in np.asarray(values).ravel()]
    if len(numbers) != 3 or not all(0 < n < 1e6 for n in numbers):
        raise SightlineError(f"{path}: the spacing {numbers} must be three numbers of millimetres above 0; correct it")
    return numbers[0], numbers[1], numbers[2]


def _plain(array: np.ndarray) -> np.ndarray:
    """Native bytes, C order; floats as float32, wide integers as int32 where they fit, booleans as bytes."""
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, np.float32)
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.itemsize > 4 or array.dtype == np.dtype(np.uint32):
        fits = array.size == 0 or (array.min() >= -(2**31) and array.max() < 2**31)
        return np.ascontiguousarray(array, np.int32 if fits else np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
