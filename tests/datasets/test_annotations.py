"""LabelMe, CVAT and COCO annotations as masks."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of
from sightline.errors import SightlineError


def labels_of(data, i=0):
    return read_labels_of(data.records[i], len(data.classes))


def labelme(make, name, shapes, size=(20, 30), image=None, more=None):
    make.picture(f"{name}.jpg", size)
    content = {"version": "5", "shapes": shapes, "imagePath": image or f"{name.split('/')[-1]}.jpg", "imageData": None}
    make.text(f"{name}.json", json.dumps(content | {"imageHeight": size[0], "imageWidth": size[1]} | (more or {})))


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def test_labelme_polygons_lie_on_top_of_each_other_in_order(make):
    box = [[2, 2], [12, 2], [12, 12], [2, 12]]
    inner = [[4, 4], [8, 4], [8, 8], [4, 8]]
    labelme(make, "a", [shape("car", box), shape("window", inner)])
    labelme(make, "b", [shape("window", [[0, 0], [5, 5]], "rectangle"), shape("void", [[20, 10], [23, 10]], "circle")])
    data = open_dataset(make.root, val=0)
    assert data.format == "labelme" and data.classes == ("background", "car", "window")
    expected = np.zeros((20, 30), np.uint8)
    expected[2:12, 2:12] = 1
    expected[4:8, 4:8] = 2
    np.testing.assert_array_equal(labels_of(data), expected)
    second = labels_of(data, 1)
    assert (second[:5, :5] == 2).all() and abs(int((second == 255).sum()) - np.pi * 9) < 6


def test_labelme_of_one_label_is_binary_and_masks_are_pasted(make):
    hole = np.ones((4, 6), np.uint8) * 255
    hole[1:3, 1:3] = 0
    stream = io.BytesIO()
    Image.fromarray(hole).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    labelme(make, "a", [shape("cell", [[5, 3], [10, 6]], "mask", mask=text)])
    data = open_dataset(make.root, val=0)
    assert data.classes == ("cell",)
    expected = np.zeros((20, 30), np.uint8)
    expected[3:7, 5:11] = hole > 0
    np.testing.assert_array_equal(labels_of(data), expected)


def test_labelme_splits_by_folder_and_pictures_stay_inside(make):
    labelme(make, "train/a", [shape("x", [[0, 0], [5, 0], [5, 5]])])
    labelme(make, "val/b", [shape("x", [[0, 0], [5, 0], [5, 5]])], image="..\\train\\a.jpg")
    data = open_dataset(make.root)
    assert data.splits == ("train", "val") and data.split("val").records[0].image.path == make.root / "train/a.jpg"
    labelme(make, "val/c", [], image="../../outside.jpg")
    with pytest.raises(SightlineError, match=r"outside\.jpg' leaves the folder"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shapes": "none"}, "expected a list of shapes"),
        ({"shapes": [{"label": 3, "points": [[0, 0], [1, 1], [2, 0]]}]}, "label 3 is not among"),
        ({"shapes": [shape("x", [[0, "a"]])]}, "not points"),
        ({"shapes": [shape("x", [[0, 0], [1e9, 0], [5, 5]])]}, "far outside"),
        ({"shapes": [shape("x", [[0, 0], [float("nan"), 0], [5, 5]])]}, "far outside"),
        ({"shapes": [shape("x", [[0, 0]])]}, "expected 3 or more"),
        ({"shapes": [shape("x", [[0, 0]], "blob")]}, "shape type 'blob'"),
        ({"shapes": [shape("x", [[0, 0], [1, 1]], "mask", mask="!!")]}, "PNG of a mask"),
        ({"imageHeight": -3}, "no picture size"),
        ({"imageHeight": 10**6, "imageWidth": 10**6}, "expected at most"),
    ],
)
def test_labelme_faults_are_sentences(make, change, sentence):
    labelme(make, "ok", [shape("x", [[0, 0], [5, 0], [5, 5]])])
    labelme(make, "zz", [], more=change)
    with pytest.raises(SightlineError, match=sentence):
        open_dataset(make.root)


def cvat(images):
    return f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job><labels>
    <label><name>road</name></label><label><name>car</name></label></labels></job></meta>{images}</annotations>"""


def test_cvat_shapes_by_z_order(make):
    make.picture("images/a.png", (20, 30))
    make.text(
        "annotations.xml",
        cvat(
            """<image id="0" name="a.png" subset="Validation" width="30" height="20">
            <polygon label="car" points="4,4;8,4;8,8;4,8" z_order="2"></polygon>
            <box label="road" xtl="2.0" ytl="2.0" xbr="12.0" ybr="12.0" z_order="0"></box>
            <polyline label="car" points="0,0;1,1" z_order="0"></polyline>
            <mask label="car" rle="1,2,3" left="20" top="15" width="3" height="2" z_order="0"></mask></image>"""
        ),
    )
    data = open_dataset(make.root, val=0)
    assert data.format == "cvat" and data.classes == ("background", "road", "car") and data.records[0].split == "val"
    expected = np.zeros((20, 30), np.uint8)
    expected[2:12, 2:12] = 1
    expected[4:8, 4:8] = 2
    expected[15, 21:23] = 2  # runs 1, 2, 3 along the rows of a 2 x 3 window: the second and third pixel
    np.testing.assert_array_equal(labels_of(data), expected)


IMAGE = '<image name="a.png" width="30" height="20">{}</image>'
BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">
<!ENTITY z SYSTEM "file:///etc/passwd">]><annotations>&y;&z;</annotations>"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "declares a document type"),
        ("<annotations><image", "not valid XML"),
        (cvat(""), "no pictures"),
        (cvat('<image name="../a.png" width="30" height="20"/>'), "leaves the folder"),
        (cvat('<image name="/a.png" width="30" height="20"/>'), "must be a path below"),
        (cvat('<image name="b.png" width="30" height="20"/>'), "is not below"),
        (cvat('<image name="a.png" width="many" height="20"/>'), "is no whole number"),
        (cvat(IMAGE.format('<polygon label="dog" points="0,0;1,0;1,1"/>')), "not among"),
        (cvat(IMAGE.format('<polygon label="car" points="0,0;x,0;1,1"/>')), "not points"),
        (cvat(IMAGE.format('<blob label="car"/>')), "<blob> are not known"),
        (cvat(IMAGE.format('<mask label="car" rle="9" left="0" top="0" width="2" height="2"/>')), "does not fit"),
    ],
)  # fmt: skip
def test_cvat_faults_are_sentences(make, text, sentence):
    make.picture("images/a.png", (20, 30))
    make.text("annotations.xml", text)
    with pytest.raises(SightlineError, match=sentence):
        open_dataset(make.root, format="cvat")


def coco_file(annotations, categories=("cat", "dog"), images=None, size=(20, 30)):
    pictures = images or [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}]
    named = [{"id": 10 * i, "name": n} for i, n in enumerate(categories, 1)]
    rows = [{"id": i, "image_id": 1, "iscrowd": 0} | a for i, a in enumerate(annotations, 1)]
    return json.dumps({"images": pictures, "annotations": rows, "categories": named})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_polygons_and_runs_equal_the_reference_tools(make):
    rng = np.random.default_rng(3)
    size = (20, 30)
    make.picture("images/a.png", size)
    blob = rng.random(size) < 0.1
    runs = coco.encode(np.asfortranarray(blob.astype(np.uint8)))
    ring = [3.3, 2.1, 25.7, 4.9, 18.2, 17.4, 5.5, 12.2]
    plain, run = [], 0
    for value in [*blob.ravel(order="F").tolist()]:  # uncompressed run lengths by a slow loop
        if bool(value) == bool(len(plain) % 2):
            run += 1
        else:
            plain.append(run)
            run = 1
    plain.append(run)
    for counts in (runs["counts"].decode(), plain):
        segmentation = {"size": [*size], "counts": counts}
        make.text(
            "annotations/instances_train.json",
            coco_file([
                {"category_id": 20, "segmentation": segmentation, "area": 60},
                {"category_id": 10, "segmentation": [ring], "area": 300},
            ]),
        )  # fmt: skip
        data = open_dataset(make.root, val=0)
        assert data.format == "coco" and data.classes == ("background", "cat", "dog")
        expected = np.zeros(size, np.uint8)
        expected[coco.decode(coco.frPyObjects([ring], *size))[:, :, 0] > 0] = 1
        expected[blob] = 2  # the smaller object lies on top
        np.testing.assert_array_equal(labels_of(data), expected)


def test_coco_crowds_are_not_scored_and_one_category_is_binary(make):
    make.picture("train/a.png", (20, 30))
    crowd = {"size": [20, 30], "counts": [0, 40, 560]}
    make.text(
        "train/_annotations.coco.json",
        coco_file([
            {"category_id": 10, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]},
            {"category_id": 10, "segmentation": crowd, "iscrowd": 1},
        ], ("cat",)),
    )  # fmt: skip
    data = open_dataset(make.root, val=0)
    found = labels_of(data)
    assert data.classes == ("cat",) and data.records[0].split == "train"
    assert (found[:10, :10] == 1).all() and (found[10:, :2] == 255).all() and found[15, 15] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": 1, "annotations": [], "categories": []}', "must hold the lists"),
        (coco_file([], categories=()), "no labels at all"),
        (coco_file([{"category_id": 99, "segmentation": []}]), "category id 99"),
        (coco_file([{"category_id": 10, "segmentation": None}]), "neither polygons nor run lengths"),
        (coco_file([{"category_id": 10, "segmentation": {"size": [20, 30], "counts": "\x01\x02"}}]), "damaged"),
        (coco_file([{"category_id": 10, "segmentation": {"size": [20, 30], "counts": "oooo"}}]), "damaged"),
        (coco_file([{"category_id": 10, "segmentation": {"size": [20, 30], "counts": [600, 1]}}]), "cover 601 pixels"),
        (coco_file([{"category_id": 10, "segmentation": {"size": [9, 9], "counts": [81]}}]), "size"),
        (coco_file([{"category_id": 10, "segmentation": [[0, 0, 1, 1, "x", 2]]}]), "not points"),
        (coco_file([{"image_id": 5, "category_id": 10, "segmentation": []}]), "picture id 5"),
        (
            coco_file([], images=[{"id": 1, "file_name": "../../etc/passwd", "height": 2, "width": 2}]),
            "leaves the folder",
        ),
        (coco_file([], images=[{"id": 1, "file_name": "nope.png", "height": 2, "width": 2}]), "is not below"),
        (coco_file([], images=[{"id": 1, "file_name": "a.png", "height": 1e9, "width": 2}]), "no picture size"),
    ],
)
def test_coco_faults_are_sentences(make, text, sentence):
    make.picture("images/a.png", (20, 30))
    path = make.text("annotations/instances_train.json", text)
    with pytest.raises(SightlineError, match=sentence):
        open_dataset(path if sentence in ("not valid JSON", "nested too deeply") else make.root, format="coco")


def test_one_annotation_file_is_a_data_set(make):
    make.picture("images/a.png", (20, 30))
    path = make.text(
        "annotations/anything.json", coco_file([{"category_id": 10, "segmentation": [[0, 0, 9, 0, 9, 9]]}])
    )
    data = open_dataset(path, val=0)
    assert data.root == make.root and [r.key for r in data.records] == ["images/a.png"]


def test_annotations_of_another_size_than_the_picture_are_named(make):
    make.picture("images/a.png", (20, 31))
    make.text("annotations/instances_train.json", coco_file([]))
    data = open_dataset(make.root, val=0)
    with pytest.raises(
        SightlineError, match=r"instances_train\.json is 30 x 20 pixels but its picture .*a\.png is 31 x 20"
    ):
        labels_of(data)
