"""Resize rules against the formulas in their table; padding and cropping against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.ops.resize import centre_crop, pad, pad_to_multiple, resize, top_left, unpad


def linear(signal: list[float], positions: list[float]) -> list[float]:
    """Linear interpolation with the ends held, one position at a time."""
    out = []
    for position in positions:
        position = min(max(position, 0.0), len(signal) - 1.0)
        low = int(position)
        high = min(low + 1, len(signal) - 1)
        out.append(signal[low] + (signal[high] - signal[low]) * (position - low))
    return out


def tent(signal: list[float], m: int) -> list[float]:
    """Pillow's linear filter: a tent as wide as the reduction, normalised over the pixels that exist."""
    n = len(signal)
    scale = max(n / m, 1.0)
    out = []
    for i in range(m):
        centre = (i + 0.5) * n / m
        weights = [max(0.0, 1 - abs(k + 0.5 - centre) / scale) for k in range(n)]
        out.append(sum(w * s for w, s in zip(weights, signal)) / sum(weights))
    return out


def positions(rule: str, n: int, m: int) -> list[float]:
    if rule == "half_pixel":
        return [(i + 0.5) * n / m - 0.5 for i in range(m)]
    if rule == "align_corners":
        return [i * (n - 1) / (m - 1) if m > 1 else 0.0 for i in range(m)]
    if rule == "nearest":
        return [i * n // m for i in range(m)]
    return [(2 * i + 1) * n // (2 * m) for i in range(m)]


@pytest.mark.parametrize("rule", ["half_pixel", "align_corners", "nearest", "nearest_exact"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 99))
def test_each_rule_looks_where_its_table_says(rule: str, n: int, m: int, seed: int) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.tensor(linear(x.tolist(), positions(rule, n, m)), dtype=torch.float64)
    torch.testing.assert_close(resize(x[None, None], [m], rule=rule)[0, 0], expected)
    both = resize(x[None, None, :, None].expand(1, 1, n, 3), [m, 3], rule=rule)  # the same along one axis of two
    torch.testing.assert_close(both[0, 0], expected[:, None].expand(m, 3))


def test_the_two_nearest_rules_differ_as_published() -> None:
    x = torch.arange(5.0)[None, None]
    assert resize(x, [3], rule="nearest").flatten().tolist() == [0, 1, 3]
    assert resize(x, [3], rule="nearest_exact").flatten().tolist() == [0, 2, 4]


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 9), a=st.integers(1, 9), b=st.integers(1, 9))
def test_label_maps_of_any_integer_type_keep_their_values(h: int, w: int, a: int, b: int) -> None:
    labels = torch.arange(h * w).reshape(1, 1, h, w)
    for rule in ("nearest", "nearest_exact"):
        as_float = resize(labels.double(), [a, b], rule=rule)
        for dtype in (torch.uint8, torch.int32, torch.int64):
            answer = resize(labels.to(dtype), [a, b], rule=rule)
            assert answer.dtype == dtype
            assert torch.equal(answer.double(), as_float)


def test_area_is_the_mean_of_the_cells_and_antialias_is_a_wider_tent() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 7.0, 2.0, 4.0], dtype=torch.float64)
    assert resize(x[None, None], [3], rule="area").flatten().tolist() == [2, 6, 3]
    picture = x[None, None, None].expand(1, 1, 2, 6)
    for m in (2, 4, 9):
        shrunk = resize(picture, [2, m], rule="antialias")[0, 0, 0]
        torch.testing.assert_close(shrunk, torch.tensor(tent(x.tolist(), m), dtype=torch.float64))


def test_antialias_is_pillows_bilinear() -> None:
    from PIL import Image

    picture = np.random.default_rng(0).random((17, 23), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(picture).resize((9, 31), Image.Resampling.BILINEAR))
    ours = resize(torch.from_numpy(picture)[None, None], [31, 9], rule="antialias")[0, 0]
    np.testing.assert_allclose(ours, pillow, atol=1e-5)


def test_volumes_resize_along_three_axes() -> None:
    x = torch.randn(1, 2, 3, 4, 5)
    assert resize(x, [6, 4, 5]).shape == (1, 2, 6, 4, 5)
    torch.testing.assert_close(resize(x, [3, 4, 9])[:, :, 1], resize(x[:, :, 1], [4, 9]))


def test_wrong_calls_are_one_sentence() -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(UsageError, match="Did you mean 'half_pixel'"):
        resize(x, [2, 2], rule="half_pixels")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one length for each axis"):
        resize(x, [2])
    with pytest.raises(UsageError, match="two axes"):
        resize(x[..., 0], [2], rule="antialias")


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 20), w=st.integers(1, 20), multiple=st.integers(1, 16), seed=st.integers(0, 9))
def test_padding_to_a_multiple_and_back(h: int, w: int, multiple: int, seed: int) -> None:
    x = torch.randn(1, 2, h, w, generator=torch.Generator().manual_seed(seed))
    kept = x.clone()
    for mode in ("zeros", "reflect", "replicate"):
        padded, pads = pad_to_multiple(x, multiple, mode)
        assert padded.shape[2] % multiple == 0 and padded.shape[3] % multiple == 0
        assert padded.shape[2] - h < multiple and padded.shape[3] - w < multiple
        assert torch.equal(padded[:, :, :h, :w], x)
        assert torch.equal(unpad(padded, pads), x)
    assert torch.equal(x, kept)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), before=st.integers(0, 15), after=st.integers(0, 15))
def test_padding_is_numpys_even_when_larger_than_the_picture(n: int, before: int, after: int) -> None:
    x = torch.arange(n * 3).reshape(1, 1, n, 3).float()
    width = ((0, 0), (0, 0), (before, after), (1, 0))
    for mode, numpys in (("reflect", "reflect"), ("replicate", "edge"), ("zeros", "constant")):
        ours = pad(x, (1, 0, before, after), mode)
        np.testing.assert_array_equal(ours, np.pad(x.numpy(), width, mode=numpys))


def test_multiple_plus_one_for_aligned_corners() -> None:
    for n, expected in ((1, 1), (2, 9), (8, 9), (9, 9), (10, 17)):
        x = torch.rand(1, 2, n, 17)
        padded, pads = pad_to_multiple(x, 8, plus=1)
        assert tuple(padded.shape) == (1, 2, expected, 17) and torch.equal(unpad(padded, pads), x)


def test_padding_takes_a_multiple_for_each_axis() -> None:
    padded, pads = pad_to_multiple(torch.zeros(1, 1, 5, 6, 7), (1, 4, 8))
    assert padded.shape == (1, 1, 5, 8, 8)
    assert pads == (0, 1, 0, 2, 0, 0)


def test_centre_crop_drops_the_smaller_half_at_the_top_and_left() -> None:
    x = torch.arange(5 * 6).reshape(5, 6)
    assert torch.equal(centre_crop(x, (2, 3)), x[1:3, 1:4])  # spare 3 -> 1 above, 2 below; spare 3 -> 1 left
    assert torch.equal(centre_crop(x, (4, 4)), x[0:4, 1:5])
    with pytest.raises(UsageError, match="must not be larger"):
        centre_crop(x, (6, 6))


@pytest.mark.parametrize("traced", [(12, 18), (17, 33)])
def test_a_program_that_pads_and_crops_takes_sizes_that_need_neither(traced: tuple[int, int]) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded, _ = pad_to_multiple(x, 8, plus=1)
            return top_left(resize(padded[:, :, ::8, ::8], padded.shape[-2:], rule="align_corners"), x.shape[-2:])

    dim = torch.export.Dim.DYNAMIC
    program = torch.export.export(Net(), (torch.randn(1, 1, *traced),), dynamic_shapes=({2: dim, 3: dim},)).module()
    for size in ((17, 25), (14, 9), (40, 33), (21, 30)):
        x = torch.randn(1, 1, *size)
        assert torch.allclose(program(x), Net()(x), atol=1e-6) and program(x).shape == x.shape


def test_top_left_is_a_slice() -> None:
    x = torch.arange(2 * 5 * 6).reshape(2, 5, 6)
    assert torch.equal(top_left(x, (2, 3)), x[:, :2, :3]) and torch.equal(top_left(x, (5, 6)), x)


def test_padding_exports_with_dynamic_sizes() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded, pads = pad_to_multiple(x, 8, "reflect")
            return unpad(padded * 2, pads)

    dim = torch.export.Dim.DYNAMIC
    program = torch.export.export(Net(), (torch.randn(1, 1, 12, 18),), dynamic_shapes=({2: dim, 3: dim},))
    x = torch.randn(1, 1, 21, 9)
    assert torch.equal(program.module()(x), x * 2)
