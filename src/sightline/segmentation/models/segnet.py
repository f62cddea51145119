"""SegNet.

Papers: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation (Badrinarayanan, Kendall &
Cipolla 2015, arXiv:1511.00561); Bayesian SegNet: Model Uncertainty in Deep Convolutional Encoder-Decoder Architectures
for Scene Understanding (Kendall, Badrinarayanan & Cipolla 2015, arXiv:1511.02680).

The idea: the way down is VGG16's convolutions; every max-pool remembers where its maxima stood. The way up mirrors it:
values go back to those places, zeros elsewhere, and convolutions fill the gaps. Boundaries survive without keeping the
maps of the way down, only their places.

Letters: B pictures, K classes, C channels, H x W pixels.

- `segnet`: 13 convolutions down, 13 up (11 classes: 29,449,355 parameters). Pools round up and every unpooling gives
  the size that was pooled, so pictures of any size are answered: 360 x 480 goes down by 180 x 240, 90 x 120, 45 x 60
  and 23 x 30 to 12 x 15, as in the released files.
- `segnet_basic`: local response normalisation of the picture, four 7 x 7 convolutions of 64 channels down, four up
  without ReLU, a 1 x 1 classifier.
- `bayesian_segnet`: `segnet` with dropout at the three deepest levels, down and up. `predict` and `evaluate` ask it
  `samples` times with dropout on; the answer holds the mean probabilities and the uncertainty, a variance a pixel.
  Called directly (and exported) it answers once without dropout, which the paper calls weight averaging.
- `segnet_semseg`: the popular PyTorch port, whose pools round down and whose scores pass a batch norm and a ReLU.
  Exported, it takes pictures from 64 pixels a side on.

Pictures come as RGB in [0, 1]; the 0..255 BGR without a mean taken off that the released files want is made inside.

Departures: the number of samples is 8 (the paper sees the mean of samples win from about 6 on, and no gain beyond 40:
`samples=40`). Batch statistics are running means, not recomputed over the training set afterwards. Where pooled values
are equal the first in reading order is kept; Caffe may keep another.

The original cannot be run any more (a fork of Caffe), so there is no stored answer of it to compare with; the tests
hold the layer table and the parameter counts of its files (`segnet_basic`: 1,416,587) and its sizes.

Published (not measured here; CamVid, 11 classes): 60.1 mIoU for SegNet trained long, 50.0 after 40,000 steps; Bayesian
SegNet gains 2 to 3 points of class accuracy from sampling.

Loads: Caffe files with their layer names, batch norms folded (`caffe`); the port (`semseg`, into `segnet_semseg`);
torchvision's VGG16 with batch norm as the start of the way down (`torchvision-vgg16-bn`, with strict=False and
ImageNet's mean and std).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.conv import he_init
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.pooling import max_pool, unpool_max
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import BGR, folded_norm

RAW_MEAN = (0.0, 0.0, 0.0)
RAW_STD = (1 / 255, 1 / 255, 1 / 255)  # the network sees 0..255
DEPTHS = (2, 2, 3, 3, 3)
BAYESIAN = (2, 3, 4)  # levels with dropout

# Parts -----------------------------------------------------------------------------------------------------------


def unit(in_channels: int, out_channels: int, kernel: int = 3, *, relu: bool = True) -> nn.Sequential:
    """Convolution `0` with a bias, batch norm `1`, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *[nn.ReLU(inplace=True)] * relu)


def vgg_down(in_channels: int, widths: Sequence[int], depths: Sequence[int]) -> nn.ModuleList:
    """Levels of VGG: the first convolution of each changes the channels."""
    levels = []
    for width, depth in zip(widths, depths, strict=True):
        levels.append(nn.Sequential(*(unit(width if i else in_channels, width) for i in range(depth))))
        in_channels = width
    return nn.ModuleList(levels)


def vgg_up(widths: Sequence[int], depths: Sequence[int]) -> nn.ModuleList:
    """The mirror of `vgg_down`: the last convolution of each level changes the channels; level 0 has one less."""
    levels = []
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        last = widths[level - 1] if level else width
        count = depth if level else depth - 1
        levels.append(nn.Sequential(*(unit(width, last if i == count - 1 else width) for i in range(count))))
    return nn.ModuleList(levels)


# Network ---------------------------------------------------------------------------------------------------------


class SegNet(nn.Module):
    """Levels down with a max-pool after each, the same levels up with an unpooling before each, a score layer.

    encoder, decoder: one module a level, the finest first. score: channels of the finest level to classes. before:
    what the normalised picture passes first. ceil: pools round up. dropout: of single values after the pools of `drops`
    and after the decoder's levels of the same numbers. samples: looks that `predict` takes with dropout on; 0: one
    without.
    """

    HEAD = ("score.",)
    STEM = ("encoder.0.0.0.weight",)

    def __init__(
        self,
        encoder: nn.ModuleList,
        decoder: nn.ModuleList,
        score: nn.Module,
        *,
        before: nn.Module | None = None,
        ceil: bool = True,
        dropout: float = 0.0,
        drops: Sequence[int] = BAYESIAN,
        samples: int = 0,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.before = before or nn.Identity()
        self.encoder, self.decoder, self.score = encoder, decoder, score
        self.ceil = ceil
        self.drops = frozenset(drops) if dropout else frozenset()
        self.dropout = nn.Dropout(dropout)
        self.samples = samples
        self.criterion = criterion or Criterion()
        he_init(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        x, places = self.before(self.normalize(images, sizes)), []
        for level, convs in enumerate(self.encoder):
            x = convs(x)
            size = x.shape[-2:]
            x, indices = max_pool(x, 2, ceil=self.ceil)
            places.append((indices, size))
            x = self._drop(x, level)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](unpool_max(x, *places[level]))
            x = self._drop(x, level)
        return Scores(self.score(x))

    def _drop(self, x: Tensor, level: int) -> Tensor:
        return self.dropout(x) if level in self.drops else x

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def segnet(
    num_classes: int = 11,
    *,
    in_channels: int = 3,
    width: int = 64,
    mean: Sequence[float] | None = RAW_MEAN,
    std: Sequence[float] | None = RAW_STD,
) -> SegNet:
    """SegNet on VGG16 (11 classes: 29,449,355 parameters).

    width: channels of the first level; the others have 2, 4, 8 and 8 times as many. mean, std: in RGB order for
    [0, 1], None passes pictures through; three channels are swapped to BGR in any case unless mean is None.
    """
    return _on_vgg(num_classes, in_channels, width, mean, std)


def bayesian_segnet(
    num_classes: int = 11,
    *,
    in_channels: int = 3,
    width: int = 64,
    dropout: float = 0.5,
    samples: int = 8,
    mean: Sequence[float] | None = RAW_MEAN,
    std: Sequence[float] | None = RAW_STD,
) -> SegNet:
    """SegNet with dropout at its three deepest levels, asked `samples` times by `predict` and `evaluate`.

    samples: 0 for one answer without dropout. The other values are `segnet`'s.
    """
    if samples < 0 or not 0 < dropout < 1:
        raise UsageError(f"samples {samples} and dropout {dropout}: expected 0 or more, and a share between 0 and 1")
    return _on_vgg(num_classes, in_channels, width, mean, std, dropout=dropout, samples=samples)


def segnet_semseg(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    width: int = 64,
    mean: Sequence[float] | None = RAW_MEAN,
    std: Sequence[float] | None = RAW_STD,
) -> SegNet:
    """The port of meetshah1995/pytorch-semseg: pools that round down, batch norm and ReLU on the scores.

    11 classes: 29,449,377 parameters, 22 more than the paper's.
    """
    return _on_vgg(num_classes, in_channels, width, mean, std, ceil=False, score=unit(width, num_classes))


def segnet_basic(
    num_classes: int = 11,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 4,
    mean: Sequence[float] | None = RAW_MEAN,
    std: Sequence[float] | None = RAW_STD,
) -> SegNet:
    """SegNet-Basic: `depth` levels of one 7 x 7 convolution of `width` channels (11 classes: 1,416,587 parameters)."""
    down = [nn.Sequential(unit(width if level else in_channels, width, 7)) for level in range(depth)]
    up = [nn.Sequential(unit(width, width, 7, relu=False)) for _ in range(depth)]
    return SegNet(
        nn.ModuleList(down),
        nn.ModuleList(up),
        nn.Conv2d(width, num_classes, 1),
        before=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        normalize=_normalize(mean, std, in_channels),
    )


def _on_vgg(
    num_classes: int,
    in_channels: int,
    width: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    ceil: bool = True,
    score: nn.Module | None = None,
    dropout: float = 0.0,
    samples: int = 0,
) -> SegNet:
    widths = [width * factor for factor in (1, 2, 4, 8, 8)]
    return SegNet(
        vgg_down(in_channels, widths, DEPTHS),
        vgg_up(widths, DEPTHS),
        score or nn.Conv2d(width, num_classes, 3, padding=1),
        ceil=ceil,
        dropout=dropout,
        samples=samples,
        normalize=_normalize(mean, std, in_channels),
    )


def _normalize(mean: Sequence[float] | None, std: Sequence[float] | None, in_channels: int) -> Normalize:
    mean, std = for_channels(mean, std, in_channels)
    return Normalize(mean, std, bgr=mean is not None and in_channels == 3)


# Public names ----------------------------------------------------------------------------------------------------

NORM = ("weight", "bias", "running_mean", "running_var")
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)  # places of the convolutions in torchvision's `features`
PLACES = [(level, i) for level, depth in enumerate(DEPTHS) for i in range(depth)]


def _caffe(public: str, norm: str, ours: str) -> tuple:
    """A convolution with its folded norm, from Caffe's two layers to our unit."""
    folded = (tuple(f"{norm}.{part}" for part in ("weight", "bias")), tuple(f"{ours}.1.{part}" for part in NORM))
    return (f"{public}.weight", f"{ours}.0.weight"), (f"{public}.bias", f"{ours}.0.bias"), (*folded, folded_norm(1e-5))


def _vgg_rows() -> list[tuple]:
    """`conv1_1`, `conv1_1_bn` ... down, `conv5_3_D` ... `conv1_2_D` up; `conv1_1_D` are the scores."""
    rows: list[tuple] = [("conv1_1_D.weight", "score.weight"), ("conv1_1_D.bias", "score.bias")]
    for level, i in PLACES:
        name = f"conv{level + 1}_{i + 1}"
        rows += _caffe(name, f"{name}_bn", f"encoder.{level}.{i}")
        if (level, i) != (0, 0):
            place = f"decoder.{level}.{DEPTHS[level] - 1 - i}"
            rows += _caffe(f"{name}_D", f"{name}_D_bn", place)
    return rows


KEY_MAPS = (
    KeyMap("caffe", tuple(_vgg_rows()), words="alexgkendall/SegNet-Tutorial: SegNet and Bayesian SegNet, norms folded"),
    KeyMap(
        "caffe-basic",
        (
            ("conv_classifier.{rest}", "score.{rest}"),
            *(row for i in range(4) for row in _caffe(f"conv{i + 1}", f"conv{i + 1}_bn", f"encoder.{i}.0")),
            *(
                row
                for i in range(4)
                for row in _caffe(f"conv_decode{i + 1}", f"conv_decode{i + 1}_bn", f"decoder.{i}.0")
            ),
        ),
        words="alexgkendall/SegNet-Tutorial: SegNet-Basic, norms folded",
    ),
    KeyMap(
        "semseg",
        (
            ("up1.conv2.cbr_unit.{rest}", "score.{rest}"),
            ("down{i+1}.conv{j+1}.cbr_unit.{rest}", "encoder.{i}.{j}.{rest}"),
            ("up{i+1}.conv{j+1}.cbr_unit.{rest}", "decoder.{i}.{j}.{rest}"),
        ),
        prefix="module.",
        container="model_state",
        words="meetshah1995/pytorch-semseg: segnet, with norm and ReLU on the scores",
    ),
    KeyMap(
        "torchvision-vgg16-bn",
        (
            ("features.0.weight", "encoder.0.0.0.weight", BGR),
            *(
                (f"features.{place + k}.{{rest}}", f"encoder.{level}.{i}.{k}.{{rest}}")
                for place, (level, i) in zip(VGG16_BN, PLACES)
                for k in (0, 1)
            ),
        ),
        ignore=("classifier.*",),
        words="torchvision's VGG16 with batch norm: the way down, so load it with strict=False",
    ),
)
