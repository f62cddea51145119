"""R3D, MC3 and R(2+1)D.

Paper: A Closer Look at Spatiotemporal Convolutions for Action Recognition (Tran, Wang, Torresani, Ray, LeCun & Paluri
2018, arXiv:1711.11248).

The idea: the same residual network with three kinds of convolution. R3D filters space and time together (3x3x3); MC3 in
its first stage only, then each frame by itself; R(2+1)D filters space (1x3x3), then time (3x1x1), with a ReLU between
the two and as many parameters as R3D.

- `r3d_18_tv`, `mc3_18_tv`, `r2plus1d_18_tv`: torchvision's networks. Its R(2+1)D computes the width between the two
  filters once a block, from the block's input.
- `r2plus1d_34_vmz`: the authors' PyTorch release (VMZ), which computes that width for each convolution, as the paper
  does; batch norm eps 1e-3. Also reads the IG-65M weights.

Clips of any length and size. Fresh weights: He normal over the fan-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
Norm = Callable[[int], nn.Module]

# Parts -----------------------------------------------------------------------------------------------------------


class Conv3D(nn.Conv3d):
    """3x3x3: space and time together."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, middle: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, 3, stride, 1, bias=False)

    @staticmethod
    def shortcut_stride(stride: int) -> tuple[int, int, int]:
        return stride, stride, stride


class Conv2D(nn.Conv3d):
    """1x3x3: each frame by itself; strides in space only."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, middle: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)

    @staticmethod
    def shortcut_stride(stride: int) -> tuple[int, int, int]:
        return 1, stride, stride


class Conv2Plus1D(nn.Sequential):
    """1x3x3 to `middle` channels, norm, ReLU, then 3x1x1."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, middle: int, norm: Norm) -> None:
        super().__init__(
            nn.Conv3d(in_channels, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            norm(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, out_channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )

    @staticmethod
    def shortcut_stride(stride: int) -> tuple[int, int, int]:
        return stride, stride, stride


Filter = type[Conv3D] | type[Conv2D] | type[Conv2Plus1D]


class BasicBlock(nn.Module):
    """Two filters and the shortcut around them. per_conv: the width between the halves is computed for each (VMZ)."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, *, stride: int, filters: Filter, norm: Norm, per_conv: bool = False
    ) -> None:
        super().__init__()
        first = middle(in_channels, width)
        second = middle(width, width) if per_conv else first
        self.conv1 = nn.Sequential(
            filters(in_channels, width, stride=stride, middle=first, norm=norm), norm(width), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(filters(width, width, stride=1, middle=second, norm=norm), norm(width))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != width:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, width, 1, filters.shortcut_stride(stride), bias=False), norm(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, width, T', H', W')`."""
        y = self.conv2(self.conv1(x))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def middle(in_channels: int, out_channels: int) -> int:
    """The width that gives (2+1)D the parameters of 3D (section 3.5)."""
    return (in_channels * out_channels * 27) // (in_channels * 9 + 3 * out_channels)


def stem_3d(in_channels: int, width: int, norm: Norm) -> nn.Sequential:
    """3x7x7, stride (1, 2, 2)."""
    return nn.Sequential(
        nn.Conv3d(in_channels, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), norm(width), nn.ReLU(inplace=True)
    )


def stem_2plus1d(in_channels: int, width: int, norm: Norm) -> nn.Sequential:
    """1x7x7 to 45 channels (for a width of 64), then 3x1x1."""
    inner = width * 45 // 64
    return nn.Sequential(
        nn.Conv3d(in_channels, inner, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        norm(inner),
        nn.ReLU(inplace=True),
        nn.Conv3d(inner, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
        norm(width),
        nn.ReLU(inplace=True),
    )


# Network ---------------------------------------------------------------------------------------------------------


class VideoResNet(nn.Module):
    """A stem, stages of residual blocks, the mean over all positions, a linear classifier.

    layers: the blocks of each stage. channels: of the last one's output.
    """

    HEAD = ("fc.",)

    def __init__(
        self,
        stem: nn.Module,
        layers: Sequence[nn.Module],
        channels: int,
        num_classes: int,
        *,
        dropout: float = 0.0,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.stem = stem
        for i, layer in enumerate(layers):
            self.add_module(f"layer{i + 1}", layer)
        self.depth = len(layers)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to `(B, K)` logits."""
        x = self.stem(self.normalize(images, sizes))
        for i in range(self.depth):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return Scores(self.fc(self.dropout(self.avgpool(x).flatten(1))))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


def draw(net: nn.Module) -> None:
    """Fresh weights: convolutions He normal over the fan-out, linear layers of deviation 0.01, norms 1 and 0."""
    for part in net.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.01)
            nn.init.zeros_(part.bias)


# Builders --------------------------------------------------------------------------------------------------------


def r3d_18(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """torchvision's r3d_18. depths: blocks of the stages. width: channels of the first, doubled by each further one."""
    return _video_resnet([Conv3D] * len(depths), num_classes, in_channels, depths, width, dropout, mean, std)


def mc3_18(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """torchvision's mc3_18: the first stage filters time, the others each frame by itself."""
    filters: list[Filter] = [Conv3D, *[Conv2D] * (len(depths) - 1)]
    return _video_resnet(filters, num_classes, in_channels, depths, width, dropout, mean, std)


def r2plus1d_18(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """torchvision's r2plus1d_18."""
    return _video_resnet([Conv2Plus1D] * len(depths), num_classes, in_channels, depths, width, dropout, mean, std)


def r2plus1d_34_vmz(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    dropout: float = 0.0,
    mean: Sequence[float] | None = KINETICS_MEAN,
    std: Sequence[float] | None = KINETICS_STD,
) -> VideoResNet:
    """The authors' R(2+1)D-34; depths=(2, 2, 2, 2) is their R(2+1)D-18."""
    return _video_resnet(
        [Conv2Plus1D] * len(depths), num_classes, in_channels, depths, width, dropout, mean, std, vmz=True
    )


def vmz_norm(channels: int) -> nn.BatchNorm3d:
    """The batch norm of the authors' networks."""
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.9)


def _video_resnet(
    filters: Sequence[Filter],
    num_classes: int,
    in_channels: int,
    depths: Sequence[int],
    width: int,
    dropout: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    vmz: bool = False,
) -> VideoResNet:
    norm: Norm = vmz_norm if vmz else nn.BatchNorm3d
    stem = stem_2plus1d if filters[0] is Conv2Plus1D else stem_3d
    layers, channels = [], width
    for i, depth in enumerate(depths):
        blocks = []
        for j in range(depth):
            stride = 2 if i and j == 0 else 1
            out = width * 2**i
            blocks.append(BasicBlock(channels, out, stride=stride, filters=filters[i], norm=norm, per_conv=vmz))
            channels = out
        layers.append(nn.Sequential(*blocks))
    return VideoResNet(
        stem(in_channels, width, norm),
        layers,
        channels,
        num_classes,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("stem.{rest}", "stem.{rest}"),
            ("layer{i}.{rest}", "layer{i}.{rest}"),
            ("fc.{leaf}", "fc.{leaf}"),
        ),
        words="torchvision's video networks; VMZ, ig65m-pytorch and CSN spell theirs the same way",
    ),
)
