"""Mutated annotation files: a sentence or a data set, never another exception, never a hang."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of
from sightline.errors import SightlineError

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]], "area": 12, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [6, 8], "counts": "08X1"}, "iscrowd": 1},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [6, 8], "counts": [8, 40]}, "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
LABELME = {
    "shapes": [
        {"label": "x", "points": [[0, 0], [5, 0], [5, 5]], "shape_type": "polygon"},
        {"label": "y", "points": [[1, 1], [3, 3]], "shape_type": "circle"},
        {"label": "y", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ],
    "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8,
}  # fmt: skip
CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><meta><labels><label><name>x</name></label></labels></meta>
<image id="0" name="a.png" width="8" height="6"><polygon label="x" points="0,0;5,0;5,5" z_order="0"/>
<mask label="x" rle="1,2,3" left="2" top="1" width="3" height="2" z_order="1"/>
<ellipse label="x" cx="3" cy="3" rx="1" ry="1"/></image></annotations>"""
CSV = "image,mask,split,group\na.png,a_mask.png,train,g\n"

ODD = [
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "../../x",
    "/x",
    "\0",
    "a" * 5000,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
]
KINDS = {
    "coco": ("annotations.json", json.dumps(COCO)),
    "labelme": ("a.json", json.dumps(LABELME)),
    "cvat": ("annotations.xml", CVAT),
    "table": ("index.csv", CSV),
}


def survives(root, kind):
    """Open and read everything; only `SightlineError` may come, as one line."""
    try:
        data = open_dataset(root, format=kind, val=0)
        for record in data.records:
            if record.labels is not None:
                assert read_labels_of(record, len(data.classes)).shape == (6, 8)
    except SightlineError as error:
        assert "\n" not in str(error) and 20 < len(str(error)) < 2000
    for fault in check(root, format=kind).faults:
        assert "\n" not in fault.sentence


def replaced(tree, at, value, seen=None):
    """`tree` with its node number `at` (counted in reading order) replaced by `value`."""
    seen = seen if seen is not None else [0]
    seen[0] += 1
    if seen[0] - 1 == at:
        return value
    if isinstance(tree, dict):
        return {k: replaced(v, at, value, seen) for k, v in tree.items()}
    if isinstance(tree, list):
        return [replaced(v, at, value, seen) for v in tree]
    return tree


def prepare(make):
    make.picture("a.png")
    make.flat("a_mask.png", 0, 1)


def test_the_untouched_files_open(make):
    for kind in ("coco", "cvat", "table"):
        make.root = make.root.parent / kind
        prepare(make)
        make.text(*KINDS[kind])
        assert len(open_dataset(make.root, format=kind, val=0).records) == 1, kind


@pytest.mark.parametrize(("kind", "tree"), [("coco", COCO), ("labelme", LABELME)])
def test_every_value_replaced_by_every_odd_one(make, kind, tree):
    prepare(make)
    count = [0]
    replaced(tree, -1, None, count)
    for at in range(count[0]):
        for value in ODD[at % 6 :: 6]:  # a sixth of them at every node
            make.text(KINDS[kind][0], json.dumps(replaced(tree, at, value)))
            survives(make.root, kind)


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=5)
)
def test_mutated_bytes(make, kind, edits):
    name, text = KINDS[kind]
    prepare(make)
    content = bytearray(text.encode())
    for place, how, piece in edits:
        at = place % (len(content) + 1)
        if how == 0:
            content[at : at + len(piece)] = piece
        elif how == 1:
            del content[at : at + place % 40]
        elif how == 2:
            content[at:at] = content[: place % 60]
        else:
            content[at:at] = piece
    (make.root / name).write_bytes(bytes(content))
    survives(make.root, kind)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.lists(st.sampled_from(["a.png", "a", "../a.png", "train", '"', "é", "\0", ";", ""]), max_size=5), max_size=4
    )
)
def test_odd_tables(make, cells):
    prepare(make)
    make.text("index.csv", "image,mask,split,group\n" + "\n".join(",".join(row) for row in cells))
    survives(make.root, "table")


def test_large_numbers_cost_no_memory(make):
    """A picture of 10^9 pixels on paper, runs of 10^12: refused before anything is made of them."""
    prepare(make)
    for size in ([10**9, 1], [2**14, 2**14]):
        tree = json.loads(json.dumps(COCO))
        tree["images"][0] |= {"height": size[0], "width": size[1]}
        tree["annotations"] = tree["annotations"][2:]
        tree["annotations"][0]["segmentation"] = {"size": size, "counts": [0, int(np.prod(size))]}
        make.text("annotations.json", json.dumps(tree))
        with pytest.raises(SightlineError, match=r"expected at most|but its picture"):
            read_labels_of(open_dataset(make.root, format="coco", val=0).records[0], 3)
