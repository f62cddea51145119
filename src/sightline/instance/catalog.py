"""The instance room's table of contents: names, and strings that say where each network is built. Imports no torch.

Entry names are paper, source, size. A plain name (`mask_rcnn`, `yolact`, ...) is the form for a newcomer, on any
backbone.
"""

from __future__ import annotations

from sightline.contracts import Entry, Preprocess

_MASK = "Mask R-CNN (He et al. 2017)"
_MASKS = "sightline.instance.models.mask_rcnn"
_TINY_RESNET = {"depths": (1, 1, 1, 1), "width": 8}
_REGIONS = {"anchors": (8, 16, 32, 64, 128), "before": (60, 60), "after": (40, 30), "most": 20}
_HEADS = {"channels": 16, "hidden": 24}
_TORCHVISION = Preprocess(resize="torchvision(800, 1333)", multiple=32)
_WITHIN = Preprocess(resize="within(800, 1333)", multiple=32)
_MULTIPLE = Preprocess(multiple=32)


def _mask(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    adaptive = "detectron2" in name or "mmdet" in name  # as many samples a bin as it has cells
    traits = frozenset({"adaptive"} if adaptive else ())
    return Entry(f"{_MASKS}:{name}", "instance", _MASK, parameters, preprocess, traits=traits, tiny=tiny)


_STRETCHED = Preprocess(resize="exact(550, 550)")


def _yolact(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    paper = "YOLACT: Real-time Instance Segmentation (Bolya et al. 2019)"
    return Entry(f"sightline.instance.models.yolact:{name}", "instance", paper, parameters, preprocess, tiny=tiny)


def _solo(place: str, parameters: int, tiny: dict) -> Entry:
    first = "SOLO: Segmenting Objects by Locations (Wang et al. 2019)"
    second = "SOLOv2: Dynamic and Fast Instance Segmentation (Wang et al. 2020)"
    preprocess = _WITHIN if "mmdet" in place else _MULTIPLE
    return Entry(
        f"sightline.instance.models.{place}",
        "instance",
        second if "v2" in place else first,
        parameters,
        preprocess,
        traits=frozenset({"no_boxes"}),
        tiny=tiny,
    )


def _adaptis(name: str) -> Entry:
    return Entry(
        f"sightline.instance.models.adaptis:{name}",
        "instance",
        "AdaptIS: Adaptive Instance Selection Network (Sofiiuk et al. 2019)",
        6_775_977,
        traits=frozenset({"points", "no_boxes"}),
        tiny={"width": 8, "widest": 16, "depth": 2, "tried": 12, "most": 8},
    )


def _polar(name: str, parameters: int, preprocess: Preprocess, tiny: dict) -> Entry:
    paper = "PolarMask: Single Shot Instance Segmentation with Polar Representation (Xie et al. 2019)"
    return Entry(f"sightline.instance.models.polarmask:{name}", "instance", paper, parameters, preprocess, tiny=tiny)


_SMALL = {"backbone": "mobilenet_v3_small", "channels": 16}
_PROTOTYPES = {"channels": 16, "prototypes": 4, "mask_channels": 8, "anchors": (8, 16, 32, 64, 128), "most": 20}
_GRIDS = {
    "channels": 16,
    "grids": (8, 8, 6, 4, 4),
    "ranges": ((1, 24), (12, 48), (24, 96), (48, 192), (96, 512)),
    "most": 20,
}
_DENSE = {"depth": 2, "before": 40, "most": 20}
_SMALL_DENSE = {**_SMALL, **_DENSE, "channels": 48}  # a group norm of one channel refuses one place of one picture
_HEAD = {"head_width": 8, "head_depth": 2}
_FORM = {**_TINY_RESNET, **_HEADS, **_REGIONS, "mask_channels": 8}
_JOINTS = {**_TINY_RESNET, **_HEADS, **_REGIONS, "joint_channels": 8, "joint_depth": 2}
_ANY = {"backbone": "mobilenet_v3_small", **_HEADS, **_REGIONS}

MODELS: dict[str, Entry] = {
    "mask_rcnn": _mask("mask_rcnn", 43_971_158, _MULTIPLE, {**_ANY, "mask_channels": 8}),
    "mask_rcnn_torchvision_r50_fpn": _mask(
        "mask_rcnn_torchvision_r50_fpn", 44_401_393, _TORCHVISION, {**_FORM, "norm_eps": 1e-5}
    ),
    "mask_rcnn_torchvision_r50_fpn_v2": _mask("mask_rcnn_torchvision_r50_fpn_v2", 46_359_409, _TORCHVISION, _FORM),
    "mask_rcnn_torchvision_x101_32x8d_fpn": _mask(
        "mask_rcnn_torchvision_x101_32x8d_fpn", 107_485_937, _TORCHVISION, {**_FORM, "groups": 4, "width_per_group": 16}
    ),
    "mask_rcnn_detectron2_r50_fpn": _mask("mask_rcnn_detectron2_r50_fpn", 44_343_216, _WITHIN, _FORM),
    "mask_rcnn_detectron2_r50_c4": _mask(
        "mask_rcnn_detectron2_r50_c4",
        35_909_612,
        Preprocess(resize="within(800, 1333)"),
        {**_TINY_RESNET, **_REGIONS, "mask_channels": 8},
    ),
    "mask_rcnn_mmdet_r50_fpn": _mask("mask_rcnn_mmdet_r50_fpn", 44_396_336, _WITHIN, _FORM),
    "keypoint_rcnn": _mask(
        "keypoint_rcnn", 59_186_278, _MULTIPLE, {**_ANY, "joint_channels": 8, "joint_depth": 2, "joints": 3}
    ),
    "keypoint_rcnn_torchvision_r50_fpn": _mask(
        "keypoint_rcnn_torchvision_r50_fpn", 59_137_258, _TORCHVISION, {**_JOINTS, "norm_eps": 1e-5}
    ),
    "keypoint_rcnn_detectron2_r50_fpn": _mask("keypoint_rcnn_detectron2_r50_fpn", 59_133_158, _WITHIN, _JOINTS),
    "yolact": _yolact("yolact", 30_598_355, _MULTIPLE, {**_SMALL, **_PROTOTYPES}),
    "yolact_r50": _yolact("yolact_r50", 31_164_943, _STRETCHED, {**_TINY_RESNET, **_PROTOTYPES}),
    "yolact_mmdet_r50": _yolact("yolact_mmdet_r50", 35_293_711, _STRETCHED, {**_TINY_RESNET, **_PROTOTYPES}),
    "solo": _solo("solo:solo", 36_119_137, {**_SMALL, **_GRIDS, "width": 8, "depth": 2}),
    "solo_mmdet_r50": _solo("solo:solo_mmdet_r50", 36_301_232, {**_TINY_RESNET, **_GRIDS, **_HEAD}),
    "decoupled_solo": _solo("solo:decoupled_solo", 39_846_465, {**_SMALL, **_GRIDS, "width": 8, "depth": 2}),
    "decoupled_solo_mmdet_r50": _solo("solo:decoupled_solo_mmdet_r50", 40_028_560, {**_TINY_RESNET, **_GRIDS, **_HEAD}),
    "solov2": _solo(
        "solov2:solov2", 46_228_801, {**_SMALL, **_GRIDS, "width": 8, "depth": 2, "features": 8, "kernels": 8}
    ),
    "solov2_mmdet_r50": _solo(
        "solov2:solov2_mmdet_r50", 46_592_912, {**_TINY_RESNET, **_GRIDS, **_HEAD, "features": 8, "kernels": 8}
    ),
    "adaptis": _adaptis("adaptis"),
    "adaptis_toy": _adaptis("adaptis_toy"),
    "polarmask": _polar("polarmask", 34_557_556, _MULTIPLE, _SMALL_DENSE),
    "polarmask_r50": _polar("polarmask_r50", 34_739_651, _WITHIN, {**_TINY_RESNET, "channels": 48, **_DENSE}),
    "embedding": Entry(
        "sightline.instance.models.embedding:embedding",
        "instance",
        "Semantic Instance Segmentation with a Discriminative Loss Function (De Brabandere et al. 2017)",
        24_887_114,
        _MULTIPLE,
        traits=frozenset({"no_boxes"}),
        tiny={**_SMALL, "most": 8, "rounds": 2, "smallest": 1},
    ),
}
