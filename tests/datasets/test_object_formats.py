"""YOLO, LabelMe and CVAT as objects; writing COCO, VOC and YOLO and reading them back; bad boxes; broken files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.datasets.check import check
from sightline.datasets.convert import convert
from sightline.datasets.convert_objects import flags
from sightline.datasets.open import look_into, open_dataset
from sightline.datasets.records import MaskFile, Runs, Thing
from sightline.datasets.things import extent, things_of
from sightline.errors import SightlineError, UsageError
from sightline.verbs import data as verbs

YAML = "path: /somewhere/else\ntrain: ../train/images\nval: valid/images\ntest: test/images\nnc: 2\nnames: [cat, dog]\n"
LABELME = {
    "shapes": [
        {"label": "cat", "points": [[5, 4], [1, 2]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[0, 0], [3, 0], [3, 2]], "shape_type": "polygon", "group_id": 1},
        {"label": "dog", "points": [[5, 3], [8, 3], [8, 6]], "shape_type": "polygon", "group_id": 1},
        {"label": "ignore", "points": [[4, 3], [6, 3]], "shape_type": "circle"},
        {"label": "dog", "points": [[1, 1]], "shape_type": "point"},
    ],
    "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8,
}  # fmt: skip
CVAT = """<annotations><meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels>
</task></meta><image id="0" name="a.png" width="8" height="6" subset="Train">
<box label="dog" xtl="1" ytl="2" xbr="5.5" ybr="6" z_order="1"/>
<box label="cat" xtl="2" ytl="2" xbr="6" ybr="4" rotation="90" z_order="0"/>
<polygon label="cat" points="0,0;3,0;3,2" z_order="2"/><points label="cat" points="1,1"/>
<mask label="dog" rle="1,2,3" left="2" top="1" width="3" height="2" z_order="3"/></image></annotations>"""


@pytest.fixture
def yolo(make) -> Path:
    for split in ("train", "valid"):
        for i in range(3):
            make.picture(f"{split}/images/{split}{i}.png", (20, 40))
            make.text(f"{split}/labels/{split}{i}.txt", "1 0.5 0.5 0.5 0.2\n\n0 0.25 0.5 0.1 0.1\n")
    make.text("train/labels/train1.txt", "")
    (make.root / "train/labels/train2.txt").unlink()
    make.text("data.yaml", YAML)
    return make.root


def test_yolo_boxes_in_pixels_splits_and_pictures_without_objects(yolo: Path) -> None:
    data = open_dataset(yolo, kind="objects")
    assert data.format == "yolo" and data.classes == ("cat", "dog") and data.splits == ("train", "val")
    first = data.records[0].labels
    assert first[0].label == 1 and first[0].box == (10, 8, 30, 12) and first[1].place == 1
    assert data.records[1].labels == () == data.records[2].labels
    assert any("1 pictures without a .txt" in note for note in data.notes) and any("no test" in n for n in data.notes)


def test_yolo_without_a_yaml_polygons_and_lists(make) -> None:
    make.picture("obj/a.png", (20, 40))
    make.picture("obj/b.png", (20, 40))
    make.text("obj/a.txt", "0 0.1 0.2 0.5 0.2 0.5 0.8\n")
    make.text("obj/b.txt", "1 0.5 0.5 0.5 0.5\n")
    make.text("obj/classes.txt", "thing\nother\n")
    data = open_dataset(make.root, kind="objects", val=0)
    assert data.format == "yolo" and data.classes == ("thing", "other")
    thing = data.records[0].labels[0]
    assert thing.box == (4, 4, 20, 16) and thing.mask[0].tolist() == [[4, 4], [20, 4], [20, 16]]
    make.text("obj/classes.txt", "")
    (make.root / "obj/classes.txt").unlink()
    assert open_dataset(make.root, kind="objects", val=0).classes == ("0", "1")
    make.text("list.txt", "obj/b.png\n")
    make.text("data.yaml", "train: list.txt\nnames:\n  0: x\n  1: y\n")
    assert [r.key for r in open_dataset(make.root, kind="objects", val=0).records] == ["obj/b.png"]


def test_yolo_joints(make) -> None:
    make.picture("images/a.png", (10, 10))
    make.text("labels/a.txt", "0 0.5 0.5 0.4 0.4 0.3 0.4 2 0 0 0\n")
    make.text("data.yaml", "train: images\nnames: [p]\nkpt_shape: [2, 3]\n")
    thing = open_dataset(make.root, kind="objects", val=0).records[0].labels[0]
    assert thing.points == ((3, 4, 2), (0, 0, 0)) and thing.box == pytest.approx((3, 3, 7, 7))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "object 0 has 4 numbers; expected 5 numbers, or a class and three or more points"),
        ("cat 0.5 0.5 0.2 0.2", "object 0 is 'cat 0.5"),
        ("2 0.5 0.5 0.2 0.2", "object 0 has the class 2, expected 0 to 1 \\(cat, dog\\)"),
        ("-1 0.5 0.5 0.2 0.2", "has the class '-1'; expected a number from 0"),
        ("0 0.5 0.5 0.2 0.2 0.9", "object 0 has 6 numbers"),
    ],
)
def test_a_damaged_line_is_one_sentence(yolo: Path, line: str, words: str) -> None:
    (yolo / "valid/labels/valid1.txt").write_text(line + "\n")
    with pytest.raises(SightlineError, match=rf"valid1\.txt: .*{words}"):
        open_dataset(yolo, kind="objects")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a, a]\ntrain: train/images\n", "names the class 'a' twice"),
        ("names: 3\ntrain: train/images\n", "names is 3; expected a list"),
        ("names: [cat, dog]\ntrain: ../../elsewhere/../..\n", "leaves the folder"),
        ("names: [cat, dog]\ntrain: train/pictures\n", "the folder .*pictures' is not there"),
        ("names: [cat, dog\ntrain: train/images\n", "is not YAML"),
        ("names: [cat, dog]\ntrain: train/images\nkpt_shape: [0, 9]\n", "kpt_shape is \\[0, 9\\]"),
    ],
)
def test_a_damaged_yaml_is_one_sentence(yolo: Path, text: str, words: str) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(SightlineError, match=words) as error:
        open_dataset(yolo, kind="objects")
    assert "\n" not in str(error.value)


def test_labelme_objects(make) -> None:
    make.picture("train/a.png")
    make.text("train/a.json", json.dumps(LABELME))
    data = open_dataset(make.root, kind="objects", val=0)
    assert data.format == "labelme" and data.classes == ("cat", "dog") and data.records[0].split == "train"
    cat, dog, crowd = data.records[0].labels
    assert cat.box == (1, 2, 5, 4) and cat.mask is None
    assert dog.box == (0, 0, 8, 6) and len(dog.mask) == 2 and dog.place == 1
    assert crowd.crowd and crowd.box == pytest.approx((2, 1, 6, 5))


def test_cvat_objects(make) -> None:
    make.picture("images/a.png")
    make.text("annotations.xml", CVAT)
    data = open_dataset(make.root, kind="objects", val=0)
    assert data.format == "cvat" and data.classes == ("cat", "dog") and data.records[0].split == "train"
    turned, box, polygon, mask = data.records[0].labels
    assert turned.box == pytest.approx((3, 1, 5, 5)) and turned.label == 0 and turned.mask is None
    assert box.box == (1, 2, 5.5, 6) and polygon.box == (0, 0, 3, 2) and len(polygon.mask[0]) == 3
    assert mask.box == (3, 1, 5, 2) and isinstance(mask.mask[0], Runs)
    make.text("annotations.xml", '<annotations><track id="0" label="x"/></annotations>')
    with pytest.raises(SightlineError, match="is 'CVAT for video', expected <image>"):
        open_dataset(make.root, kind="objects", format="cvat")


def test_the_extent_of_parts_is_that_of_their_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        inside = rng.random((5, 7)) < 0.15
        flat = np.concatenate([[False], inside.ravel()])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        counts = np.diff(np.concatenate([[0], edges, [35]]))
        box = extent([Runs(tuple(counts.tolist()), (5, 7), (2, 3), by_rows=True)])
        rows, columns = np.nonzero(inside)
        if len(rows):
            assert box == (columns.min() + 3, rows.min() + 2, columns.max() + 4, rows.max() + 3)
        else:
            assert box == (0, 0, 0, 0)


def truth(data) -> dict:
    return {
        record.image.path.stem: (record.split, [(t.label, [round(v, 3) for v in t.box]) for t in record.labels])
        for record in data.records
    }


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_boxes_come_back(yolo: Path, tmp_path: Path, to: str) -> None:
    data = open_dataset(yolo, kind="objects")
    done = verbs.convert(yolo, tmp_path / "out", to=to)
    again = open_dataset(tmp_path / "out", kind="objects")
    assert done.pictures == 6 and again.format == to and truth(again) == truth(data)
    assert again.classes == data.classes and check(tmp_path / "out", kind="objects").errors == ()


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_polygons_come_back(make, tmp_path: Path, to: str) -> None:
    make.picture("a.png", (30, 30))
    ring = [[2, 3], [20, 4], [18, 25], [5, 20]]
    make.text("a.json", json.dumps({"imagePath": "a.png", "shapes": [{"label": "x", "points": ring}]}))
    data = open_dataset(make.root, kind="objects", val=0)
    convert(data, tmp_path / "out", to=to)
    thing = open_dataset(tmp_path / "out", kind="objects", val=0).records[0].labels[0]
    np.testing.assert_allclose(thing.mask[0], ring, atol=1e-5)
    if to == "coco":
        assert thing.area == flags(thing, (30, 30)).sum() > 200


def test_numbered_masks_and_runs_become_coco_runs(make, tmp_path: Path) -> None:
    from sightline.datasets.convert_objects import coco_row
    from sightline.datasets.paint import counts_of, inside_of

    numbers = np.zeros((6, 8), np.uint8)
    numbers[1:3, 2:5] = 7
    path = make.mask("m.png", numbers)
    row = coco_row(Thing(0, (2, 1, 5, 3), mask=MaskFile(path), value=7), (6, 8))
    found = inside_of(counts_of(row["segmentation"]["counts"], 48), (6, 8), by_rows=False)
    np.testing.assert_array_equal(found, numbers == 7)
    runs = Thing(0, (2, 1, 5, 3), mask=[Runs((0, 6), (2, 3), (1, 2), by_rows=True)])
    assert coco_row(runs, (6, 8))["segmentation"] == row["segmentation"] and row["area"] == 6


def test_what_a_format_cannot_say_is_said_aloud(make, tmp_path: Path) -> None:
    make.picture("a.png")
    make.text("a.json", json.dumps(LABELME))
    data = open_dataset(make.root, kind="objects", val=0)
    assert any("1 crowds" in n for n in convert(data, tmp_path / "v", to="voc").notes)
    assert any(
        "1 crowds and difficult objects are left out" in n for n in convert(data, tmp_path / "y", to="yolo").notes
    )
    with pytest.raises(UsageError, match="cannot convert objects to 'pairs'; expected one of coco, voc, yolo"):
        convert(data, tmp_path / "p", to="pairs")


BAD = [
    ("1 0.5 0.5 0 0.2", "object 0 of .* has no area"),
    ("1 0.5 0.5 -0.2 0.2", "object 0 of .* has swapped corners"),
    ("1 0.9 0.5 0.6 0.2", "object 0 of .* reaches outside its picture of 40 x 20 pixels"),
    ("1 nan 0.5 0.2 0.2", "object 0 of .* has a corner that is no number"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_bad_boxes_are_found_and_refused(yolo: Path, line: str, words: str) -> None:
    (yolo / "valid/labels/valid1.txt").write_text(line + "\n")
    found = check(yolo)
    assert [f.path.name for f in found.errors] == ["valid1.txt"]
    with pytest.raises(SightlineError, match=words):
        record = next(r for r in open_dataset(yolo, kind="objects").records if "valid1" in r.key)
        things_of(record, 2, (20, 40))
    with pytest.raises(SightlineError, match=words):
        raise SightlineError(found.errors[0].sentence)


def test_check_of_boxes_counts_and_warns(yolo: Path) -> None:
    (yolo / "valid/labels/valid1.txt").write_text("1 0.5 0.5 0.5 0.2\n1 0.5 0.5 0.5 0.2\n")
    found = check(yolo)
    assert found.objects == 8 and "6 pictures and 8 objects checked" in str(found) and not found.errors
    assert any(
        "object 1 of valid/images/valid1.png has the class and box of object 0" in str(f) for f in found.warnings
    )
    assert any("2 of 6 pictures (33%) have no object" in f.sentence for f in found.warnings)


def coco_of(make, **change) -> Path:
    make.picture("a.png")
    rows = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 3], "segmentation": [[1, 1, 5, 1, 5, 4]]}
        for n in (1, 2)
    ]
    rows[1] |= {"bbox": [0, 0, 8, 6]} | change
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    make.text("a.json", json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "x"}]}))
    return make.root


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 1}, "annotation 1 has the id 1 of annotation 0"),
        ({"id": 0}, "annotation 1 has the id 0"),
        ({"bbox": [1, 1, 0, 3]}, "object 1 of a.png has no area"),
        ({"bbox": [1, 1, float("nan"), 3]}, "annotation 1 has bbox"),
        ({"category_id": 2}, "category id 2"),
    ],
)
def test_bad_coco_is_found_though_it_is_read_for_its_pixels(make, change: dict, words: str) -> None:
    root = coco_of(make, **change)
    assert words in "\n".join(f.sentence for f in check(root).errors)
    with pytest.raises(SightlineError, match=words):
        data = open_dataset(root, kind="objects", val=0)
        things_of(data.records[0], 1, (6, 8))


def test_sound_coco_counts_its_boxes(make) -> None:
    found = check(coco_of(make), val=0)
    assert not found.errors and found.objects == 2


def test_info_of_objects(yolo: Path) -> None:
    found = verbs.info(yolo)
    text, content = str(found), json.loads(json.dumps(found.as_json()))
    assert "8 in the pictures looked at, at most 2 in one" in text and "dog        4 objects, 50.0%" in text
    assert content["objects"] == 8 and content["objects_per_class"] == {"cat": 4, "dog": 4}


# Floods of broken files -------------------------------------------------------------------------------------------

KINDS = {
    "yolo": ("labels/a.txt", "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.5 0.1 0.5 0.5\n"),
    "labelme": ("a.json", json.dumps(LABELME)),
    "cvat": ("annotations.xml", CVAT),
    "coco": ("a.json", json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 3], "keypoints": [1, 1, 2]}],
        "categories": [{"id": 1, "name": "x"}],
    })),
    "voc": ("Annotations/a.xml", "<annotation><object><name>x</name><difficult>0</difficult><bndbox><xmin>1</xmin>"
            "<ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object></annotation>"),
    "yaml": ("data.yaml", "path: .\ntrain: images\nval: [images]\nnames: {0: a, 1: b}\nkpt_shape: [1, 2]\n"),
}  # fmt: skip
ODD = [None, True, -1, 0, 10**30, 1e308, float("nan"), "", "../../x", "/x", "\0", "a" * 3000, [], {}, [[]], [None]]


def survives(root: Path, kind: str) -> None:
    """Open and read everything; only `SightlineError` may come, as one line."""
    kind = "yolo" if kind == "yaml" else kind
    try:
        survey = look_into(root, format=kind, kind="objects")
        for record in survey.records:
            for thing in things_of(record, len(survey.classes), (6, 8)):
                if thing.mask is not None:
                    assert flags(thing, (6, 8)).shape == (6, 8)
    except SightlineError as error:
        assert "\n" not in str(error) and 20 < len(str(error)) < 2000
    for fault in check(root, format=kind, kind="objects").faults:
        assert "\n" not in fault.sentence and len(fault.sentence) < 2000


def prepare(make, kind: str) -> None:
    make.picture("a.png")
    make.picture({"voc": "JPEGImages/a.jpg"}.get(kind, "images/a.png"))
    make.text("data.yaml", "train: images\nnames: [a, b]\n")
    make.text("labels/a.txt", "0 0.5 0.5 0.2 0.2 0.5 0.5\n" if kind == "yaml" else "")


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=5)
)
def test_mutated_bytes(make, kind: str, edits) -> None:
    name, text = KINDS[kind]
    prepare(make, kind)
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
    (make.root / name).parent.mkdir(parents=True, exist_ok=True)
    (make.root / name).write_bytes(bytes(content))
    survives(make.root, kind)


def replaced(tree, at: int, value, seen: list[int]):
    seen[0] += 1
    if seen[0] - 1 == at:
        return value
    if isinstance(tree, dict):
        return {k: replaced(v, at, value, seen) for k, v in tree.items()}
    return [replaced(v, at, value, seen) for v in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("kind", ["labelme", "coco", "yaml"])
def test_every_value_replaced_by_odd_ones(make, kind: str) -> None:
    import yaml

    prepare(make, kind)
    name, text = KINDS[kind]
    tree = yaml.safe_load(text) if kind == "yaml" else json.loads(text)
    count = [0]
    replaced(tree, -1, None, count)
    for at in range(count[0]):
        for value in ODD[at % 8 :: 8]:
            changed = replaced(tree, at, value, [0])
            make.text(name, yaml.safe_dump(changed) if kind == "yaml" else json.dumps(changed))
            survives(make.root, kind)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(
        st.lists(
            st.sampled_from(["0", "1", "0.5", "nan", "inf", "-1", "1e400", "x", "é", "99999999999999999999", "\0"])
        ),
        max_size=3,
    )
)
def test_odd_lines(make, words) -> None:
    prepare(make, "yolo")
    make.text("labels/a.txt", "\n".join(" ".join(row) for row in words))
    survives(make.root, "yolo")
