"""U-Net.

Paper: U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer & Brox 2015,
arXiv:1505.04597).

The idea: a contracting path of convolutions and pools learns what is where, roughly. An expansive path doubles the
size step by step, and at each step joins the contracting path's map of that size, which still knows the edges. A few
dozen annotated pictures suffice.

Letters: B pictures, K classes, C channels, H x W pixels.

Forms:

- `unet`, the one to start with: padded, batch norm, nearest upsampling to the size of the skip, joined as [up, skip].
  Plain, or on any backbone as its contracting path; then it is layer for layer the Unet of
  segmentation_models_pytorch. Pictures of any size.
- `unet_valid`, the paper: no padding, so every answer saw only real pixels; the answer is smaller than the picture.
  Departures, all shared with jvanvugt/pytorch-unet, whose files it loads: no ReLU after the up-convolutions, joined as
  [up, skip]. Dropout of 0.5 ends the two deepest levels of the contracting path, where the released network has it.
- `unet_phseg_v5`, the network its authors released in Caffe: a ReLU after every up-convolution, the last of which keeps
  its 128 channels. It has no runnable original here: its count and its layers are those of the released prototxt.
- `unet_same` and `unet_same_bilinear`: the padded layout with batch norm of most public files (Carvana and others);
  joined as [skip, up]. Its names come from public checkpoints, its code is ours.
- `unet_mmseg`: mmsegmentation's UNet-S5-D16 with its FCN heads: bilinear upsampling, then a 1x1 to the skip's channels.

Loads: segmentation_models_pytorch (`smp`), jvanvugt/pytorch-unet (`jvanvugt`), milesial/Pytorch-UNet (`milesial`),
mateuszbuda/brain-segmentation-pytorch (`mateuszbuda`, into `unet_same` of width 32 and one class; its answers are the
sigmoid of ours), mmsegmentation (`mmseg`), tensors of the released Caffe model under its layers' names (`phseg_v5`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import Backbone, Stage, deepest_at_each_stride
from sightline.errors import UsageError
from sightline.nn.conv import Norm, NormName, conv_norm_act, he_init, norm_named
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.resize import centre_crop, resize
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import reordered

# Parts -----------------------------------------------------------------------------------------------------------


def double_conv(
    in_channels: int, out_channels: int, *, middle: int | None = None, padded: bool = True, norm: Norm | None
) -> nn.Sequential:
    """Two 3x3 convolutions, each with its norm and ReLU; unpadded ones take two pixels off every side."""
    middle = middle or out_channels
    padding = 1 if padded else 0
    return nn.Sequential(
        conv_norm_act(in_channels, middle, padding=padding, norm=norm),
        conv_norm_act(middle, out_channels, padding=padding, norm=norm),
    )


class Contract(nn.Module):
    """The contracting path: double convolutions with a 2x2 max-pool between them. It is a backbone.

    widths: channels of each level, the first at the picture's size. dropout: after the last two levels.
    ceil: uneven sizes round up, so that any picture passes. Stages: `level1`, `level2`, ...
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        *,
        padded: bool = True,
        norm: Norm | None = nn.BatchNorm2d,
        ceil: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels = (in_channels, *widths)
        self.levels = nn.ModuleList(
            double_conv(a, b, padded=padded, norm=norm) for a, b in zip(channels, widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=ceil)
        self.dropout = nn.Dropout(dropout)
        self.stages = tuple(Stage(f"level{i + 1}", width, 2**i) for i, width in enumerate(widths))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to one map a level."""
        maps, x = {}, images
        for i, (level, stage) in enumerate(zip(self.levels, self.stages)):
            x = level(x if i == 0 else self.pool(x))
            if i >= len(self.levels) - 2:
                x = self.dropout(x)
            maps[stage.name] = x
        return maps


class Expand(nn.Module):
    """One step of the expansive path: twice the size, the skip joined, a double convolution.

    up: `nearest` copies to the skip's very size; `narrowed` interpolates to that size, then a 1x1 convolution halves
    the channels; `bilinear` doubles with corners aligned; `transposed` learns a 2x2 up-convolution that halves the
    channels (or gives `up_channels`), with a ReLU behind it if `up_act`. Where sizes differ after `bilinear` or
    `transposed`, the larger skip of an unpadded path is cropped at the centre, and the smaller map of a padded path is
    filled up with zeros.
    """

    def __init__(
        self,
        deep: int,
        skip: int,
        out: int,
        *,
        up: Literal["nearest", "narrowed", "bilinear", "transposed"] = "nearest",
        up_channels: int | None = None,
        up_act: bool = False,
        skip_first: bool = False,
        middle: int | None = None,
        padded: bool = True,
        norm: Norm | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.rule, self.skip_first, self.padded = up, skip_first, padded
        learned = up in ("narrowed", "transposed")
        narrow = up_channels or (deep // 2 if learned else deep)
        self.up: nn.Module | None = None
        if up == "narrowed":
            self.up = conv_norm_act(deep, narrow, 1, norm=norm)
        elif up == "transposed":
            self.up = nn.ConvTranspose2d(deep, narrow, 2, 2)
        self.up_act = up_act
        joined = narrow + skip
        self.convs = double_conv(joined, out, middle=middle, padded=padded, norm=norm)

    def forward(self, x: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        """`(B, deep, H, W)` and its skip (None: nothing is joined) to `(B, out, *size)`."""
        if self.rule == "narrowed" and self.up is not None:
            x = self.up(resize(x, size))
        elif self.up is not None:
            x = self.up(x)
        elif self.rule == "bilinear":
            x = resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), rule="align_corners")
        else:
            x = resize(x, size, rule="nearest")
        if self.up_act:
            x = x.relu()
        if skip is not None and self.rule in ("bilinear", "transposed"):
            if self.padded:
                x = pad_to(x, skip.shape[-2:])
            else:
                skip = centre_crop(skip, x.shape[-2:])
        if skip is not None:
            x = torch.cat([skip, x] if self.skip_first else [x, skip], dim=1)
        return self.convs(x)


def pad_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros around `(B, C, H, W)`: half of what is missing, rounded down, at the top and left, the rest opposite."""
    dy, dx = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])


# The network -----------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """A contracting path, an expansive path, a classifier of every pixel.

    contract: any backbone. expand: one step for each halving between the picture (or the backbone's finest map) and
    the deepest map, coarse to fine. head: the last map to K logits. aux: the map before it to K logits, for learning.
    """

    HEAD = ("head.", "aux.")  # layers that depend on the number of classes
    OPTIONAL = ("aux.",)

    def __init__(
        self,
        contract: Backbone,
        expand: Sequence[Expand],
        head: nn.Module,
        *,
        aux: nn.Module | None = None,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.contract = contract
        self.expand = nn.ModuleList(expand)
        self.head = head
        self.aux = aux
        self.criterion = criterion or Criterion()
        stages = deepest_at_each_stride(contract.stages)
        self.deepest = stages[-1]
        self.skips = {stage.stride: stage.name for stage in stages[:-1]}

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1] to `(B, K, H, W)` logits (unpadded: smaller, centred)."""
        height, width = images.shape[-2:]
        maps = self.contract(self.normalize(images, sizes))
        x, stride = maps[self.deepest.name], self.deepest.stride
        before = x
        for step in self.expand:
            stride, before = stride // 2, x
            skip = maps[self.skips[stride]] if stride in self.skips else None
            size = (-(-height // stride), -(-width // stride)) if skip is None else skip.shape[-2:]
            x = step(x, skip, size)
        if self.aux is None:
            return Scores(self.head(x))
        return Scores(self.head(x), (resize(self.aux(before), (height, width)),))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


class ValidUNet(UNet):
    """The unpadded network. Its answer lacks `margin` pixels on each side, and its pictures have a legal size.

    A size is legal when every pool meets even numbers: `smallest` plus a multiple of `step` (188, 204, 220 ... for the
    paper's five levels, which answer 4, 20, 36 ... pixels).
    """

    def __init__(
        self,
        contract: Contract,
        expand: Sequence[Expand],
        head: nn.Module,
        *,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(contract, expand, head, normalize=normalize, criterion=criterion)
        self.step = 2 ** (len(contract.levels) - 1)
        self.margin = 6 * self.step - 4
        self.smallest = 2 * self.margin + min(4, self.step)

    def legal_size(self, answer: int) -> int:
        """The smallest legal height or width of a picture whose answer covers `answer` pixels."""
        return self.smallest + max(0, -(-(answer + 2 * self.margin - self.smallest) // self.step)) * self.step

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures of a legal size to `(B, K, H - 2 margin, W - 2 margin)` logits."""
        for name, size in (("height", images.shape[-2]), ("width", images.shape[-1])):
            if size < self.smallest or (size - self.smallest) % self.step != 0:
                raise UsageError(
                    f"{name} {size} does not fit this unpadded U-Net: it takes {self.smallest} + {self.step} k pixels, "
                    f"so crop the picture or mirror it out to {self.legal_size(size - 2 * self.margin)}"
                )
        return super().forward(images, sizes=sizes, targets=targets)


# Builders --------------------------------------------------------------------------------------------------------


def unet(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    backbone: str | None = None,
    backbone_weights: str | None = None,
    width: int = 32,
    depth: int = 5,
    decoder: Sequence[int] = (256, 128, 64, 32, 16),
    norm: NormName = "batch",
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> UNet:
    """The U-Net to start with; pictures of any size.

    num_classes: 1 for one logit a pixel. backbone: a name that `sightline.backbones.build.backbone` knows, or None for
    the plain contracting path of `depth` levels with `width` channels in the first, doubled at each level.
    backbone_weights: published weights of the backbone, by name or file. decoder: channels of the steps up from a
    backbone, coarse to fine. norm: of the decoder, and of the plain contracting path. mean, std: see `Normalize`.
    """
    if backbone is None:
        contract = Contract(in_channels, [width * 2**i for i in range(depth)], norm=norm_named(norm), ceil=True)
        he_init(contract)
        outs = [stage.channels for stage in contract.stages[-2::-1]]
    else:
        contract = build_backbone(backbone, in_channels=in_channels, weights=backbone_weights)
        outs = list(decoder)
    steps = expansive_path(contract.stages, outs, norm=norm_named(norm))
    channels = outs[len(steps) - 1] if steps else contract.stages[-1].channels
    kernel = 1 if backbone is None else 3
    head = nn.Conv2d(channels, num_classes, kernel, padding=kernel // 2)
    net = UNet(contract, steps, head, normalize=Normalize(*for_channels(mean, std, in_channels)))
    he_init(net.expand)
    return net  # the head keeps PyTorch's small start, so that the first scores are near zero


def expansive_path(stages: Sequence[Stage], outs: Sequence[int], *, norm: Norm) -> list[Expand]:
    """One nearest-upsampling step for each halving down to the deepest stage, of `outs` channels, coarse to fine."""
    stages = deepest_at_each_stride(stages)
    skips = {stage.stride: stage.channels for stage in stages[:-1]}
    deep, stride = stages[-1].channels, stages[-1].stride
    steps = []
    while stride > 1:
        stride //= 2
        if len(steps) == len(outs):
            raise UsageError(
                f"decoder has {len(outs)} numbers, but this backbone shrinks {stages[-1].stride} times: "
                "give one number for each halving"
            )
        out = outs[len(steps)]
        steps.append(Expand(deep, skips.get(stride, 0), out, norm=norm))
        deep = out
    return steps


def unet_valid(
    num_classes: int = 2,
    *,
    in_channels: int = 1,
    width: int = 64,
    depth: int = 5,
    dropout: float = 0.5,
    mean: Sequence[float] | None = (0.5,),
    std: Sequence[float] | None = (0.5,),
) -> ValidUNet:
    """The paper's network: unpadded, no batch norm, learned 2x2 up-convolutions, cropped skips (31,030,658 parameters).

    depth: levels; sizes follow from it, see `ValidUNet`. mean, std: None passes pictures through.
    """
    widths = [width * 2**i for i in range(depth)]
    steps = [
        Expand(deep, skip, skip, up="transposed", padded=False, norm=None)
        for deep, skip in zip(widths[:0:-1], widths[-2::-1])
    ]
    net = ValidUNet(
        Contract(in_channels, widths, padded=False, norm=None, dropout=dropout),
        steps,
        nn.Conv2d(width, num_classes, 1),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def unet_phseg_v5(
    num_classes: int = 2,
    *,
    in_channels: int = 1,
    width: int = 64,
    depth: int = 5,
    dropout: float = 0.5,
    mean: Sequence[float] | None = (0.5,),
    std: Sequence[float] | None = (0.5,),
) -> ValidUNet:
    """The network released in Caffe (31,100,354 parameters); its values are those of `unet_valid`."""
    widths = [width * 2**i for i in range(depth)]
    steps = [
        Expand(
            deep,
            skip,
            skip,
            up="transposed",
            up_channels=skip if skip > width else deep,
            up_act=True,
            padded=False,
            norm=None,
        )
        for deep, skip in zip(widths[:0:-1], widths[-2::-1])
    ]
    net = ValidUNet(
        Contract(in_channels, widths, padded=False, norm=None, dropout=dropout),
        steps,
        nn.Conv2d(width, num_classes, 1),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def unet_mmseg(
    num_classes: int = 19,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 5,
    dropout: float = 0.1,
    aux: bool = True,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> UNet:
    """mmsegmentation's UNet-S5-D16 with FCN heads (29,062,886 parameters, 28,987,795 without aux); any size.

    aux: a second head on the decoder's last map but one.
    """
    widths = [width * 2**i for i in range(depth)]
    steps = [
        Expand(deep, skip, skip, up="narrowed", skip_first=True) for deep, skip in zip(widths[:0:-1], widths[-2::-1])
    ]
    net = UNet(
        Contract(in_channels, widths, ceil=True),
        steps,
        _fcn_head(width, width, num_classes, dropout),
        aux=_fcn_head(widths[1], width, num_classes, dropout) if aux else None,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def _fcn_head(in_channels: int, channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_act(in_channels, channels), nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)
    )


def unet_same(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 5,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> UNet:
    """The padded public layout with learned 2x2 up-convolutions (31,037,698 parameters); sides of 2^(depth-1) and more.

    mean, std: its public weights took pictures in [0, 1] as they are.
    """
    widths = [width * 2**i for i in range(depth)]
    steps = [
        Expand(deep, skip, skip, up="transposed", skip_first=True) for deep, skip in zip(widths[:0:-1], widths[-2::-1])
    ]
    return _same(widths, steps, num_classes, in_channels, mean, std)


def unet_same_bilinear(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 5,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> UNet:
    """The padded public layout with bilinear upsampling, corners aligned, and halved widths (17,263,042 parameters)."""
    widths = [width * 2**i for i in range(depth)]
    widths[-1] //= 2
    steps, deep = [], widths[-1]
    for level in range(depth - 2, -1, -1):
        joined, out = deep + widths[level], widths[level] // 2 if level else width
        steps.append(Expand(deep, widths[level], out, up="bilinear", skip_first=True, middle=joined // 2))
        deep = out
    return _same(widths, steps, num_classes, in_channels, mean, std)


def _same(
    widths: Sequence[int],
    steps: Sequence[Expand],
    num_classes: int,
    in_channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> UNet:
    head = nn.Conv2d(widths[0], num_classes, 1)
    net = UNet(Contract(in_channels, widths), steps, head, normalize=Normalize(*for_channels(mean, std, in_channels)))
    he_init(net)
    return net


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "milesial",
        (
            ("inc.double_conv.0.{rest}", "contract.levels.0.0.0.{rest}"),
            ("inc.double_conv.1.{rest}", "contract.levels.0.0.1.{rest}"),
            ("inc.double_conv.3.{rest}", "contract.levels.0.1.0.{rest}"),
            ("inc.double_conv.4.{rest}", "contract.levels.0.1.1.{rest}"),
            ("down{i}.maxpool_conv.1.double_conv.0.{rest}", "contract.levels.{i}.0.0.{rest}"),
            ("down{i}.maxpool_conv.1.double_conv.1.{rest}", "contract.levels.{i}.0.1.{rest}"),
            ("down{i}.maxpool_conv.1.double_conv.3.{rest}", "contract.levels.{i}.1.0.{rest}"),
            ("down{i}.maxpool_conv.1.double_conv.4.{rest}", "contract.levels.{i}.1.1.{rest}"),
            ("up{i+1}.up.{rest}", "expand.{i}.up.{rest}"),
            ("up{i+1}.conv.double_conv.0.{rest}", "expand.{i}.convs.0.0.{rest}"),
            ("up{i+1}.conv.double_conv.1.{rest}", "expand.{i}.convs.0.1.{rest}"),
            ("up{i+1}.conv.double_conv.3.{rest}", "expand.{i}.convs.1.0.{rest}"),
            ("up{i+1}.conv.double_conv.4.{rest}", "expand.{i}.convs.1.1.{rest}"),
            ("outc.conv.{rest}", "head.{rest}"),
        ),
        ignore=("mask_values",),
    ),
    KeyMap(
        "jvanvugt",
        (
            ("down_path.{i}.block.0.{rest}", "contract.levels.{i}.0.0.{rest}"),
            ("down_path.{i}.block.2.{rest}", "contract.levels.{i}.1.0.{rest}"),
            ("up_path.{i}.up.{rest}", "expand.{i}.up.{rest}"),
            ("up_path.{i}.conv_block.block.0.{rest}", "expand.{i}.convs.0.0.{rest}"),
            ("up_path.{i}.conv_block.block.2.{rest}", "expand.{i}.convs.1.0.{rest}"),
            ("last.{rest}", "head.{rest}"),
        ),
    ),
    KeyMap(
        "smp",
        (
            ("encoder.{rest}", "contract.{rest}"),
            ("decoder.blocks.{i}.conv1.{rest}", "expand.{i}.convs.0.{rest}"),
            ("decoder.blocks.{i}.conv2.{rest}", "expand.{i}.convs.1.{rest}"),
            ("segmentation_head.0.{rest}", "head.{rest}"),
        ),
    ),
    KeyMap(
        "mateuszbuda",
        (
            *(
                row
                for k in (1, 2)
                for kind, place in (("conv", 0), ("norm", 1))
                for row in (
                    (f"bottleneck.bottleneck{kind}{k}.{{leaf}}", f"contract.levels.4.{k - 1}.{place}.{{leaf}}"),
                    (f"encoder{{i+1}}.enc{{i+1}}{kind}{k}.{{leaf}}", f"contract.levels.{{i}}.{k - 1}.{place}.{{leaf}}"),
                )
            ),
            ("upconv{4-i}.{leaf}", "expand.{i}.up.{leaf}"),
            ("decoder{4-i}.dec{4-i}conv1.weight", "expand.{i}.convs.0.0.weight", reordered((1, 0), 1)),
            ("decoder{4-i}.dec{4-i}norm1.{leaf}", "expand.{i}.convs.0.1.{leaf}"),
            ("decoder{4-i}.dec{4-i}conv2.{leaf}", "expand.{i}.convs.1.0.{leaf}"),
            ("decoder{4-i}.dec{4-i}norm2.{leaf}", "expand.{i}.convs.1.1.{leaf}"),
            ("conv.{leaf}", "head.{leaf}"),
        ),
        words="mateuszbuda/brain-segmentation-pytorch; joined as [up, skip], answered as a sigmoid",
    ),
    KeyMap(
        "mmseg",
        (
            *(
                row
                for kind, place in (("conv", 0), ("bn", 1))
                for row in (
                    (f"backbone.encoder.0.0.convs.{{k}}.{kind}.{{leaf}}", f"contract.levels.0.{{k}}.{place}.{{leaf}}"),
                    (
                        f"backbone.encoder.{{i}}.1.convs.{{k}}.{kind}.{{leaf}}",
                        f"contract.levels.{{i}}.{{k}}.{place}.{{leaf}}",
                    ),
                    (
                        f"backbone.decoder.{{3-i}}.conv_block.convs.{{k}}.{kind}.{{leaf}}",
                        f"expand.{{i}}.convs.{{k}}.{place}.{{leaf}}",
                    ),
                    (
                        f"backbone.decoder.{{3-i}}.upsample.interp_upsample.1.{kind}.{{leaf}}",
                        f"expand.{{i}}.up.{place}.{{leaf}}",
                    ),
                    (f"decode_head.convs.0.{kind}.{{leaf}}", f"head.{place}.{{leaf}}"),
                    (f"auxiliary_head.convs.0.{kind}.{{leaf}}", f"aux.{place}.{{leaf}}"),
                )
            ),
            ("decode_head.conv_seg.{leaf}", "head.4.{leaf}"),
            ("auxiliary_head.conv_seg.{leaf}", "aux.4.{leaf}"),
        ),
        container="state_dict",
        words="mmsegmentation: UNet-S5-D16 with FCN heads",
    ),
    KeyMap(
        "phseg_v5",
        (
            ("conv_d{i}a-b.{leaf}", "contract.levels.{i}.0.0.{leaf}"),
            ("conv_d{i}b-c.{leaf}", "contract.levels.{i}.1.0.{leaf}"),
            ("upconv_d4c_u3a.{leaf}", "expand.0.up.{leaf}"),
            ("upconv_u{4-i}d_u{3-i}a.{leaf}", "expand.{i}.up.{leaf}"),
            ("conv_u{3-i}b-c.{leaf}", "expand.{i}.convs.0.0.{leaf}"),
            ("conv_u{3-i}c-d.{leaf}", "expand.{i}.convs.1.0.{leaf}"),
            ("conv_u0d-score.{leaf}", "head.{leaf}"),
        ),
        words="the Caffe release of 2015, its blobs saved as LAYER.weight and LAYER.bias",
    ),
)
