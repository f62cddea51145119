"""Two-stream networks.

Paper: Two-Stream Convolutional Networks for Action Recognition in Videos (Simonyan & Zisserman 2014, arXiv:1406.2199).

The idea: one network looks at single frames and says what is there; another looks at stacked fields of optical flow and
says how it moves; their answers are averaged. Neither needs to learn the other's work.

- `two_stream_spatial`, `two_stream_temporal`: CNN-M-2048, the paper's streams. The temporal one reads clips of flow
  `(B, 2, L, H, W)` and stacks them (x1, y1, x2, y2, ...), each field without its mean: most of the camera's motion.
- `two_stream_spatial_r101`, `two_stream_temporal_r101`: ResNet-101 streams, whose public weights (jeffreyyihuang) load;
  that stacker wrote the first field into the last two channels, and the key map undoes it.
- `two_stream`, the one to start with: both streams in one network, on small ResNets; its answer is the mean of their
  probabilities. `flow` is a further input, or the last two channels of the clip.

Videos are enough: flow is computed as they are read (the rule ends in `+dis` or `+tvl1`; the extra `classical`), unless
they are folders of flow or have one beside them. In training a mirrored field has its x negated.

Spatial streams score each frame of a clip by itself and average the probabilities.
Trait `fixed_size` of CNN-M: its full layers fix height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.lrcn import PooledResNet
from sightline.action.models.r3d import draw
from sightline.backbones.resnet import BasicUnit, Bottleneck, ResNet
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.flow_stack import flow_stack, without_camera
from sightline.weights.keymap import KeyMap, Row
from sightline.weights.transforms import rolled

# Parts -----------------------------------------------------------------------------------------------------------


class CNNM(nn.Module):
    """CNN-M-2048 (Chatfield et al. 2014). second_norm: a local response norm after the second layer too (spatial)."""

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int] = (96, 256, 512, 512, 512),
        hidden: Sequence[int] = (4096, 2048),
        size: tuple[int, int] = (224, 224),
        second_norm: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.size, self.channels = size, hidden[1]

        def norm() -> nn.Module:
            return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, a, 7, 2),
            nn.ReLU(inplace=True),
            norm(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(a, b, 5, 2, 1),
            nn.ReLU(inplace=True),
            norm() if second_norm else nn.Identity(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(b, c, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.fc6 = nn.Linear(e * _left(size[0]) * _left(size[1]), hidden[0])
        self.fc7 = nn.Linear(hidden[0], hidden[1])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures `(N, C, H, W)` of the network's size to `(N, hidden)`."""
        if tuple(x.shape[2:]) != self.size:
            raise UsageError(f"this network takes pictures of {self.size}, not of {tuple(x.shape[2:])}")
        x = self.dropout(self.fc6(self.features(x).flatten(1)).relu())
        return self.fc7(x).relu()


def _left(n: int) -> int:
    """Positions that are left of a side of `n` pixels."""

    def pooled(m: int) -> int:
        return -(-(m - 3) // 2) + 1

    second = pooled((pooled((n - 7) // 2 + 1) - 3) // 2 + 1)
    if second < 1:
        raise UsageError(f"pictures with a side of {n} pixels are too small for this network; give 64 or more")
    return pooled(second)


# Networks --------------------------------------------------------------------------------------------------------


class SpatialStream(nn.Module):
    """A network of pictures on each frame by itself; the parts of a clip are its frames."""

    HEAD = ("fc.",)

    def __init__(
        self,
        net: CNNM | PooledResNet,
        num_classes: int,
        *,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(net.channels, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to the mean of their frames' logits `(B, K)`, and the frames as parts."""
        x = self.normalize(images, sizes).transpose(1, 2)
        parts = self.fc(self.dropout(self.net(x.flatten(0, 1)))).unflatten(0, (-1, images.shape[2]))
        return Scores(parts.mean(1), parts)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms, each frame by itself."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


class TemporalStream(nn.Module):
    """A network of pictures on a stack of flow. fields: flow fields of a stack."""

    HEAD = ("fc.",)

    def __init__(
        self,
        net: CNNM | PooledResNet,
        num_classes: int,
        *,
        fields: int,
        camera: bool = True,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.fields, self.camera = fields, camera
        self.normalize = normalize
        self.net = net
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(net.channels, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: flow `(B, 2, L, H, W)` in [0, 1], 0.5 for no motion, to `(B, K)` logits."""
        if images.shape[2] != self.fields:
            raise UsageError(f"a stack of {images.shape[2]} flow fields: this network takes {self.fields}")
        x = flow_stack(self.normalize(images, sizes).transpose(1, 2))  # (B, 2 L, H, W)
        if self.camera:
            x = without_camera(x)
        return Scores(self.fc(self.dropout(self.net(x))))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


class TwoStream(nn.Module):
    """Both streams; the parts of an answer are theirs."""

    HEAD = ("spatial.fc.", "temporal.fc.")

    def __init__(self, spatial: SpatialStream, temporal: TemporalStream, *, criterion: Criterion | None = None) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal
        self.criterion = criterion or Criterion()

    def forward(
        self,
        images: Tensor,
        *,
        flow: Tensor | None = None,
        sizes: Tensor | None = None,
        targets: Target | None = None,
    ) -> Scores:
        """See: clips `(B, C, T, H, W)` and flow `(B, 2, L, H, W)` to `(B, K)` logits; parts: space, time.

        Without `flow`: frames with their flow, `(B, C + 2, L, H, W)`; the first frame is the one that is looked at.
        """
        if flow is None:
            channels = next(self.spatial.parameters()).shape[1]
            if images.shape[1] != channels + 2:
                raise UsageError(
                    f"this network reads frames and flow: give flow=, or clips of {channels + 2} channels, "
                    f"not of {images.shape[1]}"
                )
            images, flow = images[:, :-2, :1], images[:, -2:]
        space, time = self.spatial(images, sizes=sizes).logits, self.temporal(flow, sizes=sizes).logits
        parts = torch.stack([space, time], dim=1)
        return Scores(parts.mean(1), parts)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms, each stream by itself."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def two_stream(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (1, 1, 1, 1),
    width: int = 32,
    fields: int = 10,
    camera: bool = False,
    dropout: float = 0.2,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> TwoStream:
    """Both streams on small ResNets. fields: flow fields of a stack. camera: each field without its mean."""
    return TwoStream(
        two_stream_spatial_r101(
            num_classes, in_channels=in_channels, depths=depths, width=width, dropout=dropout, mean=mean, std=std,
            bottleneck=False,
        ),
        two_stream_temporal_r101(
            num_classes, fields=fields, depths=depths, width=width, camera=camera, dropout=dropout,
            mean=None if mean is None else (0.5,), bottleneck=False,
        ),
    )  # fmt: skip


def two_stream_spatial(
    num_classes: int = 101,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (96, 256, 512, 512, 512),
    hidden: Sequence[int] = (4096, 2048),
    size: Sequence[int] = (224, 224),
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SpatialStream:
    """The paper's spatial stream. widths: channels of the convolutions. hidden: of fc6 and fc7. size: of a frame."""
    height, width = size
    net = CNNM(in_channels, widths=widths, hidden=hidden, size=(height, width), dropout=dropout)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return SpatialStream(net, num_classes, dropout=dropout, normalize=normalize)


def two_stream_temporal(
    num_classes: int = 101,
    *,
    in_channels: int = 2,
    fields: int = 10,
    widths: Sequence[int] = (96, 256, 512, 512, 512),
    hidden: Sequence[int] = (4096, 2048),
    size: Sequence[int] = (224, 224),
    camera: bool = True,
    dropout: float = 0.9,
    mean: Sequence[float] | None = (0.5,),
    std: Sequence[float] | None = (0.5,),
) -> TemporalStream:
    """The paper's temporal stream. fields: of a stack. camera: each field without its mean."""
    height, width = size
    net = CNNM(
        in_channels * fields, widths=widths, hidden=hidden, size=(height, width), second_norm=False, dropout=dropout
    )
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return TemporalStream(net, num_classes, fields=fields, camera=camera, dropout=dropout, normalize=normalize)


def two_stream_spatial_r101(
    num_classes: int = 101,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    bottleneck: bool = True,
    dropout: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> SpatialStream:
    """A spatial stream on ResNet-101 (`bottleneck=False`: units of two 3x3 convolutions)."""
    unit = Bottleneck if bottleneck else BasicUnit
    net = PooledResNet(ResNet(unit, depths, in_channels=in_channels, width=width))
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return SpatialStream(net, num_classes, dropout=dropout, normalize=normalize)


def two_stream_temporal_r101(
    num_classes: int = 101,
    *,
    in_channels: int = 2,
    fields: int = 10,
    depths: Sequence[int] = (3, 4, 23, 3),
    width: int = 64,
    bottleneck: bool = True,
    camera: bool = False,
    dropout: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> TemporalStream:
    """A temporal stream on ResNet-101; the public weights read flow in [0, 1] as it is (no mean)."""
    unit = Bottleneck if bottleneck else BasicUnit
    net = PooledResNet(ResNet(unit, depths, in_channels=in_channels * fields, width=width))
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return TemporalStream(net, num_classes, fields=fields, camera=camera, dropout=dropout, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

_REST: tuple[Row, ...] = (
    ("bn1.{leaf}", "net.net.bn1.{leaf}"),
    ("layer{i}.{rest}", "net.net.layer{i}.{rest}"),
    ("fc_custom.{leaf}", "fc.{leaf}"),
)
#: The public stack is flow 2 .. 10, then flow 1; ours begins with flow 1.
_FIRST_LAST = rolled(-2)
KEY_MAPS = (
    KeyMap(
        "jeffreyyihuang",
        (("conv1_custom.weight", "net.net.conv1.weight"), *_REST),
        prefix="module.",
        container="state_dict",
        words="jeffreyyihuang/two-stream-action-recognition, the spatial stream",
    ),
    KeyMap(
        "jeffreyyihuang-flow",
        (("conv1_custom.weight", "net.net.conv1.weight", _FIRST_LAST), *_REST),
        prefix="module.",
        container="state_dict",
        words="jeffreyyihuang/two-stream-action-recognition, the temporal stream",
    ),
)
