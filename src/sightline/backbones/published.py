"""ImageNet-1k weights that torchvision publishes for backbones and classifiers: records, nothing heavy is imported.

Accuracies are those of torchvision's weight metadata; the eight hexadecimal digits are in the files' names.
"""

from __future__ import annotations

from sightline.contracts import PublishedWeights

_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet-1k, whose terms are for non-commercial research"


def _record(file: str, version: str, megabytes: float, top1: float, top5: float) -> PublishedWeights:
    return PublishedWeights(
        name=f"imagenet1k_{version}",
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256=file.rsplit("-", 1)[1],
        megabytes=megabytes,
        licence=_LICENCE,
        trained_on="ImageNet-1k",
        scores={"top1": top1, "top5": top5},
        origin="torchvision",
    )


BACKBONES: dict[str, tuple[PublishedWeights, ...]] = {
    "resnet18": (_record("resnet18-f37072fd", "v1", 44.7, 69.758, 89.078),),
    "resnet34": (_record("resnet34-b627a593", "v1", 83.3, 73.314, 91.42),),
    "resnet50": (
        _record("resnet50-0676ba61", "v1", 97.8, 76.13, 92.862),
        _record("resnet50-11ad3fa6", "v2", 97.8, 80.858, 95.434),
    ),
    "resnet101": (
        _record("resnet101-63fe2227", "v1", 170.5, 77.374, 93.546),
        _record("resnet101-cd907fc2", "v2", 170.5, 81.886, 95.78),
    ),
    "resnet152": (
        _record("resnet152-394f9c45", "v1", 230.4, 78.312, 94.046),
        _record("resnet152-f82ba261", "v2", 230.5, 82.284, 96.002),
    ),
    "resnext50_32x4d": (
        _record("resnext50_32x4d-7cdf4587", "v1", 95.8, 77.618, 93.698),
        _record("resnext50_32x4d-1a0047aa", "v2", 95.8, 81.198, 95.34),
    ),
    "resnext101_32x8d": (
        _record("resnext101_32x8d-8ba56ff5", "v1", 339.6, 79.312, 94.526),
        _record("resnext101_32x8d-110c445d", "v2", 339.7, 82.834, 96.228),
    ),
    "resnext101_64x4d": (_record("resnext101_64x4d-173b62eb", "v1", 319.3, 83.246, 96.454),),
    "wide_resnet50_2": (
        _record("wide_resnet50_2-95faca4d", "v1", 131.8, 78.468, 94.086),
        _record("wide_resnet50_2-9ba9bcbe", "v2", 263.1, 81.602, 95.758),
    ),
    "wide_resnet101_2": (
        _record("wide_resnet101_2-32ee1156", "v1", 242.9, 78.848, 94.284),
        _record("wide_resnet101_2-d733dc28", "v2", 484.7, 82.51, 96.02),
    ),
    "vgg11": (_record("vgg11-8a719046", "v1", 506.8, 69.02, 88.628),),
    "vgg13": (_record("vgg13-19584684", "v1", 507.5, 69.928, 89.246),),
    "vgg16": (_record("vgg16-397923af", "v1", 527.8, 71.592, 90.382),),
    "vgg19": (_record("vgg19-dcbb9e9d", "v1", 548.1, 72.376, 90.876),),
    "vgg11_bn": (_record("vgg11_bn-6002323d", "v1", 506.9, 70.37, 89.81),),
    "vgg13_bn": (_record("vgg13_bn-abd245e5", "v1", 507.6, 71.586, 90.374),),
    "vgg16_bn": (_record("vgg16_bn-6c64b313", "v1", 527.9, 73.36, 91.516),),
    "vgg19_bn": (_record("vgg19_bn-c79401a0", "v1", 548.1, 74.218, 91.842),),
    "mobilenet_v3_large": (
        _record("mobilenet_v3_large-8738ca79", "v1", 21.1, 74.042, 91.34),
        _record("mobilenet_v3_large-5c1a4163", "v2", 21.1, 75.274, 92.566),
    ),
    "mobilenet_v3_small": (_record("mobilenet_v3_small-047dcff4", "v1", 9.8, 67.668, 87.402),),
}

CLASSIFIERS: dict[str, tuple[PublishedWeights, ...]] = {
    "alexnet": (_record("alexnet-owt-7be5be79", "v1", 233.1, 56.522, 79.066),),
    "googlenet": (_record("googlenet-1378be20", "v1", 49.7, 69.778, 89.53),),
    "vit_b_16": (_record("vit_b_16-c867db91", "v1", 330.3, 81.072, 95.318),),
    "vit_b_32": (_record("vit_b_32-d86f8d99", "v1", 336.6, 75.912, 92.466),),
    "vit_l_16": (_record("vit_l_16-852ce7e3", "v1", 1161.0, 79.662, 94.638),),
    "vit_l_32": (_record("vit_l_32-c7638314", "v1", 1169.4, 76.972, 93.07),),
}
"""Networks of whole pictures, which no other room stands on."""
