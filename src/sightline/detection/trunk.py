"""From pictures to the maps a detector's heads read: the part that nearly all of them begin with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.contract import Backbone
from sightline.nn.fpn import FPN
from sightline.nn.normalize import Normalize
from sightline.ops.resize import pad_to_multiple

CAFFE_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
"""Of red, green, blue in [0, 1], for weights that were trained on values from 0 to 255 minus a mean."""


TINY = 1e-9
"""A side above nothing: the smallest box of detectron2 and mmdet."""


class Trunk(nn.Module):
    """Pictures to the maps that proposals are cut from: normalise, pad, backbone, at will a pyramid.

    stages: names of the backbone's maps that are used, fine to coarse. multiple: the sides are padded to it.
    """

    def __init__(
        self, backbone: Backbone, stages: Sequence[str], fpn: FPN | None, *, normalize: Normalize, multiple: int = 32
    ) -> None:
        super().__init__()
        self.normalize, self.backbone, self.fpn = normalize, backbone, fpn
        self.names, self.multiple = tuple(stages), multiple

    def forward(self, images: Tensor, sizes: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """`(B, C, H, W)` pictures to the maps, fine to coarse, and the padded input they came from."""
        x = self.normalize(images, sizes)
        if self.multiple > 1:
            x, _ = pad_to_multiple(x, self.multiple)
        maps = self.backbone(x)
        used = [maps[name] for name in self.names]
        return used if self.fpn is None else self.fpn(used), x


def detectron2_backbone(prefix: str) -> tuple[tuple[str, str], ...]:
    """Rows of a key map: detectron2's ResNet behind `prefix`, and ours in a `Trunk`."""
    ours, theirs = "trunk.backbone.", prefix
    return (
        (f"{theirs}stem.conv1.norm.{{leaf}}", f"{ours}bn1.{{leaf}}"),
        (f"{theirs}stem.conv1.{{leaf}}", f"{ours}conv1.{{leaf}}"),
        *detectron2_units(f"{theirs}res{{i+1}}.{{j}}.", f"{ours}layer{{i}}.{{j}}."),
    )


def detectron2_units(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Rows for the residual units whose names begin with `theirs` and `ours`."""
    return (
        (f"{theirs}shortcut.norm.{{leaf}}", f"{ours}downsample.1.{{leaf}}"),
        (f"{theirs}shortcut.{{leaf}}", f"{ours}downsample.0.{{leaf}}"),
        (f"{theirs}conv{{k}}.norm.{{leaf}}", f"{ours}bn{{k}}.{{leaf}}"),
        (f"{theirs}conv{{k}}.{{leaf}}", f"{ours}conv{{k}}.{{leaf}}"),
    )
