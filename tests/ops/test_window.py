"""Mirrored positions against a walk to and fro, mirrored windows against numpy's padding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.ops.window import mirror, mirror_window


def _walk(size: int, steps: int) -> list[int]:
    """Positions of somebody who walks from 0 to and fro on `size` samples, turning at the ends."""
    there = list(range(size))
    back = there[-2:0:-1]
    return list(itertools.islice(itertools.cycle(there + back), steps))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_positions_walk_to_and_fro(size: int) -> None:
    forward = mirror(torch.arange(30), size).tolist()
    assert forward == _walk(size, 30)
    assert mirror(-torch.arange(30), size).tolist() == forward  # the same to the left
    assert mirror(torch.tensor([0, 10**12 * max(1, 2 * size - 2)]), size).tolist() == [0, 0]


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    corner=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    window=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_a_window_is_a_cut_from_the_padded_picture(
    size: tuple[int, int], corner: tuple[int, int], window: tuple[int, int]
) -> None:
    x = torch.arange(2 * size[0] * size[1]).reshape(2, *size)
    padded = np.pad(x.numpy(), ((0, 0), (40, 40), (40, 40)), mode="reflect")
    (top, left), (height, width) = corner, window
    expected = padded[:, 40 + top : 40 + top + height, 40 + left : 40 + left + width]
    assert (mirror_window(x, top, left, height, width).numpy() == expected).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bool])
def test_values_of_any_type_and_number_of_axes_stay_as_they_are(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1], [1, 0]], dtype=dtype)
    assert torch.equal(mirror_window(x, -1, 0, 4, 3), torch.tensor([[1, 0, 1], [0, 1, 0]] * 2, dtype=dtype))
    assert mirror_window(x.expand(5, 4, 2, 2), -1, -1, 4, 4).shape == (5, 4, 4, 4)


def test_a_window_inside_copies_nothing() -> None:
    x = torch.rand(3, 10, 10)
    inside = mirror_window(x, 2, 3, 4, 5)
    assert inside.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert torch.equal(inside, x[:, 2:6, 3:8])
