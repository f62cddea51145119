"""Tanimoto with complement against the formula as loops, the public numbers, ignored pixels, absent classes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.segmentation.contract import IGNORE
from sightline.segmentation.tanimoto import tanimoto, tanimoto_loss

FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")


def slow(p: Tensor, t: Tensor, smooth: float = 1e-5) -> list[float]:
    """T(p, t) of each picture, one class at a time."""
    pictures, classes = p.shape[:2]
    volumes = [sum(float(t[b, k].sum()) for b in range(pictures)) / pictures for k in range(classes)]
    finite = [v**-2 for v in volumes if v > 0]
    weights = [v**-2 if v > 0 else max(finite, default=0.0) for v in volumes]
    found = []
    for b in range(pictures):
        both = sum(w * float((p[b, k] * t[b, k]).sum()) for k, w in enumerate(weights))
        either = sum(w * float((p[b, k] ** 2 + t[b, k] ** 2 - p[b, k] * t[b, k]).sum()) for k, w in enumerate(weights))
        found.append((both + smooth) / (either + smooth))
    return found


@pytest.mark.parametrize("absent", [False, True])
def test_against_the_formula_a_class_at_a_time(absent: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3, 4, 5, 6, generator=generator)
    t = torch.rand(3, 4, 5, 6, generator=generator)
    if absent:
        t[:, 2] = 0
    one, two = torch.tensor(slow(p, t)), torch.tensor(slow(1 - p, 1 - t))
    assert torch.allclose(tanimoto(p, t, complement=False), one, atol=1e-6)
    assert torch.allclose(tanimoto(p, t), (one + two) / 2, atol=1e-6)


def test_what_is_equal_scores_1_and_what_is_opposite_nearly_0() -> None:
    t = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    assert torch.equal(tanimoto(t, t), torch.ones(2))
    assert float(tanimoto(1 - t, t).max()) < 0.01


def test_ignored_pixels_count_neither_in_the_value_nor_in_the_slope() -> None:
    logits = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.randint(0, 3, (2, 6, 6), generator=torch.Generator().manual_seed(3))
    labels[:, :2] = IGNORE
    expected = tanimoto_loss(logits[:, :, 2:], labels[:, 2:])
    logits.requires_grad_(True)
    found = tanimoto_loss(logits, labels)
    found.backward()
    assert found.item() == pytest.approx(float(expected), abs=1e-6)
    assert logits.grad is not None and not logits.grad[:, :, :2].any() and logits.grad[:, :, 2:].any()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("label", [0, IGNORE])
def test_finite_where_classes_are_absent_and_targets_empty(classes: int, label: int) -> None:
    logits = torch.randn(2, classes, 4, 4, requires_grad=True)
    loss = tanimoto_loss(logits, torch.full((2, 4, 4), label))
    loss.backward()
    assert bool(loss.isfinite()) and logits.grad is not None and bool(logits.grad.isfinite().all())


def test_an_absent_class_is_left_out_unless_asked_for() -> None:
    p = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(4)).requires_grad_(True)
    t = torch.zeros(1, 3, 4, 4)
    t[:, 0, :2] = 1
    t[:, 1, 2:] = 1
    for absent in (False, True):
        (slope,) = torch.autograd.grad(tanimoto(p, t, absent=absent).sum(), p)
        assert bool(slope[:, 2].any()) == absent


@pytest.mark.slow
def test_the_public_implementations_numbers() -> None:
    """Every case of this system in the folder of golden cases."""
    if not FOLDER.is_dir():
        pytest.skip(f"the golden cases are not at {FOLDER}; set SIGHTLINE_GOLDEN")
    checked = 0
    for path in sorted(FOLDER.glob("**/*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        if not case.get("system", "").startswith("Tanimoto loss with complement"):
            continue
        with np.load(path.with_suffix(".npz")) as arrays:
            for name, about in case["input"].items():
                p, t = inputs(name, about["seed"], tuple(about["shape"]))
                for leaf, complement in (("tanimoto", False), ("with_complement", True)):
                    expected = torch.from_numpy(arrays[f"{name}.{leaf}"])
                    found = tanimoto(p, t, complement=complement, smooth=case["config"]["smooth"])
                    assert torch.allclose(found, expected, rtol=0, atol=case["tolerance"] * float(expected.max())), name
                    checked += 1
    assert checked


def inputs(name: str, seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Prediction and label of a case, by the words it gives."""

    def image(seed: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.random.RandomState(seed).random_sample(shape).astype(np.float32))

    x = image(seed, shape)
    if name == "soft":
        return x, image(seed + 1, shape)
    if name == "empty":
        return x, torch.zeros(shape)
    labels = (image(seed + 1, (shape[0], *shape[2:])) * (3 if name == "perfect" else 4)).long()
    if name == "one_sample_class":
        labels[1:][labels[1:] == 3] = 0
    t = torch.nn.functional.one_hot(labels, shape[1]).movedim(-1, 1).float()
    return (t if name == "perfect" else x / x.sum(1, keepdim=True)), t
