"""Backbones against torchvision's own: names, counts, maps; and what they do beyond."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.backbones.build import NAMES, backbone, resnet
from sightline.backbones.contract import Stage, deepest_at_each_stride, stage_named
from sightline.backbones.mobilenet_v3 import LARGE, SMALL, MobileNetV3, in_eights
from sightline.backbones.published import BACKBONES, CLASSIFIERS
from sightline.backbones.resnet import BasicUnit, Bottleneck, ResNet
from sightline.backbones.vgg import VGG
from sightline.errors import SightlineError, UsageError

HEADS = ("fc.", "classifier.")


def oracle(name: str) -> nn.Module:
    """torchvision's network with random weights and random running statistics."""
    import torchvision

    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, **({"init_weights": False} if "vgg" in name else {}))
    for key, value in net.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)
    return net.eval()


def without_classifier(net: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in net.state_dict().items() if not key.startswith(HEADS)}


def count(tensors: dict[str, Tensor]) -> int:
    return sum(v.numel() for k, v in tensors.items() if not k.endswith(("running_mean", "running_var", "tracked")))


def torchvision_maps(net: Any, x: Tensor) -> dict[str, Tensor]:
    """The maps of torchvision's network by our stage names, step by step."""
    maps = {}
    if hasattr(net, "layer1"):
        x = maps["stem"] = net.relu(net.bn1(net.conv1(x)))
        x = net.maxpool(x)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = maps[name] = getattr(net, name)(x)
        return maps
    group = 1
    for i, layer in enumerate(net.features):
        if isinstance(layer, nn.MaxPool2d):
            maps[f"conv{group}"] = x.clone()
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            maps[f"pool{group}"] = x
            group += 1
        if not isinstance(net.features[0], nn.Conv2d):
            maps[f"features.{i}"] = x
    return maps


DEEP = [name for name in NAMES if "101" in name or "152" in name or "wide" in name or name in ("vgg13_bn", "vgg19_bn")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in DEEP else n for n in NAMES])
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        theirs = without_classifier(getattr(torchvision.models, name)(weights=None))
        ours = dict(backbone(name).state_dict())
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert count(ours) == count(theirs)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnext50_32x4d", "vgg11_bn", "mobilenet_v3_large", "mobilenet_v3_small"]
)
def test_maps_are_torchvisions(name: str) -> None:
    theirs, ours = oracle(name), backbone(name)
    ours.load_state_dict(without_classifier(theirs))
    ours.eval()
    images = torch.rand(1, 3, 39, 47)
    with torch.inference_mode():
        expected, found = torchvision_maps(theirs, images), ours(images)
    assert list(found) == [stage.name for stage in ours.stages]
    for stage in ours.stages:
        y = found[stage.name]
        assert y.shape[1] == stage.channels
        assert abs(y.shape[2] - 39 / stage.stride) <= 1 and abs(y.shape[3] - 47 / stage.stride) <= 1
        assert torch.allclose(y, expected[stage.name], rtol=1e-4, atol=1e-5 * float(y.abs().max()))


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_resnet_is_torchvisions(stride: int) -> None:
    import torchvision

    torch.manual_seed(0)
    dilate = [False, stride == 8, True]
    theirs = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilate).eval()
    ours = backbone("resnet50", output_stride=stride).eval()
    ours.load_state_dict(without_classifier(theirs))
    images = torch.rand(1, 3, 49, 65)
    with torch.inference_mode():
        expected, found = torchvision_maps(theirs, images), ours(images)
    assert [stage.stride for stage in ours.stages] == [2, 4, 8, min(16, stride), stride]
    for name, y in found.items():
        assert torch.allclose(y, expected[name], rtol=1e-4, atol=1e-5 * float(y.abs().max()))


def dilations(net: ResNet, layer: str, conv: str = "conv2") -> list[int]:
    return [getattr(unit, conv).dilation[0] for unit in net.get_submodule(layer)]


def test_the_first_dilated_unit_is_contracted_or_not() -> None:
    kept = resnet("resnet50", output_stride=8)
    assert dilations(kept, "layer3") == [1, 2, 2, 2, 2, 2] and dilations(kept, "layer4") == [2, 4, 4]
    taken = resnet("resnet50", output_stride=8, contract=False)
    assert dilations(taken, "layer3") == [2] * 6 and dilations(taken, "layer4") == [4] * 3
    basic = resnet("resnet18", output_stride=16)
    assert dilations(basic, "layer4", "conv1") == [1, 2] and dilations(basic, "layer4", "conv2") == [1, 2]


def test_the_stride_sits_where_asked() -> None:
    for stride_in, first, second in (("3x3", 1, 2), ("1x1", 2, 1)):
        net = ResNet(Bottleneck, (1, 1, 1, 1), width=8, stride_in=stride_in)
        unit = net.layer2[0]
        assert (unit.conv1.stride[0], unit.conv2.stride[0], unit.downsample[0].stride[0]) == (first, second, 2)
        assert net(torch.rand(1, 3, 64, 64))["layer4"].shape[-1] == 2
    with pytest.raises(UsageError, match="stride_in"):
        resnet("resnet50", stride_in="5x5")  # type: ignore[arg-type]


def test_the_deep_stem_has_the_widths_asked_for() -> None:
    net = resnet("resnet50", stem=(64, 64, 128))
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items() if k.startswith("conv1.") and v.ndim == 4}
    assert shapes == {
        "conv1.0.weight": (64, 3, 3, 3),
        "conv1.3.weight": (64, 64, 3, 3),
        "conv1.6.weight": (128, 64, 3, 3),
    }
    assert net.layer1[0].conv1.in_channels == 128
    assert net(torch.rand(1, 3, 33, 64))["stem"].shape == (1, 128, 17, 32)


def test_any_channels_any_size_any_depth() -> None:
    nets: list[tuple[Any, Any]] = [
        (ResNet, {"unit": BasicUnit, "depths": (1, 1), "width": 4}),
        (ResNet, {"unit": Bottleneck, "depths": (1, 2, 1), "width": 8, "groups": 2, "width_per_group": 32}),
        (MobileNetV3, {"rows": SMALL, "width": 0.25}),
        (VGG, {"depths": (1, 1), "widths": (4, 6), "ceil": True}),
    ]
    for kind, values in nets:
        net = kind(**values, in_channels=5).eval()
        maps = net(torch.rand(1, 5, 1, 3))
        assert [maps[s.name].shape[1] for s in net.stages] == [s.channels for s in net.stages]


def test_norm_by_name_and_frozen_norms_hold_no_parameters() -> None:
    frozen = backbone("resnet18", norm="frozen")
    assert not [k for k, _ in frozen.named_parameters() if "bn" in k]
    assert set(frozen.state_dict()) == {k for k in backbone("resnet18").state_dict() if "num_batches" not in k}
    assert isinstance(backbone("vgg11_bn", norm="group").features[1], nn.GroupNorm)


def test_mobilenet_dilates_from_the_first_unit_on() -> None:
    net = backbone("mobilenet_v3_large", output_stride=16)
    depthwise = [net.features[i].block[1][0] for i in (13, 14, 15)]
    assert [(c.stride[0], c.dilation[0], c.padding[0]) for c in depthwise] == [(1, 2, 4)] * 3
    assert net(torch.rand(1, 3, 64, 64))["features.16"].shape == (1, 960, 4, 4)
    assert [MobileNetV3(LARGE, output_stride=s).stages[-1].stride for s in (8, 16, 32)] == [8, 16, 32]


@pytest.mark.parametrize(
    ("channels", "rounded"), [(3, 8), (16, 16), (18, 24), (17, 16), (120 / 4, 32), (60, 64), (12, 16), (100, 104)]
)
def test_channels_in_eights(channels: float, rounded: int) -> None:
    assert in_eights(channels) == rounded


def test_deepest_map_of_every_stride() -> None:
    stages = (Stage("a", 1, 2), Stage("b", 2, 4), Stage("c", 3, 4), Stage("d", 4, 8))
    assert [s.name for s in deepest_at_each_stride(stages)] == ["a", "c", "d"]
    assert stage_named(stages, "c").channels == 3
    with pytest.raises(KeyError, match="a, b, c, d"):
        stage_named(stages, "e")


def test_wrong_names_and_options_are_one_sentence() -> None:
    for call, words in (
        (lambda: backbone("resnet5"), "Did you mean 'resnet50'|Did you mean 'resnet"),
        (lambda: backbone("vgg16", output_stride=8), "no dilated form"),
        (lambda: backbone("resnet50", output_stride=4), "8, 16 or 32"),
        (lambda: backbone("mobilenet_v3_large", output_stride=64), "8, 16 or 32"),
        (lambda: resnet("vgg16"), "no ResNet 'vgg16'"),
        (lambda: backbone("resnet18", weights="imagenet1k_v9"), "neither a file nor published weights .*imagenet1k_v1"),
        (lambda: ResNet(BasicUnit, (1,), groups=2), "bottleneck"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_public_files_go_in_and_another_network_does_not(tmp_path: Any) -> None:
    theirs = oracle("resnet18")
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = backbone("resnet18", weights=str(tmp_path / "resnet18.pth"))
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    grey = backbone("resnet18", in_channels=1, weights=str(tmp_path / "resnet18.pth"))
    assert torch.equal(grey.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
    with pytest.raises(SightlineError):
        backbone("resnet34", weights=str(tmp_path / "resnet18.pth"))


def test_published_records_belong_to_backbones() -> None:
    assert set(BACKBONES) <= set(NAMES) and not set(CLASSIFIERS) & set(NAMES)
    for records in (BACKBONES | CLASSIFIERS).values():
        for record in records:
            assert f"-{record.sha256}.pth" in record.url and len(record.sha256) == 8
            assert 50 < record.scores["top1"] < record.scores["top5"] < 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet34",
        "resnet50",
        "vgg11",
        "resnet101",
        "resnet152",
        "resnext101_32x8d",
        "wide_resnet50_2",
        "vgg16",
        "vgg16_bn",
        "vgg19",
    ],
)
def test_larger_maps_are_torchvisions(name: str) -> None:
    test_maps_are_torchvisions(name)
