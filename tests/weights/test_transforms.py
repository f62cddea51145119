"""Every transform against a slow loop over elements, and both directions against each other."""

import itertools

import pytest
import torch
from torch import Tensor

from sightline.weights.transforms import (
    BGR,
    FC_TO_CONV,
    HWIO,
    TRANSPOSED,
    Transform,
    chain,
    depthwise,
    folded_norm,
    heads_bias,
    heads_in,
    heads_out,
    regrouped,
    reordered,
    rolled,
    scaled,
)


def numbers(*shape: int) -> Tensor:
    return torch.arange(float(torch.tensor(shape).prod())).view(shape) + 1


def read(transform: Transform, tensor: Tensor, *shape: int) -> Tensor:
    return transform.read([tensor], [shape])[0]


@pytest.mark.parametrize(
    ("transform", "public", "ours"),
    [
        (HWIO, (3, 2, 4, 5), (5, 4, 3, 2)),
        (HWIO, (2, 3, 4, 5, 6), (6, 5, 2, 3, 4)),
        (TRANSPOSED, (3, 4), (4, 3)),
        (BGR, (2, 3, 1, 1), (2, 3, 1, 1)),
        (depthwise(), (3, 2, 5, 1), (5, 1, 3, 2)),
        (depthwise(2), (3, 3, 4, 2), (8, 1, 3, 3)),
        (scaled(4), (2, 2), (2, 2)),
        (reordered((2, 0, 1)), (6, 2), (6, 2)),
        (reordered((1, 0), dim=1), (2, 6, 1, 1), (2, 6, 1, 1)),
        (rolled(2), (2, 5, 1, 1), (2, 5, 1, 1)),
        (heads_in(3), (8, 2, 3), (6, 8)),
        (heads_out(3), (2, 3, 8), (8, 6)),
        (heads_bias(3), (2, 3), (6,)),
        (FC_TO_CONV, (5, 24), (5, 6, 2, 2)),
        (chain(HWIO, BGR), (1, 1, 3, 2), (2, 3, 1, 1)),
    ],
)
def test_shapes_and_the_way_back(transform: Transform, public: tuple, ours: tuple) -> None:
    given = numbers(*public)
    there = read(transform, given, *ours)
    assert tuple(there.shape) == ours
    assert torch.equal(transform.write([there], 1)[0], given)


def test_kernels_element_by_element() -> None:
    kernel = numbers(2, 3, 4, 5)
    moved = read(HWIO, kernel)
    for y, x, i, o in itertools.product(range(2), range(3), range(4), range(5)):
        assert moved[o, i, y, x] == kernel[y, x, i, o]


def test_depthwise_kernels_give_tensorflows_channel_order() -> None:
    kernel = numbers(1, 1, 3, 2)
    weight = read(depthwise(2), kernel)
    picture = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    answer = torch.nn.functional.conv2d(picture, weight, groups=3).flatten().tolist()
    assert answer == [float(picture[0, c] * kernel[0, 0, c, m]) for c in range(3) for m in range(2)]


def test_a_fully_connected_layer_as_convolution_gives_the_same_answer() -> None:
    picture, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 48)
    kernel = read(FC_TO_CONV, weight, 7, 3, 4, 4)  # another class count of the network is not the file's business
    dense = picture.flatten(1) @ weight.t()
    assert torch.allclose(torch.nn.functional.conv2d(picture, kernel).flatten(1), dense, atol=1e-5)


def test_flax_attention_kernels_give_the_same_answer() -> None:
    x, into, out = torch.randn(4, 6), torch.randn(6, 2, 3), torch.randn(2, 3, 6)
    heads = torch.einsum("td,dhw->thw", x, into)
    assert torch.allclose(x @ read(heads_in(3), into).t(), heads.flatten(1), atol=1e-5)
    assert torch.allclose(
        heads.flatten(1) @ read(heads_out(3), out).t(), torch.einsum("thw,hwd->td", heads, out), atol=1e-5
    )


def test_blocks_go_where_the_order_says() -> None:
    assert read(reordered((2, 0, 1)), torch.tensor([0.0, 1.0, 2.0])).tolist() == [2, 0, 1]
    assert read(rolled(1), torch.tensor([[0.0, 1.0, 2.0]])).tolist() == [[1, 2, 0]]
    with pytest.raises(ValueError, match="equal blocks"):
        read(reordered((1, 0)), torch.zeros(3))


def test_chains_write_backwards() -> None:
    twice = chain(scaled(2), each_plus_one())
    assert read(twice, torch.tensor([1.0])).item() == 3
    assert twice.write([torch.tensor([3.0])], 1)[0].item() == 1


def each_plus_one() -> Transform:
    return Transform("plus", lambda t, s: [x + 1 for x in t], lambda t, n: [x - 1 for x in t])


def test_regrouping_cuts_to_our_sizes() -> None:
    parts = regrouped().read([numbers(6, 2)], [(1, 2), (2, 2), (3, 2)])
    assert [len(part) for part in parts] == [1, 2, 3]
    with pytest.raises(RuntimeError):
        regrouped().read([numbers(6, 2)], [(1, 2), (2, 2)])
    with pytest.raises(ValueError, match="equal parts"):
        regrouped().write([numbers(5, 2)], 2)


def test_a_folded_norm_scales_and_shifts() -> None:
    scale, shift, eps = torch.tensor([2.0, 3.0]), torch.tensor([0.5, -1.0]), 1e-3
    norm = torch.nn.BatchNorm2d(2, eps=eps).eval()
    for target, value in zip(
        (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var),
        folded_norm(eps).read([scale.view(1, 2, 1, 1), shift], [(2,)] * 4),
    ):
        target.copy_(value)
    x = torch.randn(2, 2, 3, 3)
    assert torch.allclose(norm(x), x * scale.view(1, 2, 1, 1) + shift.view(1, 2, 1, 1), atol=1e-6)
    norm.running_mean.fill_(0.3), norm.running_var.fill_(2.0)
    again = folded_norm(eps).write([norm.weight, norm.bias, norm.running_mean, norm.running_var], 2)
    assert torch.allclose(norm(x), x * again[0].view(1, 2, 1, 1) + again[1].view(1, 2, 1, 1), atol=1e-6)
