"""VGG as a classifier.

Paper: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman 2014, arXiv:1409.1556).

The idea: nothing but 3x3 convolutions between five pools (see `sightline.backbones.vgg`), then three full layers on the
last map, brought to 7 x 7.

- `vgg11_tv` to `vgg19_tv`, and `vgg11_bn_tv` to `vgg19_bn_tv` with batch norms: torchvision's networks.

Loads: torchvision (`torchvision`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.vgg import VGG
from sightline.classification.answer import Labels
from sightline.classification.contract import Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.weights.keymap import KeyMap

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGGClassifier(nn.Module):
    """A VGG, its last map averaged to `pool` x `pool`, three full layers."""

    HEAD = ("classifier.6.",)

    def __init__(
        self,
        backbone: VGG,
        num_classes: int,
        *,
        hidden: int = 4096,
        pool: int = 7,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Sequential(
            nn.Linear(backbone.stages[-1].channels * pool * pool, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        self.criterion = criterion or Criterion()
        for part in self.classifier:
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.01)
                nn.init.zeros_(part.bias)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of 32 pixels or more, to `(B, K)` logits."""
        maps = self.backbone(self.normalize(images, sizes))
        return Scores(self.classifier(self.avgpool(maps[self.backbone.stages[-1].name]).flatten(1)))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def vgg(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    layers: int = 16,
    norm: bool = False,
    widths: Sequence[int] = WIDTHS,
    hidden: int = 4096,
    pool: int = 7,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> VGGClassifier:
    """A VGG classifier. layers: 11, 13, 16 or 19. norm: batch norms. widths: of the five groups. hidden: of the full
    layers. pool: side of the map they read."""
    if layers not in DEPTHS:
        raise UsageError(f"layers={layers}: VGG has {', '.join(map(str, DEPTHS))}")
    net = VGG(DEPTHS[layers], in_channels=in_channels, widths=widths, norm=nn.BatchNorm2d if norm else None)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return VGGClassifier(net, num_classes, hidden=hidden, pool=pool, dropout=dropout, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (("features.{i}.{leaf}", "backbone.features.{i}.{leaf}"), ("classifier.{i}.{leaf}", "classifier.{i}.{leaf}")),
        words="torchvision's vgg11 to vgg19_bn",
    ),
)
