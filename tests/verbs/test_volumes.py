"""The verbs on a folder of volumes, end to end: train, evaluate, predict, compare, data; NIfTI in, NIfTI out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sightline.errors import UsageError
from sightline.media.image import read_image
from sightline.media.volume import write_volume
from sightline.verbs.compare import compare
from sightline.verbs.data import check, info
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.predict import predict
from sightline.verbs.train import train

OPTIONS: dict[str, Any] = {
    "steps": 140,
    "size": [8, 16, 16],
    "lr": 1e-2,
    "device": "cpu",
    "seed": 1,
    "augment": "none",
    "model_values": {"width": 4, "pools": [[1, 2, 2], 2]},
    "train_values": {"validate_every": 140},
}
AFFINE = np.array([[-1.0, 0, 0, 20], [0, -1.0, 0, 30], [0, 0, 2.0, -5], [0, 0, 0, 1]])


def make(root: Path, split: str, count: int, *, thick: bool = False) -> None:
    """Noise with a bright ball (1) and a dark box (2); every other volume with thicker slices when `thick`."""
    for i in range(count):
        rng = np.random.default_rng([len(split), i])
        depth = 8 if thick and i % 2 else 16
        spacing = (32.0 / depth, 1.0, 1.0)
        z, y, x = (np.indices((depth, 24, 20)).T * spacing).T
        labels = np.zeros((depth, 24, 20), np.uint8)
        centre = rng.uniform((12, 8, 6), (20, 16, 14))
        labels[((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) < 36] = 1
        labels[:, 20:, 4:16] = 2
        image = rng.normal(0, 30, labels.shape) + np.array([0, 300, -300])[labels]
        affine = AFFINE @ np.diag([1, 1, spacing[0] / 2, 1])
        write_volume(root / "images" / split / f"v{i}.nii.gz", image.astype(np.int16), affine=affine)
        write_volume(root / "labels" / split / f"v{i}.nii.gz", labels, affine=affine)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "balls"
    make(root, "train", 3, thick=True)
    make(root, "val", 2, thick=True)
    (root / "classes.txt").write_text("nothing\nball\nbox\n")
    return root


@pytest.fixture(scope="module")
def run(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("unet3d", balls, run=tmp_path_factory.mktemp("runs") / "one", **OPTIONS).folder


def test_what_was_chosen_and_learned(balls: Path, run: Path) -> None:
    _, card = load(run)
    assert card.preprocess.axes == 3 and card.preprocess.tile == (8, 16, 16) and card.preprocess.channels == 1
    assert card.preprocess.resize == "spacing(2, 1, 1)" and card.preprocess.intensity == "zscore"
    found = evaluate(run, balls, metrics="hd95")
    assert found.images == 2 and found.split == "val" and found.metrics["dataset_dice"] > 0.8
    assert found.per_class["ball"]["dice"] > 0.7
    page = (run / "report.html").read_text()
    assert "worst-1" in page or "data:image" in page
    assert read_image(run / "samples" / "worst-1.jpg").shape[0] > 100
    assert [row["model"] for row in compare([run, run]).rows] == ["unet3d", "unet3d"]


def test_predict_writes_nifti_on_the_files_own_grid(balls: Path, run: Path, tmp_path: Path) -> None:
    answers = list(predict(run, balls / "images" / "val", out=tmp_path / "out"))
    assert [a.name for a in answers] == ["v0", "v1"]
    for answer in answers:
        source = nibabel.load(balls / "images" / "val" / f"{answer.name}.nii.gz")
        written = nibabel.load(answer.files["labels"])
        truth = nibabel.load(balls / "labels" / "val" / f"{answer.name}.nii.gz")
        assert np.allclose(source.affine, written.affine) and written.shape == source.shape
        found, true = np.asarray(written.dataobj), np.asarray(truth.dataobj)
        for k in (1, 2):
            assert 2 * ((found == k) & (true == k)).sum() / ((found == k).sum() + (true == k).sum()) > 0.6
        assert answer.spacing == (32.0 / answer.labels.shape[0], 1.0, 1.0)
        said = answer.to_dict()
        assert said["depth"] == answer.labels.shape[0] and set(said["pixels"]) == {"nothing", "ball", "box"}
        assert read_image(answer.files["overlay"]).shape[2] == 3


def test_an_array_is_answered_in_tiles_as_a_whole_would_be(run: Path) -> None:
    array = np.random.default_rng(0).normal(0, 100, (16, 24, 20)).astype(np.float32)
    (whole,) = predict(run, array, tile=0)
    (tiled,) = predict(run, array, tile=16, overlap=0.75)
    (mirrored,) = predict(run, array, flips="hv")
    assert whole.labels.shape == tiled.labels.shape == mirrored.labels.shape == (16, 24, 20)
    assert float((whole.labels == tiled.labels).float().mean()) > 0.8
    with pytest.raises(UsageError, match="scales"):
        next(predict(run, array, scales=(0.5, 1.0)))


def test_data_info_and_check(balls: Path) -> None:
    found = info(balls)
    assert "24" in str(found) and found.as_json()["spacing"] == [2.0, 1.0, 1.0]
    assert not check(balls).errors


def test_pictures_and_volumes_are_told_apart(balls: Path, shapes: Path) -> None:
    with pytest.raises(UsageError, match="holds volumes and unet reads pictures"):
        train("unet", balls, dry_run=True)
    with pytest.raises(UsageError, match="holds pictures and unet3d reads volumes"):
        train("unet3d", shapes, dry_run=True)


def test_nnunets_network_gets_strides_that_fit(balls: Path) -> None:
    planned = train("nnunet_plain_3d", balls, dry_run=True, size=[8, 16, 16])
    assert planned.choices["model.strides"].value[0] == [1, 1, 1]
    assert planned.choices["model.in_channels"].value == 1
