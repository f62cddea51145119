"""From a record to pixels: the picture, and its labels as class ids, whatever way they were stored."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.paint import paint
from sightline.datasets.records import MaskFile, MaskStack, ObjectRecord, Picture, PixelRecord, Polygons, VolumeRecord
from sightline.datasets.volumes import read_volume_labels, read_volume_of
from sightline.errors import SightlineError
from sightline.media.image import MAX_PIXELS, image_size, read_image, without_data
from sightline.media.labels import labels_from_colours, read_labels
from sightline.media.volume import volume_size

IGNORE = 255


def read_picture(record: PixelRecord | ObjectRecord, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of a record's picture, `(H, W, C)` uint8, uint16 or float32; errors name the file.

    Volumes give `(D, H, W, C)`; `volumes.read_volume_of` says where their voxels stand, too.
    """
    if isinstance(record, VolumeRecord):
        return read_volume_of(record).array
    return read_image(record.image.path, page=record.image.page, max_pixels=max_pixels)


def size_of(record: PixelRecord) -> tuple[int, ...]:
    """Height and width of a record's picture, of volumes depth, height and width, from the header."""
    if isinstance(record, VolumeRecord):
        return volume_size(record.files[0])
    return image_size(record.image.path, page=record.image.page)


def read_labels_of(
    record: PixelRecord, num_classes: int, *, size: tuple[int, ...] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """The class of every pixel of a record, `(H, W)` uint8: 0..num_classes-1 (one class: 0 and 1), 255 = never scored.

    Where a GeoTIFF has no data nothing is scored. Multi-label records (`MaskStack`) give `(num_classes, H, W)` of 0
    and 1, volumes `(D, H, W)`. size: the picture's (H, W), where it is known already; else its header is read.

    Raises `SightlineError`, naming the file, when the record has no labels, the mask is unreadable or not of the
    picture's size, or a value stands for no class.
    """
    if isinstance(record, VolumeRecord):
        return read_volume_labels(record, num_classes)
    labels = record.labels
    if labels is None:
        raise SightlineError(f"{record.image.path} has no labels; use a split that has masks")
    size = size or size_of(record)
    size = (size[0], size[1])
    if isinstance(labels, Polygons):
        _check_size(labels.source, labels.size, record.image, size)
        return _check_classes(paint(labels), labels.source, num_classes)
    if isinstance(labels, MaskStack):
        return _stack(labels, record.image, size, max_pixels)
    ids = _mask(labels, num_classes, max_pixels)
    _check_size(labels.path, (ids.shape[0], ids.shape[1]), record.image, size)
    unknown = without_data(record.image.path, page=record.image.page, max_pixels=max_pixels)
    return ids if unknown is None else np.where(unknown, np.uint8(IGNORE), ids)


def read_instances_of(record: PixelRecord, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32] | None:
    """The objects' numbers of a record whose mask numbers them (0: none), `(H, W)`; None for any other labels."""
    labels = record.labels
    if not isinstance(labels, MaskFile) or not labels.foreground:
        return None
    return read_labels(labels.path, page=labels.page, max_pixels=max_pixels).astype(np.int32)


def _stack(stack: MaskStack, image: Picture, size: tuple[int, int], max_pixels: int) -> NDArray[np.uint8]:
    found = np.zeros((len(stack.masks), *size), np.uint8)
    for plane, path in zip(found, stack.masks):
        if path is not None:
            mask = read_labels(path, max_pixels=max_pixels)
            _check_size(path, (mask.shape[0], mask.shape[1]), image, size)
            plane[:] = mask > 0
    return found


def _check_size(source: Path, found: tuple[int, int], image: Picture, expected: tuple[int, int]) -> None:
    if found != expected:
        raise SightlineError(
            f"{source} is {found[1]} x {found[0]} pixels but its picture {image.path} is {expected[1]} x {expected[0]}"
            "; export the labels again at the picture's size"
        )


def _mask(mask: MaskFile, num_classes: int, max_pixels: int) -> NDArray[np.uint8]:
    if mask.colours is not None:
        return _check_classes(_painted(mask, max_pixels), mask.path, num_classes)
    values = read_labels(mask.path, page=mask.page, max_pixels=max_pixels)
    if mask.foreground:
        return (values > 0).astype(np.uint8)
    if mask.values is not None:
        return _check_classes(_translate(values, mask.values, mask.path), mask.path, num_classes)
    return _check_classes(values, mask.path, num_classes)


def _painted(mask: MaskFile, max_pixels: int) -> np.ndarray:
    assert mask.colours is not None
    picture = read_image(mask.path, page=mask.page, max_pixels=max_pixels)
    if picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise SightlineError(
            f"{mask.path} has {picture.shape[2]} channels of {picture.dtype}, expected a mask painted in the colours "
            "of the table (RGB, 8 bits); leave the colour table out for masks that hold class ids"
        )
    return labels_from_colours(picture, mask.colours, name=str(mask.path))


def _translate(values: np.ndarray, table: Mapping[int, int], path: Path) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:  # the usual case: ten times faster than an index, 254 marks what is not in the table
        swapped = values.tobytes().translate(_byte_table(tuple(table.items())))
        if b"\xfe" not in swapped:
            return np.frombuffer(bytearray(swapped), np.uint8).reshape(values.shape)
    ids = np.full(65_536, 254, np.uint8)  # 254 cannot be meant: it is looked up only where `known` is true
    known = np.zeros(65_536, bool)
    for value, number in table.items():
        ids[value], known[value] = number, True
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65_535 or not known[values].all():
        outside = (values < 0) | (values > 65_535)
        bad = outside | ~known[np.where(outside, 0, values)]
        raise _unknown_value(values, bad, path, ", ".join(str(v) for v in sorted(table)[:20]))
    return ids[values]


@lru_cache(maxsize=8)
def _byte_table(table: tuple[tuple[int, int], ...]) -> bytes:
    return bytes(dict(table).get(value, 254) for value in range(256))


def _check_classes(ids: np.ndarray, path: Path, num_classes: int) -> NDArray[np.uint8]:
    top = max(num_classes, 2)
    if ids.dtype == np.uint8 and (ids + np.uint8(1)).max(initial=0) <= top:  # 255 + 1 is 0: one look at usual labels
        return ids
    bad = (ids != IGNORE) & ((ids < 0) | (ids >= top))
    if bad.any():
        raise _unknown_value(ids, bad, path, f"0 to {top - 1}, or 255 for pixels that are never scored")
    return ids.astype(np.uint8, copy=False)


def _unknown_value(values: np.ndarray, bad: NDArray[np.bool_], path: Path, expected: str) -> SightlineError:
    row, column = np.argwhere(bad)[0].tolist()
    return SightlineError(
        f"{path} holds the value {values[row, column]} at row {row}, column {column} ({int(bad.sum())} such pixels); "
        f"expected {expected}; correct the mask or name all classes"
    )
