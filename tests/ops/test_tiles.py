"""Tiles cover everything exactly; slab-wise blending equals the plain blend in a full buffer, in constant memory."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops.tiles import SlabBlender, blend, gaussian_window, starts, tiles


@settings(max_examples=150, deadline=None)
@given(length=st.integers(1, 300), tile=st.integers(1, 70), overlap=st.floats(0, 0.95))
def test_an_axis_is_covered_exactly_with_the_overlap_asked_for(length: int, tile: int, overlap: float) -> None:
    begins = starts(length, tile, overlap)
    assert begins[0] == 0
    assert begins == sorted(set(begins))
    if length <= tile:
        assert begins == [0]
        return
    assert begins[-1] + tile == length
    for left, right in itertools.pairwise(begins):
        assert right - left <= tile  # no gap
        assert right - left <= max(1, tile * (1 - overlap)) + 1  # at least the overlap, up to rounding


def test_the_number_of_tiles_is_the_smallest_possible() -> None:
    assert starts(100, 50, 0.0) == [0, 50]
    assert starts(100, 50, 0.5) == [0, 25, 50]
    assert starts(101, 50, 0.5) == [0, 17, 34, 51]
    assert starts(10, 3, 0.0) == [0, 2, 5, 7]
    assert len(starts(1000, 100, 0.9)) == 91  # 0.9 is not exact in binary: rounding must not add a tile


@settings(max_examples=30, deadline=None)
@given(
    axes=st.lists(st.tuples(st.integers(1, 14), st.integers(1, 9)), min_size=1, max_size=3),
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
)
def test_tiles_of_one_to_three_axes_touch_every_cell(axes: list[tuple[int, int]], overlap: float) -> None:
    size, tile = zip(*axes)
    touched = torch.zeros(size, dtype=torch.int64)
    rows = []
    for where in tiles(size, tile, overlap):
        touched[where] += 1
        rows.append(where[0].start)
        assert touched[where].shape == tuple(min(t, n) for t, n in zip(tile, size))
    assert int(touched.min()) >= 1
    assert rows == sorted(rows)


def test_wrong_overlap_is_refused() -> None:
    for overlap in (1.0, -0.1):
        with pytest.raises(UsageError, match="fraction from 0 to below 1"):
            starts(10, 5, overlap)


def test_the_window_is_a_positive_symmetric_gaussian() -> None:
    window = gaussian_window((16, 9))
    assert window.dtype == torch.float32
    assert float(window.min()) > 0
    assert torch.equal(window, window.flip(0)) and torch.equal(window, window.flip(1))
    ratio = float(window[8, 4] / window[10, 4])  # half a pixel and 2.5 pixels from the middle, sigma 2
    assert ratio == pytest.approx(torch.tensor((2.5**2 - 0.5**2) / 8).exp().item(), rel=1e-5)
    assert gaussian_window((1,)).tolist() == [1.0]
    assert float(gaussian_window((32, 32, 32)).min()) > 0


def full_buffer(answers, size, tile, classes):
    """The plain way: sums and weights of the whole answer."""
    window = gaussian_window([min(t, n) for t, n in zip(tile, size)])
    sums, weights = torch.zeros(classes, *size), torch.zeros(size)
    for where, probabilities in answers:
        sums[:, *where] += probabilities * window
        weights[where] += window
    return sums / weights


@settings(max_examples=40, deadline=None)
@given(
    axes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]),
    classes=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_slabs_equal_the_full_buffer(axes, overlap, classes, seed) -> None:
    size, tile = zip(*axes)
    random = torch.Generator().manual_seed(seed)
    places = tiles(size, tile, overlap)
    answers = [(w, torch.rand(classes, *(s.stop - s.start for s in w), generator=random)) for w in places]
    slabs = list(blend(iter(answers), size, tile))
    assert [s.start for s in slabs] == [0, *(s.stop for s in slabs[:-1])]
    assert slabs[-1].stop == size[0]
    together = torch.cat([s.values for s in slabs], dim=1)
    torch.testing.assert_close(together, full_buffer(answers, size, tile, classes), atol=1e-5, rtol=1e-5)


def test_rows_leave_as_soon_as_no_tile_touches_them_and_the_buffer_stays_one_tile_high() -> None:
    size, tile = (4000, 8), (16, 4)
    blender = SlabBlender(size, tile)
    left = 0
    for where in tiles(size, tile, 0.5):
        for slab in blender.add(where, torch.ones(2, 16, 4)):
            assert slab.start == left
            assert float((slab.values - 1).abs().max()) < 1e-5
            left = slab.stop
        assert left == where[0].start
        held = sum(v.numel() for v in vars(blender).values() if isinstance(v, torch.Tensor))
        assert held == 2 * 16 * 8 + 16 * 8 + 16 * 4  # sums, weights, window
    assert [(s.start, s.stop) for s in blender.finish()] == [(left, 4000)]


def test_slabs_given_out_do_not_change_afterwards() -> None:
    places = tiles((12, 4), (4, 4), 0.5)
    slabs, copies = [], []
    for slab in blend(((w, torch.rand(1, 4, 4)) for w in places), (12, 4), (4, 4)):
        slabs.append(slab.values)
        copies.append(slab.values.clone())
    assert all(torch.equal(a, b) for a, b in zip(slabs, copies))


def test_tiles_out_of_order_or_missing_are_refused() -> None:
    places = tiles((12, 4), (4, 4), 0.0)
    blender = SlabBlender((12, 4), (4, 4))
    blender.add(places[0], torch.ones(1, 4, 4))
    with pytest.raises(UsageError, match="not covered"):
        blender.add(places[2], torch.ones(1, 4, 4))
    blender = SlabBlender((12, 4), (4, 4))
    blender.add(places[0], torch.ones(1, 4, 4))
    blender.add(places[1], torch.ones(1, 4, 4))
    with pytest.raises(UsageError, match="in the order of tiles"):
        blender.add(places[0], torch.ones(1, 4, 4))
    with pytest.raises(UsageError, match="does not fit"):
        blender.add(places[1], torch.ones(1, 3, 4))
