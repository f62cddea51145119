"""Histograms of oriented gradients beside OpenCV's and scikit-image's numbers."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.ops.hog import descriptor, hog_blocks, hog_cells

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
CASES = sorted(FOLDER.glob("detection/hog*.json"))


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


fill = _beside("fill")


def picture(about: dict[str, Any], smooth: int) -> np.ndarray:
    """The case's picture: blue, green, red in bytes, smoothed by a box."""
    image = (fill.image(about["seed"], tuple(about["shape"])) * 255).astype(np.uint8)
    if smooth:
        wide = np.pad(image.astype(np.int64), ((smooth // 2,) * 2, (smooth // 2,) * 2, (0, 0)), "reflect")
        patches = np.lib.stride_tricks.sliding_window_view(wide, (smooth, smooth), axis=(0, 1))
        image = np.rint(patches.sum((-1, -2)) / smooth**2).astype(np.uint8)
    return image


def grey(image: np.ndarray) -> np.ndarray:
    b, g, r = (image[..., i].astype(np.int64) for i in range(3))
    return ((b * 3735 + g * 19235 + r * 9798 + 16384) >> 15).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as arrays:
        expected = dict(arrays)
    image = picture(case["config"]["image"], case["config"]["smooth"])
    plain = grey(image)
    found = {
        "image.mean": image.mean((0, 1)),
        "opencv.descriptor": descriptor(hog_blocks(image), 0, 0),
        "opencv.descriptor_gray": descriptor(hog_blocks(plain), 0, 0),
        "opencv.no_gamma": descriptor(hog_blocks(plain, gamma=False), 0, 0),
        "skimage.L2-Hys": hog_cells(plain),
        "skimage.color": hog_cells(image[..., ::-1]).ravel()[::3],
        **{f"skimage.{norm}": hog_cells(plain, norm=norm)[::2, ::2] for norm in ("L2", "L1", "L1-sqrt")},
    }
    faults = []
    for name, about in case["outputs"].items():
        if name.startswith("opencv.people"):
            continue  # OpenCV's trained numbers are not in this repository
        difference = np.abs(found[name] - expected[name]).max()
        allowed = min(about.get("tolerance", case["tolerance"]), 1e-4 if name.startswith("opencv") else 1)
        print(f"{name}: {difference:.1e}, allowed {allowed:.0e}")
        if found[name].shape != expected[name].shape or difference > allowed * max(1.0, np.abs(expected[name]).max()):
            faults.append(name)
    assert not faults
