"""FCN: the published offsets, scales and starting weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.ops.transposed import bilinear_kernel
from sightline.segmentation.models.fcn import KEY_MAPS, crop, fcn8s, fcn8s_atonce, fcn16s, fcn32s, fcn_torchvision_r50
from sightline.weights.load import load_weights

TINY: dict[str, Any] = {"widths": (2, 2, 3, 3, 4), "hidden": 5}


def drawn(net: nn.Module, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0, (2 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1)
    return net.eval()


@pytest.mark.parametrize("build", [fcn32s, fcn16s, fcn8s, fcn8s_atonce])
def test_any_size(build: Any) -> None:
    net = drawn(build(3, **TINY))
    with torch.inference_mode():
        for height, width in [(1, 1), (2, 33), (31, 32), (33, 65), (47, 90), (100, 7)]:
            assert net(torch.rand(1, 3, height, width)).logits.shape == (1, 3, height, width)


def by_hand(net: Any, x: torch.Tensor, stride: int) -> torch.Tensor:
    """The published pass line by line: first padding 100, ceil pools, offsets 19, 5, 27, 9, 31."""
    height, width = x.shape[-2:]
    convs = [layer for layer in net.backbone.features if isinstance(layer, nn.Conv2d)]
    pools, i = [], 0
    for group in (2, 2, 3, 3, 3):
        for _ in range(group):
            x = F.relu(F.conv2d(x, convs[i].weight, convs[i].bias, padding=100 if i == 0 else 1))
            i += 1
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        pools.append(x)
    x = F.relu(F.conv2d(x, net.fc6.weight, net.fc6.bias))
    x = F.relu(F.conv2d(x, net.fc7.weight, net.fc7.bias))
    x = F.conv2d(x, net.score_fr.weight, net.score_fr.bias)
    if stride == 32:
        x = F.conv_transpose2d(x, net.upscore.weight, stride=32)
        return x[:, :, 19 : 19 + height, 19 : 19 + width]
    x = F.conv_transpose2d(x, net.upscore2.weight, stride=2)
    side = F.conv2d(pools[3] * net.pool_scales[0], net.score_pool4.weight, net.score_pool4.bias)
    x = x + side[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
    if stride == 16:
        x = F.conv_transpose2d(x, net.upscore16.weight, stride=16)
        return x[:, :, 27 : 27 + height, 27 : 27 + width]
    x = F.conv_transpose2d(x, net.upscore_pool4.weight, stride=2)
    side = F.conv2d(pools[2] * net.pool_scales[1], net.score_pool3.weight, net.score_pool3.bias)
    x = x + side[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
    x = F.conv_transpose2d(x, net.upscore8.weight, stride=8)
    return x[:, :, 31 : 31 + height, 31 : 31 + width]


@pytest.mark.parametrize(("build", "stride"), [(fcn32s, 32), (fcn16s, 16), (fcn8s, 8), (fcn8s_atonce, 8)])
def test_against_the_published_pass_written_down(build: Any, stride: int) -> None:
    net = drawn(build(3, **TINY, mean=None))
    for size in ((37, 50), (64, 33)):
        x = torch.rand(2, 3, *size)
        with torch.inference_mode():
            assert torch.allclose(net(x).logits, by_hand(net, x, stride), atol=1e-6)


def test_fresh_scores_are_zero_and_upsampling_is_bilinear() -> None:
    net = fcn8s(4, **TINY)
    assert not net.score_fr.weight.any() and not net.score_pool3.weight.any()
    for layer, size in ((net.upscore2, 4), (net.upscore_pool4, 4), (net.upscore8, 16)):
        assert torch.equal(layer.weight, bilinear_kernel(4, 4, size)) and layer.bias is None


def test_upsampling_can_be_held_fixed() -> None:
    fixed = {k for k, p in fcn8s(4, **TINY, learn_upsampling=False).named_parameters() if not p.requires_grad}
    assert fixed == {"upscore2.weight", "upscore_pool4.weight", "upscore8.weight"}
    assert all(p.requires_grad for p in fcn8s(4, **TINY).parameters())


@pytest.mark.parametrize(("build", "fixed"), [(fcn32s, 134_346_581), (fcn16s, 134_357_354), (fcn8s, 134_362_751)])
def test_counts_without_the_fixed_deconvolutions(build: Any, fixed: int) -> None:
    with torch.device("meta"):
        net = build(learn_upsampling=False)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == fixed


def test_at_once_is_8s_with_scaled_pools() -> None:
    plain, atonce = drawn(fcn8s(3, **TINY)), fcn8s_atonce(3, **TINY).eval()
    atonce.load_state_dict(plain.state_dict())
    with torch.no_grad():
        atonce.score_pool4.weight *= 100
        atonce.score_pool3.weight *= 10_000
    x = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.allclose(plain(x).logits, atonce(x).logits, atol=1e-5)


def test_crop_takes_the_size_asked_for() -> None:
    x = torch.arange(30.0).reshape(1, 1, 5, 6)
    assert torch.equal(crop(x, 2, (2, 3)), x[:, :, 2:4, 2:5])


def test_pictures_become_bgr_of_0_to_255_with_the_mean_taken_off() -> None:
    x = fcn32s(3, **TINY).normalize(torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1))
    expected = torch.tensor([0.6 * 255 - 104.00699, 0.4 * 255 - 116.66877, 0.2 * 255 - 122.67892])
    assert torch.allclose(x.flatten(), expected, atol=1e-3)


def test_each_stage_starts_from_the_one_before() -> None:
    first, second = drawn(fcn32s(3, **TINY)), fcn16s(3, **TINY)
    report = load_weights(second, first.state_dict(), strict=False)
    assert set(report.missing) == {"score_pool4.weight", "score_pool4.bias", "upscore2.weight", "upscore16.weight"}
    assert torch.equal(second.fc6.weight, first.fc6.weight) and torch.equal(second.score_fr.bias, first.score_fr.bias)


def test_starts_from_the_classifier_of_vgg16() -> None:
    net = fcn32s(3, widths=(2, 2, 3, 3, 4), hidden=5)
    public = {k.removeprefix("backbone."): torch.randn_like(v) for k, v in net.state_dict().items() if "backbone" in k}
    public |= {"classifier.0.weight": torch.randn(5, 4 * 49), "classifier.0.bias": torch.randn(5)}
    public |= {"classifier.3.weight": torch.randn(5, 5), "classifier.3.bias": torch.randn(5)}
    public |= {"classifier.6.weight": torch.randn(10, 5), "classifier.6.bias": torch.randn(10)}
    report = load_weights(net, public, maps=KEY_MAPS, strict=False)
    assert report.origin == "torchvision-vgg16"
    assert set(report.missing) == {"score_fr.weight", "score_fr.bias", "upscore.weight"}
    maps = torch.rand(1, 4, 7, 7)
    dense = F.linear(maps.flatten(1), public["classifier.0.weight"], public["classifier.0.bias"])
    assert torch.allclose(net.fc6(maps).flatten(1), dense, atol=1e-4)


def test_resnet_form_without_the_auxiliary_head() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in fcn_torchvision_r50(aux=False).parameters()) == 32_957_013
    one = fcn_torchvision_r50(3, depths=(1, 1, 1, 1), width=4, aux=False).eval()
    two = fcn_torchvision_r50(3, depths=(1, 1, 1, 1), width=4)
    report = load_weights(one, two.state_dict(), maps=KEY_MAPS)  # a file may have the head a network lacks
    assert not report.missing and one(torch.rand(1, 3, 20, 20)).aux == ()
