"""Objects by the cell of a grid that their centre lies in: what SOLO and SOLOv2 have in common.

Papers: SOLO (Wang et al. 2019, arXiv:1912.04488); SOLOv2 (Wang et al. 2020, arXiv:2003.10152).

Letters: B pictures, G true objects, K classes, L levels, S cells a side of a level's grid, M candidates, D answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.contract import Found, Target, real
from sightline.detection.losses import sigmoid_focal
from sightline.errors import UsageError
from sightline.instance.contract import boxes_around
from sightline.nn.conv import Norm, conv_norm_act
from sightline.ops.boxes import clip_boxes
from sightline.ops.nms import matrix_nms, ranking

CANDIDATES = 500
"""Cells, best first, whose masks are made in a compiled program or on a GPU; eager ones on a CPU take all there are."""

RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
"""Sides (root of the box's area) in pixels of the objects that each level learns; they overlap on purpose."""


@dataclass(frozen=True)
class Rules:
    """grids: cells a side, a level. strides: pixels of a place of each level's map. ranges: see `RANGES`.

    centre: share of a box around the mass centre whose cells all learn the object. score: the least probability of a
    cell. mask: from which probability on a pixel belongs to it. before: candidates for Matrix NMS, with `kernel` and
    `sigma`. kept: the least score after it. most: answers a picture.
    """

    grids: Sequence[int] = (40, 36, 24, 16, 12)
    strides: Sequence[int] = (8, 8, 16, 32, 32)
    ranges: Sequence[Sequence[float]] = RANGES
    centre: float = 0.2
    score: float = 0.1
    mask: float = 0.5
    before: int = 500
    kernel: str = "gaussian"
    sigma: float = 2.0
    kept: float = 0.05
    most: int = 100

    def __post_init__(self) -> None:
        if not len(self.grids) == len(self.strides) == len(self.ranges):
            raise UsageError(f"grids {list(self.grids)} and ranges {list(self.ranges)} must have one value a level")


def tower(in_channels: int, width: int, depth: int, norm: Norm) -> nn.Sequential:
    """3x3 convolutions with their norm."""
    return nn.Sequential(*(conv_norm_act(in_channels if i == 0 else width, width, norm=norm) for i in range(depth)))


def draw_weights(net: nn.Module, *heads: nn.Conv2d) -> None:
    """Convolutions from N(0, 0.01); `heads` begin by saying that nothing is there, with probability 0.99."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for head in heads:
        assert head.bias is not None
        nn.init.constant_(head.bias, -4.59511985013459)  # -log((1 - 0.01) / 0.01)


def levels_of(maps: Sequence[Tensor]) -> list[Tensor]:
    """The pyramid with its ends brought closer: the finest at the second's size, the coarsest at the last but one's."""
    first = F.interpolate(maps[0], size=maps[1].shape[-2:], mode="bilinear", align_corners=False)
    last = F.interpolate(maps[-1], size=maps[-2].shape[-2:], mode="bilinear", align_corners=False)
    return [first, *maps[1:-1], last]


def coordinates(x: Tensor) -> Tensor:
    """Where each place of `(B, C, H, W)` is: x and y from -1 to 1, `(B, 2, H, W)`."""
    batch, _, height, width = x.shape
    across = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
    down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
    grid = torch.stack([across[None, :].expand(height, width), down[:, None].expand(height, width)])
    return grid.expand(batch, 2, height, width)


def at_grid(x: Tensor, cells: int) -> Tensor:
    """`(B, C, H, W)` at the size of a grid, `(B, C, S, S)`."""
    return F.interpolate(x, size=(cells, cells), mode="bilinear", align_corners=False)


def doubled(x: Tensor) -> Tensor:
    """`(B, C, H, W)` to `(B, C, 2 H, 2 W)`."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


# How it answers ---------------------------------------------------------------------------------------------------


def peaks(logits: Tensor) -> Tensor:
    """Logits `(B, K, S, S)` to probabilities of cells that none of three neighbours beats, `(B, S * S, K)`."""
    chance = logits.float().sigmoid()
    highest = F.max_pool2d(chance, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return (chance * (highest == chance)).flatten(2).transpose(1, 2)


@torch.no_grad()
def find(
    logits: Sequence[Tensor],
    masks_of: Callable[[Tensor], Tensor],
    rules: Rules,
    canvas: tuple[int, int],
    sizes: Tensor,
) -> Found:
    """The cells with something in them, and what Matrix NMS leaves of them.

    logits: `(B, K, S, S)` a level. masks_of: cells `(B, M)`, counted over all levels, to their probabilities
    `(B, M, h, w)`. canvas: height and width of the network's input; sizes: `(B, 2)`, valid.
    """
    scores = torch.cat([peaks(level) for level in logits], 1)  # (B, cells, K)
    classes = scores.shape[-1]
    flat = scores.flatten(1)
    count = CANDIDATES
    if not torch.compiler.is_compiling() and not flat.is_cuda:
        count = max(1, int((flat > rules.score).sum(1).max()))
    score, index = flat.topk(min(count, flat.shape[1]), dim=1)
    cell, label = index // classes, index % classes
    least = torch.cat([torch.full((s * s,), float(t), device=flat.device) for s, t in zip(rules.grids, rules.strides)])
    masks = masks_of(cell)  # (B, M, h, w)
    inside = masks > rules.mask
    area = inside.sum((-2, -1))
    valid = (score > rules.score) & (area > least[cell])
    score = score * (masks * inside).sum((-2, -1)) / area.clamp(min=1) * valid

    order = ranking(score)[:, : rules.before]
    score, label, area = (x.gather(1, order) for x in (score, label, area))
    flags = picked(inside, order).flatten(2).to(masks.dtype)
    shared = flags @ flags.transpose(1, 2)
    union = area[:, :, None] + area[:, None, :] - shared
    score = matrix_nms(shared / union.clamp(min=1), score, label, kernel=rules.kernel, sigma=rules.sigma)
    score = torch.where(score >= rules.kept, score, 0.0)

    best = ranking(score)[:, : rules.most]
    order = order.gather(1, best)
    score, label, masks = score.gather(1, best), label.gather(1, best), picked(masks, order)
    scale = (canvas[0] / masks.shape[-2], canvas[1] / masks.shape[-1])
    boxes = clip_boxes(boxes_around(picked(inside, order), scale), sizes)
    return Found(boxes, score, label, (score > 0).sum(1), masks=masks)


def picked(maps: Tensor, index: Tensor) -> Tensor:
    """Of maps `(B, N, h, w)`, those at `index` `(B, M)`: `(B, M, h, w)`."""
    return maps.gather(1, index[..., None, None].expand(*index.shape, *maps.shape[-2:]))


# What it learns from ----------------------------------------------------------------------------------------------


@torch.no_grad()
def cells_of(targets: Target, rules: Rules, canvas: tuple[int, int]) -> list[Tensor]:
    """Which cells learn which object, `(B, G, S, S)` bool a level: those around the middle of its mask."""
    if targets.masks is None:
        raise UsageError("SOLO learns from masks, and the targets have none; take data with masks")
    masks, boxes = targets.masks.float(), targets.boxes
    mass = masks.sum((-2, -1)).clamp(min=1e-6)
    row, column = (torch.arange(n, device=masks.device, dtype=masks.dtype) for n in masks.shape[-2:])
    middle = torch.stack([(masks.sum(-2) * column).sum(-1), (masks.sum(-1) * row).sum(-1)], -1) / mass[..., None]
    sides = boxes[..., 2:] - boxes[..., :2]
    size = sides.prod(-1).sqrt()
    seen = real(targets) & masks.flatten(2).any(-1)
    reach = 0.5 * sides * rules.centre
    canvas_xy = torch.tensor([canvas[1], canvas[0]], device=masks.device, dtype=masks.dtype)
    found = []
    for cells, (least, most) in zip(rules.grids, rules.ranges):

        def place(point: Tensor, cells: int = cells) -> Tensor:
            return torch.div(point / canvas_xy, 1.0 / cells, rounding_mode="trunc")

        centre = place(middle)
        low = torch.maximum(place(middle - reach).clamp(min=0), centre - 1)
        high = torch.minimum(place(middle + reach).clamp(max=cells - 1), centre + 1)
        n = torch.arange(cells, device=masks.device)
        across = (n >= low[..., 0, None]) & (n <= high[..., 0, None])  # (B, G, S)
        down = (n >= low[..., 1, None]) & (n <= high[..., 1, None])
        here = seen & (size >= least) & (size <= most)
        found.append(down[..., :, None] & across[..., None, :] & here[..., None, None])
    return found


def last_of(cells: Tensor) -> Tensor:
    """The last object that claims each cell, `(B, G, S, S)` to `(B, S, S)`; -1: none."""
    if cells.shape[1] == 0:
        return torch.full((cells.shape[0], *cells.shape[2:]), -1, device=cells.device)
    number = torch.arange(cells.shape[1], device=cells.device)[:, None, None]
    return torch.where(cells, number, -1).amax(1)


@torch.no_grad()
def masks_at(targets: Target, canvas: tuple[int, int], size: Sequence[int]) -> Tensor:
    """True masks over the whole canvas at `size`: `(B, G, h, w)` float32, 1 where at least half is theirs."""
    assert targets.masks is not None
    x = targets.masks.float()
    x = F.pad(x, (0, canvas[1] - x.shape[-1], 0, canvas[0] - x.shape[-2]))
    if x.shape[1] == 0:
        return x.new_zeros(x.shape[0], 0, *size)
    return (F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False) >= 0.5).float()


def dice(said: Tensor, truth: Tensor, eps: float = 1e-3) -> Tensor:
    """Dice losses `(N,)` of probabilities and masks `(N, h, w)`, squares in the denominator."""
    said, truth = said.float().flatten(1), truth.flatten(1)
    shared = (said * truth).sum(1)
    return 1 - 2 * shared / ((said * said).sum(1) + eps + (truth * truth).sum(1) + eps)


def losses(
    logits: Sequence[Tensor],
    masks_of: Callable[[int, Tensor, Tensor], Tensor],
    targets: Target,
    rules: Rules,
    canvas: tuple[int, int],
    *,
    once: bool,
) -> dict[str, Tensor]:
    """`masks`: three times the dice loss, the mean over positive cells; `classes`: the focal loss by their number.

    masks_of: a level, and places in the batch and cells `(P,)` to probabilities `(P, h, w)`. once: a cell that several
    objects claim learns the last one's mask only (SOLO), or each (SOLOv2).
    """
    claims = cells_of(targets, rules, canvas)
    last = [last_of(level) for level in claims]
    total = torch.stack([(level >= 0).sum() for level in last]).sum()
    terms = []
    for i, (claim, own) in enumerate(zip(claims, last)):
        if once:
            picture, cell = (own >= 0).flatten(1).nonzero(as_tuple=True)
            which = own.flatten(1)[picture, cell]
        else:
            picture, which, cell = claim.flatten(2).nonzero(as_tuple=True)
        said = masks_of(i, picture, cell)
        truth = masks_at(targets, canvas, said.shape[-2:])
        terms.append(dice(said, truth[picture, which]).sum())
    said = torch.cat([level.flatten(2).transpose(1, 2) for level in logits], 1)  # (B, cells, K)
    own = torch.cat([level.flatten(1) for level in last], 1)
    labels = own
    if targets.labels.shape[1]:
        labels = torch.where(own >= 0, targets.labels.gather(1, own.clamp(min=0)), -1)
    return {
        "masks": 3.0 * torch.stack(terms).sum() / total.clamp(min=1),
        "classes": sigmoid_focal(said.float(), labels, alpha=0.25, gamma=2.0).sum() / (total + 1),
    }
