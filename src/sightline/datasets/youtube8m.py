"""YouTube-8M's TFRecords, parsed here: features of whole videos, of frames, and labels of 5-second segments.

    DATA/**/train0001.tfrecord, validate0001.tfrecord, test0001.tfrecord      splits by the first word of a name
    DATA/vocabulary.csv                                                       Index and Name of the classes

A TFRecord is a row of (length, its checksum, data, its checksum); the data is a protocol buffer, an `Example` (video
level) or a `SequenceExample` (frame level). Checksums are CRC-32C, masked; a record that does not match is an error
with the file's name and the record's place. Frames hold bytes that stand for -2 to 2: `dequantised`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sightline.datasets.class_files import read_rows
from sightline.datasets.folders import key_of, natural
from sightline.datasets.records import ClassRecord, Picture
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.door import reading

CLASSES = 3862
SECONDS = 300
"""The most frames, one a second, that a video has."""
LARGEST = 2**28
"""Bytes of a record above which its length is taken for damage."""


@dataclass(frozen=True)
class Video8M:
    """One video. rgb, audio: `(frames, 1024)` and `(frames, 128)` float32; of video-level files one row, their mean."""

    key: str
    labels: tuple[int, ...]
    rgb: np.ndarray
    audio: np.ndarray
    segments: tuple[tuple[int, int, float], ...] = ()  # class, start in seconds, score


@dataclass(frozen=True)
class FeatureRecord(ClassRecord):
    """A video of a `.tfrecord`: `labels` is its first class, `every` all of them; page: its place in the file."""

    every: tuple[int, ...] = ()


def read_youtube8m(root: Path, asked: Asked) -> Survey:
    """The videos of all `.tfrecord` files below `root`; their checksums are compared when they are read."""
    survey = Survey(root, "youtube8m")
    for path in feature_files(root):
        word = re.match(r"[a-z]*", path.stem.lower())
        split = {"validate": "val"}.get(word[0], word[0]) if word else ""
        for place, content in enumerate(read_records(path, check=False)):
            with reading(path, f"TFRecord (record {place})"):
                key, labels = _told(content)
            if labels or split != "test":
                first = labels[0] if labels else None
                survey.records.append(
                    FeatureRecord(
                        f"{key_of(path, root)}#{key or place}", Picture(path, place), first, split=split, every=labels
                    )
                )
    names = asked.classes or _vocabulary(root)
    largest = max((n for record in survey.records for n in record.every), default=-1)
    if names and largest >= len(names):
        raise SightlineError(f"{root} has the label {largest} and names {len(names)} classes; name all of them")
    survey.classes = tuple(names) or tuple(str(n) for n in range(largest + 1))
    survey.facts["classes_guessed"] = not names
    several = sum(len(record.every) > 1 for record in survey.records)
    words = "" if names else ", as many as the largest label says (a vocabulary.csv names them)"
    survey.notes.append(
        f"{len(survey.records)} videos as features, {several} with several of {len(survey.classes)} classes{words}"
    )
    return survey


def feature_files(root: Path) -> list[Path]:
    """The `.tfrecord` files below `root`, in natural order."""
    return sorted((p for p in root.rglob("*.tfrecord") if p.is_file()), key=lambda p: natural(str(p)))


def video_at(path: str | Path, place: int) -> Video8M:
    """The video at `place`. Raises `SightlineError` where the file has changed or is damaged."""
    path = Path(path)
    starts = _starts(path, path.stat().st_mtime_ns if path.is_file() else 0)
    if not 0 <= place < len(starts):
        raise SightlineError(f"{path} has {len(starts)} videos; there is no video {place}")
    with reading(path, f"TFRecord (record {place})"), path.open("rb") as stream:
        stream.seek(starts[place])
        length = struct.unpack("<Q", stream.read(12)[:8])[0]
        content, tail = stream.read(length), stream.read(4)
        if masked_crc(content) != struct.unpack("<I", tail)[0]:
            raise SightlineError(f"{path}: record {place} is damaged (its checksum differs); download it again")
        return _video(content)


@lru_cache(maxsize=64)
def _starts(path: Path, changed: int) -> tuple[int, ...]:
    """Where each record of a file begins."""
    starts, at = [], 0
    for content in read_records(path, check=False):
        starts.append(at)
        at += 16 + len(content)
    return tuple(starts)


def _told(content: bytes) -> tuple[str, tuple[int, ...]]:
    """The key and the labels of a record, its features unread."""
    told = _features(dict(_fields(content)).get(1, b""))
    key = b"".join(told.get("id", told.get("video_id", [b""]))).decode()
    return key, tuple(int(n) for n in told.get("labels", ()))


def _vocabulary(root: Path) -> tuple[str, ...]:
    """The names of vocabulary.csv, in the order of their numbers; () without one."""
    path = root / "vocabulary.csv"
    if not path.is_file():
        return ()
    rows = read_rows(path)
    head = [cell.lower() for cell in rows[0]] if rows else []
    if not {"index", "name"} <= set(head):
        raise SightlineError(f"{path} must have the columns Index and Name; download it again")
    at, name = head.index("index"), head.index("name")
    cells = {row[at]: row[name] for row in rows[1:] if len(row) > max(at, name)}
    if sorted(cells, key=natural) != [str(n) for n in range(len(cells))]:
        raise SightlineError(f"{path} must number its classes from 0 without a gap; download it again")
    return tuple(cells[str(n)] or str(n) for n in range(len(cells)))


def read_videos(path: str | Path) -> Iterator[Video8M]:
    """The videos of a `.tfrecord` file, video or frame level. Raises `SightlineError` for a damaged one."""
    for number, content in enumerate(read_records(path)):
        with reading(path, f"TFRecord (record {number})"):
            yield _video(content)


def dequantised(values: np.ndarray) -> np.ndarray:
    """Bytes as numbers: q 4 / 255 + 4 / 512 - 2, with the half step the data's authors add."""
    return values.astype(np.float32) * np.float32(4 / 255) + np.float32(4 / 512 - 2)


def read_records(path: str | Path, *, check: bool = True) -> Iterator[bytes]:
    """The records of a TFRecord file. check: their checksums too (the lengths' always)."""
    path = Path(path)
    with reading(path, "TFRecord"), path.open("rb") as stream:
        number = 0
        while head := stream.read(12):
            if len(head) < 12:
                raise SightlineError(f"{path} is cut off after record {number}; download it again")
            length, told = struct.unpack("<QI", head)
            if masked_crc(head[:8]) != told or length > LARGEST:
                raise SightlineError(f"{path}: the length of record {number} is damaged; download it again")
            data, tail = stream.read(length), stream.read(4)
            if len(data) < length or len(tail) < 4:
                raise SightlineError(f"{path} is cut off in record {number}; download it again")
            if check and masked_crc(data) != struct.unpack("<I", tail)[0]:
                raise SightlineError(f"{path}: record {number} is damaged (its checksum differs); download it again")
            yield data
            number += 1


def record_of(data: bytes) -> bytes:
    """Data as a record of a TFRecord file."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


# Checksums -------------------------------------------------------------------------------------------------------


def _table() -> list[int]:
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli) of the data, turned by 15 bits and shifted by a constant, as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# Protocol buffers ------------------------------------------------------------------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: an int for varints, bytes for everything else."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, place = data[place : place + size], place + size
        elif kind == 2:
            size, place = _varint(data, place)
            value, place = data[place : place + size], place + size
            if len(value) < size:
                raise ValueError("a field is cut off")
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        yield number, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _features(data: bytes) -> dict[str, Any]:
    """`Features`: name -> a list of bytes, or an array of numbers."""
    return {name: _feature(value) for name, value in _map(data)}


def _map(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The entries of a map field 1 whose keys are text."""
    for number, entry in _fields(data):
        if number == 1:
            pair = dict(_fields(entry))
            yield pair[1].decode(), pair.get(2, b"")


def _feature(data: bytes) -> Any:
    for kind, content in _fields(data):
        if kind == 1:
            return [value for number, value in _fields(content) if number == 1]
        if kind == 2:
            parts = [value for number, value in _fields(content) if number == 1]
            return np.frombuffer(b"".join(parts), "<f4")
        if kind == 3:
            return np.array([n for number, value in _fields(content) if number == 1 for n in _numbers(value)], np.int64)
    return []


def _numbers(value: Any) -> list[int]:
    """Varints of a packed list, or the one that stood alone; 64 bits with a sign."""
    found, place = [], 0
    if isinstance(value, int):
        found = [value]
    else:
        while place < len(value):
            number, place = _varint(value, place)
            found.append(number)
    return [n - 2**64 if n >= 2**63 else n for n in found]


def _video(content: bytes) -> Video8M:
    """An `Example` or a `SequenceExample`; both have their features in field 1."""
    parts = dict(_fields(content))
    told = _features(parts.get(1, b""))
    lists: dict[str, list[Any]] = {}
    for name, steps in _map(parts.get(2, b"")):
        lists[name] = [_feature(step) for number, step in _fields(steps) if number == 1]
    key = b"".join(told.get("id", told.get("video_id", [b""]))).decode()
    labels = tuple(int(n) for n in told.get("labels", ()))
    if lists:
        rgb, audio = (_frames(lists.get(name, []), size) for name, size in (("rgb", 1024), ("audio", 128)))
    else:
        rgb = np.asarray(told.get("mean_rgb", ()), np.float32).reshape(-1, 1024)
        audio = np.asarray(told.get("mean_audio", ()), np.float32).reshape(-1, 128)
    segments = tuple(
        (int(label), int(start), float(score))
        for label, start, score in zip(
            told.get("segment_labels", ()), told.get("segment_start_times", ()), told.get("segment_scores", ())
        )
    )
    return Video8M(key, labels, rgb, audio, segments)


def _frames(steps: list[Any], size: int) -> np.ndarray:
    rows = [np.frombuffer(b"".join(step), np.uint8) for step in steps]
    if any(len(row) != size for row in rows):
        raise ValueError(f"a frame that has not {size} bytes")
    return dequantised(np.stack(rows)) if rows else np.zeros((0, size), np.float32)
