"""TransUNet.

Paper: TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation (Chen et al. 2021,
arXiv:2102.04306).

The idea: a convolution sees a neighbourhood, a transformer the whole picture. So the deepest map of a ResNet becomes a
row of tokens that all ask each other, and a U-Net's decoder brings their answer back to the picture's size with the
edges that the ResNet's finer maps still know.

Letters: B pictures, K classes, C channels, H x W pixels, h x w places of the deepest map.

- `transunet`, the one to start with: a transformer of moderate size on the deepest map (a 32nd of the picture) of any
  backbone, so that ImageNet weights exist for the half that needs them most and a laptop can train it; then U-Net's
  expansive path, which resizes to the skip's very size.
- `transunet_r50_vit_b16`, the paper's network, `transunet_r50_vit_l16` with the large transformer: a ResNet-50 with
  standardised kernels and group norm down to a 16th, three skips.
- `transunet_vit_b16`: the transformer on 16 x 16 patches of the picture, no skips.

Sizes: the authors' code takes squares of the size it was built for. Here the learned positions are resized to the
picture's own grid, so every height and width divisible by 16 is answered as published; any other picture is padded with
zeros at the bottom and right to the next such size, and its scores are cropped. A picture of one channel is repeated.

Departures: none from the release. Its recipe (SGD 0.01, poly, half cross-entropy and half Dice with squared
denominators, rotation by quarter turns and up to 20 degrees) belongs to a recipe. The release counts a false positive
on an absent organ as a perfect Dice; compare scores with care.

Published (not measured here): Synapse, 8 organs, Dice 77.5 and HD95 31.7 voxels at 224 x 224.

Loads: Beckschen/TransUNet (`transunet`: files trained by users; positions of another size are resized); Google's
`R50+ViT-B_16.npz`, `ViT-B_16.npz` and `R50+ViT-L_16.npz` (`google`): the encoder, the decoder keeps its fresh values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.backbones.bit import BiT
from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import Backbone, Stage
from sightline.errors import UsageError
from sightline.nn.conv import NormName, conv_norm_act, he_init, norm_named
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.nn.transformer import MapEncoder, TransformerEncoder
from sightline.ops.resize import pad_to_multiple, resize, top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.segmentation.models.unet import UNet, expansive_path
from sightline.weights.keymap import KeyMap, Row
from sightline.weights.transforms import (
    FLAT,
    HWIO,
    POSITIONS,
    TRANSPOSED,
    chain,
    heads_bias,
    heads_in,
    heads_out,
    regrouped,
)

# Parts -----------------------------------------------------------------------------------------------------------


class Step(nn.Module):
    """One step up: twice the size with corners aligned, the skip joined as [up, skip], two 3x3 convolutions."""

    def __init__(self, in_channels: int, skip: int, out_channels: int) -> None:
        super().__init__()
        self.joins = skip > 0
        self.convs = nn.Sequential(
            conv_norm_act(in_channels + skip, out_channels), conv_norm_act(out_channels, out_channels)
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """`(B, in, h, w)` and its skip, if it joins one, to `(B, out, 2 h, 2 w)`."""
        x = resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), rule="align_corners")
        return self.convs(torch.cat([x, skip], dim=1) if self.joins and skip is not None else x)


class Cascade(nn.Module):
    """The cascaded upsampler: a convolution on the transformer's map, then four steps up to the picture's size.

    skips: channels of the maps joined by the steps in turn, 0 where a step has none.
    """

    def __init__(self, in_channels: int, channels: int, skips: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.more = conv_norm_act(in_channels, channels)
        before = (channels, *widths)
        self.steps = nn.ModuleList(Step(a, skip, b) for a, skip, b in zip(before, skips, widths))

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """`(B, in, h, w)` and the skips, coarse to fine, to `(B, widths[-1], 16 h, 16 w)`."""
        x = self.more(x)
        for i, step in enumerate(self.steps):
            x = step(x, skips[i] if i < len(skips) else None)
        return x


class WithTransformer(nn.Module):
    """A backbone whose deepest map is read and rewritten by a transformer. It is a backbone itself."""

    def __init__(self, backbone: Backbone, transformer: MapEncoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.transformer = transformer
        last = backbone.stages[-1]
        self.stages = (*backbone.stages[:-1], Stage(last.name, transformer.channels, last.stride))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to one map a stage."""
        maps = self.backbone(images)
        last = self.stages[-1].name
        return {**maps, last: self.transformer(maps[last])}


# Network ---------------------------------------------------------------------------------------------------------


class TransUNet(nn.Module):
    """The authors' network: a transformer on a ResNet's deepest map, or on the picture itself, and the upsampler.

    backbone: gives the deepest map at a 16th of the picture and the skips; None: the transformer cuts patches of the
    picture. decoder: takes the skips from coarse to fine.
    """

    HEAD = ("head.",)

    def __init__(
        self,
        backbone: Backbone | None,
        transformer: MapEncoder,
        decoder: Cascade,
        head: nn.Module,
        *,
        in_channels: int = 3,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.transformer = transformer
        self.decoder = decoder
        self.head = head
        self.in_channels = in_channels
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        if images.shape[1] == 1 < self.in_channels:
            images = images.expand(-1, self.in_channels, -1, -1)
        x, _ = pad_to_multiple(self.normalize(images, sizes), 16)
        skips: list[Tensor] = []
        if self.backbone is not None:
            maps = self.backbone(x)
            *finer, last = (maps[stage.name] for stage in self.backbone.stages)
            x, skips = last, finer[::-1]
        logits = self.head(self.decoder(self.transformer(x), skips))
        return Scores(top_left(logits, images.shape[-2:]))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def transunet(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    channels: int = 384,
    layers: int = 6,
    heads: int = 6,
    grid: int = 14,
    dropout: float = 0.1,
    decoder: Sequence[int] = (256, 128, 64, 32, 16),
    norm: NormName = "batch",
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> UNet:
    """The TransUNet to start with, on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). channels, layers, heads: of the transformer, whose dense layers are four times as wide. grid: cells on a side
    of the learned positions. decoder: channels of the steps up, coarse to fine. norm: of the decoder.
    """
    net = build_backbone(backbone, in_channels=in_channels, weights=backbone_weights)
    encoder = TransformerEncoder(channels, layers, heads, 4 * channels, dropout=dropout)
    contract = WithTransformer(net, MapEncoder(net.stages[-1].channels, encoder, grid=grid, dropout=dropout))
    steps = expansive_path(contract.stages, decoder, norm=norm_named(norm))
    head = nn.Conv2d(decoder[len(steps) - 1], num_classes, 3, padding=1)
    whole = UNet(contract, steps, head, normalize=Normalize(*for_channels(mean, std, in_channels)))
    he_init(whole.expand)
    return whole


def transunet_r50_vit_b16(
    num_classes: int = 9,
    *,
    in_channels: int = 3,
    image_size: int = 224,
    depths: Sequence[int] = (3, 4, 9),
    width: int = 64,
    channels: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int = 3072,
    dropout: float = 0.1,
    head_channels: int = 512,
    decoder: Sequence[int] = (256, 128, 64, 16),
    skips: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> TransUNet:
    """The paper's R50-ViT-B/16 (9 classes: 105,277,081 parameters).

    image_size: side of the pictures it is trained on; it sets the grid of the learned positions, a 16th of it.
    depths, width: units of the ResNet's blocks, channels of the first (before expansion). channels, layers, heads,
    hidden: of the transformer and its dense layers. head_channels: what the decoder starts from. skips: how many of
    the ResNet's maps are joined, coarse ones first. mean, std: the release took pictures in [0, 1] as they are.
    """
    if len(depths) != 3 or len(decoder) != 4 or not 0 <= skips <= 3:
        raise UsageError("TransUNet has three blocks (depths), four steps up (decoder) and up to three skips")
    backbone = BiT(depths, in_channels=in_channels, width=width)
    finer = [stage.channels for stage in backbone.stages[-2::-1]]
    joined = [*(n if i < skips else 0 for i, n in enumerate(finer)), 0]
    encoder = TransformerEncoder(channels, layers, heads, hidden, dropout=dropout)
    return TransUNet(
        backbone,
        MapEncoder(backbone.stages[-1].channels, encoder, grid=image_size // 16, dropout=dropout),
        Cascade(channels, head_channels, joined, decoder),
        nn.Conv2d(decoder[-1], num_classes, 3, padding=1),
        in_channels=in_channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


def transunet_r50_vit_l16(
    num_classes: int = 9,
    *,
    in_channels: int = 3,
    image_size: int = 224,
    depths: Sequence[int] = (3, 4, 9),
    width: int = 64,
    channels: int = 1024,
    layers: int = 24,
    heads: int = 16,
    hidden: int = 4096,
    dropout: float = 0.1,
    head_channels: int = 512,
    decoder: Sequence[int] = (256, 128, 64, 16),
    skips: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> TransUNet:
    """R50-ViT-L/16 (9 classes: 324,024,729 parameters); its values are `transunet_r50_vit_b16`'s."""
    return transunet_r50_vit_b16(
        num_classes,
        in_channels=in_channels,
        image_size=image_size,
        depths=depths,
        width=width,
        channels=channels,
        layers=layers,
        heads=heads,
        hidden=hidden,
        dropout=dropout,
        head_channels=head_channels,
        decoder=decoder,
        skips=skips,
        mean=mean,
        std=std,
    )


def transunet_vit_b16(
    num_classes: int = 9,
    *,
    in_channels: int = 3,
    image_size: int = 224,
    channels: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int = 3072,
    dropout: float = 0.1,
    head_channels: int = 512,
    decoder: Sequence[int] = (256, 128, 64, 16),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> TransUNet:
    """ViT-B/16 on patches of the picture, no skips (9 classes: 91,674,201 parameters)."""
    encoder = TransformerEncoder(channels, layers, heads, hidden, dropout=dropout)
    return TransUNet(
        None,
        MapEncoder(in_channels, encoder, patch=16, grid=image_size // 16, dropout=dropout),
        Cascade(channels, head_channels, (0,) * len(decoder), decoder),
        nn.Conv2d(decoder[-1], num_classes, 3, padding=1),
        in_channels=in_channels,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------


def _google() -> tuple[Row, ...]:
    """Rows for Flax's names of a hybrid's ResNet and of ViT; one head is 64 channels wide."""
    rows: list[Row] = [
        ("conv_root/kernel", "backbone.conv.weight", HWIO),
        ("gn_root/scale", "backbone.gn.weight", FLAT),
        ("gn_root/bias", "backbone.gn.bias", FLAT),
    ]
    unit, ours = "block{b}/unit{j+1}/", "backbone.block{b}.{j}."
    for public, name in (("gn{k}", "gn{k}"), ("gn_proj", "gn_proj")):
        rows.append((f"{unit}{public}/scale", f"{ours}{name}.weight", FLAT))
        rows.append((f"{unit}{public}/bias", f"{ours}{name}.bias", FLAT))
    rows.append((f"{unit}conv_proj/kernel", f"{ours}downsample.weight", HWIO))
    rows.append((f"{unit}conv{{k}}/kernel", f"{ours}conv{{k}}.weight", HWIO))
    rows += [
        ("embedding/kernel", "transformer.patch.weight", HWIO),
        ("embedding/bias", "transformer.patch.bias"),
        ("Transformer/posembed_input/pos_embedding", "transformer.position", POSITIONS),
        ("Transformer/encoder_norm/scale", "transformer.encoder.norm.weight"),
        ("Transformer/encoder_norm/bias", "transformer.encoder.norm.bias"),
    ]
    layer, block = "Transformer/encoderblock_{i}/", "transformer.encoder.blocks.{i}."
    attention = layer + "MultiHeadDotProductAttention_1/"
    for leaf, bend, out in (("kernel", heads_in(64), heads_out(64)), ("bias", heads_bias(64), None)):
        ends = "weight" if leaf == "kernel" else "bias"
        three = tuple(f"{attention}{name}/{leaf}" for name in ("query", "key", "value"))
        rows.append((three, f"{block}attn.qkv.{ends}", chain(bend, regrouped())))
        one: tuple[str, str] = (f"{attention}out/{leaf}", f"{block}attn.proj.{ends}")
        rows.append((*one, out) if out else one)
    for dense, name in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
        rows.append((f"{layer}MlpBlock_3/{dense}/kernel", f"{block}mlp.{name}.weight", TRANSPOSED))
        rows.append((f"{layer}MlpBlock_3/{dense}/bias", f"{block}mlp.{name}.bias"))
    for norm, name in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
        rows.append((f"{layer}{norm}/scale", f"{block}{name}.weight"))
        rows.append((f"{layer}{norm}/bias", f"{block}{name}.bias"))
    return tuple(rows)


def _release() -> tuple[Row, ...]:
    """Rows for the authors' PyTorch names."""
    root = "transformer.embeddings."
    layer, block = "transformer.encoder.layer.{i}.", "transformer.encoder.blocks.{i}."
    three = [f"{layer}attn.{name}" for name in ("query", "key", "value")]
    return (
        (f"{root}position_embeddings", "transformer.position", POSITIONS),
        (f"{root}patch_embeddings.{{leaf}}", "transformer.patch.{leaf}"),
        (f"{root}hybrid_model.root.{{rest}}", "backbone.{rest}"),
        (f"{root}hybrid_model.body.block{{b}}.unit{{j+1}}.{{rest}}", "backbone.block{b}.{j}.{rest}"),
        *(
            (tuple(f"{name}.{leaf}" for name in three), f"{block}attn.qkv.{leaf}", regrouped())
            for leaf in ("weight", "bias")
        ),
        (f"{layer}attn.out.{{leaf}}", f"{block}attn.proj.{{leaf}}"),
        (f"{layer}attention_norm.{{leaf}}", f"{block}norm1.{{leaf}}"),
        (f"{layer}ffn_norm.{{leaf}}", f"{block}norm2.{{leaf}}"),
        (f"{layer}ffn.{{rest}}", f"{block}mlp.{{rest}}"),
        ("transformer.encoder.encoder_norm.{leaf}", "transformer.encoder.norm.{leaf}"),
        ("decoder.conv_more.{rest}", "decoder.more.{rest}"),
        ("decoder.blocks.{i}.conv{k+1}.{rest}", "decoder.steps.{i}.convs.{k}.{rest}"),
        ("segmentation_head.0.{leaf}", "head.{leaf}"),
    )


KEY_MAPS = (
    KeyMap("transunet", _release(), words="Beckschen/TransUNet: files trained with the authors' PyTorch code"),
    KeyMap(
        "google",
        _google(),
        ignore=("cls", "head/*", "pre_logits/*"),
        lacks=("decoder.", "head."),
        words="Google's vision_transformer: R50+ViT-B_16.npz, ViT-B_16.npz and their like",
    ),
)
