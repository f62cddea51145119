"""Optical flow between two frames, computed by OpenCV, as the bytes of flow pictures.

`dis`: dense inverse search (Kroeger et al. 2016), a few milliseconds a frame. `tvl1`: TV-L1 (Zach, Pock & Bischof
2007), what most published weights of flow networks were trained on, a second a frame. Both need the extra `classical`.

Bytes are dense_flow's: -20 to 20 pixels become 0 to 255, so that 128 means no motion; more than that is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.errors import UsageError, did_you_mean, missing_extra

METHODS = ("dis", "tvl1")
BOUND = 20.0
"""Pixels of motion that the bytes 0 and 255 stand for."""


def flow_method(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function `(first, second) -> (H, W, 2)` float32: x and y, in pixels, that lead from one frame to the next.

    Frames are uint8 RGB `(H, W, 3)` of 16 pixels a side or more. Raises `UsageError` for an unknown name, or where
    OpenCV is not installed.
    """
    if name not in METHODS:
        raise UsageError(f"flow is computed by {' or '.join(METHODS)}, not by '{name}'.{did_you_mean(name, METHODS)}")
    cv2 = _opencv(f"computing flow by {name}")
    if name == "tvl1" and not hasattr(cv2, "optflow"):
        raise UsageError("computing flow by tvl1 needs OpenCV's contributed part: pip install 'sightline[classical]'")
    method = cv2.optflow.createOptFlow_DualTVL1() if name == "tvl1" else cv2.DISOpticalFlow.create(1)  # the fast one

    def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        if min(grey[0].shape) < 16:
            height, width = grey[0].shape
            raise UsageError(f"flow of frames of {width} x {height} pixels: 16 a side are the least; give larger ones")
        return method.calc(grey[0], grey[1], None)

    return between


def flow_bytes(field: np.ndarray) -> np.ndarray:
    """Flow in pixels as bytes: -20 to 20 become 0 to 255, 0 becomes 128."""
    return np.rint((field.clip(-BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def flow_pixels(values: np.ndarray) -> np.ndarray:
    """Bytes of a flow picture as pixels of motion, float32."""
    return values.astype(np.float32) * np.float32(2 * BOUND / 255) - np.float32(BOUND)


def _opencv(purpose: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("cv2", "classical", purpose) from error
    return cv2
