"""`optimize`: the twin answers as the network does, the words say what was done, and the proof is real."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.segmentation.contract import Scores
from sightline.verbs.load import load
from sightline.verbs.models import create
from sightline.verbs.optimize import largest_difference, optimize, ready


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_the_twin_of_a_trained_network(tiny_run: Path) -> None:
    net, _ = load(tiny_run)
    example = torch.rand(2, 3, 40, 48)
    found = optimize(net, example, repeats=1)
    assert norms(net) > 0
    assert norms(found.net) == 0
    a, b = net(example).logits.double(), found.net(example).logits.double()
    slow = max(abs(x - y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist())) / a.abs().max().item()
    assert found.difference == pytest.approx(slow, rel=1e-3)
    assert 0 < found.difference <= 1e-4
    assert found.ratio is not None
    assert found.ratio > 0
    assert f"{norms(net)} batch norms folded, channels-last; largest difference" in found.words
    assert "times as fast on (2, 3, 40, 48)" in found.words
    assert not any(p.requires_grad for p in found.net.parameters())
    assert all(p.requires_grad for p in net.parameters())


def test_what_only_learning_needs_is_left_out() -> None:
    torch.manual_seed(0)
    net = create("fcn_torchvision_r50", num_classes=3, depths=(1, 1, 1, 1), width=8)
    example = torch.rand(1, 3, 32, 32)
    assert net.eval()(example).aux
    found = optimize(net, example, repeats=0)
    assert not found.net(example).aux
    assert net(example).aux
    assert found.ratio is None
    torch.testing.assert_close(found.net(example).logits, net(example).logits, rtol=1e-4, atol=1e-4)


def test_bf16_computes_in_bf16_and_keeps_the_contract(tiny_run: Path) -> None:
    net, _ = load(tiny_run)
    example = torch.rand(1, 3, 32, 32)
    found = optimize(net, example, bf16=True, repeats=0)
    assert 1e-4 < found.difference < 3e-2
    assert ", bf16;" in found.words
    out = found.net(example)
    assert isinstance(out, Scores)


def test_an_unpadded_twin_keeps_its_rules() -> None:
    torch.manual_seed(0)
    net = create("unet_valid", width=2, depth=2)
    size = net.legal_size(20)
    found = optimize(net, torch.rand(1, 1, size, size), bf16=True, repeats=0)
    assert found.net.margin == net.margin
    assert found.net.legal_size(20) == size


class Strange(nn.Module):
    """A network whose twin cannot be its equal: it looks at how its batch norm is made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor, *, sizes: object = None, targets: object = None) -> Scores:
        y = self.norm(self.conv(images))
        return Scores(y if isinstance(self.norm, nn.BatchNorm2d) else 1.01 * y)


def test_predict_and_evaluate_take_the_twin_only_when_it_is_equal(tiny_run: Path) -> None:
    net, card = load(tiny_run)
    twin, words = ready(net, card.preprocess.channels)
    assert norms(twin) == 0
    assert words.startswith("optimized for inference: ")
    strange = Strange()
    same, words = ready(strange, 3)
    assert same is strange
    assert words.startswith("not optimized: the twin would differ by 1.0e-02")


def test_the_difference_is_relative_to_the_largest_value() -> None:
    one, other = Scores(torch.tensor([0.0, -8.0, 4.0])), Scores(torch.tensor([0.0, -8.0, 5.0]))
    assert largest_difference(one, other) == pytest.approx(1 / 8)
    assert largest_difference(one, one) == 0.0
    broken = Scores(torch.tensor([0.0, float("nan"), 4.0]))
    assert not largest_difference(one, broken) <= 1e-4
