"""ResUNet-a.

Paper: ResUNet-a: a deep learning framework for semantic segmentation of remotely sensed data (Diakogiannis, Waldner,
Caccetta & Wu 2020, arXiv:1904.00592).

The idea: aerial pictures hold objects of every size, so each residual unit sees through several dilations at once, and
a pyramid of maxima sees the whole tile. The network learns four things of every tile: how far each pixel is from the
edge of its class, where the edges are, which class it is, and the colours of the picture itself; each is told what the
ones before it found. Whoever knows the edges draws better regions.

Letters: B pictures, K classes, C channels, H x W pixels.

- `resunet_a`, the one to start with: d6 for pictures of three channels.
- `resunet_a_d6`, `resunet_a_d7`: the authors' networks of six and seven levels, for Potsdam's five bands.

What it learns from: the classes' labels alone. Boundaries are the pixels of a class that touch another, and those
within one step; distances are Euclidean, to the nearest pixel of another class, divided by the largest of the tile;
colours are the picture's first three channels as hue, saturation and value. Each task's loss is Tanimoto with
complement; the run's `loss` replaces that of the segmentation.

Sizes: the originals take multiples of 256. Here a picture is padded with zeros at the bottom and right to the next
multiple of 32 (d7: 64), the fields of the pyramid are rounded up where they do not divide, and the scores are cropped;
multiples of 256 are answered as published.

Departures: boundaries are found by comparing neighbours, where the authors run Canny's detector on the class's mask.
The loss's smoothing is that of a tile of 256 x 256 whatever the size; as published it hides large tiles. Ignored pixels
are neither a class's nor an edge's. The order of the paper's figures is kept as the released code has it: nearest
upsampling, maxima in the pyramid.

Published, by the paper (not measured here): ISPRS Potsdam, mean F1 92.9. No weights were ever released.

Loads: feevos/resuneta (`resuneta`), a Gluon parameter file whose tensors were saved as `.npz` under their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import conv_norm_act, he_init
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.colour import rgb_to_hsv
from sightline.ops.resize import pad_to_multiple, top_left
from sightline.ops.tree import register_dataclass
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import IGNORE, Scores, Target, decode, probabilities
from sightline.segmentation.losses import Criterion
from sightline.segmentation.tanimoto import tanimoto
from sightline.weights.keymap import KeyMap, Row

D6 = ((1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15), (1, 3, 5), (1,), (1,))
D6_UP = ((1, 3, 5), (1, 3, 15), (1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15, 31))
D7 = (*D6, (1,))
D7_UP = ((1,), (1, 3, 15), (1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15, 31))
TILE = 256 * 256


@register_dataclass
@dataclass(frozen=True)
class Tasks(Scores):
    """The four answers, all before their activation and at the picture's size; and the picture's own colours."""

    boundary: Tensor | None = None  # (B, K, H, W)
    distance: Tensor | None = None  # (B, K, H, W)
    colour: Tensor | None = None  # (B, 3, H, W)
    hsv: Tensor | None = None  # (B, 3, H, W) in 0..1: what `colour` is to become


# Parts -----------------------------------------------------------------------------------------------------------


class Branch(nn.Sequential):
    """Norm, ReLU and a dilated 3x3 convolution, twice; only the second convolution has a bias."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
        )


class Unit(nn.Module):
    """A map plus what each of its branches, one a dilation, finds in it."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(channels, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = x
        for branch in self.branches:
            y = y + branch(x)
        return y


class MaxPyramid(nn.Module):
    """The map beside its maxima over 1, 2 x 2, 4 x 4 ... fields, each spread over its field again, mixed by a 1x1.

    levels: how many grids of fields; each is narrowed to `out_channels` divided by their number.
    """

    def __init__(self, in_channels: int, out_channels: int, levels: int) -> None:
        super().__init__()
        narrow = max(out_channels // levels, 1)
        self.levels = nn.ModuleList(conv_norm_act(in_channels, narrow, 1, act=None) for _ in range(levels))
        self.mix = conv_norm_act(in_channels + levels * narrow, out_channels, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, out, H, W)`."""
        parts = [x]
        for i, level in enumerate(self.levels):
            conv, norm = level.children()  # between them: a 1x1 costs less before the values are spread
            parts.append(norm(spread(conv(field_maxima(x, 2**i)), x.shape[-2:])))
        return self.mix(torch.cat(parts, dim=1))


def field_maxima(x: Tensor, fields: int) -> Tensor:
    """Maxima over `fields` x `fields` equal parts, `(B, C, H, W)` to `(B, C, fields, fields)`.

    Where a side does not divide, parts are ceil(side / fields) long and the last ones repeat the edge.
    """
    if fields == 1:
        return x.amax((2, 3), keepdim=True)
    for axis in (3, 2):
        n = x.shape[axis]
        step = (n + fields - 1) // fields
        start = torch.arange(fields, device=x.device)[:, None] * step
        # one place more than a part has, a repeated one: a program exported from parts of one place would know no other
        place = start + torch.arange(step + 1, device=x.device).clamp(max=step - 1)
        parts = x.index_select(axis, place.clamp(max=n - 1).flatten())
        x = parts.unflatten(axis, (fields, step + 1)).amax(axis + 1)
    return x


def spread(x: Tensor, size: Sequence[int]) -> Tensor:
    """Each value over its field again: `(B, C, n, n)` to `(B, C, *size)`."""
    for axis, length in enumerate(size, start=2):
        n = x.shape[axis]
        step = (length + n - 1) // n
        x = x.index_select(axis, torch.arange(length, device=x.device) // step)
    return x


class Step(nn.Module):
    """One step up: a 1x1 to half the channels of the level reached, twice the size, the skip joined, a 1x1, a unit."""

    def __init__(self, deep: int, skip: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.up = conv_norm_act(deep, deep // 4, 1)
        self.join = conv_norm_act(deep // 4 + skip, skip, 1, act=None)
        self.unit = Unit(skip, dilations)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """`(B, deep, H, W)` and `(B, skip, 2 H, 2 W)` to the skip's shape."""
        x = F.interpolate(self.up(x), scale_factor=2, mode="nearest")  # a 1x1 and its norm do not mind the order
        return self.unit(self.join(torch.cat([x, skip], dim=1)))


def head(in_channels: int, width: int, out_channels: int, convolutions: int) -> nn.Sequential:
    """3x3 convolutions with norm and ReLU, then a 1x1 to the scores."""
    channels = (in_channels, *(width,) * convolutions)
    convs = [conv_norm_act(a, b) for a, b in pairwise(channels)]
    return nn.Sequential(*convs, nn.Conv2d(width, out_channels, 1))


# Network ---------------------------------------------------------------------------------------------------------


class ResUNetA(nn.Module):
    """Encoder, pyramid, decoder, pyramid, four conditioned heads.

    down, up: dilations of the units of each level, fine to coarse, and of each step up, coarse to fine. fields: levels
    of the pyramid in the middle and of the last one. criterion: of the segmentation; None: Tanimoto, as published.
    """

    HEAD = ("segmentation.", "boundary.", "distance.")
    READS_SCORES = ("segmentation.0.", "boundary.0.")
    OPTIONAL = ("colour.",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        width: int = 32,
        down: Sequence[Sequence[int]] = D6,
        up: Sequence[Sequence[int]] = D6_UP,
        fields: tuple[int, int] = (4, 4),
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.stem = conv_norm_act(in_channels, width, 1)
        widths = [width * 2**i for i in range(len(down))]
        self.down = nn.ModuleList(Unit(n, dilations) for n, dilations in zip(widths, down))
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1, bias=False) for a, b in pairwise(widths))
        self.middle = MaxPyramid(widths[-1], widths[-1], fields[0])
        pairs = zip(widths[:0:-1], widths[-2::-1], up)
        self.up = nn.ModuleList(Step(deep, skip, dilations) for deep, skip, dilations in pairs)
        self.last = MaxPyramid(2 * width, width, fields[1])
        self.distance = head(2 * width, width, num_classes, 2)
        self.boundary = head(width + num_classes, width, num_classes, 1)
        self.segmentation = head(width + 2 * num_classes, width, num_classes, 2)
        self.colour: nn.Module | None = nn.Conv2d(2 * width, 3, 1)
        self.criterion = criterion

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Tasks:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to four maps of scores."""
        x, _ = pad_to_multiple(self.normalize(images, sizes), 2 ** len(self.halve))
        first = x = self.stem(x)
        skips: list[Tensor] = []
        for i, unit in enumerate(self.down):
            x = unit(x if i == 0 else self.halve[i - 1](x))
            skips.append(x)
        x = torch.relu(self.middle(x))
        for step, skip in zip(self.up, skips[-2::-1]):
            x = step(x, skip)
        both = torch.cat([first, x], dim=1)
        pooled = torch.relu(self.last(both))
        distance = self.distance(both)
        said = probabilities(distance)
        boundary = self.boundary(torch.cat([pooled, said], dim=1))
        logits = self.segmentation(torch.cat([pooled, boundary.sigmoid(), said], dim=1))
        size = images.shape[-2:]
        logits, boundary, distance = (top_left(map, size) for map in (logits, boundary, distance))
        if self.colour is None:
            return Tasks(logits, boundary=boundary, distance=distance)
        rgb = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
        colour = top_left(self.colour(both), size)
        return Tasks(logits, boundary=boundary, distance=distance, colour=colour, hsv=rgb_to_hsv(rgb))

    def losses(self, out: Tasks, targets: Target) -> dict[str, Tensor]:
        """Learn: the segmentation's terms, then `boundary`, `distance` and, when the head is there, `colour`."""
        truth, valid = one_hot(targets.labels, out.logits.shape[1])
        counted = valid if targets.weights is None else valid * targets.weights[:, None]
        smooth = 1e-5 * TILE / (truth.shape[-2] * truth.shape[-1])

        def missed(said: Tensor, meant: Tensor, counts: Tensor = counted) -> Tensor:
            return (1 - tanimoto(said.float(), meant, valid=counts, smooth=smooth)).mean()

        if self.criterion is None:
            found = {"tanimoto": missed(probabilities(out.logits), truth)}
        else:
            found = self.criterion(out, targets)
        assert out.boundary is not None and out.distance is not None
        found["boundary"] = missed(out.boundary.sigmoid(), boundaries(truth, valid))
        found["distance"] = missed(probabilities(out.distance), distances(truth, valid))
        if out.colour is not None and out.hsv is not None:
            found["colour"] = missed(out.colour.sigmoid(), out.hsv, counted.amax(1, keepdim=True))
        return found

    def decode(self, out: Tasks, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# What it learns from ---------------------------------------------------------------------------------------------


def one_hot(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Labels `(B, H, W)`, or `(B, K, H, W)` of several labels a pixel, to truth `(B, K, H, W)` and what is not ignored.

    Both float32; the second has 1 or K channels. One class: the truth of label 1.
    """
    labels = labels if labels.ndim == 4 else labels[:, None]
    valid = (labels != IGNORE).float()
    if labels.shape[1] == 1 < classes:
        return (labels == torch.arange(classes, device=labels.device)[:, None, None]).float(), valid
    return (labels == 1).float(), valid


def boundaries(truth: Tensor, valid: Tensor) -> Tensor:
    """1 on the pixels of a class that touch (left, right, above, below) another, and within one step of them, else 0.

    truth, valid: `(B, K, H, W)` and `(B, 1 or K, H, W)` of 0 and 1. Ignored pixels and the tile's border are no other
    class.
    """
    inside = torch.where(valid > 0, truth, 1.0)
    edge = truth * (1 - _cross(inside, least=True))
    return _cross(edge, least=False)


def _cross(x: Tensor, *, least: bool) -> Tensor:
    """The smallest or largest of each pixel and its four neighbours; beyond the border nothing counts."""
    x = -x if least else x
    rows = F.max_pool2d(x, (3, 1), 1, (1, 0))
    columns = F.max_pool2d(x, (1, 3), 1, (0, 1))
    found = torch.maximum(rows, columns)
    return -found if least else found


def distances(truth: Tensor, valid: Tensor) -> Tensor:
    """How deep each pixel lies in its class, 0..1: the distance to the nearest pixel of another class over the largest.

    A class that fills the tile is 1 everywhere. Computed on the CPU, a class at a time.
    """
    from scipy.ndimage import distance_transform_edt

    inside = torch.where(valid > 0, truth, 1.0).bool().cpu().numpy()
    there = truth.flatten(2).amax(2).cpu().numpy()
    found = torch.zeros(truth.shape)
    for b in range(len(inside)):
        for k in range(inside.shape[1]):
            if not there[b, k]:
                continue
            if inside[b, k].all():
                found[b, k] = 1.0
                continue
            deep = torch.from_numpy(distance_transform_edt(inside[b, k])).float() * truth[b, k].cpu()
            found[b, k] = deep / deep.max()
    return found.to(truth.device)


# Builders --------------------------------------------------------------------------------------------------------


def resunet_a(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    width: int = 32,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> ResUNetA:
    """The ResUNet-a to start with: d6; pictures of any size.

    width: channels of the first level, doubled at each.
    """
    return resunet_a_d6(num_classes, in_channels=in_channels, width=width, mean=mean, std=std)


def resunet_a_d6(
    num_classes: int = 6,
    *,
    in_channels: int = 5,
    width: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ResUNetA:
    """Six levels (6 classes, 5 bands: 58,037,781 parameters)."""
    net = ResUNetA(
        num_classes,
        in_channels=in_channels,
        width=width,
        down=D6,
        up=D6_UP,
        fields=(4, 4),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


def resunet_a_d7(
    num_classes: int = 6,
    *,
    in_channels: int = 5,
    width: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ResUNetA:
    """Seven levels (6 classes, 5 bands: 184,537,873 parameters)."""
    net = ResUNetA(
        num_classes,
        in_channels=in_channels,
        width=width,
        down=D7,
        up=D7_UP,
        fields=(3, 4),
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )
    he_init(net)
    return net


# Public names ----------------------------------------------------------------------------------------------------


def _normed(public: str, ours: str) -> tuple[Row, ...]:
    """Rows of a Gluon batch norm."""
    leaves = (("gamma", "weight"), ("beta", "bias"), ("running_mean", "running_mean"), ("running_var", "running_var"))
    return tuple((f"{public}.{theirs}", f"{ours}.{leaf}") for theirs, leaf in leaves)


def _conv(public: str, ours: str) -> tuple[Row, ...]:
    """Rows of a Gluon convolution with its batch norm."""
    return ((f"{public}.conv2d.weight", f"{ours}.0.weight"), *_normed(f"{public}.norm_layer", f"{ours}.1"))


def _unit(public: str, ours: str) -> tuple[Row, ...]:
    """Rows of a residual unit's branches."""
    block, branch = f"{public}.ResBlock{{j+1}}", f"{ours}.branches.{{j}}"
    return (
        *_normed(f"{block}.BN1", f"{branch}.0"),
        (f"{block}.conv1.weight", f"{branch}.2.weight"),
        *_normed(f"{block}.BN2", f"{branch}.3"),
        (f"{block}.conv2.{{leaf}}", f"{branch}.5.{{leaf}}"),
    )


def _head(public: str, ours: str) -> tuple[Row, ...]:
    return (*_conv(f"{public}.{{2i}}", f"{ours}.{{i}}"), (f"{public}.{{2i}}.{{leaf}}", f"{ours}.{{i}}.{{leaf}}"))


KEY_MAPS = (
    KeyMap(
        "resuneta",
        (
            *_conv("encoder.conv_first_normed", "stem"),
            *_unit("encoder.Dn{i+1}", "down.{i}"),
            ("encoder.pool{i+1}.convdn.weight", "halve.{i}.weight"),
            *_conv("encoder.middle.convs.{i}", "middle.levels.{i}"),
            *_conv("encoder.middle.conv_norm_final", "middle.mix"),
            *_conv("UpComb{i+1}.up.convup_normed", "up.{i}.up"),
            *_conv("UpComb{i+1}.conv_normed", "up.{i}.join"),
            *_unit("UpConv{i+1}", "up.{i}.unit"),
            *_conv("psp_2ndlast.convs.{i}", "last.levels.{i}"),
            *_conv("psp_2ndlast.conv_norm_final", "last.mix"),
            *_head("logits", "segmentation"),
            *_head("bound_logits", "boundary"),
            *_head("distance_logits", "distance"),
            ("color_logits.{leaf}", "colour.{leaf}"),
        ),
        words="feevos/resuneta: ResUNet_d6 and ResUNet_d7 with four conditioned tasks",
    ),
)
