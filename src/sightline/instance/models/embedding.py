"""Bottom-up instances: pixels of one thing are close together in a space that the network makes up.

Paper: Semantic Instance Segmentation with a Discriminative Loss Function (De Brabandere, Neven & Van Gool 2017,
arXiv:1708.02551).

The idea: every pixel gets a few numbers. Pixels of one object are pulled towards their mean until they are closer than
`pull`; means of different objects push each other away until they are further apart than twice `push`; so afterwards a
ball around any pixel of an object holds that object and nothing else. Objects are found by mean shift: take a pixel,
the mean of what is in its ball, again, and take the ball out. Which pixels belong to objects at all another map says.

- `embedding`: a pyramid on any backbone, a map of embeddings and one of classes at a quarter of the picture's size.

Departures: the paper takes its semantic mask from another network; here both maps come from one. Mean shift starts at
the surest pixel that is left, and makes `rounds` steps.

Traits: `no_boxes`: boxes of targets are not looked at.

Loads: nothing public (the paper's authors published no weights in a form of their own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, real, whole
from sightline.detection.trunk import Trunk
from sightline.errors import UsageError
from sightline.instance.contract import boxes_around, decode
from sightline.instance.masks import MapMasks
from sightline.instance.models.solo import any_trunk, canvas_of
from sightline.nn.conv import NormName, conv_norm_act, he_init
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD
from sightline.ops.boxes import clip_boxes
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

# What it learns from ----------------------------------------------------------------------------------------------


def cluster_means(embedding: Tensor, masks: Tensor) -> Tensor:
    """Means `(G, E)` of an embedding `(E, H, W)` over masks `(G, H, W)`; zeros for empty ones."""
    flat = masks.flatten(1).to(embedding.dtype)
    return flat @ embedding.flatten(1).T / flat.sum(1, keepdim=True).clamp(min=1)


def discriminative_loss(
    embedding: Tensor, masks: Tensor, *, pull: float = 0.5, push: float = 1.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Variance, distance and regularisation of one picture (equations 1 to 3), scalars.

    embedding: `(E, H, W)`. masks: `(G, H, W)` bool, one an object; empty ones do not count. Each object counts the
    same, whatever its size; a single object has nothing to keep its distance from.
    """
    masks = masks[masks.flatten(1).any(1)]
    count = len(masks)
    zero = embedding.sum() * 0
    if count == 0:
        return zero, zero, zero
    means = cluster_means(embedding, masks)  # (C, E)
    flat = masks.flatten(1)
    pixel = embedding.flatten(1).T  # (H W, E)
    variance = []
    for mean, inside in zip(means, flat):  # the pixels of one object after the other: no (C, H W, E) in memory
        away = length(pixel[inside] - mean)
        variance.append(((away - pull).clamp(min=0) ** 2).mean())
    regular = length(means).mean()
    if count == 1:
        return torch.stack(variance).mean(), zero, regular
    apart = length(means[:, None] - means[None, :])  # (C, C)
    other = ~torch.eye(count, dtype=torch.bool, device=means.device)
    distance = ((2 * push - apart).clamp(min=0) ** 2)[other].mean()
    return torch.stack(variance).mean(), distance, regular


def length(x: Tensor) -> Tensor:
    """Euclidean length over the last axis, with a gradient of 0 at 0."""
    square = (x * x).sum(-1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


# How it answers ---------------------------------------------------------------------------------------------------


def mean_shift(embedding: Tensor, chance: Tensor, *, radius: float, most: int, rounds: int) -> Tensor:
    """Objects of one picture: masks `(most, H, W)` bool, empty where there are fewer.

    embedding: `(E, H, W)`. chance: `(H, W)`, how sure it is that a pixel belongs to an object; 0: it does not.
    radius: of the ball that holds an object.
    """
    pixel = embedding.flatten(1).T  # (H W, E)
    left = chance.flatten()
    found = []
    for _ in range(most):
        mean = pixel[left.argmax()]
        inside = left > 0
        for _ in range(rounds):
            inside = (length(pixel - mean) < radius) & (left > 0)
            mean = (pixel * inside[:, None]).sum(0) / inside.sum().clamp(min=1)
        inside = (length(pixel - mean) < radius) & (left > 0)
        # a mean that drifted away from its first pixel still takes it, or the search would begin there again
        inside = inside | (torch.arange(len(left), device=left.device) == left.argmax()) & (left > 0)
        found.append(inside)
        left = left.masked_fill(inside, 0.0)
    return torch.stack(found).unflatten(1, chance.shape)


# Network ---------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Embedded:
    """What it sees.

    found: the objects, with `(B, D, h, w)` masks over the input. sizes, canvas: `(B, 2)`. With targets: embedding
    `(B, E, h, w)`, semantic logits `(B, K + 1, h, w)`, background first.
    """

    found: Found | None
    sizes: Tensor
    canvas: Tensor
    embedding: Tensor | None = None
    semantic: Tensor | None = None


class Embedding(nn.Module):
    """A pyramid whose levels are added at the finest one's size, a map of embeddings, a map of classes.

    pull, push: see the preface; weights: of variance, distance, regularisation. rounds: steps of mean shift.
    smallest: pixels (of the map) of an answer. most: answers a picture.
    """

    HEAD = ("semantic.",)
    OPTIONAL = ()

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        channels: int,
        dimensions: int = 8,
        pull: float = 0.5,
        push: float = 1.5,
        weights: Sequence[float] = (1.0, 1.0, 0.001),
        rounds: int = 5,
        smallest: int = 4,
        most: int = 100,
    ) -> None:
        super().__init__()
        if push <= pull:
            raise UsageError(f"push {push} must be above pull {pull}, or objects cannot be told apart")
        self.trunk, self.num_classes = trunk, num_classes
        self.join = nn.Sequential(conv_norm_act(channels, channels), conv_norm_act(channels, channels))
        self.embed = nn.Conv2d(channels, dimensions, 1)
        self.semantic = nn.Conv2d(channels, num_classes + 1, 1)
        for part in (self.join, self.embed, self.semantic):
            he_init(part)
        self.pull, self.push, self.weights = pull, push, tuple(weights)
        self.rounds, self.smallest, self.most = rounds, smallest, most

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Embedded:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        maps, x = self.trunk(images, sizes)
        total = maps[0]
        for level in maps[1:]:
            total = total + F.interpolate(level, size=total.shape[-2:], mode="bilinear", align_corners=False)
        total = self.join(total)
        embedding, semantic = self.embed(total), self.semantic(total)
        out = Embedded(None, whole(images, sizes), whole(x, None))
        if targets is None or not self.training:
            out = replace(out, found=self.find(embedding.float(), semantic.float(), out.canvas, out.sizes))
        return out if targets is None else replace(out, embedding=embedding, semantic=semantic)

    @torch.no_grad()
    def find(self, embedding: Tensor, semantic: Tensor, canvas: Tensor, sizes: Tensor) -> Found:
        """Balls of the embedding among the pixels that belong to something."""
        chance = semantic.softmax(1)
        scale = (canvas[:, :1] / embedding.shape[-2], canvas[:, 1:] / embedding.shape[-1])
        valid = [torch.arange(n, device=canvas.device) for n in embedding.shape[-2:]]
        inside = (valid[0] * scale[0] < sizes[:, :1])[:, :, None] & (valid[1] * scale[1] < sizes[:, 1:])[:, None, :]
        thing = torch.where((semantic.argmax(1) > 0) & inside, 1 - chance[:, 0], 0.0)
        masks = torch.stack(
            [mean_shift(e, t, radius=self.push, most=self.most, rounds=self.rounds) for e, t in zip(embedding, thing)]
        )  # (B, D, h, w)
        area = masks.sum((-2, -1))
        weight = torch.einsum("bdhw,bkhw->bdk", masks.float(), chance[:, 1:])
        score = (weight.amax(-1) / area.clamp(min=1)) * (area >= self.smallest)
        score, order = score.sort(dim=1, descending=True, stable=True)
        masks = masks.gather(1, order[..., None, None].expand_as(masks))
        label = weight.argmax(-1).gather(1, order)
        boxes = boxes_around(masks)
        factor = torch.stack([scale[1], scale[0], scale[1], scale[0]], -1)  # (B, 1, 4)
        return Found(clip_boxes(boxes * factor, sizes), score, label, (score > 0).sum(1), masks=masks.float())

    def losses(self, out: Embedded, targets: Target) -> dict[str, Tensor]:
        """Learn: `variance`, `distance`, `regular` (times their weights), and `semantic` (cross-entropy)."""
        embedding, semantic = out.embedding, out.semantic
        if embedding is None or semantic is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        if targets.masks is None:
            raise UsageError("embeddings are learned from masks, and the targets have none; take data with masks")
        small = self.small(targets, canvas_of(out), embedding.shape[-2:])
        terms = [discriminative_loss(e, m, pull=self.pull, push=self.push) for e, m in zip(embedding.float(), small)]
        label = semantic.new_zeros(semantic.shape[0], *semantic.shape[-2:], dtype=torch.long)
        for g in range(small.shape[1]):
            label = torch.where(small[:, g], targets.labels[:, g, None, None] + 1, label)
        sums = [torch.stack(term).mean() * weight for term, weight in zip(zip(*terms), self.weights)]
        return {
            "variance": sums[0],
            "distance": sums[1],
            "regular": sums[2],
            "semantic": F.cross_entropy(semantic.float(), label),
        }

    @torch.no_grad()
    def small(self, targets: Target, canvas: tuple[int, int], size: Sequence[int]) -> Tensor:
        """True masks at the map's size, `(B, G, h, w)` bool; of objects that share a pixel the last has it."""
        assert targets.masks is not None
        masks = targets.masks.bool() & real(targets)[..., None, None]
        masks = F.pad(masks, (0, canvas[1] - masks.shape[-1], 0, canvas[0] - masks.shape[-2]))
        if masks.shape[1] == 0:
            return masks.new_zeros(masks.shape[0], 0, *size)
        masks = F.interpolate(masks.float(), size=tuple(size), mode="nearest-exact") > 0.5
        later = masks.flip(1).cumsum(1).flip(1)
        return masks & (later == 1)

    def decode(self, out: Embedded, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture, with their masks."""
        canvas = canvas_of(out)
        return decode(out, lambda said, boxes, size: MapMasks(said, canvas, size, size), score=score, classes=classes)


# Builders --------------------------------------------------------------------------------------------------------


def embedding(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    channels: int = 128,
    dimensions: int = 8,
    pull: float = 0.5,
    push: float = 1.5,
    rounds: int = 5,
    smallest: int = 4,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> Embedding:
    """Bottom-up instances on any backbone; pictures of any size.

    backbone: a name that `sightline.backbones.build.backbone` knows, with its `backbone_weights` (a published name or a
    file). norm: of the backbone; None for its own. channels: of the pyramid. dimensions: numbers a pixel. The other
    values: see `Embedding`.
    """
    trunk = any_trunk(in_channels, backbone, backbone_weights, norm, channels, mean, std)
    return Embedding(
        trunk,
        num_classes,
        channels=channels,
        dimensions=dimensions,
        pull=pull,
        push=push,
        rounds=rounds,
        smallest=smallest,
        most=most,
    )


KEY_MAPS: tuple[KeyMap, ...] = ()
