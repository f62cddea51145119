"""C3D.

Paper: Learning Spatiotemporal Features with 3D Convolutional Networks (Tran, Bourdev, Fergus, Torresani & Paluri 2015,
arXiv:1412.0767).

The idea: what 3x3 kernels are to pictures, 3x3x3 kernels are to clips. Eight convolutions and five pools over 16 frames
of 112 x 112, the first pool in space only so that time is not lost early, then two full layers; the first of them,
averaged over the clips of a video, describes the video (`descriptor`).

- `c3d`: the Sports-1M network, layer for layer. `pool5` says what happens at the odd edge of the last map: `ceil`
  (Caffe: a partial window at the right and bottom), `pad` (most ports: padded on both sides, other windows, the same
  shape) or `floor` (4,608 features instead of 8,192). Weights want the rule they were trained with.
- `c3d_pad`: the same with `pool5="pad"`, for weights that were trained in a port.

Departures: the mean cube of the Caffe model is a mean a channel (102, 98, 90 of 255, in RGB). BGR and 0..255 are the
network's own affair.
Trait `fixed_size`: the full layers fix the size of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

Pool5 = Literal["ceil", "pad", "floor"]
MEAN = (102 / 255, 98 / 255, 90 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)


class C3D(nn.Module):
    """Eight 3x3x3 convolutions, five pools, three full layers.

    widths: channels of the five groups. hidden: of the two full layers. size: frames, height and width of a clip.
    """

    HEAD = ("fc8.",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        size: tuple[int, int, int] = (16, 112, 112),
        pool5: Pool5 = "ceil",
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        if pool5 not in get_args(Pool5):
            raise UsageError(f"pool5 is '{pool5}', expected one of {', '.join(get_args(Pool5))}")
        a, b, c, d, e = widths
        self.size = size
        self.normalize = normalize
        self.conv1 = nn.Conv3d(in_channels, a, 3, padding=1)
        self.conv2 = nn.Conv3d(a, b, 3, padding=1)
        self.conv3a = nn.Conv3d(b, c, 3, padding=1)
        self.conv3b = nn.Conv3d(c, c, 3, padding=1)
        self.conv4a = nn.Conv3d(c, d, 3, padding=1)
        self.conv4b = nn.Conv3d(d, d, 3, padding=1)
        self.conv5a = nn.Conv3d(d, e, 3, padding=1)
        self.conv5b = nn.Conv3d(e, e, 3, padding=1)
        ceil = pool5 == "ceil"
        self.pool1 = nn.MaxPool3d((1, 2, 2), (1, 2, 2), ceil_mode=ceil)
        self.pool2 = nn.MaxPool3d(2, 2, ceil_mode=ceil)
        self.pool3 = nn.MaxPool3d(2, 2, ceil_mode=ceil)
        self.pool4 = nn.MaxPool3d(2, 2, ceil_mode=ceil)
        self.pool5 = nn.MaxPool3d(2, 2, (0, 1, 1) if pool5 == "pad" else 0, ceil_mode=ceil)
        self.fc6 = nn.Linear(e * _left(size, pool5), hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.criterion = criterion or Criterion()
        _draw(self)

    def descriptor(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The C3D feature `(B, hidden)` of clips: fc6 after its ReLU; `video_descriptor` makes a video's of it."""
        if tuple(images.shape[2:]) != self.size:
            raise UsageError(f"this C3D takes clips of {_words(self.size)}, not of {_words(images.shape[2:])}")
        x = self.normalize(images, sizes)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        x = self.pool3(self.relu(self.conv3b(self.relu(self.conv3a(x)))))
        x = self.pool4(self.relu(self.conv4b(self.relu(self.conv4a(x)))))
        x = self.pool5(self.relu(self.conv5b(self.relu(self.conv5a(x)))))
        return self.relu(self.fc6(x.flatten(1)))

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips of the network's `size` to `(B, K)` logits."""
        x = self.dropout(self.descriptor(images, sizes))
        x = self.dropout(self.relu(self.fc7(x)))
        return Scores(self.fc8(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


def _left(size: Sequence[int], pool5: str) -> int:
    """Positions that are left of a clip after the five pools."""
    time, height, width = size
    count = 1
    for n, pools in ((time, 4), (height, 5), (width, 5)):
        for k in range(pools):
            last_in_space = k == 4
            n = -(-n // 2) if pool5 == "ceil" else (n + 2) // 2 if pool5 == "pad" and last_in_space else n // 2
        count *= n
    if count == 0:
        raise UsageError(f"clips of {_words(size)} vanish in C3D's five pools; give 16 frames of 32 x 32 or more")
    return count


def _words(size: Sequence[int]) -> str:
    time, height, width = size
    return f"{time} frames of {height} x {width}"


def _draw(net: C3D) -> None:
    """Fresh weights: He normal; the paper's (deviation 0.01) needs its pre-training to leave the start."""
    for part in net.modules():
        if isinstance(part, (nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)  # pyright: ignore[reportArgumentType]
    nn.init.normal_(net.fc8.weight, std=0.01)


# Builders --------------------------------------------------------------------------------------------------------


def c3d(
    num_classes: int = 487,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    frames: int = 16,
    size: Sequence[int] = (112, 112),
    pool5: Pool5 = "ceil",
    dropout: float = 0.5,
    mean: Sequence[float] | None = MEAN,
    std: Sequence[float] | None = STD,
) -> C3D:
    """C3D (487 classes: 79,991,015 parameters).

    widths: channels of the five groups of convolutions. hidden: of fc6 and fc7. frames, size: of a clip.
    pool5: `ceil` (Caffe), `pad` (ports) or `floor`.
    """
    if len(widths) != 5:
        raise UsageError(f"widths are {list(widths)}, expected five numbers of channels")
    height, width = size
    normalize = Normalize(*for_channels(mean, std, in_channels), bgr=mean is not None and in_channels == 3)
    return C3D(
        num_classes,
        in_channels=in_channels,
        widths=widths,
        hidden=hidden,
        size=(frames, height, width),
        pool5=pool5,
        dropout=dropout,
        normalize=normalize,
    )


def c3d_pad(
    num_classes: int = 487,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    frames: int = 16,
    size: Sequence[int] = (112, 112),
    dropout: float = 0.5,
    mean: Sequence[float] | None = MEAN,
    std: Sequence[float] | None = STD,
) -> C3D:
    """C3D whose last pool is padded on both sides, as in most PyTorch ports and their weights."""
    return c3d(
        num_classes,
        in_channels=in_channels,
        widths=widths,
        hidden=hidden,
        frames=frames,
        size=size,
        pool5="pad",
        dropout=dropout,
        mean=mean,
        std=std,
    )


@torch.no_grad()
def video_descriptor(net: C3D, clips: Tensor) -> Tensor:
    """The descriptor `(hidden,)` of a video from its clips `(V, C, T, H, W)`: mean of fc6, of length 1 (section 3)."""
    mean = net.descriptor(clips).mean(0)
    return mean / mean.norm().clamp(min=1e-12)


# Public names ----------------------------------------------------------------------------------------------------

_LAYERS = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
KEY_MAPS = (
    KeyMap(
        "c3d",
        tuple((f"{layer}.{{leaf}}", f"{layer}.{{leaf}}") for layer in (*_LAYERS, "fc6", "fc7", "fc8")),
        words="the c3d.pickle of the PyTorch ports",
    ),
    KeyMap(
        "caffe",
        (
            ("conv1a.{leaf}", "conv1.{leaf}"),
            ("conv2a.{leaf}", "conv2.{leaf}"),
            *((f"{layer}.{{leaf}}", f"{layer}.{{leaf}}") for layer in _LAYERS[2:]),
            *((f"fc{n}-1.{{leaf}}", f"fc{n}.{{leaf}}") for n in (6, 7)),
            ("fc8-1.{leaf}", "fc8.{leaf}"),
        ),
        words="the layers of the Caffe model (conv1a, fc6-1), converted to an .npz",
    ),
    KeyMap(
        "mmaction2",
        (
            ("backbone.conv1a.conv.{leaf}", "conv1.{leaf}"),
            ("backbone.conv2a.conv.{leaf}", "conv2.{leaf}"),
            *((f"backbone.{layer}.conv.{{leaf}}", f"{layer}.{{leaf}}") for layer in _LAYERS[2:]),
            ("backbone.fc6.{leaf}", "fc6.{leaf}"),
            ("backbone.fc7.{leaf}", "fc7.{leaf}"),
            ("cls_head.fc_cls.{leaf}", "fc8.{leaf}"),
        ),
        container="state_dict",
        words="mmaction2 (its own weights want pool5=pad)",
    ),
)
