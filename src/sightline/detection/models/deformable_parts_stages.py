"""How deformable parts learn: roots, parts, then a machine whose examples are where the last one saw them.

See `detection/models/deformable_parts.py` for the paper. Hard negatives stand in the run's folder `stages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sightline.contracts import Preprocess, Stage, Tools
from sightline.datasets.records import DataSet
from sightline.detection.contract import whole
from sightline.detection.models.deformable_parts import DeformableParts, Level, Response, mirrored
from sightline.detection.models.hog_svm import Picture, read_windows, resized
from sightline.detection.plain import as_bytes, touches
from sightline.detection.targets import Samples
from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.ops.boxes import iou
from sightline.ops.hog import CELL, hog_32
from sightline.ops.linear_svm import machine
from sightline.ops.nms import nms

BIAS = 10.0
"""The feature that stands for a component's bias: large, so that it is hardly penalised (voc-dpm)."""
EASY = -1.2
"""The margin below which an earlier negative is forgotten; should it fool the machine again, it is found again."""
FLATTEST = 0.01
"""The least cost of the square of a way: no part flies off."""


def stages(
    data: DataSet,
    *,
    preprocess: Preprocess,
    seed: int,
    negatives: int = 10,
    rounds: int = 6,
    hard: int = 10,
    overlap: float = 0.6,
    c: float = 0.02,
) -> tuple[Stage, ...]:
    """`roots`, `parts`, and `latent` as often as `rounds` says.

    negatives: random windows a picture for the roots. hard: worst places, and others in doubt, of a picture and class
    in a round. overlap: the least IoU of a true box and the root that stands for it. c: what a wrong place costs.
    """
    if min(negatives, hard) < 1 or rounds < 0 or not c > 0 or not 0 < overlap < 1:
        raise UsageError(
            f"negatives={negatives}, hard={hard}, rounds={rounds}, c={c}, overlap={overlap}: expected 1 or more, c "
            "above 0, and a share"
        )
    learned = Learned(Samples(data, preprocess=preprocess, seed=seed), seed, negatives, hard, overlap, c)
    again = [Stage(f"latent {i + 1}", partial(learned.latent, i)) for i in range(rounds)]
    return (Stage("roots", learned.roots), Stage("parts", learned.parts), *again)


@dataclass(frozen=True)
class Learned:
    """What the machines learn from, the same at each call; the values are those of `stages`."""

    samples: Samples
    seed: int
    negatives: int
    hard: int
    overlap: float
    c: float

    def pictures(self) -> Iterator[tuple[Picture, NDArray, NDArray, NDArray]]:
        """Bytes `(H, W, C)`, boxes `(G, 4)`, labels `(G,)`, whether to ignore `(G,)`."""
        for i in range(len(self.samples)):
            sample = self.samples[0, i]
            image = as_bytes(sample.image[None], whole(sample.image[None], None))[0]
            objects = sample.objects
            yield image, objects.boxes.double().numpy(), objects.labels.numpy(), objects.ignore.numpy()

    # Roots -------------------------------------------------------------------------------------------------------

    def roots(self, net: DeformableParts, tools: Tools) -> None:
        """A sliding window for each component: the objects of its shape, both ways round, against the background."""
        right: dict[tuple[int, int], list[NDArray]] = {}
        wrong: list[list[NDArray]] = [[] for _ in net.windows]
        for i, (image, objects, labels, ignore) in enumerate(self.pictures()):
            tools.progress(i, len(self.samples), {"objects": sum(map(len, right.values()))})
            for box, label in zip(objects[~ignore], labels[~ignore]):
                m = component(net.windows, box)
                cells = warped_cells(image, box, net.windows[m])
                both = torch.from_numpy(cells).permute(2, 0, 1)
                right.setdefault((int(label), m), []).extend([both.numpy(), mirrored(both).numpy()])
            rng = np.random.default_rng([self.seed, i])
            for m, window in enumerate(net.windows):
                wrong[m] += self.background(image, objects, window, rng)
        for k in range(net.num_classes):
            if not any((k, m) in right for m in range(len(net.windows))):
                raise SightlineError(f"no object of class {k} to learn from; give more pictures or leave the class out")
            for m, window in enumerate(net.windows):
                own = right.get((k, m), [])
                others = [x for (other, at), rows in right.items() if other != k and at == m for x in rows] + wrong[m]
                if not others:
                    raise SightlineError(
                        f"no picture has room for a window of {window} cells without an object; take smaller "
                        "model.windows"
                    )
                with torch.no_grad():
                    if not own:
                        net.bias[k, m] = -BIAS  # a component without an object says nothing
                        continue
                    x = np.stack([*own, *others]).reshape(len(own) + len(others), -1)
                    weights, bias = machine(x, np.repeat([1, -1], [len(own), len(others)]), c=self.c, bias=BIAS)
                    net.roots[m][k] = torch.from_numpy(weights).reshape(net.roots[m][k].shape)
                    net.bias[k, m] = bias

    def background(
        self, image: Picture, objects: NDArray, window: tuple[int, int], rng: np.random.Generator
    ) -> list[NDArray]:
        """Cells `(32, h, w)` of random windows at random scales that show no object."""
        found: list[NDArray] = []
        high, wide = (n * CELL for n in window)
        largest = min(image.shape[0] / high, image.shape[1] / wide)
        for _ in range(self.negatives if largest >= 1 else 0):
            factor = float(np.exp(rng.uniform(0, np.log(largest))))
            sides = np.array([wide, high]) * factor
            corner = np.array([rng.uniform(0, image.shape[1] - sides[0]), rng.uniform(0, image.shape[0] - sides[1])])
            box = np.concatenate([corner, corner + sides])
            if not touches(box[None], objects)[0]:
                found.append(warped_cells(image, box, window).transpose(2, 0, 1))
        return found

    # Parts -------------------------------------------------------------------------------------------------------

    def parts(self, net: DeformableParts, tools: Tools) -> None:
        """Each component's parts, where its root is strong, as strong together as the root they lie on."""
        with torch.no_grad():
            for m in range(len(net.windows)):
                for k in range(net.num_classes):
                    net.roots[m][k] /= 2  # the parts say the other half
                    anchors, filters = strong_places(net.roots[m][k], net.count, net.size)
                    net.anchors[k, m], net.parts[k, m] = anchors, filters
        net.costs.data[:] = net.costs.new_tensor([0.1, 0.0, 0.1, 0.0])
        tools.progress(1, 1)

    # Latent ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def latent(self, before: int, net: DeformableParts, tools: Tools) -> None:
        """One round: where objects and errors are seen now, and a machine for each class that learns from them."""
        right: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        wrong: list[list[NDArray]] = [[] for _ in range(net.num_classes)]
        for i, (image, objects, labels, ignore) in enumerate(self.pictures()):
            tools.progress(i, len(self.samples), {"negatives": sum(map(len, wrong)), "objects": sum(map(len, right))})
            levels = [
                (level, [on_cpu(net.respond(level, m)) for m in range(len(net.windows))]) for level in net.levels(image)
            ]
            for k in range(net.num_classes):
                mine = (labels == k) & ~ignore
                right[k] += self.seen(net, levels, k, objects[mine])
                wrong[k] += self.fooled(net, levels, k, objects[labels == k])
        path = tools.folder / f"latent-{before + 1}.npz"
        ids = np.repeat(np.arange(net.num_classes), [len(rows) for rows in wrong])
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, x=np.array([x for rows in wrong for x in rows]).reshape(len(ids), length(net)), k=ids)
        earlier = [read_windows(tools.folder / f"latent-{i + 1}.npz") for i in range(before)]
        for k in range(net.num_classes):
            own = numbers(net, k)
            still = [x[(ids == k) & (x @ own > EASY)] for x, ids in earlier]
            rows = [*right[k], *wrong[k], *(row for x in still for row in x)]
            if right[k] and len(rows) > len(right[k]):  # otherwise the class stays as it is
                self.learn(net, k, np.stack(rows), np.repeat([1, -1], [len(right[k]), len(rows) - len(right[k])]))
        tools.progress(len(self.samples), len(self.samples), {"objects": sum(map(len, right))})

    def seen(self, net: DeformableParts, levels: Levels, k: int, objects: NDArray) -> list[NDArray]:
        """The features of each object's best place, of those whose root overlaps it enough."""
        best: list[tuple[float, NDArray | None]] = [(-np.inf, None)] * len(objects)
        if not len(objects):
            return []
        truth = torch.from_numpy(objects)
        for level, responses in levels:
            for m, found in enumerate(responses):
                if found is None:
                    continue
                margins, twin = found.margins[k].max(0)
                rows, columns = np.divmod(np.arange(margins.numel()), margins.shape[1])
                shared = iou(torch.from_numpy(level.boxes(rows, columns, net.windows[m])), truth)
                values = torch.where(shared >= self.overlap, margins.flatten()[:, None], -torch.inf)
                for g, (value, at) in enumerate(zip(*(t.tolist() for t in values.max(0)))):
                    if value > best[g][0]:
                        place = (int(twin.flatten()[at]), int(rows[at]), int(columns[at]))
                        best[g] = (value, features(net, level, found, k, m, place))
        return [x for _, x in best if x is not None]

    def fooled(self, net: DeformableParts, levels: Levels, k: int, objects: NDArray) -> list[NDArray]:
        """The features of places without an object, none twice: the worst, and as many from all the others in doubt."""
        boxes, margins, places = [np.zeros((0, 4))], [np.zeros(0)], []
        for n, (level, responses) in enumerate(levels):
            for m, found in enumerate(responses):
                if found is None:
                    continue
                best, twin = found.margins[k].max(0)
                rows, columns = (best > -1).nonzero(as_tuple=True)
                here = level.boxes(rows.numpy(), columns.numpy(), net.windows[m])
                free = ~touches(here, objects)
                boxes.append(here[free])
                margins.append(best[rows, columns].numpy()[free])
                listed = zip(twin[rows, columns].tolist(), rows.tolist(), columns.tolist())
                places += [(n, m, place) for place, good in zip(listed, free) if good]
        scores = torch.from_numpy(np.concatenate(margins)).float()
        kept = nms(torch.from_numpy(np.concatenate(boxes)).float(), scores, 0.5).tolist()
        rest = kept[self.hard :]
        kept = kept[: self.hard] + rest[:: max(1, len(rest) // self.hard)][: self.hard]
        return [features(net, levels[n][0], levels[n][1][m], k, m, place) for n, m, place in (places[i] for i in kept)]

    def learn(self, net: DeformableParts, k: int, x: NDArray, y: NDArray) -> None:
        """One machine for all components of a class, put back where its numbers belong."""
        lower = np.full(x.shape[1], -np.inf)
        for _, costs, _ in blocks(net):
            lower[costs][0::4] = FLATTEST
            lower[costs][2::4] = FLATTEST
        weights, bias = machine(x, y, c=self.c, lower=lower)
        for m, (filters, costs, constant) in enumerate(blocks(net)):
            own = torch.from_numpy(weights[filters]).float()
            root = net.roots[m][k]
            net.roots[m][k] = own[: root.numel()].reshape(root.shape)
            net.parts[k, m] = own[root.numel() :].reshape(net.parts[k, m].shape)
            net.costs[k, m] = torch.from_numpy(weights[costs]).float().reshape(net.count, 4)
            net.bias[k, m] = float(weights[constant]) * BIAS + bias


Levels = Sequence[tuple[Level, list[Response | None]]]


def on_cpu(found: Response | None) -> Response | None:
    """A response where numpy can read it."""
    return None if found is None else Response(found.margins.cpu(), found.y.cpu(), found.x.cpu())


def component(windows: Sequence[tuple[int, int]], box: NDArray) -> int:
    """The window whose shape is nearest to a box's."""
    shape = np.log((box[3] - box[1]) / (box[2] - box[0]))
    return int(np.argmin([abs(np.log(high / wide) - shape) for high, wide in windows]))


def warped_cells(image: Picture, box: NDArray, window: tuple[int, int]) -> NDArray[np.float32]:
    """Cells `(h, w, 32)` of a box, stretched to a root's size, with the border of cells that counting loses.

    What lies outside of the picture repeats its border.
    """
    high, wide = window
    centre, sides = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * np.array([(wide + 2) / wide, (high + 2) / high])
    spans = []
    for low, up, limit in zip((centre - sides / 2)[::-1], (centre + sides / 2)[::-1], image.shape[:2]):
        first = round(float(low))
        spans.append(np.clip(np.arange(first, max(first + 1, round(float(up)))), 0, limit - 1))
    part = np.ascontiguousarray(image[np.ix_(*spans)])
    return hog_32(resized(part, ((high + 2) * CELL, (wide + 2) * CELL)))


def strong_places(root: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Anchors `(count, 2)` and filters `(count, 32, size, size)`: where a root `(32, h, w)` at twice its resolution has
    most energy in its positive weights, one part after the other, what one covers counting no more.
    """
    double = F.interpolate(root[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    energy = double.clamp(min=0).pow(2).sum(0)
    anchors, filters = [], []
    for _ in range(count):
        sums = F.avg_pool2d(energy[None], size, stride=1)[0]
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        anchors.append([row, column])
        filters.append(
            double[:, row : row + size, column : column + size] / 4
        )  # four of its cells are one of the root's
        energy[row : row + size, column : column + size] = 0
    return torch.tensor(anchors, dtype=root.dtype), torch.stack(filters)


def blocks(net: DeformableParts) -> list[tuple[slice, slice, int]]:
    """Where each component's filters, costs and constant stand in a vector of features."""
    found, start = [], 0
    for m in range(len(net.windows)):
        filters = net.roots[m][0].numel() + net.parts[0, m].numel()
        costs = start + filters
        found.append((slice(start, costs), slice(costs, costs + 4 * net.count), costs + 4 * net.count))
        start = costs + 4 * net.count + 1
    return found


def length(net: DeformableParts) -> int:
    """How many numbers a vector of features has."""
    return blocks(net)[-1][2] + 1


def numbers(net: DeformableParts, k: int) -> NDArray[np.float32]:
    """The weights of a class in the order of `features`: a place's margin is the product of both."""
    found = np.zeros(length(net), np.float32)
    for m, (filters, costs, constant) in enumerate(blocks(net)):
        found[filters] = torch.cat([net.roots[m][k].flatten(), net.parts[k, m].flatten()]).detach().cpu().numpy()
        found[costs], found[constant] = (
            net.costs[k, m].detach().flatten().cpu().numpy(),
            float(net.bias[k, m].detach()) / BIAS,
        )
    return found


def features(
    net: DeformableParts, level: Level, found: Response | None, k: int, m: int, place: tuple[int, int, int]
) -> NDArray[np.float32]:
    """What a place (plain or mirrored, row, column) shows to the machine of its class: its margin is their product."""
    assert found is not None
    twin, row, column = place
    high, wide = net.windows[m]
    shown = [level.root[:, row : row + high, column : column + wide]]
    _, anchors = net.places(m)
    ways = []
    for p in range(net.count):
        y, x = int(found.y[k, twin, p, row, column]), int(found.x[k, twin, p, row, column])
        shown.append(level.parts[:, y : y + net.size, x : x + net.size])
        dy, dx = y - 2 * row - float(anchors[k, twin, p, 0]), x - 2 * column - float(anchors[k, twin, p, 1])
        dx = -dx if twin else dx
        ways += [-(dx**2), -dx, -(dy**2), -dy]
    if twin:
        shown = [mirrored(some) for some in shown]
    vector = np.zeros(length(net), np.float32)
    filters, costs, constant = blocks(net)[m]
    vector[filters] = torch.cat([some.flatten() for some in shown]).cpu().numpy()
    vector[costs], vector[constant] = ways, BIAS
    return vector
