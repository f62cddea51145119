"""ResUNet: the paper's table of layers, its count, and a unit written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sightline.errors import UsageError
from sightline.segmentation.models.resunet import Unit, resunet


def test_layers_are_those_of_the_papers_table() -> None:
    net = resunet(width=64).eval()
    kernels = [p for p in net.parameters() if p.ndim == 4 and p.shape[-1] == 3]
    assert len(kernels) == 14 and sum(p.numel() for p in kernels) == 7_780_032  # the paper's 7.8 M
    strides = [unit.convs[0 if i == 0 else 2].stride[0] for i, unit in enumerate(net.down)]
    assert strides == [1, 2, 2, 2]  # no pooling

    thin, sizes = resunet(width=2).eval(), []
    for unit in (*thin.down, *thin.up):
        unit.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert thin(torch.rand(1, 3, 224, 224)).logits.shape == (1, 1, 224, 224)
    assert sizes == [(2, 224, 224), (4, 112, 112), (8, 56, 56), (16, 28, 28), (8, 56, 56), (4, 112, 112), (2, 224, 224)]


def test_a_unit_written_down() -> None:
    torch.manual_seed(0)
    unit, x = Unit(2, 3, stride=2).eval(), torch.randn(1, 2, 5, 6)
    norm = (1 + 1e-5) ** 0.5
    with torch.no_grad():
        y = F.conv2d(F.relu(x / norm), unit.convs[2].weight, stride=2, padding=1)
        y = F.conv2d(F.relu(y / norm), unit.convs[5].weight, padding=1)
        assert unit.beside is not None
        assert torch.allclose(unit(x), y + F.conv2d(x, unit.beside.weight, stride=2), atol=1e-6)
    assert Unit(3, 3).beside is None


def test_a_depth_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="two levels or more"):
        resunet(depth=1)
