"""The arrangements of pictures and masks that are recognised from the folder alone."""

import numpy as np
import pytest
import tifffile

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.errors import SightlineError, UsageError


def keys(data, split):
    return [r.key for r in data.split(split).records]


def test_images_and_masks_side_by_side(pairs):
    data = open_dataset(pairs(), val=0)
    assert data.format == "pairs" and data.classes == ("0", "1", "2")
    assert keys(data, "train") == [f"images/p{i}x.png" for i in range(6)]
    assert read_labels_of(data.records[0], 3)[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert any("images/ beside masks/" in note for note in data.notes)


@pytest.mark.parametrize(
    ("images", "masks"), [("img", "gt"), ("image", "label"), ("Images", "Annotations"), ("imgs", "truth")]
)
def test_other_usual_names_and_other_extensions(make, images, masks):
    for i in range(3):
        make.picture(f"{images}/a{i}.jpg")
        make.flat(f"{masks}/a{i}.png", 0, 255)
    data = open_dataset(make.root, val=0)
    assert len(data.records) == 3 and data.classes == ("foreground",)
    assert set(np.unique(read_labels_of(data.records[0], 1)).tolist()) == {0, 1}


def test_split_folders_inside_and_outside(make):
    for split in ("train", "val"):
        make.picture(f"in/images/{split}/a.png")
        make.flat(f"in/labels/{split}/a.png", 0, 1)
        make.picture(f"out/{split}/image/a.png")
        make.flat(f"out/{split}/label/a.png", 0, 1)
    for name in ("in", "out"):
        data = open_dataset(make.root / name)
        assert data.splits == ("train", "val") and len(data.records) == 2, name
        assert any("splits as given" in n for n in data.notes)


def test_a_test_folder_without_labels_is_kept_as_pictures(make):
    for i in range(4):
        make.picture(f"train/image/{i}.png")
        make.flat(f"train/label/{i}.png", 0, 255)
    make.picture("test/0.png")
    data = open_dataset(make.root, val="last(1)")
    assert keys(data, "val") == ["train/image/3.png"]
    assert [r.labels for r in data.split("test").records] == [None]
    assert len(data.split("train").records) == 3


@pytest.mark.parametrize("beside", ["trainannot", "train_labels", "train_masks"])
def test_a_folder_of_masks_beside_the_split(make, beside):
    make.picture("train/x.png")
    make.flat(f"{beside}/x.png", 0, 1)
    make.picture("val/y.png")
    make.flat(f"{beside.replace('train', 'val')}/y.png", 0, 1)
    assert open_dataset(make.root).splits == ("train", "val")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "a_mask.png"),
        ("b.png", "b_L.png"),
        ("c.png", "mask_c.png"),
        ("img_d.png", "gt_d.png"),
        ("e_sat.jpg", "e_mask.png"),
    ],
)
def test_masks_marked_by_a_word_in_the_name(make, image, mask):
    for folder in ("one", "two"):
        make.picture(f"{folder}/{image}")
        make.flat(f"{folder}/{mask}", 0, 1)
    data = open_dataset(make.root, val=0)
    assert [r.group for r in data.records] == ["one", "two"]
    assert data.records[0].labels.path.name == mask


def test_a_stack_of_pages_becomes_a_record_a_page(make):
    make.root.mkdir()
    volume = np.random.default_rng(0).integers(0, 255, (5, 9, 7), np.uint8)
    tifffile.imwrite(make.root / "train-volume.tif", volume, photometric="minisblack")
    tifffile.imwrite(make.root / "train-labels.tif", (volume > 128).astype(np.uint8) * 255, photometric="minisblack")
    tifffile.imwrite(make.root / "test-volume.tif", volume[:2], photometric="minisblack")
    data = open_dataset(make.root, val="last(2)")
    assert data.format == "stack" and data.classes == ("foreground",)
    assert keys(data, "val") == ["train-volume.tif#3", "train-volume.tif#4"]
    assert len(data.split("test").records) == 2
    for record in data.split("train").records:
        np.testing.assert_array_equal(read_picture(record)[:, :, 0], volume[record.image.page])
        np.testing.assert_array_equal(read_labels_of(record, 1), volume[record.image.page] > 128)


def test_stacks_in_folders_and_a_wrong_number_of_pages(make):
    (make.root / "images").mkdir(parents=True)
    (make.root / "masks").mkdir()
    pages = np.zeros((3, 4, 4), np.uint8)
    tifffile.imwrite(make.root / "images/a.tif", pages, photometric="minisblack")
    tifffile.imwrite(make.root / "masks/a.tif", pages[:2], photometric="minisblack")
    with pytest.raises(SightlineError, match=r"a\.tif has 3 pages but its mask .* has 2"):
        open_dataset(make.root)


def test_a_table_with_ids_splits_and_groups(make):
    for name in "abcd":
        make.picture(f"images/{name}.png")
        make.flat(f"labels/{name}.png", 0, 3, 70, dtype=np.uint16)
    make.text("index.csv", "id,patient,split\na,p1,train\nb,p1,train\nc,p2,train\nd,p3,test\n")
    data = open_dataset(make.root, val=0.4)
    assert data.format == "table" and data.classes == ("foreground",)
    assert keys(data, "test") == ["images/d.png"]
    groups = {r.group: r.split for r in data.records}
    assert groups["p1"] != groups["p2"] and {groups["p1"], groups["p2"]} == {"train", "val"}


def test_a_table_with_paths(make):
    make.picture("x/1.png")
    make.flat("y/1m.png", 0, 1)
    make.text("index.csv", "image;mask\nx/1.png;y/1m.png\n")
    data = open_dataset(make.root, val=0)
    assert data.records[0].labels.path == make.root / "y/1m.png"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "C:\\\\secret.png", "x/../../secret.png"])
def test_a_table_cannot_reach_outside(make, name):
    make.picture("images/a.png")
    make.picture("../secret.png")
    make.text("index.csv", f"image,mask\n{name},{name}\n")
    with pytest.raises(SightlineError, match=r"below|leaves the folder"):
        open_dataset(make.root)


def test_an_unpacked_archive_is_entered(make):
    make.picture("inner/data/images/a.png")
    make.flat("inner/data/masks/a.png", 0, 1)
    data = open_dataset(make.root, val=0)
    assert data.root == make.root / "inner/data" and any("in inner/data/" in n for n in data.notes)


def test_missing_partners_are_named(make):
    make.picture("images/a.png")
    make.picture("images/b.png")
    make.flat("masks/a.png", 0, 1)
    with pytest.raises(SightlineError, match=r"b\.png has no mask in .*masks"):
        open_dataset(make.root)
    make.flat("masks/b.png", 0, 1)
    make.flat("masks/c.png", 0, 1)
    with pytest.raises(SightlineError, match=r"c\.png has no picture"):
        open_dataset(make.root)


def test_folders_that_say_nothing(make):
    make.root.mkdir()
    with pytest.raises(SightlineError, match="is empty"):
        open_dataset(make.root)
    make.text("notes.txt", "hello")
    with pytest.raises(SightlineError, match="no format that can be recognised"):
        open_dataset(make.root)
    with pytest.raises(SightlineError, match="does not exist"):
        open_dataset(make.root / "nowhere")
    with pytest.raises(UsageError, match="Did you mean 'camvid'"):
        open_dataset(make.root, format="camvidd")
    make.picture("images/a.png")
    with pytest.raises(SightlineError, match=r"no masks|recognised"):
        open_dataset(make.root)
