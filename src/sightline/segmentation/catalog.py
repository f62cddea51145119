"""The segmentation room's table of contents: names, and strings that say where each network is built. Imports no torch.

Entry names are paper, source, size. A plain name (`unet`, `deeplabv3`) is the form for a newcomer, on any backbone.
"""

from __future__ import annotations

from sightline.contracts import Entry, Preprocess, PublishedWeights

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _coco(name: str, file: str, megabytes: float, miou: float, accuracy: float) -> PublishedWeights:
    """torchvision's record; its scores are those of the weights' metadata, in percent."""
    return PublishedWeights(
        name=name,
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256=file.rsplit("-", 1)[1],
        megabytes=megabytes,
        licence="BSD-3-Clause (torchvision); trained on COCO, whose pictures keep their own terms",
        trained_on="COCO train2017, the pictures with the 20 classes of Pascal VOC",
        classes=VOC,
        scores={"dataset_miou": miou, "pixel_accuracy": accuracy},
        origin="torchvision",
    )


_UNET = "U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al. 2015)"
_FCN = "Fully Convolutional Networks for Semantic Segmentation (Long, Shelhamer & Darrell 2015)"
_DEEPLAB = "Rethinking Atrous Convolution for Semantic Image Segmentation (Chen et al. 2017)"
_PLUS = "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation (Chen et al. 2018)"
_PSPNET = "Pyramid Scene Parsing Network (Zhao et al. 2016)"
_UNETS = "sightline.segmentation.models.unet"
_FCNS = "sightline.segmentation.models.fcn"
_DEEPLABS = "sightline.segmentation.models.deeplabv3"
_PLUSES = "sightline.segmentation.models.deeplabv3plus"
_PSPNETS = "sightline.segmentation.models.pspnet"
_TINY_VGG = {"widths": (4, 6, 8, 8, 8), "hidden": 12}
_TINY_RESNET = {"depths": (1, 1, 2, 1), "width": 8}
_TINY_XCEPTION = {"widths": (4, 6, 8, 8, 12, 12, 14, 16), "middle": 2}
_GREY = Preprocess(channels=1)
_SHORT_520 = Preprocess(resize="short(520)")

MODELS: dict[str, Entry] = {
    "unet": Entry(f"{_UNETS}:unet", "segmentation", _UNET, 7_849_634, tiny={"width": 4, "depth": 4}),
    "unet_valid": Entry(
        f"{_UNETS}:unet_valid",
        "segmentation",
        _UNET,
        31_030_658,
        _GREY,
        traits=frozenset({"unpadded"}),
        tiny={"width": 4, "depth": 3},
    ),
    "unet_same": Entry(f"{_UNETS}:unet_same", "segmentation", _UNET, 31_037_698, tiny={"width": 4, "depth": 4}),
    "unet_same_bilinear": Entry(
        f"{_UNETS}:unet_same_bilinear", "segmentation", _UNET, 17_263_042, tiny={"width": 4, "depth": 4}
    ),
    "fcn32s": Entry(f"{_FCNS}:fcn32s", "segmentation", _FCN, 136_152_917, tiny=_TINY_VGG),
    "fcn16s": Entry(f"{_FCNS}:fcn16s", "segmentation", _FCN, 134_815_994, tiny=_TINY_VGG),
    "fcn8s": Entry(f"{_FCNS}:fcn8s", "segmentation", _FCN, 134_489_759, tiny=_TINY_VGG),
    "fcn8s_atonce": Entry(f"{_FCNS}:fcn8s_atonce", "segmentation", _FCN, 134_489_759, tiny=_TINY_VGG),
    "fcn_torchvision_r50": Entry(
        f"{_FCNS}:fcn_torchvision_r50",
        "segmentation",
        _FCN,
        35_322_218,
        _SHORT_520,
        weights=(_coco("fcn_torchvision_r50_coco", "fcn_resnet50_coco-1167a1af", 135.0, 60.5, 91.4),),
        tiny=_TINY_RESNET,
    ),
    "fcn_torchvision_r101": Entry(
        f"{_FCNS}:fcn_torchvision_r101",
        "segmentation",
        _FCN,
        54_314_346,
        _SHORT_520,
        weights=(_coco("fcn_torchvision_r101_coco", "fcn_resnet101_coco-7ecb50ca", 207.7, 63.7, 91.9),),
        tiny=_TINY_RESNET,
    ),
    "deeplabv3": Entry(
        f"{_DEEPLABS}:deeplabv3",
        "segmentation",
        _DEEPLAB,
        39_633_986,
        tiny={"backbone": "mobilenet_v3_small", "channels": 16},
    ),
    "deeplabv3_torchvision_r50": Entry(
        f"{_DEEPLABS}:deeplabv3_torchvision_r50",
        "segmentation",
        _DEEPLAB,
        42_004_074,
        _SHORT_520,
        weights=(_coco("deeplabv3_torchvision_r50_coco", "deeplabv3_resnet50_coco-cd0a2569", 160.5, 66.4, 92.4),),
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3_torchvision_r101": Entry(
        f"{_DEEPLABS}:deeplabv3_torchvision_r101",
        "segmentation",
        _DEEPLAB,
        60_996_202,
        _SHORT_520,
        weights=(_coco("deeplabv3_torchvision_r101_coco", "deeplabv3_resnet101_coco-586e9e4e", 233.2, 67.4, 92.4),),
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3_torchvision_mobilenet_v3_large": Entry(
        f"{_DEEPLABS}:deeplabv3_torchvision_mobilenet_v3_large",
        "segmentation",
        _DEEPLAB,
        11_029_328,
        _SHORT_520,
        weights=(
            _coco(
                "deeplabv3_torchvision_mobilenet_v3_large_coco",
                "deeplabv3_mobilenet_v3_large-fc3c493d",
                42.3,
                60.3,
                91.2,
            ),
        ),
        tiny={"width": 0.25, "channels": 16},
    ),
    "deeplabv3plus": Entry(
        f"{_PLUSES}:deeplabv3plus",
        "segmentation",
        _PLUS,
        26_691_250,
        tiny={"backbone": "mobilenet_v3_small", "channels": 16},
    ),
    "deeplabv3plus_google_xception65": Entry(
        f"{_PLUSES}:deeplabv3plus_google_xception65",
        "segmentation",
        _PLUS,
        41_055_413,
        tiny={**_TINY_XCEPTION, "channels": 16},
    ),
    "deeplabv3plus_vainf_r50": Entry(
        f"{_PLUSES}:deeplabv3plus_vainf_r50",
        "segmentation",
        _PLUS,
        39_761_845,
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3plus_vainf_r101": Entry(
        f"{_PLUSES}:deeplabv3plus_vainf_r101",
        "segmentation",
        _PLUS,
        58_753_973,
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3plus_jfzhang95_r101": Entry(
        f"{_PLUSES}:deeplabv3plus_jfzhang95_r101",
        "segmentation",
        _PLUS,
        59_344_309,
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3plus_smp_r50": Entry(
        f"{_PLUSES}:deeplabv3plus_smp_r50",
        "segmentation",
        _PLUS,
        26_682_725,
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "deeplabv3plus_smp_r101": Entry(
        f"{_PLUSES}:deeplabv3plus_smp_r101",
        "segmentation",
        _PLUS,
        45_674_853,
        tiny={**_TINY_RESNET, "channels": 16},
    ),
    "pspnet": Entry(
        f"{_PSPNETS}:pspnet",
        "segmentation",
        _PSPNET,
        48_943_172,
        tiny={"backbone": "mobilenet_v3_small", "channels": 16},
    ),
    "pspnet50": Entry(
        f"{_PSPNETS}:pspnet50", "segmentation", _PSPNET, 49_180_908, tiny={**_TINY_RESNET, "channels": 16}
    ),
    "pspnet101": Entry(
        f"{_PSPNETS}:pspnet101", "segmentation", _PSPNET, 68_073_706, tiny={**_TINY_RESNET, "channels": 16}
    ),
}
