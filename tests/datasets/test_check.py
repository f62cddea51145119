"""All faults of a folder in one pass, each in one sentence that names its file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.errors import SightlineError


def sentences(faults, severity):
    return [f.sentence for f in faults.faults if f.severity == severity]


def test_a_sound_folder_has_no_faults(pairs):
    found = check(pairs())
    assert found.faults == () and found.pictures == found.labelled == 6
    assert str(found) == "6 pictures and 6 label maps checked: 0 errors, 0 warnings"


def test_all_faults_in_one_pass(pairs, make):
    root = pairs(12)
    whole = make.picture("images/p0x.jpg", (60, 80))
    make.flat("masks/p0x.png", 0, 1, size=(60, 80))
    (root / "images/p0x.png").unlink()
    whole.write_bytes(whole.read_bytes()[:-700])  # truncated
    (root / "images/p1x.png").write_bytes(b"")
    make.flat("masks/p2x.png", 0, 1, size=(6, 7))  # another size
    make.flat("masks/p3x.png", 0, 9)  # outside the classes
    make._save("masks/p4x.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)))
    (root / "masks/p5x.png").unlink()  # picture without mask
    make.flat("masks/stray.png", 0, 1)  # mask without picture
    shutil.copy(root / "images/p6x.png", root / "images/p7x.png")  # the same picture twice
    make.flat("masks/p8x.png", 0)  # nothing in it
    (root / "masks/p9x.png").write_bytes(b"not a picture at all")
    found = check(root, classes=("a", "b", "c"), val=0)
    errors = "\n".join(sentences(found, "error"))
    for name in (
        "p0x.jpg",
        "p1x.png is empty",
        "p2x.png is 7 x 6",
        "p3x.png holds the value 9",
        "p4x.png is a mask of 3",
    ):
        assert name in errors
    for name in ("p5x.png has no mask", "stray.png has no picture", "p9x.png is not a picture"):
        assert name in errors
    assert len(found.errors) == 8
    warnings = "\n".join(sentences(found, "warning"))
    assert "p7x.png has the pixels of images/p6x.png" in warnings and "1 of 6 label maps" in warnings
    assert all(s.count("\n") == 0 for s in sentences(found, "error"))
    with pytest.raises(SightlineError, match="and 1 more: sightline data check"):
        open_dataset(root, classes=("a", "b", "c"))


def test_duplicates_across_splits_are_errors_whatever_the_container(make):
    for split in ("train", "val"):
        make.picture(f"{split}/images/a.png")
        make.flat(f"{split}/masks/a.png", 0, 1)
    Image.open(make.root / "train/images/a.png").save(make.root / "val/images/a.bmp")
    (make.root / "val/images/a.png").unlink()
    found = check(make.root)
    assert len(found.errors) == 1 and "the score would be too good" in found.errors[0].sentence


def test_a_mask_that_is_never_scored_is_a_warning(pairs, make):
    root = pairs(values=(0, 1, 2))
    make.flat("masks/p0x.png", 255)
    (fault,) = check(root).faults
    assert fault.severity == "warning" and "no pixel that is scored" in fault.sentence


def test_a_folder_that_cannot_be_understood_is_one_fault(tmp_path):
    (fault,) = check(tmp_path).faults
    assert "is empty" in fault.sentence and fault.severity == "error"


def test_one_picture_is_checked_although_it_cannot_be_split(make):
    make.picture("images/a.png")
    make.flat("masks/a.png", 0, 1, size=(3, 3))
    found = check(make.root)
    assert len(found.errors) == 2 and any("3 x 3" in f.sentence for f in found.errors)


def test_the_list_can_be_written(pairs, make):
    root = pairs()
    make.flat("masks/p0x.png", 0, 1, size=(3, 3))
    found = check(root)
    lines = found.write(root.parent / "faults.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["error"] and str(root / "masks/p0x.png") in lines[0]
    content = json.loads(found.write(root.parent / "faults.json").read_text())
    assert content == found.as_json() and content["errors"] == 1


def test_progress_is_told(pairs):
    steps = []
    check(pairs(3), progress=lambda done, count: steps.append((done, count)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_mutated_files_give_sentences(pairs, seed):
    """Bytes of real files are changed, cut and repeated: every reader answers with pixels or a `SightlineError`."""
    root = pairs(2)
    rng = np.random.default_rng(seed)
    data = open_dataset(root, classes=("a", "b", "c"), val=0, splits={"train": ["images/p0x.png"]})
    for path in (root / "images/p0x.png", root / "masks/p0x.png"):
        content = bytearray(path.read_bytes())
        for _ in range(rng.integers(1, 8)):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content[: rng.integers(1, len(content) + 1)]) if rng.random() < 0.4 else bytes(content))
    for read in (read_picture, lambda record: read_labels_of(record, 3)):
        try:
            assert read(data.records[0]).shape[0] > 0
        except SightlineError as error:
            assert "p0x" in str(error)
