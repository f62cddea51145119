"""DeepLabv3.

Paper: Rethinking Atrous Convolution for Semantic Image Segmentation (Chen, Papandreou, Schroff & Adam 2017,
arXiv:1706.05587).

The idea: convolutions with holes see far without losing resolution, so the backbone stops shrinking at a stride of 16
or 8. Side by side, holes of several sizes and the mean of the whole picture see each place at several scales (atrous
spatial pyramid pooling). One bilinear step brings the scores to the picture's size.

Letters: B pictures, K classes, C channels, H x W pixels.

- `deeplabv3`, the one to start with: any backbone, output stride 16 (half the memory of 8 and nearly its score), rates
  6, 12, 18 as the paper trains; the rates follow the stride. Dropout of 0.1 as in the authors' release.
- `deeplabv3_torchvision_r50`, `_r101`, `_mobilenet_v3_large`: the public layout of torchvision. Output stride 8, rates
  12, 24, 36 (MobileNet: stride 16 with the same rates), the first dilated unit of a ResNet stage keeps the dilation of
  the stage before it, one more 3x3 convolution before the classifier, dropout 0.5, an auxiliary head on layer3.

Departures: no multi-grid; corners are not aligned when resizing, as torchvision, where the authors align them. With one
picture a batch, the norm after the picture's mean uses its running statistics in training too: one number has no
variance.

Loads: torchvision's segmentation files (`torchvision`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import stage_named
from sightline.backbones.mobilenet_v3 import LARGE, MobileNetV3
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.errors import UsageError
from sightline.nn.aspp import ASPP
from sightline.nn.conv import conv_norm_act
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.segmentation.headed import TORCHVISION, FCNHead, HeadedBackbone

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}

# Parts -----------------------------------------------------------------------------------------------------------


class DeepLabHead(nn.Sequential):
    """ASPP, a 3x3 convolution, the classifier."""

    def __init__(
        self, in_channels: int, num_classes: int, rates: Sequence[int], *, channels: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__(
            ASPP(in_channels, rates, channels=channels, dropout=dropout),
            *conv_norm_act(channels, channels),
            nn.Conv2d(channels, num_classes, 1),
        )


# Builders --------------------------------------------------------------------------------------------------------


def deeplabv3(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    output_stride: int = 16,
    rates: Sequence[int] | None = None,
    channels: int = 256,
    dropout: float = 0.1,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """DeepLabv3 on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). output_stride: 8, 16, or 32 for backbones that cannot dilate. rates: None for those of the output stride.
    """
    if output_stride not in RATES:
        raise UsageError(f"output_stride is {output_stride}, expected 8, 16 or 32")
    net = build_backbone(backbone, in_channels=in_channels, output_stride=output_stride, weights=backbone_weights)
    head = DeepLabHead(
        net.stages[-1].channels, num_classes, rates or RATES[output_stride], channels=channels, dropout=dropout
    )
    return HeadedBackbone(net, head, normalize=Normalize(*for_channels(mean, std, in_channels)))


def deeplabv3_torchvision_r50(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    channels: int = 256,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """torchvision's DeepLabv3 on ResNet-50 (21 classes: 42,004,074 parameters, 39,638,869 without the auxiliary head).

    depths, width: units of the four stages, channels of the first (before expansion). channels: of ASPP.
    """
    backbone = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, output_stride=8)
    return _torchvision(backbone, "layer3", num_classes, in_channels, channels, aux, mean, std)


def deeplabv3_torchvision_r101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    channels: int = 256,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """torchvision's DeepLabv3 on ResNet-101 (21 classes: 60,996,202 parameters, 58,630,997 with one head)."""
    return deeplabv3_torchvision_r50(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        channels=channels,
        aux=aux,
        mean=mean,
        std=std,
    )


def deeplabv3_torchvision_mobilenet_v3_large(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    width: float = 1.0,
    channels: int = 256,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """torchvision's DeepLabv3 on MobileNetV3-Large (21 classes: 11,029,328 parameters, 11,025,477 with one head).

    width: factor on the backbone's channels.
    """
    backbone = MobileNetV3(LARGE, in_channels=in_channels, width=width, output_stride=16)
    return _torchvision(backbone, "features.4", num_classes, in_channels, channels, aux, mean, std)


def _torchvision(
    backbone: ResNet | MobileNetV3,
    aux_stage: str,
    num_classes: int,
    in_channels: int,
    channels: int,
    aux: bool,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> HeadedBackbone:
    return HeadedBackbone(
        backbone,
        DeepLabHead(backbone.stages[-1].channels, num_classes, RATES[8], channels=channels),
        aux=aux_stage if aux else None,
        aux_classifier=FCNHead(stage_named(backbone.stages, aux_stage).channels, num_classes) if aux else None,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (TORCHVISION,)
