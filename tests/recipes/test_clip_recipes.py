"""The parts of the clips' experiments: folds without shared sources, motion by hand, probes that find what is there."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import sightline as sl
from sightline.action.sampling import parse_rule
from sightline.errors import SightlineError
from sightline.recipes.fight_surveillance import FRAMES, SIZE, energy, fixed, folds, motion, ridge
from sightline.recipes.haxby_probe import leave_one_run_out
from sightline.recipes.mnist_resnet import read_idx
from sightline.recipes.moving_photos import SYSTEMS, recipe_of
from sightline.recipes.planted_fmri import SIZE as BRAIN
from sightline.recipes.planted_fmri import TASKS, brain
from sightline.recipes.ucf101_by_heart import recipe


def test_folds_share_no_source() -> None:
    rng = np.random.default_rng(0)
    sources = [f"s{k}" for k in rng.integers(0, 20, 120)]
    labels = rng.integers(0, 2, 120)
    fold = folds(sources, labels)
    assert all(len({f for s, f in zip(sources, fold) if s == name}) == 1 for name in set(sources))
    assert set(fold) == set(range(5)) and np.bincount(fold).min() >= 15


def test_clips_become_alike(tmp_path: Path) -> None:
    from sightline.media.video import VideoWriter

    for name, size, fps, count in (("a", (64, 128), 25, 50), ("b", (120, 90), 12, 20)):
        with VideoWriter(tmp_path / f"{name}.mp4", fps) as out:
            for t in range(count):
                out.write(np.full((*size, 3), 4 * t % 255, np.uint8))
        assert fixed(tmp_path / f"{name}.mp4").shape == (FRAMES, *SIZE, 3)
    still = np.full((4, 8, 8, 3), 90, np.uint8)
    still[2:, :4] = 100
    shown = motion(still)
    assert shown.shape == (3, 8, 8, 3)
    assert shown[1, 0, 0].tolist()[1:] == [148, 60] and shown[1, 7, 0].tolist()[1:] == [128, 0]
    found = energy(still, cells=2)
    assert found[:4] == pytest.approx([10 / 3, 10 / 3, 0, 0])


def test_probes_find_what_is_there() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    x = rng.normal(size=(100, 5))
    fold = np.arange(100) // 20
    assert ridge(x + 3 * y[:, None], y, fold) > 0.95 and 0.3 < ridge(x, y, fold) < 0.7
    means = rng.normal(size=(4, 30))
    blocks = np.concatenate([means + 0.3 * rng.normal(size=(4, 30)) for _ in range(5)])
    runs, labels = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    assert leave_one_run_out(blocks, labels, runs) == 1


def test_idx_files(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8)
    content = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + pixels.tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    assert np.array_equal(read_idx(tmp_path / "x.gz"), pixels.reshape(2, 3, 4))
    (tmp_path / "y").write_bytes(content[:-3])
    with pytest.raises(SightlineError, match="y cannot be read"):
        read_idx(tmp_path / "y")
    (tmp_path / "z").write_bytes(b"PNG")
    with pytest.raises(SightlineError, match="no IDX file"):
        read_idx(tmp_path / "z")


def test_planted_patterns_stand_where_they_should() -> None:
    task = "visual"
    found = brain(task, np.random.default_rng(0), strength=8.0).astype(float)
    assert found.shape == BRAIN and found[0, 0, 0] == 128
    for centre in TASKS[task]:
        z, y, x = centre
        assert found[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4].mean() > 160


@pytest.mark.parametrize("name", SYSTEMS)
def test_moving_photos_networks_take_their_clips(name: str) -> None:
    one = SYSTEMS[name]
    assert recipe_of(name).options["size"] == [one.side, one.side]
    net = sl.create(one.model, num_classes=8, **one.values).eval()
    import torch

    with torch.inference_mode():
        frames = parse_rule(one.clip).frames
        assert net(torch.rand(1, 3, frames, one.side, one.side)).logits.shape == (1, 8)


def test_by_heart_leaves_the_paper_s_sizes() -> None:
    told = recipe("c3d").options
    assert told["clip"] == "segments(16)" and told["size"] == told["model_values"]["size"] == [48, 64]
