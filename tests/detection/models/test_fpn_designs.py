"""What each design of a pyramid knows of which map, and that detectors with them learn and answer."""

from __future__ import annotations

import pytest
import torch

from sightline.detection.catalog import MODELS
from sightline.detection.contract import Target
from sightline.errors import UsageError
from sightline.nn.fpn import FPN
from sightline.verbs.models import create

REACH = {  # which of three maps, fine to coarse, each level hears of
    "pyramid": [(0, 1, 2), (1, 2), (2,)],
    "bottom_up": [(0,), (1,), (2,)],
    "top_down": [(2,), (2,), (2,)],
    "finest": [(0, 1, 2)],
}


@pytest.mark.parametrize("design", list(REACH))
def test_levels_hear_of_these_maps(design: str) -> None:
    torch.manual_seed(0)
    fpn = FPN([3, 4, 5], 6, strides=(4, 8, 16), design=design)  # pyright: ignore[reportArgumentType]
    maps = [torch.randn(1, n, 16 // 2**i, 24 // 2**i) for i, n in enumerate((3, 4, 5))]
    levels = fpn(maps)
    assert fpn.strides == (4, 8, 16)[: len(levels)] and [x.shape[-1] for x in levels] == [24, 12, 6][: len(levels)]
    for place in range(3):
        changed = [x + 1 if i == place else x for i, x in enumerate(maps)]
        heard = [not torch.equal(a, b) for a, b in zip(levels, fpn(changed))]
        assert heard == [place in reach for reach in REACH[design]]


@pytest.mark.parametrize("design", ["top_down", "finest"])
def test_detectors_of_every_design_learn_and_answer(design: str) -> None:
    torch.manual_seed(0)
    net = create("faster_rcnn_fpn_designs", **MODELS["faster_rcnn_fpn_designs"].tiny, num_classes=2, design=design)
    target = Target(torch.tensor([[[4.0, 6, 40, 50]]]), torch.tensor([[1]]))
    losses = net.losses(net(torch.rand(1, 3, 64, 96), targets=target), target)
    sum(losses.values()).backward()
    assert not [key for key, p in net.named_parameters() if p.grad is None]
    assert net.eval()(torch.rand(1, 3, 64, 96)).found.boxes.shape == (1, 20, 4)


def test_an_unknown_design_is_refused() -> None:
    with pytest.raises(UsageError, match="choose from pyramid, bottom_up"):
        create("faster_rcnn_fpn_designs", design="image_pyramid")
