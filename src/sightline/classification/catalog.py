"""The table of contents of the room of single pictures: names, and strings that say where each is built. No torch."""

from __future__ import annotations

from sightline.backbones.published import BACKBONES
from sightline.contracts import Entry, Preprocess, PublishedWeights

_RESNET = "Deep Residual Learning for Image Recognition (He et al. 2015)"
_RESNEXT = "Aggregated Residual Transformations for Deep Neural Networks (Xie et al. 2016)"
_WIDE = "Wide Residual Networks (Zagoruyko & Komodakis 2016)"
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
        for w in BACKBONES[backbone]
    )


def _tv(name: str, paper: str, parameters: int) -> Entry:
    return Entry(
        f"{_AT}resnet:{name}_tv", "classification", paper, parameters, _SHORT, weights=_imagenet(name), tiny=_TINY
    )


MODELS: dict[str, Entry] = {
    "resnet": Entry(f"{_AT}resnet:resnet", "classification", _RESNET, 2_799_394, tiny=_TINY),
    "resnet18_tv": _tv("resnet18", _RESNET, 11_689_512),
    "resnet34_tv": _tv("resnet34", _RESNET, 21_797_672),
    "resnet50_tv": _tv("resnet50", _RESNET, 25_557_032),
    "resnet101_tv": _tv("resnet101", _RESNET, 44_549_160),
    "resnext50_32x4d_tv": _tv("resnext50_32x4d", _RESNEXT, 25_028_904),
    "resnext101_32x8d_tv": _tv("resnext101_32x8d", _RESNEXT, 88_791_336),
    "wide_resnet50_2_tv": _tv("wide_resnet50_2", _WIDE, 68_883_240),
}
