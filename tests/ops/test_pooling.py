"""Pooling with places and the three unpoolings, against loops and against each other."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops.pooling import max_pool, unpool_bed_of_nails, unpool_max, unpool_nearest


def pooled(plane: torch.Tensor, size: int, stride: int, ceil: bool) -> list[list[tuple[float, int]]]:
    """(largest value, flat place) of each window of `(H, W)`, one window at a time."""
    h, w = plane.shape

    def first_pixels(n: int) -> list[int]:
        return [s for s in range(0, n, stride) if s + size <= n or (ceil and s - stride + size < n)]

    rows = []
    for top in first_pixels(h):
        row = []
        for left in first_pixels(w):
            window = [
                (plane[y, x].item(), y * w + x)
                for y in range(top, min(top + size, h))
                for x in range(left, min(left + size, w))
            ]
            row.append(max(window, key=lambda v: (v[0], -v[1])))
        rows.append(row)
    return rows


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(3, 9),
    w=st.integers(3, 9),
    size=st.integers(1, 3),
    stride=st.integers(1, 3),
    ceil=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pooling_keeps_the_first_largest_value_and_its_place(h, w, size, stride, ceil, seed) -> None:
    plane = torch.randint(0, 5, (h, w), generator=torch.Generator().manual_seed(seed)).float()  # many ties
    values, indices = max_pool(plane[None, None], size, stride, ceil=ceil)
    expected = pooled(plane, size, stride, ceil)
    assert values[0, 0].tolist() == [[v for v, _ in row] for row in expected]
    assert indices[0, 0].tolist() == [[k for _, k in row] for row in expected]


def test_ties_are_broken_in_reading_order() -> None:
    assert max_pool(torch.zeros(1, 1, 4, 4), 2)[1].flatten().tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize(
    ("ceil", "size"), [(False, n) for n in (*range(2, 41), 45)] + [(True, n) for n in range(1, 41)]
)
def test_any_size_comes_back_exactly(ceil: bool, size: int) -> None:
    x = torch.randn(2, 3, size, size + 3, generator=torch.Generator().manual_seed(size))
    values, indices = max_pool(x, 2, ceil=ceil)
    up = unpool_max(values, indices, x.shape[2:])
    assert up.shape == x.shape
    assert torch.equal(up[up != 0], x[up != 0])  # every value stands where it came from
    assert int((up != 0).sum()) == values.numel()
    assert torch.equal(max_pool(up.where(up != 0, -torch.inf), 2, ceil=ceil)[0], values)


def test_unpooling_is_torchs_own() -> None:
    x = torch.randn(2, 3, 45, 60)
    values, indices = max_pool(x, 2, ceil=True)
    torchs = F.max_unpool2d(values, indices, 2, output_size=(45, 60))
    assert torch.equal(unpool_max(values, indices, (45, 60)), torchs)
    with pytest.raises(UsageError, match="one shape"):
        unpool_max(values, indices[..., 1:], (45, 60))


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), factor=st.integers(1, 3))
def test_nearest_and_bed_of_nails_along_one_to_three_axes(shape: list[int], factor: int) -> None:
    x = torch.randn(2, 3, *shape)
    mode = {"mode": "nearest", "scale_factor": factor}
    assert torch.equal(unpool_nearest(x, factor), F.interpolate(x, **mode))
    nails = unpool_bed_of_nails(x, factor)
    assert nails.shape == unpool_nearest(x, factor).shape
    corner = (..., *[slice(None, None, factor)] * len(shape))
    assert torch.equal(nails[corner], x)
    assert int((nails != 0).sum()) == x.numel()


def test_bed_of_nails_is_a_transposed_convolution_with_a_single_one() -> None:
    x = torch.randn(2, 3, 4, 5)
    delta = torch.zeros(3, 1, 2, 2)
    delta[:, :, 0, 0] = 1
    assert torch.equal(unpool_bed_of_nails(x, 2), F.conv_transpose2d(x, delta, stride=2, groups=3))


def test_volumes_and_signals_pool_too() -> None:
    for shape in ((7,), (5, 6, 7)):
        x = torch.randn(1, 2, *shape)
        values, indices = max_pool(x, 2, ceil=True)
        assert torch.equal(x.flatten(2).gather(2, indices.flatten(2)), values.flatten(2))
        assert unpool_max(values, indices, shape).shape == x.shape
    with pytest.raises(UsageError, match="one to three axes"):
        max_pool(torch.zeros(2, 2), 2)


def test_gradients() -> None:
    x = torch.randperm(48, dtype=torch.float64).reshape(1, 2, 4, 6).requires_grad_()

    def down_and_up(x: torch.Tensor) -> torch.Tensor:
        values, indices = max_pool(x, 2)
        return unpool_max(values.sin(), indices, x.shape[2:])

    for function in (down_and_up, lambda x: unpool_nearest(x, 2), lambda x: unpool_bed_of_nails(x, 3)):
        assert torch.autograd.gradcheck(function, (x,))


def test_pooling_and_unpooling_export_with_dynamic_sizes() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values, indices = max_pool(x, 2)
            up = unpool_max(values, indices, x.shape[2:])
            return torch.cat([up, unpool_nearest(values, 2), unpool_bed_of_nails(values, 2)], dim=1)

    rows, columns = torch.export.Dim("rows", min=2), torch.export.Dim("columns", min=2)
    shapes = ({2: 2 * rows, 3: 2 * columns},)
    program = torch.export.export(Net(), (torch.randn(1, 2, 8, 12),), dynamic_shapes=shapes)
    x = torch.randn(1, 2, 14, 6)
    assert torch.equal(program.module()(x), Net()(x))
