"""DDRNet: from a camera's pixels to voxels, the projection, and what the room's suite asks, on its own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.contract import IGNORE, Scores, Target
from sightline.segmentation.models.ddrnet_ssc import DDRNet, ddrnet_ssc, positions, project
from sightline.verbs.export import export
from sightline.verbs.load import load_weights, save_weights
from sightline.weights.card import Card

GRID = (24, 16, 20)
TINY: dict[str, Any] = {"grid": GRID, "width": 32, "num_classes": 3}


def scene(batch: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 12, 14, generator=random)
    depth = torch.rand(batch, 1, 12, 14, generator=random) * 4
    position = torch.randint(-1, 24 * 16 * 20, (batch, 12 * 14), generator=random)
    return images, {"depth": depth, "position": position}


def test_a_pixel_falls_into_the_voxel_that_its_depth_points_at() -> None:
    depth = torch.tensor([[[1.0, 2.0], [0.0, 9.0]]])
    intrinsics = torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([2.0, 1.5, 0.0])
    found = positions(depth, intrinsics, pose, voxel=0.5, grid=(8, 6, 10))
    # pixel (0, 0): ((0 - 1) / 2, (0 - 1) / 2, 1) m, in the grid (1.5, 1.0, 1.0) m -> voxel (3, 2, 2)
    # pixel (x 1, y 0): (0, -1, 2) m, in the grid (2, 0.5, 2) m -> voxel (4, 1, 4); no depth; 9 m is outside
    assert found.tolist() == [[(3 * 6 + 2) * 10 + 2, (4 * 6 + 1) * 10 + 4, -1, -1]]


def test_the_projection_against_a_loop() -> None:
    features = torch.randn(2, 3, 2, 4)
    position = torch.tensor([[0, 5, 5, -1, 23, 5, 0, 7], [1, 1, 1, 1, 2, -1, -1, 3]])
    found = project(features, position, (2, 3, 4))
    expected = torch.zeros(2, 3, 4, 3, 2)  # (d, h, w)
    for b in range(2):
        for p, place in enumerate(position[b].tolist()):
            if place >= 0:
                w, h, d = place // 12, place // 4 % 3, place % 4
                for c in range(3):
                    value = float(features[b, c, p // 4, p % 4])
                    expected[b, c, d, h, w] = max(float(expected[b, c, d, h, w]), value)
    assert torch.equal(found, expected)


def test_one_answer_a_voxel_of_the_coarse_grid() -> None:
    net, (images, inputs) = ddrnet_ssc(**TINY).eval(), scene()
    with torch.no_grad():
        out = net(images, **inputs)
        one = net(images[1:], **{k: v[1:] for k, v in inputs.items()})
    assert isinstance(out, Scores) and tuple(out.logits.shape) == (2, 3, 5, 4, 6)
    assert torch.allclose(out.logits[1:], one.logits, atol=1e-5)
    assert tuple(net.decode(out)[0].labels.shape) == (5, 4, 6)
    with pytest.raises(UsageError, match="that 4 divides"):
        ddrnet_ssc(grid=(10, 12, 12))


def taught() -> tuple[DDRNet, Tensor, dict[str, Tensor], Target]:
    """A network (of other seeds some streams begin dead: plain ReLU, no norm), two scenes and their labels."""
    torch.manual_seed(5)
    net, (images, inputs) = ddrnet_ssc(**TINY).train(), scene()
    labels = torch.zeros(2, 5, 4, 6, dtype=torch.long)
    labels[0, :, 3], labels[1, 2:4, 1:3, 2:5], labels[:, 0] = 1, 2, IGNORE
    return net, images, inputs, Target(labels)


def test_every_parameter_learns() -> None:
    net, images, inputs, target = taught()
    torch.stack(list(net.losses(net(images, **inputs), target).values())).sum().backward()
    assert not [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.slow
def test_learns_two_scenes_by_heart() -> None:
    net, images, inputs, target = taught()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(100):
        optimiser.zero_grad()
        loss = torch.stack(list(net.losses(net(images, **inputs), target).values())).sum()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.4 * first


def test_weights_go_out_and_come_back(tmp_path: Any) -> None:
    torch.manual_seed(1)
    net, (images, inputs) = ddrnet_ssc(**TINY).eval(), scene()
    path = save_weights(net, tmp_path / "ssc.pth", layout="ssc")
    other = ddrnet_ssc(**TINY).eval()
    report = load_weights(other, path)
    assert report.origin == "ssc" and not report.missing and not report.unexpected
    with torch.no_grad():
        assert torch.equal(net(images, **inputs).logits, other(images, **inputs).logits)


@pytest.mark.slow
def test_exports_with_any_batch_and_picture() -> None:
    net, (images, inputs) = ddrnet_ssc(**TINY).eval(), scene()
    dynamic = torch.export.Dim.DYNAMIC

    class Flat(torch.nn.Module):
        def __init__(self, net: DDRNet) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor, depth: Tensor, position: Tensor) -> Tensor:
            return self.net(images, depth=depth, position=position).logits

    shapes = ({0: dynamic}, {0: dynamic}, {0: dynamic})
    program = torch.export.export(Flat(net), (images, *inputs.values()), dynamic_shapes=shapes)
    more, extra = scene(3)
    with torch.no_grad():
        assert torch.allclose(program.module()(more, *extra.values()), net(more, **extra).logits, atol=1e-5)


def test_an_exported_file_cannot_be_given_depth(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads depth and position beside the picture"):
        export((ddrnet_ssc(**TINY).eval(), Card(model="ddrnet_ssc", task="segmentation")), tmp_path / "net.pt2")
