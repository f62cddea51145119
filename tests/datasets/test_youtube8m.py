"""TFRecords written here byte by byte, and read back; damage is told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.youtube8m import dequantised, masked_crc, read_records, read_videos, record_of
from sightline.errors import SightlineError


def varint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: str, value: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value))


def of_bytes(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, v) for v in values))


def of_ints(*values: int) -> bytes:
    return field(3, field(1, b"".join(varint(v) for v in values)))


def of_floats(values: np.ndarray) -> bytes:
    return field(2, field(1, values.astype("<f4").tobytes()))


def test_checksum_of_a_known_text() -> None:
    crc = 0xE3069283  # CRC-32C of "123456789", the check value of the algorithm
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_videos_and_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=1024)
    video = field(
        1,
        entry("id", of_bytes(b"abcd")) + entry("labels", of_ints(3, 300))
        + entry("mean_rgb", of_floats(mean)) + entry("mean_audio", of_floats(mean[:128])),
    )  # fmt: skip
    frames = [rng.integers(0, 256, 1024, np.uint8) for _ in range(4)]
    steps = b"".join(field(1, of_bytes(f.tobytes())) for f in frames)
    sounds = b"".join(field(1, of_bytes(f[:128].tobytes())) for f in frames)
    context = entry("id", of_bytes(b"efgh")) + entry("labels", of_ints(7))
    context += entry("segment_labels", of_ints(7)) + entry("segment_start_times", of_ints(15))
    context += entry("segment_scores", of_floats(np.ones(1)))
    sequence = field(1, context) + field(2, entry("rgb", steps) + entry("audio", sounds))
    path = tmp_path / "train.tfrecord"
    path.write_bytes(record_of(video) + record_of(sequence))
    first, second = read_videos(path)
    assert (
        (first.key, first.labels) == ("abcd", (3, 300))
        and np.allclose(first.rgb[0], mean)
        and first.audio.shape == (1, 128)
    )
    assert second.rgb.shape == (4, 1024) and second.segments == ((7, 15, 1.0),)
    assert second.rgb[2, 5] == pytest.approx(int(frames[2][5]) * 4 / 255 + 4 / 512 - 2, abs=1e-6)
    assert dequantised(np.array([0, 255], np.uint8)) == pytest.approx([-2 + 4 / 512, 2 + 4 / 512])


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    good = record_of(b"hello")
    path.write_bytes(good + good[:-2])
    with pytest.raises(SightlineError, match="cut off in record 1"):
        list(read_records(path))
    path.write_bytes(good[:-5] + b"O" + good[-4:])
    with pytest.raises(SightlineError, match="checksum"):
        list(read_records(path))
    path.write_bytes(struct.pack("<QI", 5, 1) + good[12:])
    with pytest.raises(SightlineError, match="length of record 0"):
        list(read_records(path))
    path.write_bytes(record_of(b"\x0f\x01garbage"))
    with pytest.raises(SightlineError, match="record 0"):
        list(read_videos(path))
