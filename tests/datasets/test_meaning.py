"""What the values of masks are taken to mean, and that it is said."""

import numpy as np
import pytest
from PIL import Image

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of
from sightline.errors import SightlineError, UsageError


def first_labels(data):
    return read_labels_of(data.records[0], len(data.classes))


def test_zero_and_255_are_one_class(pairs):
    data = open_dataset(pairs(values=(0, 255)))
    assert data.classes == ("foreground",)
    assert any('"foreground"' in n and "255 -> 1" in n for n in data.notes)
    assert first_labels(data)[0].tolist() == [0, 1] * 4


def test_zero_and_one_are_one_class(pairs):
    data = open_dataset(pairs(values=(0, 1, 1)))
    assert data.classes == ("foreground",) and first_labels(data)[0, :3].tolist() == [0, 1, 1]


def test_two_odd_values_are_one_class(pairs):
    data = open_dataset(pairs(values=(0, 38)))
    assert data.classes == ("foreground",) and first_labels(data)[0, :2].tolist() == [0, 1]


def test_indices_are_counted_and_255_is_not_scored(pairs):
    data = open_dataset(pairs(values=(0, 1, 2, 4, 255)))
    assert data.classes == ("0", "1", "2", "3", "4")  # 3 may stand in a mask that was not looked at
    assert first_labels(data)[0, :5].tolist() == [0, 1, 2, 4, 255]
    assert data.facts["classes_guessed"] is True


def test_grey_codes_become_ids(pairs):
    data = open_dataset(pairs(values=(0, 85, 170, 255)))
    assert len(data.classes) == 4 and first_labels(data)[0, :4].tolist() == [0, 1, 2, 3]
    assert any("85 -> 1" in n for n in data.notes)


def test_many_values_with_gaps_are_instances(pairs):
    data = open_dataset(pairs(values=tuple(range(0, 250, 5))))
    assert data.classes == ("foreground",) and any("number objects" in n for n in data.notes)
    assert first_labels(data).max() == 1


def test_sixteen_bits_are_instances(make):
    make.picture("images/a.png")
    make.flat("labels/a.png", 0, 1, 2, 3, dtype=np.uint16)
    data = open_dataset(make.root, val=0)
    assert data.classes == ("foreground",) and first_labels(data)[0, :4].tolist() == [0, 1, 1, 1]


def test_instances_on_request_keep_the_name(pairs):
    data = open_dataset(pairs(values=(0, 1, 2)), format="instances", classes=("cell",))
    assert data.classes == ("cell",) and first_labels(data)[0, :3].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "sky\nroad\ntree\n"),
        ("classes.txt", "\ufeff0: sky\n1: road\n2: tree\n"),
        ("classes.json", '["sky", "road", "tree"]'),
        ("classes.json", '{"tree": 2, "sky": 0, "road": 1}'),
        ("classes.json", '{"classes": {"0": "sky", "1": "road", "2": "tree"}}'),
        ("labels.csv", "id,name\n0,sky\n1,road\n2,tree\n"),
        ("class_dict.csv", "name,r,g,b\nsky,0,0,255\nroad,9,9,9\ntree,0,255,0\n"),
    ],
)
def test_names_from_files(pairs, make, name, content):
    root = pairs()
    make.text(name, content)
    data = open_dataset(root)
    assert data.classes == ("sky", "road", "tree")
    assert any(name in n for n in data.notes)


def test_names_from_the_user_win_and_void_is_not_scored(pairs, make):
    root = pairs()
    make.text("classes.txt", "a\nb\nc\n")
    data = open_dataset(root, classes="sky,void,tree")
    assert data.classes == ("sky", "tree")
    assert first_labels(data)[0, :3].tolist() == [0, 255, 1]
    with pytest.raises(UsageError, match="different names"):
        open_dataset(root, classes=["a", "a"])


def test_painted_masks_by_a_colour_table(make):
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[1] = (255, 0, 0)
    rgb[2] = (0, 0, 9)
    make.picture("images/a.png", (4, 5))
    make._save("masks/a.png", Image.fromarray(rgb))
    with pytest.raises(SightlineError, match=r"a\.png is a mask of 3 channels.*sightline data convert"):
        open_dataset(make.root)
    table = {"ground": (0, 0, 0), "roof": (255, 0, 0), "void": (0, 0, 9)}
    data = open_dataset(make.root, colours=table, val=0)
    assert data.classes == ("ground", "roof") and data.colours == ((0, 0, 0), (255, 0, 0))
    assert first_labels(data)[:, 0].tolist() == [0, 1, 255, 0]
    bad = open_dataset(make.root, colours={"ground": (0, 0, 0)}, val=0)
    with pytest.raises(SightlineError, match=r"a\.png has 10 pixels in colours"):
        first_labels(bad)


def test_a_class_dict_beside_painted_masks_is_used(make):
    rgb = np.full((4, 5, 3), 7, np.uint8)
    rgb[0] = (1, 2, 3)
    make.picture("train/a.png", (4, 5))
    make._save("train_labels/a_L.png", Image.fromarray(rgb))
    make.text("class_dict.csv", "name,r,g,b\nx,7,7,7\ny,1,2,3\n")
    data = open_dataset(make.root, val=0)
    assert data.classes == ("x", "y") and first_labels(data)[:, 0].tolist() == [1, 0, 0, 0]


def test_values_outside_the_classes_are_named(pairs, make):
    data = open_dataset(pairs(values=(0, 1)), classes=("a", "b", "c"))
    make.flat("masks/p0x.png", 0, 7)
    with pytest.raises(
        SightlineError, match=r"p0x\.png holds the value 7 at row 0, column 1 \(24 such pixels\); expected 0 to 2"
    ):
        first_labels(data)


def test_a_mask_of_another_size_is_named(pairs, make):
    data = open_dataset(pairs())
    make.flat("masks/p0x.png", 0, 1, size=(6, 9))
    with pytest.raises(SightlineError, match=r"p0x\.png is 9 x 6 pixels but its picture .* is 8 x 6"):
        first_labels(data)


def test_the_door_counts_classes(make):
    make.picture("images/a.png", (20, 20))
    make.mask("masks/a.png", np.arange(400).reshape(20, 20) % 255)
    names = [f"c{i}" for i in range(256)]
    assert len(open_dataset(make.root, val=0).classes) == 255
    with pytest.raises(SightlineError, match="256 classes, expected at most 255"):
        open_dataset(make.root, classes=names, val=0)
