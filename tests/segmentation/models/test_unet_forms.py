"""U-Nets that people have files of: their tensors, run by hand under the public names, answer as our network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.segmentation.contract import Target
from sightline.segmentation.models.unet import unet_mmseg, unet_phseg_v5, unet_same
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.optimize import without_learning_parts

File = dict[str, Tensor]


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_published_counts() -> None:
    with torch.device("meta"):
        assert count(unet_phseg_v5()) == 31_100_354
        assert count(unet_mmseg()) == 29_062_886 and count(unet_mmseg(aux=False)) == 28_987_795
        assert count(unet_same(1, width=32)) == 7_763_041  # mateuszbuda's


def stirred(net: Any) -> Any:
    """Norms that have seen something, so that nothing is 0 or 1."""
    torch.manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + (0.5 if name.endswith(("weight", "running_var")) else -0.5))
    return net.eval()


def normed(file: File, name: str, x: Tensor) -> Tensor:
    parts = (file[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(x, *parts))


def mateuszbuda(file: File, x: Tensor) -> Tensor:
    """Joined as [up, skip], answered as a sigmoid."""

    def block(place: str, short: str, x: Tensor) -> Tensor:
        for k in (1, 2):
            x = normed(file, f"{place}.{short}norm{k}", F.conv2d(x, file[f"{place}.{short}conv{k}.weight"], padding=1))
        return x

    skips = []
    for i in range(1, 5):
        x = block(f"encoder{i}", f"enc{i}", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block("bottleneck", "bottleneck", x)
    for i in range(4, 0, -1):
        x = F.conv_transpose2d(x, file[f"upconv{i}.weight"], file[f"upconv{i}.bias"], stride=2)
        x = block(f"decoder{i}", f"dec{i}", torch.cat([x, skips[i - 1]], dim=1))
    return F.conv2d(x, file["conv.weight"], file["conv.bias"]).sigmoid()


def mmseg(file: File, x: Tensor) -> Tensor:
    """Joined as [skip, up]; the decoder is numbered from fine to coarse."""

    def unit(name: str, x: Tensor) -> Tensor:
        kernel = file[f"{name}.conv.weight"]
        return normed(file, f"{name}.bn", F.conv2d(x, kernel, padding=kernel.shape[-1] // 2))

    skips = []
    for i in range(5):
        x = x if i == 0 else F.max_pool2d(x, 2)
        for k in range(2):
            x = unit(f"backbone.encoder.{i}.{min(i, 1)}.convs.{k}", x)
        skips.append(x)
    for i in range(3, -1, -1):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.cat([skips[i], unit(f"backbone.decoder.{i}.upsample.interp_upsample.1", x)], dim=1)
        for k in range(2):
            x = unit(f"backbone.decoder.{i}.conv_block.convs.{k}", x)
    x = unit("decode_head.convs.0", x)
    return F.conv2d(x, file["decode_head.conv_seg.weight"], file["decode_head.conv_seg.bias"])


def phseg(file: File, x: Tensor) -> Tensor:
    """Unpadded; ReLU after each up-convolution; joined as [up, cropped skip]."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, file[f"{name}.weight"], file[f"{name}.bias"])

    skips = []
    for i in range(5):
        x = x if i == 0 else F.max_pool2d(x, 2)
        x = F.relu(conv(f"conv_d{i}b-c", F.relu(conv(f"conv_d{i}a-b", x))))
        skips.append(x)
    for i in range(3, -1, -1):
        name = "upconv_d4c_u3a" if i == 3 else f"upconv_u{i + 1}d_u{i}a"
        x = F.relu(F.conv_transpose2d(x, file[f"{name}.weight"], file[f"{name}.bias"], stride=2))
        spare = (skips[i].shape[-1] - x.shape[-1]) // 2
        x = torch.cat([x, skips[i][..., spare : spare + x.shape[-2], spare : spare + x.shape[-1]]], dim=1)
        x = F.relu(conv(f"conv_u{i}c-d", F.relu(conv(f"conv_u{i}b-c", x))))
    return conv("conv_u0d-score", x)


@pytest.mark.parametrize(
    ("layout", "net", "by_hand", "size"),
    [
        ("mateuszbuda", unet_same(1, width=4), mateuszbuda, (3, 32, 48)),
        ("mmseg", unet_mmseg(3, width=4, mean=None), mmseg, (3, 48, 32)),
        ("phseg_v5", unet_phseg_v5(width=4, mean=None), phseg, (1, 188, 188)),
    ],
)
def test_a_file_under_its_public_names_answers_as_our_network(
    layout: str, net: Any, by_hand: Callable[[File, Tensor], Tensor], size: tuple[int, ...], tmp_path: Path
) -> None:
    stirred(net)
    path = save_weights(net, tmp_path / "file.pth", layout=layout)
    file = torch.load(path)
    file = file.get("state_dict", file)
    images = torch.rand(1, *size)
    with torch.no_grad():
        logits = net(images).logits
        expected = by_hand(file, images)
    found = logits.sigmoid() if layout == "mateuszbuda" else logits
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    build: Any = {"mateuszbuda": unet_same, "mmseg": unet_mmseg, "phseg_v5": unet_phseg_v5}[layout]
    report = load_weights(build(logits.shape[1], width=4), path)
    assert report.origin == layout and not report.missing and not report.unexpected


def test_the_last_up_convolution_of_the_release_keeps_its_channels() -> None:
    net = unet_phseg_v5(width=4)
    assert [step.up.out_channels for step in net.expand] == [32, 16, 8, 8]
    assert net.legal_size(1) == 188 and net.legal_size(388) == 572


def test_mmsegs_second_head_learns_and_is_left_out_where_nothing_is_learned() -> None:
    net = unet_mmseg(3, width=4).train()
    out = net(torch.rand(2, 3, 33, 40))
    assert [tuple(head.shape) for head in (out.logits, *out.aux)] == [(2, 3, 33, 40)] * 2
    assert set(net.losses(out, Target(torch.zeros(2, 33, 40, dtype=torch.long)))) == {"ce", "aux_ce"}
    assert not without_learning_parts(net.eval())(torch.rand(1, 3, 33, 40)).aux
