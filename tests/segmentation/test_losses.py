"""Every term against a loop over pixels, for each kind of target; ignored pixels leak nothing; empty is finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import UsageError
from sightline.segmentation.contract import IGNORE, Scores, Target
from sightline.segmentation.losses import (
    TERMS,
    Criterion,
    cross_entropy,
    focal,
    median_frequency_weights,
    parse_loss,
    soft_dice,
)

KINDS = ("multi-class", "binary", "multi-label")


def _case(kind: str, seed: int, size: tuple[int, int] = (4, 5)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels with ignored pixels, class weights and pixel weights of one kind of target."""
    g = torch.Generator().manual_seed(seed)
    classes = 1 if kind == "binary" else 3
    logits = 2 * torch.randn(2, classes, *size, generator=g)
    shape = (2, classes, *size) if kind == "multi-label" else (2, *size)
    labels = torch.randint(3 if kind == "multi-class" else 2, shape, generator=g)
    labels[torch.rand(shape, generator=g) < 0.25] = IGNORE
    class_weights = 0.2 + torch.rand(max(classes, 2), generator=g)
    return logits, labels, class_weights, torch.rand(2, *size, generator=g)


Answered = tuple[int, float, float, float]
"""The label as a class number, log p(label), the pixel's weight, the class' weight."""


def _answered(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, pixels: Tensor | None
) -> Iterator[Answered]:
    """Every question that was asked: one a pixel, or one a pixel and class for multi-label."""
    number, classes, height, width = logits.shape
    weight = (lambda k: 1.0) if class_weights is None else (lambda k: float(class_weights[k]))
    for b in range(number):
        for y in range(height):
            for x in range(width):
                here = 1.0 if pixels is None else float(pixels[b, y, x])
                values = [float(v) for v in logits[b, :, y, x]]
                if labels.ndim == 4:
                    for k in range(classes):
                        if (said := int(labels[b, k, y, x])) != IGNORE:
                            yield k, _log_sigmoid(values[k] if said else -values[k]), here, weight(k)
                elif (said := int(labels[b, y, x])) == IGNORE:
                    continue
                elif classes == 1:
                    yield said, _log_sigmoid(values[0] if said else -values[0]), here, weight(said)
                else:
                    yield said, values[said] - math.log(sum(math.exp(v) for v in values)), here, weight(said)


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def _slow_mean(terms: Sequence[tuple[float, float]]) -> float:
    """The weighted mean of `(value, weight)`."""
    return sum(v * w for v, w in terms) / sum(w for _, w in terms)


def _slow_dice(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    pixels: Tensor | None = None,
    *,
    squared: bool = False,
    per_sample: bool = False,
    background: bool = True,
    smooth: float = 1.0,
) -> float:
    number, classes, height, width = logits.shape
    groups = [[b] for b in range(number)] if per_sample else [list(range(number))]
    terms = []
    for group in groups:
        for k in range(classes):
            overlap = size = labelled = 0.0
            for b in group:
                for y in range(height):
                    for x in range(width):
                        said = int(labels[b, k, y, x] if labels.ndim == 4 else labels[b, y, x])
                        if said == IGNORE:
                            continue
                        values = [math.exp(float(v)) for v in logits[b, :, y, x]]
                        if classes == 1 or labels.ndim == 4:
                            p, t = values[k] / (1 + values[k]), float(said == 1)
                        else:
                            p, t = values[k] / sum(values), float(said == k)
                        here = 1.0 if pixels is None else float(pixels[b, y, x])
                        overlap += here * p * t
                        size += here * (p * p + t * t if squared else p + t)
                        labelled += here * t
            if labelled and (background or k or classes == 1):
                weight = 1.0 if class_weights is None or classes == 1 else float(class_weights[k])
                terms.append((1 - (2 * overlap + smooth) / (size + smooth), weight))
    return _slow_mean(terms)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_and_focal_equal_a_loop_over_pixels(kind: str, weighted: bool) -> None:
    logits, labels, class_weights, pixels = _case(kind, 1)
    given = {"class_weights": class_weights, "pixel_weights": pixels} if weighted else {}
    asked = list(_answered(logits, labels, *(given.values() if weighted else (None, None))))
    expected = _slow_mean([(-log, here * weight) for _, log, here, weight in asked])
    assert cross_entropy(logits, labels, **given).item() == pytest.approx(expected, rel=1e-5)
    for gamma in (0.0, 0.5, 2.0):
        expected = _slow_mean(
            [(-((1 - math.exp(log)) ** gamma) * log, here * weight) for _, log, here, weight in asked]
        )
        assert focal(logits, labels, gamma=gamma, **given).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "options", [{}, {"squared": True}, {"per_sample": True, "smooth": 1e-3}, {"background": False}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_dice_equals_a_loop_over_pixels(kind: str, options: dict, weighted: bool) -> None:
    logits, labels, class_weights, pixels = _case(kind, 2)
    given = {"class_weights": class_weights, "pixel_weights": pixels} if weighted else {}
    expected = _slow_dice(logits, labels, *given.values(), **options)
    assert soft_dice(logits, labels, **options, **given).item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    term=st.sampled_from(sorted(TERMS)),
    seed=st.integers(0, 10_000),
    weighted=st.booleans(),
)
def test_ignored_pixels_count_neither_in_the_value_nor_in_the_gradient(
    kind: str, term: str, seed: int, weighted: bool
) -> None:
    logits, labels, class_weights, pixels = _case(kind, seed)
    given = {"class_weights": class_weights, "pixel_weights": pixels} if weighted else {}
    logits.requires_grad_()
    loss = TERMS[term](logits, labels, **given)
    (gradient,) = torch.autograd.grad(loss, logits)
    ignored = labels == IGNORE if kind == "multi-label" else (labels == IGNORE)[:, None].expand_as(logits)
    assert gradient.isfinite().all()
    assert (gradient[ignored] == 0).all()

    other = torch.where(ignored, 30 * torch.randn_like(logits), logits.detach())
    assert TERMS[term](other, labels, **given).item() == loss.item()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_has_a_finite_gradient_where_the_network_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]]).reshape(1, 2, 1, 2).requires_grad_()
    labels = torch.tensor([[[0, IGNORE]]])
    focal(logits, labels, gamma=gamma).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("term", sorted(TERMS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_a_label_costs_nothing_and_teaches_nothing(kind: str, term: str) -> None:
    logits, labels, class_weights, _ = _case(kind, 3)
    logits.requires_grad_()
    loss = TERMS[term](logits, torch.full_like(labels, IGNORE), class_weights=class_weights)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and (logits.grad == 0).all()


def test_a_class_without_a_label_is_no_part_of_dice_but_costs_cross_entropy() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    unsure = torch.zeros(1, 3, 2, 2)
    # class 0: overlap 4/3, sizes 4/3 + 4; classes 1 and 2 have no pixel
    assert soft_dice(unsure, labels, smooth=0).item() == pytest.approx(1 - 2 * (4 / 3) / (4 / 3 + 4))
    assert cross_entropy(unsure, labels).item() == pytest.approx(math.log(3))
    assert soft_dice(unsure, labels, background=False).item() == 0
    no_foreground = soft_dice(torch.zeros(1, 1, 2, 2), labels)
    assert no_foreground.item() == 0


def test_known_values() -> None:
    labels = torch.tensor([[[0, 1], [1, IGNORE]]])
    perfect = torch.tensor([[[50.0, -50.0], [-50.0, 50.0]], [[-50.0, 50.0], [50.0, -50.0]]])[None]
    for term in TERMS.values():
        assert term(perfect, labels).item() == pytest.approx(0, abs=1e-6)
    wrong = perfect.flip(1)
    assert cross_entropy(wrong, labels).item() == pytest.approx(100)
    assert soft_dice(wrong, labels, smooth=0).item() == pytest.approx(1)
    # one logit x for label 1: -log sigmoid(x); at x = 0 that is log 2, and (1/2)^2 of it for focal
    zero = torch.zeros(1, 1, 1, 1)
    assert cross_entropy(zero, torch.ones(1, 1, 1)).item() == pytest.approx(math.log(2))
    assert focal(zero, torch.ones(1, 1, 1)).item() == pytest.approx(math.log(2) / 4)


def test_class_weights_divide_by_their_own_sum() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1]]])
    first, second = math.log1p(math.exp(-2)), math.log(2)
    weighted = cross_entropy(logits, labels, class_weights=torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx((3 * first + second) / 4)
    doubled = cross_entropy(logits, labels, class_weights=torch.tensor([6.0, 2.0])).item()
    assert doubled == pytest.approx(weighted)


def test_losses_fall_along_their_gradient() -> None:
    for kind in KINDS:
        logits, labels, class_weights, pixels = _case(kind, 4)
        for term in TERMS.values():
            logits = logits.detach().requires_grad_()
            before = term(logits, labels, class_weights=class_weights, pixel_weights=pixels)
            (gradient,) = torch.autograd.grad(before, logits)
            after = term(logits - gradient, labels, class_weights=class_weights, pixel_weights=pixels)
            assert after < before


# The criterion -----------------------------------------------------------------------------------------------------


def test_a_criterion_names_its_terms_and_weighs_them() -> None:
    logits, labels, _, pixels = _case("multi-class", 5)
    aux = (torch.randn_like(logits), torch.randn_like(logits))
    found = Criterion({"ce": 2.0, "dice": 0.5}, class_weights=(1.0, 2.0, 3.0), aux_weight=0.3)(
        Scores(logits, aux), Target(labels, pixels)
    )
    assert list(found) == ["ce", "aux_ce", "dice", "aux_dice"]
    given = {"class_weights": torch.tensor([1.0, 2.0, 3.0]), "pixel_weights": pixels}
    assert found["ce"].item() == pytest.approx(2 * cross_entropy(logits, labels, **given).item())
    assert found["aux_dice"].item() == pytest.approx(0.15 * sum(soft_dice(a, labels, **given).item() for a in aux))


def test_unpadded_networks_learn_from_the_middle_of_the_labels() -> None:
    labels = torch.randint(3, (2, 9, 10))
    weights = torch.rand(2, 9, 10)
    logits = torch.randn(2, 3, 4, 6)
    found = Criterion()(Scores(logits), Target(labels, weights))["ce"]
    middle = (slice(None), slice(2, 6), slice(2, 8))
    assert found.item() == pytest.approx(cross_entropy(logits, labels[middle], pixel_weights=weights[middle]).item())
    with pytest.raises(UsageError, match="crop"):
        Criterion()(Scores(torch.randn(2, 3, 12, 12)), Target(labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_scored_in_single_precision(dtype: torch.dtype) -> None:
    """A sum over 200 x 200 pixels leaves float16's range (65504), and probabilities below 6e-8 its precision."""
    labels = torch.randint(2, (1, 200, 200))
    logits = (10 * torch.randn(1, 2, 200, 200)).to(dtype).requires_grad_()
    criterion = Criterion({"ce": 1.0, "dice": 1.0, "focal": 1.0})
    found = criterion(Scores(logits), Target(labels))
    exact = criterion(Scores(logits.detach().double().float()), Target(labels))
    assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in exact.items()}
    assert all(v.dtype == torch.float32 for v in found.values())
    sum(found.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_wrong_number_of_class_weights_is_refused(classes: int) -> None:
    with pytest.raises(UsageError, match=f"4 class weights were given; this network needs {max(classes, 2)}"):
        Criterion(class_weights=(1, 1, 1, 1))(
            Scores(torch.zeros(1, classes, 2, 2)), Target(torch.zeros(1, 2, 2).long())
        )


# Words and weights -------------------------------------------------------------------------------------------------


def test_loss_words() -> None:
    assert parse_loss("ce") == {"ce": 1.0}
    assert parse_loss(" ce + 0.5*dice ") == {"ce": 1.0, "dice": 0.5}
    assert parse_loss("2 * focal+1e-1*dice") == {"focal": 2.0, "dice": 0.1}
    assert parse_loss("ce(smoothing=0.1) + 2*tversky( alpha = 0.2, beta=0.8 )") == {
        "ce(smoothing=0.1)": 1.0,
        "tversky(alpha=0.2,beta=0.8)": 2.0,
    }


def test_values_in_brackets_reach_the_loss() -> None:
    logits, labels, _, _ = _case("multi-class", 6)
    found = Criterion(parse_loss("dice(squared=true,background=false)+0.5*ce(smoothing=0.2)"))(
        Scores(logits), Target(labels)
    )
    assert found["dice"].item() == soft_dice(logits, labels, squared=True, background=False).item()
    assert found["ce"].item() == 0.5 * cross_entropy(logits, labels, smoothing=0.2).item()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("dise", f"there is no loss 'dise'; choose from {', '.join(TERMS)}. Did you mean 'dice'?"),
        ("ce+", f"there is no loss ''; choose from {', '.join(TERMS)}."),
        (
            "ce(gama=2)",
            "the loss 'ce' has no value 'gama'; it takes smoothing=0.0.",
        ),
        (
            "dice(square=true)",
            "the loss 'dice' has no value 'square'; it takes squared=false, per_sample=false, background=true, "
            "smooth=1.0. Did you mean 'squared'?",
        ),
        ("dice(squared=2)", "squared=2 of the loss 'dice' must be true or false"),
        ("tversky(alpha=x)", "alpha=x of the loss 'tversky' must be a number of at least 0"),
        ("topk(share=3)", "share=3 of the loss 'topk' must be a share from 0 to 1"),
        ("topk(share=0)", "share=0 of the loss 'topk' must be a share from 0 to 1"),
        (
            "dice+dice(smooth=1)+dice",
            "loss 'dice+dice(smooth=1)+dice' names 'dice' twice; give it one factor, for example 2*dice",
        ),
        ("x*ce", "loss 'x*ce' is not a sum of terms; write for example ce+0.5*dice"),
        ("ce+ce", "loss 'ce+ce' names 'ce' twice; give it one factor, for example 2*ce"),
        ("-1*ce", "the factor -1 of the loss 'ce' must be a number above 0"),
        ("nan*ce", "the factor nan of the loss 'ce' must be a number above 0"),
        ("inf*dice", "the factor inf of the loss 'dice' must be a number above 0"),
    ],
)
def test_wrong_loss_words_get_one_sentence(words: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_loss(words)
    assert str(caught.value) == sentence


def test_median_frequency_weights() -> None:
    assert median_frequency_weights([100, 400, 200]) == (2.0, 0.5, 1.0)
    assert median_frequency_weights([100, 400, 200], power=0.5) == pytest.approx((2**0.5, 0.5**0.5, 1), abs=1e-3)
    assert median_frequency_weights([100, 300]) == pytest.approx((2.0, 2 / 3), abs=1e-3)  # between the middle two
    assert median_frequency_weights([0, 10, 10]) == (0.0, 1.0, 1.0)
    assert median_frequency_weights([0, 0]) == (1.0, 1.0)
    assert median_frequency_weights([1, 1000, 1000], limit=10) == (10.0, 1.0, 1.0)
    assert median_frequency_weights([0.1, 0.2, 0.7]) == pytest.approx((2, 1, 2 / 7), rel=1e-3)  # shares, not counts
    assert min(median_frequency_weights([1, 10, 10**8])) > 0  # nearly everything: still counts
