"""How R-CNN learns: proposals, tuning, features, machines with hard negatives, regression, rescoring.

See `detection/models/rcnn.py` for the paper. Proposals and features stand in the run's folder `stages`; the features,
the larger part, are removed when the last stage is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.contracts import Batch, Preprocess, Stage, Tools
from sightline.datasets.records import DataSet
from sightline.detection.models.rcnn import RCNN, labelled, surroundings
from sightline.detection.objects import Objects
from sightline.detection.proposals import read_proposals, write_proposals
from sightline.detection.targets import Samples
from sightline.detection.warp import warp_regions
from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.media.prepare import as_float
from sightline.ops.boxes import iou, to_centres
from sightline.ops.linear_svm import machine
from sightline.ops.nms import nms

NEGATIVE = 0.3
"""IoU below which a region is a negative of a machine; above it only true boxes are positives."""
NEAR = 0.6
"""IoU from which a region is one that the regression learns from."""


def stages(
    data: DataSet,
    *,
    preprocess: Preprocess,
    seed: int,
    steps: int = 600,
    lr: float = 1e-3,
    batch: int = 128,
    optimizer: str = "adamw",
    c: float = 1e-3,
    positive_weight: float = 2.0,
    hard: int = 2000,
    ridge: float = 1000.0,
    rescore: bool = False,
    keep: bool = True,
) -> tuple[Stage, ...]:
    """The stages of any R-CNN.

    steps, lr, batch, optimizer: of the tuning; a quarter of a batch are objects. c: what an error of a machine costs,
    times `positive_weight` for objects. hard: new negatives after which a machine learns anew. ridge: weight of the
    regression's penalty. rescore: whether to learn that too. keep: whether the decoded pictures stay in memory.
    """
    if min(steps, hard) < 1 or batch < 4 or batch % 4 or min(lr, c, positive_weight, ridge) <= 0:
        raise UsageError(
            f"steps={steps}, hard={hard}, batch={batch}, lr={lr}, c={c}, positive_weight={positive_weight}, "
            f"ridge={ridge}: expected a batch of a multiple of 4, and all above 0"
        )
    how = How(steps, lr, batch, optimizer, c, positive_weight, hard, ridge, rescore)
    learned = Learned(Samples(data, preprocess=preprocess, seed=seed, keep=keep), seed, how)
    found = [
        Stage("proposals", learned.search),
        Stage("tuning", learned.tune),
        Stage("features", learned.measure),
        Stage("machines", learned.separate),
        Stage("boxes", learned.regress),
    ]
    return (*found, Stage("rescoring", learned.rescore)) if rescore else tuple(found)


@dataclass(frozen=True)
class How:
    """The options of `stages`."""

    steps: int
    lr: float
    batch: int
    optimizer: str
    c: float
    positive_weight: float
    hard: int
    ridge: float
    rescore: bool


@dataclass(frozen=True)
class Measured:
    """A picture's regions, described. boxes: `(N, 4)`, the last of them the true ones that count.

    features: `(N, D)`. own: `(N, K)`, the largest IoU with any object of each class. near: `(M,)`, which regions the
    regression learns from; pooled: their pooled maps. truth: labels of the true boxes at the end.
    objects, labels, ignored: of all objects `(G, ...)`. size: of the picture.
    """

    boxes: NDArray
    features: NDArray
    own: NDArray
    near: NDArray
    pooled: NDArray
    truth: NDArray
    objects: NDArray
    labels: NDArray
    ignored: NDArray
    size: NDArray


class Learned:
    """The stages, on samples without augmentation; the same at each call."""

    def __init__(self, samples: Samples, seed: int, how: How) -> None:
        self.samples, self.seed, self.how = samples, seed, how

    def search(self, net: RCNN, tools: Tools) -> None:
        """`proposals.npz`: every picture's proposals."""
        found: dict[str, NDArray] = {}
        for i, record in enumerate(self.samples.records):
            image = picture(self.samples, i)
            device = net.scale.device
            given = net.propose(image[None].to(device), torch.tensor([image.shape[1:]], device=device))
            found[record.key] = given.boxes[0][given.valid[0]].cpu().numpy()
            tools.progress(i + 1, len(self.samples), {"boxes": sum(map(len, found.values())) / (i + 1)})
        write_proposals(tools.folder / "proposals.npz", found)

    def tune(self, net: RCNN, tools: Tools) -> None:
        """The classifier learns from warped regions by the loop, 3 of background for each object."""
        regions = WarpedRegions(self.samples, self.given(tools), net, self.seed)
        how = self.how
        tools.learn(
            Tuned(net), regions, stack, steps=how.steps, lr=how.lr, batch=how.batch // 4, optimizer=how.optimizer
        )

    def given(self, tools: Tools) -> list[Tensor]:
        """Every picture's proposals, in the order of the samples."""
        found = read_proposals(tools.folder / "proposals.npz")
        missing = [r.key for r in self.samples.records if r.key not in found]
        if missing:
            raise SightlineError(f"{tools.folder / 'proposals.npz'} lacks {missing[0]}; the data changed: train anew")
        return [torch.from_numpy(found[record.key]) for record in self.samples.records]

    def measure(self, net: RCNN, tools: Tools) -> None:
        """Every picture's regions, described, as files; the scale at which descriptions have a mean norm of 20."""
        norms, count = 0.0, 0
        for i in range(len(self.samples)):
            self.file(tools, i).unlink(missing_ok=True)
            found = self.measured(net, tools, i)
            norms, count = norms + float(np.linalg.norm(found.features, axis=1).sum()), count + len(found.features)
            tools.progress(i + 1, len(self.samples), {"regions": count})
        if not norms > 0:
            raise SightlineError("no region has a description; look at the tuning: more steps or another lr")
        net.scale.fill_(20.0 * count / norms)

    def file(self, tools: Tools, i: int) -> Path:
        """Where the features of picture `i` stand."""
        return tools.folder / "features" / f"{i}.npz"

    def measured(self, net: RCNN, tools: Tools, i: int) -> Measured:
        """Picture `i`'s regions: from their file, or described now, which comes to the same."""
        path = self.file(tools, i)
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as content:
                    return Measured(**{f.name: content[f.name] for f in fields(Measured)})
            except Exception as error:  # a damaged archive fails in many ways
                raise SightlineError(f"{path}: these features cannot be read ({error}); remove the file") from error
        found = described(net, picture(self.samples, i), self.given(tools)[i], self.samples[0, i].objects)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **vars(found))  # pyright: ignore[reportArgumentType]
        return found

    def features(self, net: RCNN, tools: Tools, some: Sequence[int]) -> Iterator[Measured]:
        """The regions of some pictures, their descriptions scaled."""
        for i in some:
            found = self.measured(net, tools, i)
            yield replace(found, features=found.features * np.float32(net.scale.item()))

    def separate(self, net: RCNN, tools: Tools) -> None:
        """A machine for each class."""
        weights, bias = self.machines(net, tools, range(len(self.samples)))
        net.machines.weight.copy_(torch.from_numpy(weights))
        net.machines.bias.copy_(torch.from_numpy(bias))

    def machines(self, net: RCNN, tools: Tools, some: Sequence[int]) -> tuple[NDArray, NDArray]:
        """Weights `(K, D)` and biases of machines that learn from some pictures: one pass of hard negatives."""
        classes = range(net.num_classes)
        right = [[] for _ in classes]
        for found in self.features(net, tools, some):
            for k, row in zip(found.truth, found.features[len(found.features) - len(found.truth) :]):
                right[k].append(row)
        size = net.machines.weight.shape[1]
        caches = [Negatives(np.array(rows).reshape(-1, size), self.how) for rows in right]
        for done, found in enumerate(self.features(net, tools, some), 1):
            for k, cache in enumerate(caches):
                cache.add(found.features[found.own[:, k] < NEGATIVE])
            tools.progress(done, len(some), {"negatives": sum(len(cache.rows) for cache in caches)})
        for cache in caches:
            cache.learn()
        return np.stack([cache.weights for cache in caches]), np.array([cache.bias for cache in caches])

    def regress(self, net: RCNN, tools: Tools) -> None:
        """A ridge regression for each class, to whitened differences between regions and the nearest true box."""
        x: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        y: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        for done, found in enumerate(self.features(net, tools, range(len(self.samples))), 1):
            for k in range(net.num_classes):
                these = (found.labels == k) & ~found.ignored
                if not these.any() or not len(found.near):
                    continue
                boxes, objects = torch.from_numpy(found.boxes[found.near]), torch.from_numpy(found.objects[these])
                shared, which = iou(boxes, objects).max(1)
                close = (shared > NEAR).numpy()
                x[k].append(found.pooled[close])
                y[k].append(differences(boxes, objects[which]).numpy()[close])
            tools.progress(done, len(self.samples), {"regions": sum(len(a) for rows in x for a in rows)})
        for k in range(net.num_classes):
            rows = np.concatenate(x[k]) if x[k] else np.zeros((0, 1))
            if len(rows) < 5:
                continue  # the boxes of this class stay where they are
            weights, bias = regression(rows, np.concatenate(y[k]), self.how.ridge)
            net.regression.weight[4 * k : 4 * k + 4] = torch.from_numpy(weights.T)
            net.regression.bias[4 * k : 4 * k + 4] = torch.from_numpy(bias)
        if not self.how.rescore:
            shutil.rmtree(tools.folder / "features", ignore_errors=True)

    def rescore(self, net: RCNN, tools: Tools) -> None:
        """Machines that score an answer by its surroundings, from answers of machines that never saw their picture."""
        everything = range(len(self.samples))
        halves = everything[::2], everything[1::2]
        x: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        y: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        for own, other in (halves, halves[::-1]):
            if not len(own) or not len(other):
                continue
            weights, bias = self.machines(net, tools, other)
            for found in self.features(net, tools, own):
                boxes, scores, labels, good = answers(net, found, found.features @ weights.T + bias)
                size = (int(found.size[0]), int(found.size[1]))
                seen = surroundings(boxes, scores, labels, net.num_classes, size).numpy()
                for k in range(net.num_classes):
                    these = ((labels == k) & (good >= 0)).numpy()
                    x[k].append(seen[these])
                    y[k].append(good.numpy()[these])
        for k in range(net.num_classes):
            rows = np.concatenate(x[k]) if x[k] else np.zeros((0, 1))
            signs = np.concatenate(y[k]) * 2.0 - 1 if y[k] else np.zeros(0)
            net.rescored[k] = float((signs > 0).any() and (signs < 0).any())
            if net.rescored[k]:
                weights, bias = machine(rows, signs, c=1.0)
                net.rescore_weight.reshape(net.num_classes, -1)[k] = torch.from_numpy(weights)
                net.rescore_bias[k] = bias
        shutil.rmtree(tools.folder / "features", ignore_errors=True)


class Negatives:
    """A class's machine and the negatives it learns from: hard ones come, easy ones go."""

    def __init__(self, right: NDArray, how: How) -> None:
        self.right, self.how, self.new = right, how, 0
        self.rows = right[:0]
        self.weights, self.bias = np.zeros(right.shape[1]), 0.0

    def add(self, rows: NDArray) -> None:
        """Keep those near or on the wrong side; learn anew after `hard` of them, and forget the easy ones."""
        rows = rows[rows @ self.weights + self.bias > -1.0001]
        self.rows, self.new = np.concatenate([self.rows, rows]), self.new + len(rows)
        if self.new >= self.how.hard:
            self.learn()
            self.rows = self.rows[self.rows @ self.weights + self.bias >= -1.2]

    def learn(self) -> None:
        """The machine of what there is; a class without an object or without anything else is never seen."""
        self.new = 0
        if not len(self.right) or not len(self.rows):
            self.weights, self.bias = np.zeros(self.right.shape[1]), -10.0
            return
        signs = np.repeat([1.0, -1.0], [len(self.right), len(self.rows)])
        weight = np.where(signs > 0, self.how.positive_weight, 1.0) * self.how.c
        self.weights, self.bias = machine(np.concatenate([self.right, self.rows]), signs, c=weight, bias=10.0)


def picture(samples: Samples, i: int) -> Tensor:
    """`(C, H, W)` in [0, 1]."""
    return as_float(samples[0, i].image)


def described(net: RCNN, image: Tensor, proposals: Tensor, objects: Objects) -> Measured:
    """Proposals and true boxes of a picture as the later stages want them."""
    device = net.scale.device
    true = objects.boxes[~objects.ignore]
    boxes = torch.cat([proposals, true])
    pooled, features = (x.cpu() for x in net.described(image.to(device), boxes.to(device)))
    shared = iou(boxes, objects.boxes)
    of_class = objects.labels[:, None] == torch.arange(net.num_classes)
    own = (shared[:, :, None] * of_class).amax(1) if len(objects.boxes) else torch.zeros(len(boxes), net.num_classes)
    near = ((shared * ~objects.ignore) > NEAR).any(1).nonzero()[:, 0]
    return Measured(
        boxes=boxes.numpy(), features=features.numpy(), own=own.numpy(), near=near.numpy(),
        pooled=pooled[near].numpy(), truth=objects.labels[~objects.ignore].numpy(), objects=objects.boxes.numpy(),
        labels=objects.labels.numpy(), ignored=objects.ignore.numpy(), size=np.array(image.shape[1:]),
    )  # fmt: skip


def differences(boxes: Tensor, objects: Tensor) -> Tensor:
    """From boxes to objects, twice `(N, 4)`: centres in shares of the sides, sides as logarithms."""
    a, b = to_centres(boxes.double()), to_centres(objects.double())
    return torch.cat([(b[:, :2] - a[:, :2]) / a[:, 2:], (b[:, 2:] / a[:, 2:]).log()], 1)


def regression(x: NDArray, y: NDArray, ridge: float) -> tuple[NDArray, NDArray]:
    """Weights `(D, 4)` and bias `(4,)`, from `(N, D)` to `(N, 4)` that is centred and whitened first, and put back.

    Solved for the N points or the D features, whichever are fewer; the bias is a feature of ones and penalised too.
    """
    x = np.append(x.astype(np.float64), np.ones((len(x), 1)), 1)
    mean = y.mean(0)
    spread, axes = np.linalg.eigh((y - mean).T @ (y - mean) / len(y))
    root = np.sqrt(np.maximum(spread, 0) + 1e-3)
    white = (y - mean) @ (axes / root @ axes.T)
    if len(x) < x.shape[1]:
        found = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(len(x)), white)
    else:
        found = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ white)
    back = axes * root @ axes.T
    return found[:-1] @ back, found[-1] @ back + mean


def answers(net: RCNN, found: Measured, margins: NDArray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a picture would be answered: boxes, scores, labels, and 1 (right), 0 (wrong) or -1 (to ignore) of each.

    True boxes, which no search gives, are left out; boxes are not moved.
    """
    count = len(found.boxes) - len(found.truth)
    all_boxes, all_scores = torch.from_numpy(found.boxes[:count]), torch.from_numpy(margins[:count]).float().sigmoid()
    rows, labels = (all_scores >= net.score).nonzero(as_tuple=True)
    boxes, scores = all_boxes[rows], all_scores[rows, labels]
    kept = nms(boxes, scores, net.overlap, labels=labels)[: net.most]
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    good = torch.zeros(len(boxes), dtype=torch.long)
    shared = iou(boxes, torch.from_numpy(found.objects)) * (labels[:, None] == torch.from_numpy(found.labels))
    free = np.ones(len(found.objects), bool)
    for i, row in enumerate(shared.numpy()):
        best = int((row * free).argmax()) if len(row) else -1
        if best >= 0 and row[best] >= 0.5 and free[best]:
            good[i] = -1 if found.ignored[best] else 1
            free[best] = bool(found.ignored[best])
    return boxes, scores, labels, good


# Tuning ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """One object and three pieces of background. regions: `(4, C, S, S)` in [0, 1]. labels: `(4,)`."""

    key: str
    regions: Tensor
    labels: Tensor


class WarpedRegions(torch.utils.data.Dataset):
    """Regions to tune on; item `(epoch, index)`: region `index` of those that show an object, background by chance."""

    def __init__(self, samples: Samples, proposals: Sequence[Tensor], net: RCNN, seed: int) -> None:
        self.samples, self.seed, self.size, self.context = samples, seed, net.size, net.context
        mean = net.normalize.mean
        self.fill = None if mean is None else mean.flatten().cpu()
        self.boxes, self.labels = [], []
        for i, given in enumerate(proposals):
            objects = samples[0, i].objects
            boxes = torch.cat([given, objects.boxes[~objects.ignore]])
            self.boxes.append(boxes)
            self.labels.append(labelled(boxes, objects.boxes, objects.labels, objects.ignore))
        self.objects, self.background = (_listed(self.labels, test) for test in (lambda x: x > 0, lambda x: x == 0))
        if not len(self.objects) or not len(self.background):
            raise SightlineError(
                f"{len(self.objects)} regions show an object and {len(self.background)} none: both are needed to tune"
            )

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, ticket: tuple[int, int]) -> Drawn:
        epoch, index = ticket
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = [self.objects[index], *(self.background[i] for i in rng.integers(len(self.background), size=3))]
        regions = [self._region(int(i), int(row)) for i, row in chosen]
        regions = [r.flip(-1) if rng.random() < 0.5 else r for r in regions]
        labels = torch.stack([self.labels[int(i)][int(row)] for i, row in chosen])
        return Drawn(self.samples.records[int(chosen[0][0])].key, torch.cat(regions), labels)

    def _region(self, i: int, row: int) -> Tensor:
        image = picture(self.samples, i)
        return warp_regions(image, self.boxes[i][row : row + 1], self.size, context=self.context, fill=self.fill)


def _listed(labels: Sequence[Tensor], test: Any) -> NDArray[np.int64]:
    """Picture and row `(N, 2)` of every region whose label passes."""
    rows = [test(some).nonzero()[:, 0].numpy() for some in labels]
    return np.concatenate([np.stack([np.full(len(r), i), r], 1) for i, r in enumerate(rows)]).astype(np.int64)


def stack(drawn: list[Drawn]) -> Batch:
    """All regions of a batch, one after the other."""
    images, labels = torch.cat([d.regions for d in drawn]), torch.cat([d.labels for d in drawn])
    return Batch(images=images, targets=labels, keys=tuple(d.key for d in drawn))


class Tuned(nn.Module):
    """The classifier of an R-CNN, with the loss it is tuned by."""

    def __init__(self, net: RCNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Regions `(R, C, S, S)` in [0, 1] to logits `(R, 1 + K)`."""
        return self.net.describe(self.net.normalize(images))[2]

    def losses(self, out: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The cross-entropy."""
        return {"classes": F.cross_entropy(out, targets)}
