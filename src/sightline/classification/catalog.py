"""The table of contents of the room of single pictures: names, and strings that say where each is built. No torch."""

from __future__ import annotations

from sightline.backbones.published import BACKBONES, CLASSIFIERS
from sightline.contracts import Entry, Preprocess, PublishedWeights

_RESNET = "Deep Residual Learning for Image Recognition (He et al. 2015)"
_RESNEXT = "Aggregated Residual Transformations for Deep Neural Networks (Xie et al. 2016)"
_WIDE = "Wide Residual Networks (Zagoruyko & Komodakis 2016)"
_ALEX = "ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al. 2012)"
_CAFFE = "Caffe: Convolutional Architecture for Fast Feature Embedding (Jia et al. 2014)"
_VGG = "Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman 2014)"
_GOOGLE = "Going Deeper with Convolutions (Szegedy et al. 2014)"
_VIT = "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al. 2020)"
_AT = "sightline.classification.models."
_SHORT = Preprocess(resize="short(224)")
_TINY = {"depths": (1, 1, 1, 1), "width": 16}


def _imagenet(backbone: str) -> tuple[PublishedWeights, ...]:
    """The published weights of torchvision's network of that name."""
    return tuple(
        PublishedWeights(
            name=f"{backbone}_tv_{w.name}",
            url=w.url,
            sha256=w.sha256,
            megabytes=w.megabytes,
            licence=w.licence,
            trained_on=w.trained_on,
            scores=w.scores,
            origin=w.origin,
        )
        for w in (BACKBONES | CLASSIFIERS)[backbone]
    )


def _vgg(name: str, parameters: int) -> Entry:
    return Entry(
        f"{_AT}vgg:vgg",
        "classification",
        _VGG,
        parameters,
        _SHORT,
        weights=_imagenet(name),
        values={"layers": int(name[3:5]), "norm": name.endswith("bn")},
        tiny={"widths": (4, 4, 6, 6, 8), "hidden": 12, "pool": 2},
    )


def _vit(name: str, parameters: int, patch: int, channels: int, depth: int) -> Entry:
    heads = channels // 64
    widths = {"channels": channels, "depth": depth, "heads": heads, "hidden": 4 * channels}
    return Entry(
        f"{_AT}vit:vit",
        "classification",
        _VIT,
        parameters,
        Preprocess(resize="exact(224, 224)"),
        weights=_imagenet(name),
        traits=frozenset({"patches16"}),
        values={"num_classes": 1000, "patch": patch, "size": 224, **widths},
        tiny={"patch": 16, "size": 48, "channels": 24, "depth": 2, "heads": 2, "hidden": 32},
    )


def _tv(name: str, paper: str, parameters: int, depths: tuple[int, ...], **values: int) -> Entry:
    return Entry(
        f"{_AT}resnet:resnet",
        "classification",
        paper,
        parameters,
        _SHORT,
        weights=_imagenet(name),
        values={"num_classes": 1000, "depths": depths, "width": 64, **values},
        tiny=_TINY,
    )


MODELS: dict[str, Entry] = {
    "resnet": Entry(f"{_AT}resnet:resnet", "classification", _RESNET, 2_799_394, tiny=_TINY),
    "resnet18_tv": _tv("resnet18", _RESNET, 11_689_512, (2, 2, 2, 2)),
    "resnet34_tv": _tv("resnet34", _RESNET, 21_797_672, (3, 4, 6, 3)),
    "resnet50_tv": _tv("resnet50", _RESNET, 25_557_032, (3, 4, 6, 3), bottleneck=True),
    "resnet101_tv": _tv("resnet101", _RESNET, 44_549_160, (3, 4, 23, 3), bottleneck=True),
    "resnext50_32x4d_tv": _tv(
        "resnext50_32x4d", _RESNEXT, 25_028_904, (3, 4, 6, 3), bottleneck=True, groups=32, width_per_group=4
    ),
    "resnext101_32x8d_tv": _tv(
        "resnext101_32x8d", _RESNEXT, 88_791_336, (3, 4, 23, 3), bottleneck=True, groups=32, width_per_group=8
    ),
    "wide_resnet50_2_tv": _tv("wide_resnet50_2", _WIDE, 68_883_240, (3, 4, 6, 3), bottleneck=True, width_per_group=128),
    "alexnet_tv": Entry(
        f"{_AT}alexnet:alexnet_tv",
        "classification",
        _ALEX,
        61_100_840,
        _SHORT,
        weights=_imagenet("alexnet"),
        traits=frozenset({"large_pictures"}),
        tiny={"widths": (4, 6, 8, 8, 6), "hidden": 12},
    ),
    "caffenet": Entry(
        f"{_AT}alexnet:caffenet",
        "classification",
        _CAFFE,
        60_965_224,
        Preprocess(resize="exact(227, 227)"),
        traits=frozenset({"fixed_size"}),
        tiny={"widths": (4, 6, 8, 8, 6), "hidden": 12, "size": (75, 91)},
    ),
    "vgg11_tv": _vgg("vgg11", 132_863_336),
    "vgg11_bn_tv": _vgg("vgg11_bn", 132_868_840),
    "vgg13_tv": _vgg("vgg13", 133_047_848),
    "vgg13_bn_tv": _vgg("vgg13_bn", 133_053_736),
    "vgg16_tv": _vgg("vgg16", 138_357_544),
    "vgg16_bn_tv": _vgg("vgg16_bn", 138_365_992),
    "vgg19_tv": _vgg("vgg19", 143_667_240),
    "vgg19_bn_tv": _vgg("vgg19_bn", 143_678_248),
    "googlenet_tv": Entry(
        f"{_AT}googlenet:googlenet_tv",
        "classification",
        _GOOGLE,
        13_004_888,
        _SHORT,
        weights=_imagenet("googlenet"),
        tiny={"width": 0.125},
    ),
    "vit": Entry(
        f"{_AT}vit:vit",
        "classification",
        _VIT,
        1_940_354,
        Preprocess(resize="exact(112, 112)"),
        traits=frozenset({"patches16"}),
        tiny={"size": 48, "channels": 24, "depth": 2, "heads": 2, "hidden": 32},
    ),
    "vit_b_16_tv": _vit("vit_b_16", 86_567_656, 16, 768, 12),
    "vit_b_32_tv": _vit("vit_b_32", 88_224_232, 32, 768, 12),
    "vit_l_16_tv": _vit("vit_l_16", 304_326_632, 16, 1024, 24),
    "vit_l_32_tv": _vit("vit_l_32", 306_535_400, 32, 1024, 24),
}
