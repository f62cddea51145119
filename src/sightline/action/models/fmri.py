"""3-D networks on fMRI volumes.

Paper: 3D Convolutional Neural Network for Feature Extraction and Classification of fMRI Volumes (Vu, Kim & Lee, PRNI
2018).

The idea: one volume of blood oxygen (BOLD) shows which of a few tasks a person does; LeNet-5 with three axes learns it.

- `fmri_3dcnn`: the published Python form, with max pools (217,588 parameters for 53 x 63 x 46 voxels and 4 classes).
- `fmri_3dcnn_strided`: the published MATLAB form, with strides instead (328,180 parameters).

Departure: the published code puts a sigmoid on its scores before the softmax of its loss, which then cannot fall below
log(1 + 3/e) for four classes; `squash=True` does the same.
Trait `fixed_size`: the full layers fix the size of the volume. Volumes: float32 `(B, 1, D, H, W)`, z-scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import HWIO, TRANSPOSED


class FMRINet(nn.Module):
    """Three valid convolutions of 7, 5 and 3 voxels, each with ReLU, and two dense layers.

    pooled: max pools of 2 after each convolution; else the convolutions stride by 2. size: of the volume.
    """

    HEAD = ("dense2.",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 1,
        size: tuple[int, int, int] = (53, 63, 46),
        widths: Sequence[int] = (8, 16, 32),
        hidden: int = 128,
        pooled: bool = True,
        squash: bool = False,
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.size, self.squash = size, squash
        self.normalize = normalize
        stride = 1 if pooled else 2
        a, b, c = widths
        self.conv1 = nn.Conv3d(in_channels, a, 7, stride)
        self.conv2 = nn.Conv3d(a, b, 5, stride)
        self.conv3 = nn.Conv3d(b, c, 3, stride)
        self.relu = nn.ReLU()
        self.pool1, self.pool2, self.pool3 = (nn.MaxPool3d(2) if pooled else nn.Identity() for _ in range(3))
        count = c
        for n in size:
            for kernel in (7, 5, 3):
                n = (n - kernel) // stride + 1
                n = n // 2 if pooled else n
            if n < 1:
                raise UsageError(f"volumes of {size} vanish in the three convolutions; give larger ones")
            count *= n
        self.dropout = nn.Dropout(dropout)
        self.dense1 = nn.Linear(count, hidden)
        self.dense2 = nn.Linear(hidden, num_classes)
        self.criterion = criterion or Criterion()
        draw(self)
        for dense in (self.dense1, self.dense2):  # weights of 0.01 on so few numbers would leave it at chance for long
            nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, D, H, W)` volumes of the network's `size` to `(B, K)` logits."""
        if tuple(images.shape[2:]) != self.size:
            raise UsageError(f"this network takes volumes of {self.size}, not of {tuple(images.shape[2:])}")
        x = self.normalize(images, sizes)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        x = self.pool3(self.relu(self.conv3(x)))
        x = x.permute(0, 2, 3, 4, 1).flatten(1)  # the published order: channels last
        x = self.dense2(self.dropout(self.relu(self.dense1(x))))
        return Scores(x.sigmoid() if self.squash else x)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a volume."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def fmri_3dcnn(
    num_classes: int = 4,
    *,
    in_channels: int = 1,
    size: Sequence[int] = (53, 63, 46),
    widths: Sequence[int] = (8, 16, 32),
    hidden: int = 128,
    squash: bool = False,
    dropout: float = 0.5,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> FMRINet:
    """The pooled form. size: voxels along each axis. squash: a sigmoid on the scores, as published."""
    return _fmri(num_classes, in_channels, size, widths, hidden, True, squash, dropout, mean, std)


def fmri_3dcnn_strided(
    num_classes: int = 4,
    *,
    in_channels: int = 1,
    size: Sequence[int] = (53, 63, 46),
    widths: Sequence[int] = (8, 16, 32),
    hidden: int = 128,
    squash: bool = False,
    dropout: float = 0.5,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> FMRINet:
    """The strided form."""
    return _fmri(num_classes, in_channels, size, widths, hidden, False, squash, dropout, mean, std)


def _fmri(
    num_classes: int,
    in_channels: int,
    size: Sequence[int],
    widths: Sequence[int],
    hidden: int,
    pooled: bool,
    squash: bool,
    dropout: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> FMRINet:
    depth, height, width = size
    return FMRINet(
        num_classes,
        in_channels=in_channels,
        size=(depth, height, width),
        widths=widths,
        hidden=hidden,
        pooled=pooled,
        squash=squash,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "3dcnn4fmri",
        (
            ("conv3d/kernel", "conv1.weight", HWIO),
            ("conv3d/bias", "conv1.bias"),
            ("conv3d_{i}/kernel", "conv{i+1}.weight", HWIO),
            ("conv3d_{i}/bias", "conv{i+1}.bias"),
            ("dense/kernel", "dense1.weight", TRANSPOSED),
            ("dense/bias", "dense1.bias"),
            ("dense_1/kernel", "dense2.weight", TRANSPOSED),
            ("dense_1/bias", "dense2.bias"),
        ),
        ignore=("*Adam*", "global_step", "beta?_power"),
        words="the TensorFlow checkpoint of bsplku/3dcnn4fmri, converted to an .npz",
    ),
)
