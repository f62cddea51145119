"""DeconvNet.

Paper: Learning Deconvolution Network for Semantic Segmentation (Noh, Hong & Han 2015, arXiv:1505.04366).

The idea: VGG16 goes down to a single vector, and a mirrored network of unpoolings and transposed convolutions draws the
segmentation from it. It looks at windows around object proposals, each brought to one size, so that large and small
objects are seen alike; for each pixel and class the largest score of all windows counts. Its product with FCN-8s'
scores is better than either.

Letters: B pictures, K classes, C channels, H x W pixels, N windows.

- `deconvnet`: the network (21 classes: 251,805,653 parameters). A picture larger than the `window` (224) is seen as by
  a fully convolutional network, one vector for each place of the 7 x 7 kernel; a smaller one is padded with the mean.
  Pools round up, as Caffe's.
- `deconvnet_ensemble`: DeconvNet times FCN-8s (EDeconvNet in the paper). Its parts learn by their own losses.

Windows: `forward(images, proposals=boxes)` takes any boxes `(B, N, 4)`, from EdgeBoxes or whatever else finds objects,
and merges them on a canvas of zeros as published. `predict` and `evaluate` do it with a regular grid: `windows` levels,
1 x 1, 2 x 2, ... overlapping by half; `windows=0` looks at the whole picture once.

Departures: windows are a regular grid where no proposals are given; the conditional random field afterwards is left
out. With one vector in the whole batch the norms of fc6 and fc7 use their running statistics in training too. The paper
trains in two stages, on crops around objects and then on proposals; here crops are the training's augmentation.

The original cannot be run any more (a fork of Caffe), so there is no stored answer of it to compare with; the tests
hold the layer table and the parameter count of its files.

Published (VOC 2012 test mIoU, not measured here): DeconvNet 69.6, with FCN-8s 71.7, and with a random field 72.5.

Loads: Caffe files with their layer names, batch norms folded (`caffe`), for research only by their licence. The
ensemble's parts are networks of their own: `load_weights(net.deconvnet, ...)`, `load_weights(net.fcn, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.pooling import max_pool, unpool_max
from sightline.ops.resize import top_left
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.segmentation.models.fcn import CAFFE_MEAN, CAFFE_STD, FCN, fcn8s
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import folded_norm

DEPTHS = (2, 2, 3, 3, 3)

# Parts -----------------------------------------------------------------------------------------------------------


class VectorNorm(nn.BatchNorm2d):
    """Batch norm that also trains on a single value a channel: then the running statistics stand in for the batch's."""

    def forward(self, input: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def conv(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    """Convolution `0` with a bias, batch norm `1`, ReLU."""
    return _unit(nn.Conv2d(in_channels, out_channels, kernel, padding=padding), out_channels)


def deconv(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    """Transposed convolution `0` of stride 1 with a bias, batch norm `1`, ReLU."""
    return _unit(nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding), out_channels)


def _unit(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, VectorNorm(channels), nn.ReLU(inplace=True))


def grid_of_windows(height: int, width: int, levels: int) -> Tensor:
    """Windows `(N, 4)`, xyxy in pixels: level n has n x n of them, which overlap their neighbours by half."""
    boxes = []
    for n in range(1, levels + 1):
        h, w = 2 * height / (n + 1), 2 * width / (n + 1)
        boxes += [(i * w / 2, j * h / 2, i * w / 2 + w, j * h / 2 + h) for j in range(n) for i in range(n)]
    return torch.tensor(boxes)


def crop_boxes(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What lies in `boxes` `(B, 4)` of `(B, C, H, W)`, brought to `(B, C, size, size)` linearly; zeros outside."""
    step = (torch.arange(size, device=images.device) + 0.5) / size
    x = boxes[:, None, 0] + step * (boxes[:, None, 2] - boxes[:, None, 0])  # (B, size) pixels
    y = boxes[:, None, 1] + step * (boxes[:, None, 3] - boxes[:, None, 1])
    return _sample(images, x, y)


def paste_boxes(scores: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `crop_boxes`: `(B, K, size, size)` on a canvas `(B, K, height, width)`, 0 outside the boxes."""
    size = scores.shape[-1]
    columns = torch.arange(width, device=scores.device) + 0.5
    rows = torch.arange(height, device=scores.device) + 0.5
    x = (columns - boxes[:, None, 0]) / (boxes[:, None, 2] - boxes[:, None, 0]) * size
    y = (rows - boxes[:, None, 1]) / (boxes[:, None, 3] - boxes[:, None, 1]) * size
    inside = ((x >= 0) & (x <= size))[:, None, None, :] & ((y >= 0) & (y <= size))[:, None, :, None]
    return _sample(scores, x.clamp(0.5, size - 0.5), y.clamp(0.5, size - 0.5)) * inside


def _sample(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`(B, C, H, W)` at the continuous pixel positions of columns `x` `(B, w)` and rows `y` `(B, h)`."""
    height, width = values.shape[-2:]
    across, down = 2 * x / width - 1, 2 * y / height - 1
    places = torch.stack(
        [across[:, None, :].expand(-1, y.shape[1], -1), down[:, :, None].expand(-1, -1, x.shape[1])], dim=-1
    )
    return F.grid_sample(values, places.to(values.dtype), mode="bilinear", align_corners=False)


# Network ---------------------------------------------------------------------------------------------------------


class DeconvNet(nn.Module):
    """VGG16 down to one vector a `window`, its mirror image up.

    widths: channels of the five levels. hidden: channels of the vector. window: pixels of a side that become one
    vector, a multiple of 32. windows: levels of the grid that `look` uses, 0 for the whole picture at once.
    """

    HEAD = ("score.",)
    STEM = ("encoder.0.0.0.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        window: int = 224,
        windows: int = 3,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        if window < 32 or window % 32 or windows < 0:
            raise UsageError(f"window {window} and windows {windows}: expected a multiple of 32, and 0 or more levels")
        self.normalize = normalize
        self.window, self.windows = window, windows
        self.criterion = criterion or Criterion()
        down, up = [], []
        before = in_channels
        for level, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True)):
            last = widths[max(level - 1, 0)]
            down.append(nn.Sequential(*(conv(width if i else before, width) for i in range(depth))))
            up.append(nn.Sequential(*(deconv(width, last if i == depth - 1 else width) for i in range(depth))))
            before = width
        self.encoder, self.decoder = nn.ModuleList(down), nn.ModuleList(up)
        self.fc6 = conv(before, hidden, window // 32, 0)
        self.fc7 = conv(hidden, hidden, 1, 0)
        self.fc6_deconv = deconv(hidden, before, window // 32, 0)
        self.score = nn.Conv2d(widths[0], num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        images: Tensor,
        *,
        sizes: Tensor | None = None,
        targets: Target | None = None,
        proposals: Tensor | None = None,
    ) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits.

        proposals: `(B, N, 4)` boxes, xyxy in pixels; each is seen alone at the window's size, and the largest score of
        each pixel and class counts, or 0 where no window gives more.
        """
        x = self.normalize(images, sizes)
        if proposals is None:
            return Scores(self.scores(x))
        canvas = torch.zeros((), device=x.device, dtype=x.dtype)
        for boxes in proposals.unbind(1):
            found = self.scores(crop_boxes(x, boxes, self.window))
            canvas = torch.maximum(canvas, paste_boxes(found, boxes, x.shape[-2], x.shape[-1]))
        return Scores(canvas)

    def scores(self, x: Tensor) -> Tensor:
        """Normalised pictures `(B, C, H, W)` to class scores `(B, K, H, W)`."""
        size = x.shape[-2:]
        right, bottom = (torch.sym_max(self.window, n) - n for n in (size[1], size[0]))
        x, places = F.pad(x, [0, right, 0, bottom]), []  # pyright: ignore[reportArgumentType]
        for convs in self.encoder:
            x = convs(x)
            before = x.shape[-2:]
            x, indices = max_pool(x, 2, ceil=True)
            places.append((indices, before))
        x = self._through_vectors(x)
        for (indices, before), deconvs in zip(reversed(places), reversed(self.decoder)):
            x = deconvs(unpool_max(x, indices, before))
        return top_left(self.score(x), size)

    def _through_vectors(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return self.fc6_deconv(self.fc7(self.fc6(x)))
        # a program traced with one vector would take one only: there is a second one here, which is 0 and draws nothing
        vectors = self.fc7(self.fc6(F.pad(x, (0, 1, 0, 1))))
        for axis in (2, 3):
            count = vectors.shape[axis]
            kept = torch.arange(count, device=x.device) < count - 1
            vectors = vectors * kept.to(x.dtype).view(-1, *[1] * (3 - axis))
        return top_left(self.fc6_deconv(vectors), x.shape[-2:])

    def look(self, images: Tensor) -> Scores:
        """What `predict` asks for: the scores of a grid of windows."""
        return self(images, proposals=_grid(self, images))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


def _grid(net: DeconvNet, images: Tensor) -> Tensor | None:
    if not net.windows:
        return None
    boxes = grid_of_windows(images.shape[-2], images.shape[-1], net.windows).to(images)
    return boxes.expand(len(images), -1, -1)


class DeconvNetEnsemble(nn.Module):
    """The product of DeconvNet's and FCN-8s' scores, both from 0 on (EDeconvNet; section 4.4 of the paper)."""

    HEAD = ("deconvnet.score.", "fcn.score_", "fcn.upscore")
    STEM = ("deconvnet.encoder.0.0.0.weight", "fcn.backbone.features.0.weight")

    def __init__(self, deconvnet: DeconvNet, fcn: FCN, *, criterion: Criterion | None = None) -> None:
        super().__init__()
        self.deconvnet, self.fcn = deconvnet, fcn
        self.criterion = criterion or Criterion()

    def forward(
        self,
        images: Tensor,
        *,
        sizes: Tensor | None = None,
        targets: Target | None = None,
        proposals: Tensor | None = None,
    ) -> Scores:
        """See: `(B, C, H, W)` pictures to the product `(B, K, H, W)`; `aux`: both parts' logits, for their losses."""
        one = self.deconvnet(images, sizes=sizes, proposals=proposals).logits
        other = self.fcn(images, sizes=sizes).logits
        return Scores(one.relu() * other.relu(), (one, other))

    def look(self, images: Tensor) -> Scores:
        """What `predict` asks for: DeconvNet's windows times FCN-8s on the whole picture."""
        return self(images, proposals=_grid(self.deconvnet, images))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: each part by its own terms, `deconvnet_...` and `fcn_...`; the product is not trained."""
        parts = zip(("deconvnet", "fcn"), out.aux, strict=True)
        return {
            f"{name}_{term}": value
            for name, logits in parts
            for term, value in self.criterion(Scores(logits), targets).items()
        }

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def deconvnet(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    width: int = 64,
    hidden: int | None = None,
    window: int = 224,
    windows: int = 3,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> DeconvNet:
    """DeconvNet (21 classes: 251,805,653 parameters).

    width: channels of the first level; the others have 2, 4, 8 and 8 times as many, and the vector `hidden`, 64 times
    as many where nothing else is said. window: pixels of a side that become one vector, a multiple of 32. windows:
    levels of the grid `predict` looks at, 0 for the whole picture at once. mean, std: in RGB order for [0, 1], None
    passes pictures through; three channels are swapped to BGR in any case unless mean is None.
    """
    mean, std = for_channels(mean, std, in_channels)
    return DeconvNet(
        num_classes,
        in_channels=in_channels,
        widths=[width * factor for factor in (1, 2, 4, 8, 8)],
        hidden=64 * width if hidden is None else hidden,
        window=window,
        windows=windows,
        normalize=Normalize(mean, std, bgr=mean is not None and in_channels == 3),
    )


def deconvnet_ensemble(
    num_classes: int = 21,
    *,
    in_channels: int = 3,
    width: int = 64,
    hidden: int | None = None,
    window: int = 224,
    windows: int = 3,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> DeconvNetEnsemble:
    """DeconvNet times FCN-8s (21 classes: 386,295,412 parameters); the values are `deconvnet`'s, for both parts."""
    one = deconvnet(
        num_classes,
        in_channels=in_channels,
        width=width,
        hidden=hidden,
        window=window,
        windows=windows,
        mean=mean,
        std=std,
    )
    other = fcn8s(
        num_classes,
        in_channels=in_channels,
        widths=[width * factor for factor in (1, 2, 4, 8, 8)],
        hidden=64 * width if hidden is None else hidden,
        mean=mean,
        std=std,
    )
    return DeconvNetEnsemble(one, other)


# Public names ----------------------------------------------------------------------------------------------------


def _caffe(layer: str, norm: str, ours: str) -> tuple:
    """A convolution and its folded norm, from Caffe's two layers to our unit."""
    public = (f"{norm}.weight", f"{norm}.bias")
    four = tuple(f"{ours}.1.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
    return (
        (f"{layer}.weight", f"{ours}.0.weight"),
        (f"{layer}.bias", f"{ours}.0.bias"),
        (public, four, folded_norm(1e-5)),
    )


def _rows() -> tuple:
    rows: list[tuple] = [("seg-score-voc.{leaf}", "score.{leaf}")]
    for level, depth in enumerate(DEPTHS):
        for i in range(depth):
            place = f"{level + 1}_{i + 1}"
            rows += _caffe(f"conv{place}", f"bn{place}", f"encoder.{level}.{i}")
            rows += _caffe(f"deconv{place}", f"debn{place}", f"decoder.{level}.{i}")
    rows += _caffe("fc6", "bnfc6", "fc6") + _caffe("fc7", "bnfc7", "fc7")
    return (*rows, *_caffe("fc6-deconv", "fc6-deconv-bn", "fc6_deconv"))


KEY_MAPS = (KeyMap("caffe", _rows(), words="HyeonwooNoh/DeconvNet, norms folded; for research only by its licence"),)
