"""The real data sets beside the repository; skipped with one line where they are not."""

import pytest

from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.datasets.stats import stats

pytestmark = pytest.mark.slow


def test_camvid(shared_data):
    data = open_dataset(shared_data / "camvid")
    assert data.format == "camvid" and len(data.classes) == 11
    assert (len(data.split("train").records), len(data.split("val").records)) == (367, 101)
    found = stats(data.split("train"), limit=1000)
    assert found.class_pixels == (
        10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967,
    )  # fmt: skip
    assert found.ignored == pytest.approx(2503995 / (367 * 480 * 360)) and found.median_size == (360, 480)
    assert not check(data).errors


def test_dsb2018_nuclei(shared_data):
    data = open_dataset(shared_data / "dsb2018_nuclei", val=0.2, seed=0)
    assert data.format == "table" and data.classes == ("foreground",)
    assert (len(data.split("train").records), len(data.split("val").records)) == (211, 53)
    again = open_dataset(shared_data / "dsb2018_nuclei", val=0.2, seed=0)
    assert [r.split for r in again.records] == [r.split for r in data.records]
    found = stats(data)
    assert set(found.channels) == {1, 3} and 5 < (found.object_size or 0) < 40
    assert not check(data).errors


def test_isbi2012_em(shared_data):
    data = open_dataset(shared_data / "isbi2012_em", val="last(4)")
    assert data.classes == ("foreground",) and data.splits == ("train", "val", "test")
    assert [r.image.path.stem for r in data.split("train").records] == [str(i) for i in range(20)]
    assert [r.image.path.stem for r in data.split("val").records] == ["20", "21", "22", "23"]
    assert all(r.labels is None for r in data.split("test").records)
    assert stats(data).class_shares[0] == pytest.approx(0.22, abs=0.01)
    assert not check(data).errors


def test_tiny_coco_and_penn_fudan(shared_data):
    coco = open_dataset(shared_data / "tiny_coco")
    assert coco.format == "coco" and len(coco.classes) == 81 and len(coco.records) == 100
    assert not check(coco).errors
    people = open_dataset(shared_data / "penn_fudan", format="instances", classes=("person",))
    assert people.classes == ("person",) and not check(people).errors
