"""DeepLabv3+: rates and dilations, the order of what is joined, sizes, counts of the larger forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sightline.errors import UsageError
from sightline.segmentation.models.deeplabv3plus import (
    GOOGLE,
    VAINF,
    deeplabv3plus,
    deeplabv3plus_google_xception65,
    deeplabv3plus_jfzhang95_r101,
    deeplabv3plus_smp_r50,
    deeplabv3plus_smp_r101,
    deeplabv3plus_vainf_r50,
    deeplabv3plus_vainf_r101,
)

TINY: dict[str, Any] = {"depths": (1, 1, 2, 3), "width": 4, "channels": 8, "num_classes": 3}
XCEPTION: dict[str, Any] = {"widths": (4, 4, 6, 6, 8, 8, 8, 8), "middle": 1, "channels": 8, "num_classes": 3}


def dilations(net: Any, stage: str) -> list[int]:
    return [unit.conv2.dilation[0] for unit in net.backbone.get_submodule(stage)]


def test_rates_and_dilations_follow_the_output_stride() -> None:
    for stride, rates, layer4 in ((16, [6, 12, 18], [2, 4, 8]), (8, [12, 24, 36], [4, 8, 16])):
        net: Any = deeplabv3plus_jfzhang95_r101(**TINY, output_stride=stride)
        assert [branch[0].dilation[0] for branch in net.aspp.convs[1:4]] == rates
        assert dilations(net, "layer4") == layer4 and dilations(net, "layer3") == [32 // stride // 2] * 2
    assert dilations(deeplabv3plus_vainf_r50(**TINY), "layer4") == [1, 2, 2]
    assert dilations(deeplabv3plus_smp_r50(**TINY), "layer4") == [2, 2, 2]
    smp: Any = deeplabv3plus_smp_r50(**TINY)
    assert [branch[0][0].dilation[0] for branch in smp.aspp[0].convs[1:4]] == [12, 24, 36]
    with pytest.raises(UsageError, match="8, 16 or 32"):
        deeplabv3plus(backbone="resnet18", output_stride=12)


def test_the_maps_that_sources_join_first_are_moved_last() -> None:
    low_first = torch.cat([torch.full((1, 48, 3, 3), 7.0), torch.zeros(1, 8, 3, 3)], dim=1)
    read = VAINF.read({"classifier.classifier.0.weight": low_first}, {"decoder.fuse.0.weight": (1, 56, 3, 3)})
    assert read.ours["decoder.fuse.0.weight"][0, :, 0, 0].tolist() == [0.0] * 8 + [7.0] * 48
    blocks = torch.arange(5.0).repeat_interleave(2)  # the picture's mean, the 1x1, three rates; two channels each
    read = GOOGLE.read(
        {"concat_projection/weights": blocks.reshape(1, 1, 10, 1)}, {"aspp.project.0.weight": (1, 10, 1, 1)}
    )
    assert read.ours["aspp.project.0.weight"].flatten().tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 0, 0]


@pytest.mark.parametrize(
    ("net", "full"),
    [
        (deeplabv3plus_google_xception65(**XCEPTION, mean=None), (33, 49)),
        (deeplabv3plus_google_xception65(**XCEPTION, mean=None, output_stride=8), (33, 41)),
        (deeplabv3plus_smp_r50(**TINY, mean=None), (32, 48)),
    ],
    ids=["google", "google8", "smp"],
)
def test_a_picture_of_another_size_is_padded_and_cropped(net: Any, full: tuple[int, int]) -> None:
    images = torch.rand(1, 3, 30, 38)
    padded = F.pad(images, (0, full[1] - 38, 0, full[0] - 30))
    with torch.no_grad():
        found, whole = net.eval()(images).logits, net(padded).logits
    assert whole.shape[-2:] == full and torch.equal(found, whole[:, :, :30, :38])


def test_the_decoder_joins_a_quarter_of_the_picture() -> None:
    for backbone in ("resnet18", "mobilenet_v3_small"):
        net = deeplabv3plus(backbone=backbone, channels=8)
        assert {stage.name: stage.stride for stage in net.backbone.stages}[net.low] == 4


def test_counts_of_the_larger_forms() -> None:
    for build, expected in ((deeplabv3plus_vainf_r101, 58_753_973), (deeplabv3plus_smp_r101, 45_674_853)):
        with torch.device("meta"):
            assert sum(p.numel() for p in build().parameters()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("traced", [(30, 38), (33, 49), (32, 48)])
def test_a_program_takes_published_sizes_and_others(traced: tuple[int, int]) -> None:
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    for net in (deeplabv3plus_google_xception65(**XCEPTION, mean=None), deeplabv3plus_smp_r50(**TINY, mean=None)):
        net = net.eval()
        program = torch.export.export(net, (torch.rand(1, 3, *traced),), dynamic_shapes={"images": free}).module()
        for size in ((33, 65), (48, 64), (41, 50)):
            images = torch.rand(1, 3, *size)
            with torch.no_grad():
                assert torch.allclose(program(images).logits, net(images).logits, atol=1e-5)
