"""The sliding window learns an outline, is harder on what fooled it, and finds objects of another size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.contracts import Machine, Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Thing
from sightline.datasets.stats import stats
from sightline.detection.contract import Target
from sightline.detection.models.hog_svm import HogSVM, Window, hog_svm, read_windows, stages, warped
from sightline.detection.plan import plan
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.ops.boxes import iou
from sightline.ops.hog import descriptor, hog_blocks
from sightline.ops.linear_svm import machine

VALUES: dict[str, Any] = {"window": (32, 32), "context": 0.75, "score": 0.1, "step": 1.4}


def scene(seed: int, side: int = 24, size: int = 80) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A bright ring among bars of the same brightness, and the ring's box."""
    random = np.random.default_rng(seed)
    image = random.integers(60, 80, (size, size)).astype(np.float64)
    for _ in range(4):
        x, y = random.integers(0, size - 20, 2)
        image[y : y + 4, x : x + 20] = 200
    left, top = random.integers(0, size - side, 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    far = np.hypot(rows - top - side / 2, columns - left - side / 2)
    image[(far < side / 2) & (far > side / 2 - side / 6)] = 220
    return image.astype(np.uint8)[..., None].repeat(3, 2), (left, top, left + side, top + side)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@dataclass
class Bench:
    """The tools of a stage, for tests."""

    folder: Path
    told: list[tuple[int, int]] = field(default_factory=list)

    def progress(self, done: int, total: int, numbers: Any = None) -> None:
        self.told.append((done, total))

    def learn(self, *_: Any, **__: Any) -> None:
        raise AssertionError("this system uses no loop")


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root, records = tmp_path_factory.mktemp("rings"), []
    for i in range(12):
        image, box = scene(i)
        write_image(root / f"{i}.png", image)
        records.append(ObjectRecord(str(i), Picture(root / f"{i}.png"), (Thing(0, box),), split="train"))
    return DataSet(root, "made", tuple(records), ("ring",))


def learned(data: DataSet, folder: Path, **options: Any) -> HogSVM:
    net = hog_svm(1, **VALUES)
    for stage in stages(data, preprocess=Preprocess(), seed=0, c=0.1, **options):
        stage.run(net, Bench(folder))
    return net.eval()


@pytest.fixture(scope="module")
def detector(rings: DataSet, tmp_path_factory: pytest.TempPathFactory) -> HogSVM:
    return learned(rings, tmp_path_factory.mktemp("stages"))


@pytest.mark.parametrize("side", [24, 40])
def test_rings_are_found_at_their_size(detector: HogSVM, side: int) -> None:
    good = 0
    for seed in range(50, 56):
        image, box = scene(seed, side)
        found = detector.decode(detector(tensor(image)))[0]
        good += int(len(found) and float(iou(found.boxes[:1], torch.tensor([box]))) > 0.5)
    assert good >= 5


def test_margins_of_the_slide_are_those_of_each_window(detector: HogSVM) -> None:
    image, _ = scene(99)
    blocks = hog_blocks(image)
    margins = detector.margins(blocks)[0].detach().numpy()
    weights, bias = detector.machine.weight[0].detach().numpy(), float(detector.machine.bias.detach()[0])
    for row in range(0, margins.shape[0], 2):
        for column in range(0, margins.shape[1], 3):
            window = descriptor(blocks, row, column, (3, 3))
            assert margins[row, column] == pytest.approx(float(window @ weights + bias), abs=1e-4)


def test_boxes_of_windows_by_hand() -> None:
    window = Window(32, 32, 0.75)  # 4 pixels of context a side: the picture is continued by one cell
    image = np.zeros((48, 64, 3), np.uint8)
    levels = list(window.levels(image, 2.0))
    assert [level.shape[:2] for level in levels] == [(64, 80), (40, 48)]
    found = window.boxes(np.array([0, 2]), np.array([0, 1]), levels[1], image)
    assert found.tolist() == [[-8, -8, 40, 40], [8, 24, 56, 72]]


def test_the_window_around_a_box_is_centred_and_in_proportion() -> None:
    image = np.zeros((64, 64, 1), np.uint8)
    image[20:44, 26:38] = 200
    seen = warped(image, np.array([26.0, 20, 38, 44]), Window(32, 32, 0.75))
    assert seen.shape == (32, 32, 1)
    assert seen[6:26, 11:21].min() > 150 and seen[:, :8].max() < 50 and seen[:3].max() < 50


def test_losses_are_the_squared_hinge_of_right_and_wrong_windows(detector: HogSVM) -> None:
    image, box = scene(70)
    target = Target(torch.tensor([[box]]), torch.zeros(1, 1, dtype=torch.long))
    out = detector(tensor(image), targets=target)
    boxes, margins = detector.slide(image)
    sums: dict[str, list[float]] = {"right": [], "wrong": []}
    for one, margin in zip(boxes, margins[:, 0].tolist()):
        shared = float(iou(one[None], torch.tensor([box])))
        if shared >= 0.5:
            sums["right"].append(max(0.0, 1 - margin) ** 2)
        elif shared < 0.3:
            sums["wrong"].append(max(0.0, 1 + margin) ** 2)
    losses = detector.losses(out, target)
    assert sums["right"] and {k: float(v) for k, v in losses.items()} == {
        k: pytest.approx(np.mean(v), rel=1e-4) for k, v in sums.items()
    }


def test_hard_negatives_are_windows_that_fooled_the_machine(rings: DataSet, tmp_path: Path) -> None:
    few = replace(rings, records=rings.records[:5])
    first = learned(few, tmp_path / "a", rounds=0, negatives=1)
    listed = stages(few, preprocess=Preprocess(), seed=0, c=0.1, rounds=2, negatives=1, hard=5)
    assert [stage.name for stage in listed] == ["windows", "hard negatives", "hard negatives 2"]
    net = hog_svm(1, **VALUES)
    listed[0].run(net, Bench(tmp_path))
    assert torch.equal(net.machine.weight, first.machine.weight)
    listed[1].run(net, Bench(tmp_path))
    x, k = read_windows(tmp_path / "hard-negatives-1.npz")
    margins = x @ first.machine.weight[0].detach().numpy() + float(first.machine.bias[0])
    assert 0 < len(x) <= 25 and set(k) == {0} and bool((margins > -1.001).all())
    after = x @ net.machine.weight[0].detach().numpy() + float(net.machine.bias[0])
    assert after.mean() < margins.mean()
    again = hog_svm(1, **VALUES)
    again.load_state_dict(net.state_dict())
    for one in (net, again):  # the third stage needs the weights and the files, nothing else
        listed[2].run(one, Bench(tmp_path))
    assert torch.equal(net.machine.weight, again.machine.weight)


def test_the_machine_separates_and_is_as_wide_as_it_can() -> None:
    x = np.array([[2.0, 0.3], [2.0, -0.3], [0.0, 0.3], [0.0, -0.3]])
    weights, bias = machine(x, np.array([1, 1, -1, -1]), c=1e4)
    assert weights == pytest.approx([1.0, 0.0], abs=1e-2) and bias == pytest.approx(-1.0, abs=1e-2)
    heavy, _ = machine(x, np.array([1, 1, -1, -1]), c=1e4, lower=np.array([2.0, -np.inf]))
    assert heavy[0] >= 2.0


def test_what_cannot_be_learned_is_refused(rings: DataSet, tmp_path: Path) -> None:
    nothing = DataSet(rings.root, "made", (ObjectRecord("0", rings.records[0].image, ()),), ("ring",))
    with pytest.raises(SightlineError, match="both are needed"):
        learned(nothing, tmp_path)
    with pytest.raises(UsageError, match="multiples of 8"):
        hog_svm(1, window=(30, 32))
    with pytest.raises(UsageError, match="negatives=0"):
        stages(rings, preprocess=Preprocess(), seed=0, negatives=0)
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(SightlineError, match=r"torn\.npz: the windows"):
        read_windows(tmp_path / "torn.npz")


def test_the_window_follows_the_objects(rings: DataSet) -> None:
    tall = tuple(
        replace(r, labels=tuple(Thing(0, (10, 5 + i, 30, 45 + i + 5 * i)) for i in range(3))) for r in rings.records[:3]
    )
    looked = stats(replace(rings, records=tall), seed=0)
    assert looked.shapes == tuple(sorted([2.0, 2.25, 2.5] * 3))
    machine_here = Machine()
    for name, values, expected in (
        ("hog_svm", {"window": (128, 64), "context": 0.8}, {"model.window": [56, 24]}),
        ("deformable_parts", {"windows": ((14, 5),), "part": 6}, {"model.windows": [[5, 3]]}),
    ):
        chosen = plan(looked, values, machine_here)
        found = {k: c.value for k, c in chosen.items() if k.startswith("model.window")}
        assert found == expected, name
        assert "height / width 2.25" in next(c.reason for k, c in chosen.items() if k in expected)
