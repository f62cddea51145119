"""The shared convolution block, its norms by name, fresh weights."""

import pytest
import torch
from torch import nn

from sightline.errors import UsageError
from sightline.nn.conv import FrozenBatchNorm2d, conv_norm_act, he_init, norm_named, separable_conv


def test_size_is_kept_and_bias_stands_in_for_the_norm() -> None:
    x = torch.rand(2, 3, 9, 11)
    for kernel, dilation in ((1, 1), (3, 1), (3, 4), (5, 2)):
        assert conv_norm_act(3, 4, kernel, dilation=dilation)(x).shape == (2, 4, 9, 11)
    assert set(conv_norm_act(3, 4).state_dict()) >= {"0.weight", "1.weight", "1.running_var"}
    assert set(conv_norm_act(3, 4, norm=None).state_dict()) == {"0.weight", "0.bias"}
    assert conv_norm_act(3, 4, padding=0)(x).shape == (2, 4, 7, 9)
    assert conv_norm_act(3, 4, act=None)(x).min() < 0 <= conv_norm_act(3, 4)(x).min()


def test_frozen_norm_is_batch_norm_in_eval_with_constants() -> None:
    norm, frozen = nn.BatchNorm2d(5).eval(), FrozenBatchNorm2d(5)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2.0)
    frozen.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    x = torch.randn(2, 5, 4, 4)
    assert torch.allclose(frozen.train()(x), norm(x), atol=1e-6)
    assert not list(frozen.parameters())


@pytest.mark.parametrize(
    ("name", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d)]
)
def test_norms_by_name(name: str, kind: type) -> None:
    norm = norm_named(name)(48)
    assert isinstance(norm, kind) and len(list(norm.parameters())) == 2


def test_groups_divide_the_channels() -> None:
    assert [norm_named("group")(n).num_groups for n in (64, 48, 7, 33)] == [32, 24, 7, 11]


def test_an_unknown_norm_is_said_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'batch'"):
        norm_named("bacth")  # type: ignore[arg-type]


def test_separable_is_a_filter_a_channel_then_a_mix() -> None:
    torch.manual_seed(0)
    layer = separable_conv(3, 5, stride=2, dilation=2, act=None).eval()
    x = torch.randn(1, 3, 11, 8)
    kernels = [layer[i][0].weight for i in (0, 1)]  # pyright: ignore[reportIndexIssue]
    y = torch.cat([torch.conv2d(x[:, c : c + 1], kernels[0][c : c + 1], None, 2, 2, 2) for c in range(3)], 1)
    expected = torch.einsum("bchw,oc->bohw", y, kernels[1][:, :, 0, 0]) / (1 + 1e-5)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert sum(p.numel() for p in separable_conv(3, 5).parameters()) == 3 * 9 + 6 + 15 + 10


def test_he_init_has_the_variance_of_the_paper() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(32, 64, 3), nn.ConvTranspose2d(64, 32, 2))
    he_init(net)
    assert float(net[0].weight.detach().var()) == pytest.approx(2 / (32 * 9), rel=0.05)
    assert not net[0].bias.any()
    he_init(net, mode="fan_out")
    assert float(net[0].weight.detach().var()) == pytest.approx(2 / (64 * 9), rel=0.05)
