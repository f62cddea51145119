"""AlexNet and CaffeNet.

Papers: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky, Sutskever & Hinton 2012); One Weird
Trick (Krizhevsky 2014, arXiv:1404.5997), the form without norms; Caffe (Jia et al. 2014, arXiv:1408.5093).

The idea: five convolutions with ReLU, three pools, three full layers with dropout, on pictures of a thousand classes.

- `alexnet_tv`: torchvision's network of one column without norms; pictures of any size from 63 pixels.
- `caffenet`: BVLC's reference network: two groups, pools before local response norms, BGR of 0 to 255. Trait
  `fixed_size`: its full layers fix the size of the picture.

Loads: torchvision (`torchvision`), Caffe's layers as an `.npz` (`caffe`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.classification.answer import Labels
from sightline.classification.contract import Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.weights.keymap import KeyMap

CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


class AlexNet(nn.Module):
    """Five convolutions (`widths`), a pool to 6 x 6, three full layers (`hidden`)."""

    HEAD = ("classifier.6.",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden: int = 4096,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.normalize = normalize
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, a, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, 1, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, 1, 1), nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, 1, 1), nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(36 * e, hidden), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of 63 pixels or more, to `(B, K)` logits."""
        x = self.avgpool(self.features(self.normalize(images, sizes)))
        return Scores(self.classifier(x.flatten(1)))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)


class CaffeNet(nn.Module):
    """BVLC's CaffeNet, its layers by Caffe's names. size: height and width of a picture."""

    HEAD = ("fc8.",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (96, 256, 384, 384, 256),
        hidden: int = 4096,
        size: tuple[int, int] = (227, 227),
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.size = size
        self.normalize = normalize
        self.conv1 = nn.Conv2d(in_channels, a, 11, 4)
        self.conv2 = nn.Conv2d(a, b, 5, 1, 2, groups=2)
        self.conv3 = nn.Conv2d(b, c, 3, 1, 1)
        self.conv4 = nn.Conv2d(c, d, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(d, e, 3, 1, 1, groups=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.fc6 = nn.Linear(e * _left(size[0]) * _left(size[1]), hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(dropout)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures of the network's size to `(B, K)` logits."""
        _, x = self.described(self.normalize(images, sizes))
        return Scores(self.fc8(self.dropout(x)))

    def described(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures to their fifth pool `(B, N)` and their seventh layer `(B, hidden)`."""
        if tuple(images.shape[2:]) != self.size:
            raise UsageError(f"this network takes pictures of {self.size}, not of {tuple(images.shape[2:])}")
        x = self.norm(self.pool(self.relu(self.conv1(images))))
        x = self.norm(self.pool(self.relu(self.conv2(x))))
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        pooled = self.pool(self.relu(self.conv5(x))).flatten(1)
        x = self.dropout(self.relu(self.fc6(pooled)))
        return pooled, self.relu(self.fc7(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)


def _left(n: int) -> int:
    """Positions that are left of a side of `n` pixels."""
    n = (n - 11) // 4 + 1
    for _ in range(3):
        n = -(-(n - 3) // 2) + 1
    if n < 1:
        raise UsageError("pictures vanish in CaffeNet's pools; give a size of 67 pixels or more")
    return n


# Builders --------------------------------------------------------------------------------------------------------


def alexnet_tv(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 192, 384, 256, 256),
    hidden: int = 4096,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> AlexNet:
    """torchvision's alexnet. widths: of the five convolutions. hidden: of the full layers."""
    if len(widths) != 5:
        raise UsageError(f"widths are {list(widths)}, expected five numbers of channels")
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return AlexNet(
        num_classes, in_channels=in_channels, widths=widths, hidden=hidden, dropout=dropout, normalize=normalize
    )


def caffenet(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    size: Sequence[int] = (227, 227),
    dropout: float = 0.5,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> CaffeNet:
    """BVLC's CaffeNet. widths: of the five convolutions. hidden: of the full layers. size: of a picture."""
    if len(widths) != 5 or any(n % 2 for n in widths):
        raise UsageError(f"widths are {list(widths)}, expected five even numbers of channels")
    height, width = size
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=mean is not None and in_channels == 3)
    return CaffeNet(
        num_classes, in_channels=in_channels, widths=widths, hidden=hidden, size=(height, width), dropout=dropout,
        normalize=normalize,
    )  # fmt: skip


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (("features.{i}.{leaf}", "features.{i}.{leaf}"), ("classifier.{i}.{leaf}", "classifier.{i}.{leaf}")),
        words="torchvision's alexnet",
    ),
    KeyMap(
        "caffe",
        (("conv{i}.{leaf}", "conv{i}.{leaf}"), ("fc{i}.{leaf}", "fc{i}.{leaf}")),
        words="BVLC's CaffeNet as an .npz with LAYER.weight and LAYER.bias (unverified)",
    ),
)
