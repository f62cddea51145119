"""Tversky, Lovasz, boundary, the hardest pixels, smoothing, deep supervision: each against a loop over pixels."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.contract import IGNORE, Scores, Target
from sightline.segmentation.losses import (
    TERMS,
    Criterion,
    boundary,
    cross_entropy,
    deep_supervision,
    focal_tversky,
    lovasz,
    lovasz_hinge,
    ohem,
    parse_loss,
    soft_dice,
    top_k,
    tversky,
)

KINDS = ("multi-class", "binary", "multi-label")


def case(
    kind: str, seed: int, space: tuple[int, ...] = (4, 5), classes: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels with ignored pixels, class weights and pixel weights of one kind of target."""
    g = torch.Generator().manual_seed(seed)
    classes = 1 if kind == "binary" else classes
    shape = (2, classes, *space) if kind == "multi-label" else (2, *space)
    labels = torch.randint(classes if kind == "multi-class" else 2, shape, generator=g)
    labels[torch.rand(shape, generator=g) < 0.2] = IGNORE
    weights = 0.2 + torch.rand(max(classes, 2), generator=g)
    return 2 * torch.randn(2, classes, *space, generator=g), labels, weights, torch.rand(2, *space, generator=g)


Pixel = tuple[int, float, float, float, float]
"""Picture, probability, logit, truth (0 or 1), weight."""


def pixels(logits: Tensor, labels: Tensor, weights: Tensor | None, k: int) -> list[Pixel]:
    """What class k is asked at every valid pixel, picture by picture in row-major order."""
    found = []
    number, classes, height, width = logits.shape
    for b, y, x in product(range(number), range(height), range(width)):
        said = int(labels[b, k, y, x] if labels.ndim == 4 else labels[b, y, x])
        if said == IGNORE:
            continue
        values = [float(v) for v in logits[b, :, y, x]]
        if labels.ndim == 4 or classes == 1:
            p, t = 1 / (1 + math.exp(-values[k])), float(said == 1)
        else:
            p, t = math.exp(values[k]) / sum(math.exp(v) for v in values), float(said == k)
        found.append((b, p, values[k], t, 1.0 if weights is None else float(weights[b, y, x])))
    return found


def over_classes(value, logits, labels, class_weights, pixel_weights, *, per_sample=False, background=True) -> float:
    """The mean of `value(pixels of class k)` over the classes (and pictures) that have a labelled pixel."""
    total = weight = 0.0
    classes = logits.shape[1]
    for k in range(classes):
        asked = pixels(logits, labels, pixel_weights, k)
        groups = [[p for p in asked if p[0] == b] for b in range(len(logits))] if per_sample else [asked]
        for group in groups:
            if sum(t * w for _, _, _, t, w in group) == 0 or (k == 0 and not background and classes > 1):
                continue
            w = 1.0 if class_weights is None or classes == 1 else float(class_weights[k])
            total, weight = total + w * value(group), weight + w
    return total / weight if weight else 0.0


def slow_tversky(group: list[Pixel], alpha: float, beta: float, smooth: float = 1.0) -> float:
    hit = sum(w * p * t for _, p, _, t, w in group)
    more = sum(w * p * (1 - t) for _, p, _, t, w in group)
    missed = sum(w * (1 - p) * t for _, p, _, t, w in group)
    return 1 - (hit + smooth) / (hit + alpha * more + beta * missed + smooth)


def slow_lovasz(errors: list[tuple[float, float, float]]) -> float:
    """(error, truth, weight): the integral over thresholds of the weighted Jaccard loss of {error >= threshold}."""
    labelled = sum(w * t for _, t, w in errors)
    total, before = 0.0, 0.0
    order = sorted(errors, key=lambda e: -e[0])
    for n in range(1, len(order) + 1):
        wrong = order[:n]
        lost = sum(w * t for _, t, w in wrong)
        added = sum(w * (1 - t) for _, t, w in wrong)
        jaccard = 1 - (labelled - lost) / (labelled + added)
        total, before = total + order[n - 1][0] * (jaccard - before), jaccard
    return total


@pytest.mark.parametrize("options", [{}, {"per_sample": True}, {"background": False}], ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
def test_region_losses_equal_a_loop(kind: str, weighted: bool, options: dict) -> None:
    logits, labels, classes, weights = case(kind, 11)
    classes, weights = (classes, weights) if weighted else (None, None)
    given = {"class_weights": classes, "pixel_weights": weights} | options
    slow = (logits, labels, classes, weights)

    found = tversky(logits, labels, alpha=0.2, beta=0.6, smooth=0.5, **given)
    expected = over_classes(lambda g: slow_tversky(g, 0.2, 0.6, 0.5), *slow, **options)
    assert found.item() == pytest.approx(expected, rel=1e-4)

    found = focal_tversky(logits, labels, gamma=2.0, **given)
    expected = over_classes(lambda g: slow_tversky(g, 0.3, 0.7) ** 0.5, *slow, **options)
    assert found.item() == pytest.approx(expected, rel=1e-4)

    found = lovasz(logits, labels, **given)
    expected = over_classes(lambda g: slow_lovasz([(abs(t - p), t, w) for _, p, _, t, w in g]), *slow, **options)
    assert found.item() == pytest.approx(expected, rel=1e-4)

    def hinge(group: list[Pixel]) -> float:
        return slow_lovasz([(max(0.0, 1 - x * (2 * t - 1)), t, w) for _, _, x, t, w in group])

    found = lovasz_hinge(logits, labels, **given)
    assert found.item() == pytest.approx(over_classes(hinge, *slow, **options), rel=1e-4)


def test_tversky_of_two_halves_is_dice() -> None:
    for kind in KINDS:
        logits, labels, classes, weights = case(kind, 12)
        given = {"class_weights": classes, "pixel_weights": weights, "smooth": 0.0}
        assert tversky(logits, labels, alpha=0.5, beta=0.5, **given).item() == pytest.approx(
            soft_dice(logits, labels, **given).item(), rel=1e-5
        )


def test_lovasz_of_a_decided_answer_is_one_minus_iou() -> None:
    """At the corners of the cube the surrogate is the Jaccard loss itself."""
    labels = torch.tensor([[[0, 0, 1, 1, 1, IGNORE]]])
    said = torch.tensor([[[0, 1, 1, 1, 0, 1]]])
    logits = 80 * (F.one_hot(said, 2).movedim(-1, 1).float() - 0.5)
    assert lovasz(logits, labels).item() == pytest.approx(1 - (1 / 3 + 2 / 4) / 2, abs=1e-6)
    binary = logits[:, 1:]
    assert lovasz(binary, labels).item() == pytest.approx(1 - 2 / 4, abs=1e-6)


def slow_signed(mask: np.ndarray) -> np.ndarray:
    """Distances by trying every pair of pixels."""
    found = np.zeros(mask.shape)
    if mask.any() and not mask.all():
        inside, outside = np.argwhere(mask), np.argwhere(~mask)
        for at in np.ndindex(mask.shape):
            others = outside if mask[at] else inside
            nearest = min(math.dist(at, other) for other in others)
            found[at] = 1 - nearest if mask[at] else nearest
    return found


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
def test_boundary_equals_a_loop(kind: str, weighted: bool) -> None:
    logits, labels, classes, weights = case(kind, 13)
    classes, weights = (classes, weights) if weighted else (None, None)
    total = weight = 0.0
    for k, b in product(range(logits.shape[1]), range(2)):
        at = labels[b, k] if kind == "multi-label" else labels[b]
        mask = (at == (1 if kind != "multi-class" else k)).numpy()
        phi = slow_signed(mask)[(at != IGNORE).numpy()]
        asked = [p for p in pixels(logits, labels, weights, k) if p[0] == b]
        if not any(t * w for _, _, _, t, w in asked):
            continue
        mean = sum(f * (p - t) * w for f, (_, p, _, t, w) in zip(phi, asked)) / sum(w for *_, w in asked)
        w = 1.0 if classes is None or kind == "binary" else float(classes[k])
        total, weight = total + w * mean, weight + w
    found = boundary(logits, labels, class_weights=classes, pixel_weights=weights)
    assert found.item() == pytest.approx(total / weight, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hardest_pixels_are_found_by_sorting(kind: str) -> None:
    logits, labels, classes, weights = case(kind, 14)
    asked = []
    for b, y, x in product(range(2), range(4), range(5)):
        for k in range(3) if kind == "multi-label" else (None,):
            said = int(labels[b, y, x] if k is None else labels[b, k, y, x])
            if said != IGNORE:
                one = logits[b, :, y, x] if k is None else logits[b, k, y, x][None]
                chance = one.softmax(0)[said] if len(one) > 1 else (one if said else -one).sigmoid()[0]
                weight = float(classes[said if k is None else k]) * float(weights[b, y, x])
                asked.append((-math.log(float(chance)), weight))
    asked.sort(reverse=True)

    def mean(kept: list[tuple[float, float]]) -> float:
        return sum(v * w for v, w in kept) / sum(w for _, w in kept)

    given = {"class_weights": classes, "pixel_weights": weights}
    count = math.ceil(0.3 * len(asked))
    assert top_k(logits, labels, share=0.3, **given).item() == pytest.approx(mean(asked[:count]), rel=1e-4)
    hard = [a for n, a in enumerate(asked) if math.exp(-a[0]) < 0.4 or n < math.ceil(0.1 * len(asked))]
    assert 0 < len(hard) < len(asked)
    assert ohem(logits, labels, threshold=0.4, least=0.1, **given).item() == pytest.approx(mean(hard), rel=1e-4)
    everything = cross_entropy(logits, labels, **given).item()
    assert top_k(logits, labels, share=1.0, **given).item() == pytest.approx(everything, rel=1e-6)
    assert ohem(logits, labels, threshold=1.0, **given).item() == pytest.approx(everything, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_spreads_the_truth(kind: str) -> None:
    logits, labels, _, _ = case(kind, 15)
    total = count = 0.0
    for b, y, x in product(range(2), range(4), range(5)):
        for k in range(3) if kind == "multi-label" else (None,):
            said = int(labels[b, y, x] if k is None else labels[b, k, y, x])
            if said == IGNORE:
                continue
            one = logits[b, :, y, x] if k is None else logits[b, k, y, x][None]
            logs = one.log_softmax(0) if len(one) > 1 else torch.stack([(-one).sigmoid()[0], one.sigmoid()[0]]).log()
            truth = torch.full((len(logs),), 0.3 / len(logs))
            truth[said] += 0.7
            total, count = total - float((truth * logs).sum()), count + 1
    assert cross_entropy(logits, labels, smoothing=0.3).item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("name", sorted(TERMS))
@pytest.mark.parametrize("kind", KINDS)
def test_volumes_cost_what_their_pixels_cost(kind: str, name: str) -> None:
    logits, labels, classes, weights = case(kind, 16, (3, 4, 5))
    found = TERMS[name](logits, labels, class_weights=classes, pixel_weights=weights)
    assert found.isfinite()
    if name != "boundary":  # which knows neighbours
        flat = TERMS[name](
            logits.flatten(3), labels.flatten(-2), class_weights=classes, pixel_weights=weights.flatten(2)
        )
        assert found.item() == pytest.approx(flat.item(), rel=1e-5)


def test_boundary_of_a_volume_knows_its_depth() -> None:
    labels = torch.zeros(1, 5, 5, 5, dtype=torch.long)
    labels[0, 2, 2, 2] = 1
    near, far = (torch.full((1, 1, 5, 5, 5), -20.0) for _ in range(2))
    near[0, 0, 1, 2, 2], far[0, 0, 0, 2, 2] = 20.0, 20.0
    assert boundary(far, labels).item() == pytest.approx(2 * boundary(near, labels).item(), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    classes=st.integers(2, 4),
    name=st.sampled_from(sorted(TERMS)),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_any_map_gives_a_finite_loss_and_ignored_pixels_nothing(seed, kind, classes, name, height, width) -> None:
    """Absent classes, empty targets, single pixels; logits of any size, all of them wrong or right."""
    g = torch.Generator().manual_seed(seed)
    logits, labels, class_weights, weights = case(kind, seed, (height, width), classes)
    if seed % 3 == 0:
        labels = torch.where(labels == IGNORE, labels, 0)
    logits = (logits * 10 ** (4 * torch.rand(1, generator=g) - 2)).requires_grad_()
    loss = TERMS[name](logits, labels, class_weights=class_weights, pixel_weights=weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite() and gradient.isfinite().all() and loss >= -1e-6
    ignored = labels == IGNORE if kind == "multi-label" else (labels == IGNORE)[:, None].expand_as(logits)
    assert (gradient[ignored] == 0).all()


@pytest.mark.parametrize("name", ["dice", "tversky", "focal_tversky", "lovasz", "lovasz_hinge", "boundary", "tanimoto"])
def test_a_class_without_labels_is_left_out(name: str) -> None:
    """Its own logits get no gradient where classes do not share a softmax."""
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.zeros(2, 3, 4, 4, dtype=torch.long)
    labels[:, 1, 1:3, 1:3] = 1
    (gradient,) = torch.autograd.grad(TERMS[name](logits, labels), logits)
    assert gradient[:, 1].any() and not gradient[:, 0].any() and not gradient[:, 2].any()


def test_smaller_heads_learn_from_smaller_labels() -> None:
    logits, labels, _, weights = case("multi-class", 17, (8, 8))
    aux = (torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2))
    found = Criterion(aux_weight=deep_supervision(2))(Scores(logits, aux), Target(labels, weights))
    halves = [(slice(None), slice(s // 2, None, s), slice(s // 2, None, s)) for s in (2, 4)]
    expected = sum(
        factor * cross_entropy(x, labels[at], pixel_weights=weights[at]).item()
        for factor, x, at in zip((0.5, 0.25), aux, halves)
    )
    assert found["aux_ce"].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UsageError, match="3 weights of auxiliary heads were given; this network has 2"):
        Criterion(aux_weight=deep_supervision(3))(Scores(logits, aux), Target(labels))


def test_volumes_and_multi_label_go_through_the_criterion() -> None:
    criterion = Criterion(parse_loss("+".join(TERMS)), class_weights=(1.0, 2.0, 0.5))
    for kind, space in (("multi-class", (4, 6, 6)), ("multi-label", (6, 6)), ("multi-label", (4, 4, 4))):
        logits, labels, _, weights = case(kind, 18, space)
        small = torch.randn(2, 3, *(n // 2 for n in space))
        found = criterion(Scores(logits, (small,)), Target(labels, weights))
        assert set(found) == {*TERMS, *(f"aux_{name}" for name in TERMS)}
        assert all(value.isfinite() for value in found.values())
