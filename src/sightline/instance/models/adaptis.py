"""AdaptIS: point at something, and get its mask.

Paper: AdaptIS: Adaptive Instance Selection Network (Sofiiuk, Barinova & Konushin 2019, arXiv:1909.07829).

The idea: the network is told a point, and draws the mask of whatever is there. What it sees at the point becomes scales
and shifts of a normalisation (AdaIN) in a small head that draws over the whole picture; the head is also told how far
each place is from the point. There are no boxes and no limit to the number of objects; a second head says which class
each pixel is.

- `adaptis`, the one to start with: one class or more, any size.
- `adaptis_toy`: the authors' network for their toy data (a U-Net of 32 to 512 channels), two semantic classes of which
  the first is background.

How it finds objects by itself: points on a grid (every `step` pixels) where the second head sees an object; their
masks, best first (mean probability inside), are kept unless `taken` of their pixels belong to better ones.

Further inputs: `points` `(B, P, 2)`: row and column, the first pixel is 0, 0. With them `out.masks` has one map of
logits a point.

Departures: points of objects are drawn evenly over their pixels. The head that proposes points, which the paper trains
last with all else frozen, is not here: a grid takes its place.

Traits: `points`: `points` may be given. `no_boxes`: boxes of targets are not looked at.

Loads: saic-vul/adaptis, branch pytorch (`adaptis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, real, whole
from sightline.errors import UsageError
from sightline.instance.cells import picked
from sightline.instance.contract import boxes_around, decode
from sightline.instance.masks import MapMasks
from sightline.nn.conv import he_init
from sightline.nn.normalize import Normalize, for_channels
from sightline.ops.matching import fixed_keys
from sightline.ops.nms import first_true, ranking
from sightline.ops.resize import centre_crop
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

HALF = (0.5, 0.5, 0.5)

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Pointed:
    """What AdaptIS sees.

    found: the objects, with `(B, D, H, W)` probabilities. sizes: `(B, 2)`. masks: logits `(B, P, H, W)` at points
    `(B, P, 2)`, those given or, with targets, one in each true object. semantic: logits `(B, K + 1, H, W)`, background
    first.
    """

    found: Found | None
    sizes: Tensor
    masks: Tensor | None = None
    points: Tensor | None = None
    semantic: Tensor | None = None


def block(in_channels: int, channels: int, *, kernel: int = 3, bias: bool = False) -> nn.Sequential:
    """Convolution `0`, ReLU, norm `2`: the norm comes last here."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, 1, kernel // 2, bias=bias),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(channels),
    )


class ToyUNet(nn.Module):
    """A U-Net whose decoder halves its channels once more after each level. `width` doubles up to `widest`."""

    def __init__(self, in_channels: int, width: int, widest: int, depth: int) -> None:
        super().__init__()
        self.image = nn.BatchNorm2d(in_channels)
        widths = [min(width * 2**i, widest) for i in range(depth + 1)]
        self.encoder = nn.ModuleList(
            nn.Sequential(block(in_channels if i == 0 else widths[i - 1], w), block(w, w)) for i, w in enumerate(widths)
        )
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = widths[-1]
        for i in range(depth - 1, -1, -1):
            w = widths[i]
            out = w // 2 if i > 0 and width * 2**i <= widest else w
            up = nn.ConvTranspose2d(channels, w, 4, 2, 1, groups=w, bias=False)
            self.ups.append(up)
            self.decoder.append(nn.Sequential(block(2 * w, w), block(w, out)))
            channels = out
        self.final = nn.Sequential(block(channels, width), block(width, width))
        self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, width, H, W)`."""
        x = self.image(x)
        seen = []
        for i, level in enumerate(self.encoder):
            x = level(F.max_pool2d(x, 2, 2, ceil_mode=True) if i else x)
            seen.append(x)
        for up, join, skip in zip(self.ups, self.decoder, reversed(seen[:-1])):
            x = centre_crop(F.relu(up(x)), skip.shape[-2:])
            x = join(torch.cat([x, skip], 1))
        return self.final(x)


class AdaIN(nn.Module):
    """Instance norm whose scale and shift come from elsewhere (Huang & Belongie 2017). base: added to the shift."""

    def __init__(self, channels: int, inputs: int, base: float) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(inputs, channels), nn.Linear(inputs, channels)
        self.base = base

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """`(N, C, H, W)` and `(N, inputs)` to `(N, C, H, W)`."""
        x = F.instance_norm(x)
        return x * self.scale(w)[..., None, None] + (self.shift(w) + self.base)[..., None, None]


class PointHead(nn.Module):
    """Draws the mask of what is at a point: controller, coordinates, AdaIN (figures 2 and 3).

    radius: pixels from the point at which coordinates are 1. rescale: factor and offset of the logits.
    """

    def __init__(
        self, in_channels: int, width: int, *, radius: float = 42.0, rescale: tuple[float, float] = (0.2, -1.7)
    ) -> None:
        super().__init__()
        self.controller = nn.Sequential(
            *(block(width if i else in_channels, width, kernel=1, bias=True) for i in range(3))
        )
        self.before = nn.Sequential(*(block(width if i else in_channels + 3, width, bias=True) for i in range(3)))
        self.adain = AdaIN(width, width, 1.0)
        self.after = block(width, width // 2, bias=True)
        self.last = nn.Conv2d(width // 2, 1, 1)
        self.radius, self.rescale = radius, rescale

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        """`(B, C, H, W)` and points `(B, P, 2)` to logits `(B, P, H, W)`."""
        batch, count = points.shape[:2]
        said = at_points(self.controller(x), points).flatten(0, 1)  # (B * P, width)
        place = self.places(points.flatten(0, 1), x)
        x = x.repeat_interleave(count, dim=0, output_size=batch * count)
        x = self.adain(self.before(torch.cat([place, x], 1)), said)
        x = self.last(self.after(x))
        return (self.rescale[0] * x + self.rescale[1]).unflatten(0, (batch, count))[:, :, 0]

    def places(self, points: Tensor, like: Tensor) -> Tensor:
        """How far down, across and away each place is from points `(N, 2)`, cut at -1 and 1: `(N, 3, H, W)`."""
        height, width = like.shape[-2:]
        row = (torch.arange(height, device=like.device) - points[:, :1]) / self.radius
        column = (torch.arange(width, device=like.device) - points[:, 1:]) / self.radius
        y = row[:, :, None].expand(-1, height, width)
        x = column[:, None, :].expand(-1, height, width)
        return torch.stack([y, x, (x * x + y * y).sqrt()], 1).clamp(-1, 1).to(like.dtype)


def at_points(x: Tensor, points: Tensor) -> Tensor:
    """Of maps `(B, C, H, W)`, what stands at points `(B, P, 2)`, between places bilinearly: `(B, P, C)`."""
    size = torch.tensor([x.shape[-1], x.shape[-2]], device=x.device)
    grid = (points.flip(-1) + 0.5) / size * 2 - 1  # x, y from -1 to 1 over the pixels' borders
    found = F.grid_sample(x, grid[:, :, None].to(x.dtype), padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def normalised_focal(logits: Tensor, truth: Tensor, *, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Focal loss whose weights have mean 1 (equation 3): `(..., H, W)` and truth 1, 0, -1 (not scored), to `(...)`."""
    object_, scored = truth > 0, truth >= 0
    chance = logits.float().sigmoid()
    right = torch.where(object_, chance, 1 - chance)
    right = torch.where(scored, right, 1.0)
    weight = (1 - right) ** gamma
    with torch.no_grad():
        factor = weight.new_tensor(float(truth.shape[-1] * truth.shape[-2])) / (weight.sum((-2, -1)) + 1e-12)
    loss = -torch.where(object_, alpha, 1 - alpha) * weight * torch.log((right + 1e-12).clamp(max=1))
    return factor * (loss * scored).sum((-2, -1)) / (scored.sum((-2, -1)) + 1e-12)


def normalised_focal_softmax(logits: Tensor, labels: Tensor, *, gamma: float = 1.0) -> Tensor:
    """The same over classes: `(B, K, H, W)` and labels `(B, H, W)`, -1 is not scored, to `(B,)`."""
    scored = labels >= 0
    right = logits.float().softmax(1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    right = torch.where(scored, right, 1.0)
    weight = (1 - right) ** gamma
    count = scored.sum((-2, -1))
    with torch.no_grad():
        factor = count / (weight.sum((-2, -1)) + 1e-10)
    loss = -weight * torch.log((right + 1e-10).clamp(max=1))
    return factor * loss.sum((-2, -1)) / (count + 1e-10)


# Network ---------------------------------------------------------------------------------------------------------


class AdaptIS(nn.Module):
    """Features, the head that draws from points, the head of classes.

    step: pixels between the points that are tried. tried: how many at most. mask: probability from which a pixel
    belongs to a mask; taken: share of a mask's pixels in better ones above which it goes; smallest: pixels of an
    answer. most: answers a picture.
    """

    HEAD = ("semantic.",)
    OPTIONAL = ()

    def __init__(
        self,
        normalize: Normalize,
        features: ToyUNet,
        head: PointHead,
        num_classes: int,
        *,
        semantic_width: int = 32,
        step: int = 12,
        tried: int = 200,
        mask: float = 0.4,
        taken: float = 0.4,
        smallest: int = 10,
        most: int = 100,
    ) -> None:
        super().__init__()
        self.normalize, self.features, self.head = normalize, features, head
        self.semantic = nn.ModuleDict(
            {
                "convs": nn.Sequential(
                    *(block(semantic_width if i else features.channels, semantic_width, bias=True) for i in range(3))
                ),
                "last": nn.Conv2d(semantic_width, num_classes + 1, 1),
            }
        )
        he_init(self, mode="fan_out")
        self.num_classes = num_classes
        self.step, self.tried, self.mask, self.taken = step, tried, mask, taken
        self.smallest, self.most = smallest, most

    def forward(
        self,
        images: Tensor,
        *,
        sizes: Tensor | None = None,
        targets: Target | None = None,
        points: Tensor | None = None,
    ) -> Pointed:
        """See: `(B, C, H, W)` pictures in [0, 1]; points `(B, P, 2)`, row and column."""
        x = self.features(self.normalize(images, sizes))
        semantic = self.semantic["last"](self.semantic["convs"](x))
        out = Pointed(None, whole(images, sizes))
        if points is None and targets is not None:
            points = self.points_in(targets)
        if points is not None:
            out = replace(out, masks=self.head(x, points), points=points, semantic=semantic)
        if targets is None or not self.training:
            out = replace(out, found=self.find(x, semantic, out.sizes))
        return out

    @torch.no_grad()
    def points_in(self, targets: Target) -> Tensor:
        """A point in each true object, `(B, G, 2)`: drawn in training, in eval mode always the same."""
        if targets.masks is None:
            raise UsageError("AdaptIS learns from masks, and the targets have none; take data with masks")
        flat = targets.masks.flatten(2)
        keys = torch.rand(flat.shape, device=flat.device) if self.training else fixed_keys(flat)
        place = keys.masked_fill(~flat.bool(), -1.0).argmax(-1) if flat.shape[1] else flat.new_zeros(flat.shape[:2])
        width = targets.masks.shape[-1]
        return torch.stack([place // width, place % width], -1).float()

    @torch.no_grad()
    def find(self, x: Tensor, semantic: Tensor, sizes: Tensor) -> Found:
        """Masks at the points of a grid that see an object, without those that are taken already."""
        batch, _, height, width = x.shape
        chance = semantic.float().softmax(1)  # (B, K + 1, H, W)
        rows = torch.arange(self.step // 2, height, self.step, device=x.device)
        columns = torch.arange(self.step // 2, width, self.step, device=x.device)
        grid = torch.cartesian_prod(rows, columns)[None].expand(batch, -1, 2)
        strength = 1 - at_points(chance[:, :1], grid.float())[..., 0]
        inside = (grid < sizes[:, None]).all(-1)
        order = ranking(strength.masked_fill(~inside, -1.0))[:, : self.tried]
        points = grid.gather(1, order[..., None].expand(*order.shape, 2)).float()
        valid = strength.gather(1, order) > 0.5
        valid = valid & inside.gather(1, order)

        masks = torch.cat([self.head(x, some) for some in points.split(8, 1)], 1).float().sigmoid()  # (B, P, H, W)
        flags = masks > self.mask
        area = flags.sum((-2, -1))
        score = (masks * flags).sum((-2, -1)) / area.clamp(min=1)
        valid = valid & (area >= self.smallest)
        order = ranking(score.masked_fill(~valid, -1.0))
        masks, flags = picked(masks, order), picked(flags, order)
        score, valid, area = (v.gather(1, order) for v in (score, valid, area))

        free = torch.ones_like(flags[:, 0])
        kept = []
        for p in range(flags.shape[1]):
            open_ = (flags[:, p] & free).sum((-2, -1))
            keep = valid[:, p] & (area[:, p] - open_ <= self.taken * area[:, p])
            free = free & ~(flags[:, p] & keep[:, None, None])
            kept.append(keep)
        keep = torch.stack(kept, 1)
        best = first_true(keep, self.most)
        masks, flags = picked(masks, best), picked(flags, best)
        weight = torch.einsum("bkhw,bdhw->bdk", chance[:, 1:], flags.float())
        found = Found(
            boxes_around(flags),
            score.gather(1, best),
            weight.argmax(-1),
            keep.sum(1).clamp(max=best.shape[1]),
            masks=masks,
        )
        return found

    def losses(self, out: Pointed, targets: Target) -> dict[str, Tensor]:
        """Learn: `masks` at the points, `semantic` everywhere (by 0.75)."""
        if out.masks is None or out.semantic is None or targets.masks is None:
            raise ValueError("losses need an output of forward(images, targets=...) and masks")
        objects = real(targets)
        each = normalised_focal(out.masks, targets.masks.long())
        masks = (each * objects).sum() / objects.sum().clamp(min=1)
        return {"masks": masks, "semantic": 0.75 * normalised_focal_softmax(out.semantic, semantic_of(targets)).mean()}

    def decode(self, out: Pointed, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""

        def form(said: Tensor, boxes: Tensor, size: tuple[int, int]) -> MapMasks:
            canvas = (said.shape[-2], said.shape[-1])
            return MapMasks(said, canvas, size, size, threshold=self.mask)

        return decode(out, form, score=score, classes=classes)


@torch.no_grad()
def semantic_of(targets: Target) -> Tensor:
    """Class of each pixel `(B, H, W)`: 0 is background, class k is k + 1; of objects that overlap the last."""
    assert targets.masks is not None
    inside = targets.masks.bool() & real(targets)[..., None, None]
    label = inside.new_zeros(inside.shape[0], *inside.shape[-2:], dtype=torch.long)
    for g in range(inside.shape[1]):
        label = torch.where(inside[:, g], targets.labels[:, g, None, None] + 1, label)
    return label


# Builders --------------------------------------------------------------------------------------------------------


def adaptis(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    width: int = 32,
    widest: int = 512,
    depth: int = 4,
    radius: float = 42.0,
    step: int = 12,
    tried: int = 200,
    mask: float = 0.4,
    taken: float = 0.4,
    smallest: int = 10,
    most: int = 100,
    mean: Sequence[float] | None = HALF,
    std: Sequence[float] | None = HALF,
) -> AdaptIS:
    """AdaptIS on its U-Net; pictures of any size.

    width, widest, depth: channels of the first level, of the widest, and how often the size is halved. radius: about
    the size of an object in pixels. The other values: see `AdaptIS`.
    """
    return AdaptIS(
        Normalize(*for_channels(mean, std, in_channels)),
        ToyUNet(in_channels, width, widest, depth),
        PointHead(width, width, radius=radius),
        num_classes,
        semantic_width=width,
        step=step,
        tried=tried,
        mask=mask,
        taken=taken,
        smallest=smallest,
        most=most,
    )


def adaptis_toy(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    width: int = 32,
    widest: int = 512,
    depth: int = 4,
    step: int = 12,
    tried: int = 200,
    most: int = 100,
    mean: Sequence[float] | None = HALF,
    std: Sequence[float] | None = HALF,
) -> AdaptIS:
    """The authors' network for toy data: 6,775,977 parameters; values as in `adaptis`."""
    return adaptis(
        num_classes,
        in_channels=in_channels,
        width=width,
        widest=widest,
        depth=depth,
        step=step,
        tried=tried,
        most=most,
        mean=mean,
        std=std,
    )


# Public names ----------------------------------------------------------------------------------------------------


def _blocks(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Rows for runs of convolution, ReLU, norm: numbers 0 and 2 of every three."""
    return (
        (f"{theirs}.{{3i}}.{{leaf}}", f"{ours}.{{i}}.0.{{leaf}}"),
        (f"{theirs}.{{3i+2}}.{{leaf}}", f"{ours}.{{i}}.2.{{leaf}}"),
    )


KEY_MAPS = (
    KeyMap(
        "adaptis",
        (
            ("backbone.image_bn.{leaf}", "features.image.{leaf}"),
            ("backbone.encoder.{i}.1.down_block.{j}.conv_block.{k}.{leaf}", "features.encoder.{i}.{j}.{k}.{leaf}"),
            ("backbone.decoder.{i}.upsampler.0.{leaf}", "features.ups.{i}.{leaf}"),
            ("backbone.decoder.{i}.conv3_{j}.conv_block.{k}.{leaf}", "features.decoder.{i}.{j}.{k}.{leaf}"),
            ("backbone.final_block.down_block.{j}.conv_block.{k}.{leaf}", "features.final.{j}.{k}.{leaf}"),
            *_blocks("adaptis_head.controller.controller", "head.controller"),
            *_blocks("adaptis_head.block0", "head.before"),
            ("adaptis_head.adain.affine_scale.{leaf}", "head.adain.scale.{leaf}"),
            ("adaptis_head.adain.affine_bias.{leaf}", "head.adain.shift.{leaf}"),
            ("adaptis_head.block1.3.{leaf}", "head.last.{leaf}"),
            ("adaptis_head.block1.{k}.{leaf}", "head.after.{k}.{leaf}"),
            ("segmentation_head.convhead.9.{leaf}", "semantic.last.{leaf}"),
            *_blocks("segmentation_head.convhead", "semantic.convs"),
        ),
        words="saic-vul/adaptis, branch pytorch: the network for toy data, without the proposal head",
    ),
)
