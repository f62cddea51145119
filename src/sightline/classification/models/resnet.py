"""ResNet, ResNeXt and wide ResNet as classifiers.

Papers: Deep Residual Learning (He et al. 2015, arXiv:1512.03385); Aggregated Residual Transformations (Xie et al. 2016,
arXiv:1611.05431); Wide Residual Networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146).

The idea: each unit learns what to add to its input (see `sightline.backbones.resnet`); the mean over the last map is
classified by one linear layer.

- `resnet`, the one to start with: a ResNet-18 of half the width, for pictures of any size.
- `resnet18_tv` to `resnext101_32x8d_tv`: torchvision's networks, whose ImageNet weights load.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.resnet import BasicUnit, Bottleneck, ResNet
from sightline.classification.answer import Labels
from sightline.classification.contract import Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.weights.keymap import KeyMap


class ResNetClassifier(nn.Module):
    """A ResNet, the mean over its last map, a linear classifier."""

    HEAD = ("fc.",)

    def __init__(
        self,
        backbone: ResNet,
        num_classes: int,
        *,
        dropout: float = 0.0,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(backbone.stages[-1].channels, num_classes)
        self.criterion = criterion or Criterion()
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K)` logits."""
        maps = self.backbone(self.normalize(images, sizes))
        return Scores(self.fc(self.dropout(maps[self.backbone.stages[-1].name].mean((2, 3)))))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def resnet(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 32,
    bottleneck: bool = False,
    groups: int = 1,
    width_per_group: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> ResNetClassifier:
    """A ResNet classifier. depths: units of the stages. width: channels of the first, doubled by each further one.

    bottleneck: units of three convolutions, four times as wide outside. groups, width_per_group: of their 3x3.
    """
    unit = Bottleneck if bottleneck else BasicUnit
    net = ResNet(unit, depths, in_channels=in_channels, width=width, groups=groups, width_per_group=width_per_group)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return ResNetClassifier(net, num_classes, dropout=dropout, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("fc.{leaf}", "fc.{leaf}"),
            ("conv1.{leaf}", "backbone.conv1.{leaf}"),
            ("bn1.{leaf}", "backbone.bn1.{leaf}"),
            ("layer{i}.{rest}", "backbone.layer{i}.{rest}"),
        ),
        words="torchvision's (and timm's) ResNets",
    ),
)
