"""RoIAlign and RoIPool against torchvision's kernels and a hand-made case; gradients; fixed shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sightline.ops.roi import roi_align, roi_pool


def scene(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 5, 13, 17, generator=random)
    corner = torch.rand(24, 2, generator=random) * 220 - 10
    boxes = torch.cat([corner, corner + torch.rand(24, 2, generator=random) * 150], -1)
    boxes[0] = torch.tensor([30.0, 30, 30, 30])
    boxes[1] = torch.tensor([900.0, 900, 950, 980])
    boxes[2] = torch.tensor([16.0, 32, 48, 64])
    return maps, boxes, torch.randint(0, 2, (24,), generator=random)


def listed(boxes: Tensor, pictures: Tensor) -> Tensor:
    return torch.cat([pictures[:, None].float(), boxes], dim=-1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_align_is_torchvisions(aligned: bool, ratio: int) -> None:
    from torchvision import ops

    maps, boxes, pictures = scene()
    ours = roi_align([maps], boxes, pictures, (7, 5), scales=[1 / 16], ratio=ratio, aligned=aligned)
    theirs = ops.roi_align(maps, listed(boxes, pictures), (7, 5), 1 / 16, ratio, aligned)
    assert torch.allclose(ours, theirs, atol=2e-6)


def test_align_has_torchvisions_gradient_and_one_call_does_all_levels() -> None:
    from torchvision import ops

    fine, boxes, pictures = scene()
    coarse = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(9))
    levels = torch.arange(24) % 2
    weight = torch.randn(24, 5, 7, 7, generator=torch.Generator().manual_seed(8))
    maps = [fine.clone().requires_grad_(), coarse.clone().requires_grad_()]
    ours = roi_align(maps, boxes, pictures, 7, scales=[1 / 16, 1 / 32], levels=levels, ratio=2, aligned=False)
    (ours * weight).sum().backward()
    others = [fine.clone().requires_grad_(), coarse.clone().requires_grad_()]
    for level, (x, scale) in enumerate(zip(others, (1 / 16, 1 / 32))):
        some = levels == level
        theirs = ops.roi_align(x, listed(boxes, pictures)[some], 7, scale, 2, False)
        assert torch.allclose(ours[some], theirs, atol=2e-6)
        (theirs * weight[some]).sum().backward()
    for a, b in zip(maps, others):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, atol=1e-5)


def test_align_of_a_ramp_is_the_ramp() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)  # value = column; aligned: pixel centres stand at halves
    found = roi_align([ramp], torch.tensor([[2.0, 2, 8, 8]]), torch.zeros(1).long(), 3, scales=[1.0])
    assert torch.allclose(found[0, 0], torch.tensor([2.5, 4.5, 6.5]).expand(3, 3))


def test_align_compiles_and_takes_no_box() -> None:
    maps, boxes, pictures = scene()

    def run(maps: Tensor, boxes: Tensor) -> Tensor:
        return roi_align([maps], boxes, pictures, 7, scales=[1 / 16], ratio=2, aligned=True)

    torch.compiler.reset()
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(maps, boxes), run(maps, boxes), atol=1e-6)
    none = roi_align([maps], boxes[:0], pictures[:0], 7, scales=[1 / 16])
    assert none.shape == (0, 5, 7, 7)


@pytest.mark.parametrize("size", [7, (2, 3)])
def test_pool_is_torchvisions(size: int | tuple[int, int]) -> None:
    from torchvision import ops

    maps, boxes, pictures = scene()
    mine, other = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    ours = roi_pool(mine, boxes, pictures, size, scale=1 / 16)
    theirs = ops.roi_pool(other, listed(boxes, pictures), size, 1 / 16)
    assert torch.equal(ours, theirs)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert mine.grad is not None and other.grad is not None and torch.allclose(mine.grad, other.grad, atol=1e-4)
