"""Deformable parts: margins are products, mirrors agree, parts lie where roots are strong, faces are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, ObjectRecord, Picture, Thing
from sightline.detection.models.deformable_parts import DeformableParts, Level, deformable_parts, mirrored
from sightline.detection.models.deformable_parts_stages import (
    Learned,
    blocks,
    component,
    features,
    length,
    numbers,
    stages,
    strong_places,
    warped_cells,
)
from sightline.detection.models.hog_svm import read_windows
from sightline.detection.targets import Samples
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.ops.boxes import iou

VALUES: dict[str, Any] = {"windows": ((4, 4),), "parts": 2, "part": 3, "interval": 2, "score": 0.1}


def random_net(**values: Any) -> DeformableParts:
    net = deformable_parts(2, **{**VALUES, "windows": ((4, 3), (3, 4)), **values})
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
        net.costs.copy_(torch.tensor([0.2, 0.05, 0.1, -0.03]) * (1 + torch.rand(net.costs.shape, generator=random)))
        net.anchors.copy_(torch.randint(0, 3, net.anchors.shape, generator=random).float())
    return net.eval()


def noise(seed: int = 0, size: tuple[int, int] = (64, 72)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def member(net: DeformableParts, m: int) -> list[int]:
    """Places of one component's numbers in a vector of features."""
    filters, costs, constant = blocks(net)[m]
    return [*range(filters.start, filters.stop), *range(costs.start, costs.stop), constant]


def test_a_margin_is_the_product_of_weights_and_features() -> None:
    net = random_net()
    with torch.no_grad():
        level = next(iter(net.levels(noise())))
        for m in range(2):
            found = net.respond(level, m)
            assert found is not None
            for k in range(2):
                vector = np.where(np.isin(np.arange(length(net)), member(net, m)), numbers(net, k), 0)
                for place in ((0, 0, 0), (1, 2, 3), (0, 3, 1), (1, 4, 4)):
                    seen = features(net, level, found, k, m, place)
                    assert float(found.margins[k, place[0], place[1], place[2]]) == pytest.approx(
                        float(vector @ seen), abs=1e-4
                    )


def test_a_mirrored_picture_gets_mirrored_margins() -> None:
    net = random_net()
    root, parts = torch.rand(32, 9, 8), torch.rand(32, 18, 16)
    with torch.no_grad():
        here, there = (Level(a, b, (1.0, 1.0), (1, 1)) for a, b in ((root, parts), (mirrored(root), mirrored(parts))))
        for m in range(2):
            one, other = net.respond(here, m), net.respond(there, m)
            assert one is not None and other is not None
            assert torch.allclose(one.margins.flip(-1).flip(1), other.margins, atol=1e-4)


def test_filters_mirrored_twice_are_themselves() -> None:
    filters = torch.randn(2, 32, 3, 4)
    assert torch.equal(mirrored(mirrored(filters)), filters) and not torch.equal(mirrored(filters), filters)


def test_cells_of_parts_lie_on_those_of_the_root() -> None:
    """An edge in the picture is at twice the place in the map of parts."""
    image = np.zeros((96, 96, 3), np.uint8)
    image[44:52, 60:68] = 255
    level = next(iter(random_net(interval=1).levels(image)))
    root, parts = (x[:31].pow(2).sum(0) for x in (level.root, level.parts))
    centre = [
        float((m.sum(1 - axis) * (torch.arange(m.shape[axis]) + 0.5)).sum() / m.sum())
        for m in (root, parts)
        for axis in (0, 1)
    ]
    assert centre[2] == pytest.approx(2 * centre[0], abs=0.6) and centre[3] == pytest.approx(2 * centre[1], abs=0.6)
    assert level.parts.shape[1:] == (2 * level.root.shape[1], 2 * level.root.shape[2])


def test_boxes_of_places() -> None:
    level = next(iter(random_net(interval=1).levels(np.zeros((96, 80, 3), np.uint8))))
    above, beside = level.padding
    found = level.boxes(np.array([above, above + 1]), np.array([beside, beside - 1]), (4, 3))
    assert found.tolist() == [[8, 8, 32, 40], [0, 16, 24, 48]]


def test_parts_lie_where_the_root_is_strong() -> None:
    root = torch.zeros(32, 4, 4)
    root[3, 0, 0], root[5, 3, 3], root[6, 1, 3] = 3.0, 2.0, -9.0  # what speaks against an object is no part
    anchors, filters = strong_places(root, 2, 3)
    assert anchors.tolist()[0][0] <= 1 and anchors.tolist()[0][1] <= 1
    assert min(anchors.tolist()[1]) >= 4 and filters.shape == (2, 32, 3, 3)
    assert int(filters[0].flatten(1).amax(1).argmax()) == 3 and int(filters[1].flatten(1).amax(1).argmax()) == 5


def test_a_box_learns_in_the_component_of_its_shape() -> None:
    windows = ((14, 5), (6, 6))
    assert component(windows, np.array([0.0, 0, 20, 50])) == 0 and component(windows, np.array([0.0, 0, 30, 33])) == 1
    assert warped_cells(noise(), np.array([-8.0, 10, 30, 90]), (5, 3)).shape == (5, 3, 32)


# Stages ----------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The tools of a stage."""

    folder: Path

    def progress(self, done: int, total: int, numbers: Any = None) -> None:
        assert 0 <= done <= total

    def learn(self, *_: Any, **__: Any) -> None:
        raise AssertionError("this system uses no loop")


def face(seed: int, size: int = 80) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A ring with two dots that are never quite where they should be, among bars."""
    random = np.random.default_rng(seed)
    image = random.integers(60, 80, (size, size)).astype(np.float64)
    for _ in range(3):
        x, y = random.integers(0, size - 24, 2)
        image[y : y + 4, x : x + 24] = 220
    left, top = random.integers(2, size - 34, 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    far = np.hypot(rows - top - 16, columns - left - 16)
    image[far < 16] = 70
    image[(far < 16) & (far > 13)] = 220
    for side in (10, 22):
        y, x = top + 14 + int(random.integers(-3, 4)), left + side + int(random.integers(-2, 3))
        image[y - 3 : y + 3, x - 3 : x + 3] = 220
    return image.astype(np.uint8)[..., None].repeat(3, 2), (left, top, left + 32, top + 32)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root, records = tmp_path_factory.mktemp("faces"), []
    for i in range(8):
        image, box = face(i)
        write_image(root / f"{i}.png", image)
        records.append(ObjectRecord(str(i), Picture(root / f"{i}.png"), (Thing(0, box),), split="train"))
    return DataSet(root, "made", tuple(records), ("face",))


@pytest.fixture(scope="module")
def learned(faces: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], DeformableParts, Path]:
    """The weights behind each stage, and the network."""
    folder, states = tmp_path_factory.mktemp("stages"), []
    net = deformable_parts(1, **VALUES)
    for stage in stages(faces, preprocess=Preprocess(), seed=0, rounds=2, hard=5, c=0.05):
        stage.run(net, Bench(folder))
        states.append({k: v.clone() for k, v in net.state_dict().items()})
    return states, net.eval(), folder


def test_faces_are_found(learned: Any) -> None:
    _, net, _ = learned
    good = 0
    for seed in range(50, 56):
        image, box = face(seed)
        found = net.decode(net(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255))[0]
        good += int(len(found) and float(iou(found.boxes[:1], torch.tensor([box]))) > 0.5)
    assert good >= 5


def test_each_stage_adds_to_the_one_before(learned: Any) -> None:
    (roots, parts, first, second), _, folder = learned
    assert roots["roots.0"].any() and not roots["parts"].any()
    assert parts["parts"].any() and parts["anchors"].any() and torch.equal(parts["roots.0"], roots["roots.0"] / 2)
    for state in (first, second):
        assert torch.equal(state["anchors"], parts["anchors"])
        assert float(state["costs"][..., 0::2].min()) >= 0.01 - 1e-6
    assert not torch.equal(first["parts"], parts["parts"])
    x, k = read_windows(folder / "latent-1.npz")
    assert 0 < len(x) <= 80 and set(k) == {0}


def test_a_resume_needs_the_weights_and_the_files(faces: DataSet, learned: Any, tmp_path: Path) -> None:
    states, _, folder = learned
    (tmp_path / "latent-1.npz").write_bytes((folder / "latent-1.npz").read_bytes())
    net = deformable_parts(1, **VALUES)
    net.load_state_dict(states[2])
    listed = stages(faces, preprocess=Preprocess(), seed=0, rounds=2, hard=5, c=0.05)
    assert [stage.name for stage in listed] == ["roots", "parts", "latent 1", "latent 2"]
    listed[3].run(net, Bench(tmp_path))
    assert all(torch.equal(v, states[3][k]) for k, v in net.state_dict().items())


def test_true_objects_are_seen_where_they_are(faces: DataSet, learned: Any) -> None:
    _, net, _ = learned
    how = Learned(Samples(faces, preprocess=Preprocess(), seed=0), 0, 1, 5, 0.6, 0.05)
    with torch.no_grad():
        image, objects, _, _ = next(how.pictures())
        levels = [(level, [net.respond(level, 0)]) for level in net.levels(image)]
        right, none = how.seen(net, levels, 0, objects), how.seen(net, levels, 0, np.array([[0.0, 0, 4, 4]]))
        wrong = how.fooled(net, levels, 0, objects)
    assert len(right) == 1 and none == [] and len(wrong) <= 10
    vector = numbers(net, 0)
    assert float(right[0] @ vector) > max((float(x @ vector) for x in wrong), default=-1)


def test_what_cannot_be_is_refused(faces: DataSet, tmp_path: Path) -> None:
    nothing = DataSet(faces.root, "made", (ObjectRecord("0", faces.records[0].image, ()),), ("face",))
    with pytest.raises(SightlineError, match="no object of class 0"):
        stages(nothing, preprocess=Preprocess(), seed=0)[0].run(deformable_parts(1, **VALUES), Bench(tmp_path))
    with pytest.raises(UsageError, match="overlap=2"):
        stages(faces, preprocess=Preprocess(), seed=0, overlap=2.0)
    with pytest.raises(UsageError, match="half a part"):
        deformable_parts(1, windows=((2, 2),), part=6)
