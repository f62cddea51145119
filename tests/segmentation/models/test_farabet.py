"""Farabet's network: its field, tables and counts; the pyramid by loops; the ways; superpixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.draw import to_display
from sightline.nn.patches import Way
from sightline.ops.resize import resize
from sightline.ops.superpixels import felzenszwalb
from sightline.segmentation.models.farabet import (
    Farabet,
    TableConv2d,
    farabet,
    halve,
    laplacian_pyramid,
    normalize_locally,
)
from sightline.segmentation.predict import answer


def tiny(way: Way = "strided", **values: float) -> Farabet:
    torch.manual_seed(0)
    return farabet(num_classes=3, maps=(8, 6, 4), hidden=5, way=way, **values).eval()  # type: ignore[arg-type]


def test_field_and_layers_are_those_of_the_paper() -> None:
    net = farabet()
    assert (net.field, net.stride, net.scales) == (46, 4, 3)
    tables = [layer for layer in net.network if isinstance(layer, TableConv2d)]
    assert [layer.weight.shape for layer in tables] == [(10 + 6 * 2, 7, 7), (64 * 8, 7, 7), (256 * 32, 7, 7)]
    first = list(zip(tables[0].outputs.tolist(), tables[0].inputs.tolist()))
    assert first[:10] == [(k, 0) for k in range(10)] and set(first[10:]) == {
        (k, c) for k in range(10, 16) for c in (1, 2)
    }
    for layer, reads in ((tables[1], 8), (tables[2], 32)):
        assert set(Counter(layer.outputs.tolist()).values()) == {reads}
        assert len(set(zip(layer.outputs.tolist(), layer.inputs.tolist()))) == len(layer.weight)  # no pair twice
        used = Counter(layer.inputs.tolist())
        assert max(used.values()) - min(used.values()) <= 2  # every input is read about as often
    counts = [sum(p.numel() for p in layer.parameters()) for layer in tables]
    assert counts == [1_078 + 16, 25_088 + 64, 401_408 + 256]
    classifier = 768 * 1024 + 1024 + 1024 * 8 + 8
    assert sum(p.numel() for p in net.parameters()) == sum(counts) + classifier == 1_223_566


def test_the_tables_come_from_the_seed_and_travel_with_the_weights() -> None:
    one, two = tiny(seed=1), tiny(seed=2)
    assert not torch.equal(one.network[3].inputs, two.network[3].inputs)
    two.load_state_dict(one.state_dict())
    images = torch.rand(1, 3, 20, 30)
    with torch.no_grad():
        assert torch.equal(one(images).logits, two(images).logits)


def test_a_table_convolution_against_one_pair_at_a_time() -> None:
    torch.manual_seed(0)
    layer = TableConv2d(3, 4, 3, [(0, 0), (1, 2), (1, 0), (3, 1)])
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 9)
    for step in (1, 2):
        expected = layer.bias[None, :, None, None].expand(2, 4, 8 - 2 * step, 9 - 2 * step).clone()
        for pair, (k, c) in enumerate(((0, 0), (1, 2), (1, 0), (3, 1))):
            expected[:, k] += F.conv2d(x[:, c : c + 1], layer.weight[pair][None, None], dilation=step)[:, 0]
        assert torch.allclose(layer.dilated(x, step), expected, atol=1e-5)


def test_the_pyramid_adds_up_to_the_picture() -> None:
    x = torch.rand(2, 3, 33, 49)
    bands = laplacian_pyramid(x)
    assert [tuple(band.shape[-2:]) for band in bands] == [(33, 49), (17, 25), (9, 13)]
    whole = bands[2]
    for band in reversed(bands[:2]):
        whole = band + resize(whole, band.shape[-2:], rule="align_corners")
    assert torch.allclose(whole, x, atol=1e-6)
    tap = np.array([1, 4, 6, 4, 1]) / 16
    middle = (x[0, 0, 4:9, 8:13].numpy() * np.outer(tap, tap)).sum()
    assert halve(x)[0, 0, 3, 5] == pytest.approx(middle, abs=1e-6)


def test_neighbourhoods_have_mean_0_and_variance_1() -> None:
    x = torch.rand(1, 2, 9, 11, dtype=torch.float64)
    found = normalize_locally(x, side=5, floor=0.01)
    for y, column in ((0, 0), (4, 5), (8, 2)):
        around = x[0, 1, max(y - 2, 0) : y + 3, max(column - 2, 0) : column + 3]
        expected = (x[0, 1, y, column] - around.mean()) / (around.var(correction=0) + 1e-4).sqrt()
        assert float(found[0, 1, y, column]) == pytest.approx(float(expected), abs=1e-9)
    assert not normalize_locally(torch.full((1, 1, 20, 20), 0.3)).abs().max() > 1e-3


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_every_pixel_has_the_features_of_its_own_patches(padding: str) -> None:
    images = torch.rand(1, 3, 15, 18)
    found: dict[str, Tensor] = {}
    for way in ("patches", "stitch", "dilated", "strided"):
        net = tiny(way, padding=padding)  # type: ignore[arg-type]
        with torch.no_grad():
            found[way] = net(images).logits
    assert torch.allclose(found["stitch"], found["patches"], rtol=0, atol=1e-6)
    assert torch.allclose(found["dilated"], found["patches"], rtol=0, atol=1e-6)
    assert torch.allclose(found["strided"][..., ::16, ::16], found["dilated"][..., ::16, ::16], rtol=0, atol=1e-6)
    assert not torch.allclose(found["strided"], found["dilated"], atol=1e-3)


def test_in_training_places_are_four_pixels_apart() -> None:
    net, images = tiny("dilated").train(), torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(net(images).logits, tiny("strided")(images).logits)


def test_superpixels_take_one_class_each() -> None:
    image = np.kron(np.random.default_rng(0).integers(0, 255, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    net, plain = tiny(), tiny(superpixels=0.0)
    one, two = (answer(x, image, preprocess=Preprocess()) for x in (net, plain))
    assert one.probabilities is not None and two.probabilities is not None
    regions = felzenszwalb(to_display(image), scale=100.0)
    assert regions.max() > 3
    for k in range(regions.max() + 1):
        mask = torch.from_numpy(regions == k)
        assert len(one.labels[mask].unique()) == 1
        mean = two.probabilities[:, mask].mean(1)
        assert torch.allclose(one.probabilities[:, mask], mean[:, None].expand(-1, int(mask.sum())), atol=1e-5)
    tiled = answer(net, np.tile(image, (2, 2, 1)), preprocess=Preprocess())
    assert tiled.labels.shape == (64, 80)


def test_wrong_values() -> None:
    with pytest.raises(UsageError, match="expected three numbers"):
        farabet(maps=(4, 4))
