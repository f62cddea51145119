"""The encoder against attention written out, positions on another grid, and kernels that are standardised."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.errors import UsageError
from sightline.nn.conv import StandardizedConv2d
from sightline.nn.fold import fix_kernels, fold_batch_norm
from sightline.nn.transformer import MapEncoder, SelfAttention, TransformerEncoder


def test_attention_against_each_head_written_down() -> None:
    torch.manual_seed(0)
    attention, x = SelfAttention(8, 2), torch.randn(2, 5, 8)
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(-1)  # 2 = sqrt(4 channels of a head)
        heads.append(weights @ v[..., part])
    assert torch.allclose(attention(x), attention.proj(torch.cat(heads, -1)), atol=1e-6)
    with pytest.raises(UsageError, match="8 channels do not divide into 3 heads"):
        SelfAttention(8, 3)


def test_a_stack_of_blocks_is_the_sum_of_what_each_adds() -> None:
    torch.manual_seed(0)
    net, x = TransformerEncoder(8, 2, 2, 16).eval(), torch.randn(1, 4, 8)
    y = x
    for block in net.blocks:
        y = y + block.attn(F.layer_norm(y, (8,), eps=1e-6))
        y = y + block.mlp.fc2(F.gelu(block.mlp.fc1(F.layer_norm(y, (8,), eps=1e-6))))
    assert torch.allclose(net(x), F.layer_norm(y, (8,), eps=1e-6), atol=1e-6)


def test_positions_are_kept_on_their_own_grid_and_resized_to_others() -> None:
    net = MapEncoder(3, TransformerEncoder(8, 1, 2, 8), grid=3).eval()
    nn.init.zeros_(net.patch.weight)
    nn.init.zeros_(net.patch.bias)
    seen: list[torch.Tensor] = []
    net.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 3, 3)).shape == (1, 8, 3, 3)
        assert net(torch.zeros(1, 3, 5, 9)).shape == (1, 8, 5, 9)
    assert torch.equal(seen[0], net.position.flatten(2).transpose(1, 2))
    grid = seen[1].transpose(1, 2).reshape(8, 5, 9)
    assert torch.allclose(grid[:, ::2, ::4], net.position[0], atol=1e-6)  # corners aligned
    assert torch.allclose(grid[:, 1, 0], (net.position[0, :, 0, 0] + net.position[0, :, 1, 0]) / 2, atol=1e-6)


def test_a_standardised_kernel_has_mean_0_and_spread_1_and_becomes_a_plain_one() -> None:
    torch.manual_seed(0)
    conv, x = StandardizedConv2d(3, 4, 3, 2, 1, bias=False), torch.randn(1, 3, 9, 8)
    with torch.no_grad():
        conv.weight.mul_(3).add_(1)
        for row in conv.kernel().flatten(1):
            assert float(row.mean()) == pytest.approx(0, abs=1e-6)
            assert float(row.std(correction=0)) == pytest.approx(1, abs=1e-4)
        net = nn.Sequential(conv, nn.BatchNorm2d(4)).eval()
        expected = net(x)
        assert torch.allclose(fold_batch_norm(net, x)[0](x), expected, atol=1e-5)
        assert type(net[0]) is StandardizedConv2d  # the network itself is as it was
        assert type(fix_kernels(net)[0]) is nn.Conv2d and torch.allclose(net(x), expected, atol=1e-6)
