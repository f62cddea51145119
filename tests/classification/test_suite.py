"""What every entry of the room of pictures by class keeps, at tiny sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.classification.catalog import MODELS
from sightline.classification.contract import Labels, Scores, Target
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import builder_of, create

NAMES = sorted(MODELS)


def tiny(name: str, **values: Any) -> nn.Module:
    torch.manual_seed(5)
    return create(name, **{**MODELS[name].tiny, "num_classes": 5, **values}).eval()


def pictures(name: str, batch: int = 2, channels: int = 3) -> Tensor:
    """Pictures of a size the entry takes, odd and not square wherever it can be."""
    traits = MODELS[name].traits
    size = (75, 91) if traits & {"large_pictures", "fixed_size"} else (32, 48) if "patches16" in traits else (35, 51)
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_is_true(name: str) -> None:
    with torch.device("meta"):
        net = builder_of(MODELS[name])()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == MODELS[name].parameters
    for record in MODELS[name].weights:
        assert record.url.startswith("https://") and record.sha256 in record.url and record.scores


@pytest.mark.parametrize("name", NAMES)
def test_sees_learns_and_says(name: str) -> None:
    net, images = tiny(name), pictures(name, 3)
    with torch.no_grad():
        out = net(images)
        alone = net(images[1:2])
    assert isinstance(out, Scores) and tuple(out.logits.shape) == (3, 5)
    assert torch.allclose(out.logits[1:2], alone.logits, atol=1e-5)
    answer = net.decode(out, classes=tuple("abcde"))[2]
    assert isinstance(answer, Labels) and torch.allclose(answer.probabilities, out.logits[2].softmax(0))
    net.train()
    torch.stack(list(net.losses(net(images), Target(torch.tensor([0, 1, 4]))).values())).sum().backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent or ("vit" in name and not any(key.startswith("head") for key in silent))  # its head begins at 0
    grey = tiny(name, num_classes=1, in_channels=1)
    assert grey(pictures(name, channels=1)).logits.shape == (2, 1)


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_out_and_come_back(name: str, tmp_path: Any) -> None:
    net = tiny(name)
    for layout in ("sightline", "caffe" if name == "caffenet" else "torchvision"):
        other = create(name, **MODELS[name].tiny, num_classes=5).eval()
        report = load_weights(other, save_weights(net, tmp_path / f"{layout}.pth", layout=layout))
        assert not report.missing and not report.unexpected
        with torch.no_grad():
            assert torch.equal(other(pictures(name)).logits, net(pictures(name)).logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18_tv", "resnext50_32x4d_tv", "wide_resnet50_2_tv", "alexnet_tv", "vgg16_bn_tv"]
)
def test_answers_as_torchvision(name: str) -> None:
    from torchvision import models

    theirs = getattr(models, name.removesuffix("_tv"))().eval()
    ours = create(name, mean=None).eval()
    load_weights(ours, theirs.state_dict())
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        assert torch.allclose(ours(images).logits, theirs(images), atol=1e-4, rtol=1e-4)


def test_the_transformer_answers_as_torchvision_and_as_timm() -> None:
    import timm
    from torchvision.models import VisionTransformer

    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    values = {"patch": 8, "size": 32, "channels": 24, "depth": 2, "heads": 2, "hidden": 40, "num_classes": 5}
    theirs = VisionTransformer(32, 8, 2, 2, 24, 40, num_classes=5)
    timms = timm.models.VisionTransformer(32, 8, num_classes=5, embed_dim=24, depth=2, num_heads=2, mlp_ratio=40 / 24)
    for net in (theirs.eval(), timms.eval()):
        torch.nn.init.normal_(net.get_submodule("heads.head" if net is theirs else "head").weight)
        ours = create("vit", mean=None, **values).eval()
        load_weights(ours, net.state_dict())
        with torch.no_grad():
            assert torch.allclose(ours(images).logits, net(images), atol=1e-5)


def test_googlenet_answers_as_torchvision() -> None:
    from torchvision.models.googlenet import GoogLeNet

    images = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    theirs = GoogLeNet(num_classes=5, aux_logits=True, init_weights=False).train()
    ours = create("googlenet_tv", num_classes=5, mean=None, dropout=0.0)
    load_weights(ours, theirs.state_dict())
    with torch.no_grad():
        theirs.eval()
        assert torch.allclose(ours.eval()(images).logits, theirs(images), atol=1e-5)
