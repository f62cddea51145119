"""Outlines and the distances between them, against every pair of pixels."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops import surface
from sightline.ops.surface import outline, signed_distance, surface_distances

SPACE = st.one_of(st.tuples(st.integers(1, 7), st.integers(1, 7)), st.tuples(*[st.integers(1, 4)] * 3))


def slow_outline(mask: np.ndarray) -> np.ndarray:
    found = np.zeros(mask.shape, bool)
    for at in np.ndindex(mask.shape):
        for axis, step in product(range(mask.ndim), (-1, 1)):
            other = list(at)
            other[axis] += step
            outside = not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]
            found[at] |= bool(mask[at] and outside)
    return found


def slow_distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    to = np.argwhere(slow_outline(b)) * spacing
    return [min((math.dist(p, q) for q in to), default=math.inf) for p in np.argwhere(slow_outline(a)) * spacing]


def masks(seed: int, shape: tuple[int, ...], share: float) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=g) < share, torch.rand(shape, generator=g) < 0.5


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.one_of(SPACE, st.tuples(st.integers(1, 9))),
    share=st.sampled_from([0.0, 0.05, 0.6, 1.0]),
    reach=st.sampled_from([0, 1, 12]),
    many=st.sampled_from([0.0, 1.0]),
)
def test_distances_equal_a_search_of_all_pairs(seed, shape, share, reach, many) -> None:
    a, b = masks(seed, shape, share)
    spacing = (2.5, 1.0, 0.75)[-len(shape) :]
    assert (outline(a).numpy() == slow_outline(a.numpy())).all()
    before, surface.REACH, surface.MANY = (surface.REACH, surface.MANY), reach, many  # every way of measuring
    try:
        there, back = surface_distances(a, b, spacing)
    finally:
        surface.REACH, surface.MANY = before
    assert there.tolist() == pytest.approx(slow_distances(a.numpy(), b.numpy(), spacing))
    assert back.tolist() == pytest.approx(slow_distances(b.numpy(), a.numpy(), spacing))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shape=SPACE, share=st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_signed_distance_is_to_the_nearest_pixel_of_the_other_side(seed, shape, share) -> None:
    mask, _ = masks(seed, shape, share)
    found = signed_distance(mask)
    if not mask.any() or mask.all():
        assert not found.any()
        return
    inside, outside = mask.nonzero().tolist(), (~mask).nonzero().tolist()
    for at in np.ndindex(shape):
        if mask[at]:
            assert found[at].item() == pytest.approx(1 - min(math.dist(at, q) for q in outside))
        else:
            assert found[at].item() == pytest.approx(min(math.dist(at, q) for q in inside))


def test_wrong_shapes_and_lengths_are_said() -> None:
    mask = torch.ones(3, 3, dtype=torch.bool)
    with pytest.raises(UsageError, match=r"shapes \(3, 3\) and \(3,\)"):
        surface_distances(mask, mask[0])
    for spacing in ((1.0,), (1.0, 0.0), (1.0, math.inf)):
        with pytest.raises(UsageError, match="must be 2 lengths above 0"):
            surface_distances(mask, mask, spacing)
