"""Scores without a network, printed beside a recipe's: whoever does not beat them has learned nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.datasets.read import read_labels_of, read_picture
from sightline.datasets.records import ClassRecord, DataSet
from sightline.detection.answer import Detections
from sightline.detection.metrics import DetectionMetric
from sightline.detection.targets import objects_of
from sightline.media.image import image_size, read_image
from sightline.ops.confusion import confusion_matrix
from sightline.segmentation.metrics import scores


def otsu(data: DataSet) -> tuple[str, float]:
    """Pooled foreground Dice of Otsu's threshold, each picture its own; dark objects where the border is bright."""
    counts = torch.zeros(2, 2, dtype=torch.int64)
    for record in data.split("val").records:
        grey = read_picture(record).astype(np.float64).mean(axis=2)
        above = grey > otsu_threshold(grey)
        border = np.concatenate([above[0], above[-1], above[:, 0], above[:, -1]])
        found = ~above if border.mean() > 0.5 else above
        counts += _count(found.astype(np.uint8), read_labels_of(record, 1), 2)
    return "foreground_dice of Otsu's threshold", scores(counts)["foreground_dice"]


def otsu_threshold(grey: NDArray[np.float64], bins: int = 256) -> float:
    """The value that splits `grey` into two classes with the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(grey, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between)])


def one_threshold(data: DataSet) -> tuple[str, float]:
    """Pixel accuracy on val of the one intensity threshold that is best on train."""
    tables = {}
    for split in ("train", "val"):
        tables[split] = np.zeros((2, 256), np.int64)
        for record in data.split(split).records:
            grey = read_picture(record).mean(axis=2).round().astype(np.int64)
            labels = read_labels_of(record, 1)
            for k in (0, 1):
                tables[split][k] += np.bincount(grey[labels == k], minlength=256)
    right = {split: np.cumsum(t[0]) + t[1].sum() - np.cumsum(t[1]) for split, t in tables.items()}
    best = int(right["train"].argmax())
    return "pixel_accuracy of one threshold", float(right["val"][best] / tables["val"].sum())


def location_prior(data: DataSet) -> tuple[str, float]:
    """`dataset_miou` on val when each place answers with the class it has most often in train."""
    count = len(data.classes)
    votes = None
    for record in data.split("train").records:
        labels = read_labels_of(record, count)
        seen = np.stack([labels == k for k in range(count)])
        votes = seen.astype(np.int64) if votes is None else votes + seen
    assert votes is not None
    answer = votes.argmax(axis=0).astype(np.uint8)
    counts = torch.zeros(count, count, dtype=torch.int64)
    for record in data.split("val").records:
        counts += _count(answer, read_labels_of(record, count), count)
    return "dataset_miou of the most frequent class at each place", scores(counts)["dataset_miou"]


def _count(found: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int) -> torch.Tensor:
    return confusion_matrix(torch.from_numpy(found), torch.from_numpy(labels), classes)


def mean_boxes(data: DataSet) -> tuple[str, float]:
    """`ap50` on val when every picture is answered with the mean box of each class on train, in shares of its sides."""
    count = len(data.classes)
    boxes: list[list[np.ndarray]] = [[] for _ in range(count)]
    train = data.split("train").records
    for record in train:
        for thing in record.labels or ():
            height, width = image_size(record.image.path, page=record.image.page)
            boxes[thing.label].append(np.array(thing.box) / [width, height, width, height])
    mean = torch.tensor(np.stack([np.mean(b, axis=0) if b else np.zeros(4) for b in boxes]), dtype=torch.float32)
    often = torch.tensor([min(1.0, len(b) / max(len(train), 1)) for b in boxes])
    order = often.argsort(descending=True, stable=True)
    metric = DetectionMetric(data.classes)
    for record in data.split("val").records:
        if record.labels is not None:
            height, width = image_size(record.image.path, page=record.image.page)
            placed = mean[order] * torch.tensor([width, height, width, height])
            metric.update(Detections(placed, often[order], order), objects_of(record.labels), key=record.key)
    return "ap50 of each class's mean box", metric.compute().metrics["ap50"]


def nearest_picture(data: DataSet) -> tuple[str, float]:
    """Accuracy of the nearest picture to learn from: the smallest sum of squared differences of the pixels."""
    known, unknown = (data.split(split).records for split in ("train", "val"))

    def pixels(records: Sequence[ClassRecord]) -> NDArray[np.float32]:
        rows = [read_image(r.image.path, page=r.image.page).astype(np.float32).ravel() for r in records]
        return np.stack(rows)

    a, b = pixels(known), pixels(unknown)
    distance = (a**2).sum(1) - 2 * b @ a.T
    said = np.array([r.labels for r in known])[distance.argmin(1)]
    return "accuracy of the nearest picture", float((said == np.array([r.labels for r in unknown])).mean())
