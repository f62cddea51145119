"""Answers in the field's formats: COCO results, VOC xml, YOLO lines, LabelMe files, the package supervision.

Boxes leave as each format counts: COCO x, y, width, height; VOC inclusive corners from 1 on; YOLO shares of the
picture's sides by the centre. What a format cannot hold (scores in VOC are an extra element) is said at its function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.datasets.convert_objects import voc_xml, yolo_box, yolo_polygon
from sightline.datasets.paint import counts_of, inside_of
from sightline.datasets.records import Thing
from sightline.errors import UsageError
from sightline.ops.contour import outline

if TYPE_CHECKING:
    from sightline.detection.answer import Detections

FINE = 4
"""Steps a pixel of outlines: they follow a mask's border within an eighth of a pixel."""


def size_of(found: Detections, what: str) -> tuple[int, int]:
    """Height and width of the picture, which this format needs."""
    if found.size is None:
        raise UsageError(f"{what} needs the picture's size; answers of sl.predict have it, or set size=(height, width)")
    return found.size


def coco_results(
    found: Detections, image_id: int | str, categories: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Rows of a results file. categories: `{label: category id}`; None: class k has the id k + 1."""
    runs = found.masks.runs() if found.masks is not None else None
    points = found.keypoints.tolist() if found.keypoints is not None else None
    rows = []
    boxes, labels, scores = found.boxes.tolist(), found.labels.tolist(), found.scores.tolist()
    for i, ((x0, y0, x1, y1), label, score) in enumerate(zip(boxes, labels, scores)):
        if categories is not None and label not in categories:
            raise UsageError(f"categories names no id for class {label} ({found.name_of(label)}); name every class")
        row: dict[str, Any] = {
            "image_id": image_id,
            "category_id": label + 1 if categories is None else categories[label],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        if runs is not None:
            row["segmentation"] = runs[i]
        if points is not None:
            row["keypoints"] = [value for x, y, _ in points[i] for value in (x, y, 1)]
        rows.append(row)
    return rows


def things_of(found: Detections) -> list[Thing]:
    """The answers as the records of a data set: what was found becomes what is true."""
    rings = polygons(found) if found.masks is not None else [None] * len(found)
    return [
        Thing(label, (box[0], box[1], box[2], box[3]), mask=None if ring is None else [ring], place=i)
        for i, (box, label, ring) in enumerate(zip(found.boxes.tolist(), found.labels.tolist(), rings))
    ]


def voc(found: Detections, file: str) -> str:
    """An annotation file of the picture `file`, with an element `score` in each object."""
    size = size_of(found, "to_voc")
    names = [found.name_of(k) for k in range(max(found.labels.tolist(), default=-1) + 1)]
    return voc_xml(file, size, things_of(found), names, found.scores.tolist())


def yolo(found: Detections, *, scores: bool = True, as_polygons: bool = False) -> str:
    """A line an object: class, box (or polygon) in shares of the picture's sides, score last."""
    size = size_of(found, "to_yolo")
    if as_polygons and found.masks is None:
        raise UsageError("to_yolo(polygons=True) needs an answer with masks; leave polygons out for boxes")
    lines = []
    for thing, score in zip(things_of(found) if as_polygons else boxes_of(found), found.scores.tolist()):
        line = yolo_polygon(thing.label, thing.mask[0], size) if as_polygons else yolo_box(thing, size)
        lines.append(f"{line} {score:.6g}\n" if scores else f"{line}\n")
    return "".join(lines)


def boxes_of(found: Detections) -> list[Thing]:
    """The answers without their masks."""
    return [
        Thing(k, (b[0], b[1], b[2], b[3]), place=i)
        for i, (b, k) in enumerate(zip(found.boxes.tolist(), found.labels.tolist()))
    ]


def labelme(found: Detections, file: str) -> dict[str, Any]:
    """The content of a LabelMe JSON beside the picture `file`: polygons where there are masks, else rectangles."""
    size = size_of(found, "to_labelme")
    shapes = []
    for thing, score in zip(things_of(found), found.scores.tolist()):
        x0, y0, x1, y1 = thing.box
        ring = thing.mask[0] if thing.mask is not None and len(thing.mask[0]) >= 3 else None
        shapes.append(
            {
                "label": found.name_of(thing.label),
                "points": [[x0, y0], [x1, y1]] if ring is None else ring.tolist(),
                "group_id": None,
                "description": f"{score:.4f}",
                "shape_type": "rectangle" if ring is None else "polygon",
                "flags": {},
            }
        )
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": file,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def supervision(found: Detections) -> Any:
    """`supervision.Detections` of the same objects; needs the package supervision."""
    try:
        import supervision as sv  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("to_supervision needs the package 'supervision': pip install supervision") from error
    names = np.array([found.name_of(k) for k in found.labels.tolist()], dtype=str)
    return sv.Detections(
        xyxy=found.boxes.cpu().float().numpy().reshape(-1, 4),
        mask=None if found.masks is None else found.masks.dense().cpu().numpy(),
        confidence=found.scores.cpu().float().numpy(),
        class_id=found.labels.cpu().numpy().astype(int),
        data={"class_name": names},
    )


def polygons(found: Detections) -> list[NDArray[np.float64]]:
    """The border of the largest part of each mask, `(N, 2)` x and y in continuous pixels; of no pixels: none."""
    assert found.masks is not None
    rings = []
    for runs in found.masks.runs():
        height, width = runs["size"]
        counts = runs["counts"]
        counts = counts_of(counts, height * width + 1) if isinstance(counts, str) else counts
        rings.append(border(inside_of(counts, (height, width), by_rows=False)))
    return rings


def border(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The outer border of the largest region of a mask, corners only."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return np.zeros((0, 2))
    window = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    walk = outline(np.kron(window, np.ones((FINE, FINE), bool)).astype(bool))
    before, after = walk - np.roll(walk, 1, 0), np.roll(walk, -1, 0) - walk
    corner = (before != after).any(axis=1)
    return (walk[corner] + 0.5) / FINE + [columns[0], rows[0]]
