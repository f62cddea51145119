"""The same weights in torchvision's and segmentation_models_pytorch's networks give the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import create

pytestmark = pytest.mark.slow


def randomised(net: nn.Module) -> Any:
    """Random weights, and running statistics away from 0 and 1; small last norms keep residual sums small."""
    torch.manual_seed(0)
    for key, value in net.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith(("bn3.weight", "bn2.weight")):
            value.mul_(0.5)
    return net.eval()


def closeness(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    ("name", "builder", "parameters"),
    [
        ("fcn_torchvision_r50", "fcn_resnet50", 35_322_218),
        ("fcn_torchvision_r101", "fcn_resnet101", 54_314_346),
        ("deeplabv3_torchvision_r50", "deeplabv3_resnet50", 42_004_074),
        ("deeplabv3_torchvision_r101", "deeplabv3_resnet101", 60_996_202),
        ("deeplabv3_torchvision_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", 11_029_328),
    ],
)
def test_torchvision(name: str, builder: str, parameters: int, tmp_path: Path) -> None:
    from torchvision.models import segmentation

    theirs = randomised(getattr(segmentation, builder)(weights=None, weights_backbone=None, aux_loss=True))
    torch.save(theirs.state_dict(), tmp_path / "public.pth")
    ours = create(name, mean=None).eval()
    report = load_weights(ours, tmp_path / "public.pth")
    assert report.origin == "torchvision" and not report.missing and not report.unexpected
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == parameters
    for size in ((65, 97), (128, 80)):
        images = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected, found = theirs(images), ours(images)
        assert closeness(found.logits, expected["out"]) < 2e-5
        assert closeness(found.aux[0], expected["aux"]) < 2e-5
    save_weights(ours, tmp_path / "back.pth", layout="torchvision")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(value, back[key]) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50", "tu-resnet18", "tu-convnext_atto"])
def test_unet_of_segmentation_models_pytorch(encoder: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the peer is installed by the extra 'oracle'")
    theirs = randomised(smp.Unet(encoder, encoder_weights=None, classes=3, in_channels=4))
    torch.save(theirs.state_dict(), tmp_path / "public.pth")
    ours = create("unet", num_classes=3, in_channels=4, backbone=encoder.replace("tu-", "timm:"), mean=None).eval()
    report = load_weights(ours, tmp_path / "public.pth")
    assert report.origin == "smp" and not report.missing and not report.unexpected
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    images = torch.rand(2, 4, 96, 128)
    with torch.inference_mode():
        assert closeness(ours(images).logits, theirs(images)) < 2e-5
