"""bLVNet-TAM.

Paper: More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise Temporal Aggregation
(Fan, Chen, Kuehne, Pistoia & Cox 2019, arXiv:1912.00869).

The idea: twice the frames at half the cost. Odd frames go through a deep branch at half the resolution, even frames
through a shallow, narrow one at the full; the two are summed, and the sum stands for both frames. Time is mixed by
three numbers a channel (the frame before, this one, the next one), again and again.

- `blvnet_tam_50`, `blvnet_tam_101`: the authors' networks, with alpha 2 (the little branch has half the width) and
  beta 4 (a quarter of the depth).

Clips of an even number of frames; the scores of the frames that are left (half of them) are averaged as logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.weights.keymap import KeyMap

# Parts -----------------------------------------------------------------------------------------------------------


class Blend(nn.Module):
    """The frame before, this one and the next one, each times a number a channel, summed; ReLU. Zero outside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.prev = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.next = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.curr = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`(B * frames, C, H, W)` to the same shape."""
        before, here, after = (conv(x).unflatten(0, (-1, frames)) for conv in (self.prev, self.curr, self.next))
        zero = torch.zeros_like(here[:, :1])
        return (here + torch.cat([zero, before[:, :-1]], 1) + torch.cat([after[:, 1:], zero], 1)).flatten(0, 1).relu()


class Bottleneck(nn.Module):
    """1x1 to a quarter, 3x3 with the stride, 1x1; the shortcut pools before it projects.

    relu: whether the sum goes through one. blend: time is mixed before the first convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, relu: bool = True, blend: bool = False
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        parts: list[nn.Module] = [nn.AvgPool2d(3, 2, 1)] if stride != 1 else []
        if in_channels != out_channels:
            parts += [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.downsample = nn.Sequential(*parts) if parts else None
        self.relu = relu
        self.tam = Blend(in_channels) if blend else None

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """`(N, C, H, W)` to `(N, out, H / stride, W / stride)`."""
        seen = x if self.tam is None else self.tam(x, frames)
        y = self.bn1(self.conv1(seen)).relu()
        y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
        y = y + (x if self.downsample is None else self.downsample(seen))
        return y.relu() if self.relu else y


class Units(nn.ModuleList):
    """Bottlenecks one after the other."""

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """`(N, C, H, W)` to `(N, C', H', W')`."""
        for unit in self:
            x = unit(x, frames)
        return x


def both(x: Tensor) -> Tensor:
    """Each frame twice: what was made of a pair stands for both."""
    return x.repeat_interleave(2, dim=0)


class BigLittle(nn.Module):
    """Blending, the big branch on odd frames, the little one on even frames, their sum, a fusing bottleneck."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, *, alpha: int, beta: int, stride: int) -> None:
        super().__init__()
        count = max(1, depth - 1)
        narrow = out_channels // alpha
        few = max(1, depth // beta - 1)
        self.big = Units(
            Bottleneck(
                in_channels if i == 0 else out_channels,
                out_channels,
                stride=2 if i == 0 else 1,
                relu=i < count - 1,
            )
            for i in range(count)
        )
        self.little = Units(Bottleneck(in_channels if i == 0 else narrow, narrow) for i in range(few))
        self.little_e = nn.Sequential(nn.Conv2d(narrow, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.fusion = Units([Bottleneck(out_channels, out_channels, stride=stride)])
        self.tam = Blend(in_channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`(B * frames, C, H, W)` to `(B * frames, C', H', W')`, neighbours the same."""
        x = self.tam(x, frames)
        little, big = self.little_e(self.little(x[::2])), self.big(x[1::2])
        big = F.interpolate(big, size=little.shape[2:], mode="nearest")
        return both(self.fusion((big + little).relu()))


class Trunk(nn.Module):
    """The network up to its last maps. depths: blocks of the four stages. width: channels of the stem."""

    def __init__(self, in_channels: int, depths: Sequence[int], width: int, alpha: int, beta: int) -> None:
        super().__init__()
        narrow = width // alpha
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.b_conv0 = nn.Conv2d(width, width, 3, 2, 1, bias=False)
        self.bn_b0 = nn.BatchNorm2d(width)
        self.l_conv0 = nn.Conv2d(width, narrow, 3, 1, 1, bias=False)
        self.bn_l0 = nn.BatchNorm2d(narrow)
        self.l_conv1 = nn.Conv2d(narrow, narrow, 3, 2, 1, bias=False)
        self.bn_l1 = nn.BatchNorm2d(narrow)
        self.l_conv2 = nn.Conv2d(narrow, width, 1, bias=False)
        self.bn_l2 = nn.BatchNorm2d(width)
        self.bl_init = nn.Conv2d(width, width, 1, bias=False)
        self.bn_bl_init = nn.BatchNorm2d(width)
        self.tam = Blend(width)
        channels = width
        for i, (depth, stride) in enumerate(zip(depths[:3], (2, 2, 1))):
            out = 4 * width * 2**i
            self.add_module(f"layer{i + 1}", BigLittle(channels, out, depth, alpha=alpha, beta=beta, stride=stride))
            channels = out
        self.channels = 32 * width
        self.layer4 = Units(
            Bottleneck(channels if i == 0 else self.channels, self.channels, stride=2 if i == 0 else 1, blend=True)
            for i in range(depths[3])
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`(B * frames, C, H, W)` to `(B * frames / 2, 32 * width, H / 32, W / 32)`."""
        x = self.bn1(self.conv1(x)).relu()
        x = self.tam(x, frames)
        big = self.bn_b0(self.b_conv0(x[1::2]))
        little = self.bn_l0(self.l_conv0(x[::2])).relu()
        little = self.bn_l2(self.l_conv2(self.bn_l1(self.l_conv1(little)).relu()))
        x = both(self.bn_bl_init(self.bl_init((big + little).relu())).relu())
        for i in (1, 2, 3):
            x = self.get_submodule(f"layer{i}")(x, frames)
        return self.layer4(x[1::2], frames // 2)


# Network ---------------------------------------------------------------------------------------------------------


class BLVNet(nn.Module):
    """The trunk, the mean over space, a linear classifier for each frame that is left, the mean over them."""

    HEAD = ("new_fc.",)
    STEM = ("baseline_model.conv1.weight",)

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.baseline_model = trunk
        self.dropout = nn.Dropout(dropout)
        self.new_fc = nn.Linear(trunk.channels, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)
        for part in self.modules():
            if isinstance(part, Blend):  # starts as the frame itself
                nn.init.ones_(part.curr.weight)
                nn.init.zeros_(part.prev.weight)
                nn.init.zeros_(part.next.weight)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips of an even number of frames to `(B, K)` logits."""
        frames = images.shape[2]
        if frames % 2:
            raise UsageError(f"clips of {frames} frames: this network sees frames in pairs; give an even number")
        x = self.normalize(images, sizes).transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        scores = self.new_fc(self.dropout(self.baseline_model(x, frames).mean((2, 3))))
        return Scores(scores.unflatten(0, (-1, frames // 2)).mean(1))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def blvnet_tam(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    alpha: int = 2,
    beta: int = 4,
    dropout: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> BLVNet:
    """bLVNet-TAM-50. alpha, beta: by how much the little branch is narrower and shallower."""
    trunk = Trunk(in_channels, depths, width, alpha, beta)
    return BLVNet(trunk, num_classes, dropout=dropout, normalize=Normalize(*for_channels(mean, std, in_channels)))


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "blvnet",
        (("baseline_model.{rest}", "baseline_model.{rest}"), ("new_fc.{leaf}", "new_fc.{leaf}")),
        words="the authors' files",
    ),
)
