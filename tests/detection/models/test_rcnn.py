"""R-CNN: warping, machines, regressions and rescoring against slow references; its stages on made-up pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.backbones.vgg import VGG
from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Thing
from sightline.detection.contract import Target
from sightline.detection.models.rcnn import (
    RCNN,
    Described,
    labelled,
    looked_at,
    moved,
    rcnn,
    rcnn_caffenet,
    surroundings,
)
from sightline.detection.models.rcnn_stages import (
    How,
    Learned,
    Measured,
    Negatives,
    answers,
    differences,
    regression,
    stages,
)
from sightline.detection.proposals import Windows
from sightline.detection.targets import Samples
from sightline.detection.warp import warp_regions
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.nn.conv import norm_named
from sightline.nn.normalize import Normalize
from sightline.ops.boxes import iou
from sightline.weights.load import load_weights

HOW = How(steps=1, lr=1e-3, batch=8, optimizer="adamw", c=1.0, positive_weight=1.0, hard=3, ridge=1.0, rescore=False)

# Warping ---------------------------------------------------------------------------------------------------------


def warped_slowly(image: np.ndarray, box: np.ndarray, size: int, context: int) -> np.ndarray:
    """A region pixel by pixel: the widened box in whole pixels, the part inside resized and put at its place."""
    scale = size / (size - 2 * context)
    found = np.zeros((len(image), size, size))
    ranges = []
    for low, high, limit in ((box[1], box[3], image.shape[1]), (box[0], box[2], image.shape[2])):
        centre, half = (low + high) / 2, (high - low) / 2 * scale
        begin, end = int(np.floor(centre - half + 0.5)), int(np.floor(centre + half + 0.5)) + 1
        start, stop = max(begin, 0), min(end, limit)
        before = int(np.floor((start - begin) * size / (end - begin) + 0.5))
        taken = min(int(np.floor((stop - start) * size / (end - begin) + 0.5)), size - before)
        ranges.append((start, stop, before, taken))
    (top, bottom, above, rows), (left, right, beside, columns) = ranges
    part = image[:, top:bottom, left:right]
    for i in range(rows):
        for j in range(columns):
            y = min(max((i + 0.5) * part.shape[1] / rows - 0.5, 0), part.shape[1] - 1)
            x = min(max((j + 0.5) * part.shape[2] / columns - 0.5, 0), part.shape[2] - 1)
            for a, wa in ((int(y), 1 - y % 1), (min(int(y) + 1, part.shape[1] - 1), y % 1)):
                for b, wb in ((int(x), 1 - x % 1), (min(int(x) + 1, part.shape[2] - 1), x % 1)):
                    found[:, above + i, beside + j] += wa * wb * part[:, a, b]
    return found


def test_warped_regions_against_a_slow_reference() -> None:
    random = np.random.default_rng(0)
    image = random.random((2, 21, 30))
    boxes = np.array([[3, 4, 12, 19], [0, 0, 30, 21], [22.3, 12.6, 29.9, 20.2], [5, 5, 6, 6], [0, 0, 4, 3]], float)
    for context in (0, 3):
        found = warp_regions(torch.from_numpy(image), torch.from_numpy(boxes), 16, context=context)
        for one, box in zip(found.numpy(), boxes):
            assert one == pytest.approx(warped_slowly(image, box, 16, context), abs=1e-6)


def test_what_lies_outside_is_the_mean_colour() -> None:
    image = torch.ones(3, 20, 20)
    found = warp_regions(image, torch.tensor([[0.0, 0, 10, 10]]), 20, context=5, fill=torch.tensor([0.1, 0.2, 0.3]))
    assert found[0, :, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3]) and bool((found[0, :, -1, -1] == 1).all())


# Solutions -------------------------------------------------------------------------------------------------------


def test_moved_is_the_inverse_of_differences() -> None:
    boxes = torch.tensor([[2.0, 3, 22, 13], [0, 0, 8, 8]])
    objects = torch.tensor([[4.0, 1, 20, 15], [1, 2, 12, 7]])
    by_hand = [(12 - 12) / 20, (8 - 8) / 10, np.log(16 / 20), np.log(14 / 10)]
    found = differences(boxes, objects)
    assert found[0].tolist() == pytest.approx(by_hand)
    assert moved(boxes, found[:, None].float())[:, 0].tolist() == [pytest.approx(b.tolist(), abs=1e-4) for b in objects]


@pytest.mark.parametrize("count", [6, 40])
def test_the_regression_is_the_minimum_of_its_penalised_squares(count: int) -> None:
    random = np.random.default_rng(count)
    x, y = random.standard_normal((count, 9)), random.standard_normal((count, 4)) @ random.standard_normal((4, 4))
    weights, bias = regression(x, y, 3.0)
    mean, cov = y.mean(0), np.cov(y.T, bias=True)
    values, vectors = np.linalg.eigh(cov)
    whiten = vectors @ np.diag((values + 1e-3) ** -0.5) @ vectors.T
    ones = np.append(x, np.ones((count, 1)), 1)

    def cost(w: np.ndarray, b: np.ndarray) -> float:
        inner = np.append(w, [b - mean], 0) @ whiten
        return float(((ones @ inner - (y - mean) @ whiten) ** 2).sum() + 3.0 * (inner**2).sum())

    best = cost(weights, bias)
    for _ in range(20):
        assert best < cost(weights + 1e-3 * random.standard_normal(weights.shape), bias + 1e-3 * random.random(4))


def test_hard_negatives_come_and_easy_ones_go() -> None:
    cache = Negatives(np.array([[2.0, 0.0], [2.2, 0.1]]), HOW)
    cache.add(np.array([[0.0, 0.0], [-9.0, 0.0]]))
    assert len(cache.rows) == 2 and not cache.weights.any()  # nothing learned yet: all are near
    cache.add(np.array([[1.0, 0.0]]))
    assert cache.weights[0] > 0 and cache.rows.tolist() == [[1.0, 0.0]]  # learned after three; the far ones went
    cache.add(np.array([[-5.0, 0.0]]))
    assert len(cache.rows) == 1
    nothing = Negatives(np.zeros((0, 2)), HOW)
    nothing.add(np.array([[1.0, 0.0]]))
    nothing.learn()
    assert nothing.bias == -10.0 and not nothing.weights.any()


def test_what_regions_are_tuned_on() -> None:
    objects, labels = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([2, 0])
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 20], [20, 20, 30, 29], [50, 50, 60, 60], [0, 0, 10, 21]])
    assert labelled(boxes, objects, labels, torch.tensor([False, True])).tolist() == [3, 3, -1, 0, 0]
    assert labelled(boxes, objects[:0], labels[:0], torch.zeros(0, dtype=torch.bool)).tolist() == [0] * 5


def test_surroundings_are_all_products_of_two() -> None:
    boxes, scores = torch.tensor([[0.0, 5, 10, 10], [4, 4, 8, 8]]), torch.tensor([0.5, 0.25])
    found = surroundings(boxes, scores, torch.tensor([1, 1]), 2, (10, 20))
    numbers = [0.5, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5, 1.0]
    by_hand = [a * b for i, a in enumerate(numbers) for b in numbers[i:]]
    assert found.shape == (2, looked_at(2)) and found[0].tolist() == pytest.approx(by_hand)


# Stages ----------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The tools of a stage, and a loop of a few lines."""

    folder: Path

    def progress(self, done: int, total: int, numbers: Any = None) -> None:
        assert 0 <= done <= total

    def learn(self, net: Any, samples: Any, collate: Any, *, steps: int, lr: float, batch: int, optimizer: str) -> None:
        best = torch.optim.Adam(net.parameters(), lr=lr)
        net.train()
        for step in range(steps):
            some = collate([samples[step, (step * batch + i) % len(samples)] for i in range(batch)])
            assert len(some.images) == 4 * batch and int((some.targets > 0).sum()) == batch
            best.zero_grad()
            sum(net.losses(net(some.images, targets=some.targets), some.targets).values()).backward()
            best.step()
        net.eval()


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Red and green squares on noise; one of them hard to tell, and marked so."""
    root, records = tmp_path_factory.mktemp("squares"), []
    for i in range(8):
        random = np.random.default_rng(i)
        image = random.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        things = []
        for k in range(2):
            left, top = 32 * k + int(random.integers(0, 12)), int(random.integers(0, 28))
            image[top : top + 18, left : left + 18, k] = 255
            things.append(Thing(k, (left, top, left + 18, top + 18), difficult=i == 0 and k == 1))
        write_image(root / f"{i}.png", image)
        records.append(ObjectRecord(f"a/{i}.png", Picture(root / f"{i}.png"), tuple(things), split="train"))
    return DataSet(root, "made", tuple(records), ("red", "green"))


def small() -> RCNN:
    torch.manual_seed(0)
    body = VGG((1, 1), widths=(8, 16), norm=norm_named("batch"))
    describe = Described(body, 2, cells=2, hidden=24, dropout=0.1)  # pyright: ignore[reportArgumentType]
    return RCNN(
        describe, Windows((12, 18), ratios=(1.0,)), 2, hidden=24, size=24, context=2, normalize=Normalize((0.5,) * 3),
        count=16, fraction=0.25, score=0.3, overlap=0.3, most=20,
    )  # fmt: skip


def run(data: DataSet, net: RCNN, folder: Path, *, first: int = 0, last: int = 9) -> RCNN:
    listed = stages(data, preprocess=Preprocess(), seed=0, steps=60, lr=3e-3, batch=32, c=0.1, ridge=1.0, rescore=True)
    for i, stage in list(enumerate(listed))[first:last]:
        torch.manual_seed(i)
        stage.run(net.eval(), Bench(folder))
    return net.eval()


@pytest.fixture(scope="module")
def trained(squares: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[RCNN, RCNN, Path]:
    """The network behind its third stage, and at the end."""
    folder = tmp_path_factory.mktemp("run")
    net = run(squares, small(), folder, last=3)
    before = small()
    before.load_state_dict(net.state_dict())
    return before, run(squares, net, folder, first=3), folder


def test_squares_are_found_where_they_are(squares: DataSet, trained: Any) -> None:
    """Those that a proposal comes near to, and nearer than any proposal."""
    _, net, folder = trained
    samples, good, reachable = Samples(squares, preprocess=Preprocess(), seed=0), 0, 0
    for i in range(1, 8):
        sample = samples[0, i]
        image = sample.image[None].float() / 255
        given = net.propose(image, torch.tensor([[48, 64]])).boxes[0]
        found = net.decode(net(image))[0]
        for box, label in zip(sample.objects.boxes, sample.objects.labels):
            if float(iou(given, box[None]).max()) < 0.5:
                continue
            same = found.labels == label
            reachable += 1
            good += int(bool(same.any()) and float(iou(found.boxes[same][:1], box[None])) > 0.7)
    assert reachable >= 10 and good >= 8
    assert (folder / "proposals.npz").is_file() and not (folder / "features").exists()
    assert net.rescored.tolist() == [1.0, 1.0]


def test_each_stage_adds_to_the_one_before(squares: DataSet, trained: Any) -> None:
    before, net, _ = trained
    assert not before.machines.weight.any() and not before.regression.weight.any() and float(before.scale) != 1
    assert net.machines.weight.any() and net.regression.weight.any() and net.rescore_weight.any()
    assert torch.equal(before.describe.fc7.weight, net.describe.fc7.weight)


def test_a_resume_needs_weights_and_proposals_alone(squares: DataSet, trained: Any, tmp_path: Path) -> None:
    before, net, folder = trained
    (tmp_path / "proposals.npz").write_bytes((folder / "proposals.npz").read_bytes())
    again = small()
    again.load_state_dict(before.state_dict())
    run(squares, again, tmp_path, first=3)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_given_proposals_are_looked_at_instead(squares: DataSet, trained: Any) -> None:
    _, net, _ = trained
    image = Samples(squares, preprocess=Preprocess(), seed=0)[0, 3].image[None].float() / 255
    nothing = net(image, proposals=torch.zeros(1, 1, 4)).found
    assert int(nothing.count[0]) == 0


def test_true_answers_are_counted_once(trained: Any) -> None:
    _, net, _ = trained
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5.5], [30, 30, 40, 40], [50, 0, 60, 10], [0, 0, 10, 10]], np.float32)
    margins = np.array([[2.0, -9], [1.0, -9], [3.0, -9], [0.5, -9], [9.0, -9]])
    objects = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    found = Measured(
        boxes=boxes, features=boxes, own=boxes, near=boxes, pooled=boxes, truth=np.array([0]), objects=objects,
        labels=np.array([0, 0]), ignored=np.array([False, True]), size=np.array([64, 64]),
    )  # fmt: skip
    _, scores, labels, good = answers(net, found, margins)
    assert labels.tolist() == [0, 0, 0] and good.tolist() == [0, 1, -1]  # the half box is suppressed
    assert scores.tolist() == pytest.approx([1 / (1 + np.exp(-m)) for m in (3.0, 2.0, 0.5)])


def test_pictures_without_objects_and_wrong_options(squares: DataSet, tmp_path: Path) -> None:
    records = tuple(ObjectRecord(r.key, r.image, (), split="train") for r in squares.records[:2])
    bare = DataSet(squares.root, "made", records, squares.classes)
    learned = Learned(Samples(bare, preprocess=Preprocess(), seed=0), 0, HOW)
    net = small().eval()
    learned.search(net, Bench(tmp_path))
    with pytest.raises(SightlineError, match="both are needed to tune"):
        learned.tune(net, Bench(tmp_path))
    for options in ({"batch": 6}, {"c": 0.0}, {"steps": 0}):
        with pytest.raises(UsageError, match="multiple of 4"):
            stages(squares, preprocess=Preprocess(), seed=0, **options)
    with pytest.raises(UsageError, match="take less"):
        rcnn(1, backbone="mobilenet_v3_small", size=32, context=16)


# The paper's form ------------------------------------------------------------------------------------------------


def test_caffes_layers_load_under_their_names() -> None:
    values: dict[str, Any] = {"widths": (4, 4, 4, 4, 4), "size": 67, "hidden": 8, "propose": "dense"}
    net = rcnn_caffenet(2, **values)
    names = {f"conv{i}" for i in range(1, 6)} | {"fc6", "fc7"}
    state = {k.removeprefix("describe.net."): v + 1 for k, v in net.state_dict().items() if k.startswith("describe.")}
    state = {k.replace("fc8.", "fc8_pascal."): v for k, v in state.items()}
    from sightline.detection.models.rcnn import KEY_MAPS

    report = load_weights(net, state, maps=KEY_MAPS, strict=False)
    assert all(f"describe.net.{name}.weight" in report.loaded for name in (*names, "fc8"))
    assert torch.equal(net.describe.net.fc8.weight, state["fc8_pascal.weight"])  # type: ignore[union-attr]


def test_held_out_losses_are_those_of_the_regions_that_are_drawn(trained: Any) -> None:
    _, net, _ = trained
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    target = Target(torch.tensor([[[4.0, 4, 22, 22]]]), torch.zeros(1, 1, dtype=torch.long))
    out = net(image, targets=target)
    assert len(out.labels) <= 16 and int((out.labels > 0).sum()) <= 4 and int((out.labels == 1).sum()) >= 1
    by_hand = -out.logits.log_softmax(1)[torch.arange(len(out.labels)), out.labels].mean()
    assert float(net.losses(out, target)["classes"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
