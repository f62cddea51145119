"""The detection room's table of contents: names, and strings that say where each network is built. Imports no torch.

Entry names are paper, source, size. A plain name (`faster_rcnn`, `retinanet`) is the form for a newcomer, on any
backbone.
"""

from __future__ import annotations

from dataclasses import replace

from sightline.contracts import Entry, Preprocess, PublishedWeights

_FASTER = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks (Ren et al. 2015)"
_RETINA = "Focal Loss for Dense Object Detection (Lin et al. 2017)"
_FASTERS = "sightline.detection.models.faster_rcnn"
_RETINAS = "sightline.detection.models.retinanet"
_TINY_RESNET = {"depths": (1, 1, 1, 1), "width": 8, "channels": 16}
_FEW = {"before": (60, 60), "after": (40, 30), "most": 20}
_TINY_ANCHORS = {"anchors": (8, 16, 32, 64, 128)}
_TORCHVISION = Preprocess(resize="torchvision(800, 1333)", multiple=32)

_WITHIN = Preprocess(resize="within(800, 1333)", multiple=32)


COCO_91 = (
    "__background__", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "N/A", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
    "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "N/A", "backpack", "umbrella", "N/A", "N/A", "handbag",
    "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "N/A", "wine glass", "cup", "fork", "knife", "spoon",
    "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    "chair", "couch", "potted plant", "bed", "N/A", "dining table", "N/A", "N/A", "toilet", "N/A", "tv", "laptop",
    "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "N/A",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The ids 0..90 of COCO as torchvision's files count them, gaps included; the first is the background."""


def _torchvision(
    name: str, file: str, megabytes: float, ap: float, *, background: bool
) -> tuple[PublishedWeights, ...]:
    """torchvision's record; AP (boxes, val2017, in percent) is that of the weights' metadata."""
    return (
        PublishedWeights(
            name=f"{name}_coco",
            url=f"https://download.pytorch.org/models/{file}.pth",
            sha256=file.rsplit("-", 1)[1],
            megabytes=megabytes,
            licence="BSD-3-Clause (torchvision); trained on COCO, whose pictures keep their own terms",
            trained_on="COCO train2017",
            classes=COCO_91 if background else COCO_91[1:],
            scores={"ap": ap},
            origin="torchvision",
        ),
    )


def _faster(name: str, parameters: int, preprocess: Preprocess, tiny: dict, *traits: str) -> Entry:
    return Entry(
        f"{_FASTERS}:{name}", "detection", _FASTER, parameters, preprocess, traits=frozenset(traits), tiny=tiny
    )


def _retina(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    return Entry(f"{_RETINAS}:{name}", "detection", _RETINA, parameters, preprocess, tiny=tiny)


_MILD = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # random weights are no match for values up to 255
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
    "faster_rcnn_detectron2_r50_fpn": _faster(
        "faster_rcnn_detectron2_r50_fpn", 41_699_936, _WITHIN, {**_REGIONS, **_MILD}, "adaptive"
    ),
    "faster_rcnn_detectron2_r50_c4": _faster(
        "faster_rcnn_detectron2_r50_c4",
        33_791_644,
        Preprocess(resize="within(800, 1333)"),
        {"depths": (1, 1, 1, 1), "width": 8, **_TINY_ANCHORS, **_FEW, **_MILD},
        "adaptive",
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
    "retinanet_detectron2_r50_fpn": _retina("retinanet_detectron2_r50_fpn", 37_915_572, _WITHIN, {**_DENSE, **_MILD}),
    "retinanet_mmdet_r50_fpn": _retina("retinanet_mmdet_r50_fpn", 37_968_692, _WITHIN, _DENSE),
}

_FAST = "Fast R-CNN (Girshick 2015)"
_FASTS = "sightline.detection.models.fast_rcnn"
_TINY_FAST = {"propose": "dense", "windows": (8, 16, 32, 64), "hidden": 24, "count": 400, "most": 20}
_LOW = {"canonical": 24}  # so that a small picture has boxes at every level

MODELS |= {
    "fast_rcnn": Entry(
        f"{_FASTS}:fast_rcnn", "detection", _FAST, 40_754_246, Preprocess(multiple=32),
        tiny={"backbone": "mobilenet_v3_small", "channels": 16, **_TINY_FAST, **_LOW},
    ),
    "fast_rcnn_vgg16": Entry(
        f"{_FASTS}:fast_rcnn_vgg16", "detection", _FAST, 134_690_729, Preprocess(resize="within(600, 1000)"),
        tiny={"depths": (1, 1, 1, 1, 1), "width": 6, **_TINY_FAST, **_MILD},
    ),
    "fast_rcnn_detectron2_r50_fpn": Entry(
        f"{_FASTS}:fast_rcnn_detectron2_r50_fpn", "detection", _FAST, 41_106_001, _WITHIN,
        traits=frozenset({"adaptive"}), tiny={**_TINY_RESNET, **_TINY_FAST, **_LOW, **_MILD},
    ),
}  # fmt: skip

MODELS |= {
    "faster_rcnn_fpn_designs": Entry(
        "sightline.detection.models.fpn_designs:faster_rcnn_fpn_designs", "detection",
        "Feature Pyramid Networks for Object Detection (Lin et al. 2016)", 41_348_181, Preprocess(multiple=32),
        tiny=MODELS["faster_rcnn"].tiny,
    ),
}  # fmt: skip

# Single shot: YOLO, SSD -------------------------------------------------------------------------------------------

_YOLO1 = "You Only Look Once: Unified, Real-Time Object Detection (Redmon et al. 2016)"
_YOLO2 = "YOLO9000: Better, Faster, Stronger (Redmon and Farhadi 2017)"
_YOLO3 = "YOLOv3: An Incremental Improvement (Redmon and Farhadi 2018)"
_STRETCHED = Preprocess(resize="exact(448, 448)")
_ANY = Preprocess(resize="long(416)", multiple=32)


def _yolo(version: int, name: str, parameters: int, tiny: dict, module: str = "") -> Entry:
    paper = (_YOLO1, _YOLO2, _YOLO3)[version - 1]
    build = f"sightline.detection.models.{module or f'yolov{version}'}:{name}"
    return Entry(build, "detection", paper, parameters, _STRETCHED if version == 1 else _ANY, tiny=tiny)


_TINY_CFG = """[net]
channels=3
height=64
width=64
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=12
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=20
size=1
activation=linear
[yolo]
mask=0,1
anchors=14,14,30,40
classes=5
num=2
"""

MODELS |= {
    "yolov1": _yolo(1, "yolov1", 197_301_875, {"size": 64, "width": 2, "local": 8, "score": 1e-7}),
    "yolov1_paper": _yolo(1, "yolov1_paper", 271_703_550, {"size": 64, "width": 2, "hidden": 16}),
    "yolov1_tiny": _yolo(1, "yolov1_tiny", 27_095_374, {"size": 128, "width": 2, "score": 1e-7}),
    "yolov2": _yolo(2, "yolov2", 50_655_389, {"width": 2}),
    "yolov2_tiny": _yolo(2, "yolov2_tiny", 11_232_057, {"width": 2, "last": (16, 8)}),
    "yolov3": _yolo(3, "yolov3", 61_949_149, {"width": 2, "depths": (1, 1, 1, 1, 1)}),
    "yolov3_spp": _yolo(3, "yolov3_spp", 62_998_749, {"width": 2, "depths": (1, 1, 1, 1, 1)}),
    "yolov3_tiny": _yolo(3, "yolov3_tiny", 8_852_366, {"width": 2}),
    "yolov3_mmdet": _yolo(3, "yolov3_mmdet", 61_949_149, {"width": 2}, "yolov3_mmdet"),
    "darknet": _yolo(3, "darknet", 8_852_366, {"cfg": _TINY_CFG}),
}

_SSD = "SSD: Single Shot MultiBox Detector (Liu et al. 2016)"
_LITE = "Searching for MobileNetV3 (Howard et al. 2019), SSDLite"
_SSDS = "sightline.detection.models.ssd"
_VGG = {"width": 4, "depths": (1, 1, 1, 1, 1), "before": 20, "most": 20}


def _ssd(name: str, parameters: int, size: int, tiny: dict) -> Entry:
    return Entry(
        f"{_SSDS}:{name}", "detection", _LITE if "lite" in name else _SSD, parameters,
        Preprocess(resize=f"exact({size}, {size})"), traits=frozenset({"hard_negatives"}), tiny=tiny,
    )  # fmt: skip


MODELS |= {
    "ssd": _ssd(
        "ssd", 27_396_376, 320,
        {"backbone": "mobilenet_v3_small", "size": 128, "extras": (16, 16), "before": 20, "most": 20},
    ),
    "ssd300": _ssd("ssd300", 26_285_486, 300, _VGG),
    "ssd512": _ssd("ssd512", 27_188_676, 512, _VGG),
    "ssd300_torchvision": _ssd("ssd300_torchvision", 35_641_826, 300, _VGG),
    "ssd300_mmdet": _ssd("ssd300_mmdet", 34_305_206, 300, _VGG),
    "ssd512_mmdet": _ssd("ssd512_mmdet", 36_038_196, 512, _VGG),
    "ssdlite_torchvision": _ssd(
        "ssdlite_torchvision", 3_440_060, 320,
        {"width": 0.25, "extras": (32, 16, 16, 16), "size": 128, "before": 20, "most": 20},
    ),
}  # fmt: skip

# In stages -------------------------------------------------------------------------------------------------------

_HOG = "sightline.detection.models.hog_svm"

MODELS |= {
    "hog_svm": Entry(
        f"{_HOG}:hog_svm", "detection", "Histograms of Oriented Gradients for Human Detection (Dalal & Triggs 2005)",
        3_781, fit=f"{_HOG}:stages", traits=frozenset({"outside_graph", "head_only"}),
        tiny={"window": (32, 32), "most": 20, "score": 0.1},
    ),
}  # fmt: skip

_DPM = "sightline.detection.models.deformable_parts"

MODELS |= {
    "deformable_parts": Entry(
        f"{_DPM}:deformable_parts", "detection",
        "Object Detection with Discriminatively Trained Part-Based Models (Felzenszwalb et al. 2010)", 11_489,
        fit=f"{_DPM}_stages:stages", traits=frozenset({"outside_graph", "head_only"}),
        tiny={"windows": ((3, 3), (4, 3)), "parts": 2, "part": 3, "interval": 2, "most": 20, "score": 0.1},
    ),
}  # fmt: skip

_RCNN = "Rich Feature Hierarchies for Accurate Object Detection and Semantic Segmentation (Girshick et al. 2014)"
_RCNNS = "sightline.detection.models.rcnn"
_TINY_RCNN = {"propose": "dense", "windows": (24, 48), "hidden": 24, "size": 64, "context": 4, "count": 24, "most": 20}


def _rcnn(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    return Entry(
        f"{_RCNNS}:{name}", "detection", _RCNN, parameters, preprocess, fit=f"{_RCNNS}_stages:stages",
        traits=frozenset({"outside_graph"}), tiny={**_TINY_RCNN, **tiny},
    )  # fmt: skip


MODELS |= {
    "rcnn": _rcnn("rcnn", 43_435_074, Preprocess(), {"backbone": "mobilenet_v3_small", "cells": 2}),
    "rcnn_caffenet": _rcnn(
        "rcnn_caffenet", 56_954_261, Preprocess(resize="within(500, 1000)"), {"widths": (8, 8, 8, 8, 8), "size": 67}
    ),
}

MODELS |= {
    name: replace(
        MODELS[name], weights=_torchvision(name, file, megabytes, ap, background=name.startswith("retinanet"))
    )
    for name, file, megabytes, ap in (
        ("faster_rcnn_torchvision_r50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6", 159.7, 37.0),
        ("faster_rcnn_torchvision_r50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a", 167.1, 46.7),
        ("faster_rcnn_torchvision_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7", 74.2, 32.8),
        ("retinanet_torchvision_r50_fpn", "retinanet_resnet50_fpn_coco-eeacb38b", 130.3, 36.4),
        ("retinanet_torchvision_r50_fpn_v2", "retinanet_resnet50_fpn_v2_coco-5905b1c5", 146.0, 41.5),
    )
}
