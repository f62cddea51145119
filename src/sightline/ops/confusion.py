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
    if prediction.dtype == labels.dtype == torch.uint8:
        return _bytes(prediction, labels, num_classes, ignore)
    scored = labels != ignore
    rows = _classes(labels[scored], num_classes, "label")
    columns = _classes(prediction[scored], num_classes, "prediction")
    return torch.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def _classes(values: Tensor, num_classes: int, what: str) -> Tensor:
    if values.is_floating_point():
        raise UsageError(f"{what}s must be class ids, got {values.dtype}; take the argmax of scores first")
    values = values.long()  # int8 and int16 would overflow in the product
    if values.numel():
        low, high = (int(v) for v in values.aminmax())
        if low < 0 or high >= num_classes:
            raise _outside(what, low if low < 0 else high, num_classes)
    return values


def _bytes(prediction: Tensor, labels: Tensor, num_classes: int, ignore: int) -> Tensor:
    """The same count for bytes: all 256 x 256 pairs in one pass, and the questions asked of that table (6x faster)."""
    pairs = torch.bincount((labels.to(torch.int32) * 256 + prediction).flatten(), minlength=256 * 256).reshape(256, 256)
    if 0 <= ignore < 256:
        pairs[ignore] = 0
    for what, beyond in (("label", pairs.sum(1)), ("prediction", pairs.sum(0))):
        if beyond[num_classes:].any():
            raise _outside(what, int(beyond.nonzero().max()), num_classes)
    return pairs[:num_classes, :num_classes].clone()


def _outside(what: str, value: int, num_classes: int) -> UsageError:
    return UsageError(
        f"the {what} {value} is outside the classes 0..{num_classes - 1}; "
        "check the number of classes and the value that is ignored"
    )
