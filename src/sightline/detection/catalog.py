"""The detection room's table of contents: names, and strings that say where each network is built. Imports no torch.

Entry names are paper, source, size. A plain name (`faster_rcnn`, `retinanet`) is the form for a newcomer, on any
backbone.
"""

from __future__ import annotations

from sightline.contracts import Entry, Preprocess

_FASTER = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks (Ren et al. 2015)"
_RETINA = "Focal Loss for Dense Object Detection (Lin et al. 2017)"
_FASTERS = "sightline.detection.models.faster_rcnn"
_RETINAS = "sightline.detection.models.retinanet"
_TINY_RESNET = {"depths": (1, 1, 1, 1), "width": 8, "channels": 16}
_FEW = {"before": (60, 60), "after": (40, 30), "most": 20}
_TINY_ANCHORS = {"anchors": (8, 16, 32, 64, 128)}
_TORCHVISION = Preprocess(resize="torchvision(800, 1333)", multiple=32)

_WITHIN = Preprocess(resize="within(800, 1333)", multiple=32)


def _faster(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    return Entry(f"{_FASTERS}:{name}", "detection", _FASTER, parameters, preprocess, tiny=tiny)


def _retina(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    return Entry(f"{_RETINAS}:{name}", "detection", _RETINA, parameters, preprocess, tiny=tiny)


_REGIONS = {**_TINY_RESNET, **_TINY_ANCHORS, **_FEW, "hidden": 24}
_DENSE = {**_TINY_RESNET, **_TINY_ANCHORS, "before": 40, "most": 20}

MODELS: dict[str, Entry] = {
    "faster_rcnn": _faster(
        "faster_rcnn",
        41_348_181,
        Preprocess(multiple=32),
        {"backbone": "mobilenet_v3_small", "channels": 16, "hidden": 24, **_TINY_ANCHORS, **_FEW},
    ),
    "faster_rcnn_torchvision_r50_fpn": _faster(
        "faster_rcnn_torchvision_r50_fpn", 41_755_286, _TORCHVISION, {**_REGIONS, "norm_eps": 1e-5}
    ),
    "faster_rcnn_torchvision_r50_fpn_v2": _faster(
        "faster_rcnn_torchvision_r50_fpn_v2", 43_712_278, _TORCHVISION, _REGIONS
    ),
    "faster_rcnn_torchvision_mobilenet_v3_large_fpn": _faster(
        "faster_rcnn_torchvision_mobilenet_v3_large_fpn",
        19_386_354,
        _TORCHVISION,
        {"width": 0.25, "channels": 16, "hidden": 24, **_TINY_ANCHORS, **_FEW},
    ),
    "faster_rcnn_detectron2_r50_fpn": _faster("faster_rcnn_detectron2_r50_fpn", 41_699_936, _WITHIN, _REGIONS),
    "faster_rcnn_detectron2_r50_c4": _faster(
        "faster_rcnn_detectron2_r50_c4",
        33_791_644,
        Preprocess(resize="within(800, 1333)"),
        {"depths": (1, 1, 1, 1), "width": 8, **_TINY_ANCHORS, **_FEW},
    ),
    "retinanet": _retina(
        "retinanet",
        36_331_885,
        Preprocess(multiple=32),
        {"backbone": "mobilenet_v3_small", "channels": 16, "before": 40, "most": 20, **_TINY_ANCHORS},
    ),
    "retinanet_torchvision_r50_fpn": _retina(
        "retinanet_torchvision_r50_fpn", 34_014_999, _TORCHVISION, {**_DENSE, "norm_eps": 1e-5}
    ),
    "retinanet_torchvision_r50_fpn_v2": _retina("retinanet_torchvision_r50_fpn_v2", 38_198_935, _TORCHVISION, _DENSE),
    "retinanet_detectron2_r50_fpn": _retina("retinanet_detectron2_r50_fpn", 37_915_572, _WITHIN, _DENSE),
    "retinanet_mmdet_r50_fpn": _retina("retinanet_mmdet_r50_fpn", 37_968_692, _WITHIN, _DENSE),
}
