"""Transposed convolution: kernels with the published values, sizes against the operators themselves."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops.resize import resize
from sightline.ops.transposed import bilinear_kernel, conv_size, transposed_size


def test_the_kernel_has_the_values_of_its_formula() -> None:
    assert (16 * bilinear_kernel(1, 1, 4)[0, 0]).tolist() == [[1, 3, 3, 1], [3, 9, 9, 3], [3, 9, 9, 3], [1, 3, 3, 1]]
    assert (4 * bilinear_kernel(1, 1, 3)[0, 0]).tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    for size in range(1, 17):
        factor = (size + 1) // 2
        centre = factor - 1 if size % 2 else factor - 0.5
        line = [1 - abs(i - centre) / factor for i in range(size)]
        expected = torch.tensor([[a * b for b in line] for a in line])
        torch.testing.assert_close(bilinear_kernel(1, 1, size)[0, 0], expected)


def test_classes_do_not_mix() -> None:
    kernel = bilinear_kernel(3, 3, 4)
    assert kernel.shape == (3, 3, 4, 4)
    for a in range(3):
        for b in range(3):
            assert bool(kernel[a, b].any()) == (a == b)
    x = torch.randn(1, 3, 5, 6)
    grouped = F.conv_transpose2d(x, bilinear_kernel(3, 1, 4), stride=2, padding=1, groups=3)
    torch.testing.assert_close(F.conv_transpose2d(x, kernel, stride=2, padding=1), grouped)
    with pytest.raises(UsageError, match="from 3 to 2 channels"):
        bilinear_kernel(3, 2, 4)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_it_interpolates_in_the_interior_and_differs_at_the_border(stride: int) -> None:
    x = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = bilinear_kernel(2, 2, 2 * stride).double()
    up = F.conv_transpose2d(x, kernel, stride=stride, padding=stride // 2)
    expected = resize(x, [6 * stride, 7 * stride], rule="half_pixel")
    assert up.shape == expected.shape
    inside = (..., slice(stride, -stride), slice(stride, -stride))
    torch.testing.assert_close(up[inside], expected[inside])
    assert (up - expected).abs().max() > 0.1


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_sizes_are_those_of_the_operators(n: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    x, weight = torch.zeros(1, 1, n), torch.zeros(1, 1, kernel)
    if n + 2 * padding < dilation * (kernel - 1) + 1:
        with pytest.raises(UsageError, match=f"does not fit {n} pixels"):
            conv_size(n, kernel, stride, padding, dilation)
        return
    expected = F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation).shape[-1]
    assert conv_size(n, kernel, stride, padding, dilation) == expected
    if padding <= kernel // 2:
        pooled = F.max_pool1d(x, kernel, stride, padding, dilation, ceil_mode=True).shape[-1]
        assert conv_size(n, kernel, stride, padding, dilation, ceil=True) == pooled
    longer = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
    for extra in range(min(stride, 3)):
        if longer + extra > 0 and extra < max(stride, dilation):
            up = F.conv_transpose1d(x, weight, stride=stride, padding=padding, output_padding=extra, dilation=dilation)
            assert transposed_size(n, kernel, stride, padding, extra, dilation) == up.shape[-1]


def test_the_published_pairs() -> None:
    for kernel, padding, stride in ((2, 0, 2), (4, 1, 2), (16, 4, 8), (64, 16, 32)):
        assert all(transposed_size(n, kernel, stride, padding) == stride * n for n in range(1, 41))
    assert all(transposed_size(n, 3, 2, 1, output_padding=1) == 2 * n for n in range(1, 41))
    assert conv_size(45, 2, 2) == 22 and conv_size(45, 2, 2, ceil=True) == 23
    assert conv_size(1, 2, 2, ceil=True) == F.max_pool1d(torch.zeros(1, 1, 1), 2, ceil_mode=True).shape[-1] == 1
