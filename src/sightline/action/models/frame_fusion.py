"""Single frame, early, late and slow fusion; context and fovea.

Paper: Large-scale Video Classification with Convolutional Neural Networks (Karpathy, Toderici, Shetty, Leung,
Sukthankar & Fei-Fei 2014).

The idea: an AlexNet sees clips in four ways. `single_frame` sees the middle frame; `early_fusion` ten frames at once,
as the channels of its first layer; `late_fusion` the first and the last frame, in two columns with the same weights
that meet in the first full layer; `slow_fusion` (also called mid-level fusion) merges time over its first three layers.
`context_fovea` looks at the whole frame at half the resolution and at its centre at the full: half the pixels, the same
answer.

Departures: the multi-resolution columns are those of the single frame. Trait `fixed_size`: the full layers fix the
size of the clip. No public weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

WIDTHS = (96, 256, 384, 384, 256)
MEAN = (117 / 255, 117 / 255, 117 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)

FORMS = ("single", "early", "slow", "late", "fovea")

# Letters: B clips, T frames, C channels, H x W pixels.

# Parts -----------------------------------------------------------------------------------------------------------


class Column(nn.Module):
    """The five convolutions over frames whose time has been merged, or is merged by the first three.

    times: (frames a filter sees, its stride in time) of the first three. last_pool: a pool after the fifth.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        times: Sequence[tuple[int, int]],
        *,
        stride: int = 3,
        last_pool: bool = True,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        (t1, s1), (t2, s2), (t3, s3) = times
        self.conv1 = nn.Conv3d(in_channels, a, (t1, 11, 11), (s1, stride, stride), (0, 5, 5))
        self.conv2 = nn.Conv3d(a, b, (t2, 5, 5), (s2, 1, 1), (0, 2, 2))
        self.conv3 = nn.Conv3d(b, c, (t3, 3, 3), (s3, 1, 1), (0, 1, 1))
        self.conv4 = nn.Conv3d(c, d, (1, 3, 3), 1, (0, 1, 1))
        self.conv5 = nn.Conv3d(d, e, (1, 3, 3), 1, (0, 1, 1))
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.5, k=2.0)  # torch divides alpha by the size
        self.last_pool = last_pool

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, C', T', H', W')`, T' = 1 once time is merged."""
        x = self.pool(self.norm(self.conv1(x).relu()))
        x = self.pool(self.norm(self.conv2(x).relu()))
        x = self.conv4(self.conv3(x).relu()).relu()
        x = self.conv5(x).relu()
        return self.pool(x) if self.last_pool else x


# Network ---------------------------------------------------------------------------------------------------------


class FrameFusion(nn.Module):
    """What each column is shown (`form`), the columns' maps beside each other, two full layers, a classifier.

    form: single, early, slow, late, or fovea. size: frames, height and width of a clip.
    """

    HEAD = ("fc8.",)

    def __init__(
        self,
        num_classes: int,
        *,
        form: str,
        in_channels: int = 3,
        size: tuple[int, int, int],
        widths: Sequence[int] = WIDTHS,
        hidden: int = 4096,
        stride: int = 3,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != 5:
            raise UsageError(f"widths are {list(widths)}, expected five numbers of channels")
        self.form, self.size = form, size
        self.normalize = normalize
        times = {"early": [(size[0], 1), (1, 1), (1, 1)], "slow": [(4, 2), (2, 2), (2, 2)]}.get(form, [(1, 1)] * 3)
        if form == "slow" and size[0] != 10:
            raise UsageError(f"slow fusion merges exactly 10 frames, not {size[0]}")
        pooled = form != "fovea"
        self.column = Column(in_channels, widths, times, stride=stride, last_pool=pooled)
        self.fovea = Column(in_channels, widths, times, stride=stride, last_pool=False) if form == "fovea" else None
        self.fc6 = nn.Linear(self._count(widths, stride), hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.criterion = criterion or Criterion()
        for part in self.modules():
            if isinstance(part, (nn.Conv3d, nn.Linear)):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.fc8.weight, std=0.01)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips of the network's size to `(B, K)` logits."""
        if tuple(images.shape[2:]) != self.size:
            raise UsageError(f"this network takes clips of {self.size}, not of {tuple(images.shape[2:])}")
        x = self.normalize(images, sizes)
        if self.form == "single":
            maps = [self.column(x[:, :, x.shape[2] // 2].unsqueeze(2))]
        elif self.form == "late":
            maps = [self.column(x[:, :, :1]), self.column(x[:, :, -1:])]
        elif self.fovea is not None:
            whole, centre = _resolutions(x[:, :, x.shape[2] // 2])
            maps = [self.column(whole.unsqueeze(2)), self.fovea(centre.unsqueeze(2))]
        else:
            maps = [self.column(x)]
        x = torch.cat([m.flatten(1) for m in maps], dim=1)
        x = self.dropout(self.fc6(x).relu())
        x = self.dropout(self.fc7(x).relu())
        return Scores(self.fc8(x))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)

    def _count(self, widths: Sequence[int], stride: int) -> int:
        columns = 2 if self.form in ("late", "fovea") else 1
        count = columns * widths[-1]
        for n in self.size[1:]:
            n = n // 2 if self.form == "fovea" else n
            n = (n - 1) // stride + 1
            n = n // 2 // 2 if self.form == "fovea" else n // 2 // 2 // 2
            if n < 1:
                raise UsageError(f"frames of {self.size[1]} x {self.size[2]} vanish in the pools; give larger ones")
            count *= n
        return count


def _resolutions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures `(B, C, H, W)` at half their size, and their centres of that size."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    small = F.interpolate(x, size=(height, width), mode="bilinear", antialias=True)
    return small, x[..., top : top + height, left : left + width]


# Builders --------------------------------------------------------------------------------------------------------


def frame_fusion(
    num_classes: int = 487,
    *,
    form: str = "single",
    in_channels: int = 3,
    frames: int = 1,
    size: Sequence[int] = (170, 170),
    widths: Sequence[int] = WIDTHS,
    hidden: int = 4096,
    stride: int = 3,
    dropout: float = 0.5,
    mean: Sequence[float] | None = MEAN,
    std: Sequence[float] | None = STD,
) -> FrameFusion:
    """A frame or several, brought together as `form` says.

    form: `single` (the middle frame), `early` (all frames as the channels of the first layer), `slow` (time merged over
    the first three layers, the paper's mid-level fusion), `late` (the first and the last frame in two columns with the
    same weights), or `fovea` (the middle frame at half the resolution, and its centre at the full).
    widths: channels of the five convolutions. hidden: of the full layers. stride: in space, of the first layer.
    """
    if form not in FORMS:
        raise UsageError(f"form is '{form}', expected one of {', '.join(FORMS)}")
    height, width = size
    return FrameFusion(
        num_classes,
        form=form,
        in_channels=in_channels,
        size=(frames, height, width),
        widths=widths,
        hidden=hidden,
        stride=stride,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS: tuple[KeyMap, ...] = ()
