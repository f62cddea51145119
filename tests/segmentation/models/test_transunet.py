"""TransUNet: sizes its authors refuse, Google's files, files of another size, what the decoder joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sightline.errors import SightlineError, UsageError
from sightline.segmentation.models.transunet import (
    transunet,
    transunet_r50_vit_b16,
    transunet_vit_b16,
)
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.optimize import optimize

TINY: dict[str, Any] = {
    "channels": 64,
    "layers": 1,
    "heads": 1,
    "hidden": 32,
    "head_channels": 8,
    "decoder": (8, 8, 6, 4),
    "num_classes": 3,
    "image_size": 48,
}
HYBRID: dict[str, Any] = {**TINY, "depths": (1, 2, 1), "width": 4}


def test_parts_have_the_published_counts() -> None:
    with torch.device("meta"):
        net = transunet_r50_vit_b16()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    embedding = counts["backbone"] + sum(p.numel() for p in net.transformer.patch.parameters())
    assert embedding + net.transformer.position.numel() == 12_832_576
    assert sum(p.numel() for p in net.transformer.encoder.parameters()) == 85_056_000
    assert counts["decoder"] == 7_387_200 and counts["head"] == 1_305


def test_any_size_divisible_by_16_and_any_other() -> None:
    net = transunet_r50_vit_b16(**HYBRID).eval()
    deep: list[torch.Tensor] = []
    net.transformer.register_forward_hook(lambda module, inputs, out: deep.append(out))
    images = torch.rand(1, 3, 90, 33)
    with torch.no_grad():
        assert net(torch.rand(1, 3, 48, 112)).logits.shape == (1, 3, 48, 112)
        found, whole = net(images), net(F.pad(images, (0, 15, 0, 6)))
    assert [tuple(x.shape[-2:]) for x in deep] == [(3, 7), (6, 3), (6, 3)]
    assert found.logits.shape[-2:] == (90, 33) and torch.equal(found.logits, whole.logits[..., :90, :33])


def test_a_grey_picture_is_repeated() -> None:
    net, grey = transunet_r50_vit_b16(**HYBRID).eval(), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(grey).logits, net(grey.repeat(1, 3, 1, 1)).logits)


def test_the_map_of_the_first_block_is_filled_up_only_where_it_is_joined() -> None:
    backbone: Any = transunet_r50_vit_b16(**HYBRID).backbone
    read: list[torch.Tensor] = []
    backbone.block2.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert read[0].shape[-2:] == (15, 23) and maps["block1"].shape[-2:] == (16, 24)
    assert torch.equal(maps["block1"][..., :15, :23], read[0])
    assert not maps["block1"][..., 15:, :].any() and not maps["block1"][..., 23:].any()
    assert maps["block3"].shape[-2:] == (4, 6)


def google(net: Any, *, side: int, cls: bool = True) -> dict[str, np.ndarray]:
    """The file Google would have written of this network, with positions for `side` x `side` cells."""
    draw = np.random.RandomState(0).standard_normal
    blocks = {f"block{b}": len(getattr(net.backbone, f"block{b}")) for b in (1, 2, 3)} if net.backbone else {}
    file = {"conv_root/kernel": (7, 7, 3, 4), "gn_root/scale": (4,), "gn_root/bias": (4,)} if blocks else {}
    before = 4
    for b, (block, units) in enumerate(blocks.items()):
        for u in range(units):
            width = 4 * 2**b
            shapes = {1: (1, 1, before, width), 2: (3, 3, width, width), 3: (1, 1, width, 4 * width)}
            for k, shape in shapes.items():
                file[f"{block}/unit{u + 1}/conv{k}/kernel"] = shape
                file |= {f"{block}/unit{u + 1}/gn{k}/{leaf}": (1, 1, 1, shape[3]) for leaf in ("scale", "bias")}
            if u == 0:
                file[f"{block}/unit1/conv_proj/kernel"] = (1, 1, before, 4 * width)
                file |= {f"{block}/unit1/gn_proj/{leaf}": (1, 1, 1, 4 * width) for leaf in ("scale", "bias")}
            before = 4 * width
    file["embedding/kernel"] = (*net.transformer.patch.kernel_size, net.transformer.patch.in_channels, 64)
    file["embedding/bias"] = (64,)
    file["Transformer/posembed_input/pos_embedding"] = (1, side * side + cls, 64)
    layer = "Transformer/encoderblock_0/"
    for name in ("query", "key", "value"):
        file[f"{layer}MultiHeadDotProductAttention_1/{name}/kernel"] = (64, 1, 64)
        file[f"{layer}MultiHeadDotProductAttention_1/{name}/bias"] = (1, 64)
    file[f"{layer}MultiHeadDotProductAttention_1/out/kernel"] = (1, 64, 64)
    file[f"{layer}MultiHeadDotProductAttention_1/out/bias"] = (64,)
    file |= {f"{layer}MlpBlock_3/Dense_0/kernel": (64, 32), f"{layer}MlpBlock_3/Dense_0/bias": (32,)}
    file |= {f"{layer}MlpBlock_3/Dense_1/kernel": (32, 64), f"{layer}MlpBlock_3/Dense_1/bias": (64,)}
    for norm in (f"{layer}LayerNorm_0", f"{layer}LayerNorm_2", "Transformer/encoder_norm"):
        file |= {f"{norm}/scale": (64,), f"{norm}/bias": (64,)}
    file |= {"cls": (1, 1, 64), "head/kernel": (64, 1000), "head/bias": (1000,)}
    return {name: draw(shape).astype(np.float32) for name, shape in file.items()}


@pytest.mark.parametrize("build", [transunet_r50_vit_b16, transunet_vit_b16])
def test_googles_file_fills_the_encoder_and_says_that_the_decoder_stays_fresh(build: Any, tmp_path: Path) -> None:
    net = build(**(HYBRID if build is transunet_r50_vit_b16 else TINY))
    file = google(net, side=5)
    np.savez(tmp_path / "google.npz", **file)
    report = load_weights(net, tmp_path / "google.npz")
    assert report.origin == "google" and not report.missing and not report.unexpected
    assert all(name.startswith(("decoder.", "head.")) for name in report.reinitialised)
    assert any(name.startswith("decoder.") for name in report.reinitialised)
    assert {name for name in net.state_dict() if name.startswith(("backbone.", "transformer."))} <= set(report.loaded)
    attention, place = (
        net.transformer.encoder.blocks[0].attn,
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/",
    )
    key = torch.from_numpy(file[place + "key/kernel"]).reshape(64, 64).T
    assert torch.equal(attention.qkv.weight[64:128], key)
    grid = torch.from_numpy(file["Transformer/posembed_input/pos_embedding"])[:, 1:].reshape(5, 5, 64)
    assert torch.allclose(net.transformer.position[0, :, 1, 2], grid[2, 4], atol=1e-6)  # 3 of 5 cells, corners aligned


def test_a_file_without_its_decoder_is_refused_when_it_is_not_googles(tmp_path: Path) -> None:
    net = transunet_vit_b16(**TINY)
    save_weights(net, tmp_path / "whole.pth", layout="transunet")
    half = {k: v for k, v in torch.load(tmp_path / "whole.pth").items() if not k.startswith("decoder")}
    with pytest.raises(SightlineError, match="missing"):
        load_weights(net, half)


def test_a_users_file_of_another_size_is_resized(tmp_path: Path) -> None:
    large, small = transunet_vit_b16(**{**TINY, "image_size": 80}), transunet_vit_b16(**TINY)
    report = load_weights(small, save_weights(large, tmp_path / "large.pth", layout="transunet"))
    assert report.origin == "transunet" and not report.missing
    assert torch.allclose(small.transformer.position, large.transformer.position[:, :, ::2, ::2], atol=1e-6)


def test_skips_that_are_left_out_and_values_that_make_no_sense() -> None:
    net = transunet_r50_vit_b16(**HYBRID, skips=1)
    assert [step.joins for step in net.decoder.steps] == [True, False, False, False]
    assert net(torch.rand(2, 3, 32, 48)).logits.shape == (2, 3, 32, 48)
    with pytest.raises(UsageError, match="up to three skips"):
        transunet_r50_vit_b16(**HYBRID, skips=4)


def test_optimize_keeps_the_answer_without_standardising_again() -> None:
    torch.manual_seed(0)
    net, images = transunet_r50_vit_b16(**HYBRID).eval(), torch.rand(1, 3, 48, 32)
    found = optimize(net, images, repeats=0)
    assert found.difference < 1e-4 and type(found.net.backbone.conv) is torch.nn.Conv2d


def test_the_plain_form_takes_any_backbone_and_size() -> None:
    net = transunet(3, backbone="mobilenet_v3_small", channels=16, layers=1, heads=2, decoder=(8, 8, 8, 8, 4)).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 37, 70)).logits.shape == (2, 3, 37, 70)
