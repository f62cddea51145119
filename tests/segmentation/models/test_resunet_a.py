"""ResUNet-a: what it learns from, the pyramid of maxima, who reads whom, sizes the original refuses."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sightline.ops.colour import rgb_to_hsv
from sightline.segmentation.contract import IGNORE, Target
from sightline.segmentation.losses import Criterion
from sightline.segmentation.models.resunet_a import (
    boundaries,
    distances,
    field_maxima,
    one_hot,
    resunet_a,
    resunet_a_d6,
    resunet_a_d7,
    spread,
)
from sightline.verbs.load import load_weights
from sightline.verbs.optimize import without_learning_parts


def picture(words: str) -> torch.Tensor:
    """Labels drawn as rows of digits; `.` is ignored."""
    rows = [[IGNORE if c == "." else int(c) for c in row] for row in words.split()]
    return torch.tensor(rows)[None]


def test_boundaries_by_hand() -> None:
    truth, valid = one_hot(picture("000000 000000 001100 001100 000000 000000"), 2)
    found = boundaries(truth, valid)
    assert found[0, 1].int().tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert int(found[0, 0, 0, 0]) == 0 and int(found[0, 0, 1, 2]) == 1  # the tile's corner is no edge


def test_ignored_pixels_make_no_edge_and_no_distance() -> None:
    truth, valid = one_hot(picture("00.11 00.11 00.11"), 2)
    assert not (boundaries(truth, valid) * valid).any()
    whole = distances(*one_hot(picture("0000 0000"), 2))
    assert torch.equal(whole[0], torch.stack([torch.ones(2, 4), torch.zeros(2, 4)]))


def test_distances_against_every_pair_of_pixels() -> None:
    labels = torch.randint(0, 3, (2, 7, 9), generator=torch.Generator().manual_seed(0))
    labels[0, :2, :3] = IGNORE
    truth, valid = one_hot(labels, 3)
    found = distances(truth, valid)
    for b in range(2):
        for k in range(3):
            others = ((labels[b] != k) & (labels[b] != IGNORE)).nonzero().tolist()
            expected = torch.zeros(7, 9)
            for y, x in (labels[b] == k).nonzero().tolist():
                expected[y, x] = min(math.dist((y, x), other) for other in others)
            assert torch.allclose(found[b, k], expected / expected.max(), atol=1e-6)


def test_colours_are_those_of_colorsys() -> None:
    rgb = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    rgb[0, :, 0] = torch.tensor([[0.0, 1.0, 0.5, 1.0, 0.0], [0.0, 1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.5, 0.0, 1.0]])
    found = rgb_to_hsv(rgb)
    for y in range(5):
        for x in range(5):
            assert found[0, :, y, x].tolist() == pytest.approx(colorsys.rgb_to_hsv(*rgb[0, :, y, x].tolist()), abs=1e-6)


@pytest.mark.parametrize("size", [(16, 24), (13, 9), (3, 17)])
def test_fields_of_the_pyramid_against_each_field(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    for fields in (1, 2, 4, 8):
        tall, wide = (-(-n // fields) for n in size)
        found = spread(field_maxima(x, fields), size)
        for y in range(size[0]):
            for z in range(size[1]):
                top, left = y // tall * tall, z // wide * wide
                assert torch.equal(found[..., y, z], x[..., top : top + tall, left : left + wide].amax((2, 3)))


def test_any_size_is_padded_and_cropped() -> None:
    net, images = resunet_a(3, width=4, mean=None).eval(), torch.rand(1, 3, 33, 50)
    with torch.no_grad():
        found, whole = net(images), net(F.pad(images, (0, 14, 0, 31)))
    for name in ("logits", "boundary", "distance"):
        assert torch.equal(getattr(found, name), getattr(whole, name)[..., :33, :50])
    assert found.hsv is not None and found.hsv.shape == (1, 3, 33, 50)


def test_the_heads_read_what_was_found_before_them() -> None:
    net, images = resunet_a_d6(3, width=4).eval(), torch.rand(1, 5, 32, 32)
    with torch.no_grad():
        before = net(images)
        net.boundary[-1].bias[1] += 4
        edges = net(images)
        net.distance[-1].bias[0] += 4
        deeper = net(images)
    assert torch.equal(before.distance, edges.distance) and torch.equal(before.colour, edges.colour)
    assert not torch.equal(before.logits, edges.logits)
    assert not torch.equal(edges.boundary, deeper.boundary) and not torch.equal(edges.logits, deeper.logits)


def test_four_named_losses_and_the_runs_own_for_the_segmentation() -> None:
    net, images = resunet_a(3, width=4).train(), torch.rand(2, 3, 32, 40)
    target = Target(torch.randint(0, 3, (2, 32, 40)))
    assert set(net.losses(net(images), target)) == {"tanimoto", "boundary", "distance", "colour"}
    net.criterion = Criterion({"ce": 1.0, "dice": 1.0})
    assert set(net.losses(net(images), target)) == {"ce", "dice", "boundary", "distance", "colour"}
    lean: Any = without_learning_parts(net.eval())
    out = lean(images)
    assert out.colour is None and out.hsv is None and out.boundary is not None


def test_the_losses_vanish_for_the_very_targets() -> None:
    net = resunet_a(2, width=4).eval()
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 8:20, 10:24] = 1
    truth, valid = one_hot(labels, 2)
    with torch.no_grad():
        out = net(torch.rand(1, 3, 32, 32))
    ideal = {
        "logits": 200 * truth,
        "boundary": 200 * (boundaries(truth, valid) - 0.5),
        "colour": torch.logit(out.hsv.clamp(1e-6, 1 - 1e-6)),
    }
    found = net.losses(type(out)(**{**vars(out), **ideal}), Target(labels))
    assert all(float(found[name]) < 1e-3 for name in ("tanimoto", "boundary", "colour"))
    assert float(found["distance"]) > 0.01  # a softmax over classes cannot be all distances at once


def test_levels_and_another_class_count() -> None:
    assert len(resunet_a_d6(2, width=2).down) == 6 and len(resunet_a_d7(2, width=2).middle.levels) == 3
    report = load_weights(resunet_a_d6(2, width=4), resunet_a_d6(6, width=4).state_dict())
    heads = {"segmentation.0", "segmentation.2", "boundary.0", "boundary.1", "distance.2"}
    assert {".".join(name.split(".")[:2]) for name in report.reinitialised} == heads
