"""Functions of the instance room beside the public programs': Matrix NMS, the discriminative loss, polar targets.

The fast suite runs the copies in `cases/instance/`; the slow suite every case of the folder of golden cases
(`SIGHTLINE_GOLDEN`, or `shared/golden` beside the checkout).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.instance.models.embedding import cluster_means, discriminative_loss
from sightline.instance.models.polarmask import (
    borders_of,
    places,
    polar_iou_loss,
    star_points,
    stars_of,
)
from sightline.ops.nms import matrix_nms

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
Arrays = Mapping[str, np.ndarray]


def matrix(case: Mapping[str, Any], given: Arrays) -> dict[str, Tensor]:
    """Matrix NMS with both kernels, with limits and without."""
    masks, labels, scores = (torch.from_numpy(given[f"given.{word}"]) for word in ("masks", "labels", "scores"))
    found = {}
    for kernel in ("gaussian", "linear"):
        for limits, (before, least, most) in {"all": (None, -1.0, None), "limited": (12, 0.05, 8)}.items():
            order = scores.argsort(descending=True, stable=True)[:before]
            flat = masks[order].flatten(1).float()
            area, shared = flat.sum(1), flat @ flat.T
            overlap = shared / (area[:, None] + area[None, :] - shared)
            value = matrix_nms(overlap, scores[order], labels[order], kernel=kernel)
            value, rank = value.sort(descending=True, stable=True)
            kept = (value >= least).nonzero()[:, 0][:most]
            index = order[rank[kept]]
            found |= {
                f"{kernel}.{limits}.scores": value[kept],
                f"{kernel}.{limits}.labels": labels[index],
                f"{kernel}.{limits}.index": index,
            }
    return found


def discriminative(case: Mapping[str, Any], given: Arrays) -> dict[str, Tensor]:
    """Means and terms of every picture, in double precision."""
    found, terms = {}, []
    for i, (embedding, labels) in enumerate(
        zip(torch.from_numpy(given["given.embedding"]).double(), torch.from_numpy(given["given.labels"]))
    ):
        masks = torch.stack([labels == n for n in labels.unique().tolist() if n > 0])
        found[f"means.{i}"] = cluster_means(embedding, masks)
        variance, distance, regular = discriminative_loss(embedding, masks)
        terms.append(torch.stack([variance, distance, regular, variance + distance + 0.001 * regular]))
    return {**found, "terms": torch.stack(terms)}


def polar(case: Mapping[str, Any], given: Arrays) -> dict[str, Tensor]:
    """Targets of PolarMask, its loss and its outlines."""
    height, width = case["config"]["size"]
    y, x = np.mgrid[:height, :width] + 0.5
    masks = np.zeros((len(case["targets"]), height, width), bool)
    for mask, target in zip(masks, case["targets"]):
        for x0, y0, x1, y1 in target["ellipses"]:
            u, v = (x - (x0 + x1) / 2) / ((x1 - x0) / 2), (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
            mask |= u**2 + v**2 <= 1
    strides = (8, 16, 32, 64, 128)
    points, levels = places([(height // s, width // s) for s in strides], strides, torch.device("cpu"))
    borders, centres = borders_of(torch.from_numpy(masks))
    boxes = torch.tensor([t["box"] for t in case["targets"]], dtype=torch.float32)
    labels = torch.tensor([t["label"] for t in case["targets"]])
    stars = stars_of(boxes, labels, borders, centres, points, levels, strides=strides)
    said = torch.from_numpy(given["given.predicted"])[: len(stars.index)]
    each = polar_iou_loss(said, stars.rays)
    size = torch.tensor([[float(height), float(width)]])
    return {
        "mask_areas": torch.from_numpy(masks.sum((1, 2))),
        "centres": centres,
        "points": torch.bincount(levels),
        "positive": torch.stack([stars.index, stars.label[stars.index]]),
        "box_targets": stars.sides,
        "rays": stars.rays,
        "centerness": stars.centerness,
        "polar_iou_loss_each": each,
        "polar_iou_loss": (each * stars.centerness).sum() / stars.centerness.sum(),
        "decoded": star_points(points[stars.index], said, size).transpose(1, 2),
    }


KINDS: dict[str, Callable[[Mapping[str, Any], Arrays], dict[str, Tensor]]] = {
    "matrix": matrix,
    "disc": discriminative,
    "polar": polar,
}


def is_ours(path: Path) -> bool:
    case = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(case.get("config"), dict) and case["config"].get("kind") in KINDS


COPIES = sorted(HERE.glob("cases/instance/*.json"))
ALL = [path for path in sorted(FOLDER.glob("instance/*.json")) if is_ours(path)]


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_copy(path: Path) -> None:
    check(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    check(path)


def check(path: Path) -> None:
    """Every array of a case within its tolerance."""
    case = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as arrays:
        given = dict(arrays)
    found = KINDS[case["config"]["kind"]](case, given)
    for name, about in case["outputs"].items():
        ours, theirs = found[name].double().numpy(), given[name].astype(np.float64)
        assert list(ours.shape) == list(theirs.shape), name
        if about.get("exact"):
            assert (ours == theirs).all(), name
        else:
            difference = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)
            assert difference <= about["tolerance"], f"{name}: {difference:.2e}"
