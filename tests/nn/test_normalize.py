"""The first layer: statistics, colour order, what lies outside a picture."""

import itertools

import pytest
import torch

from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels, inside


def test_each_channel_by_its_own_numbers() -> None:
    image = torch.rand(2, 3, 4, 5)
    before = image.clone()
    x = Normalize(IMAGENET_MEAN, IMAGENET_STD)(image)
    for c in range(3):
        expected = (image[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        assert torch.allclose(x[:, c], expected)
    assert torch.equal(image, before)


def test_caffe_form_is_bgr_with_the_mean_taken_off_0_to_255() -> None:
    mean = (122.7, 116.7, 104.0)
    image = torch.rand(1, 3, 2, 2)
    x = Normalize([m / 255 for m in mean], [1 / 255] * 3, bgr=True)(image)
    for place, c in enumerate((2, 1, 0)):
        assert torch.allclose(x[:, place], 255 * image[:, c] - mean[c], atol=1e-4)


def test_no_mean_passes_pictures_through() -> None:
    image = torch.rand(1, 7, 3, 3)
    assert torch.equal(Normalize(None)(image), image)


def test_zero_outside_the_valid_size() -> None:
    image = torch.rand(2, 3, 6, 8)
    sizes = torch.tensor([[6, 8], [4, 3]])
    x = Normalize()(image, sizes)
    whole = Normalize()(image)
    for b, (h, w) in enumerate(sizes.tolist()):
        for i in range(6):
            for j in range(8):
                expected = whole[b, :, i, j] if i < h and j < w else torch.zeros(3)
                assert torch.equal(x[b, :, i, j], expected)
    assert inside(sizes, image).shape == (2, 1, 6, 8)


def test_statistics_are_no_part_of_a_checkpoint() -> None:
    assert Normalize().state_dict() == {}


def test_other_channel_counts_get_the_average() -> None:
    mean, std = for_channels((0.1, 0.2, 0.6), (0.1, 0.1, 0.4), 2)
    assert mean == pytest.approx((0.3, 0.3)) and std == pytest.approx((0.2, 0.2))
    assert for_channels((0.5,), (0.5,), 3) == ((0.5,) * 3, (0.5,) * 3)
    assert for_channels(None, None, 4) == (None, None)


def test_wrong_counts_are_said() -> None:
    with pytest.raises(UsageError, match="2 numbers for 5 channels"):
        for_channels((0.1, 0.2), (1, 1), 5)
    with pytest.raises(UsageError, match="same length"):
        Normalize((0.1, 0.2), (1.0,))
    with pytest.raises(UsageError, match="std above 0"):
        Normalize((0.1,), (0.0,))


def test_clips_and_volumes_are_cut_along_the_axes_that_sizes_count() -> None:
    x = torch.rand(2, 2, 4, 5, 6) + 1
    found = Normalize((0.5, 0.25), (0.5, 2.0))(x, torch.tensor([[5, 6], [3, 4]]))
    volume = Normalize((0.5, 0.25), (0.5, 2.0))(x, torch.tensor([[4, 5, 6], [2, 3, 4]]))
    for b, c, z, i, j in itertools.product(range(2), range(2), range(4), range(5), range(6)):
        value = (float(x[b, c, z, i, j]) - (0.5, 0.25)[c]) / (0.5, 2.0)[c]
        plane = b == 0 or (i < 3 and j < 4)
        assert float(found[b, c, z, i, j]) == pytest.approx(value if plane else 0.0, abs=1e-6)
        assert float(volume[b, c, z, i, j]) == pytest.approx(value if plane and (b == 0 or z < 2) else 0.0, abs=1e-6)
