"""Xception: sizes and dilations at each output stride, the early map, a module written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sightline.backbones.xception import Residual, Xception
from sightline.errors import UsageError

WIDTHS = (4, 5, 6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_maps_are_what_the_stages_say(output_stride: int) -> None:
    net = Xception(widths=WIDTHS, middle=2, output_stride=output_stride).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 65, 97))
    assert list(maps) and {stage.name for stage in net.stages} == set(maps)
    for stage in net.stages:
        assert tuple(maps[stage.name].shape) == (1, stage.channels, 64 // stage.stride + 1, 96 // stage.stride + 1)
    assert net.stages[-1].stride == output_stride


def test_modules_after_the_last_stride_dilate() -> None:
    def rates(net: Any) -> list[int]:
        modules = (net.entry[2].convs, net.middle[0].convs, net.exit[0].convs, net.exit[1])
        return [convs[0][0][0].dilation[0] for convs in modules]

    for output_stride, expected in ((32, [1, 1, 1, 1]), (16, [1, 1, 1, 2]), (8, [1, 2, 2, 4])):
        assert rates(Xception(widths=WIDTHS, middle=1, output_stride=output_stride)) == expected
    with pytest.raises(UsageError, match="8, 16 or 32"):
        Xception(output_stride=4)
    with pytest.raises(UsageError, match="8 of them"):
        Xception(widths=(1, 2, 3))


def test_a_module_written_down() -> None:
    torch.manual_seed(0)
    module: Any = Residual(3, (4, 4, 5), stride=2).eval()
    x = torch.randn(1, 3, 9, 7)
    before, y, second, scale = x.clone(), x, x, (1 + 0.001) ** -0.5
    for i, conv in enumerate(module.convs):
        stride = 2 if i == 2 else 1
        y = F.conv2d(F.relu(y), conv[0][0].weight, stride=stride, padding=1, groups=y.shape[1]) * scale
        y = F.conv2d(y, conv[1][0].weight) * scale
        second = y if i == 1 else second
    found, low = module(x)
    expected = y + F.conv2d(x, module.shortcut[0].weight, stride=2) * scale
    assert torch.allclose(found, expected, atol=1e-5) and torch.allclose(low, second, atol=1e-5)
    assert torch.equal(x, before)
