"""Flow between two frames: known motion, the bytes of dense_flow, and one sentence without OpenCV."""

import sys

import numpy as np
import pytest

from sightline.errors import UsageError
from sightline.media.flow_made import METHODS, flow_bytes, flow_method, flow_pixels


def test_bytes_by_hand():
    field = np.array([[-30.0, -20.0, -0.05, 0.0, 1.0, 19.99, 20.0, 99.0]])
    # (v + 20) 255 / 40, rounded to the nearest, halves to even: 0 -> 127.5 -> 128; 1 -> 133.875 -> 134
    assert flow_bytes(field).tolist() == [[0, 0, 127, 128, 134, 255, 255, 255]]
    assert np.abs(flow_pixels(flow_bytes(field)) - field.clip(-20, 20)).max() <= 20 / 255 + 1e-6


def test_one_sentence_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"by dis needs the package 'cv2': pip install 'sightline\[classical\]'"):
        flow_method("dis")
    with pytest.raises(UsageError, match="Did you mean 'tvl1'"):
        flow_method("tvl")


@pytest.mark.parametrize("name", METHODS)
def test_known_motion(name):
    pytest.importorskip("cv2", reason="computing flow needs the extra classical")
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    scene = np.asarray(Image.fromarray(noise).resize((112, 84), Image.Resampling.BICUBIC))
    between = flow_method(name)
    for x, y in ((3, 0), (0, -2), (-4, 1)):
        first, second = scene[10:74, 10:90], scene[10 - y : 74 - y, 10 - x : 90 - x]  # what is shown moves by (x, y)
        field = between(first, second)
        assert field.shape == (64, 80, 2) and field.dtype == np.float32
        inner = field[12:-12, 12:-12].reshape(-1, 2)
        assert np.abs(np.median(inner, axis=0) - (x, y)).max() < 0.3
    with pytest.raises(UsageError, match="16 a side"):
        between(scene[:8, :30], scene[:8, :30])
