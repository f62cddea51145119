"""The confusion matrix against a loop over pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops.confusion import confusion_matrix


@settings(max_examples=30, deadline=None)
@given(classes=st.integers(1, 20), pixels=st.integers(0, 60), seed=st.integers(0, 999))
def test_counts_are_those_of_a_loop(classes: int, pixels: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (pixels,), generator=random)
    prediction = torch.randint(0, classes, (pixels,), generator=random)
    labels[torch.rand(pixels, generator=random) < 0.2] = 255
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    for label, answer in zip(labels.tolist(), prediction.tolist()):
        if label != 255:
            expected[label, answer] += 1
    for dtype in (torch.uint8, torch.int64):  # uint8: 20 * 20 does not fit in a byte
        counts = confusion_matrix(prediction.to(dtype), labels.to(dtype), classes)
        assert counts.dtype == torch.int64
        assert torch.equal(counts, expected)


def test_rows_are_labels_and_columns_predictions() -> None:
    counts = confusion_matrix(torch.tensor([[1, 1], [0, 7]]), torch.tensor([[0, 1], [0, 11]]), 2, ignore=11)
    assert counts.tolist() == [[1, 1], [0, 1]]


def test_values_outside_the_classes_are_refused_not_dropped() -> None:
    zeros = torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"label 3 is outside the classes 0\.\.2"):
        confusion_matrix(zeros, torch.tensor([[0, 3], [1, 2]]), 3)
    with pytest.raises(UsageError, match="prediction -1"):
        confusion_matrix(zeros - 1, zeros, 3)
    with pytest.raises(UsageError, match="differ in size"):
        confusion_matrix(zeros, zeros[:1], 3)
    with pytest.raises(UsageError, match="argmax"):
        confusion_matrix(zeros.float(), zeros, 3)
