"""Write objects as COCO, VOC or YOLO have them; `convert.py` copies pictures and keeps all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import escape

import numpy as np

from sightline.datasets.paint import inside_of, polygon_mask, text_of
from sightline.datasets.records import DataSet, MaskFile, ObjectRecord, Runs, Thing
from sightline.datasets.things import things_of
from sightline.files import write_text
from sightline.media.image import image_size
from sightline.media.labels import read_labels

Size = tuple[int, int]


class Item(Protocol):
    """A record under its new, unique name."""

    @property
    def record(self) -> Any: ...
    @property
    def name(self) -> str: ...


Copy = Callable[[Any, Path], Path]


def write_coco(data: DataSet, items: Sequence[Item], out: Path, copy: Copy) -> list[str]:
    """images/SPLIT and annotations/instances_SPLIT.json; ids of classes, pictures and objects begin with 1."""
    categories = [{"id": k, "name": name, "supercategory": ""} for k, name in enumerate(data.classes, 1)]
    for split in dict.fromkeys(i.record.split for i in items):
        images, annotations = [], []
        for item in (i for i in items if i.record.split == split):
            path = copy(item, out / "images" / split)
            size = image_size(path)
            images.append({"id": len(images) + 1, "file_name": path.name, "height": size[0], "width": size[1]})
            for thing in _checked(item.record, data, size):
                row = {"id": len(annotations) + 1, "image_id": len(images), **coco_row(thing, size)}
                annotations.append(row)
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_text(out / "annotations" / f"instances_{split or 'all'}.json", json.dumps(content))
    hard = sum(t.difficult for i in items for t in i.record.labels or ())
    notes = [f"{hard} objects marked difficult are crowds in COCO's files"] if hard else []
    return ["class k has the category id k + 1", *notes]


def coco_row(thing: Thing, size: Size) -> dict[str, Any]:
    """One object as an annotation of COCO, without its ids of picture and object."""
    x0, y0, x1, y1 = thing.box
    segmentation = _segmentation(thing, size)
    area = thing.area if thing.area is not None else _area(thing, size)
    row: dict[str, Any] = {
        "category_id": thing.label + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": area if area is not None else (x1 - x0) * (y1 - y0),
        "iscrowd": int(thing.crowd or thing.difficult),
        "segmentation": segmentation if segmentation is not None else [],
    }
    if thing.points:
        row |= {
            "keypoints": [v for point in thing.points for v in point],
            "num_keypoints": sum(p[2] > 0 for p in thing.points),
        }
    return row


def _segmentation(thing: Thing, size: Size) -> Any:
    """Polygons as flat lists where all parts are polygons, run lengths otherwise; None: there is no mask."""
    if thing.mask is None:
        return None
    if isinstance(thing.mask, list) and not any(isinstance(part, Runs) for part in thing.mask):
        return [np.asarray(ring).ravel().tolist() for ring in thing.mask]
    flat = np.concatenate([[False], flags(thing, size).ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [flat.size - 1]]))
    return {"size": [*size], "counts": text_of(counts)}


def _area(thing: Thing, size: Size) -> float | None:
    return None if thing.mask is None else float(flags(thing, size).sum())


def flags(thing: Thing, size: Size) -> np.ndarray:
    """The pixels of an object's mask, `(H, W)` bool: the union of its parts."""
    found = np.zeros(size, np.bool_)
    if isinstance(thing.mask, MaskFile):
        return read_labels(thing.mask.path, page=thing.mask.page) == thing.value
    for part in thing.mask if isinstance(thing.mask, list) else [thing.mask]:
        if isinstance(part, Runs):
            (top, left), (height, width) = part.at, part.size
            found[top : top + height, left : left + width] |= inside_of(part.counts, part.size, by_rows=part.by_rows)
        else:
            window, inside = polygon_mask(np.asarray(part, np.float64), size)
            found[window] |= inside
    return found


def write_voc(data: DataSet, items: Sequence[Item], out: Path, copy: Copy) -> list[str]:
    """JPEGImages/, Annotations/NAME.xml with inclusive corners from 1 on, ImageSets/Main/SPLIT.txt."""
    lists: dict[str, list[str]] = {}
    masks = crowds = 0
    for item in items:
        path = copy(item, out / "JPEGImages")
        size = image_size(path)
        if item.record.labels is not None:
            things = _checked(item.record, data, size)
            masks += sum(t.mask is not None for t in things)
            crowds += sum(t.crowd for t in things)
            write_text(out / "Annotations" / f"{item.name}.xml", voc_xml(path.name, size, things, data.classes))
        lists.setdefault(item.record.split or "train", []).append(item.name)
    for split, names in lists.items():
        write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{n}\n" for n in names))
    write_text(out / "class_names.txt", "".join(f"{name}\n" for name in data.classes))
    notes = [f"{crowds} crowds are marked difficult"] if crowds else []
    notes += [f"{masks} masks are left out: VOC's files of objects hold boxes"] if masks else []
    return ["corners are inclusive and count from 1, as VOC has them", *notes]


def voc_xml(
    file: str, size: Size, things: Sequence[Thing], classes: Sequence[str], scores: Sequence[float] | None = None
) -> str:
    """An annotation file of VOC; boxes are cut at the picture's border."""
    lines = [
        "<annotation>",
        f"  <filename>{_text(file)}</filename>",
        f"  <size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for i, thing in enumerate(things):
        x0, y0, x1, y1 = inside_picture(thing.box, size)
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x0 + 1, y0 + 1, x1, y1))
        lines += [
            "  <object>",
            f"    <name>{_text(classes[thing.label])}</name>",
            *([f"    <score>{scores[i]:.6f}</score>"] if scores is not None else []),
            f"    <difficult>{int(thing.difficult or thing.crowd)}</difficult>",
            "    <bndbox>" + "".join(f"<{word}>{round(v, 3):.10g}</{word}>" for word, v in corners) + "</bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _text(text: str) -> str:
    """Text for XML; characters it cannot hold become question marks."""
    return escape("".join(c if c in "\t\n\r" or c >= " " else "?" for c in text))


def inside_picture(box: Sequence[float], size: Size) -> tuple[float, float, float, float]:
    """A box cut at the border of a picture of `size` (height, width)."""
    x0, y0, x1, y1 = box
    height, width = size
    return min(max(x0, 0.0), width), min(max(y0, 0.0), height), min(max(x1, 0.0), width), min(max(y1, 0.0), height)


def write_yolo(data: DataSet, items: Sequence[Item], out: Path, copy: Copy) -> list[str]:
    """images/SPLIT, labels/SPLIT and data.yaml; polygons where every object has one, else boxes."""
    things = [t for i in items for t in i.record.labels or () if not (t.crowd or t.difficult)]
    polygons = bool(things) and all(has_polygons(t) for t in things)
    left = sum(t.crowd or t.difficult for i in items for t in i.record.labels or ())
    for item in items:
        split = item.record.split or "train"
        size = image_size(copy(item, out / "images" / split))
        if item.record.labels is not None:
            real = [t for t in _checked(item.record, data, size) if not (t.crowd or t.difficult)]
            rows = [yolo_polygon(t.label, largest(t.mask), size) if polygons else yolo_box(t, size) for t in real]
            write_text(out / "labels" / split / f"{item.name}.txt", "".join(f"{row}\n" for row in rows))
    splits = [s for s in ("train", "val", "test") if any((i.record.split or "train") == s for i in items)]
    lines = [f"{split}: images/{split}" for split in splits]
    lines += ["val: images/train"] if "val" not in splits and "train" in splits else []
    names = [f"  {k}: {json.dumps(name, ensure_ascii=False)}" for k, name in enumerate(data.classes)]
    write_text(out / "data.yaml", "\n".join(["path: .", *lines, f"nc: {len(data.classes)}", "names:", *names, ""]))
    notes = [f"{left} crowds and difficult objects are left out, YOLO's files have no mark for them"] if left else []
    parts = sum(len(t.mask) > 1 for t in things) if polygons else 0
    notes += [f"of {parts} objects in several parts the largest is kept"] if parts else []
    return [f"every object is a {'polygon' if polygons else 'box'}, in shares of the picture's sides", *notes]


def has_polygons(thing: Thing) -> bool:
    """Whether an object's mask is one polygon or more."""
    return isinstance(thing.mask, list) and bool(thing.mask) and not any(isinstance(p, Runs) for p in thing.mask)


def largest(rings: Sequence[np.ndarray]) -> np.ndarray:
    """The polygon that encloses most."""
    from sightline.ops.contour import signed_area

    return max(rings, key=lambda ring: abs(signed_area(np.asarray(ring))))


def yolo_box(thing: Thing, size: Size) -> str:
    """`class x y width height`, the box cut at the picture's border."""
    x0, y0, x1, y1 = inside_picture(thing.box, size)
    height, width = size
    values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return f"{thing.label} " + " ".join(f"{v:.8g}" for v in values)


def yolo_polygon(label: int, ring: np.ndarray, size: Size) -> str:
    """`class x y x y ...`, the points moved into the picture."""
    shares = (np.asarray(ring, np.float64) / (size[1], size[0])).clip(0, 1)
    return f"{label} " + " ".join(f"{v:.8g}" for v in shares.ravel())


def _checked(record: ObjectRecord, data: DataSet, size: Size) -> tuple[Thing, ...]:
    return things_of(record, len(data.classes), size) if record.labels is not None else ()


LAYOUTS: Mapping[str, Callable[[DataSet, Sequence[Item], Path, Copy], list[str]]] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
}
