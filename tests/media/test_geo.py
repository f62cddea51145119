"""GeoTIFF: place, system, pixels without data; labels and polygons on the same ground."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of
from sightline.media.geo import Geo, features, read_geo, write_geotiff
from sightline.media.image import read_image, without_data
from sightline.media.labels import read_labels, write_labels
from sightline.verbs.models import create
from sightline.verbs.predict import predict
from sightline.weights.card import Card

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
TIES = (0.0, 0.0, 0.0, 400_000.0, 5_000_000.0, 0.0)


def ground(
    path: Path, array: np.ndarray, *, keys: tuple[int, ...] = KEYS, nodata: str | None = "-9999", **more: Any
) -> Path:
    tags: list[Any] = [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, TIES, True),
        (34735, 3, len(keys), keys, True),
    ]
    if nodata is not None:
        tags.append((42113, 2, len(nodata) + 1, nodata + "\0", True))
    tifffile.imwrite(path, array, photometric="minisblack", extratags=tags, metadata=None, **more)
    return path


def bands(seed: int = 0) -> np.ndarray:
    """Four bands of float reflectance `(H, W, C)` with an empty corner."""
    found = np.random.default_rng(seed).random((40, 48, 4)).astype(np.float32)
    found[:6, :8] = -9999
    return found


def test_place_system_and_nodata(tmp_path: Path) -> None:
    path = ground(tmp_path / "a.tif", bands(), planarconfig="contig", extrasamples=[0, 0, 0])
    geo = read_geo(path)
    assert geo is not None and geo.epsg == 32633 and geo.nodata == -9999
    assert geo.transform == (10.0, 0.0, 400_000.0, 0.0, -10.0, 5_000_000.0)
    assert geo.ground(np.array([[0, 0], [3, 2]])).tolist() == [[400_000, 5_000_000], [400_030, 4_999_980]]
    image, unknown = read_image(path), without_data(path)
    assert image.shape == (40, 48, 4) and image.min() >= 0 and unknown is not None
    assert unknown.sum() == 48 and unknown[:6, :8].all()
    moved = geo.moved(3, 2)
    assert moved.transform is not None and moved.transform[2::3] == (400_030, 4_999_980)
    point = ground(tmp_path / "p.tif", bands()[..., 0], keys=(*KEYS[:8], 1025, 0, 1, 2, 4326, 0, 1, 1), nodata=None)
    place = read_geo(point)
    assert place is not None and place.transform is not None and place.nodata is None and place.epsg is None
    assert place.transform[2] == 399_995 and place.transform[5] == 5_000_005
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((4, 5), np.uint8))
    assert read_geo(tmp_path / "plain.tif") is None and without_data(tmp_path / "plain.tif") is None


def test_labels_go_out_on_the_same_grid(tmp_path: Path) -> None:
    geo = read_geo(ground(tmp_path / "a.tif", bands()[..., 0]))
    assert geo is not None
    labels = np.random.default_rng(0).integers(0, 3, (40, 48)).astype(np.uint8)
    labels[:6, :8] = 255
    again = read_geo(write_geotiff(tmp_path / "out.tif", labels, geo, [(0, 0, 0), (9, 9, 9), (8, 0, 0)]))
    assert again is not None and again.transform == geo.transform and again.epsg == 32633 and again.nodata == 255
    assert np.array_equal(read_labels(tmp_path / "out.tif"), labels)


def test_polygons_stand_on_the_ground(tmp_path: Path) -> None:
    labels = np.zeros((4, 5), np.uint8)
    labels[1:3, 1:4], labels[0, 4] = 1, 255
    geo = Geo((10.0, 0.0, 100.0, 0.0, -10.0, 500.0), 32633)
    found = features(labels, ("background", "field"), geo, leave_out=(0,))
    assert found["crs"]["properties"]["name"].endswith("EPSG::32633")
    (one,) = found["features"]
    assert one["properties"] == {"class": "field", "id": 1, "area": 600.0}
    (ring,) = one["geometry"]["coordinates"]
    assert ring[0] == ring[-1] and {tuple(p) for p in ring} == {(110, 490), (140, 490), (140, 470), (110, 470)}
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2
    assert area == 600  # counterclockwise
    both = features(labels, ("background", "field"), geo)["features"]
    assert sorted(len(f["geometry"]["coordinates"]) for f in both) == [1, 2]  # the background has a hole


def test_what_was_not_measured_is_not_scored(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(2):
        ground(tmp_path / "images" / f"{i}.tif", bands(i), planarconfig="contig", extrasamples=[0, 0, 0])
        write_labels(tmp_path / "masks" / f"{i}.png", np.ones((40, 48), np.uint8), [(0, 0, 0), (9, 9, 9)])
    labels = read_labels_of(open_dataset(tmp_path, val=0, classes=["a", "b"]).records[0], 2)
    assert (labels[:6, :8] == 255).all() and (labels == 255).sum() == 48


@pytest.mark.parametrize("huge", [False, True])
def test_predict_keeps_the_ground(tmp_path: Path, huge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if huge:
        monkeypatch.setattr("sightline.verbs.predict.HUGE", 100)
    path = ground(tmp_path / "a.tif", bands(), planarconfig="contig", extrasamples=[0, 0, 0])
    net = create("unet", num_classes=2, in_channels=4, width=2, depth=2, mean=None, std=None).eval()
    from sightline.contracts import Preprocess

    card = Card(
        model="unet",
        task="segmentation",
        classes=("field", "wood"),
        preprocess=Preprocess("percentile(1, 99)", channels=4),
    )
    (answer,) = predict((net, card), path, out=tmp_path / "out")
    written = read_geo(answer.files["labels"])
    assert written is not None and written.transform == (10.0, 0.0, 400_000.0, 0.0, -10.0, 5_000_000.0)
    assert written.nodata == 255 and written.epsg == 32633
    labels = read_labels(answer.files["labels"])
    assert (labels[:6, :8] == 255).all() and set(np.unique(labels)) <= {0, 1, 255}
    if not huge:
        shapes = json.loads(Path(answer.files["polygons"]).read_text())
        total = sum(f["properties"]["area"] for f in shapes["features"])
        assert total == pytest.approx(100 * (40 * 48 - 48))
