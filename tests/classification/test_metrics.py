"""Losses and scores of labels against loops and cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.classification.contract import Scores, Target, probabilities
from sightline.classification.losses import Criterion, cross_entropy, focal, parse_loss
from sightline.classification.metrics import LabelMetric, average_precision, calibration_error
from sightline.errors import UsageError


def test_cross_entropy_is_torchs() -> None:
    logits, labels = torch.randn(7, 4), torch.randint(0, 4, (7,))
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert torch.allclose(cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    weighted = cross_entropy(logits, labels, class_weights=weights)
    assert torch.allclose(weighted, F.cross_entropy(logits, labels, weight=weights))
    smooth = cross_entropy(logits, labels, smoothing=0.1)
    assert torch.allclose(smooth, F.cross_entropy(logits, labels, label_smoothing=0.1), atol=1e-6)
    shares = torch.rand(7, 4).softmax(1)
    assert torch.allclose(cross_entropy(logits, shares), F.cross_entropy(logits, shares), atol=1e-6)
    one, truth = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    expected = F.binary_cross_entropy_with_logits(one[:, 0], truth.float())
    assert torch.allclose(cross_entropy(one, truth), expected)


def test_focal_is_the_loop() -> None:
    logits, labels = torch.randn(5, 3), torch.randint(0, 3, (5,))
    p = logits.softmax(1)
    expected = sum(-((1 - p[n, y]) ** 2) * p[n, y].log() for n, y in enumerate(labels.tolist())) / 5
    assert torch.allclose(focal(logits, labels), torch.as_tensor(expected), atol=1e-6)


def test_parts_have_the_label_of_the_whole() -> None:
    parts, labels = torch.randn(2, 3, 4), torch.tensor([1, 3])
    out = Scores(parts.mean(1), parts)
    expected = torch.stack([F.cross_entropy(parts[:, k], labels) for k in range(3)]).mean()
    assert torch.allclose(Criterion()(out, Target(labels))["ce"], expected)
    assert torch.allclose(probabilities(out), parts.softmax(-1).mean(1))


def test_wrong_words_get_one_sentence() -> None:
    assert parse_loss("ce+0.5*focal") == {"ce": 1.0, "focal": 0.5}
    for words in ("cee", "ce+ce", "x*ce", "0*ce"):
        with pytest.raises(UsageError):
            parse_loss(words)
    with pytest.raises(UsageError, match="class weights"):
        Criterion(class_weights=(1.0, 2.0))(Scores(torch.zeros(1, 3)), Target(torch.tensor([0])))


def test_scores_by_hand() -> None:
    metric = LabelMetric(("a", "b", "c"))
    rows = [([0.7, 0.2, 0.1], 0), ([0.5, 0.4, 0.1], 1), ([0.1, 0.1, 0.8], 2), ([0.2, 0.3, 0.5], 2)]
    for k, (p, y) in enumerate(rows):
        metric.update(torch.tensor(p), y, key=str(k))
    report = metric.compute()
    scores = report.metrics
    assert scores["accuracy"] == 0.75 and scores["class_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.5]).mean(), rel=1e-5)
    assert report.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]
    assert report.worst[0] == "1" and report.per_class["b"]["accuracy"] == 0
    other = LabelMetric(("a", "b", "c"))
    other.update(torch.tensor([1.0, 0, 0]), 1, key="x")
    metric.merge(other)
    assert metric.compute().metrics["accuracy"] == 0.6
    assert math.isnan(LabelMetric(("a", "b")).compute().metrics["accuracy"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_average_precision_is_the_loop(rows: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([float(s) for s, _ in rows])
    positive = torch.tensor([p for _, p in rows])
    total, count = 0.0, 0
    for s, p in rows:
        if p:
            above = [q for r, q in rows if r >= s]
            total, count = total + sum(above) / len(above), count + 1
    assert average_precision(scores, positive) == pytest.approx(total / count if count else 0.0)


def test_calibration_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    found = calibration_error(p, torch.tensor([0, 1, 1]))
    assert found == pytest.approx((abs(0.9 * 2 - 1) + abs(0.6 - 1)) / 3, rel=1e-5)
