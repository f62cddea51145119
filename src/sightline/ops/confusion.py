"""Counting what was said against what is true: one table from which every score of labels follows."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import UsageError


def confusion_matrix(prediction: Tensor, labels: Tensor, num_classes: int, ignore: int = 255) -> Tensor:
    """Count pixels by (label, prediction): int64 `(K, K)`, rows are the labels, columns the predictions.

    prediction, labels: integer tensors of one shape, values 0..K-1; a binary task has K = 2. Pixels labelled `ignore`
    are left out, whatever was predicted there. Counts are exact at any size (`torch.histc` in float32 loses them
    above 2^24). Raises `UsageError` when shapes differ or a value lies outside the classes.
    """
    if prediction.shape != labels.shape:
        raise UsageError(
            f"predictions {tuple(prediction.shape)} and labels {tuple(labels.shape)} differ in size; "
            "bring the prediction to the size of the labels"
        )
    scored = labels != ignore
    rows = _classes(labels[scored], num_classes, "label")
    columns = _classes(prediction[scored], num_classes, "prediction")
    return torch.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def _classes(values: Tensor, num_classes: int, what: str) -> Tensor:
    if values.is_floating_point():
        raise UsageError(f"{what}s must be class ids, got {values.dtype}; take the argmax of scores first")
    values = values.long()  # uint8 would overflow in the product
    if values.numel():
        low, high = (int(v) for v in values.aminmax())
        if low < 0 or high >= num_classes:
            raise UsageError(
                f"the {what} {low if low < 0 else high} is outside the classes 0..{num_classes - 1}; "
                "check the number of classes and the value that is ignored"
            )
    return values
