"""Preparing pictures of every kind for a network, and mapping its answers back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.media.prepare import (
    as_float,
    check,
    intensity,
    match_channels,
    measure,
    prepare,
    resize_pixels,
    restore,
    target_size,
)

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (7, 9, 3), np.uint8)


def test_eight_bits_stay_eight_bits_and_are_a_copy() -> None:
    pixels = intensity(PHOTO, "dtype_max")
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.tensor(PHOTO.tolist(), dtype=torch.uint8).permute(2, 0, 1))
    pixels.zero_()
    assert PHOTO.any()
    torch.testing.assert_close(as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535, 13107]], np.uint16), [0, 1, 0.2]),
        (np.array([[0, 32767]], np.int16), [0, 1]),
        (np.array([[True, False]]), [1, 0]),
        (np.array([[0.0, 0.25, np.nan]], np.float64), [0, 0.25, 0]),
    ],
)
def test_dtype_max_divides_by_the_largest_value_of_the_type(values: np.ndarray, expected: list[float]) -> None:
    pixels = intensity(values, "dtype_max")
    assert pixels.dtype == torch.float32
    assert pixels.shape == (1, 1, values.shape[1])
    assert pixels.flatten().tolist() == pytest.approx(expected)


def test_values_that_have_no_largest_are_refused_with_the_remedy() -> None:
    with pytest.raises(SightlineError, match=r"float32 with values from 0 to 3071 .* percentile"):
        intensity(np.array([[0, 3071]], np.float32), "dtype_max")
    with pytest.raises(SightlineError, match="from -1000 to 5"):
        intensity(np.array([[-1000, 5]], np.int16), "dtype_max")


def test_window_clips_and_stretches() -> None:
    ct = np.array([[-1000, -100, 100, 300, 3000]], np.int16)
    assert intensity(ct, "window(-100, 300)").flatten().tolist() == [0, 0, 0.5, 1, 1]


def test_percentile_is_taken_of_each_channel() -> None:
    image = np.stack([np.arange(101), 1000 + 10 * np.arange(101)], axis=-1).reshape(1, 101, 2).astype(np.uint16)
    pixels = intensity(image, "percentile(10, 60)")
    expected = np.clip((np.arange(101) - 10) / 50, 0, 1).astype(np.float32)
    np.testing.assert_allclose(pixels[0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(pixels[1, 0], expected, atol=1e-6)


def test_zscore_and_constant_or_missing_values() -> None:
    image = RNG.normal(300, 20, (30, 40, 2)).astype(np.float32)
    pixels = intensity(image, "zscore")
    torch.testing.assert_close(pixels.mean((1, 2)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(pixels.std((1, 2), correction=0), torch.ones(2), atol=1e-4, rtol=0)
    for rule in ("zscore", "percentile(1, 99)"):
        assert not intensity(np.full((2, 2), 7, np.uint16), rule).any()
        assert not intensity(np.full((2, 2), np.nan, np.float32), rule).any()
    holed = np.array([[1.0, np.nan, 3.0, np.inf]], np.float32)
    assert intensity(holed, "zscore").flatten().tolist() == [-1, 0, 1, 0]


def test_a_huge_picture_is_measured_on_a_grid_and_windows_share_its_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    image = RNG.integers(0, 4096, (300, 400, 1)).astype(np.uint16)
    exact = measure(image, "percentile(1, 99)")
    monkeypatch.setattr("sightline.media.prepare.SAMPLE", 5000)
    sampled = measure(image, "percentile(1, 99)")
    np.testing.assert_allclose(sampled.low, exact.low, atol=40)
    np.testing.assert_allclose(sampled.span, exact.span, atol=80)
    whole = intensity(image, "percentile(1, 99)", sampled)
    window = intensity(image[50:90, 20:70], "percentile(1, 99)", sampled)
    assert torch.equal(window, whole[:, 50:90, 20:70])


@pytest.mark.parametrize(
    ("field", "rule", "message"),
    [
        ("intensity", "dtypemax", "Did you mean 'dtype_max'"),
        ("intensity", "window(3)", r"'window\(3\)' needs 2 number"),
        ("intensity", "window(a, b)", "needs 2 number"),
        ("intensity", "window(3, 3)", "lower number before a higher"),
        ("intensity", "percentile(1, 990)", "percentages from 0 to 100"),
        ("intensity", "zscore(1)", "needs no number"),
        ("resize", "shorter(4)", "Did you mean 'short'"),
        ("resize", "short(1.5)", "whole numbers of pixels"),
        ("resize", "long(0)", "whole numbers of pixels"),
        ("resize", "exact(4)", "needs 2 number"),
        ("resize", "none; rm", "unknown resize rule"),
        ("multiple", 0, "multiple is 0"),
        ("channels", 0, "channels is 0"),
    ],
)
def test_wrong_rules_are_one_sentence(field: str, rule: str | int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(Preprocess(**{field: rule}))


def test_rules_read_spaces_signs_and_decimals() -> None:
    check(Preprocess(" window( -1e3,+.5 ) ", 3, "exact(4 ,6)", 32))
    assert target_size((5, 5), "exact(4 ,6)") == (4, 6)


def test_short_side_unless_the_long_one_passes() -> None:
    assert target_size((480, 640), "within(800, 1333)") == (800, 1067)
    assert target_size((480, 640), "torchvision(800, 1333)") == (800, 1066)
    assert target_size((300, 900), "within(800, 1333)") == (444, 1333)


def test_torchvisions_detectors_resize_without_anti_aliasing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    seen = prepare(image, Preprocess(resize="torchvision(17, 60)"))
    whole = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    expected = torch.nn.functional.interpolate(whole, size=(17, 21), mode="bilinear")[0]
    assert torch.allclose(seen.pixels, expected, atol=1e-6) and seen.valid == (17, 21)


def test_sizes_keep_their_proportion() -> None:
    assert target_size((100, 200), "none") == (100, 200)
    assert target_size((100, 200), "short(50)") == (50, 100)
    assert target_size((100, 200), "long(50)") == (25, 50)
    assert target_size((3, 1000), "long(100)") == (1, 100)


def test_channels() -> None:
    grey = torch.tensor([[[10]]], dtype=torch.uint8)
    assert match_channels(grey, 3).flatten().tolist() == [10, 10, 10]
    colour = torch.tensor([1, 2, 5], dtype=torch.uint8).reshape(3, 1, 1)
    assert match_channels(colour, 1).tolist() == [[[3]]]
    assert match_channels(colour, 1).dtype == torch.uint8
    assert match_channels(colour.float() / 5, 1).item() == pytest.approx(8 / 15)
    with pytest.raises(UsageError, match="7 channels and the network takes 3"):
        match_channels(torch.zeros(7, 1, 1), 3)


def test_eight_bit_pictures_resize_as_their_floats_do() -> None:
    pixels = intensity(PHOTO, "dtype_max")
    small = resize_pixels(pixels, (4, 20))
    assert small.dtype == torch.uint8
    assert (small.float() - resize_pixels(pixels.float(), (4, 20))).abs().max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    rule=st.sampled_from(["none", "short(9)", "long(12)", "exact(5, 7)"]),
    multiple=st.sampled_from([1, 4, 32]),
)
def test_answers_come_back_at_the_pictures_own_size(h: int, w: int, rule: str, multiple: int) -> None:
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 1] = 200
    prepared = prepare(image, Preprocess(resize=rule, multiple=multiple))
    assert prepared.original == (h, w)
    assert prepared.valid == target_size((h, w), rule)
    assert all(n % multiple == 0 and 0 <= n - v < multiple for n, v in zip(prepared.pixels.shape[1:], prepared.valid))
    inside = prepared.pixels[:, : prepared.valid[0], : prepared.valid[1]]
    assert torch.equal(inside[1].unique(), torch.tensor([200], dtype=torch.uint8))
    assert int(prepared.pixels.long().sum()) == 200 * prepared.valid[0] * prepared.valid[1]  # the padding is zero
    maps = as_float(prepared.pixels)[1:2]
    answer = restore(maps, prepared)
    assert answer.shape == (1, h, w)
    torch.testing.assert_close(answer, torch.full((1, h, w), 200 / 255))
    assert torch.equal(answer, restore(maps[..., : prepared.valid[0], : prepared.valid[1]], prepared))


def test_a_ramp_survives_the_way_there_and_back() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    prepared = prepare(ramp, Preprocess(channels=1, resize="short(24)", multiple=16))
    assert prepared.pixels.shape == (1, 32, 32)
    back = restore(prepared.pixels, prepared)[0]
    assert (back - torch.from_numpy(ramp)).abs().max() < 0.02
    with pytest.raises(UsageError, match="cannot be mapped back"):
        restore(torch.zeros(2, 24, 31), prepared)


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (np.zeros((2, 2, 2, 2)), np.zeros((0, 4, 3)), np.array([["a"]])):
        with pytest.raises(UsageError, match="height, width, channels"):
            prepare(wrong, Preprocess())
