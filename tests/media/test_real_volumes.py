"""Real volumes of several programs: sizes, spacing, values; a CT and its mask on one grid."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from sightline.media.volume import read_volume, volume_size, write_volume

pytestmark = pytest.mark.slow


@pytest.fixture
def volumes(shared_data: Path) -> Path:
    folder = shared_data / "volumes"
    if not folder.is_dir():
        pytest.skip(f"the test volumes are not at {folder}; set SIGHTLINE_DATA")
    return folder


def test_a_ct_and_its_mask_stand_on_one_grid(volumes: Path) -> None:
    ct = read_volume(volumes / "nnunet_ct_example" / "example_ct_sm.nii.gz")
    mask = read_volume(volumes / "nnunet_ct_example" / "example_ct_sm_T300_output.nii.gz")
    assert ct.size == mask.size == (30, 101, 122) and ct.spacing == mask.spacing == (3.0, 3.0, 3.0)
    assert ct.array.min() < -1000 and set(np.unique(mask.array)) == {0, 1}
    assert (mask.array[ct.array > 120] == 1).all()  # bone lies inside the body


@pytest.mark.parametrize(
    "name", ["example4d.nii.gz", "example_nifti2.nii.gz", "anatomical.nii", "functional.nii", "test.mgz"]
)
def test_every_kind_is_read_as_nibabel_reads_it(volumes: Path, name: str, tmp_path: Path) -> None:
    path = volumes / "nibabel_small" / name
    found, theirs = read_volume(path), nibabel.load(path)
    values = np.asarray(theirs.dataobj)
    values = values if values.ndim == 4 else values[..., None]
    assert np.allclose(found.array, values.transpose(2, 1, 0, 3)) and found.size == volume_size(path)
    assert found.affine is not None and np.allclose(found.affine, theirs.affine)
    again = read_volume(write_volume(tmp_path / "again.nii.gz", found.array, affine=found.affine))
    assert np.allclose(again.array, found.array) and np.allclose(again.affine, found.affine, atol=1e-4)


def test_a_scan_with_its_labels_in_one_file(volumes: Path) -> None:
    path = volumes / "voxelmorph_t1" / "test_scan.npz"
    image, labels = read_volume(path), read_volume(path, labels=True)
    assert image.size == labels.size == (160, 192, 224) and len(np.unique(labels.array)) == 46
