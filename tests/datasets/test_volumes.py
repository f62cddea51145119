"""Folders of volumes: pairs, splits, nnU-Net's and the Decathlon's arrangement, values to classes, faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.check import check
from sightline.datasets.convert import convert
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.datasets.records import VolumeRecord
from sightline.datasets.stats import stats
from sightline.datasets.volumes import read_volume_of
from sightline.errors import SightlineError
from sightline.media.volume import write_volume

SPACING = (3.0, 1.0, 1.0)


def volume(seed: int, shape: tuple[int, ...] = (6, 8, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def labels(seed: int, values: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    return np.random.default_rng(seed).choice(values, (6, 8, 10)).astype(np.uint8)


def pairs(root: Path, count: int = 3, values: tuple[int, ...] = (0, 1, 2), suffix: str = ".nii.gz") -> Path:
    for i in range(count):
        write_volume(root / "images" / f"case{i}{suffix}", volume(i), spacing=SPACING)
        write_volume(root / "labels" / f"case{i}{suffix}", labels(i, values), spacing=SPACING)
    return root


@pytest.mark.parametrize("suffix", [".nii.gz", ".npz"])
def test_pairs_of_volumes(tmp_path: Path, suffix: str) -> None:
    data = open_dataset(pairs(tmp_path / "d", suffix=suffix), val=1)
    assert data.format == "volumes" and data.classes == ("0", "1", "2") and data.splits == ("train", "val")
    record = data.records[0]
    assert isinstance(record, VolumeRecord) and record.key == f"images/case0{suffix}"
    assert np.array_equal(read_picture(record)[..., 0], volume(0)) and np.array_equal(
        read_labels_of(record, 3), labels(0)
    )
    found = read_volume_of(record)
    assert found.spacing == SPACING
    counted = stats(data)
    assert counted.median_size == (6, 8, 10) and counted.spacings[0] == SPACING and counted.channels == {1: 3}
    assert counted.class_pixels == tuple(int(sum((labels(i) == k).sum() for i in range(3))) for k in range(3))
    inside = np.concatenate([volume(i)[labels(i) > 0] for i in range(3)])
    assert counted.foreground[50.0] == pytest.approx(np.percentile(inside, 50))
    assert not check(data).errors


def test_split_folders_names_and_values_with_gaps(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_volume(tmp_path / "images" / split / "a.nii", volume(len(split)))
        write_volume(tmp_path / "labels" / split / "a.nii", labels(len(split), (0, 2, 41)))
    data = open_dataset(tmp_path, val=0)
    assert data.splits == ("train", "test") and data.classes == ("0", "2", "41")
    expected = np.searchsorted([0, 2, 41], labels(5, (0, 2, 41)))
    assert np.array_equal(read_labels_of(data.split("train").records[0], 3), expected)
    (tmp_path / "classes.txt").write_text("nothing\nliver\nspleen\n")
    with pytest.raises(SightlineError, match="holds the value 41"):
        read_labels_of(open_dataset(tmp_path, val=0).records[0], 3)


def test_two_values_are_one_class(tmp_path: Path) -> None:
    data = open_dataset(pairs(tmp_path, values=(0, 255)), val=0)
    assert data.classes == ("foreground",)
    assert np.array_equal(read_labels_of(data.records[0], 1), labels(0, (0, 255)) > 0)


def write_nnunet(root: Path, about: dict, channels: int) -> Path:
    for i in range(2):
        for c in range(channels):
            write_volume(root / "imagesTr" / f"x_{i}_{c:04d}.nii.gz", volume(10 * i + c))
        write_volume(root / "labelsTr" / f"x_{i}.nii.gz", labels(i))
    write_volume(root / "imagesTs" / "x_9_0000.nii.gz", volume(9))
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def test_nnunets_arrangement(tmp_path: Path) -> None:
    about = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "liver": 1, "ignore": 2}}
    data = open_dataset(write_nnunet(tmp_path, about, 2), val=1)
    assert data.format == "nnunet" and data.classes == ("liver",) and len(data.split("test").records) == 1
    record = next(r for r in data.records if r.key.startswith("imagesTr/x_1"))
    assert np.array_equal(read_picture(record), np.stack([volume(10), volume(11)], axis=-1))
    assert np.array_equal(read_labels_of(record, 1), np.array([0, 1, 255])[labels(1)])
    assert data.split("test").records[0].labels is None


def test_the_decathlons_arrangement(tmp_path: Path) -> None:
    for i in range(2):
        write_volume(tmp_path / "imagesTr" / f"h_{i:03d}.nii.gz", volume(i, (6, 8, 10, 2)))
        write_volume(tmp_path / "labelsTr" / f"h_{i:03d}.nii.gz", labels(i))
    about = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "front", "2": "back"}}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    data = open_dataset(tmp_path, val=1)
    assert data.classes == ("background", "front", "back") and read_picture(data.records[0]).shape == (6, 8, 10, 2)


def test_every_fault_is_a_sentence(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d", 4)
    write_volume(root / "labels" / "case1.nii.gz", labels(1)[:5])
    (root / "labels" / "case2.nii.gz").write_bytes(b"no gzip")
    write_volume(root / "labels" / "case3.nii.gz", labels(3).astype(np.float32) + 0.5)
    write_volume(root / "labels" / "case7.nii.gz", labels(7))
    found = check(root, classes=["a", "b", "c"])
    words = "\n".join(f.sentence for f in found.errors)
    for part in (
        "case1.nii.gz is 5 x 8 x 10 voxels",
        "case2.nii.gz cannot be read",
        "holds fractions",
        "has no volume in",
    ):
        assert part in words
    with pytest.raises(SightlineError, match="has no volume in"):
        open_dataset(root)
    about = {"labels": {"background": 0, "whole": [1, 2]}}
    with pytest.raises(SightlineError, match="regions of several"):
        open_dataset(write_nnunet(tmp_path / "n", about, 1))


def test_volumes_are_not_converted(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="holds volumes, which are not converted"):
        convert(open_dataset(pairs(tmp_path / "d"), val=1), tmp_path / "out")
