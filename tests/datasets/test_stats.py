"""The numbers about pixels, against slow sums."""

import numpy as np
import pytest

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.datasets.stats import stats
from sightline.errors import SightlineError


def test_every_number_equals_a_slow_sum(make):
    for i, size in enumerate([(6, 8), (10, 4), (5, 5)]):
        make.picture(f"images/{i}.png", size)
        make.mask(f"masks/{i}.png", np.resize(np.array([0, 1, 2, 255, 0]), size))
    data = open_dataset(make.root, val=0, classes=("a", "b", "c", "never"))
    found = stats(data)
    pixels = np.concatenate([read_picture(r).reshape(-1, 3) for r in data.records]).astype(np.float64)
    labels = np.concatenate([read_labels_of(r, 4).ravel() for r in data.records])
    assert (found.pictures, found.looked, found.labelled) == (3, 3, 3)
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0) / 255, rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(axis=0) / 255, rtol=1e-9)
    assert (found.low, found.high) == (pixels.min(), pixels.max())
    np.testing.assert_allclose(found.percentiles[99.0], np.percentile(pixels, 99), rtol=1e-6)
    assert found.class_pixels == tuple(int((labels == k).sum()) for k in range(4))
    assert found.class_pictures == (3, 3, 3, 0) and found.ignored == (labels == 255).mean()
    assert found.sizes == ((6, 8), (10, 4), (5, 5)) and found.median_size == (6, 5)
    assert found.smallest == (5, 4) and found.largest == (10, 8)
    assert sum(found.class_shares) == pytest.approx(1)


def test_twelve_bits_in_sixteen_show_in_the_range(make):
    make.mask("images/a.png", np.arange(48).reshape(6, 8) * 85, np.uint16)
    make.flat("masks/a.png", 0, 255)
    found = stats(open_dataset(make.root, val=0))
    assert found.dtypes == {"uint16": 1} and found.channels == {1: 1} and found.high == 47 * 85
    assert found.mean[0] == pytest.approx(23.5 * 85 / 65535)


def test_the_size_of_objects(make):
    mask = np.zeros((30, 30), np.uint8)
    mask[2:6, 2:6] = mask[10:18, 10:18] = 255
    make.picture("images/a.png", (30, 30))
    make.mask("masks/a.png", mask)
    assert stats(open_dataset(make.root, val=0)).object_size == pytest.approx(np.sqrt((16 + 64) / 2))


def test_a_seeded_sample_and_errors_with_the_path(pairs):
    root = pairs(10)
    data = open_dataset(root, val=0)
    assert stats(data, limit=3, seed=1) == stats(data, limit=3, seed=1) != stats(data, limit=3, seed=2)
    assert stats(data, limit=3).looked == 3
    (root / "images/p4x.png").write_bytes(b"")
    with pytest.raises(SightlineError, match=r"p4x\.png is empty"):
        stats(data)
    with pytest.raises(SightlineError, match="no pictures"):
        stats(data.split("nope"))
