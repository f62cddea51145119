"""Scores of videos, by hand."""

import pytest
import torch

from sightline.action.metrics import ClipMetric


def test_clips_and_videos_are_counted_apart():
    metric, other = ClipMetric(["a", "b"]), ClipMetric(["a", "b"])
    clips = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])  # one of three is right, their mean is right
    metric.update(clips.mean(0), 0, key="first")
    metric.update_clips(list(clips), 0)
    clips = torch.tensor([[0.2, 0.8], [0.3, 0.7]])
    other.update(clips.mean(0), 0, key="second")
    other.update_clips(list(clips), 0)
    metric.merge(other)
    scores = metric.compute().metrics
    assert scores["accuracy"] == 0.5
    assert scores["clip_accuracy"] == pytest.approx(1 / 5)


def test_one_clip_a_video_is_no_other_score():
    metric = ClipMetric(["a", "b"])
    metric.update(torch.tensor([0.9, 0.1]), 0, key="first")
    assert "clip_accuracy" not in metric.compute().metrics
