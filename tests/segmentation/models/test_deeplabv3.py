"""DeepLabv3: the pyramid, rates, one picture a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sightline.errors import UsageError
from sightline.nn.aspp import ASPP, PooledNorm
from sightline.segmentation.contract import Target
from sightline.segmentation.models.deeplabv3 import (
    deeplabv3,
    deeplabv3_torchvision_mobilenet_v3_large,
    deeplabv3_torchvision_r50,
    deeplabv3_torchvision_r101,
)

TINY: dict[str, Any] = {"depths": (1, 1, 1, 1), "width": 4, "channels": 8}


def rates(net: Any) -> list[int]:
    return [branch[0].dilation[0] for branch in net.classifier[0].convs[1:4]]


def test_rates_follow_the_output_stride() -> None:
    for stride, expected in ((8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])):
        net = deeplabv3(backbone="resnet18", output_stride=stride, channels=4)
        assert rates(net) == expected and net.backbone.stages[-1].stride == stride
    assert rates(deeplabv3(backbone="resnet18", rates=(2, 4, 6), channels=4)) == [2, 4, 6]
    assert rates(deeplabv3_torchvision_mobilenet_v3_large(width=0.25, channels=4)) == [12, 24, 36]
    with pytest.raises(UsageError, match="8, 16 or 32"):
        deeplabv3(backbone="resnet18", output_stride=12)


def test_pyramid_against_each_branch_written_down() -> None:
    torch.manual_seed(0)
    aspp = ASPP(3, (2, 4), channels=5, dropout=0.5).eval()
    x = torch.randn(2, 3, 7, 9)
    branches = [F.relu(F.conv2d(x, aspp.convs[0][0].weight) / (1 + 1e-5) ** 0.5)]
    for i, rate in ((1, 2), (2, 4)):
        y = F.conv2d(x, aspp.convs[i][0].weight, padding=rate, dilation=rate)
        branches.append(F.relu(y / (1 + 1e-5) ** 0.5))
    pooled = F.conv2d(F.adaptive_avg_pool2d(x, 1), aspp.convs[3][1].weight) / (1 + 1e-5) ** 0.5
    branches.append(F.interpolate(F.relu(pooled), size=(7, 9), mode="bilinear", align_corners=False))
    expected = F.relu(F.conv2d(torch.cat(branches, 1), aspp.project[0].weight) / (1 + 1e-5) ** 0.5)
    assert torch.allclose(aspp(x), expected, atol=1e-5)


def test_one_picture_a_batch_can_train() -> None:
    net = deeplabv3_torchvision_r50(2, **TINY).train()
    images = torch.rand(1, 3, 40, 40)
    target = Target(torch.zeros(1, 40, 40, dtype=torch.long))
    losses = net.losses(net(images), target)
    assert set(losses) == {"ce", "aux_ce"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_pooled_norm_is_batch_norm_from_two_pictures_on() -> None:
    ours, theirs = PooledNorm(3).train(), torch.nn.BatchNorm2d(3).train()
    x = torch.randn(4, 3, 1, 1)
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.running_var, theirs.running_var)
    before = ours.running_mean.clone()
    assert torch.allclose(ours(x[:1]), ours.eval()(x[:1])) and torch.equal(ours.running_mean, before)


def test_counts_with_one_head() -> None:
    for build, expected in (
        (deeplabv3_torchvision_r50, 39_638_869),
        (deeplabv3_torchvision_r101, 58_630_997),
        (deeplabv3_torchvision_mobilenet_v3_large, 11_025_477),
    ):
        with torch.device("meta"):
            assert sum(p.numel() for p in build(aux=False).parameters()) == expected
