"""R-CNN.

Paper: Rich feature hierarchies for accurate object detection and semantic segmentation (Girshick, Donahue, Darrell &
Malik 2014, arXiv:1311.2524).

The idea: Selective Search proposes some two thousand boxes a picture; each is cut out with 16 pixels of context,
stretched to the one size a classifier takes, and described by that classifier's last hidden layer. A linear machine a
class says what it is, a ridge regression on the last pooled map says where its border should be, and of boxes that
overlap the best stays. The classifier is tuned on warped regions before (section 2.3).

It learns in stages (`detection/models/rcnn_stages.py`): `proposals`, `tuning`, `features`, `machines`, `boxes`, and,
when asked, `rescoring`.

- `rcnn`, the one to start with: any backbone on regions of any size, `cells` x `cells` pooled cells, two hidden layers.
- `rcnn_caffenet`: the paper's, on CaffeNet and regions of 227 x 227: 56,954,261 parameters for 20 classes (machines,
  regressions and rescoring are tensors that no gradient reaches, so they are not counted).

Rescoring (`train.rescore=true`) is deformable parts' (Felzenszwalb et al. 2010, section 7): a second machine, on all
products of two of: the score, the box's corners as shares of the picture, the best score of each class in the picture.

Departures: one mean colour is subtracted, not the mean picture; hinge losses are squared; scores are margins m as
1 / (1 + exp(-m)); the best `most` answers of a picture are kept, without a running threshold.

Trait `outside_graph`: regions are looked at in pieces, as many as there are, so it neither compiles nor exports (its
classifier does). Loads: Caffe's layers as an `.npz` (`caffe`, unverified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.build import backbone as build_backbone
from sightline.backbones.contract import Backbone, deepest_at_each_stride
from sightline.classification.models.alexnet import CAFFE_MEAN, CAFFE_STD, CaffeNet
from sightline.detection.answer import Detections
from sightline.detection.contract import Found, Target, decode, whole
from sightline.detection.plain import best_of, plain_objects, refuse_graphs
from sightline.detection.proposals import Propose, as_proposals, proposer
from sightline.detection.warp import warp_regions
from sightline.errors import UsageError
from sightline.nn.conv import NormName
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.ops.boxes import clip_boxes, iou, to_centres
from sightline.ops.matching import balanced_sample, fixed_keys
from sightline.ops.tree import register_dataclass
from sightline.weights.keymap import KeyMap

POSITIVE = 0.5
"""IoU from which a region is tuned on as an object."""

# Parts -----------------------------------------------------------------------------------------------------------


@register_dataclass
@dataclass(frozen=True)
class Regions:
    """What R-CNN sees. found: the objects.

    logits: `(R, 1 + K)` of the regions that are tuned on, with targets; labels: `(R,)` theirs, 0 for background.
    """

    found: Found | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None


class Described(nn.Module):
    """A region's pooled map, its description and its logits, by any backbone and two hidden layers."""

    HEAD = "fc8."

    def __init__(self, backbone: Backbone, num_classes: int, *, cells: int, hidden: int, dropout: float) -> None:
        super().__init__()
        last = deepest_at_each_stride(backbone.stages)[-1]
        self.backbone, self.stage, self.cells, self.dropout = backbone, last.name, cells, dropout
        self.pooled = last.channels * cells * cells
        self.fc6, self.fc7 = nn.Linear(self.pooled, hidden), nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, 1 + num_classes)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised regions `(R, C, S, S)` to `(R, pooled)`, `(R, hidden)`, `(R, 1 + K)`."""
        pooled = F.adaptive_avg_pool2d(self.backbone(regions)[self.stage], self.cells).flatten(1)
        x = F.relu(self.fc6(F.dropout(pooled, self.dropout, self.training)))
        x = F.relu(self.fc7(F.dropout(x, self.dropout, self.training)))
        return pooled, x, self.fc8(F.dropout(x, self.dropout, self.training))


class DescribedByCaffeNet(nn.Module):
    """The same by CaffeNet: its fifth pool, its seventh layer, its eighth."""

    HEAD = "net.fc8."

    def __init__(self, net: CaffeNet) -> None:
        super().__init__()
        self.net = net
        self.pooled = net.fc6.in_features

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised regions `(R, C, S, S)` to `(R, pooled)`, `(R, hidden)`, `(R, 1 + K)`."""
        pooled, x = self.net.described(regions)
        return pooled, x, self.net.fc8(self.net.dropout(x))


class Solved(nn.Module):
    """A linear layer that is solved for, not descended to: its tensors are saved, and no gradient reaches them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs)` to `(N, outputs)`."""
        return F.linear(x, self.weight, self.bias)


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes `(N, 4)` by the regression's answer `(N, K, 4)`: centres by shares of the sides, sides by logarithms."""
    centres = to_centres(boxes)[:, None]
    middle = centres[..., :2] + deltas[..., :2] * centres[..., 2:]
    half = centres[..., 2:] * deltas[..., 2:].clamp(max=4.0).exp() / 2
    return torch.cat([middle - half, middle + half], -1)


def surroundings(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
    """What rescoring looks at, of one picture's answers: all products of two of its numbers and 1, `(N, F)`."""
    height, width = size
    places = boxes / boxes.new_tensor([width, height, width, height])
    best = torch.stack(
        [scores[labels == k].amax() if bool((labels == k).any()) else scores.new_zeros(()) for k in range(classes)]
    )
    numbers = torch.cat([scores[:, None], places, best.expand(len(boxes), -1), torch.ones_like(scores)[:, None]], 1)
    rows, columns = torch.triu_indices(numbers.shape[1], numbers.shape[1], device=boxes.device)
    return numbers[:, rows] * numbers[:, columns]


def looked_at(classes: int) -> int:
    """How many numbers `surroundings` has."""
    return (classes + 6) * (classes + 7) // 2


# Network ---------------------------------------------------------------------------------------------------------


class RCNN(nn.Module):
    """Proposals from elsewhere, a classifier of warped regions, a machine and a regression a class.

    size, context: of a warped region, in pixels. count, fraction: regions of a picture that `losses` looks at, and the
    share of objects among them. chunk: regions described at a time.
    """

    OPTIONAL = ()

    def __init__(
        self,
        describe: Described | DescribedByCaffeNet,
        propose: nn.Module,
        num_classes: int,
        *,
        hidden: int,
        size: int,
        context: int,
        normalize: Normalize,
        count: int,
        fraction: float,
        score: float,
        overlap: float,
        most: int,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        if not 0 <= 2 * context < size:
            raise UsageError(f"context {context} must leave something of a region of {size} pixels; take less")
        self.normalize, self.describe, self.propose = normalize, describe, propose
        self.machines, self.regression = Solved(hidden, num_classes), Solved(describe.pooled, 4 * num_classes)
        self.register_buffer(
            "rescore_weight", torch.zeros(num_classes * looked_at(num_classes))
        )  # of all classes, flat
        self.register_buffer("rescore_bias", torch.zeros(num_classes))
        self.register_buffer("scale", torch.ones(1))  # of descriptions, so that their mean norm is 20
        self.register_buffer("rescored", torch.zeros(num_classes))  # 1: this class has learned to
        self.num_classes, self.size, self.context, self.chunk = num_classes, size, context, chunk
        self.count, self.fraction = count, fraction
        self.score, self.overlap, self.most = score, overlap, most
        self.HEAD = (f"describe.{describe.HEAD}", "machines.", "regression.", "rescore")

    scale: Tensor
    rescore_weight: Tensor
    rescore_bias: Tensor
    rescored: Tensor

    def forward(
        self,
        images: Tensor,
        *,
        sizes: Tensor | None = None,
        targets: Target | None = None,
        proposals: Tensor | None = None,
    ) -> Regions:
        """See: `(B, C, H, W)` pictures in [0, 1]; `proposals` `(B, P, 4)`, without area where there is none."""
        refuse_graphs("rcnn")
        limits = whole(images, sizes)
        given = self.propose(images, limits) if proposals is None else as_proposals(proposals, limits)
        pictures = [image[:, :h, :w] for image, (h, w) in zip(images, limits.tolist())]
        boxes = [b[v] for b, v in zip(given.boxes, given.valid)]
        found = logits = labels = None
        if targets is not None:
            drawn = [self.drawn(b, targets, i) for i, b in enumerate(boxes)]
            regions = torch.cat([self.regions(image, some) for image, (some, _) in zip(pictures, drawn)])
            logits, labels = self.describe(regions)[2], torch.cat([label for _, label in drawn])
        if targets is None or not self.training:
            found = self.find(pictures, boxes)
        return Regions(found, logits, labels)

    def regions(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The boxes `(N, 4)` of a picture `(C, H, W)`, warped and normalised: `(N, C, size, size)`."""
        fill = self.normalize.mean
        warped = warp_regions(
            image, boxes, self.size, context=self.context, fill=None if fill is None else fill.flatten()
        )
        return self.normalize(warped)

    @torch.no_grad()
    def described(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled maps `(N, pooled)` and descriptions `(N, hidden)` of a picture's boxes."""
        found = [self.describe(self.regions(image, some))[:2] for some in boxes.split(self.chunk) if len(some)]
        if not found:
            return self.regression.weight[:0], self.machines.weight[:0]
        return torch.cat([p for p, _ in found]), torch.cat([x for _, x in found])

    @torch.no_grad()
    def find(self, pictures: Sequence[Tensor], boxes: Sequence[Tensor]) -> Found:
        """The objects of pictures `(C, H, W)` among their proposals `(N, 4)`."""
        places, scores = [], []
        for image, some in zip(pictures, boxes):
            pooled, x = self.described(image, some)
            deltas = self.regression(pooled).unflatten(1, (self.num_classes, 4))
            size = torch.tensor(image.shape[1:], device=some.device)
            places.append(clip_boxes(moved(some, deltas), size))
            scores.append(self.machines(x * self.scale).sigmoid())
        found = best_of(places, scores, least=self.score, overlap=self.overlap, most=self.most)
        return self._rescored(found, [(image.shape[1], image.shape[2]) for image in pictures])

    def _rescored(self, found: Found, sizes: Sequence[tuple[int, int]]) -> Found:
        """The same objects by what else is in their picture, best first again."""
        if not bool(self.rescored.any()):
            return found
        answers = [t.clone() for t in (found.boxes, found.scores, found.labels)]
        for i, (n, size) in enumerate(zip(found.count.tolist(), sizes)):
            boxes, scores, labels = (t[i, :n] for t in (found.boxes, found.scores, found.labels))
            if not n:
                continue
            seen = surroundings(boxes, scores, labels, self.num_classes, size)
            margins = seen @ self.rescore_weight.reshape(self.num_classes, -1).T + self.rescore_bias
            new = margins.gather(1, labels[:, None])[:, 0].sigmoid()
            new = torch.where(self.rescored[labels] > 0, new, scores)
            order = new.sort(descending=True, stable=True).indices
            for answer, value in zip(answers, (boxes, new, labels)):
                answer[i, :n] = value[order]
        return replace(found, boxes=answers[0], scores=answers[1], labels=answers[2])

    @torch.no_grad()
    def drawn(self, boxes: Tensor, targets: Target, i: int) -> tuple[Tensor, Tensor]:
        """Regions of picture `i` that are tuned on, and their labels, 0 for background: `count`, a share of objects."""
        objects, labels, ignored = plain_objects(targets, i)
        boxes = torch.cat([boxes, objects[~ignored].to(boxes.dtype)])
        label = labelled(boxes, objects, labels, ignored)
        keys = torch.rand(len(boxes), device=boxes.device) if self.training else fixed_keys(label)
        some, others = balanced_sample(label > 0, label == 0, self.count, self.fraction, keys)
        return boxes[some | others], label[some | others]

    def losses(self, out: Regions, targets: Target) -> dict[str, Tensor]:
        """Learn: `classes`, the cross-entropy of the regions that are tuned on."""
        if out.logits is None or out.labels is None:
            raise ValueError("losses need an output of forward(images, targets=...)")
        return {"classes": F.cross_entropy(out.logits, out.labels, reduction="sum") / max(1, len(out.labels))}

    def decode(self, out: Regions, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


def labelled(boxes: Tensor, objects: Tensor, labels: Tensor, ignored: Tensor) -> Tensor:
    """What each box `(N, 4)` is tuned on as: 1 + class, 0 for background, -1 near an object to ignore."""
    if not len(objects):
        return torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    shared, which = (iou(boxes, objects) * ~ignored).max(1)
    doubtful = (iou(boxes, objects) * ignored).amax(1) >= POSITIVE
    found = torch.where(shared >= POSITIVE, labels[which] + 1, 0)
    return torch.where((found == 0) & doubtful, -1, found)


# Builders --------------------------------------------------------------------------------------------------------


def rcnn(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    norm: NormName | None = None,
    size: int = 224,
    context: int = 16,
    cells: int = 3,
    hidden: int = 1024,
    dropout: float = 0.5,
    propose: Propose = "selective_search",
    mode: Literal["fast", "quality"] = "fast",
    proposals: int = 2000,
    windows: Sequence[float] = (32, 64, 128, 256),
    count: int = 128,
    fraction: float = 0.25,
    score: float = 0.1,
    overlap: float = 0.3,
    most: int = 100,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> RCNN:
    """R-CNN on any backbone, pictures of any size.

    size, context: of a warped region and of what is around the box in it, in pixels. cells: of the pooled map, a side.
    hidden, dropout: of the two layers above. propose: `selective_search` (in `mode` fast or quality, at most
    `proposals` a picture) or `dense` windows whose areas are squares of `windows` pixels. count, fraction: regions of a
    held-out picture whose loss is told, the share of objects. score, overlap, most: the least score of an answer, the
    IoU at which answers of a class suppress each other, answers a picture.
    """
    body = build_backbone(backbone, in_channels=in_channels, norm=norm, weights=backbone_weights)
    return RCNN(
        Described(body, num_classes, cells=cells, hidden=hidden, dropout=dropout),
        proposer(propose, mode=mode, most=proposals, windows=windows),
        num_classes, hidden=hidden, size=size, context=context,
        normalize=Normalize(*for_channels(mean, std, in_channels)), count=count, fraction=fraction, score=score,
        overlap=overlap, most=most,
    )  # fmt: skip


def rcnn_caffenet(
    num_classes: int = 20,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    size: int = 227,
    context: int = 16,
    hidden: int = 4096,
    dropout: float = 0.5,
    propose: Propose = "selective_search",
    mode: Literal["fast", "quality"] = "fast",
    proposals: int = 2000,
    windows: Sequence[float] = (32, 64, 128, 256),
    count: int = 128,
    fraction: float = 0.25,
    score: float = 0.1,
    overlap: float = 0.3,
    most: int = 100,
    mean: Sequence[float] | None = CAFFE_MEAN,
    std: Sequence[float] | None = CAFFE_STD,
) -> RCNN:
    """The paper's, on CaffeNet; values as in `rcnn`. widths: of its five convolutions."""
    net = CaffeNet(
        1 + num_classes, in_channels=in_channels, widths=widths, hidden=hidden, size=(size, size), dropout=dropout,
        normalize=Normalize(None),
    )  # fmt: skip
    return RCNN(
        DescribedByCaffeNet(net), proposer(propose, mode=mode, most=proposals, windows=windows), num_classes,
        hidden=hidden, size=size, context=context,
        normalize=Normalize(*for_channels(mean, std, in_channels), bgr=mean is not None and in_channels == 3),
        count=count, fraction=fraction, score=score, overlap=overlap, most=most,
    )  # fmt: skip


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "caffe",
        (("fc8_pascal.{leaf}", "describe.net.fc8.{leaf}"), ("{layer}.{leaf}", "describe.net.{layer}.{leaf}")),
        words="rbgirshick/rcnn: the tuned CaffeNet as an .npz with LAYER.weight and LAYER.bias",
        verified=False,
    ),
)
