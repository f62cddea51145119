"""PSPNet: the pyramid, where its places lie, one picture a batch, a file with one head more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sightline.errors import UsageError
from sightline.segmentation.contract import Target
from sightline.segmentation.models.pspnet import PyramidConvolution, PyramidPooling, pspnet, pspnet50, pspnet101
from sightline.verbs.load import load_weights
from sightline.verbs.optimize import optimize

TINY: dict[str, Any] = {"depths": (1, 1, 2, 1), "width": 4, "channels": 8, "num_classes": 3}


def test_pyramid_against_each_level_written_down() -> None:
    torch.manual_seed(0)
    pyramid = PyramidPooling(8, (1, 2, 3, 6)).eval()
    x = torch.randn(2, 8, 7, 11)  # cells overlap: 7 and 11 divide by nothing
    expected = [x]
    for bins, level in zip((1, 2, 3, 6), pyramid.features, strict=True):
        y = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, bins), level[1].weight) / (1 + 1e-5) ** 0.5)
        expected.append(F.interpolate(y, size=(7, 11), mode="bilinear", align_corners=True))
    assert pyramid.channels == 16
    assert torch.allclose(pyramid(x), torch.cat(expected, 1), atol=1e-5)


def test_every_deep_unit_is_dilated_the_first_one_too() -> None:
    net = pspnet50(**TINY)
    for stage, dilation in (("layer2", 1), ("layer3", 2), ("layer4", 4)):
        units: Any = net.backbone.get_submodule(stage)
        assert [unit.conv2.dilation[0] for unit in units] == [dilation] * len(units)
    assert net.backbone.stages[-1].stride == 8


def test_a_picture_of_another_size_is_padded_and_cropped() -> None:
    net = pspnet50(**TINY, mean=None).eval()
    images = torch.rand(1, 3, 30, 41)  # 41 = 8 * 5 + 1
    with torch.no_grad():
        found, whole = net(images), net(F.pad(images, (0, 0, 0, 3)))
    assert found.logits.shape[-2:] == (30, 41)
    assert torch.equal(found.logits, whole.logits[:, :, :30]) and torch.equal(found.aux[0], whole.aux[0][:, :, :30])


def test_place_i_lies_on_pixel_8i() -> None:
    net = pspnet50(**TINY, mean=None).eval()
    coarse: list[torch.Tensor] = []
    net.cls.register_forward_hook(lambda module, inputs, out: coarse.append(out))
    with torch.no_grad():
        logits = net(torch.rand(1, 3, 33, 25)).logits
    assert torch.allclose(logits[:, :, ::8, ::8], coarse[0], atol=1e-5)


def test_one_picture_a_batch_can_train() -> None:
    net = pspnet50(**TINY).train()
    losses = net.losses(net(torch.rand(1, 3, 33, 41)), Target(torch.zeros(1, 33, 41, dtype=torch.long)))
    assert set(losses) == {"ce", "aux_ce"} and all(bool(loss.isfinite()) for loss in losses.values())


def test_a_file_with_an_auxiliary_head_fits_a_network_without() -> None:
    one, two = pspnet50(**TINY, aux=False), pspnet50(**TINY)
    report = load_weights(one, two.state_dict())
    assert not report.missing and not report.unexpected and any("aux." in note for note in report.notes)
    assert any(name.startswith("aux.") for name in load_weights(two, one.state_dict()).reinitialised)


def test_counts_with_one_head_and_bins_that_make_sense() -> None:
    for build, expected in ((pspnet50, 46_782_550), (pspnet101, 65_708_501)):
        with torch.device("meta"):
            assert sum(p.numel() for p in build(aux=False).parameters()) == expected
    with pytest.raises(UsageError, match="from 1 on"):
        pspnet(backbone="resnet18", bins=(0, 2))


@pytest.mark.slow
@pytest.mark.parametrize("traced", [(30, 38), (33, 41)])
def test_a_program_takes_published_sizes_and_others(traced: tuple[int, int]) -> None:
    net = pspnet50(**TINY, mean=None).eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, (torch.rand(1, 3, *traced),), dynamic_shapes={"images": free}).module()
    for size in ((33, 49), (41, 50), (64, 35)):
        images = torch.rand(1, 3, *size)
        with torch.no_grad():
            assert torch.allclose(program(images).logits, net(images).logits, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (12, 9), (31, 30)])
def test_the_short_way_through_the_pyramid(size: tuple[int, int], align_corners: bool) -> None:
    torch.manual_seed(0)
    ppm = PyramidPooling(16, (1, 2, 3, 6), align_corners=align_corners).eval().double()
    convolution = torch.nn.Conv2d(32, 5, 3, padding=1).double()
    short = PyramidConvolution(ppm, convolution)
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    torch.testing.assert_close(short(x), convolution(ppm(x)))


def test_optimized_it_takes_the_short_way() -> None:
    net = pspnet50(**TINY).eval()
    found = optimize(net, torch.rand(1, 3, 33, 41), repeats=0)
    assert "short cuts" in found.words and found.difference < 1e-5
    assert isinstance(found.net.cls[0], PyramidConvolution) and not isinstance(net.cls[0], PyramidConvolution)
    images = torch.rand(2, 3, 30, 57)
    torch.testing.assert_close(found.net(images).logits, net(images).logits, rtol=1e-4, atol=1e-5)
