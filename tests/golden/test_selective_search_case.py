"""OpenCV's Selective Search: the same regions of a cut, the same set of boxes of `fast`, most of those of `quality`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from sightline.detection.selective_search import edges, selective_search, smoothed
from sightline.media.image import read_image
from sightline.ops.superpixels import joined

FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
CASES = sorted(
    path for path in FOLDER.glob("detection/*.json") if json.loads(path.read_text())["config"].get("kind") == "ss"
)


def photo(config: dict, folder: Path) -> np.ndarray:
    """The case's picture, red, green, blue."""
    path = next(folder.rglob(config["photo"]))
    x, y, width, height = config["crop"]
    return np.ascontiguousarray(read_image(path)[y : y + height, x : x + width][:: config["step"], :: config["step"]])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_boxes_are_opencvs(case: Path, shared_data: Path) -> None:
    config, stored = json.loads(case.read_text())["config"], np.load(case.with_suffix(".npz"))
    image = photo(config, shared_data)
    assert np.allclose(image[..., ::-1].mean((0, 1)), stored["photo.mean"], rtol=1e-5)
    labels = joined(*edges(smoothed(image[..., ::-1])), image.shape[:2], scale=150, smallest=100)
    sizes = np.sort(np.bincount(labels.ravel()))[::-1]
    assert np.array_equal(sizes, stored["graph.sizes"])
    for mode in config["modes"]:
        found = selective_search(image, mode=mode)
        corner, far = found[:, :2], found[:, 2:]
        boxes = {tuple(row) for row in np.concatenate([corner, far - corner], 1).tolist()}
        wanted = {tuple(row) for row in stored[f"{mode}.boxes"].tolist()}
        if mode == "fast":
            assert boxes == wanted
        else:  # pairs that are equally alike are joined in another order
            assert len(boxes & wanted) > 0.8 * len(wanted)
