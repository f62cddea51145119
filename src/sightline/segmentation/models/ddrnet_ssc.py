"""DDRNet: semantic scene completion from one colour and depth picture (not the road network of the same name).

Paper: RGBD Based Dimensional Decomposition Residual Network for 3D Semantic Scene Completion (Li, Liu, Gong, Shi,
Yuan, Zhao & Reid 2019, arXiv:1903.00620).

The idea: label every voxel of the room in front of the camera, the hidden ones too. Two light streams read colour and
depth; each pixel's features are carried to the voxel its depth points at; 3-D residual blocks, whose kernels are
decomposed into three one-dimensional ones, fuse the streams at four levels and fill in what nobody saw.

Letters: B pictures, K classes (0 is empty space), H x W pixels, w x h x d voxels of the grid (240 x 144 x 240).

Inputs: `images` (colour), `depth` `(B, 1, H, W)` in metres, `position` `(B, H W)` int64: the voxel each pixel falls
into, as a flat index in (w, h, d) order, -1 for none (`positions` computes it from the camera). The answer stands on a
grid a quarter as fine: logits `(B, K, d/4, h/4, w/4)`, 60 x 36 x 60; so do its labels.

Learns from: cross-entropy with weight 0.05 for empty space; voxels that no camera could know are `IGNORE`.

Departures: none known. A voxel's feature is at least 0, since the empty volume takes part in the maximum, as published.
The published training holds its learning rate constant (its scheduler is created anew every epoch).

Published: 195,748 parameters, 26.88 billion multiplications; completion and scenes on NYU (not measured here: the data
are not ours to bring).

Loads: waterljwant/SSC (`ssc`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.bins import global_average
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion
from sightline.weights.keymap import KeyMap

# Geometry --------------------------------------------------------------------------------------------------------


def positions(
    depth: Tensor, intrinsics: Tensor, pose: Tensor, *, voxel: float = 0.02, grid: Sequence[int] = (240, 144, 240)
) -> Tensor:
    """The voxel each pixel falls into: a flat index in (w, h, d) order, -1 without depth or outside the grid.

    depth: `(B, H, W)` metres, 0 where unknown. intrinsics: `(3, 3)`, pixels. pose: `(4, 4)`, from camera coordinates
    (x right, y down, z forward, metres) to coordinates along the grid's axes w, h, d, from its corner. voxel: metres.
    Returns int64 `(B, H W)`.
    """
    rows, columns = torch.meshgrid(torch.arange(depth.shape[1]), torch.arange(depth.shape[2]), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(pose.dtype)  # (H, W, 3)
    rays = pixels @ torch.linalg.inv(intrinsics.to(pose.dtype)).T
    points = rays * depth.to(pose.dtype)[..., None]  # (B, H, W, 3)
    cells = ((points @ pose[:3, :3].T + pose[:3, 3]) / voxel).floor().long()
    width, height, deep = grid
    inside = ((cells >= 0) & (cells < torch.tensor([width, height, deep]))).all(-1) & (depth > 0)
    flat = (cells[..., 0] * height + cells[..., 1]) * deep + cells[..., 2]
    return torch.where(inside, flat, -1).flatten(1)


def project(features: Tensor, position: Tensor, grid: Sequence[int]) -> Tensor:
    """Features `(B, C, H, W)` carried to the voxels at `position` `(B, H W)`: `(B, C, d, h, w)`.

    Where several pixels meet the largest value of each channel stays, and 0 takes part; -1 goes nowhere.
    """
    width, height, deep = grid
    count = width * height * deep
    flat = features.flatten(2)
    place = torch.where(position < 0, count, position)[:, None].expand(-1, flat.shape[1], -1)
    volume = flat.new_zeros(flat.shape[0], flat.shape[1], count + 1).scatter_reduce(2, place, flat, "amax")
    return volume[:, :, :count].unflatten(2, (width, height, deep)).permute(0, 1, 4, 3, 2).contiguous()


# Parts -----------------------------------------------------------------------------------------------------------


class Decomposed2D(nn.Module):
    """A residual bottleneck whose 3x3 kernel is a row and a column: `(B, C, H, W)` to the same shape."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, middle, 1, bias=False)
        self.row = nn.Conv2d(middle, middle, (1, 3), padding=(0, 1))
        self.column = nn.Conv2d(middle, middle, (3, 1), padding=(1, 0))
        self.leave = nn.Conv2d(middle, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Enter, row, column, leave; the input is added."""
        y = self.column(self.row(self.enter(x).relu()).relu()).relu()
        return (self.leave(y) + x).relu()


class Decomposed3D(nn.Module):
    """A bottleneck whose 3x3x3 kernel is one along each axis, each added to the ones before: DDR block.

    residual: the input is added as well. dilation: along each kernel's own axis.
    """

    def __init__(self, channels: int, middle: int, out: int, *, dilation: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.enter = nn.Conv3d(channels, middle, 1, bias=False)

        def along(d: int, h: int, w: int) -> nn.Conv3d:
            spread = (dilation if d == 3 else 1, dilation if h == 3 else 1, dilation if w == 3 else 1)
            padding = (d // 2 * dilation, h // 2 * dilation, w // 2 * dilation)
            return nn.Conv3d(middle, middle, (d, h, w), padding=padding, dilation=spread)

        self.width, self.height, self.depth = along(1, 1, 3), along(1, 3, 1), along(3, 1, 1)
        self.leave = nn.Conv3d(middle, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, d, h, w)` to `(B, out, d, h, w)`, never below 0."""
        first = self.width(self.enter(x).relu()).relu()
        second = (self.height(first) + first).relu()
        third = (self.depth(second) + second + first).relu()
        y = self.leave(third)
        return (y + x if self.residual else y).relu()


class Shrink(nn.Module):
    """Half the size: new channels from a strided convolution, the old ones from a max-pool, side by side."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out - channels, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, d, h, w)` to `(B, out, d/2, h/2, w/2)`."""
        return torch.cat([self.conv(x), F.max_pool3d(x, 2)], dim=1).relu()


class Aspp3D(nn.Module):
    """One plain, three dilated and one pooled view of the same map, side by side: five times `width` channels."""

    def __init__(self, channels: int, middle: int, width: int, dilations: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        self.plain = nn.Conv3d(channels, width, 1, bias=False)
        self.dilated = nn.ModuleList(
            Decomposed3D(channels, middle, width, dilation=d, residual=False) for d in dilations
        )
        self.pooled = nn.Conv3d(channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, d, h, w)` to `(B, 5 width, d, h, w)`."""
        pooled = self.pooled(global_average(x))
        views = [self.plain(x), *(view(x) for view in self.dilated)]
        return torch.cat([*views, pooled.expand(-1, -1, *x.shape[2:])], dim=1)


# Network ---------------------------------------------------------------------------------------------------------


class DDRNet(nn.Module):
    """Two streams (`depth`, `colour`), each of 2-D features, 3-D features and three dilated blocks, fused and scored.

    grid: voxels in w, h, d; each divides by 4. depth_range: metres that become 1.
    """

    HEAD = ("head.4.",)

    def __init__(
        self,
        streams: dict[str, nn.ModuleDict],
        aspp: nn.Module,
        head: nn.Module,
        *,
        grid: Sequence[int],
        depth_range: float,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.depth = streams["depth"]
        self.colour = streams["colour"]
        self.aspp = aspp
        self.head = head
        self.grid, self.depth_range = tuple(grid), depth_range
        self.criterion = criterion or Criterion()

    def forward(
        self,
        images: Tensor,
        *,
        depth: Tensor,
        position: Tensor,
        sizes: Tensor | None = None,
        targets: Target | None = None,
    ) -> Scores:
        """See: `(B, 3, H, W)` pictures in [0, 1], their depth and positions, to `(B, K, d/4, h/4, w/4)` logits."""
        far = self._levels(self.depth, depth / self.depth_range, position)
        seen = self._levels(self.colour, self.normalize(images, sizes), position)
        fused = torch.cat([a + b for a, b in zip(far, seen)], dim=1)
        return Scores(self.head(self.aspp(fused)))

    def _levels(self, stream: nn.ModuleDict, pixels: Tensor, position: Tensor) -> list[Tensor]:
        """One stream's four 3-D maps."""
        x = stream["space"](project(stream["plane"](pixels), position, self.grid))
        levels = [x]
        for name in ("block1", "block2", "block3"):
            x = stream[name](x)
            levels.append(x)
        return levels

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms; labels `(B, d/4, h/4, w/4)`."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[LabelMap]:
        """Say: one label map a scene."""
        return decode(out, classes=classes)


# Builder ---------------------------------------------------------------------------------------------------------


def ddrnet_ssc(
    num_classes: int = 12,
    *,
    in_channels: int = 3,
    grid: Sequence[int] = (240, 144, 240),
    width: int = 64,
    depth_range: float = 8.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> DDRNet:
    """DDRNet as published (195,748 parameters).

    grid: voxels along width, height and depth of the volume the pixels are carried to. width: channels of the 3-D maps,
    a multiple of 8. depth_range: metres that become 1 (the published code divides millimetres by 8000).
    """
    if any(n % 4 for n in grid) or len(grid) != 3 or width % 8:
        raise UsageError(f"grid {tuple(grid)} and width {width}: three numbers that 4 divides, and one that 8 divides")
    if mean is None:
        depth_range = 1.0  # inputs are taken as they are
    eighth, quarter = width // 8, width // 4

    def stream(channels: int) -> nn.ModuleDict:
        plane = nn.Sequential(
            nn.Conv2d(channels, eighth, 1), Decomposed2D(eighth, eighth // 2), Decomposed2D(eighth, eighth // 2)
        )
        space = nn.Sequential(
            Shrink(eighth, quarter),
            Decomposed3D(quarter, quarter // 4, quarter),
            Shrink(quarter, width),
            Decomposed3D(width, quarter, width),
        )
        blocks = {f"block{i}": Decomposed3D(width, quarter, width, dilation=d) for i, d in ((1, 2), (2, 3), (3, 5))}
        return nn.ModuleDict({"plane": plane, "space": space, **blocks})

    head = nn.Sequential(
        nn.Conv3d(5 * width, 2 * width, 1),
        nn.ReLU(inplace=True),
        nn.Conv3d(2 * width, 2 * width, 1),
        nn.ReLU(inplace=True),
        nn.Conv3d(2 * width, num_classes, 1),
    )
    empty = (0.05, *[1.0] * (num_classes - 1)) if num_classes > 1 else (0.05, 1.0)
    net = DDRNet(
        {"depth": stream(1), "colour": stream(in_channels)},
        Aspp3D(4 * width, quarter, width),
        head,
        grid=grid,
        depth_range=depth_range,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
        criterion=Criterion(class_weights=empty),
    )
    for part in net.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.xavier_uniform_(part.weight)
        elif isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.1)
    return net


# Key maps --------------------------------------------------------------------------------------------------------

_PLANE = (("conv_in", "enter"), ("conv_1xk", "row"), ("conv_kx1", "column"), ("conv_out", "leave"))
_SPACE = (
    ("conv_in", "enter"), ("conv1x1x3", "width"), ("conv1x3x1", "height"), ("conv3x1x1", "depth"), ("conv_out", "leave")
)  # fmt: skip

KEY_MAPS = (
    KeyMap(
        "ssc",
        (
            *(
                row
                for theirs, ours in (("dep", "depth"), ("rgb", "colour"))
                for row in (
                    *(
                        (f"{theirs}_feature2d.{{i}}.{a}.{{leaf}}", f"{ours}.plane.{{i}}.{b}.{{leaf}}")
                        for a, b in _PLANE
                    ),
                    *(
                        (f"{theirs}_feature3d.{{i}}.{a}.{{leaf}}", f"{ours}.space.{{i}}.{b}.{{leaf}}")
                        for a, b in _SPACE
                    ),
                    *((f"res3d_{{i}}{theirs[0]}.{a}.{{leaf}}", f"{ours}.block{{i}}.{b}.{{leaf}}") for a, b in _SPACE),
                    (f"{theirs}_feature2d.0.{{leaf}}", f"{ours}.plane.0.{{leaf}}"),
                    (f"{theirs}_feature3d.{{i}}.conv.{{leaf}}", f"{ours}.space.{{i}}.conv.{{leaf}}"),
                )
            ),
            ("aspp.aspp0.{leaf}", "aspp.plain.{leaf}"),
            *((f"aspp.aspp{{i+1}}.{a}.{{leaf}}", f"aspp.dilated.{{i}}.{b}.{{leaf}}") for a, b in _SPACE),
            ("aspp.global_avg_pool.1.{leaf}", "aspp.pooled.{leaf}"),
            ("conv_out.{i}.{leaf}", "head.{i}.{leaf}"),
        ),
        words="waterljwant/SSC: SSC_RGBD_DDRNet",
    ),
)
