"""DeconvNet: the prototxt's layer table and count; windows merged by their largest scores; times FCN-8s."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.segmentation.models.deconvnet import (
    DeconvNet,
    crop_boxes,
    deconvnet,
    deconvnet_ensemble,
    grid_of_windows,
    paste_boxes,
)
from sightline.segmentation.predict import see
from sightline.verbs.load import load_weights, save_weights


def tiny(**values: int) -> DeconvNet:
    torch.manual_seed(0)
    net = deconvnet(num_classes=3, width=4, hidden=16, window=64, mean=None, **values).eval()
    nn.init.normal_(net.score.weight, std=3.0)
    return net


def test_the_layers_are_those_of_the_prototxt() -> None:
    with torch.device("meta"):
        net = deconvnet()
    layers = {n: m for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))}
    up = [(512, 512, 512, 512), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64), (64, 64, 64)]
    for level, channels in zip((4, 3, 2, 1, 0), up, strict=True):
        for i, pair in enumerate(itertools.pairwise(channels)):
            layer = layers[f"decoder.{level}.{i}.0"]
            assert isinstance(layer, nn.ConvTranspose2d) and (layer.in_channels, layer.out_channels) == pair
            assert (layer.kernel_size, layer.padding, layer.stride) == ((3, 3), (1, 1), (1, 1))
    assert (layers["fc6.0"].kernel_size, layers["fc6.0"].out_channels) == ((7, 7), 4096)
    assert (layers["fc6_deconv.0"].kernel_size, layers["fc6_deconv.0"].out_channels) == ((7, 7), 512)
    assert len(layers) == 13 + 3 + 13 + 1
    weights = sum(m.weight.numel() for m in layers.values())
    biases = sum(m.bias.numel() for m in layers.values() if m.bias is not None)
    norms = sum(p.numel() for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert (weights, biases, norms) == (251_755_520, 16_725, 33_408)
    assert not any(isinstance(m, nn.Dropout) for m in net.modules())


def test_a_picture_of_the_window_becomes_one_vector() -> None:
    net, shapes = deconvnet(num_classes=3, width=1, hidden=8).eval(), []
    net.fc7.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.shape[-2:])))
    with torch.no_grad():
        for size in ((224, 224), (100, 150), (225, 300)):
            assert net(torch.rand(1, 3, *size)).logits.shape[-2:] == size
    assert shapes == [(1, 1), (1, 1), (2, 4)]


def test_small_pictures_are_padded_with_the_mean() -> None:
    net, images = tiny(), torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(net(images).logits, net(F.pad(images, (0, 14, 0, 24))).logits[..., :40, :50])


def test_one_vector_in_the_batch_can_train() -> None:
    net = tiny().train()
    assert bool(net(torch.rand(1, 3, 64, 64)).logits.isfinite().all())


def test_crops_are_pasted_back_where_they_were() -> None:
    x = torch.rand(2, 3, 20, 30)
    whole = torch.tensor([[4.0, 2.0, 20.0, 18.0], [10.0, 4.0, 26.0, 20.0]])
    crops = crop_boxes(x, whole, 16)  # a pixel for a pixel
    assert torch.allclose(crops[0], x[0, :, 2:18, 4:20], atol=1e-5)
    pasted = paste_boxes(crops, whole, 20, 30)
    inside = torch.zeros(2, 1, 20, 30)
    inside[0, :, 2:18, 4:20] = 1
    inside[1, :, 4:20, 10:26] = 1
    assert torch.allclose(pasted, x * inside, atol=1e-5)
    beyond = crop_boxes(x[:1], torch.tensor([[-10.0, -10.0, 10.0, 10.0]]), 20)
    assert not beyond[:, :, :9, :9].any() and torch.allclose(beyond[:, :, 11:, 11:], x[:1, :, 1:10, 1:10], atol=1e-5)


def test_crops_resize_as_pictures_are_resized() -> None:
    x = torch.rand(1, 2, 12, 18)
    crop = crop_boxes(x, torch.tensor([[0.0, 0.0, 18.0, 12.0]]), 48)
    expected = F.interpolate(x, (48, 48), mode="bilinear")
    assert torch.allclose(crop[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5)


def merged(net: DeconvNet, images: Tensor, boxes: list[tuple[int, int]]) -> Tensor:
    """The largest scores of windows of 64 pixels on a canvas of zeros, one pixel at a time."""
    canvas = torch.zeros(1, 3, *images.shape[-2:])
    for left, top in boxes:
        scores = net(images[..., top : top + 64, left : left + 64]).logits
        for y in range(64):
            for x in range(64):
                place = canvas[0, :, top + y, left + x]
                canvas[0, :, top + y, left + x] = torch.maximum(place, scores[0, :, y, x])
    return canvas


def test_windows_are_merged_by_their_largest_scores() -> None:
    net, images = tiny(), torch.rand(1, 3, 80, 96)
    corners = [(0, 0), (20, 10), (32, 16)]
    boxes = torch.tensor([[[x, y, x + 64.0, y + 64.0] for x, y in corners]])
    with torch.no_grad():
        found = net(images, proposals=boxes).logits
        expected = merged(net, images, corners)
    assert float(found.max()) > 0 and float(found.min()) == 0
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_grid_covers_the_picture() -> None:
    boxes = grid_of_windows(60, 90, 3)
    assert len(boxes) == 14 and boxes[0].tolist() == [0, 0, 90, 60]
    for n, some in ((2, boxes[1:5]), (3, boxes[5:])):
        assert some[0].tolist() == [0, 0, 180 / (n + 1), 120 / (n + 1)]
        assert torch.allclose(some[-1], torch.tensor([90 - 180 / (n + 1), 60 - 120 / (n + 1), 90, 60]))


def test_predict_looks_through_windows() -> None:
    images = torch.rand(1, 3, 70, 70)
    with torch.no_grad():
        one, none = tiny(windows=1), tiny(windows=0)
        assert torch.equal(see(none, images), none(images).logits.softmax(1))
        box = torch.tensor([[[0.0, 0.0, 70.0, 70.0]]])
        assert torch.equal(see(one, images), one(images, proposals=box).logits.softmax(1))
    with pytest.raises(UsageError, match="a multiple of 32"):
        deconvnet(window=100)


def test_the_ensemble_is_a_product_of_what_lies_above_zero() -> None:
    torch.manual_seed(0)
    net = deconvnet_ensemble(num_classes=3, width=4, hidden=16, window=64, windows=2).eval()
    nn.init.normal_(net.fcn.score_fr.weight)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        boxes = grid_of_windows(64, 64, 2)[None]
        one, other = net.deconvnet(images, proposals=boxes).logits, net.fcn(images).logits
        assert torch.allclose(net.look(images).logits, one * other.clamp(min=0))
        assert torch.allclose(net(images).logits, net.deconvnet(images).logits.relu() * other.relu())


def test_files_of_caffe_load_into_the_network_and_into_the_ensembles_part(tmp_path: Path) -> None:
    one, two = tiny(), deconvnet_ensemble(num_classes=3, width=4, hidden=16, window=64, mean=None).eval()
    path = save_weights(one, tmp_path / "caffe.npz", layout="caffe")
    report = load_weights(two.deconvnet, path)
    assert report.origin == "caffe" and not report.missing and not report.unexpected
    images = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        assert torch.allclose(two.deconvnet(images).logits, one(images).logits, rtol=1e-3, atol=1e-3)
