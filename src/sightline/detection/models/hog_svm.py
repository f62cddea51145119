"""A sliding window: histograms of oriented gradients, a linear support vector machine, hard negatives, a pyramid.

Paper: Histograms of Oriented Gradients for Human Detection (Dalal & Triggs 2005).

The idea: how strong edges of each direction are, cell by cell, describes the outline of an object well enough that one
weight for each number tells it from anything else. The window slides over the picture at many scales. After a first
training on random windows, those in which the machine wrongly sees an object are added, and it is trained once more.

It learns in stages (`stages`): `windows`, then `hard negatives` as often as `rounds` says. `losses` says the squared
hinge on all windows of a picture, in training by hand and on held-out pictures.

Departures: squared hinge losses (smooth, so that L-BFGS finds the one minimum); a machine a class, the objects of other
classes are wrong; the window is any number of cells; mirrored objects are learned from too; a picture is continued by
its border, as far as the window is wider than the object in it.

Traits: `outside_graph`, gradients are counted by numpy, so it neither compiles nor exports; `head_only`, all weights
belong to a class, so nothing is left of a file of other classes. Loads: OpenCV's vectors of
`HOGDescriptor` as an `.npz` with `machine.weight` `(1, 3780)` and `machine.bias` `(1,)`, in OpenCV's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.contracts import Preprocess, Stage, Tools
from sightline.datasets.records import DataSet
from sightline.detection.answer import Detections
from sightline.detection.contract import Target, decode, whole
from sightline.detection.plain import Windows, as_bytes, best_of, hinges, refuse_graphs, signs_of, touches
from sightline.detection.targets import Samples
from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.media.prepare import resize_pixels
from sightline.ops.boxes import clip_boxes
from sightline.ops.hog import CELL, descriptor, hog_blocks
from sightline.ops.linear_svm import machine

Picture = NDArray[np.uint8]
RIGHT, WRONG = 0.5, 0.3
"""IoU from which a window shows an object, and below which it shows none."""

# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A window of so many pixels, multiples of 8, of which an object fills the share `context`."""

    height: int
    width: int
    context: float

    def __post_init__(self) -> None:
        if self.height % CELL or self.width % CELL or min(self.height, self.width) < 2 * CELL:
            raise UsageError(
                f"window {self.height}, {self.width} must be multiples of {CELL} pixels, from {2 * CELL} on"
            )
        if not 0 < self.context <= 1:
            raise UsageError(f"context {self.context} must be a share of the window's sides, above 0 and at most 1")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.height // CELL - 1, self.width // CELL - 1

    @property
    def border(self) -> tuple[int, int]:
        """Pixels by which a picture is continued, above and beside: whole cells."""
        rows, columns = ((1 - self.context) / 2 * side / CELL for side in (self.height, self.width))
        return int(np.ceil(rows)) * CELL, int(np.ceil(columns)) * CELL

    def levels(self, image: Picture, step: float, first: float = 1.0) -> Iterator[Picture]:
        """The picture continued by its border, from `first` times its size ever smaller, while an object fits."""
        height, width = image.shape[:2]
        (above, beside), factor = self.border, first
        while True:
            size = (round(height * factor), round(width * factor))
            if size[0] < self.height * self.context or size[1] < self.width * self.context:
                return  # no object fits
            pads = ((above, above), (beside, beside), (0, 0))
            yield np.pad(resized(image, size), pads, "edge")
            factor /= step

    def boxes(self, rows: NDArray, columns: NDArray, level: Picture, image: Picture) -> NDArray[np.float64]:
        """The objects' boxes `(N, 4)` in the picture, of windows that begin at these cells of a level."""
        above, beside = self.border
        sides = np.array([self.width, self.height])
        corner = np.stack([columns * CELL - beside, rows * CELL - above], 1) + sides * (1 - self.context) / 2
        inner = np.array([level.shape[1] - 2 * beside, level.shape[0] - 2 * above])
        scale = np.array([image.shape[1], image.shape[0]]) / inner
        return np.concatenate([corner, corner + sides * self.context], 1) * np.tile(scale, 2)


def resized(image: Picture, size: tuple[int, int]) -> Picture:
    """`(H, W, C)` bytes at another size."""
    if image.shape[:2] == size:
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return resize_pixels(planes, size).permute(1, 2, 0).numpy()


def warped(image: Picture, box: NDArray, window: Window) -> Picture:
    """The window around a box, at the window's size; what lies outside of the picture repeats its border."""
    centre, sides = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / window.context
    factor = max(sides[1] / window.height, sides[0] / window.width)
    height, width = window.height * factor, window.width * factor
    rows = np.clip(np.arange(round(centre[1] - height / 2), round(centre[1] + height / 2)), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(round(centre[0] - width / 2), round(centre[0] + width / 2)), 0, image.shape[1] - 1)
    if not len(rows) or not len(columns):
        return np.zeros((window.height, window.width, image.shape[2]), np.uint8)
    return resized(np.ascontiguousarray(image[np.ix_(rows, columns)]), (window.height, window.width))


# Network ---------------------------------------------------------------------------------------------------------


class HogSVM(nn.Module):
    """A machine a class on the blocks of a window. step: between scales. first: the scale the picture begins with.

    score: the least of an answer, its margin m as 1 / (1 + exp(-m)). overlap: IoU at which answers of a class suppress
    each other. most: answers a picture.
    """

    HEAD = ("machine.",)
    OPTIONAL = ()

    def __init__(
        self, num_classes: int, window: Window, *, step: float, first: float, score: float, overlap: float, most: int
    ) -> None:
        super().__init__()
        if step <= 1:
            raise UsageError(f"step {step} must be above 1, such as 1.2")
        self.num_classes, self.window, self.step, self.first = num_classes, window, step, first
        self.score, self.overlap, self.most = score, overlap, most
        self.machine = nn.Linear(36 * window.shape[0] * window.shape[1], num_classes)  # in the descriptor's order
        nn.init.zeros_(self.machine.weight)
        nn.init.zeros_(self.machine.bias)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Windows:
        """See: `(B, C, H, W)` pictures in [0, 1], of any size."""
        refuse_graphs("hog_svm")
        limits = whole(images, sizes)
        pictures = as_bytes(images, limits)
        slid = [self.slide(picture) for picture in pictures]
        margins = signs = found = None
        if targets is not None:
            margins = torch.cat([m for _, m in slid])
            signs = torch.cat(
                [
                    signs_of(boxes, targets, i, self.num_classes, right=RIGHT, wrong=WRONG)
                    for i, (boxes, _) in enumerate(slid)
                ]
            ).to(margins.device)
        if targets is None or not self.training:
            clipped = [clip_boxes(boxes.to(images.device), limits[i]) for i, (boxes, _) in enumerate(slid)]
            scores = [m.sigmoid() for _, m in slid]
            found = best_of(clipped, scores, least=self.score, overlap=self.overlap, most=self.most)
        return Windows(found, margins, signs)

    def slide(self, picture: Picture) -> tuple[Tensor, Tensor]:
        """Every window of a picture `(H, W, C)`, 8 pixels apart at each scale: boxes `(N, 4)`, margins `(N, K)`."""
        boxes, margins = [torch.zeros(0, 4)], [self.machine.bias.new_zeros(0, self.num_classes)]
        for level in self.window.levels(picture, self.step, self.first):
            found = self.margins(hog_blocks(level))
            rows, columns = np.divmod(np.arange(found[0].numel()), found.shape[2])
            boxes.append(torch.from_numpy(self.window.boxes(rows, columns, level, picture)).float())
            margins.append(found.flatten(1).T)
        return torch.cat(boxes), torch.cat(margins)

    def margins(self, blocks: NDArray[np.float32]) -> Tensor:
        """`(K, rows, columns)` of every window of a level's blocks `(R, C, 36)`."""
        high, wide = self.window.shape
        kernel = self.machine.weight.reshape(self.num_classes, wide, high, 36).permute(0, 3, 2, 1)
        maps = torch.from_numpy(blocks).to(kernel.device).permute(2, 0, 1)[None]
        return F.conv2d(maps, kernel, self.machine.bias)[0]

    def losses(self, out: Windows, targets: Target) -> dict[str, Tensor]:
        """Learn: `right` and `wrong`, the mean squared hinge of windows with and without an object."""
        return hinges(out)

    def decode(self, out: Windows, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
        """Say: the objects of each picture."""
        return decode(out, score=score, classes=classes)


# What it learns from ---------------------------------------------------------------------------------------------


def stages(
    data: DataSet,
    *,
    preprocess: Preprocess,
    seed: int,
    negatives: int = 10,
    rounds: int = 1,
    hard: int = 20,
    c: float = 0.01,
) -> tuple[Stage, ...]:
    """`windows`: objects and `negatives` random windows a picture. `hard negatives`, `rounds` times: with windows, at
    most `hard` a picture and class, in which the machine wrongly sees an object. c: what a wrong window costs.
    """
    if min(negatives, hard) < 1 or rounds < 0 or not c > 0:
        raise UsageError(
            f"negatives={negatives}, hard={hard}, rounds={rounds}, c={c}: expected 1 or more, and c above 0"
        )
    learned = Learned(Samples(data, preprocess=preprocess, seed=seed), seed, negatives, hard, c)
    names = [f"hard negatives {i + 1}" if i else "hard negatives" for i in range(rounds)]
    again = [Stage(name, partial(learned.hard_negatives, i)) for i, name in enumerate(names)]
    return (Stage("windows", learned.windows), *again)


@dataclass(frozen=True)
class Learned:
    """What the machines learn from, the same windows at each call; the values are those of `stages`."""

    samples: Samples
    seed: int
    negatives: int
    hard: int
    c: float

    def windows(self, net: HogSVM, tools: Tools) -> None:
        """The first training."""
        self.train(net, *self.shown(net, tools), [])

    def hard_negatives(self, before: int, net: HogSVM, tools: Tools) -> None:
        """A training with what fools the machines, and with what did in the rounds `before`."""
        wrong, classes, count = [], [], len(self.samples)
        for i, (image, objects, labels, _) in enumerate(self.pictures()):
            tools.progress(i, count, {"windows": sum(map(len, wrong))})
            for k, seen in enumerate(self.fooled(net, image, objects, labels)):
                wrong.append(seen)
                classes.append(np.full(len(seen), k))
        with replacing(tools.folder / f"hard-negatives-{before + 1}.npz") as path, path.open("wb") as stream:
            np.savez(stream, x=np.concatenate(wrong), k=np.concatenate(classes))
        files = [tools.folder / f"hard-negatives-{i + 1}.npz" for i in range(before + 1)]
        self.train(net, *self.shown(net, None), [read_windows(file) for file in files])
        tools.progress(count, count, {"windows": sum(map(len, wrong))})

    def pictures(self) -> Iterator[tuple[Picture, NDArray, NDArray, NDArray]]:
        """Bytes `(H, W, C)`, boxes `(G, 4)`, labels `(G,)`, whether to ignore `(G,)`."""
        for i in range(len(self.samples)):
            sample = self.samples[0, i]
            image = as_bytes(sample.image[None], whole(sample.image[None], None))[0]
            objects = sample.objects
            yield image, objects.boxes.double().numpy(), objects.labels.numpy(), objects.ignore.numpy()

    def shown(self, net: HogSVM, tools: Tools | None) -> tuple[NDArray, NDArray]:
        """Descriptors `(N, D)` of objects, mirrored too, and of background, and their classes, K for background."""
        window, x, y = net.window, list[NDArray](), list[int]()
        for i, (image, objects, labels, ignore) in enumerate(self.pictures()):
            if tools is not None:
                tools.progress(i, len(self.samples), {"windows": len(x)})
            for box, label in zip(objects[~ignore], labels[~ignore]):
                seen = warped(image, box, window)
                for one in (seen, np.ascontiguousarray(seen[:, ::-1])):
                    x.append(descriptor(hog_blocks(one), 0, 0, window.shape))
                    y.append(int(label))
            background = self.background(image, objects, window, np.random.default_rng([self.seed, i]))
            x += background
            y += [net.num_classes] * len(background)
        classes = np.array(y)
        for k in range(net.num_classes):
            if not (classes == k).any() or not (classes != k).any():
                raise SightlineError(
                    f"class {k} has {(classes == k).sum()} windows with and {(classes != k).sum()} without an object: "
                    "both are needed to learn from; give more pictures or a smaller model.window"
                )
        return np.stack(x), classes

    def background(self, image: Picture, objects: NDArray, window: Window, rng: np.random.Generator) -> list[NDArray]:
        """Descriptors of random windows that show no object."""
        levels = list(window.levels(image, 1.5))
        found = []
        for _ in range(self.negatives if levels else 0):
            level = levels[int(rng.integers(len(levels)))]
            row, column = (
                int(rng.integers(0, (n - w) // CELL + 1)) for n, w in zip(level.shape, (window.height, window.width))
            )
            if not touches(window.boxes(np.array([row]), np.array([column]), level, image), objects)[0]:
                top, left = row * CELL, column * CELL
                part = np.ascontiguousarray(level[top : top + window.height, left : left + window.width])
                found.append(descriptor(hog_blocks(part), 0, 0, window.shape))
        return found

    @torch.no_grad()
    def fooled(self, net: HogSVM, image: Picture, objects: NDArray, labels: NDArray) -> list[NDArray]:
        """For every class, descriptors of its worst windows: a margin above -1, and no object of it."""
        window, size = net.window, net.machine.in_features
        found: list[list[tuple[float, NDArray]]] = [[] for _ in range(net.num_classes)]
        for level in window.levels(image, net.step, net.first):
            blocks = hog_blocks(level)
            for k, margins in enumerate(net.margins(blocks).cpu().numpy()):
                rows, columns = (margins > -1).nonzero()
                boxes = window.boxes(rows, columns, level, image)
                free = ~touches(boxes, objects[labels == k])
                for row, column in zip(rows[free], columns[free]):
                    found[k].append((float(margins[row, column]), descriptor(blocks, row, column, window.shape)))
        worst = [sorted(some, key=lambda pair: -pair[0])[: self.hard] for some in found]
        return [np.stack([x for _, x in some]) if some else np.zeros((0, size), np.float32) for some in worst]

    def train(self, net: HogSVM, x: NDArray, y: NDArray, hard: Sequence[tuple[NDArray, NDArray]]) -> None:
        """A machine for each class: its objects against all else, and what fooled it."""
        for k in range(net.num_classes):
            fools = [windows[classes == k] for windows, classes in hard]
            signs = np.concatenate([np.where(y == k, 1, -1), -np.ones(sum(map(len, fools)))])
            weights, bias = machine(np.concatenate([x, *fools]), signs, c=self.c, bias=10.0)
            with torch.no_grad():
                net.machine.weight[k] = torch.from_numpy(weights)
                net.machine.bias[k] = bias


def read_windows(path: Path) -> tuple[NDArray, NDArray]:
    """Descriptors and classes as a round stored them; `SightlineError` when the file is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["x"], content["k"]
    except Exception as error:  # a damaged archive fails in many ways
        raise SightlineError(f"{path}: the windows of an earlier round cannot be read ({error}); train anew") from error


# Builder ---------------------------------------------------------------------------------------------------------


def hog_svm(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    window: Sequence[int] = (128, 64),
    context: float = 0.8,
    step: float = 1.2,
    first: float = 1.0,
    score: float = 0.2,
    overlap: float = 0.3,
    most: int = 100,
) -> HogSVM:
    """Dalal and Triggs' detector: 3,781 numbers a class, for windows of 64 x 128 pixels.

    window: height and width, multiples of 8. context: share of the window's sides that an object fills. step: between
    two scales. first: the scale at which a picture is begun with, above 1 for objects smaller than the window.
    in_channels: of pictures; at each pixel the channel with the steepest slope counts. score, overlap, most: the least
    score of an answer (0.5 is the machine's own border), the IoU at which answers of a class suppress each other,
    answers a picture.
    """
    if len(window) != 2 or in_channels < 1:
        raise UsageError(f"window {list(window)}: expected a height and a width; in_channels {in_channels} at least 1")
    shape = Window(int(window[0]), int(window[1]), context)
    return HogSVM(num_classes, shape, step=step, first=first, score=score, overlap=overlap, most=most)


KEY_MAPS = ()
