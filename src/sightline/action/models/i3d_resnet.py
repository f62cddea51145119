"""C2D, I3D and Slow on a ResNet, with non-local blocks.

Papers: Non-local Neural Networks (Wang, Girshick, Gupta & He 2018, arXiv:1711.07971), which also inflates a ResNet to
I3D; the slow path of SlowFast (Feichtenhofer et al. 2019, arXiv:1812.03982).

The idea: a ResNet-50 whose 1x1 convolutions are here and there inflated to 3x1x1 sees clips. In a non-local block every
position of the clip adds a weighted mean over all positions, the weights from a softmax of how alike the two are.

- `i3d_r50`: 3x1x1 in every block of the first stage and in every other one later; time is halved after the first stage.
- `i3d_nln_r50_psf`: with non-local blocks after blocks 1, 3 of the second stage and 1, 3, 5 of the third.
- `c2d_r50`: no filter sees time, only the pool after the first stage. `slow_8x8_r50`: 3x1x1 in the last two stages.

PySlowFast's and pytorchvideo's weights load; see `fuse` in `sightline.action.models.slowfast`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.action.models.r3d import draw
from sightline.action.models.slowfast import (
    HALF_MEAN,
    HALF_STD,
    PYSLOWFAST,
    Fuse,
    Head,
    Stage,
    Stem,
    block_rows,
    check_fuse,
    check_window,
    scores,
    zero_last_norms,
)
from sightline.classification.losses import Criterion
from sightline.nn.normalize import Normalize, for_channels
from sightline.weights.keymap import KeyMap

Times = Sequence[Sequence[int]]

# Network ---------------------------------------------------------------------------------------------------------


class PathResNet(nn.Module):
    """One path of a ResNet over clips.

    stem_time: frames the first filter sees. times: temporal kernels of each stage's blocks, repeated to its depth.
    nonlocals: after which blocks of each stage. pool: frames that are pooled into one after the first stage.
    """

    HEAD = ("head.projection.",)
    STEM = ("s1.pathway0_stem.conv.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        stem_time: int = 5,
        times: Times = ((3,), (3, 1), (3, 1), (1, 3)),
        nonlocals: Sequence[Sequence[int]] = ((), (), (), ()),
        pool: int = 2,
        window: int | None = 7,
        fuse: Fuse = "probabilities",
        dropout: float = 0.5,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        check_fuse(fuse)
        self.fuse, self.window, self.depth = fuse, window, len(depths)
        self.normalize = normalize
        self.s1 = nn.Module()
        self.s1.pathway0_stem = Stem(in_channels, width, stem_time)
        self.pool = nn.MaxPool3d((pool, 1, 1))
        channels = width
        for i, depth in enumerate(depths):
            inner, out = width * 2**i, 4 * width * 2**i
            kernels = [times[i][b % len(times[i])] for b in range(depth)]
            stage = Stage([(channels, inner, out, kernels)], stride=2 if i else 1, nonlocals=nonlocals[i])
            self.add_module(f"s{i + 2}", stage)
            channels = out
        self.head = Head(channels, num_classes, window=window, dropout=dropout)
        self.criterion = criterion or Criterion()
        draw(self)
        zero_last_norms(self)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips to `(B, K)` logits."""
        check_window(images, self.window)
        paths = [self.s1.pathway0_stem(self.normalize(images, sizes))]  # pyright: ignore[reportCallIssue]
        for i in range(self.depth):
            paths = self.get_submodule(f"s{i + 2}")(paths)
            if i == 0:
                paths = [self.pool(paths[0])]
        return scores(self.head(paths), self.fuse)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def i3d_resnet(
    num_classes: int = 400,
    *,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    stem: int = 5,
    times: Sequence[Sequence[int]] = ((3,), (3, 1), (3, 1), (1, 3)),
    nonlocals: Sequence[Sequence[int]] = ((), (), (), ()),
    pool: int = 2,
    window: int | None = 7,
    fuse: Fuse = "logits",
    dropout: float = 0.5,
    mean: Sequence[float] | None = HALF_MEAN,
    std: Sequence[float] | None = HALF_STD,
) -> PathResNet:
    """I3D on ResNet-50, and its relatives.

    stem: kernel in time of the first convolution. times: kernels in time of each stage's blocks, in turns (C2D: all 1).
    nonlocals: after which blocks of each stage a non-local block stands. pool: of time, behind the first stage.
    window: side of the head's pool, a 32nd of the training size; None: the whole map.
    fuse: how positions are averaged, `probabilities` (PySlowFast) or `logits` (pytorchvideo).
    """
    return PathResNet(
        num_classes,
        in_channels=in_channels,
        depths=depths,
        width=width,
        stem_time=stem,
        times=times,
        nonlocals=nonlocals,
        pool=pool,
        window=window,
        fuse=fuse,
        dropout=dropout,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------

_STEM = (
    ("blocks.0.conv.{leaf}", "s1.pathway0_stem.conv.{leaf}"),
    ("blocks.0.norm.{leaf}", "s1.pathway0_stem.bn.{leaf}"),
)
KEY_MAPS = (
    PYSLOWFAST,
    KeyMap(
        "pytorchvideo",
        (
            *_STEM,
            *block_rows("blocks.1.res_blocks.{b}", "s2.pathway0_res{b}"),
            *block_rows("blocks.{k}.res_blocks.{b}", "s{k}.pathway0_res{b}"),
            ("blocks.6.proj.{leaf}", "head.projection.{leaf}"),
        ),
        container="model_state",
        words="pytorchvideo's c2d_r50 and i3d_r50, which count the pool as a block",
    ),
    KeyMap(
        "pytorchvideo-slow",
        (
            *_STEM,
            *block_rows("blocks.{k-1}.res_blocks.{b}", "s{k}.pathway0_res{b}"),
            ("blocks.5.proj.{leaf}", "head.projection.{leaf}"),
        ),
        container="model_state",
        words="pytorchvideo's slow_r50",
    ),
)
