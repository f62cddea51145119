"""Augmentation: RandAugment alike for all frames, mixing inside batches, repeats; all of it reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.classification.contract import Scores
from sightline.classification.losses import Criterion
from sightline.classification.randaugment import OPERATIONS, _apply, rand_augment
from sightline.classification.targets import Augment, Mix, Sample, Samples, collate, mixed
from sightline.contracts import Batch, Preprocess
from sightline.datasets.open import open_dataset
from sightline.errors import UsageError
from sightline.media.image import write_image


def picture(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 20, 24), np.uint8))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_treats_frames_alike(name: str) -> None:
    frame = picture()
    clip = torch.stack([frame, frame, frame])
    out = _apply(clip, name, 0.6, 1.0)
    assert out.shape == clip.shape and out.dtype == torch.uint8 and torch.equal(out[0], out[2])
    assert name in ("identity", "autocontrast", "equalize") or not torch.equal(out, clip)


def test_rand_augment_of_pictures_and_clips() -> None:
    clip = picture()[:, None].expand(3, 4, 20, 24)
    out = rand_augment(clip, 3, 15, np.random.default_rng(1))
    alone = rand_augment(clip[:, 0], 3, 15, np.random.default_rng(1))
    assert torch.equal(out[:, 3], alone) and not torch.equal(alone, clip[:, 0])
    soft = rand_augment(clip.float() / 255, 3, 15, np.random.default_rng(1))
    assert soft.dtype == torch.float32 and torch.equal((soft * 255).round().to(torch.uint8), out)


def test_mixup_and_cutmix_by_hand() -> None:
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    batch = collate([Sample("a", images[0], 0), Sample("b", images[1], 1)])
    out = mixed(batch, 3, alpha=1.0, rng=np.random.default_rng(3))
    share = float(np.random.default_rng(3).beta(1, 1))
    assert torch.allclose(out.images[0], torch.full((1, 4, 4), 1 - share))
    assert torch.allclose(out.targets.labels, torch.tensor([[share, 1 - share, 0], [1 - share, share, 0]]))
    cut = mixed(batch, 3, alpha=1.0, rng=np.random.default_rng(4), cut=True)
    assert cut.targets.labels[0, 1].item() == pytest.approx(float(cut.images[0].mean()))  # what was pasted is the share


def test_batches_are_mixed_where_the_samples_say_so() -> None:
    samples = [Sample(str(k), torch.full((1, 8, 8), float(k)), k, Mix(0.4, 0.4, 10 + k, 2)) for k in (0, 1)]
    first, again = collate(samples), collate(samples)
    assert first.targets.labels.shape == (2, 2) and torch.equal(first.images, again.images)
    assert torch.allclose(first.targets.labels.sum(1), torch.ones(2))
    terms = Criterion()(Scores(torch.randn(2, 2), torch.randn(2, 3, 2)), first.targets)
    assert torch.isfinite(terms["ce"])
    alone = collate(samples[:1])
    assert isinstance(alone, Batch) and alone.targets.labels.tolist() == [0]


def test_repeats_through_the_samples(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for k in range(2):
            write_image(tmp_path / name / f"{k}.png", np.random.default_rng(k).integers(0, 255, (20, 24, 3), np.uint8))
    data = open_dataset(tmp_path, kind="classes", val=0)
    augment = Augment(crop=(16, 16), scale=(0.5, 1.0), repeats=3, mixup=0.3, randaugment=(1, 5))
    samples = Samples(data, preprocess=Preprocess(), seed=0, augment=augment)
    batch = collate([samples[0, 0], samples[0, 3]])
    assert batch.images.shape == (6, 3, 16, 16) and batch.targets.labels.shape == (6, 2)
    assert not torch.equal(batch.images[0], batch.images[1])
    assert torch.equal(batch.images, collate([samples[0, 0], samples[0, 3]]).images)


@pytest.mark.parametrize("wrong", [{"mixup": -1.0}, {"repeats": 0}, {"randaugment": (2, 31)}, {"randaugment": (2,)}])
def test_wrong_values_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="must be"):
        Augment(**wrong)
