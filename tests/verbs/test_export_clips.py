"""Exported networks of clips take another batch, length and size, where the network does."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightline as sl
from sightline.action.catalog import MODELS
from sightline.contracts import Preprocess
from sightline.verbs.export import export
from sightline.weights.card import Card

CASES = {
    "tsm": ({"depths": [1, 1, 1, 1], "width": 8}, "segments(4)", {"batch", "frames", "height", "width"}),
    "c3d": ({"widths": [4, 6, 8, 8, 8], "hidden": 12, "frames": 8, "size": [32, 32]}, "arange(8, 1)", {"batch"}),
    "vivit": (
        {"size": [32, 32], "frames": 4, "channels": 24, "depth": 2, "heads": 2, "hidden": 32},
        "arange(4, 1)",
        {"batch"},
    ),
    "two_stream": ({"width": 8, "fields": 3}, "arange(3, 1)", {"batch", "height", "width"}),  # frames and flow in one
}


@pytest.mark.parametrize("name", CASES)
def test_open_axes(name: str, tmp_path: Path) -> None:
    values, rule, least = CASES[name]
    side, channels = values.get("size", [64, 64]), MODELS[name].preprocess.channels
    net = sl.create(name, num_classes=3, **values).eval()
    card = Card(
        model=name,
        task="action",
        classes=("a", "b", "c"),
        preprocess=Preprocess(resize=f"exact({side[0]}, {side[1]})", clip=rule, channels=channels),
        arguments={"num_classes": 3, **values},
    )
    found = export((net, card), tmp_path / "net.pt2")
    assert set(found.dynamic) >= least and len(found.differences) == 2
    assert max(found.differences.values()) < 1e-4
