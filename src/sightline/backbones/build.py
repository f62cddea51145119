"""Backbones by name: what builders and the command line use.

`resnet18` ... `resnet152`, `resnext50_32x4d`, `resnext101_32x8d`, `resnext101_64x4d`, `wide_resnet50_2`,
`wide_resnet101_2`; `vgg11` ... `vgg19`, each also with `_bn`; `mobilenet_v3_large`, `mobilenet_v3_small`;
`timm:<name>` for any model of timm that gives feature maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sightline.backbones.contract import Backbone
from sightline.backbones.mobilenet_v3 import LARGE, NORM, SMALL, MobileNetV3
from sightline.backbones.published import BACKBONES
from sightline.backbones.resnet import BasicUnit, Bottleneck, ResNet, StrideIn
from sightline.backbones.vgg import VGG
from sightline.contracts import PublishedWeights
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.nn.conv import NormName, norm_named
from sightline.weights.keymap import KeyMap

RESNETS: dict[str, dict[str, Any]] = {
    "resnet18": {"unit": BasicUnit, "depths": (2, 2, 2, 2)},
    "resnet34": {"unit": BasicUnit, "depths": (3, 4, 6, 3)},
    "resnet50": {"unit": Bottleneck, "depths": (3, 4, 6, 3)},
    "resnet101": {"unit": Bottleneck, "depths": (3, 4, 23, 3)},
    "resnet152": {"unit": Bottleneck, "depths": (3, 8, 36, 3)},
    "resnext50_32x4d": {"unit": Bottleneck, "depths": (3, 4, 6, 3), "groups": 32, "width_per_group": 4},
    "resnext101_32x8d": {"unit": Bottleneck, "depths": (3, 4, 23, 3), "groups": 32, "width_per_group": 8},
    "resnext101_64x4d": {"unit": Bottleneck, "depths": (3, 4, 23, 3), "groups": 64, "width_per_group": 4},
    "wide_resnet50_2": {"unit": Bottleneck, "depths": (3, 4, 6, 3), "width_per_group": 128},
    "wide_resnet101_2": {"unit": Bottleneck, "depths": (3, 4, 23, 3), "width_per_group": 128},
}
VGGS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
MOBILENETS = {"mobilenet_v3_large": LARGE, "mobilenet_v3_small": SMALL}
NAMES = (*RESNETS, *VGGS, *(f"{name}_bn" for name in VGGS), *MOBILENETS)

TORCHVISION = KeyMap("torchvision", (("{rest}", "{rest}"),), ignore=("fc.*", "classifier.*"))


def backbone(
    name: str,
    *,
    in_channels: int = 3,
    output_stride: int = 32,
    norm: NormName | None = None,
    weights: str | None = None,
) -> Backbone:
    """The backbone called `name`.

    output_stride: 8, 16 or 32, dilation takes the place of further strides (VGG: 32 only). norm: None for the family's
    own. weights: None for fresh ones, a file, or the name of published ones ("imagenet1k_v1", for timm "timm").
    Raises `UsageError` for an unknown name or an option the backbone does not have.
    """
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), in_channels, output_stride, norm, weights)
    if name in RESNETS:
        return resnet(name, in_channels=in_channels, output_stride=output_stride, norm=norm or "batch", weights=weights)
    plain = name.removesuffix("_bn")
    if plain in VGGS:
        if output_stride != 32:
            raise UsageError(f"'{name}' has no dilated form; leave output_stride at 32 or take a ResNet")
        word = norm or ("batch" if name != plain else None)
        net = VGG(VGGS[plain], in_channels=in_channels, norm=norm_named(word) if word else None)
    elif name in MOBILENETS:
        net = MobileNetV3(
            MOBILENETS[name],
            in_channels=in_channels,
            output_stride=output_stride,
            norm=norm_named(norm, eps=0.001) if norm else NORM,
        )
    else:
        raise UsageError(
            f"there is no backbone '{name}'; choose from {', '.join(NAMES)} or timm:<name>.{did_you_mean(name, NAMES)}"
        )
    return _loaded(net, name, weights)


def resnet(
    name: str,
    *,
    in_channels: int = 3,
    output_stride: int = 32,
    contract: bool = True,
    stride_in: StrideIn = "3x3",
    stem: Sequence[int] = (),
    norm: NormName = "batch",
    weights: str | None = None,
) -> ResNet:
    """A ResNet, ResNeXt or wide ResNet with the conventions of any source; see `sightline.backbones.resnet`."""
    if name not in RESNETS:
        raise UsageError(f"there is no ResNet '{name}'; choose from {', '.join(RESNETS)}.{did_you_mean(name, RESNETS)}")
    net = ResNet(
        **RESNETS[name],
        in_channels=in_channels,
        output_stride=output_stride,
        contract=contract,
        stride_in=stride_in,
        stem=stem,
        norm=norm_named(norm),
    )
    return _loaded(net, name, weights)


def _loaded(net: Any, name: str, weights: str | None) -> Any:
    if weights is not None:
        load_backbone(net, name, weights, BACKBONES.get(name, ()), TORCHVISION)
    return net


def _timm(name: str, in_channels: int, output_stride: int, norm: NormName | None, weights: str | None) -> Backbone:
    from sightline.backbones.timm import TimmBackbone, published

    if norm is not None:
        raise UsageError(f"the norm of timm's '{name}' is its own; leave norm out")
    net = TimmBackbone(name, in_channels=in_channels, output_stride=output_stride)
    if weights is not None:
        records = (published(name),) if weights == "timm" else ()
        load_backbone(net, f"timm:{name}", records[0].name if records else weights, records, net.key_map())
    return net


def load_backbone(
    net: nn.Module, name: str, weights: str, records: Sequence[PublishedWeights], key_map: KeyMap
) -> None:
    """Fill `net` from a file or published weights by name. Nothing may be missing; a classifier may be left over."""
    from sightline.weights.fetch import fetch
    from sightline.weights.load import load_weights

    known = {record.name: record for record in records}
    if weights in known:
        source: Path = fetch(known[weights])
    elif Path(weights).is_file():
        source = Path(weights)
    else:
        names = ", ".join(known) or "none by name"
        raise UsageError(f"'{weights}' is neither a file nor published weights of {name} ({names})")
    report = load_weights(net, source, maps=(key_map,), strict=False)
    if report.missing or report.reinitialised:
        short = sorted([*report.missing, *report.reinitialised])
        raise SightlineError(
            f"{source} lacks {len(short)} tensors of {name} or has them in another shape, among them {short[0]}: "
            "it is a checkpoint of another network"
        )
