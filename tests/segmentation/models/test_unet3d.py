"""3-D U-Net: the paper's count and layer table, legal sizes, pools that spare an axis, unlabelled voxels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.errors import UsageError
from sightline.segmentation.contract import IGNORE, Target
from sightline.segmentation.models.unet3d import ShiftedBatchNorm, unet3d, unet3d_valid, unet3d_wolny


def test_the_papers_layer_table_and_count() -> None:
    with torch.device("meta"):
        net = unet3d_valid()
    table = [(m.in_channels, m.out_channels) for m in net.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    down = [(3, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    up = [(512, 512), (768, 256), (256, 256), (256, 256), (384, 128), (128, 128), (128, 128), (192, 64), (64, 64)]
    assert table == [*down, *up, (64, 3)]
    ups = sum(8 * a * b for a, b in up[::3])
    same = 27 * (256 * 256 + 128 * 128 + 64 * 64) + 256 + 128 + 64  # second convolutions of the way up
    convs = sum(27 * a * b + b for a, b in (*down, (768, 256), (384, 128), (192, 64))) + same
    assert convs + ups + 64 * 3 + 3 == 19_069_955 == sum(p.numel() for p in net.parameters())


def test_the_papers_sizes() -> None:
    with torch.device("meta"):
        net = unet3d_valid(width=2)
        assert net(torch.zeros(1, 3, 132, 132, 116)).logits.shape[2:] == (44, 44, 28)
        assert (net.margin, net.legal_size(44), net.legal_size(28), net.legal_size(29)) == (44, 132, 116, 124)
        with pytest.raises(UsageError, match="height 130 does not fit this unpadded U-Net"):
            net(torch.zeros(1, 3, 132, 130, 116))


def test_an_unpadded_answer_sees_real_voxels_only() -> None:
    """The centre of a larger volume gives the same answer as the volume cut to what that centre needs."""
    torch.manual_seed(0)
    net = unet3d_valid(2, in_channels=1, width=2, depth=2).eval()
    side = net.legal_size(4)
    volume = torch.rand(1, 1, side + 8, side, side)
    with torch.no_grad():
        whole, part = net(volume).logits, net(volume[:, :, 4:-4]).logits
    assert torch.allclose(whole[:, :, 4:-4], part, atol=1e-5)


def test_pools_may_spare_an_axis() -> None:
    net = unet3d(2, in_channels=1, width=2, pools=[[1, 2, 2], 2]).eval()
    seen = []
    net.contract[-1].register_forward_hook(lambda module, inputs, out: seen.append(out.shape[2:]))
    with torch.no_grad():
        assert net(torch.rand(1, 1, 6, 13, 16)).logits.shape[2:] == (6, 13, 16)
    assert seen == [(3, 4, 4)]
    with pytest.raises(UsageError, match="is no size of a pool"):
        unet3d(2, pools=[[2, 2]])


def test_the_norms_shift_stands_behind_it() -> None:
    norm = ShiftedBatchNorm(2).train()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, -2.0]))
    x = torch.randn(3, 2, 4, 5, 6) * 7 + 3
    y = norm(x)
    assert torch.allclose(y.mean((0, 2, 3, 4)), torch.tensor([1.0, -2.0]), atol=1e-5)
    assert torch.allclose(y.std((0, 2, 3, 4), correction=0), torch.ones(2), atol=1e-3)


def test_a_volume_labelled_in_one_slice_teaches_that_slice_only() -> None:
    torch.manual_seed(0)
    net = unet3d(3, in_channels=1, width=2, pools=[2]).eval()
    volume = torch.rand(1, 1, 6, 8, 8)
    labels = torch.full((1, 6, 8, 8), IGNORE)
    labels[:, 2] = torch.randint(0, 3, (8, 8))
    out = net(volume)
    out.logits.retain_grad()
    sum(net.losses(out, Target(labels)).values()).backward()
    gradient = out.logits.grad
    assert gradient is not None and bool(gradient[:, :, 2].any()) and not gradient[:, :, [0, 1, 3, 4, 5]].any()


def test_wolnys_count_of_half_the_width() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in unet3d_wolny(width=32).parameters()) == 4_081_300
