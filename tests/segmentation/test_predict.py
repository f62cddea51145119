"""Whole, tiled, mirrored and scaled looks at a picture give one answer, at the picture's own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.labels import read_labels
from sightline.segmentation.contract import Scores
from sightline.segmentation.predict import Procedure, answer, label_slabs, label_tiff, see, views


class Net(nn.Module):
    """A segmentation network of one convolution, padded with zeros. It remembers the sizes it was given."""

    def __init__(self, num_classes: int = 3, *, channels: int = 3, kernel: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, num_classes, kernel, padding=kernel // 2)
        nn.init.normal_(self.conv.weight, std=3.0)
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Scores:
        assert images.dtype == torch.float32
        self.sizes.append((images.shape[-2], images.shape[-1]))
        return Scores(self.conv(images))


class Unpadded(Net):
    """Two unpadded 3x3 convolutions: a margin of two pixels; it takes even sides from 6 pixels on."""

    margin = 2

    def __init__(self) -> None:
        super().__init__(num_classes=4, kernel=3)
        self.conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3))

    def legal_size(self, size: int) -> int:
        return max(6, size + size % 2)

    def forward(self, images: Tensor) -> Scores:
        assert all(n % 2 == 0 and n >= 6 for n in images.shape[-2:])
        return super().forward(images)


def _picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _plain(net: nn.Module, image: np.ndarray) -> Tensor:
    """Class probabilities `(K, H, W)` straight from the network."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return net(x).logits.softmax(1)[0]


KEEP = Procedure(keep=True)


def test_a_whole_picture_is_the_networks_own_answer() -> None:
    net, image = Net(kernel=3), _picture(17, 23)
    found = answer(net, image, preprocess=Preprocess(), classes=("a", "b", "c"), name="x")
    assert found.probabilities is not None
    assert torch.equal(found.probabilities, _plain(net, image))
    assert torch.equal(found.labels, _plain(net, image).argmax(0).byte())
    assert found.classes == ("a", "b", "c") and found.name == "x" and found.image is image


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.integers(1, 24),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.75]),
)
def test_tiles_of_any_size_say_what_the_whole_says(size: tuple[int, int], tile: int, overlap: float) -> None:
    """Of a network that looks at single pixels."""
    net, image = Net(), _picture(*size)
    whole = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=0))
    tiled = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=tile, overlap=overlap, keep=True))
    assert whole.probabilities is not None and tiled.probabilities is not None
    assert torch.allclose(tiled.probabilities, whole.probabilities, atol=1e-5)
    sure = whole.probabilities.topk(2, dim=0).values.diff(dim=0)[0] < -1e-4
    assert torch.equal(tiled.labels[sure], whole.labels[sure])
    assert tiled.labels.shape == size and tiled.labels.dtype == torch.uint8


def test_tiles_without_keeping_give_the_same_labels_and_no_probabilities() -> None:
    net, image = Net(kernel=3), _picture(50, 30)
    kept = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=16, keep=True))
    free = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=16))
    assert torch.equal(free.labels, kept.labels)
    assert free.probabilities is None and kept.probabilities is not None
    assert free.classes == kept.classes == ("0", "1", "2")
    assert max(net.sizes) == (16, 16)


def test_slabs_leave_as_soon_as_they_are_done() -> None:
    """Rows come out in order while tiles are still going in: memory is one slab, not one picture."""
    looked = []

    def window(top: int, left: int, height: int, width: int) -> Tensor:
        looked.append(top)
        return torch.full((1, height, width), float(top))

    first = next(iter(label_slabs(lambda x: x, window, (100, 20), 10, 0.5)))
    assert first[0] == 0 and first[1].shape == (1, 5, 20)
    assert max(looked) == 5  # only two of nineteen rows of tiles have been looked at
    rows = [(start, part.shape[1]) for start, part in label_slabs(lambda x: x, window, (100, 20), 10, 0.5)]
    assert [start for start, _ in rows] == [sum(n for _, n in rows[:k]) for k in range(len(rows))]
    assert sum(n for _, n in rows) == 100


# Mirrored and scaled views -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flips", "axes"), [("h", [-1]), ("hv", [-1]), ("hv", [-2]), ("hv", [-1, -2])])
def test_averaging_mirrored_views_makes_the_answer_mirror_with_the_picture(flips: str, axes: list[int]) -> None:
    net, x = Net(kernel=3).eval(), torch.rand(1, 3, 12, 15)
    with torch.inference_mode():
        plain, turned = (views(net, v, Procedure(flips=flips)) for v in (x, x.flip(axes)))
        assert torch.allclose(turned, plain.flip(axes), atol=1e-6)
        alone = views(net, x.flip(axes), Procedure())
        assert not torch.allclose(alone, views(net, x, Procedure()).flip(axes), atol=1e-3)


def test_views_are_averaged_as_probabilities() -> None:
    net, x = Net(kernel=3).eval(), torch.rand(2, 3, 9, 8)
    with torch.inference_mode():
        sides = [net(x).logits.softmax(1), net(x.flip(-1)).logits.softmax(1).flip(-1)]
        assert torch.allclose(views(net, x, Procedure(flips="h")), (sides[0] + sides[1]) / 2, atol=1e-6)


def test_scales_are_looked_at_in_their_own_size_and_mapped_back() -> None:
    net = Net().eval()
    x = F.interpolate(torch.rand(1, 3, 3, 3), (32, 48), mode="bilinear")  # smooth: scaling changes little
    with torch.inference_mode():
        found = views(net, x, Procedure(scales=(0.5, 1.0, 2.0)))
        assert net.sizes == [(16, 24), (32, 48), (64, 96)]
        assert found.shape == (1, 3, 32, 48)
        assert torch.allclose(found, views(net, x, Procedure()), atol=0.05)
        assert torch.allclose(found.sum(1), torch.ones(1, 32, 48), atol=1e-5)


def test_scales_and_flips_work_in_tiles() -> None:
    net, image = Net(), np.full((40, 50, 3), 90, np.uint8)
    procedure = Procedure(tile=16, flips="hv", scales=(0.5, 1.0), keep=True)
    found = answer(net, image, preprocess=Preprocess(), procedure=procedure)
    assert found.probabilities is not None
    assert torch.allclose(found.probabilities, _plain(net, image), atol=1e-5)


def test_items_of_a_batch_do_not_depend_on_each_other() -> None:
    net, x = Net(kernel=3).eval(), torch.rand(3, 3, 10, 11)
    procedure = Procedure(flips="hv", scales=(1.0, 1.5))
    with torch.inference_mode():
        together = views(net, x, procedure, multiple=4)
        for i in range(3):
            assert torch.allclose(together[i : i + 1], views(net, x[i : i + 1], procedure, multiple=4), atol=1e-6)


# Sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["short(12)", "long(64)", "exact(20, 10)"])
@pytest.mark.parametrize("tile", [0, 8])
def test_answers_are_mapped_back_to_the_pictures_size(rule: str, tile: int) -> None:
    net = Net()
    image = np.zeros((24, 36, 3), np.uint8)
    image[:, 18:] = 255  # left black, right white
    found = answer(net, image, preprocess=Preprocess(resize=rule), procedure=Procedure(tile=tile))
    expected = _plain(net, image)
    assert found.labels.shape == (24, 36)
    assert found.probabilities is not None and found.probabilities.shape == (3, 24, 36)
    for columns in (slice(0, 10), slice(26, 36)):  # away from the edge, which interpolation smears
        assert torch.allclose(found.probabilities[:, :, columns], expected[:, :, columns], atol=1e-4)


def test_the_network_sees_sides_that_divide_in_every_way_of_looking() -> None:
    for procedure in (Procedure(), Procedure(tile=20), Procedure(flips="h", scales=(0.7, 1.0))):
        net, image = Net(), _picture(30, 45)
        found = answer(net, image, preprocess=Preprocess(multiple=8), procedure=procedure)
        assert found.labels.shape == (30, 45)
        assert net.sizes and all(n % 8 == 0 for size in net.sizes for n in size)


def test_padding_shows_the_mirrored_picture() -> None:
    net, x = Net(kernel=3).eval(), torch.rand(1, 3, 10, 13)
    with torch.inference_mode():
        by_hand = net(F.pad(x, (0, 3, 0, 6), mode="reflect")).logits.softmax(1)[..., :10, :13]
        assert torch.equal(see(net, x, multiple=16), by_hand)


# Unpadded networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12, 16), (11, 7), (3, 20)])
def test_unpadded_networks_answer_every_pixel_by_mirroring(size: tuple[int, int]) -> None:
    net, x = Unpadded().eval(), torch.rand(1, 3, *size)
    with torch.inference_mode():
        pads = [(0, 0), (0, 0), *((2, 2 + n % 2) for n in size)]
        padded = np.pad(x.numpy(), pads, mode="reflect")  # PyTorch's own cannot reach further than the picture
        by_hand = net(torch.from_numpy(padded)).logits.softmax(1)[..., : size[0], : size[1]]
        assert torch.allclose(see(net, x), by_hand, atol=1e-6)


def test_unpadded_networks_answer_pictures_smaller_than_their_margin() -> None:
    found = answer(Unpadded(), _picture(1, 2), preprocess=Preprocess())
    assert found.labels.shape == (1, 2)


@pytest.mark.parametrize(
    "procedure", [Procedure(tile=10, overlap=0.0), Procedure(tile=7), Procedure(tile=8, flips="hv")]
)
def test_unpadded_tiles_see_what_surrounds_them(procedure: Procedure) -> None:
    """So tiles say exactly what the whole says, though the network looks beyond each tile."""
    net, image = Unpadded(), _picture(29, 24)
    whole = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=0, flips=procedure.flips))
    tiled = answer(net, image, preprocess=Preprocess(), procedure=Procedure(**{**vars(procedure), "keep": True}))
    assert whole.probabilities is not None and tiled.probabilities is not None
    assert torch.allclose(tiled.probabilities, whole.probabilities, atol=1e-5)


# Pictures of every kind, answers of every kind ---------------------------------------------------------------------


def test_grey_pictures_feed_colour_networks_and_the_other_way_round() -> None:
    grey = _picture(9, 10, 1)
    colour = np.repeat(grey, 3, axis=2)
    net = Net()
    one, three = (answer(net, v, preprocess=Preprocess()).labels for v in (grey, colour))
    assert torch.equal(one, three)
    assert torch.equal(answer(net, grey[..., 0], preprocess=Preprocess()).labels, three)
    net = Net(channels=1)
    one, three = (answer(net, v, preprocess=Preprocess(channels=1)).labels for v in (grey, colour))
    assert torch.equal(one, three)


def test_sixteen_bits_say_the_same_as_eight() -> None:
    net, image = Net(), _picture(9, 10)
    shallow = answer(net, image, preprocess=Preprocess())
    deep = answer(net, image.astype(np.uint16) * 257, preprocess=Preprocess())
    twelve = answer(net, image.astype(np.uint16) * 16, preprocess=Preprocess(intensity="window(0, 4080)"))
    tiled = answer(net, image.astype(np.uint16) * 257, preprocess=Preprocess(), procedure=Procedure(tile=4))
    for found in (deep, twelve, tiled):
        assert torch.equal(found.labels, shallow.labels)


def test_one_logit_is_a_sigmoid_and_tells_apart_from_background() -> None:
    net, image = Net(num_classes=1), _picture(8, 8)
    found = answer(net, image, preprocess=Preprocess(), classes=("nucleus",))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        assert torch.equal(found.labels, (net(x).logits[0, 0] > 0).byte())
    assert found.classes == ("background", "nucleus")
    assert found.probabilities is not None and found.probabilities.shape == (1, 8, 8)


def test_as_many_classes_as_a_label_map_holds_and_not_one_more() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    net = Net(num_classes=255)
    with torch.no_grad():
        net.conv.bias.zero_()
        net.conv.bias[254] = 5.0
    assert answer(net, image, preprocess=Preprocess()).labels.unique().tolist() == [254]
    with pytest.raises(UsageError, match="300 classes; a label map holds at most 255"):
        answer(Net(num_classes=300), image, preprocess=Preprocess())


def test_the_picture_is_not_written_into_and_no_gradient_is_kept() -> None:
    net, image = Net(), _picture(20, 20)
    before = image.copy()
    found = answer(net, image, preprocess=Preprocess(), procedure=Procedure(tile=8, flips="hv", keep=True))
    assert (image == before).all()
    assert found.probabilities is not None and not found.probabilities.requires_grad


# TIFFs too large for memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [Net(), Net(kernel=3), Unpadded()], ids=["pixels", "padded", "unpadded"])
@pytest.mark.parametrize(
    ("dtype", "rule"), [("uint8", "dtype_max"), ("uint16", "window(0, 255)"), ("float32", "percentile(1, 99)")]
)
@pytest.mark.parametrize(
    "procedure", [Procedure(tile=16), Procedure(tile=0), Procedure(tile=12, overlap=0.3, flips="h")]
)
def test_a_tiff_is_labelled_window_by_window_as_a_picture_in_memory(
    tmp_path: Path, net: Net, dtype: str, rule: str, procedure: Procedure
) -> None:
    image = _picture(37, 45).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", image, photometric="rgb", tile=(16, 16))
    preprocess, classes = Preprocess(intensity=rule), ("a", "b", "c", "d")
    streamed = label_tiff(
        net.eval(), tmp_path / "in.tif", tmp_path / "out.tif", preprocess=preprocess, classes=classes, name="x",
        procedure=procedure,
    )  # fmt: skip
    expected = answer(net, image, preprocess=preprocess, classes=classes, procedure=procedure)
    assert (streamed.labels != expected.labels).float().mean() < 0.002  # two nearly equal classes may swap
    written = read_labels(tmp_path / "out.tif")
    assert (written == streamed.labels.numpy()).all()
    assert list(streamed.pixels.values()) == np.bincount(written.ravel(), minlength=4).tolist()
    assert streamed.files == {"labels": str(tmp_path / "out.tif")} and streamed.name == "x"


def test_a_tiff_in_tiles_cannot_be_resized(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", _picture(8, 8))
    with pytest.raises(UsageError, match=r"resize=short\(4\) does not allow"):
        label_tiff(Net(), tmp_path / "in.tif", tmp_path / "out.tif", preprocess=Preprocess(resize="short(4)"))
    assert not (tmp_path / "out.tif").exists()


# The procedure -----------------------------------------------------------------------------------------------------


def test_pictures_are_cut_into_tiles_when_asked_or_when_they_are_large() -> None:
    assert Procedure().tile_for(2048, 2048) == 0
    assert Procedure().tile_for(2048, 2049) == 512
    assert Procedure(tile=0).tile_for(10_000, 10_000) == 0
    assert Procedure(tile=64).tile_for(64, 64) == 0
    assert Procedure(tile=64).tile_for(10, 65) == 64


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"flips": "vh"}, "flips 'vh' are unknown; choose from none, h, hv"),
        ({"scales": ()}, "must be numbers above 0"),
        ({"scales": (1.0, 0.0)}, "must be numbers above 0"),
        ({"tile": -1}, "tile -1 and overlap 0.5"),
        ({"overlap": 1.0}, "overlap 1.0"),
    ],
)
def test_a_wrong_procedure_gets_one_sentence(values: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Procedure(**values)
