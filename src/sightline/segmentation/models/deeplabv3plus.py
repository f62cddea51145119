"""DeepLabv3+.

Paper: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation (Chen, Zhu, Papandreou, Schroff
& Adam 2018, arXiv:1802.02611).

The idea: DeepLabv3 knows what is there but draws coarse outlines, since its map is a sixteenth of the picture. A small
decoder brings that map to a quarter, joins an early map of few channels that still knows edges, and refines both.
Convolutions that filter a channel at a time, then mix, keep the price low.

Letters: B pictures, K classes, C channels, H x W pixels.

The name alone does not fix the network; these are the forms people have weights of:

| entry                             | pyramid                               | after joining         | resizing      |
|-----------------------------------|---------------------------------------|-----------------------|---------------|
| `deeplabv3plus`                   | separable, dropout 0.1                | two separable 3x3     | pixel centres |
| `deeplabv3plus_google_xception65` | separable, dropout 0.1                | two separable 3x3     | corners       |
| `deeplabv3plus_vainf_*`           | full, dropout 0.1                     | one full 3x3          | pixel centres |
| `deeplabv3plus_jfzhang95_r101`    | full, dropout 0.5, multi-grid 1, 2, 4 | two full 3x3, dropout | corners       |
| `deeplabv3plus_smp_*`             | separable, dropout 0.5, one more 3x3  | one separable 3x3     | corners       |

`deeplabv3plus` is the one to start with: the paper's head on any backbone, so that ImageNet weights exist for it. Its
separable convolutions need a third of the multiplications of the full ones, resizing by pixel centres fits
backbones trained elsewhere and takes pictures of any size without padding, and the rates follow the output stride
(6, 12, 18 at 16).

Where the others differ further. Google: Xception-65 with the early map inside its second module, pictures in [-1, 1].
VainF: a torchvision ResNet. jfzhang95 and smp: the first dilated unit already has the new dilation. smp: rates 12, 24,
36 at output stride 16, where the paper has 6, 12, 18; nothing between the two parts of a separable convolution. All
take `output_stride` 8 as well, with the rates of their source.

Sizes: any. With corners aligned, Google's form asks for 16 n + 1 pixels a side and smp's for 16 n; other pictures are
padded with the mean at the bottom and right and their scores cropped. jfzhang95's stretches its maps, as published.

Departures: with one picture a batch, the norm after the picture's mean uses its running statistics in training too.
The map of the picture's mean and the early map stand last in every concatenation; the key maps move the channels of
sources that have them first.

Published (not measured here): Google 82.2 mIoU on VOC val, 78.8 on Cityscapes val; VainF VOC 77.2 (50), 78.3 (101), on
centre crops; jfzhang95 VOC 78.4.

Loads: `google` (the variables of the TensorFlow checkpoint, as .npz), `vainf`, `jfzhang95`, `smp`. mmsegmentation's
form (512 channels, another stem) is not here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import Backbone, deepest_at_each_stride, stage_named
from sightline.backbones.resnet import Bottleneck, ResNet
from sightline.backbones.xception import WIDTHS, Xception
from sightline.errors import UsageError
from sightline.nn.aspp import ASPP
from sightline.nn.conv import conv_norm_act, separable_conv
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.resize import Rule, pad_to_multiple, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap, Row
from sightline.weights.transforms import HWIO, chain, depthwise, reordered, rolled

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
LOW = 48  # channels of the early map once narrowed
HALF = (0.5, 0.5, 0.5)

# Parts -----------------------------------------------------------------------------------------------------------


def separable(in_channels: int, out_channels: int, rate: int) -> nn.Module:
    """A separable 3x3 with holes, norm and ReLU after both of its parts (Google)."""
    return separable_conv(in_channels, out_channels, dilation=rate)


def separable_bare(in_channels: int, out_channels: int, rate: int) -> nn.Sequential:
    """A separable 3x3 with holes, norm and ReLU once, after both parts (smp)."""
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, 1, rate, dilation=rate, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Decoder(nn.Module):
    """Joins the deep map with an early one, narrowed to 48 channels, and refines them.

    low_channels: of the early map. fuse: what refines `channels + 48` channels.
    """

    def __init__(self, low_channels: int, fuse: nn.Module, *, rule: Rule) -> None:
        super().__init__()
        self.low = conv_norm_act(low_channels, LOW, 1)
        self.fuse = fuse
        self.rule: Rule = rule

    def forward(self, deep: Tensor, low: Tensor) -> Tensor:
        """`(B, C, h, w)` and `(B, low, H, W)` to `(B, channels, H, W)`."""
        low = self.low(low)
        return self.fuse(torch.cat([resize(deep, low.shape[-2:], rule=self.rule), low], dim=1))


# Network ---------------------------------------------------------------------------------------------------------


class DeepLabV3Plus(nn.Module):
    """Backbone, pyramid, decoder, classifier.

    low: the name of the stage the decoder joins. channels: what the decoder gives. grid: (multiple, plus) of the sides
    the network wants, to which pictures are padded; None takes them as they are.
    """

    HEAD = ("classifier.",)

    def __init__(
        self,
        backbone: Backbone,
        aspp: nn.Module,
        decoder: Decoder,
        num_classes: int,
        *,
        low: str,
        channels: int = 256,
        grid: tuple[int, int] | None = None,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.aspp = aspp
        self.decoder = decoder
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.low = low
        self.grid = grid
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        x = self.normalize(images, sizes)
        if self.grid is not None:
            x, _ = pad_to_multiple(x, self.grid[0], plus=self.grid[1])
        maps = self.backbone(x)
        y = self.decoder(self.aspp(maps[self.backbone.stages[-1].name]), maps[self.low])
        logits = resize(self.classifier(y), x.shape[-2:], rule=self.decoder.rule)
        return Scores(logits if self.grid is None else top_left(logits, images.shape[-2:]))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def deeplabv3plus(
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
) -> DeepLabV3Plus:
    """DeepLabv3+ on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). output_stride: 8, 16, or 32 for backbones that cannot dilate. rates: None for those of the output stride.
    The decoder joins the deepest stage of stride 4.
    """
    rates = rates or _rates(output_stride)
    net = build_backbone(backbone, in_channels=in_channels, output_stride=output_stride, weights=backbone_weights)
    low = next((stage for stage in deepest_at_each_stride(net.stages) if stage.stride >= 4), net.stages[0])
    return DeepLabV3Plus(
        net,
        ASPP(net.stages[-1].channels, rates, channels=channels, dropout=dropout, atrous=separable),
        Decoder(low.channels, _two_separable(channels), rule="half_pixel"),
        num_classes,
        low=low.name,
        channels=channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def deeplabv3plus_google_xception65(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = WIDTHS,
    middle: int = 16,
    output_stride: int = 16,
    channels: int = 256,
    dropout: float = 0.1,
    mean: Sequence[float] | None = HALF,
    std: Sequence[float] | None = HALF,
) -> DeepLabV3Plus:
    """Google's DeepLabv3+ on Xception-65 (21 classes: 41,055,413 parameters).

    widths, middle: of the backbone, see `sightline.backbones.xception`. output_stride: 8 or 16, the rates follow.
    """
    net = Xception(in_channels=in_channels, widths=widths, middle=middle, output_stride=output_stride)
    deep, low = net.stages[-1], stage_named(net.stages, "low")
    return DeepLabV3Plus(
        net,
        ASPP(deep.channels, _rates(output_stride), channels=channels, dropout=dropout, atrous=separable),
        Decoder(low.channels, _two_separable(channels), rule="align_corners"),
        num_classes,
        low=low.name,
        channels=channels,
        grid=(deep.stride, 1),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def deeplabv3plus_vainf_r50(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    output_stride: int = 16,
    channels: int = 256,
    dropout: float = 0.1,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DeepLabV3Plus:
    """VainF's DeepLabv3+ on ResNet-50 (21 classes: 39,761,845 parameters).

    depths, width: units of the four stages, channels of the first (before expansion). output_stride: 8 or 16.
    """
    net = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, output_stride=output_stride)
    low = stage_named(net.stages, "layer1")
    return DeepLabV3Plus(
        net,
        ASPP(net.stages[-1].channels, _rates(output_stride), channels=channels, dropout=dropout),
        Decoder(low.channels, conv_norm_act(channels + LOW, channels), rule="half_pixel"),
        num_classes,
        low=low.name,
        channels=channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def deeplabv3plus_vainf_r101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    output_stride: int = 16,
    channels: int = 256,
    dropout: float = 0.1,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DeepLabV3Plus:
    """VainF's DeepLabv3+ on ResNet-101 (21 classes: 58,753,973 parameters)."""
    return deeplabv3plus_vainf_r50(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        output_stride=output_stride,
        channels=channels,
        dropout=dropout,
        mean=mean,
        std=std,
    )


def deeplabv3plus_jfzhang95_r101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 2, 4),
    channels: int = 256,
    dropout: tuple[float, float, float] = (0.5, 0.5, 0.1),
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DeepLabV3Plus:
    """jfzhang95's DeepLabv3+ on ResNet-101 (21 classes: 59,344,309 parameters).

    multi_grid: factors on the dilation of layer4's units. dropout: after the pyramid and after each convolution of the
    decoder. output_stride: 8 or 16.
    """
    net = ResNet(
        Bottleneck,
        depths,
        in_channels=in_channels,
        width=width,
        output_stride=output_stride,
        contract=False,
        multi_grid=multi_grid,
    )
    low = stage_named(net.stages, "layer1")
    fuse = nn.Sequential(
        *conv_norm_act(channels + LOW, channels),
        nn.Dropout(dropout[1]),
        *conv_norm_act(channels, channels),
        nn.Dropout(dropout[2]),
    )
    return DeepLabV3Plus(
        net,
        ASPP(net.stages[-1].channels, _rates(output_stride), channels=channels, dropout=dropout[0]),
        Decoder(low.channels, fuse, rule="align_corners"),
        num_classes,
        low=low.name,
        channels=channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def deeplabv3plus_smp_r50(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    output_stride: int = 16,
    rates: Sequence[int] = (12, 24, 36),
    channels: int = 256,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DeepLabV3Plus:
    """segmentation_models_pytorch's DeepLabv3+ on ResNet-50 (21 classes: 26,682,725 parameters).

    depths, width: units of the four stages, channels of the first (before expansion). output_stride: 8 or 16. rates:
    that library's default at either stride.
    """
    net = ResNet(Bottleneck, depths, in_channels=in_channels, width=width, output_stride=output_stride, contract=False)
    low = stage_named(net.stages, "layer1")
    aspp = ASPP(net.stages[-1].channels, rates, channels=channels, dropout=dropout, atrous=separable_bare)
    return DeepLabV3Plus(
        net,
        nn.Sequential(aspp, *separable_bare(channels, channels, 1)),
        Decoder(low.channels, separable_bare(channels + LOW, channels, 1), rule="align_corners"),
        num_classes,
        low=low.name,
        channels=channels,
        grid=(net.stages[-1].stride, 0),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def deeplabv3plus_smp_r101(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    output_stride: int = 16,
    rates: Sequence[int] = (12, 24, 36),
    channels: int = 256,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DeepLabV3Plus:
    """segmentation_models_pytorch's DeepLabv3+ on ResNet-101 (21 classes: 45,674,853 parameters)."""
    return deeplabv3plus_smp_r50(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        output_stride=output_stride,
        rates=rates,
        channels=channels,
        dropout=dropout,
        mean=mean,
        std=std,
    )


def _two_separable(channels: int) -> nn.Sequential:
    return nn.Sequential(separable_conv(channels + LOW, channels), separable_conv(channels, channels))


def _rates(output_stride: int) -> Sequence[int]:
    if output_stride not in RATES:
        raise UsageError(f"output_stride is {output_stride}, expected 8, 16 or 32")
    return RATES[output_stride]


# Public names ----------------------------------------------------------------------------------------------------

VAINF = KeyMap(
    "vainf",
    (
        ("backbone.{rest}", "backbone.{rest}"),
        ("classifier.project.{rest}", "decoder.low.{rest}"),
        ("classifier.aspp.{rest}", "aspp.{rest}"),
        ("classifier.classifier.0.weight", "decoder.fuse.0.weight", rolled(LOW)),  # the early map comes first there
        ("classifier.classifier.1.{leaf}", "decoder.fuse.1.{leaf}"),
        ("classifier.classifier.3.{leaf}", "classifier.{leaf}"),
    ),
    container="model_state",
    words="VainF/DeepLabV3Plus-Pytorch: DeepLabv3+ on a ResNet",
)

JFZHANG95 = KeyMap(
    "jfzhang95",
    (
        ("backbone.{rest}", "backbone.{rest}"),
        ("aspp.global_avg_pool.{i}.{leaf}", "aspp.convs.4.{i}.{leaf}"),
        ("aspp.aspp{i+1}.atrous_conv.{leaf}", "aspp.convs.{i}.0.{leaf}"),
        ("aspp.aspp{i+1}.bn.{leaf}", "aspp.convs.{i}.1.{leaf}"),
        ("aspp.conv1.{leaf}", "aspp.project.0.{leaf}"),
        ("aspp.bn1.{leaf}", "aspp.project.1.{leaf}"),
        ("decoder.conv1.{leaf}", "decoder.low.0.{leaf}"),
        ("decoder.bn1.{leaf}", "decoder.low.1.{leaf}"),
        ("decoder.last_conv.8.{leaf}", "classifier.{leaf}"),
        ("decoder.last_conv.{i}.{leaf}", "decoder.fuse.{i}.{leaf}"),
    ),
    container="state_dict",
    words="jfzhang95/pytorch-deeplab-xception: DeepLabv3+ on ResNet-101",
)

SMP = KeyMap(
    "smp",
    (
        ("encoder.{rest}", "backbone.{rest}"),
        ("decoder.aspp.{rest}", "aspp.{rest}"),
        ("decoder.block1.{rest}", "decoder.low.{rest}"),
        ("decoder.block2.{rest}", "decoder.fuse.{rest}"),
        ("segmentation_head.0.{leaf}", "classifier.{leaf}"),
    ),
    words="segmentation_models_pytorch: DeepLabV3Plus on a ResNet",
)


def _norm(public: str, ours: str) -> tuple[Row, ...]:
    """TensorFlow's four vectors of a batch norm."""
    leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return tuple((f"{public}/BatchNorm/{theirs}", f"{ours}.{leaf}") for theirs, leaf in leaves.items())


def _conv(public: str, ours: str) -> tuple[Row, ...]:
    """A full convolution and its norm."""
    return (f"{public}/weights", f"{ours}.0.weight", HWIO), *_norm(public, f"{ours}.1")


def _separable(public: str, ours: str) -> tuple[Row, ...]:
    """A separable convolution and its two norms."""
    return (
        (f"{public}_depthwise/depthwise_weights", f"{ours}.0.0.weight", depthwise()),
        *_norm(f"{public}_depthwise", f"{ours}.0.1"),
        *_conv(f"{public}_pointwise", f"{ours}.1"),
    )


_MODULE = "xception_65/{flow}/block{block}/unit_{unit}/xception_module"
_ENTRY = _MODULE.format(flow="entry_flow", block="{b+1}", unit=1)
_MIDDLE = _MODULE.format(flow="middle_flow", block=1, unit="{b+1}")
_EXIT1, _EXIT2 = (_MODULE.format(flow="exit_flow", block=block, unit=1) for block in (1, 2))

GOOGLE = KeyMap(
    "google",
    (
        *_conv("xception_65/entry_flow/conv1_{i}", "backbone.conv{i}"),
        *_conv(f"{_ENTRY}/shortcut", "backbone.entry.{b}.shortcut"),
        *_separable(f"{_ENTRY}/separable_conv{{c+1}}", "backbone.entry.{b}.convs.{c}"),
        *_separable(f"{_MIDDLE}/separable_conv{{c+1}}", "backbone.middle.{b}.convs.{c}"),
        *_conv(f"{_EXIT1}/shortcut", "backbone.exit.0.shortcut"),
        *_separable(f"{_EXIT1}/separable_conv{{c+1}}", "backbone.exit.0.convs.{c}"),
        *_separable(f"{_EXIT2}/separable_conv{{c+1}}", "backbone.exit.1.{c}"),
        ("image_pooling/weights", "aspp.convs.4.1.weight", HWIO),
        *_norm("image_pooling", "aspp.convs.4.2"),
        *_conv("aspp0", "aspp.convs.0"),
        *_separable("aspp{i}", "aspp.convs.{i}"),
        # the picture's mean comes first there
        ("concat_projection/weights", "aspp.project.0.weight", chain(HWIO, reordered((1, 2, 3, 4, 0), dim=1))),
        *_norm("concat_projection", "aspp.project.1"),
        *_conv("decoder/feature_projection0", "decoder.low"),
        *_separable("decoder/decoder_conv{i}", "decoder.fuse.{i}"),
        ("logits/semantic/weights", "classifier.weight", HWIO),
        ("logits/semantic/biases", "classifier.bias"),
    ),
    ignore=("global_step", "*/Momentum", "*/ExponentialMovingAverage"),
    words="tensorflow/models research/deeplab: the variables of a checkpoint on Xception-65, as .npz",
)

KEY_MAPS = (VAINF, JFZHANG95, SMP, GOOGLE)
