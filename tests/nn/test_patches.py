"""Three ways to give every pixel the answer of its own patch: the same numbers, on a LeNet to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.patches import Way, answer_pixels, field_and_stride, run_dilated

WAYS: tuple[Way, ...] = ("patches", "stitch", "dilated")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lenet(maps: tuple[int, int, int] = (4, 4, 3)) -> nn.Sequential:
    """conv5-pool2-conv5-pool2-conv5: field 32, stride 4."""
    a, b, c = maps
    torch.manual_seed(0)
    convs = nn.Conv2d(3, a, 5), nn.Conv2d(a, b, 5), nn.Conv2d(b, c, 5)
    return nn.Sequential(convs[0], nn.ReLU(), nn.MaxPool2d(2), convs[1], nn.ReLU(), nn.MaxPool2d(2), convs[2]).eval()


def answered(net: nn.Sequential, x: Tensor, way: Way, padding: str = "zeros") -> Tensor:
    field, stride = field_and_stride(net)
    with torch.no_grad():
        return answer_pixels(
            net, lambda x: run_dilated(net, x), x, field=field, stride=stride, way=way, padding=padding
        )


def test_the_ways_are_equal_to_the_last_bit(one_thread: None) -> None:
    net, x = lenet(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert field_and_stride(net) == (32, 4)
    patches, stitch, dilated = (answered(net, x, way) for way in WAYS)
    assert patches.shape == (1, 3, 64, 64)
    assert torch.equal(stitch, patches) and torch.equal(dilated, patches)
    assert torch.equal(answered(net, x, "strided"), patches[..., ::4, ::4])


@settings(max_examples=10, deadline=None)
@given(
    layers=st.lists(st.tuples(st.sampled_from(["conv", "pool", "step"]), st.integers(1, 3)), min_size=1, max_size=4),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.sampled_from(["zeros", "reflect", "replicate"]),
    seed=st.integers(0, 99),
)
def test_the_ways_agree_for_any_patch_network(layers, height, width, padding, seed) -> None:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for kind, size in layers:
        parts += (
            [nn.MaxPool2d(size)] if kind == "pool" else [nn.Conv2d(2, 2, size, 2 if kind == "step" else 1), nn.Tanh()]
        )
    net = nn.Sequential(*parts).eval()
    x = torch.randn(2, 2, height, width)
    patches, stitch, dilated = (answered(net, x, way, padding) for way in WAYS)
    assert patches.shape[-2:] == (height, width)
    torch.testing.assert_close(stitch, patches, rtol=0, atol=1e-6)
    torch.testing.assert_close(dilated, patches, rtol=0, atol=1e-6)


def test_the_field_is_what_an_answer_depends_on() -> None:
    net = lenet()
    x = torch.randn(1, 3, 40, 40, requires_grad=True)
    net(x)[0, 0, 1, 2].backward()
    assert x.grad is not None
    rows, columns = x.grad.abs().sum((0, 1)).nonzero().T
    assert rows.min() >= 4 and rows.max() < 4 + 32  # one stride from the top
    assert columns.min() >= 8 and columns.max() < 8 + 32


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(3, 3, 3, dilation=2)],
)
def test_padding_inside_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UsageError, match="no padding, dilation or ceil mode"):
        field_and_stride([layer])


def test_wrong_words() -> None:
    net, x = lenet(), torch.zeros(1, 3, 4, 4)
    with pytest.raises(UsageError, match="Did you mean 'stitch'"):
        answered(net, x, "stich")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not"):
        field_and_stride([nn.Conv2d(3, 3, (3, 5))])
    with pytest.raises(UsageError, match="use the way 'stitch'"):
        run_dilated([nn.AvgPool2d(2)], x)
    mean = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AvgPool2d(2))
    assert torch.allclose(answered(mean, x, "stitch"), answered(mean, x, "patches"))
