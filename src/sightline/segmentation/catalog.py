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

_SEGNET = (
    "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation (Badrinarayanan et al. 2015)"
)
_BAYESIAN = "Bayesian SegNet: Model Uncertainty in Deep Convolutional Encoder-Decoders (Kendall et al. 2015)"
_DECONVNET = "Learning Deconvolution Network for Semantic Segmentation (Noh, Hong & Han 2015)"
_FARABET = "Learning Hierarchical Features for Scene Labeling (Farabet et al. 2013)"
_PINHEIRO = "Recurrent Convolutional Neural Networks for Scene Parsing (Pinheiro & Collobert 2014)"
_SEGNETS = "sightline.segmentation.models.segnet"
_DECONVNETS = "sightline.segmentation.models.deconvnet"
_TINY_DECONVNET = {"width": 2, "hidden": 16, "window": 64}

MODELS |= {
    "segnet": Entry(f"{_SEGNETS}:segnet", "segmentation", _SEGNET, 29_449_355, tiny={"width": 6}),
    "segnet_basic": Entry(
        f"{_SEGNETS}:segnet_basic", "segmentation", _SEGNET, 1_416_587, tiny={"width": 6, "depth": 3}
    ),
    "segnet_semseg": Entry(f"{_SEGNETS}:segnet_semseg", "segmentation", _SEGNET, 29_455_167, tiny={"width": 4}),
    "bayesian_segnet": Entry(
        f"{_SEGNETS}:bayesian_segnet",
        "segmentation",
        _BAYESIAN,
        29_449_355,
        tiny={"width": 6, "dropout": 0.2, "samples": 3},
    ),
    "deconvnet": Entry(
        f"{_DECONVNETS}:deconvnet",
        "segmentation",
        _DECONVNET,
        251_805_653,
        inputs=("images", "proposals"),
        tiny=_TINY_DECONVNET,
    ),
    "deconvnet_ensemble": Entry(
        f"{_DECONVNETS}:deconvnet_ensemble",
        "segmentation",
        _DECONVNET,
        386_295_412,
        inputs=("images", "proposals"),
        tiny=_TINY_DECONVNET,
    ),
    "farabet": Entry(
        "sightline.segmentation.models.farabet:farabet",
        "segmentation",
        _FARABET,
        1_223_566,
        tiny={"maps": (8, 12, 16), "hidden": 16},
    ),
    "pinheiro_rcnn": Entry(
        "sightline.segmentation.models.pinheiro_rcnn:pinheiro_rcnn",
        "segmentation",
        _PINHEIRO,
        98_083,
        tiny={"widths": (6, 8), "instances": 2},
    ),
}

_TRANSUNET = "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation (Chen et al. 2021)"
_TRANSUNETS = "sightline.segmentation.models.transunet"
_TINY_VIT = {"channels": 16, "layers": 2, "heads": 2, "hidden": 32, "head_channels": 12, "decoder": (8, 8, 6, 4)}
_TINY_HYBRID = {**_TINY_VIT, "depths": (1, 1, 2), "width": 4}

MODELS |= {
    "transunet": Entry(
        f"{_TRANSUNETS}:transunet",
        "segmentation",
        _TRANSUNET,
        40_197_026,
        tiny={"backbone": "resnet18", "channels": 16, "layers": 2, "heads": 2, "decoder": (16, 12, 8, 8, 4)},
    ),
    "transunet_r50_vit_b16": Entry(
        f"{_TRANSUNETS}:transunet_r50_vit_b16", "segmentation", _TRANSUNET, 105_277_081, tiny=_TINY_HYBRID
    ),
    "transunet_vit_b16": Entry(
        f"{_TRANSUNETS}:transunet_vit_b16", "segmentation", _TRANSUNET, 91_674_201, tiny=_TINY_VIT
    ),
    "transunet_r50_vit_l16": Entry(
        f"{_TRANSUNETS}:transunet_r50_vit_l16", "segmentation", _TRANSUNET, 324_024_729, tiny=_TINY_HYBRID
    ),
}

_UNET3D = "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation (Cicek et al. 2016)"
_NNUNET = (
    "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation (Isensee et al. 2021)"
)
_SSC = "RGBD Based Dimensional Decomposition Residual Network for 3D Semantic Scene Completion (Li et al. 2019)"
_UNETS3D = "sightline.segmentation.models.unet3d"
_NNUNETS = "sightline.segmentation.models.nnunet"
_VOLUME = Preprocess(intensity="zscore", channels=1, axes=3)
_TINY_NNUNET = {"features": (8, 12, 12, 16), "strides": (1, 2, 2, 2)}

MODELS |= {
    "unet3d": Entry(
        f"{_UNETS3D}:unet3d",
        "segmentation",
        _UNET3D,
        19_069_955,
        _VOLUME,
        traits=frozenset({"volume"}),
        tiny={"width": 4, "pools": (2, (1, 2, 2))},
    ),
    "unet3d_valid": Entry(
        f"{_UNETS3D}:unet3d_valid",
        "segmentation",
        _UNET3D,
        19_069_955,
        _VOLUME,
        traits=frozenset({"volume", "unpadded"}),
        tiny={"width": 4, "depth": 2},
    ),
    "unet3d_wolny": Entry(
        f"{_UNETS3D}:unet3d_wolny",
        "segmentation",
        _UNET3D,
        16_318_756,
        _VOLUME,
        traits=frozenset({"volume"}),
        tiny={"width": 8, "depth": 3, "groups": 4},
    ),
    "nnunet_plain_3d": Entry(
        f"{_NNUNETS}:nnunet_plain_3d",
        "segmentation",
        _NNUNET,
        31_196_399,
        _VOLUME,
        traits=frozenset({"volume", "coarse_aux"}),
        tiny=_TINY_NNUNET,
    ),
    "nnunet_plain_2d": Entry(
        f"{_NNUNETS}:nnunet_plain_2d",
        "segmentation",
        _NNUNET,
        33_474_840,
        Preprocess(intensity="zscore", channels=1),
        traits=frozenset({"coarse_aux"}),
        tiny=_TINY_NNUNET,
    ),
    "ddrnet_ssc": Entry(
        "sightline.segmentation.models.ddrnet_ssc:ddrnet_ssc",
        "segmentation",
        _SSC,
        195_748,
        inputs=("images", "depth", "position"),
        traits=frozenset({"scene"}),
        tiny={"grid": (24, 16, 20), "width": 16},
    ),
}

_ATTENTION = "Attention U-Net: Learning Where to Look for the Pancreas (Oktay et al. 2018)"
_ATTENTIONS = "sightline.segmentation.models.attention_unet"

MODELS |= {
    "attention_unet": Entry(f"{_ATTENTIONS}:attention_unet", "segmentation", _ATTENTION, 34_878_638, tiny={"width": 4}),
    "attention_unet_3d": Entry(
        f"{_ATTENTIONS}:attention_unet_3d",
        "segmentation",
        _ATTENTION,
        6_473_322,
        _VOLUME,
        traits=frozenset({"volume"}),
        tiny={"width": 2},
    ),
    "attention_unet_3d_single": Entry(
        f"{_ATTENTIONS}:attention_unet_3d_single",
        "segmentation",
        _ATTENTION,
        6_214_151,
        _VOLUME,
        traits=frozenset({"volume"}),
        tiny={"width": 2},
    ),
}

_RESUNET_A = (
    "ResUNet-a: a deep learning framework for semantic segmentation of remotely sensed data (Diakogiannis 2020)"
)
_RESUNETS_A = "sightline.segmentation.models.resunet_a"

MODELS |= {
    "resunet_a": Entry(f"{_RESUNETS_A}:resunet_a", "segmentation", _RESUNET_A, 58_033_865, tiny={"width": 4}),
    "resunet_a_d6": Entry(
        f"{_RESUNETS_A}:resunet_a_d6", "segmentation", _RESUNET_A, 58_037_781, Preprocess(channels=5), tiny={"width": 4}
    ),
    "resunet_a_d7": Entry(
        f"{_RESUNETS_A}:resunet_a_d7",
        "segmentation",
        _RESUNET_A,
        184_537_873,
        Preprocess(channels=5),
        tiny={"width": 4},
    ),
}

_RESUNET = "Road Extraction by Deep Residual U-Net (Zhang, Liu & Wang 2018)"

MODELS |= {
    "resunet": Entry(
        "sightline.segmentation.models.resunet:resunet", "segmentation", _RESUNET, 8_216_769, tiny={"width": 4}
    ),
    "unet_phseg_v5": Entry(
        f"{_UNETS}:unet_phseg_v5",
        "segmentation",
        _UNET,
        31_100_354,
        _GREY,
        traits=frozenset({"unpadded"}),
        tiny={"width": 4, "depth": 3},
    ),
    "unet_mmseg": Entry(f"{_UNETS}:unet_mmseg", "segmentation", _UNET, 29_062_886, tiny={"width": 4}),
}
