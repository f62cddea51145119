"""Farabet's multi-scale network.

Paper: Learning Hierarchical Features for Scene Labeling (Farabet, Couprie, Najman & LeCun 2013, PAMI 35(8)).

The idea: one convolutional network, with the same weights, looks at a Laplacian pyramid of the picture. Its 46 x 46
pixels of field are 184 x 184 at the coarsest of three scales, so the features of a pixel know its details and its
surroundings. A classifier reads all scales side by side, and superpixels tidy its answer along the picture's edges.

Letters: B pictures, K classes, C channels, H x W pixels.

The picture becomes YUV, then three bands of a Laplacian pyramid; each band is brought to mean 0 and variance 1 within
15 x 15 pixels. Per scale: 7 x 7 convolution to 16 maps (10 read Y, 6 read U and V), tanh, 2 x 2 max-pool; 7 x 7 to 64
maps, each reading 8 of the 16; tanh, pool; 7 x 7 to 256 maps, each reading 32 of the 64. The tables of who reads what
are drawn from `seed` and travel with the weights. 768 features a pixel go through 1,024 hidden units to the classes.

- `way="strided"`, the default: features every 4 pixels, coarse scales and scores interpolated: the paper's fast form.
- `way="dilated"`, `stitch`, `patches` in eval mode: every pixel has the features of its own patches, at each scale.
- `predict` and `evaluate` replace each pixel's probabilities by the mean over its superpixel (Felzenszwalb's, on the
  picture as it is; the paper's equation for a component), so that a region takes its most probable class.
  `superpixels=0` leaves them; pictures that are labelled row by row into a file are left, too.

Departures: features and classifier learn together; the paper first learns the features with a linear classifier. The
deviation of a neighbourhood is kept from 0 by adding 0.01^2 to its square. The conditional random field and the cover
of a segmentation tree are left out.

The original (Lua) is not maintained and has no public weights, so there is nothing to compare with: the tests hold the
field, the layer table and the parameter count of the paper's description, and that the ways agree.

Published (pixel / class accuracy, not measured here): Stanford Background 78.8 / 72.4, with superpixels 80.4 / 74.6;
SIFT Flow 72.3 / 50.8 with balanced sampling of classes, 78.5 / 29.6 without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.media.draw import to_display
from sightline.nn.normalize import Normalize
from sightline.nn.patches import Way, answer_pixels, field_and_stride, run_dilated
from sightline.ops.resize import Padding, pad_to_multiple, resize, top_left
from sightline.ops.superpixels import felzenszwalb, mean_of_regions
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion

YUV = ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))

# Parts -----------------------------------------------------------------------------------------------------------


def halve(x: Tensor) -> Tensor:
    """`(B, C, H, W)` smoothed by 1 4 6 4 1, every second pixel: `(B, C, (H + 1) // 2, ...)` (Burt & Adelson 1983)."""
    tap = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(tap, tap).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def laplacian_pyramid(x: Tensor, scales: int = 3) -> list[Tensor]:
    """What each scale of `(B, C, H, W)` adds to the next coarser one, and the coarsest itself. Sides are 2^n k + 1."""
    bands = []
    for _ in range(scales - 1):
        coarse = halve(x)
        bands.append(x - resize(coarse, x.shape[-2:], rule="align_corners"))
        x = coarse
    return [*bands, x]


def normalize_locally(x: Tensor, side: int = 15, floor: float = 0.01) -> Tensor:
    """`(B, C, H, W)` with mean 0 and variance 1 in the `side` x `side` pixels around every pixel, a channel at a time.

    Beyond the border the neighbourhood ends. floor: a deviation that is added, so that flat places stay flat.
    """

    def around(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)

    mean = around(x)
    variance = (around(x * x) - mean * mean).clamp(min=0)
    return (x - mean) / (variance + floor**2).sqrt()


class TableConv2d(nn.Module):
    """A convolution in which each output map reads some of the input maps: a kernel for each pair in a table.

    pairs: (output, input) of each connection. weight: `(pairs, k, k)`.
    """

    outputs: Tensor
    inputs: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        table = torch.tensor(pairs, dtype=torch.int64)
        reads = Counter(k for k, _ in pairs)  # input maps of each output
        spread = torch.tensor([(reads[k] * kernel**2) ** -0.5 for k, _ in pairs])
        self.channels, self.kernel_size = (out_channels, in_channels), (kernel, kernel)
        self.register_buffer("outputs", table[:, 0].contiguous())
        self.register_buffer("inputs", table[:, 1].contiguous())
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        with torch.no_grad():
            self.weight.normal_().mul_(spread[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, maps, H - k + 1, W - k + 1)`."""
        return self.dilated(x, 1)

    def dilated(self, x: Tensor, step: int) -> Tensor:
        """The same with the kernel's samples `step` pixels apart."""
        kernel = self.weight.new_zeros(*self.channels, *self.kernel_size)
        kernel = kernel.index_put((self.outputs, self.inputs), self.weight)
        return F.conv2d(x, kernel, self.bias, dilation=step)


def first_table(in_channels: int, maps: int) -> list[tuple[int, int]]:
    """Ten of sixteen maps read Y, the others U and V; of pictures without colour, or of more bands, all read all."""
    if in_channels != 3:
        return [(k, c) for k in range(maps) for c in range(in_channels)]
    brightness = round(maps * 10 / 16)
    return [(k, 0) for k in range(brightness)] + [(k, c) for k in range(brightness, maps) for c in (1, 2)]


def random_table(in_channels: int, maps: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Each map reads half of the inputs, drawn at random; every input is read where there are maps enough."""
    reads = max(1, in_channels // 2)
    table = []
    order: list[int] = []
    for k in range(maps):
        if len(order) < reads:  # a new shuffle, the left-over inputs first
            order += [
                c for c in torch.randperm(in_channels, generator=generator, device="cpu").tolist() if c not in order
            ]
        table += [(k, c) for c in sorted(order[:reads])]
        order = order[reads:]
    return table


def scale_network(in_channels: int, maps: Sequence[int], kernel: int, seed: int) -> nn.Sequential:
    """The network that looks at every scale: three table convolutions, tanh and max-pools between."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    first, second, third = maps
    return nn.Sequential(
        TableConv2d(in_channels, first, kernel, first_table(in_channels, first)),
        nn.Tanh(),
        nn.MaxPool2d(2),
        TableConv2d(first, second, kernel, random_table(first, second, generator)),
        nn.Tanh(),
        nn.MaxPool2d(2),
        TableConv2d(second, third, kernel, random_table(second, third, generator)),
    )


# Network ---------------------------------------------------------------------------------------------------------


class Farabet(nn.Module):
    """A pyramid, one network for all its bands, a classifier on all features.

    network: a patch network of step 4. classifier: features of all scales to classes, 1 x 1. colour: RGB becomes YUV.
    superpixels: Felzenszwalb's scale, 0 for none.
    """

    HEAD = ("classifier.2.",)

    yuv: Tensor | None

    def __init__(
        self,
        network: nn.Sequential,
        classifier: nn.Module,
        *,
        scales: int = 3,
        neighbourhood: int = 15,
        colour: bool = True,
        way: Way = "strided",
        padding: Padding = "zeros",
        superpixels: float = 100.0,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(None)
        self.network, self.classifier = network, classifier
        self.scales, self.neighbourhood = scales, neighbourhood
        self.field, self.stride = field_and_stride(network)
        self.way: Way = way
        self.padding: Padding = padding
        self.superpixels = superpixels
        self.criterion = criterion or Criterion()
        self.register_buffer("yuv", torch.tensor(YUV)[:, :, None, None] if colour else None, persistent=False)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        size, way = images.shape[-2:], "strided" if self.training else self.way
        bands = self.bands(self.normalize(images, sizes))
        whole = bands[0].shape[-2:]
        found = [self.features(band, way) for band in bands]
        if way == "strided":
            places = found[0].shape[-2:]
            found = [found[0], *(resize(f, places, rule="align_corners") for f in found[1:])]
            logits = resize(self.classifier(torch.cat(found, dim=1)), whole, rule="align_corners")
        else:
            near = [f.repeat_interleave(2**s, 2).repeat_interleave(2**s, 3) for s, f in enumerate(found)]
            logits = self.classifier(torch.cat([top_left(f, whole) for f in near], dim=1))
        return Scores(top_left(logits, size))

    def bands(self, x: Tensor) -> list[Tensor]:
        """Locally normalised bands of the pyramid; the picture's last pixels are repeated to 2^n k + 1 a side first."""
        if self.yuv is not None:
            x = F.conv2d(x, self.yuv)
        x, _ = pad_to_multiple(x, self.stride * 2 ** (self.scales - 1), "replicate", plus=1)
        return [normalize_locally(band, self.neighbourhood) for band in laplacian_pyramid(x, self.scales)]

    def features(self, band: Tensor, way: Way) -> Tensor:
        """`(B, C, h, w)` to the features of every pixel, or of every fourth (`strided`)."""
        return answer_pixels(
            self.network,
            lambda x: run_dilated(self.network, x),
            band,
            field=self.field,
            stride=self.stride,
            way=way,
            padding=self.padding,
        )

    def tidy(self, probabilities: Tensor, image: np.ndarray) -> Tensor:
        """What `predict` does afterwards: `(K, H, W)` averaged over the superpixels of `image` `(H, W, C)`."""
        if not self.superpixels:
            return probabilities
        regions = torch.from_numpy(felzenszwalb(to_display(image), scale=self.superpixels))
        return mean_of_regions(probabilities, regions.to(probabilities.device))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builder ---------------------------------------------------------------------------------------------------------


def farabet(
    num_classes: int = 8,
    *,
    in_channels: int = 3,
    maps: Sequence[int] = (16, 64, 256),
    kernel: int = 7,
    scales: int = 3,
    hidden: int = 1024,
    way: Way = "strided",
    padding: Padding = "zeros",
    superpixels: float = 100.0,
    seed: int = 0,
) -> Farabet:
    """The multi-scale network (8 classes: 1,223,566 parameters).

    maps: of the three convolutions. kernel: their side. scales: bands of the pyramid. hidden: of the classifier. way:
    `strided`, `dilated`, `stitch` or `patches`, in eval mode. padding: what continues the bands: `zeros` (their mean),
    `reflect` or `replicate`. superpixels: Felzenszwalb's scale, 0 for none. seed: of the tables of connections.
    """
    if len(maps) != 3 or scales < 1:
        raise UsageError(f"maps {list(maps)} and {scales} scales: expected three numbers, and 1 or more scales")
    classifier = nn.Sequential(nn.Conv2d(maps[2] * scales, hidden, 1), nn.Tanh(), nn.Conv2d(hidden, num_classes, 1))
    for layer, gain in ((classifier[0], "tanh"), (classifier[2], "linear")):
        nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain(gain))  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return Farabet(
        scale_network(in_channels, maps, kernel, seed),
        classifier,
        scales=scales,
        colour=in_channels == 3,
        way=way,
        padding=padding,
        superpixels=superpixels,
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = ()
