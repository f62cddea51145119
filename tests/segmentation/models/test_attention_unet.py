"""Attention U-Net: the gates written out, who asks them, volumes of any size, files of another class count."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from sightline.segmentation.models.attention_unet import (
    Gate,
    GridGate,
    attention_unet,
    attention_unet_3d,
    attention_unet_3d_single,
)
from sightline.verbs.load import load_weights


def test_counts_of_the_paper_and_of_the_popular_form() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in net.parameters()) for net in (attention_unet(1), attention_unet_3d())]
        gates = sum(p.numel() for p in attention_unet_3d_single().gates.parameters())
        single = sum(p.numel() for p in attention_unet_3d_single().parameters())
        gating = sum(p.numel() for p in attention_unet_3d_single().gating.parameters())
    assert counts == [34_878_573, 6_473_322]
    assert single - gates - gating == 5_888_004  # the same network without gates: the paper's 5.88 M


def test_a_gate_at_each_place_written_down() -> None:
    torch.manual_seed(0)
    gate = Gate(3, 2, 4).eval()
    g, skip = torch.randn(1, 3, 2, 2), torch.randn(1, 2, 2, 2)
    norm = (1 + 1e-5) ** 0.5
    with torch.no_grad():
        found = gate(g, skip)
        for y in range(2):
            for x in range(2):
                a = (gate.W_g[0].weight[:, :, 0, 0] @ g[0, :, y, x] + gate.W_g[0].bias) / norm
                b = (gate.W_x[0].weight[:, :, 0, 0] @ skip[0, :, y, x] + gate.W_x[0].bias) / norm
                psi = gate.psi[0].weight[0, :, 0, 0] @ (a + b).relu() + gate.psi[0].bias
                assert torch.allclose(found[0, :, y, x], skip[0, :, y, x] * torch.sigmoid(psi / norm), atol=1e-6)


def test_the_authors_gate_compares_at_half_the_skips_size() -> None:
    torch.manual_seed(0)
    gate = GridGate(2, 3, "half_pixel").eval()
    skip, g = torch.randn(1, 2, 4, 6, 8), torch.randn(1, 3, 2, 3, 4)
    with torch.no_grad():
        asked = F.conv3d(g, gate.phi.weight, gate.phi.bias)
        small = F.conv3d(F.relu(F.conv3d(skip, gate.theta.weight, stride=2) + asked), gate.psi.weight, gate.psi.bias)
        weight = F.interpolate(small.sigmoid(), scale_factor=2, mode="trilinear", align_corners=False)
        assert weight.shape[2:] == skip.shape[2:]
        expected = F.conv3d(weight * skip, gate.W[0].weight, gate.W[0].bias) / (1 + 1e-5) ** 0.5
        assert torch.allclose(gate(skip, g), expected, atol=1e-6)


def test_the_deepest_gate_asks_the_gating_signal_and_the_others_the_decoder() -> None:
    net = attention_unet_3d(2, width=2).eval()
    asked: list[Any] = []
    made: list[torch.Tensor] = []
    for gates in net.gates:
        gates.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[1]))
    for part in (net.gating, *net.ups):
        part.register_forward_hook(lambda module, inputs, out: made.append(out))
    with torch.no_grad():
        net(torch.rand(1, 1, 16, 32, 16))
    assert [a is b for a, b in zip(asked, made)] == [True, True, True]
    assert len(net.gates) == 3 and len(net.ups) == 4  # the finest skip has no gate


def test_volumes_of_any_size_are_padded_and_cropped() -> None:
    net, volume = attention_unet_3d_single(3, width=2).eval(), torch.rand(1, 1, 9, 17, 30)
    with torch.no_grad():
        found, whole = net(volume).logits, net(F.pad(volume, (0, 2, 0, 15, 0, 7))).logits
    assert found.shape == (1, 3, 9, 17, 30) and torch.equal(found, whole[..., :9, :17, :30])


def test_corners_can_be_aligned_as_the_authors_pytorch_did() -> None:
    one, two = attention_unet_3d(2, width=2).eval(), attention_unet_3d(2, width=2, align_corners=True).eval()
    load_weights(two, one.state_dict())
    volume = torch.rand(1, 1, 16, 16, 32)
    with torch.no_grad():
        assert not torch.allclose(one(volume).logits, two(volume).logits, atol=1e-3)


def test_a_file_of_another_class_count_loads_all_but_the_scores() -> None:
    report = load_weights(attention_unet_3d(2, width=2), attention_unet_3d(5, width=2).state_dict())
    assert {name.split(".")[0] for name in report.reinitialised} == {"dsv", "final"} and not report.missing
