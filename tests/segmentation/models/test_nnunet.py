"""nnU-Net's plain network: the planner's values, deep supervision, files that hold tensors under several names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.contract import IGNORE, Scores, Target
from sightline.segmentation.models.nnunet import coarser, nnunet_plain_2d, nnunet_plain_3d, per_stage
from sightline.verbs.load import load_weights, save_weights
from sightline.weights.read import read_checkpoint

TINY = {"features": (4, 6, 8, 8), "strides": (1, 2, 2, 2)}


def test_the_published_counts() -> None:
    with torch.device("meta"):
        eight = nnunet_plain_2d(3, features=(32, 64, 128, 256, 512, 512, 512, 512), strides=(1, *[2] * 7))
        assert sum(p.numel() for p in eight.parameters()) == pytest.approx(46_326_581, rel=2e-3)


def test_kernels_and_strides_spare_the_axis_of_thick_slices() -> None:
    net = nnunet_plain_3d(
        2, features=(4, 6, 8), strides=(1, (1, 2, 2), 2), kernels=((1, 3, 3), (1, 3, 3), 3), decoder_convs=(1, 2)
    ).eval()
    sizes = []
    for level in net.contract:
        level.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        out = net(torch.rand(1, 1, 5, 14, 15))
    assert sizes == [(6, 16, 16), (6, 8, 8), (3, 4, 4)] and net.multiple == [2, 4, 4]
    assert out.logits.shape[2:] == (5, 14, 15) and [a.shape[2:] for a in out.aux] == [(6, 8, 8)]
    assert (len(net.expand[0]), len(net.expand[1])) == (1, 2)
    for wrong in ({"strides": (1, 2)}, {"kernels": 2}, {"convs": (2, 2)}, {"kernels": ((3, 3),) * 6}):
        with pytest.raises(UsageError):
            nnunet_plain_3d(2, **wrong)
    assert per_stage(3, 2, 2, "kernels") == [(3, 3), (3, 3)]


def test_the_answer_does_not_depend_on_deep_supervision() -> None:
    torch.manual_seed(0)
    one = nnunet_plain_2d(3, **TINY).eval()
    two = nnunet_plain_2d(3, **TINY, deep_supervision=False).eval()
    two.load_state_dict(one.state_dict())
    x = torch.rand(2, 1, 20, 28)
    with torch.no_grad():
        a, b = one(x), two(x)
    assert torch.equal(a.logits, b.logits) and len(a.aux) == 2 and b.aux == ()


def test_coarser_labels_are_those_at_the_centre_of_each_cell() -> None:
    labels = torch.arange(2 * 5 * 7).reshape(2, 5, 7) % 9
    found = coarser(Target(labels, labels.float()), (4, 4), (2, 4))
    assert found.weights is not None
    for b in range(2):
        for i in range(2):
            for j in range(4):
                y, x = 4 * i + 2, 2 * j + 1
                inside = y < 5 and x < 7
                assert int(found.labels[b, i, j]) == (int(labels[b, y, x]) if inside else IGNORE)
                assert float(found.weights[b, i, j]) == (float(labels[b, y, x]) if inside else 0.0)


def test_the_losses_are_nnunets_weighted_sum() -> None:
    net = nnunet_plain_2d(3, features=(4, 4, 4, 4, 4), strides=(1, 2, 2, 2, 2))
    fine = torch.randn(2, 3, 16, 16)
    aux = tuple(torch.randn(2, 3, n, n) for n in (8, 4, 2))
    labels = torch.randint(0, 3, (2, 16, 16))
    found = net.losses(Scores(fine, aux), Target(labels))

    def ce(logits: Tensor, step: int) -> Tensor:
        return F.cross_entropy(logits, labels[:, step // 2 :: step, step // 2 :: step])

    total = 1 + 1 / 2 + 1 / 4  # the coarsest counts nothing
    assert float(found["ce"]) == pytest.approx(float(ce(fine, 1)) / total, rel=1e-5)
    assert float(found["aux_ce"]) == pytest.approx(float(ce(aux[0], 2) / 2 + ce(aux[1], 4) / 4) / total, rel=1e-5)
    assert set(found) == {"ce", "dice", "aux_ce", "aux_dice"}
    assert set(net.losses(Scores(fine), Target(labels))) == {"ce", "dice"}


def test_a_file_with_every_tensor_under_several_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nnunet_plain_3d(2, **TINY).eval()
    tensors = read_checkpoint(save_weights(net, tmp_path / "public.pth", layout="nnunet"))
    names = dict(tensors)
    for name, tensor in tensors.items():
        alias = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        names |= {alias: tensor}
        if name.startswith("encoder."):
            names |= {f"decoder.{name}": tensor, f"decoder.{alias}": tensor}
    assert len(names) > 2 * len(tensors)
    about = {"logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)]}, "_best_ema": np.float64(0.5)}
    about |= {"trainer_name": "nnUNetTrainer", "current_epoch": 3, "init_args": {"fold": 0, "plans": {"a": [1, 2]}}}
    torch.save({"network_weights": names, **about}, tmp_path / "final.pth")
    torch.manual_seed(1)
    other = nnunet_plain_3d(2, **TINY).eval()
    report = load_weights(other, tmp_path / "final.pth")
    assert report.origin == "nnunet" and not report.missing and not report.unexpected
    x = torch.rand(1, 1, 8, 16, 16)
    with torch.no_grad():
        assert torch.equal(net(x).logits, other(x).logits)
