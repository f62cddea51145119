"""The recurrent network: the paper's fields and counts, one patch by hand, and the ways that must agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UsageError
from sightline.nn.patches import Way
from sightline.ops.resize import pad
from sightline.segmentation.contract import Target
from sightline.segmentation.models.pinheiro_rcnn import RecurrentCNN, pinheiro_rcnn


def tiny(way: Way = "dilated", instances: int = 2, **values: str) -> RecurrentCNN:
    torch.manual_seed(0)
    return pinheiro_rcnn(
        num_classes=3, widths=(4, 5), kernel=4, instances=instances, way=way, mean=None, **values
    ).eval()  # type: ignore[arg-type]


def test_fields_and_counts_are_those_of_the_paper() -> None:
    assert [pinheiro_rcnn(instances=n).field for n in (1, 2, 3)] == [23, 67, 155]
    first, second, last = (3 + 8) * 25 * 64 + 25, 25 * 50 * 64 + 50, 50 * 8 + 8
    for instances in (1, 2, 3):  # more turns, the same weights
        net = pinheiro_rcnn(instances=instances)
        assert sum(p.numel() for p in net.parameters()) == first + second + last == 98_083


def test_two_turns_by_hand() -> None:
    net = tiny()
    once = 11  # kernel 4: 4 + 1 + 2 * 3
    field = 1 + (once - 1) * 3
    assert (net.once, net.field, net.stride) == (once, field, 4)
    patch = torch.rand(1, 3, field, field)
    scores = torch.zeros(1, 3, once, once)
    for i in range(once):  # the first turn reads zeros where its own scores will stand
        for j in range(once):
            part = patch[..., 2 * i : 2 * i + once, 2 * j : 2 * j + once]
            scores[..., i, j] = net.network(torch.cat([part, torch.zeros(1, 3, once, once)], 1))[..., 0, 0]
    middles = patch[..., once // 2 : once // 2 + 2 * once : 2, once // 2 : once // 2 + 2 * once : 2]
    expected = net.network(torch.cat([middles, scores], 1))
    found = net.turns(patch)
    assert torch.allclose(found[0], scores, atol=1e-6) and torch.allclose(found[1], expected, atol=1e-6)
    assert expected.shape == (1, 3, 1, 1)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("instances", [1, 2, 3])
def test_every_pixel_has_the_answer_of_its_own_patch(instances: int, padding: str) -> None:
    images = torch.rand(1, 3, 9, 14)
    found: dict[str, Tensor] = {}
    for way in ("patches", "stitch", "dilated", "strided"):
        with torch.no_grad():
            out = tiny(way, instances, padding=padding)(images)
        assert len(out.aux) == instances - 1
        found[way] = torch.cat([out.logits, *out.aux])
    assert torch.allclose(found["stitch"], found["patches"], rtol=0, atol=1e-6)
    assert torch.allclose(found["dilated"], found["patches"], rtol=0, atol=1e-6)
    step = 2**instances
    assert torch.allclose(
        found["strided"][..., ::step, ::step], found["dilated"][..., ::step, ::step], rtol=0, atol=1e-6
    )


def test_one_patch_around_a_pixel() -> None:
    net, images = tiny(), torch.rand(1, 3, 12, 13)
    around = net.field // 2
    patch = pad(images, (around,) * 4)[..., 5 : 5 + net.field, 7 : 7 + net.field]
    with torch.no_grad():
        assert torch.allclose(net(images).logits[..., 5, 7], net.turns(patch)[-1][..., 0, 0], atol=1e-6)


def test_scores_between_places_are_interpolated() -> None:
    with torch.no_grad():
        logits = tiny("strided")(torch.rand(1, 3, 17, 21)).logits
    places = logits[..., ::4, ::4]
    assert torch.allclose(logits, F.interpolate(places, (17, 21), mode="bilinear", align_corners=True), atol=1e-5)


def test_every_turn_learns() -> None:
    net = tiny("dilated", 3).train()
    images, target = torch.rand(2, 3, 16, 20), Target(torch.randint(0, 3, (2, 16, 20)))
    losses = net.losses(net(images), target)
    assert set(losses) == {"ce", "aux_ce"}
    assert len(net(images).aux) == 2
    with torch.no_grad():
        interpolated = tiny("strided", 3)(images)
        assert torch.allclose(net(images).aux[0], interpolated.aux[0])
        plain = [F.cross_entropy(logits, target.labels) for logits in (interpolated.logits, *interpolated.aux)]
    assert float((losses["ce"] + losses["aux_ce"]).detach()) == pytest.approx(
        float(sum(plain)), rel=1e-5
    )  # each as much


def test_wrong_values() -> None:
    with pytest.raises(UsageError, match="an odd field"):
        pinheiro_rcnn(kernel=7)
    with pytest.raises(UsageError, match="1 or more"):
        pinheiro_rcnn(instances=0)
    with pytest.raises(UsageError, match="Did you mean 'dilated'"):
        tiny("dilate")(torch.rand(1, 3, 8, 8))  # type: ignore[arg-type]
