"""Objects from pixels: discs that touch, lines that do not break, volumes, borders, and the count in an answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.instances import separate


def discs(size: tuple[int, ...], middles: list[tuple[int, ...]], radius: float) -> torch.Tensor:
    """A mask of balls, in two or three dimensions."""
    at = np.indices(size)
    found = np.zeros(size, bool)
    for middle in middles:
        found |= sum((a - m) ** 2 for a, m in zip(at, middle)) <= radius**2
    return torch.from_numpy(found)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 3), columns=st.integers(1, 3), radius=st.integers(5, 8))
def test_discs_that_touch_are_as_many_as_they_are(rows: int, columns: int, radius: int) -> None:
    step = round(1.8 * radius)  # they overlap
    middles = [(radius + 2 + r * step, radius + 2 + c * step) for r in range(rows) for c in range(columns)]
    size = (2 * radius + 4 + rows * step, 2 * radius + 4 + columns * step)
    found = separate(discs(size, middles, radius))
    assert int(found.max()) == rows * columns
    assert len({int(found[m]) for m in middles}) == rows * columns
    assert torch.equal(found > 0, discs(size, middles, radius))
    nearest = np.argmin([((np.indices(size) - np.reshape(m, (2, 1, 1))) ** 2).sum(0) for m in middles], axis=0)
    ids = np.array([int(found[m]) for m in middles])
    inside = found.numpy() > 0
    assert (ids[nearest] == found.numpy())[inside].mean() > 0.9


def test_shapes_without_a_waist_stay_whole() -> None:
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[5:15, 5:55] = True
    mask[25:28, 5:55] = True
    assert int(separate(mask).max()) == 2
    assert int(separate(torch.zeros(5, 5, dtype=torch.bool)).max()) == 0
    full = separate(torch.ones(6, 7, dtype=torch.bool))
    assert full.unique().tolist() == [1] and full.dtype is torch.int32


def test_crumbs_are_left_out() -> None:
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[2, 2], mask[8:14, 8:14] = True, True
    assert separate(mask).unique().tolist() == [0, 1]
    assert int(separate(mask, least=1).max()) == 2


def test_balls_in_a_volume() -> None:
    middles = [(8, 8, 8), (8, 8, 18), (8, 19, 12)]
    assert int(separate(discs((17, 30, 28), middles, 6)).max()) == 3


def test_a_border_cuts_what_has_no_waist() -> None:
    mask = torch.zeros(20, 40, dtype=torch.bool)
    mask[4:16, 2:38] = True
    border = torch.zeros(20, 40)
    border[:, 19:21] = 0.9
    assert int(separate(mask).max()) == 1
    found = separate(mask, border=border)
    assert int(found.max()) == 2 and found[10, 5] != found[10, 35]


def test_an_answer_counts_its_objects() -> None:
    mask = discs((30, 40), [(12, 12), (12, 27)], 8)
    answer = LabelMap(mask.to(torch.uint8), ("background", "nucleus"), name="x")
    assert answer.count() == 2 and answer.instances("nucleus").shape == (30, 40)
    assert json.loads(json.dumps(answer.to_dict()))["objects"] == 2
    with pytest.raises(UsageError, match=r"x has no class 'nuclei'. Did you mean 'nucleus'"):
        answer.count("nuclei")


def test_an_answer_with_a_border_class_uses_it() -> None:
    labels = torch.zeros(20, 40, dtype=torch.uint8)
    labels[4:16, 2:38] = 1
    p = torch.zeros(3, 20, 40)
    p[2, :, 19:21] = 0.4
    p[1] = 0.5
    answer = LabelMap(labels, ("background", "cell", "border"), probabilities=p)
    assert answer.count() == 2
    streets = LabelMap(labels, ("road", "car"))
    assert "objects" not in streets.to_dict() and streets.count("car") == 1
    with pytest.raises(UsageError, match="say whose objects are wanted"):
        streets.count()
    several = torch.stack([labels, 1 - labels])
    assert LabelMap(several, ("cell", "rest"), multilabel=True).count("cell") == 1
