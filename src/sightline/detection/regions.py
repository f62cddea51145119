"""The two stages of region-based detectors: where could something be (RPN), and what is it (the box branch).

Faster R-CNN is made of them, and so are Mask and Keypoint R-CNN. Shapes are fixed throughout: proposals and samples are
padded, `valid` says which are real; nothing asks the device how many there are.

Letters: B pictures, K classes, N anchors of all levels, P proposals, S sampled proposals, G true boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.contract import Found, Target, real
from sightline.errors import UsageError
from sightline.nn.conv import Norm
from sightline.ops.anchors import cell_anchors, grid_anchors
from sightline.ops.box_coding import decode, encode
from sightline.ops.boxes import areas, clip_boxes, sized
from sightline.ops.matching import BACKGROUND, Rescue, balanced_sample, fixed_keys, match
from sightline.ops.nms import first_true, kept_of_sorted, nms_padded, ranking
from sightline.ops.roi import roi_align
from sightline.ops.tree import register_dataclass

Background = Literal["first", "last"]

CANDIDATES = 2000
"""Boxes, best first, that compete in the last suppression of a compiled program; eager ones on a CPU take all."""

# Where could something be -----------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Proposals:
    """Boxes `(B, P, 4)` worth a second look, best first; `valid` `(B, P)` says which are real; `scores` are logits."""

    boxes: Tensor
    scores: Tensor
    valid: Tensor


@register_dataclass
@dataclass(frozen=True)
class FirstStage:
    """What the RPN saw and learns from.

    objectness: logits `(B, N)`. deltas: `(B, N, 4)`. anchors: `(N, 4)`. positive, negative: `(B, N)` bool, the sample.
    truth: `(B, N, 4)`, the box that each anchor stands for, where it is positive.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: Tensor
    positive: Tensor
    negative: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Limits:
    """How many boxes of each level compete, and how many proposals are left, in training and otherwise."""

    before_train: int = 2000
    after_train: int = 2000
    before_test: int = 1000
    after_test: int = 1000


class RPN(nn.Module):
    """Region proposal network (Ren et al. 2015, arXiv:1506.01497, section 3.1), one head for all levels.

    sizes: anchors' sizes, a list a level. strides: of the levels; None: what the picture's size divided by the map's
    gives, rounded down (torchvision, which differs from the true stride where the last map was rounded up).
    rounded, order, offset: of the anchors (`ops.anchors`). hidden: channels of its convolutions; depth: how many.
    high, low, rescue, least: which anchors are positive, which background (`ops.matching.match`). count, fraction: how
    many anchors of a picture it learns from, and the share of positives in them. beta: where the loss turns from
    squares to lines. normalise: what losses are divided by: `sampled` anchors, or `asked` ones (count * B).
    overlap: IoU at which proposals suppress each other. smallest: side of the smallest proposal. score: the least
    probability of a proposal.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] | None,
        rounded: bool = False,
        order: Literal["ratio_first", "size_first"] = "ratio_first",
        offset: float = 0.0,
        hidden: int | None = None,
        depth: int = 1,
        limits: Limits | None = None,
        overlap: float = 0.7,
        smallest: float = 1e-3,
        score: float = 0.0,
        high: float = 0.7,
        low: float = 0.3,
        rescue: Rescue = "own",
        least: float = 0.0,
        count: int = 256,
        fraction: float = 0.5,
        beta: float = 1 / 9,
        normalise: Literal["sampled", "asked"] = "sampled",
    ) -> None:
        super().__init__()
        hidden = hidden or in_channels
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels if i == 0 else hidden, hidden, 3, 1, 1), nn.ReLU(inplace=True))
            for i in range(depth)
        )
        per_place = len(sizes[0]) * len(ratios)
        self.objectness = nn.Conv2d(hidden, per_place, 1)
        self.deltas = nn.Conv2d(hidden, 4 * per_place, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        cells = torch.stack([cell_anchors(s, ratios, rounded=rounded, order=order) for s in sizes])
        self.register_buffer("cells", cells, persistent=False)  # (L, A, 4)
        self.strides = None if strides is None else tuple(strides)
        self.offset, self.limits = offset, limits or Limits()
        self.overlap, self.smallest, self.score = overlap, smallest, score
        self.high, self.low, self.least = high, low, least
        self.rescue: Rescue = rescue
        self.count, self.fraction = count, fraction
        self.beta, self.normalise = beta, normalise

    cells: Tensor

    def head(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps `(B, C, H, W)` a level to logits `(B, A, H, W)` and deltas `(B, 4 A, H, W)` a level."""
        logits, deltas = [], []
        for x in maps:
            for conv in self.convs:
                x = conv(x)
            logits.append(self.objectness(x))
            deltas.append(self.deltas(x))
        return logits, deltas

    def anchors(self, maps: Sequence[Tensor], image: Tensor) -> list[Tensor]:
        """Anchors `(H * W * A, 4)` a level for the maps of `image` `(B, C, H, W)`, padded as the backbone saw it."""
        found = []
        for i, x in enumerate(maps):
            height, width = x.shape[-2:]
            if self.strides is None:
                stride = (image.shape[-2] // height, image.shape[-1] // width)
            else:
                stride = (self.strides[i], self.strides[i])
            found.append(grid_anchors(self.cells[i], height, width, stride, offset=self.offset))
        return found

    def forward(
        self, maps: Sequence[Tensor], image: Tensor, sizes: Tensor, targets: Target | None = None
    ) -> tuple[Proposals, FirstStage | None]:
        """Maps and the padded picture `(B, C, H, W)` they came from, valid sizes `(B, 2)`, to proposals.

        With targets also what the losses need.
        """
        logits, deltas = self.head(maps)
        logits = [places_first(x, 1)[..., 0] for x in logits]  # (B, H * W * A)
        deltas = [places_first(x, 4) for x in deltas]
        anchors = self.anchors(maps, image)
        with torch.no_grad():
            proposals = self.propose(logits, deltas, anchors, sizes)
        if targets is None:
            return proposals, None
        return proposals, self.stage(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), targets)

    def propose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Tensor
    ) -> Proposals:
        """The best boxes of each level that do not overlap one another, then the best of all levels."""
        limits = self.limits
        before, after = (
            (limits.before_train, limits.after_train) if self.training else (limits.before_test, limits.after_test)
        )
        scores, boxes = [], []
        for score, delta, anchor in zip(logits, deltas, anchors):
            score, index = best(score.float(), before)
            scores.append(score)  # (B, before)
            boxes.append(decode(rows(delta, index), anchor[index]))
        score, box = torch.stack(scores, 1), torch.stack(boxes, 1)  # (B, L, before), (B, L, before, 4)
        box = clip_boxes(box, sizes[:, None])
        valid = score.isfinite() & sized(box, self.smallest)
        if self.score > 0:
            valid = valid & (score.sigmoid() >= self.score)
        kept = kept_of_sorted(box, self.overlap, valid=valid)
        score, box, kept = (x.flatten(1, 2) for x in (score, box, kept))
        order = ranking(score.masked_fill(~kept, -math.inf))[:, :after]
        return Proposals(rows(box, order), score.gather(1, order), kept.gather(1, order))

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Target) -> tuple[Tensor, Tensor]:
        """For anchors `(N, 4)`: the index of their true box, `BACKGROUND` or `BETWEEN`, and that box, `(B, N, 4)`."""
        if targets.boxes.shape[1] == 0:
            found = torch.full((len(targets.boxes), len(anchors)), BACKGROUND, device=anchors.device)
            return found, anchors.expand(*found.shape, 4)
        found, _ = match(
            targets.boxes,
            anchors[None],
            valid=real(targets),
            high=self.high,
            low=self.low,
            rescue=self.rescue,
            least=self.least,
        )
        return found, rows(targets.boxes, found.clamp(min=0))

    def stage(self, objectness: Tensor, deltas: Tensor, anchors: Tensor, targets: Target) -> FirstStage:
        """Match and sample the anchors."""
        found, truth = self.assign(anchors, targets)
        keys = torch.rand(found.shape, device=found.device) if self.training else fixed_keys(found)
        positive, negative = balanced_sample(found >= 0, found == BACKGROUND, self.count, self.fraction, keys)
        return FirstStage(objectness, deltas, anchors, positive, negative, truth)

    def losses(self, stage: FirstStage) -> dict[str, Tensor]:
        """`rpn_objectness`: binary cross-entropy of the sample; `rpn_boxes`: smooth L1 of its positives' deltas."""
        sample = stage.positive | stage.negative
        total = sample.sum().clamp(min=1) if self.normalise == "sampled" else self.count * len(sample)
        logits = F.binary_cross_entropy_with_logits(stage.objectness.float(), stage.positive.float(), reduction="none")
        wanted = encode(stage.truth, stage.anchors)
        return {
            "rpn_objectness": (logits * sample).sum() / total,
            "rpn_boxes": delta_loss(stage.deltas, wanted, stage.positive, self.beta) / total,
        }


def places_first(x: Tensor, size: int) -> Tensor:
    """A head's map `(B, A * size, H, W)` as `(B, H * W * A, size)`: rows, columns, anchors."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels // size, size, height, width).permute(0, 3, 4, 1, 2)
    return x.reshape(batch, height * width * (channels // size), size)


def best(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The `most` highest of `(B, N)` and where they stand; minus infinity, standing at 0, where there are fewer."""
    score, index = F.pad(scores, (0, most), value=-math.inf).topk(most, dim=1)
    return score, index.masked_fill(score == -math.inf, 0)


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Of `(B, N, C)`, those at `index` `(B, M)`: `(B, M, C)`."""
    return values.gather(1, index[..., None].expand(*index.shape, values.shape[-1]))


def delta_loss(deltas: Tensor, wanted: Tensor, where: Tensor, beta: float) -> Tensor:
    """The sum of smooth L1 (beta 0: L1) over the last axis of `(..., 4)` and all places that are true in `where`."""
    wanted = torch.where(where[..., None], wanted, 0.0)  # padding makes infinities, whose gradients would be NaN
    deltas = torch.where(where[..., None], deltas.float(), 0.0)
    return F.smooth_l1_loss(deltas, wanted, beta=beta, reduction="sum")


# What is it -------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Sample:
    """Proposals that the second stage learns from.

    boxes: `(B, S, 4)`. valid: `(B, S)` bool. labels: `(B, S)`, 0..K-1, K is background. truth: `(B, S, 4)`, the box
    that each stands for. index: `(B, S)`, its place among the targets.
    """

    boxes: Tensor
    valid: Tensor
    labels: Tensor
    truth: Tensor
    index: Tensor

    @property
    def positive(self) -> Tensor:
        """True `(B, S)` where a real proposal stands for an object."""
        return self.valid & (self.index >= 0)


@register_dataclass
@dataclass(frozen=True)
class SecondStage:
    """What the box branch said of its sample: logits `(B, S, K + 1)`, deltas `(B, S, K or K + 1, 4)`."""

    sample: Sample
    logits: Tensor
    deltas: Tensor


class Pooler(nn.Module):
    """RoIAlign on the level that suits each box.

    scales: map cells a pixel, a level. lvl: floor(4 + log2(sqrt(area) / side + inside) + outside), clipped to the
    levels there are (FPN, section 4.2, equation 1); sources keep the logarithm from 0 or from rounding by another
    epsilon. side: of a box that belongs to the level of stride 16, in pixels.
    """

    def __init__(
        self,
        size: int,
        scales: Sequence[float],
        *,
        ratio: int = 2,
        aligned: bool = True,
        inside: float = 0.0,
        outside: float = 1e-6,
        side: float = 224.0,
    ) -> None:
        super().__init__()
        self.size, self.scales, self.ratio, self.aligned = size, tuple(scales), ratio, aligned
        self.inside, self.outside, self.side = inside, outside, side

    def levels(self, boxes: Tensor) -> Tensor:
        """Which level each box `(..., 4)` looks at, `(...)` int64."""
        low, high = (-math.log2(self.scales[i]) for i in (0, -1))
        side = areas(boxes.float()).sqrt()
        return (
            torch.floor(4 + torch.log2(side / self.side + self.inside) + self.outside).clamp(low, high) - low
        ).long()

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Maps a level and boxes `(B, P, 4)` to `(B * P, C, size, size)`."""
        batch, count = boxes.shape[:2]
        pictures = torch.arange(batch, device=boxes.device)[:, None].expand(batch, count).reshape(-1)
        flat = boxes.reshape(-1, 4)
        return roi_align(
            maps[: len(self.scales)],
            flat,
            pictures,
            self.size,
            scales=self.scales,
            levels=self.levels(flat) if len(self.scales) > 1 else None,
            ratio=self.ratio,
            aligned=self.aligned,
        )


class TwoLayers(nn.Module):
    """The head of FPN: two fully connected layers."""

    def __init__(self, in_channels: int, size: int, hidden: int = 1024) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(in_channels * size * size, hidden), nn.Linear(hidden, hidden)
        self.channels = hidden
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(R, C, size, size)` to `(R, hidden)`."""
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class ConvLayers(nn.Module):
    """Four 3x3 convolutions with their norm, then one fully connected layer (Wu & He 2018, arXiv:1803.08494)."""

    def __init__(self, in_channels: int, size: int, hidden: int = 1024, *, depth: int = 4, norm: Norm) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, in_channels, 3, 1, 1, bias=False), norm(in_channels), nn.ReLU(inplace=True)
            )
            for _ in range(depth)
        )
        self.fc = nn.Linear(in_channels * size * size, hidden)
        self.channels = hidden
        for part in self.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(R, C, size, size)` to `(R, hidden)`."""
        for conv in self.convs:
            x = conv(x)
        return F.relu(self.fc(x.flatten(1)))


class BoxBranch(nn.Module):
    """Pools every proposal, says what it is and where its box should be.

    background: where the column of background stands among the K + 1, `first` (torchvision; it then has deltas too) or
    `last` (detectron2, mmdet). weights: of the box coder. high: IoU from which a proposal stands for an object.
    count, fraction: how many proposals of a picture it learns from, and the share of objects in them. beta: as in the
    RPN. score: the least probability of an answer; overlap: IoU at which answers of a class suppress each other;
    most: answers a picture; smallest: side of the smallest one.
    """

    def __init__(
        self,
        pooler: Pooler,
        head: nn.Module,
        num_classes: int,
        *,
        channels: int,
        background: Background = "last",
        weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        high: float = 0.5,
        low: float = 0.5,
        count: int = 512,
        fraction: float = 0.25,
        beta: float = 1 / 9,
        score: float = 0.05,
        overlap: float = 0.5,
        most: int = 100,
        smallest: float = 1e-2,
    ) -> None:
        super().__init__()
        if background not in ("first", "last"):
            raise UsageError(f"background '{background}' is unknown; choose first (torchvision) or last (detectron2)")
        self.pooler, self.head = pooler, head
        self.num_classes, self.background = num_classes, background
        self.label = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * (num_classes + (background == "first")))
        nn.init.normal_(self.label.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.label, self.deltas):
            nn.init.zeros_(layer.bias)
        self.weights = tuple(weights)
        self.high, self.low, self.count, self.fraction, self.beta = high, low, count, fraction, beta
        self.score, self.overlap, self.most, self.smallest = score, overlap, most, smallest

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and boxes `(B, P, 4)` to logits `(B, P, K + 1)` and deltas `(B, P, K or K + 1, 4)`, source's order."""
        x = self.head(self.pooler(maps, boxes))
        batch, count = boxes.shape[:2]
        return self.label(x).reshape(batch, count, -1), self.deltas(x).reshape(batch, count, -1, 4)

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Target) -> Sample:
        """Proposals and the true boxes themselves, matched, and at most `count` of them drawn."""
        objects = real(targets)
        boxes = torch.cat([proposals.boxes, targets.boxes.to(proposals.boxes.dtype)], dim=1)
        valid = torch.cat([proposals.valid, objects], dim=1)
        found, _ = match(targets.boxes, boxes, valid=objects, high=self.high, low=self.low)
        keys = torch.rand(found.shape, device=found.device) if self.training else fixed_keys(found)
        positive, negative = balanced_sample(
            valid & (found >= 0), valid & (found == BACKGROUND), self.count, self.fraction, keys
        )
        some = first_true(positive | negative, self.count)
        index, boxes = found.gather(1, some), rows(boxes, some)
        if targets.boxes.shape[1] == 0:
            return Sample(boxes, negative.gather(1, some), torch.full_like(index, self.num_classes), boxes, index)
        labels = targets.labels.gather(1, index.clamp(min=0)).masked_fill(index < 0, self.num_classes)
        truth = rows(targets.boxes, index.clamp(min=0))
        return Sample(boxes, (positive | negative).gather(1, some), labels, truth, index)

    def columns(self, labels: Tensor) -> Tensor:
        """The logit's column of each label; K, background, stands where the source has it."""
        if self.background == "last":
            return labels
        return torch.where(labels == self.num_classes, 0, labels + 1)

    def losses(self, stage: SecondStage) -> dict[str, Tensor]:
        """`classes`: cross-entropy, the mean over the sample; `boxes`: smooth L1 of its objects by the same number."""
        sample = stage.sample
        total = sample.valid.sum().clamp(min=1)
        cross = F.cross_entropy(
            stage.logits.float().flatten(0, 1), self.columns(sample.labels).flatten(), reduction="none"
        )
        column = self.columns(sample.labels).clamp(max=stage.deltas.shape[2] - 1)
        deltas = stage.deltas.gather(2, column[..., None, None].expand(*column.shape, 1, 4))[:, :, 0]
        wanted = encode(sample.truth, sample.boxes, self.weights)
        return {
            "classes": (cross * sample.valid.flatten()).sum() / total,
            "boxes": delta_loss(deltas, wanted, sample.positive, self.beta) / total,
        }

    @torch.no_grad()
    def find(self, logits: Tensor, deltas: Tensor, proposals: Proposals, sizes: Tensor) -> Found:
        """The answers: every class of every proposal is a candidate, those of one class suppress each other."""
        classes = slice(1, None) if self.background == "first" else slice(None, -1)
        scores = logits.float().softmax(-1)[..., classes]  # (B, P, K)
        scores = scores.masked_fill(~proposals.valid[..., None] | (scores <= self.score), 0.0).flatten(1)
        order = ranking(scores)[:, : candidates(scores)]
        score = scores.gather(1, order)
        proposal, label = order // self.num_classes, order % self.num_classes
        column = proposal * deltas.shape[2] + label + (self.background == "first")
        boxes = decode(rows(deltas.flatten(1, 2), column), rows(proposals.boxes, proposal), self.weights)
        boxes = clip_boxes(boxes, sizes)
        valid = (score > 0) & sized(boxes, self.smallest)
        return suppressed(boxes, score, label, valid, self.overlap, self.most)


def candidates(scores: Tensor) -> int:
    """How many of scores `(B, N)`, zero where there is none, take part: all there are, or a fixed number."""
    if torch.compiler.is_compiling() or scores.is_cuda:
        return CANDIDATES
    return max(1, int((scores > 0).sum(1).max())) if scores.numel() else 0


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor, overlap: float, most: int) -> Found:
    """Candidates, `(B, C, 4)` and `(B, C)`, of which those of one class suppress each other, as the `most` best."""
    index, count = nms_padded(boxes, scores, overlap, valid=valid, labels=labels, most=most)
    return filled(rows(boxes, index), scores.gather(1, index), labels.gather(1, index), count, most)


def filled(boxes: Tensor, scores: Tensor, labels: Tensor, count: Tensor, most: int) -> Found:
    """Answers `(B, D, ...)` at the fixed length `most`, zeros beyond `count` `(B,)`."""
    real = torch.arange(boxes.shape[1], device=boxes.device) < count[:, None]
    more = max(most - boxes.shape[1], 0)
    return Found(
        F.pad(boxes.masked_fill(~real[..., None], 0.0), (0, 0, 0, more)),
        F.pad(scores.masked_fill(~real, 0.0), (0, more)),
        F.pad(labels.masked_fill(~real, 0), (0, more)),
        count,
    )
