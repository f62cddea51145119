"""What comes with the package: readable, small, with its licence beside it."""

import numpy as np
import pytest

from sightline.datasets.bundled import NAMES, bundled
from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.errors import UsageError
from sightline.media.image import image_size, is_image, read_image
from sightline.media.labels import read_labels


def test_the_nuclei_open_without_a_fault():
    data = open_dataset(bundled("nuclei"))
    assert data.classes == ("nucleus",)
    assert {s: len(data.split(s).records) for s in data.splits} == {"train": 36, "val": 8, "test": 8}
    assert not check(bundled("nuclei")).faults


def test_the_nuclei_are_numbered_without_gaps():
    for path in sorted(bundled("nuclei").glob("masks/*/*.png")):
        ids = np.unique(read_labels(path))
        assert ids.tolist() == list(range(len(ids))) and len(ids) > 1, path.name


def test_no_nuclei_picture_stands_in_two_splits():
    names = [p.name for p in bundled("nuclei").glob("images/*/*.png")]
    assert len(set(names)) == len(names) == 52


def test_the_cells_have_boxes_inside_their_pictures():
    from xml.etree import ElementTree

    root = bundled("cells")
    lists = [(root / "ImageSets" / "Main" / f"{s}.txt").read_text().split() for s in ("train", "val", "test")]
    assert [len(names) for names in lists] == [8, 2, 2]
    assert {n for names in lists for n in names} == {p.stem for p in root.glob("JPEGImages/*.jpg")}
    seen = set()
    for path in root.glob("Annotations/*.xml"):
        height, width = image_size(root / "JPEGImages" / f"{path.stem}.jpg")
        for thing in ElementTree.parse(path).iter("object"):
            seen.add(thing.findtext("name"))
            left, top, right, bottom = (float(thing.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert seen == {"RBC", "WBC", "Platelets"}


def test_the_photos_can_be_read():
    shapes = {p.stem: read_image(p).shape for p in bundled("photos").iterdir() if is_image(p)}
    assert shapes == {"cell": (660, 550, 1), "chelsea": (300, 451, 3), "coffee": (400, 600, 3), "rocket": (427, 640, 3)}


def test_every_part_names_source_and_licence_and_all_stay_small():
    for name in NAMES:
        words = (bundled(name) / "SOURCE.md").read_text()
        assert "CC0" in words or "MIT" in words
    assert (bundled("cells") / "LICENSE").read_text().startswith("MIT License")
    assert sum(p.stat().st_size for p in bundled("nuclei").parent.rglob("*") if p.is_file()) < 6e6


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match="Did you mean 'nuclei'"):
        bundled("nucleii")
