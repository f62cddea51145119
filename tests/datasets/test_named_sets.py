"""CamVid, VOC, Cityscapes, ADE20K and COCO-Stuff, in small folders of their own arrangement."""

import numpy as np
import pytest
from PIL import Image

from sightline.datasets import ade20k, camvid, cityscapes, coco_stuff
from sightline.datasets.detect import detect
from sightline.datasets.open import FORMATS, open_dataset
from sightline.datasets.read import read_labels_of
from sightline.datasets.voc import CLASSES as VOC
from sightline.datasets.voc import voc_colours
from sightline.errors import SightlineError

COUNTS = {"camvid": 11, "voc": 21, "cityscapes": 19, "ade20k": 150, "coco_stuff": 171}


def labels_of(data, i=0):
    return read_labels_of(data.records[i], len(data.classes))


def test_lists_of_classes_are_complete():
    for found, count in (
        (camvid.CLASSES, 11), (VOC, 21), (cityscapes.CLASSES, 19), (ade20k.CLASSES, 150), (coco_stuff.CLASSES, 171),
    ):  # fmt: skip
        assert len(found) == len(set(found)) == count
    assert len(camvid.COLOURS) == len(set(camvid.COLOURS)) == 11
    assert len(cityscapes.COLOURS) == len(set(cityscapes.COLOURS)) == 19
    assert ade20k.CLASSES[58:60] == ("screen door", "stairway") and ade20k.CLASSES[149] == "flag"


def test_every_format_names_a_reader():
    from importlib import import_module

    for name, target in FORMATS.items():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function)), name


@pytest.mark.parametrize("beside", [False, True])
def test_camvid(make, beside):
    for split, name in (
        ("train", "0001TP_006690"),
        ("train", "0006R0_f00930"),
        ("val", "0016E5_07959"),
        ("test", "Seq05VD_f00000"),
    ):
        make.picture(f"{split}/{name}.png" if beside else f"images/{split}/{name}.jpg")
        make.flat(f"{split}annot/{name}.png" if beside else f"labels/{split}/{name}.png", *range(12))
    data = open_dataset(make.root)
    assert data.format == "camvid" and data.classes == camvid.CLASSES and data.splits == ("train", "val", "test")
    assert labels_of(data)[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7] and labels_of(data)[1, 3] == 255
    assert {r.group for r in data.records} == {"0001TP", "0006R0", "0016E5", "Seq05VD"}


def test_voc_lists_and_borders(make):
    for name in ("2007_1", "2007_2", "2007_3"):
        make.picture(f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg")
    for name in ("2007_1", "2007_2"):
        mask = Image.fromarray(np.resize(np.array([0, 20, 255], np.uint8), (6, 8)))
        mask.putpalette(np.arange(768, dtype=np.uint8).tobytes())
        make._save(f"VOCdevkit/VOC2012/SegmentationClass/{name}.png", mask)
    for split, name in (("train", "2007_1"), ("val", "2007_2"), ("test", "2007_3"), ("trainval", "2007_1\n2007_2")):
        make.text(f"VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt", name + "\n")
    data = open_dataset(make.root)
    assert data.format == "voc" and data.classes == VOC and len(data.records) == 3
    assert data.splits == ("train", "val", "test") and data.split("test").records[0].labels is None
    assert labels_of(data)[0, :3].tolist() == [0, 20, 255]
    make.text("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", "2007_1\n2007_9\n")
    with pytest.raises(SightlineError, match="lists 2007_9, which is not in JPEGImages"):
        open_dataset(make.root)


def test_voc_colours_are_the_published_ones():
    colours = voc_colours(256)
    assert colours[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert colours[15] == (192, 128, 128) and colours[20] == (0, 64, 128) and colours[255] == (224, 224, 192)


def test_voc_painted_in_its_colours(make):
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[0], rgb[1] = (192, 128, 128), (224, 224, 192)
    make.picture("JPEGImages/a.jpg")
    make._save("SegmentationClass/a.png", Image.fromarray(rgb))
    data = open_dataset(make.root, val=0)
    assert labels_of(data)[:3, 0].tolist() == [15, 255, 0]


def test_an_export_of_cvat_in_vocs_arrangement(make):
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[0] = (10, 20, 30)
    make.picture("JPEGImages/a.jpg")
    make._save("SegmentationClass/a.png", Image.fromarray(rgb))
    make.text("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:10,20,30::\n")
    make.text("ImageSets/Segmentation/default.txt", "a\n")
    data = open_dataset(make.root, val=0)
    assert data.format == "voc" and data.classes == ("background", "leaf") and labels_of(data)[0, 0] == 1


@pytest.mark.parametrize(("kind", "name"), [("gtFine", "cityscapes"), ("gtCoarse", "cityscapes_coarse")])
def test_cityscapes(make, kind, name):
    for split, city in (("train", "aachen"), ("val", "lindau")):
        make.picture(f"leftImg8bit/{split}/{city}/{city}_0_0_leftImg8bit.png")
        make.flat(f"{kind}/{split}/{city}/{city}_0_0_{kind}_labelIds.png", *range(34))
        make.flat(f"{kind}/{split}/{city}/{city}_0_0_{kind}_instanceIds.png", 26001, dtype=np.uint16)
    data = open_dataset(make.root)
    assert data.format == name and [r.group for r in data.records] == ["aachen", "lindau"]
    found = labels_of(data).ravel()[:34].tolist()
    published = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
                 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    assert found == [published.get(i, 255) for i in range(34)]


def test_ade20k_leaves_other_out_once(make):
    for split, name in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
        make.picture(f"images/{split}/{name}.jpg", (13, 12))
        make.mask(f"annotations/{split}/{name}.png", np.arange(156).reshape(13, 12).clip(max=150))
    data = open_dataset(make.root)
    assert data.format == "ade20k" and data.splits == ("train", "val")
    assert labels_of(data).ravel()[:151].tolist() == [255, *range(150)]


def test_coco_stuff_ids(make):
    make.picture("train2017/000000000009.jpg", (14, 14))
    values = np.resize(np.array([i - 1 for i in coco_stuff.CATEGORY_IDS] + [255]), (14, 14))
    make.mask("stuffthingmaps/train2017/000000000009.png", values)
    data = open_dataset(make.root, val=0)
    assert data.format == "coco_stuff" and len(data.classes) == 171
    assert labels_of(data).ravel()[:172].tolist() == [*range(171), 255]
    assert data.classes[coco_stuff.VALUES[156]] == "sky-other" and data.classes[coco_stuff.VALUES[0]] == "person"
    make.mask("stuffthingmaps/train2017/000000000009.png", np.full((14, 14), 11))
    with pytest.raises(SightlineError, match="holds the value 11 "):  # street sign, which no picture has
        labels_of(data)


def test_a_folder_that_only_looks_similar_is_not_taken(make):
    make.picture("images/a.png")
    make.flat("masks/a.png", 0, 1)
    make.text("package.json", '{"name": "x"}')
    make.text("layout.xml", "<window/>")
    make.text("scores.csv", "a,b\n1,2\n")
    assert detect(make.root)[0] == "pairs"
