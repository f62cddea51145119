"""Volumes in the room: pieces, their augmentation, the choices, answers in tiles, sources, drawings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.contracts import Machine, Preprocess
from sightline.datasets.open import open_dataset
from sightline.datasets.stats import stats
from sightline.errors import SightlineError, UsageError
from sightline.media.volume import Volume, write_volume
from sightline.media.volume_sources import volume_sources
from sightline.ops.window import mirror_window
from sightline.segmentation.contract import Scores
from sightline.segmentation.models.unet3d import unet3d_valid
from sightline.segmentation.predict import Procedure
from sightline.segmentation.slices import cuts, middle
from sightline.segmentation.volumes import (
    VolumeAugment,
    VolumeSamples,
    answer_volume,
    class_places,
    fit_piece,
    plan_volumes,
    pools_for,
    rotation,
    volume_augment,
    window,
)

PREPROCESS = Preprocess(intensity="dtype_max", channels=1, axes=3)


def ramp(size: tuple[int, int, int]) -> Tensor:
    """Three channels that hold each voxel's own place."""
    return torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij"))


def test_a_window_reaches_into_the_mirror() -> None:
    x = torch.rand(2, 5, 6, 7)
    assert torch.equal(window(x, (1, 2, 3), (2, 3, 4)), x[:, 1:3, 2:5, 3:7])
    found = window(x, (0, -3, 4), (5, 10, 8))
    assert torch.equal(found, mirror_window(x, -3, 4, 10, 8))


def test_a_piece_keeps_voxels_and_labels_together() -> None:
    size = (12, 14, 16)
    place, labels = ramp(size), (ramp(size).sum(0) % 5).to(torch.uint8)
    augment = VolumeAugment(crop=(6, 8, 10), flip=True, flip_vertical=True, flip_depth=True)
    for seed in range(6):
        found, kept = augment(place, labels, np.random.default_rng(seed), places={})
        assert found.shape == (3, 6, 8, 10) and kept.shape == (6, 8, 10)
        assert torch.equal((found.sum(0) % 5).to(torch.uint8), kept)
        assert all(found[k].min() >= 0 and found[k].max() <= n - 1 for k, n in enumerate(size))


def test_pieces_stand_around_classes_as_often_as_told() -> None:
    labels = torch.zeros(20, 20, 20, dtype=torch.uint8)
    labels[2, 3, 4], labels[15:18, 15:18, 15:18] = 1, 2
    places = class_places(labels.numpy(), np.random.default_rng(0))
    assert set(places) == {1, 2} and places[1].tolist() == [[2, 3, 4]] and len(places[2]) == 27
    assert len(class_places(labels.numpy(), np.random.default_rng(0), most=5)[2]) == 5
    augment = VolumeAugment(crop=(5, 5, 5), foreground=1.0)
    seen = [augment(labels[None].float(), labels, np.random.default_rng(i), places=places)[1] for i in range(40)]
    share = sum(int(piece[2, 2, 2]) == 1 for piece in seen) / 40
    assert all(int(piece[2, 2, 2]) > 0 for piece in seen) and 0.25 < share < 0.75  # both classes alike
    away = [
        VolumeAugment(crop=(5, 5, 5), foreground=0.0)._centre((20, 20, 20), places, np.random.default_rng(i))
        for i in range(20)
    ]
    assert all(2.5 <= v <= 17.5 for centre in away for v in centre)


def test_scale_and_rotation_against_the_matrix_written_down() -> None:
    size = (31, 33, 35)
    augment = VolumeAugment(crop=(5, 5, 5), foreground=0, scale=(1.5, 1.5), rotate=20)
    rng = np.random.default_rng(3)
    spacing = np.array([2.0, 1.0, 1.0])
    found, _ = augment(ramp(size), torch.zeros(size, dtype=torch.uint8), rng, places={}, spacing=spacing)
    again = np.random.default_rng(3)
    centre = augment._centre(size, {}, again)
    again.uniform(*np.log((1.5, 1.5)))
    turn = np.diag(1 / spacing) @ rotation(np.radians(again.uniform(-20, 20, 3))) @ np.diag(spacing) / 1.5
    for place in ((0, 0, 0), (2, 2, 2), (4, 1, 3)):
        expected = turn @ (np.array(place) - 2.0) + centre - 0.5
        assert found[(slice(None), *place)].numpy() == pytest.approx(expected, abs=1e-3)
    assert np.allclose(rotation(np.array([0.3, -0.2, 0.1])) @ rotation(np.array([0.3, -0.2, 0.1])).T, np.eye(3))


def test_strong_augmentation_stays_in_its_classes_and_repeats() -> None:
    labels = torch.randint(0, 4, (20, 20, 20), dtype=torch.uint8)
    augment = volume_augment("strong", (8, 8, 8), {"flip": True, "noise": 0.5})
    one, two = (augment(torch.randn(2, 20, 20, 20), labels, np.random.default_rng(5), places={}) for _ in range(2))
    assert torch.equal(one[1], two[1]) and int(one[1].max()) < 4
    assert one[0].isfinite().all() and one[0].dtype == torch.float32
    for wrong in ({"rotat": 3}, {"flip": 1}, {"scale": [2, 1]}, {"rotate": -4}):
        with pytest.raises(UsageError):
            volume_augment("light", (8, 8, 8), wrong)
    with pytest.raises(UsageError, match="Did you mean 'light'"):
        volume_augment("lite", (8, 8, 8), {})


@pytest.mark.parametrize("shape", [(200, 200, 200), (20, 512, 512), (8, 300, 40), (30, 20, 10)])
def test_pieces_fit_the_volume_and_the_budget(shape: tuple[int, int, int]) -> None:
    spacing = (5.0, 1.0, 1.0) if shape[0] < 25 else (1.0, 1.0, 1.0)
    piece = fit_piece(shape, spacing, 64**3)
    assert math.prod(piece) <= 64**3 and all(p <= max(n, 4) and p % 4 == 0 for p, n in zip(piece, shape))
    if math.prod(shape) > 64**3:
        assert math.prod(piece) > 64**3 / 2


def test_thick_slices_are_not_pooled_until_voxels_are_cubes() -> None:
    assert pools_for((16, 96, 96), (4.0, 1.0, 1.0), 4) == [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert pools_for((64, 64, 64), (1.0, 1.0, 1.0), 2) == [[2, 2, 2], [2, 2, 2]]
    assert pools_for((4, 64, 64), (1.0, 1.0, 1.0), 1) == [[1, 2, 2]]


def folder(root: Path, spacings: list[float], low: int = 0) -> Path:
    for i, thick in enumerate(spacings):
        array = np.random.default_rng(i).integers(low, 400, (10, 12, 14)).astype(np.int16)
        write_volume(root / "images" / f"{i}.npz", array, spacing=(thick, 1.0, 1.0))
        write_volume(root / "labels" / f"{i}.npz", (array > 200).astype(np.uint8), spacing=(thick, 1.0, 1.0))
    return root


def test_choices_name_their_reasons(tmp_path: Path) -> None:
    values = {"in_channels": 3, "width": 32, "pools": (2, 2, 2)}
    mixed = plan_volumes(stats(open_dataset(folder(tmp_path / "a", [1, 3, 3], -1000), val=0)), values, Machine())
    assert mixed["resize"].value == "spacing(3, 1, 1)" and "median" in mixed["resize"].reason
    assert mixed["intensity"].value.startswith("window(2") and mixed["model.in_channels"].value == 1
    assert mixed["model.width"].value == 8 and mixed["model.pools"].value[0] == [1, 2, 2]
    same = plan_volumes(stats(open_dataset(folder(tmp_path / "b", [2, 2]), val=0)), values, Machine("cuda", 8))
    assert same["resize"].value == "none" and same["intensity"].value == "zscore" and "model.width" not in same
    assert all(choice.reason for choice in (*mixed.values(), *same.values()))
    planned = plan_volumes(
        stats(open_dataset(tmp_path / "b", val=0)),
        {"in_channels": 1, "features": (32, 64, 128, 256), "strides": (1, 2, 2, 2), "kernels": 3},
        Machine(),
    )
    assert len(planned["model.features"].value) == len(planned["model.strides"].value)


def test_samples_are_a_function_of_epoch_and_index(tmp_path: Path) -> None:
    data = open_dataset(folder(tmp_path, [1, 3]), val=0)
    augment = volume_augment("medium", (8, 8, 8), {})
    preprocess = replace(PREPROCESS, intensity="zscore", resize="spacing(1, 1, 1)")
    kept, fresh = (VolumeSamples(data, preprocess=preprocess, seed=3, augment=augment, keep=k) for k in (True, False))
    for ticket in ((0, 0), (4, 1), (0, 0)):
        a, b = kept[ticket], fresh[ticket]
        assert torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels) and a.image.shape == (1, 8, 8, 8)
    assert not torch.equal(kept[0, 0].image, kept[1, 0].image) and len(kept) == 2


class Bright(nn.Module):
    """Says how bright a voxel is, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, **more: Any) -> Scores:
        return Scores(torch.cat([2 - 4 * images, 4 * images - 2], dim=1) * self.weight)


@pytest.mark.parametrize("procedure", [Procedure(tile=0), Procedure(tile=8), Procedure(tile=8, flips="hv", keep=True)])
def test_tiles_and_views_change_nothing_for_a_network_without_context(procedure: Procedure) -> None:
    array = np.random.default_rng(0).random((11, 17, 13, 1)).astype(np.float32)
    found = answer_volume(Bright(), Volume(array, (2, 1, 1)), preprocess=PREPROCESS, procedure=procedure)
    assert torch.equal(found.labels, torch.from_numpy((array[..., 0] > 0.5).astype(np.uint8)))
    assert (found.probabilities is not None) == procedure.keep and found.spacing == (2, 1, 1)


def test_an_unpadded_network_sees_what_surrounds_a_tile() -> None:
    torch.manual_seed(0)
    net = unet3d_valid(2, in_channels=1, width=2, depth=2).eval()
    volume = Volume(np.random.default_rng(0).random((12, 14, 10, 1)).astype(np.float32))
    whole, tiled = (
        answer_volume(net, volume, preprocess=PREPROCESS, procedure=Procedure(tile=t, overlap=0.75, keep=True))
        for t in (0, 8)  # tiles begin at even voxels, as the network's pools do
    )
    assert whole.probabilities is not None and tiled.probabilities is not None
    assert torch.allclose(whole.probabilities, tiled.probabilities, atol=1e-5)


def test_sources_of_volumes(tmp_path: Path) -> None:
    for name in ("a/x.npz", "b/x.npz", "y.npz"):
        write_volume(tmp_path / name, np.zeros((2, 3, 4), np.uint8))
    assert [s.name for s in volume_sources(tmp_path)] == ["a/x", "b/x", "y"]
    assert [s.name for s in volume_sources([tmp_path / "a/x.npz", tmp_path / "b/x.npz"])] == ["x", "x-2"]
    assert [s.name for s in volume_sources(str(tmp_path / "*" / "*.npz"))] == ["x", "x-2"]
    (one,) = volume_sources(np.zeros((2, 3, 4)))
    assert one.read().size == (2, 3, 4)
    (tmp_path / "none").mkdir()
    for wrong in (tmp_path / "none", tmp_path / "absent.nii", str(tmp_path / "*.mgz"), [], 3, np.zeros((2, 2))):
        with pytest.raises(SightlineError):
            list(volume_sources(wrong))


def test_slices_show_square_millimetres() -> None:
    labels = np.zeros((4, 8, 10), np.uint8)
    labels[1, 5:7, 2:5] = 1
    assert middle(labels) == (1, 5, 2) and middle(np.zeros((4, 8, 10))) == (2, 4, 5)
    shapes = [plane.shape for plane in cuts(labels, (1, 5, 2), (3.0, 1.0, 1.0))]
    assert shapes == [(205, 256), (256, 213), (256, 171)]
