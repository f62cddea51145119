"""A backbone with a head of scores: the plan that FCN on a ResNet, DeepLabv3 and PSPNet share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.contract import Backbone
from sightline.nn.conv import conv_norm_act
from sightline.nn.normalize import Normalize
from sightline.ops.resize import Rule, resize
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, dropout, a 1x1 convolution to the classes."""

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__(
            *conv_norm_act(in_channels, in_channels // 4),
            nn.Dropout(dropout),
            nn.Conv2d(in_channels // 4, num_classes, 1),
        )


class HeadedBackbone(nn.Module):
    """A backbone, a head on its last map, at will an auxiliary head on an earlier one, all resized to the picture.

    aux: the name of the stage that the auxiliary head reads, or None. align_corners: how logits are resized.
    """

    HEAD = ("classifier.4.", "aux_classifier.4.")
    OPTIONAL = ("aux_classifier.",)

    def __init__(
        self,
        backbone: Backbone,
        classifier: nn.Module,
        *,
        aux: str | None = None,
        aux_classifier: nn.Module | None = None,
        align_corners: bool = False,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.classifier = classifier
        self.aux = aux
        self.aux_classifier = aux_classifier
        self.rule: Rule = "align_corners" if align_corners else "half_pixel"
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size, to `(B, K, H, W)` logits."""
        maps = self.backbone(self.normalize(images, sizes))
        size = images.shape[-2:]
        logits = resize(self.classifier(maps[self.backbone.stages[-1].name]), size, rule=self.rule)
        if self.aux is None or self.aux_classifier is None:
            return Scores(logits)
        return Scores(logits, (resize(self.aux_classifier(maps[self.aux]), size, rule=self.rule),))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms; the auxiliary head's are called `aux_...`."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a picture."""
        return decode(out, classes=classes)


TORCHVISION = KeyMap(
    "torchvision",
    (
        ("backbone.{i}.{rest}", "backbone.features.{i}.{rest}"),  # MobileNetV3
        ("backbone.{rest}", "backbone.{rest}"),
        ("classifier.{rest}", "classifier.{rest}"),
        ("aux_classifier.{rest}", "aux_classifier.{rest}"),
    ),
    words="torchvision.models.segmentation: FCN and DeepLabv3 with one or two heads",
)

KEY_MAPS = (TORCHVISION,)
