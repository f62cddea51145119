"""SegNet: the released layer table, counts and sizes; Caffe's names; samples at prediction."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.segmentation.models.segnet import bayesian_segnet, segnet, segnet_basic, segnet_semseg
from sightline.segmentation.predict import answer
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.optimize import ready


def convolutions(net: nn.Module) -> list[tuple[str, int, int]]:
    return [(n, m.in_channels, m.out_channels) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]


def shaken(net: nn.Module) -> nn.Module:
    """Running statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return net.eval()


def test_the_layers_are_those_of_the_released_file() -> None:
    with torch.device("meta"):
        net = segnet()
    table = {name.removesuffix(".0"): channels for name, *channels in convolutions(net)}
    down = [(3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)]
    up = [(512, 512, 512, 512), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64), (64, 64)]
    for way, levels in (("encoder", list(enumerate(down))), ("decoder", list(zip((4, 3, 2, 1, 0), up)))):
        for level, channels in levels:
            for i, pair in enumerate(itertools.pairwise(channels)):
                assert table[f"{way}.{level}.{i}"] == list(pair)
    assert table["score"] == [64, 11] and len(table) == 26
    assert net.score.kernel_size == (3, 3)


def test_counts_of_the_released_files_and_of_the_port() -> None:
    counts = []
    with torch.device("meta"):
        for build in (segnet, bayesian_segnet, segnet_basic, segnet_semseg):
            counts.append(sum(p.numel() for p in build(num_classes=11).parameters()))
    assert counts == [29_449_355, 29_449_355, 1_416_587, 29_449_377]


def test_sizes_on_the_way_down_and_up_are_those_of_the_released_file() -> None:
    net, sizes = segnet(width=1, mean=None).eval(), []
    for convs in (*net.encoder, *reversed(net.decoder)):
        convs.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(inputs[0].shape[-2:])))
    with torch.no_grad():
        assert net(torch.rand(1, 3, 360, 480)).logits.shape == (1, 11, 360, 480)
    ways = [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    assert sizes == [*ways, *reversed(ways)]


def test_the_basic_form_normalises_its_input_and_goes_up_without_relu() -> None:
    net = segnet_basic(width=4).eval()
    assert all(isinstance(level[0][-1], nn.BatchNorm2d) for level in net.decoder)
    x = 255 * torch.rand(1, 3, 5, 6)
    squares = (x**2).sum(1, keepdim=True)  # three channels lie within five
    assert torch.allclose(net.before(x), x / (1 + 1e-4 / 5 * squares) ** 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "layout", "some"),
    [
        (
            segnet,
            "caffe",
            ("conv1_1.weight", "conv5_3_bn.bias", "conv5_3_D_bn.weight", "conv1_2_D.bias", "conv1_1_D.bias"),
        ),
        (
            segnet_basic,
            "caffe-basic",
            ("conv1.weight", "conv4_bn.bias", "conv_decode4_bn.weight", "conv_classifier.bias"),
        ),
    ],
)
def test_files_of_caffe_have_two_vectors_a_norm(build: Any, layout: str, some: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, two = shaken(build(width=4)), build(width=4).eval()
    path = save_weights(one, tmp_path / "caffe.npz", layout=layout)
    with np.load(path) as file:
        assert set(some) <= set(file.files) and not any("running" in name for name in file.files)
        assert "conv1_1_D_bn.weight" not in file.files
    report = load_weights(two, path)
    assert report.origin == layout and not report.missing and not report.unexpected
    images = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.allclose(two(images).logits, one(images).logits, rtol=1e-3, atol=1e-3)


def test_the_way_down_starts_from_torchvisions_vgg() -> None:
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    features = shaken(make_layers(cfgs["D"], batch_norm=True))
    net = segnet().eval()
    tensors = {f"features.{name}": value for name, value in features.state_dict().items()}
    report = load_weights(net, tensors, strict=False)
    assert report.origin == "torchvision-vgg16-bn" and all(not name.startswith("encoder") for name in report.missing)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        ours = net.encoder[1](nn.functional.max_pool2d(net.encoder[0](x.flip(1)), 2))  # our pictures are BGR here
        assert torch.allclose(ours, features[:13](x), atol=1e-5)


def test_dropout_stands_at_the_three_deepest_levels() -> None:
    net, seen = bayesian_segnet(width=2).eval(), []
    net.dropout.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        net(torch.rand(1, 3, 64, 64))
    assert seen == [8, 16, 16, 16, 8, 4]  # after pools 3, 4, 5; after the decoder's levels 5, 4, 3
    plain = segnet(width=2).eval()
    plain.load_state_dict(net.state_dict())
    images = torch.rand(1, 3, 33, 47)
    with torch.no_grad():
        assert torch.equal(net(images).logits, plain(images).logits)  # without sampling: weight averaging


def test_predict_samples_and_says_how_sure_it_is() -> None:
    torch.manual_seed(0)
    net = shaken(bayesian_segnet(num_classes=3, width=4, samples=4))
    image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    twin, words = ready(net, 3)
    assert "optimized" in words
    one, two = (answer(x, image, preprocess=Preprocess()) for x in (twin, twin))
    assert one.uncertainty is not None and two.uncertainty is not None and one.probabilities is not None
    assert one.uncertainty.shape == (40, 52) and float(one.uncertainty.max()) > 0
    assert torch.allclose(one.probabilities.sum(0), torch.ones(40, 52), atol=1e-5)
    assert torch.equal(one.uncertainty, two.uncertainty) and torch.equal(one.labels, two.labels)
    assert answer(net, image, preprocess=Preprocess()).uncertainty is not None
    with pytest.raises(UsageError, match="a share between 0 and 1"):
        bayesian_segnet(width=4, dropout=0.0)


def test_the_port_ends_in_a_norm_and_relu() -> None:
    net = shaken(segnet_semseg(num_classes=3, width=4))
    logits: Tensor = net(torch.rand(1, 3, 40, 40)).logits
    assert float(logits.detach().min()) == 0.0
