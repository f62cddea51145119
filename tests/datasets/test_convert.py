"""Writing a data set and reading it back gives the same labels."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightline.datasets.convert import convert
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.errors import SightlineError, UsageError


def truth(data):
    """Split and labels by the name of the picture file."""
    return {
        r.image.path.stem: (r.split, read_labels_of(r, len(data.classes))) for r in data.records if r.labels is not None
    }


@pytest.mark.parametrize("to", ["pairs", "voc", "coco"])
def test_round_trip_of_classes_with_a_background(pairs, make, tmp_path, to):
    root = pairs(6, values=(0, 1, 2, 255, 1))
    make.text("classes.txt", "background\ncat\ndog\n")
    data = open_dataset(root, seed=2)
    done = convert(data, tmp_path / "out", to=to)
    again = open_dataset(tmp_path / "out")
    assert done.pictures == done.labelled == 6 and again.classes == data.classes and again.format != "camvid"
    before, after = truth(data), truth(again)
    assert before.keys() == after.keys()
    for name, (split, labels) in before.items():
        assert after[name][0] == split
        np.testing.assert_array_equal(after[name][1], labels)


@pytest.mark.parametrize("to", ["pairs", "voc", "coco"])
def test_round_trip_of_one_class(pairs, tmp_path, to):
    data = open_dataset(pairs(4, values=(0, 255)), classes=("cell",))
    convert(data, tmp_path / "out", to=to)
    again = open_dataset(tmp_path / "out")
    assert again.classes == ("cell",)
    for name, (_, labels) in truth(data).items():
        np.testing.assert_array_equal(truth(again)[name][1], labels)


def test_painted_masks_become_ids(make, tmp_path):
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:, 3:] = (200, 10, 0)
    make.picture("images/a.png")
    make._save("masks/a.png", Image.fromarray(rgb))
    table = make.text("../table.csv", "name,r,g,b\nbase,0,0,0\nroof,200,10,0\n")
    convert(open_dataset(make.root, colours=table, val=0), tmp_path / "out")
    written = Image.open(tmp_path / "out/labels/train/a.png")
    assert written.mode == "P" and np.asarray(written)[0].tolist() == [0] * 3 + [1] * 5
    assert written.getpalette()[:6] == [0, 0, 0, 200, 10, 0]
    assert (tmp_path / "out/classes.txt").read_text() == "base\nroof\n"


def test_pages_and_equal_names_get_their_own(make, tmp_path):
    make.root.mkdir()
    volume = np.random.default_rng(0).integers(0, 2000, (3, 5, 4)).astype(np.uint16)
    for folder in ("one", "two"):
        (make.root / folder).mkdir()
        tifffile.imwrite(make.root / folder / "v.tif", volume, photometric="minisblack")
        tifffile.imwrite(make.root / folder / "v_mask.tif", (volume > 999).astype(np.uint8), photometric="minisblack")
    data = open_dataset(make.root, val=0)
    convert(data, tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert len(again.records) == 6
    np.testing.assert_array_equal(read_picture(again.records[5])[:, :, 0], volume[2])


def test_all_or_nothing(pairs, make, tmp_path):
    root = pairs()
    data = open_dataset(root)
    (root / "masks/p5x.png").write_bytes(b"")
    with pytest.raises(SightlineError, match=r"p5x\.png is empty"):
        convert(data, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    with pytest.raises(UsageError, match="not empty"):
        convert(data, root)
    with pytest.raises(UsageError, match="Did you mean 'coco'"):
        convert(data, tmp_path / "out", to="cocoo")
