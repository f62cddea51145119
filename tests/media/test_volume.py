"""Volumes: every format there and back, axes and spacing, DICOM in any order, one sentence for what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.media.resample import prepare_volume, restored, spacing_rule, target_grid, to_grid
from sightline.media.volume import Volume, as_volume, is_volume, read_volume, stem_of, volume_size, write_volume
from sightline.ops.resize import resize

AFFINE = np.array([[0.0, -2.0, 0.0, 10.0], [1.5, 0.0, 0.0, -4.0], [0.0, 0.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]])


def numbers(dtype: Any = np.int16, shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_values_axes_and_affine(tmp_path: Path, suffix: str) -> None:
    array = numbers()
    path = write_volume(tmp_path / f"a{suffix}", array, affine=AFFINE)
    found = read_volume(path)
    assert found.array.dtype == np.int16 and np.array_equal(found.array[..., 0], array)
    assert found.affine is not None and np.allclose(found.affine, AFFINE) and found.spacing == (3.0, 2.0, 1.5)
    theirs = nibabel.load(path)
    assert theirs.shape == (6, 5, 4)  # (x, y, z)
    assert np.asarray(theirs.dataobj)[5, 1, 3] == array[3, 1, 5]
    assert volume_size(path) == (4, 5, 6) and stem_of(path) == "a" and is_volume(path)


def test_scaled_values_channels_and_big_endian(tmp_path: Path) -> None:
    array = numbers(np.float32, (3, 4, 5, 2)) / 7
    path = write_volume(tmp_path / "two.nii.gz", array)
    assert np.allclose(read_volume(path).array, array) and read_volume(path).array.shape == (3, 4, 5, 2)
    picture = nibabel.Nifti1Image(numbers(np.int16, (5, 4, 3)).astype(">i2"), np.eye(4))
    picture.header.set_slope_inter(2.0, -5.0)
    nibabel.save(picture, tmp_path / "scaled.nii")
    stored = np.asarray(nibabel.load(tmp_path / "scaled.nii").dataobj)
    assert np.allclose(read_volume(tmp_path / "scaled.nii").array[..., 0], stored.transpose(2, 1, 0))
    nibabel.save(nibabel.MGHImage(numbers(np.int32, (5, 4, 3)), np.diag([1, 2, 3, 1])), tmp_path / "a.mgz")
    found = read_volume(tmp_path / "a.mgz")
    assert found.size == (3, 4, 5) and found.spacing == (3.0, 2.0, 1.0)


def test_arrays_and_stacks(tmp_path: Path) -> None:
    array, labels = numbers(np.float64), numbers(np.uint8)
    np.savez(tmp_path / "both.npz", vol=array, seg=labels, spacing=[4.0, 1.0, 1.0])
    assert np.allclose(read_volume(tmp_path / "both.npz").array[..., 0], array)
    found = read_volume(tmp_path / "both.npz", labels=True)
    assert np.array_equal(found.array[..., 0], labels) and found.spacing == (4.0, 1.0, 1.0)
    np.save(tmp_path / "one.npy", labels)
    assert np.array_equal(read_volume(tmp_path / "one.npy").array[..., 0], labels)
    tifffile.imwrite(tmp_path / "stack.tif", labels, photometric="minisblack")
    assert np.array_equal(read_volume(tmp_path / "stack.tif").array[..., 0], labels)
    assert volume_size(tmp_path / "stack.tif") == (4, 5, 6)
    path = write_volume(tmp_path / "out.npz", labels, spacing=(3, 2, 1), affine=AFFINE)
    again = read_volume(path)
    assert again.spacing == (3.0, 2.0, 1.0) and again.affine is not None and np.array_equal(again.affine, AFFINE)
    assert not is_volume(tmp_path / "stack.tif", stacks=False)


def write_series(folder: Path, array: np.ndarray, order: list[int], *, step: float = 2.5, uid: str = "1.2.3") -> Path:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(array)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        head = FileDataset(str(folder), {}, file_meta=meta, preamble=b"\0" * 128)
        head.SOPClassUID, head.SOPInstanceUID, head.SeriesInstanceUID = CTImageStorage, f"{uid}.{k + 1}", uid
        head.Rows, head.Columns = array.shape[1:]
        head.SamplesPerPixel, head.PhotometricInterpretation = 1, "MONOCHROME2"
        head.BitsAllocated = head.BitsStored = 16
        head.HighBit, head.PixelRepresentation = 15, 0
        head.PixelSpacing, head.SliceThickness = [0.8, 0.5], 5.0
        head.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        head.ImagePositionPatient = [-10.0, -20.0, 100.0 + step * k]
        head.RescaleSlope, head.RescaleIntercept, head.InstanceNumber = 1, -1024, k + 1
        head.PixelData = array[k].astype(np.uint16).tobytes()
        head.save_as(folder / f"{order[k]:03d}.dcm", enforce_file_format=True)
    return folder


def test_a_dicom_series_is_sorted_by_place_not_by_name(tmp_path: Path) -> None:
    array = numbers(np.uint16)
    folder = write_series(tmp_path / "ct", array, [2, 0, 3, 1])
    found = read_volume(folder)
    assert np.array_equal(found.array[..., 0], array.astype(np.int32) - 1024)
    assert found.spacing == (2.5, 0.8, 0.5) and is_volume(folder) and volume_size(folder) == (4, 5, 6)
    assert found.affine is not None
    assert np.allclose(
        found.affine @ [2, 1, 3, 1], [10 - 2 * 0.5, 20 - 0.8, 100 + 3 * 2.5, 1]
    )  # left, back are negative
    (folder / "000.dcm").unlink()
    with pytest.raises(SightlineError, match="slices are missing or stand twice"):
        read_volume(folder)
    write_series(folder, array, [10, 11, 12, 13], uid="9.9")
    with pytest.raises(SightlineError, match="holds 2 DICOM series"):
        read_volume(folder)


def test_one_sentence_for_what_is_wrong(tmp_path: Path) -> None:
    good = write_volume(tmp_path / "a.nii.gz", numbers())
    (tmp_path / "cut.nii.gz").write_bytes(good.read_bytes()[:120])
    (tmp_path / "text.nii").write_text("no volume")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 and no more")
    np.savez(tmp_path / "flat.npz", a=np.zeros((3, 3)))
    np.savez(tmp_path / "odd.npz", image=np.zeros((2, 3, 4)), spacing=[1.0, -1.0, 1.0])
    (tmp_path / "empty").mkdir()
    flat = gzip.decompress(good.read_bytes())
    (tmp_path / "short.nii").write_bytes(flat[:-40])
    for name in ("cut.nii.gz", "text.nii", "bad.npz", "flat.npz", "odd.npz", "empty", "short.nii", "absent.nii"):
        with pytest.raises(SightlineError) as caught:
            read_volume(tmp_path / name)
        assert name.partition(".")[0] in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(SightlineError, match="above the limit"):
        read_volume(good, max_voxels=50)
    with pytest.raises(UsageError, match="is no volume"):
        read_volume(Path(__file__))
    with pytest.raises(UsageError, match="is no volume"):
        as_volume(np.zeros((2, 2)))


def test_the_rules_of_preparing(tmp_path: Path) -> None:
    volume = Volume(numbers(np.float32, (6, 8, 10, 1)), (3.0, 1.0, 1.0))
    whole = prepare_volume(volume, Preprocess(intensity="zscore", channels=1, axes=3))
    assert whole.valid == (6, 8, 10)
    assert float(whole.pixels.mean()) == pytest.approx(0, abs=1e-5) and float(whole.pixels.std()) == pytest.approx(
        1, 0.01
    )
    thin = prepare_volume(volume, Preprocess(intensity="zscore", channels=1, axes=3, resize="spacing(1.5, 2, 1)"))
    assert thin.valid == (12, 4, 10) and thin.original == (6, 8, 10)
    assert target_grid((6, 8, 10), (3.0, 1.0, 1.0), "none") == (6, 8, 10) and spacing_rule("none") is None
    for wrong in ("short(8)", "spacing(1, 2)", "spacing(0, 1, 1)"):
        with pytest.raises(UsageError):
            spacing_rule(wrong)
    with pytest.raises(UsageError, match="in_channels=1"):
        prepare_volume(volume, Preprocess(intensity="zscore", channels=3, axes=3))


def test_shrinking_averages_and_growing_interpolates() -> None:
    x = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    half = to_grid(x, (2, 2, 3))
    assert float(half[0, 1, 0, 2]) == pytest.approx(float(x[0, 1, :2, 4:].mean()))
    assert torch.allclose(to_grid(x, (5, 4, 6)), resize(x[None], (5, 4, 6))[0])


@pytest.mark.parametrize("original", [(9, 7, 11), (3, 4, 5), (5, 6, 7), (1, 2, 3)])
def test_slabs_go_back_to_the_files_grid_as_the_whole_would(original: tuple[int, int, int]) -> None:
    maps = torch.rand(3, 5, 6, 7)
    slabs = [(0, maps[:, :2]), (2, maps[:, 2:3]), (3, maps[:, 3:])]
    found = torch.cat(list(restored(slabs, (5, 6, 7), original)), dim=1)
    assert torch.allclose(found, resize(maps[None], original)[0], atol=1e-6)
