"""U-Net: sizes, skips, backbones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.segmentation.models.unet import Contract, Expand, pad_to, unet, unet_same, unet_same_bilinear, unet_valid


def answer(net: nn.Module, *size: int) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(net(torch.rand(size)).logits.shape)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, "resnet18"]))
def test_recommended_form_takes_any_size(height: int, width: int, backbone: str | None) -> None:
    net = NETS[backbone]
    assert answer(net, 1, 3, height, width) == (1, 2, height, width)


NETS = {None: unet(width=4).eval(), "resnet18": unet(backbone="resnet18", decoder=(16, 8, 8, 4, 4)).eval()}


@settings(max_examples=15, deadline=None)
@given(st.integers(16, 60), st.integers(16, 60))
def test_padded_public_forms_take_any_size_from_16(height: int, width: int) -> None:
    for net in SAME:
        assert answer(net, 1, 3, height, width) == (1, 2, height, width)


SAME = (unet_same(width=4).eval(), unet_same_bilinear(width=4).eval())


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_unpadded_form_takes_exactly_the_sizes_whose_pools_come_out_even(depth: int) -> None:
    net = unet_valid(width=2, depth=depth, mean=None).eval()
    for size in range(1, 240, 1 if depth < 4 else 4):
        expected = by_hand(size, depth)
        if expected is None:
            with pytest.raises(UsageError, match=f"{size} does not fit .* {net.smallest} \\+ {net.step} k pixels"):
                net(torch.rand(1, 1, size, size))
        else:
            assert expected == size - 2 * net.margin
            if size < 70 or size == net.smallest:
                assert answer(net, 1, 1, size, size) == (1, 2, expected, expected)


def by_hand(size: int, depth: int) -> int | None:
    """The answer's size, two pixels lost a convolution; None where a pool would meet an odd size or nothing is left."""
    for level in range(depth):
        size -= 4
        if size <= 0 or (level < depth - 1 and size % 2):
            return None
        size = size // 2 if level < depth - 1 else size
    for _ in range(depth - 1):
        size = 2 * size - 4
    return size if size > 0 else None


def test_papers_sizes() -> None:
    net = unet_valid(width=2)
    assert (net.smallest, net.step, net.margin) == (188, 16, 92)
    assert by_hand(572, 5) == 388 == 572 - 2 * net.margin
    assert [net.legal_size(n) for n in (1, 4, 5, 20, 388)] == [188, 188, 204, 204, 572]
    with pytest.raises(UsageError, match=r"height 190 .* mirror it out to 204") as caught:
        net(torch.rand(1, 1, 190, 188))
    assert "\n" not in str(caught.value)


def test_unpadded_answer_sees_only_real_pixels() -> None:
    """Without padding a shifted crop gives the shifted answer, to rounding."""
    net = unet_valid(width=2, depth=3).eval()
    picture = torch.rand(1, 1, 80, 80)
    with torch.inference_mode():
        whole = net(picture).logits
        part = net(picture[:, :, 8:68, 12:72]).logits
    assert torch.allclose(whole[:, :, 8 : 8 + part.shape[2], 12 : 12 + part.shape[3]], part, atol=1e-5)


def test_missing_pixels_go_half_to_the_top_and_left_rounded_down() -> None:
    x = torch.ones(1, 1, 2, 2)
    padded = pad_to(x, (5, 3))[0, 0]
    expected = torch.zeros(5, 3)
    expected[1:3, 0:2] = 1
    assert torch.equal(padded, expected)


def test_skip_comes_first_or_last() -> None:
    for skip_first in (False, True):
        step = Expand(2, 3, 4, up="nearest", skip_first=skip_first)
        seen: list[Tensor] = []
        step.convs.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        step(torch.ones(1, 2, 2, 2), torch.zeros(1, 3, 3, 4), (3, 4))
        assert seen[0].mean((0, 2, 3)).tolist() == ([0, 0, 0, 1, 1] if skip_first else [1, 1, 0, 0, 0])


def test_dropout_ends_the_two_deepest_levels_only() -> None:
    torch.manual_seed(0)
    path = Contract(1, (4, 4, 4), norm=None, dropout=0.5).train()
    zeros = [(m == 0).float().mean().item() for m in path(torch.rand(1, 1, 32, 32)).values()]
    again = [(m == 0).float().mean().item() for m in path.eval()(torch.rand(1, 1, 32, 32)).values()]
    assert zeros[1] > again[1] and zeros[2] > again[2]
    assert abs(zeros[0] - again[0]) < 0.1


def test_decoder_too_short_for_the_backbone_is_said() -> None:
    with pytest.raises(UsageError, match="shrinks 32 times"):
        unet(backbone="resnet18", decoder=(16, 8))


@pytest.mark.parametrize("backbone", ["vgg11_bn", "mobilenet_v3_small"])
def test_other_backbones(backbone: str) -> None:
    assert answer(unet(3, backbone=backbone, in_channels=2).eval(), 2, 2, 45, 70) == (2, 3, 45, 70)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size"), [("timm:convnext_atto", (50, 75)), ("timm:vit_tiny_patch16_224", (224, 224))]
)
def test_timm_backbones(backbone: str, size: tuple[int, int]) -> None:
    assert answer(unet(3, backbone=backbone).eval(), 1, 3, *size) == (1, 3, *size)
