"""Shift-and-stitch against one patch around every pixel, and against the dilated network: the same numbers."""

import pytest
import torch
from torch import nn

from sightline.ops.resize import pad
from sightline.ops.stitch import shift_and_stitch


def lenet() -> nn.Sequential:
    """conv5-pool2-conv5-pool2-conv5: receptive field 32, stride 4."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(4, 3, 5)).double().eval()


def dilated(net: nn.Sequential) -> nn.Sequential:
    """The same network with every stride removed: later layers look further apart instead."""
    dense, step = [], 1
    for layer in net:
        if isinstance(layer, nn.MaxPool2d):
            dense.append(nn.MaxPool2d(2, stride=1, dilation=step))
            step *= 2
        elif isinstance(layer, nn.Conv2d):
            same = nn.Conv2d(layer.in_channels, layer.out_channels, 5, dilation=step).double()
            same.load_state_dict(layer.state_dict())
            dense.append(same)
        else:
            dense.append(layer)
    return nn.Sequential(*dense)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(11, 14), (3, 5), (1, 8)])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_every_pixel_gets_the_answer_of_its_own_patch(height: int, width: int, padding: str) -> None:
    net = lenet()
    x = torch.randn(1, 1, height, width, dtype=torch.float64)
    dense = shift_and_stitch(net, x, field=32, stride=4, padding=padding)
    assert dense.shape == (1, 3, height, width)
    padded = pad(x, (16, 15, 16, 15), padding)
    patches = torch.cat([padded[:, :, y : y + 32, x : x + 32] for y in range(height) for x in range(width)])
    expected = net(patches).reshape(height, width, 3).permute(2, 0, 1)[None]
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense, dilated(net)(padded), rtol=0, atol=1e-12)
