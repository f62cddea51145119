"""FCN, fully convolutional networks.

Papers: Fully Convolutional Networks for Semantic Segmentation (Long, Shelhamer & Darrell 2015, arXiv:1411.4038;
Shelhamer, Long & Darrell 2017, arXiv:1605.06211).

The idea: a classifier's last layers are convolutions in disguise, so a network trained to name pictures can score every
place of a picture of any size at once. Its coarse score map is brought back to the picture's size by transposed
convolutions that start as bilinear interpolation. Scores of earlier, finer pools are added on the way (32s: none,
16s: pool4, 8s: pool4 and pool3).

Letters: B pictures, K classes, H x W pixels.

- `fcn32s`, `fcn16s`, `fcn8s`, `fcn8s_atonce`: VGG16 as published: the first convolution padded by 100, pools that round
  up, score maps cropped at 5, 9, 19, 27 or 31. Pictures come as RGB in [0, 1]; the 0..255 BGR with the mean taken off
  that the weights want is made inside. `atonce` trains all skips together and scales pool4 by 0.01, pool3 by 0.0001.
- `fcn_torchvision_r50`, `fcn_torchvision_r101`: a ResNet of output stride 8, a 3x3 and a 1x1 convolution, resized
  bilinearly; an auxiliary head on layer3.

Departures: fresh VGG weights are drawn by He's rule (the public port starts them at zero and waits for ImageNet's), the
score layers start at zero as published. The up-convolutions learn (the reference release holds them fixed):
`learn_upsampling=False` fixes them. Dropout drops single elements as Caffe does, where the port drops channels.

Loads: wkentaro/pytorch-fcn and the converted Caffe files (`pytorch-fcn`), torchvision's VGG16 classifier as the start
(`torchvision-vgg16`), torchvision's segmentation files (`torchvision`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.backbones.contract import stage_named
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.backbones.vgg import VGG
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.transposed import bilinear_kernel
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.headed import TORCHVISION, FCNHead, HeadedBackbone
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import Transform

CAFFE_MEAN = (122.67892 / 255, 116.66877 / 255, 104.00699 / 255)  # RGB
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)

# FCN of VGG16 ----------------------------------------------------------------------------------------------------


def upsampling(num_classes: int, kernel: int, stride: int) -> nn.ConvTranspose2d:
    """A transposed convolution over the score maps, without padding or bias, that starts as bilinear interpolation."""
    layer = nn.ConvTranspose2d(num_classes, num_classes, kernel, stride, bias=False)
    with torch.no_grad():
        layer.weight.copy_(bilinear_kernel(num_classes, num_classes, kernel))
    return layer


def score_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution to class scores that starts at zero."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def crop(x: Tensor, offset: int, size: Sequence[int]) -> Tensor:
    """`(B, C, *size)` of `(B, C, H, W)` from row and column `offset` on."""
    return x.narrow(2, offset, size[0]).narrow(3, offset, size[1])


class FCN(nn.Module):
    """FCN-32s, -16s or -8s on a VGG.

    stride: 32, 16 or 8, the step of the finest scores. hidden: channels of fc6 and fc7. pool_scales: factors on pool4
    and pool3 before they are scored.
    """

    HEAD = ("score_fr.", "score_pool4.", "score_pool3.", "upscore")
    STEM = ("backbone.features.0.weight",)

    def __init__(
        self,
        backbone: VGG,
        num_classes: int,
        *,
        stride: int,
        hidden: int = 4096,
        dropout: float = 0.5,
        pool_scales: tuple[float, float] = (1.0, 1.0),
        learn_upsampling: bool = True,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.pool_scales = pool_scales
        self.criterion = criterion or Criterion()
        channels = {stage.name: stage.channels for stage in backbone.stages}
        self.fc6 = nn.Conv2d(channels["pool5"], hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = score_layer(hidden, num_classes)
        self.score_pool4 = score_layer(channels["pool4"], num_classes) if stride <= 16 else None
        self.score_pool3 = score_layer(channels["pool3"], num_classes) if stride <= 8 else None
        self.upscore2 = upsampling(num_classes, 4, 2) if stride <= 16 else None
        self.upscore_pool4 = upsampling(num_classes, 4, 2) if stride <= 8 else None
        self.last, self.offset = {32: ("upscore", 19), 16: ("upscore16", 27), 8: ("upscore8", 31)}[stride]
        self.add_module(self.last, upsampling(num_classes, 2 * stride, stride))
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                layer.requires_grad_(learn_upsampling)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        maps = self.backbone(self.normalize(images, sizes))
        x = self.dropout(self.relu(self.fc6(maps["pool5"])))
        x = self.score_fr(self.dropout(self.relu(self.fc7(x))))
        if self.score_pool4 is not None and self.upscore2 is not None:
            x = self.upscore2(x)
            x = x + crop(self.score_pool4(maps["pool4"] * self.pool_scales[0]), 5, x.shape[-2:])
        if self.score_pool3 is not None and self.upscore_pool4 is not None:
            x = self.upscore_pool4(x)
            x = x + crop(self.score_pool3(maps["pool3"] * self.pool_scales[1]), 9, x.shape[-2:])
        return Scores(crop(self.get_submodule(self.last)(x), self.offset, images.shape[-2:]))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def fcn32s(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    dropout: float = 0.5,
    learn_upsampling: bool = True,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> FCN:
    """FCN-32s on VGG16 (21 classes: 136,152,917 parameters).

    widths: channels of VGG's five groups. hidden: channels of fc6 and fc7. mean, std: in RGB order for [0, 1], None
    passes pictures through; three channels are swapped to BGR in any case unless mean is None.
    """
    return _fcn(32, (1.0, 1.0), num_classes, in_channels, widths, hidden, dropout, learn_upsampling, mean, std)


def fcn16s(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    dropout: float = 0.5,
    learn_upsampling: bool = True,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> FCN:
    """FCN-16s on VGG16 (21 classes: 134,815,994 parameters); arguments as `fcn32s`."""
    return _fcn(16, (1.0, 1.0), num_classes, in_channels, widths, hidden, dropout, learn_upsampling, mean, std)


def fcn8s(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    dropout: float = 0.5,
    learn_upsampling: bool = True,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> FCN:
    """FCN-8s on VGG16, its skips added one stage of training after the other (21 classes: 134,489,759 parameters)."""
    return _fcn(8, (1.0, 1.0), num_classes, in_channels, widths, hidden, dropout, learn_upsampling, mean, std)


def fcn8s_atonce(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    dropout: float = 0.5,
    pool_scales: tuple[float, float] = (0.01, 0.0001),
    learn_upsampling: bool = True,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> FCN:
    """FCN-8s trained in one go: pool4 and pool3 times `pool_scales` (21 classes: 134,489,759 parameters)."""
    return _fcn(8, pool_scales, num_classes, in_channels, widths, hidden, dropout, learn_upsampling, mean, std)


def _fcn(
    stride: int,
    pool_scales: tuple[float, float],
    num_classes: int,
    in_channels: int,
    widths: Sequence[int],
    hidden: int,
    dropout: float,
    learn_upsampling: bool,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> FCN:
    mean, std = for_channels(mean, std, in_channels)
    return FCN(
        VGG(in_channels=in_channels, widths=widths, first_padding=100, ceil=True),
        num_classes,
        stride=stride,
        hidden=hidden,
        dropout=dropout,
        pool_scales=(pool_scales[0], pool_scales[1]),
        learn_upsampling=learn_upsampling,
        normalize=Normalize(mean, std, bgr=mean is not None and in_channels == 3),
    )


def fcn_torchvision_r50(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """torchvision's FCN on ResNet-50 (21 classes: 35,322,218 parameters, 32,957,013 without the auxiliary head).

    depths, width: units of the four stages, channels of the first (before expansion). aux: a second head on layer3.
    """
    backbone = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, output_stride=8)
    layer3, layer4 = (stage_named(backbone.stages, name).channels for name in ("layer3", "layer4"))
    return HeadedBackbone(
        backbone,
        FCNHead(layer4, num_classes),
        aux="layer3" if aux else None,
        aux_classifier=FCNHead(layer3, num_classes) if aux else None,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def fcn_torchvision_r101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> HeadedBackbone:
    """torchvision's FCN on ResNet-101 (21 classes: 54,314,346 parameters, 51,949,141 without the auxiliary head)."""
    return fcn_torchvision_r50(
        num_classes, in_channels=in_channels, depths=depths, width=width, aux=aux, mean=mean, std=std
    )


# Public names ----------------------------------------------------------------------------------------------------

VGG16_CONVS = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21,
    "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip

AS_CONVOLUTION = Transform(
    "dense layer as a convolution",
    lambda tensors, shapes: [tensor.reshape(*shape) for tensor, shape in zip(tensors, shapes)],
    lambda tensors, count: [tensor.flatten(1) for tensor in tensors],
)

KEY_MAPS = (
    KeyMap(
        "pytorch-fcn",
        (
            *((f"{name}.{{rest}}", f"backbone.features.{i}.{{rest}}") for name, i in VGG16_CONVS.items()),
            ("fc{i}.{rest}", "fc{i}.{rest}"),
            ("score_{rest}", "score_{rest}"),
            ("upscore{rest}", "upscore{rest}"),
        ),
        words="wkentaro/pytorch-fcn and the Caffe files converted for it",
    ),
    KeyMap(
        "torchvision-vgg16",
        (
            ("features.{rest}", "backbone.features.{rest}"),
            ("classifier.0.weight", "fc6.weight", AS_CONVOLUTION),
            ("classifier.0.bias", "fc6.bias"),
            ("classifier.3.weight", "fc7.weight", AS_CONVOLUTION),
            ("classifier.3.bias", "fc7.bias"),
        ),
        ignore=("classifier.6.*",),
        words="torchvision's VGG16 of ImageNet: everything but the score layers, so load it with strict=False",
    ),
    TORCHVISION,
)
