"""Surfaces, regions and calibration against loops, and the way they come into a report."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.segmentation.calibration import Reliability
from sightline.segmentation.judges import Rand
from sightline.segmentation.metrics import SegmentationMetric
from sightline.segmentation.policies import POLICIES
from sightline.segmentation.segments import regions, thinned, uphill, v_info, v_rand
from sightline.segmentation.surface_scores import (
    NAMES,
    average_surface_distance,
    hausdorff,
    surface_dice,
    surface_scores,
)


def edge(mask: np.ndarray) -> list[tuple[int, ...]]:
    def outside(at: tuple[int, ...]) -> bool:
        return not all(0 <= a < n for a, n in zip(at, mask.shape)) or not mask[at]

    moves = [tuple(s if a == axis else 0 for a in range(mask.ndim)) for axis in range(mask.ndim) for s in (-1, 1)]
    found = []
    for at in zip(*np.nonzero(mask)):
        if any(outside(tuple(int(a + m) for a, m in zip(at, move))) for move in moves):
            found.append(at)
    return found


def slow(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    one, two = ([tuple(x * s for x, s in zip(p, spacing)) for p in edge(m)] for m in (a, b))
    if not one and not two:
        return dict.fromkeys(NAMES, math.nan)
    if not one or not two:
        nothing = dict.fromkeys(NAMES, math.nan)
        return nothing | {"hd": math.inf, "assd": math.inf, "surface_dice": 0.0, "boundary_f1": 0.0}
    there = [min(math.dist(p, q) for q in two) for p in one]
    back = [min(math.dist(p, q) for q in one) for p in two]
    near = 0.0075 * math.sqrt(sum((n * s) ** 2 for n, s in zip(a.shape, spacing)))
    precision, recall = (sum(d <= near for d in side) / len(side) for side in (there, back))
    return {
        "hd95": max(percentile(there), percentile(back)),
        "hd95_pooled": percentile(there + back),
        "hd": max(there + back),
        "assd": sum(there + back) / len(there + back),
        "surface_dice": sum(d <= 1 for d in there + back) / len(there + back),
        "boundary_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def percentile(values: list[float], share: float = 0.95) -> float:
    values = sorted(values)
    at = share * (len(values) - 1)
    low, high = values[math.floor(at)], values[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 1), (3, 7), (9, 8), (2, 4, 3), (4, 4, 4)]),
    shares=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 1.0])] * 2),
)
def test_surface_scores_equal_all_pairs(seed: int, shape: tuple[int, ...], shares: tuple[float, float]) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(shape, generator=g) < share for share in shares)
    spacing = (2.5, 0.5, 0.75)[-len(shape) :]
    found = surface_scores(a, b, spacing=spacing)
    expected = slow(a.numpy(), b.numpy(), spacing)
    assert {name: getattr(found, name) for name in NAMES} == pytest.approx(expected, nan_ok=True)
    empty = math.isinf(expected["hd"])
    assert hausdorff(a, b, percentile=None, spacing=spacing) == pytest.approx(expected["hd"], nan_ok=True)
    if not empty:
        assert hausdorff(a, b, spacing=spacing) == pytest.approx(expected["hd95"], nan_ok=True)
        assert hausdorff(a, b, pooled=True, spacing=spacing) == pytest.approx(expected["hd95_pooled"], nan_ok=True)
    assert average_surface_distance(a, b, spacing=spacing) == pytest.approx(expected["assd"], nan_ok=True)
    assert surface_dice(a, b, spacing=spacing) == pytest.approx(expected["surface_dice"], nan_ok=True)
    assert vars(surface_scores(b, a, spacing=spacing)) == pytest.approx(vars(found), nan_ok=True)


def test_a_shifted_square_is_as_far_as_it_was_shifted() -> None:
    a, b = torch.zeros(2, 20, 30, dtype=torch.bool)
    a[5:10, 5:10] = True
    b[5:10, 8:13] = True
    found = surface_scores(a, b, spacing=(1.0, 2.0))
    assert found.hd == 6.0
    assert surface_scores(a, a).assd == 0 and surface_scores(a, a).boundary_f1 == 1


# Regions ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cells=st.integers(1, 4))
def test_v_rand_and_v_info_equal_sums_over_pairs(seed: int, cells: int) -> None:
    g = torch.Generator().manual_seed(seed)
    answer, truth = torch.randint(0, 5, (5, 6), generator=g), torch.randint(0, cells + 1, (5, 6), generator=g)
    pairs = [(int(s), int(t)) for s, t in zip(answer.flatten(), truth.flatten()) if t > 0]
    if not pairs:
        assert math.isnan(v_rand(answer, truth)) and math.isnan(v_info(answer, truth))
        return
    n = len(pairs)
    joint, one, two = Counter(pairs), Counter(s for s, _ in pairs), Counter(t for _, t in pairs)
    same = sum(a == b for a, b in product(pairs, pairs)) / n**2  # pairs of pixels that are together in both
    ones = sum(a[0] == b[0] for a, b in product(pairs, pairs)) / n**2
    twos = sum(a[1] == b[1] for a, b in product(pairs, pairs)) / n**2
    assert v_rand(answer, truth) == pytest.approx(same / (0.5 * ones + 0.5 * twos))
    assert v_rand(answer, truth, alpha=1.0) == pytest.approx(same / ones)
    entropies = [-sum(c / n * math.log(c / n) for c in table.values()) for table in (one, two, joint)]
    below = (entropies[0] + entropies[1]) / 2
    expected = (entropies[0] + entropies[1] - entropies[2]) / below if below else 1.0
    assert v_info(answer, truth) == pytest.approx(expected)
    assert v_rand(truth, truth) == pytest.approx(1) and v_info(truth, truth) == pytest.approx(1)


def test_regions_touch_by_faces_and_take_the_nearest_pixels() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0]], bool)
    assert len(np.unique(regions(mask))) == 4
    cells = np.array([[1, 0, 0, 0, 0, 1]], bool)
    assert thinned(cells).tolist() == [[1, 1, 1, 2, 2, 2]]
    assert not thinned(cells & False).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(5, 6), (1, 9), (3, 4, 3)]), levels=st.sampled_from([3, 99]))
def test_every_pixel_climbs_to_its_peak(seed: int, shape: tuple[int, ...], levels: int) -> None:
    rng = np.random.default_rng(seed)
    height, parts = rng.integers(0, levels, shape).astype(float), rng.integers(0, 3, shape).astype(np.int32)
    found = uphill(height, parts)
    flat = {at: n for n, at in enumerate(np.ndindex(shape))}

    def climb(at: tuple[int, ...]) -> tuple[int, ...]:
        around = [tuple(a + o for a, o in zip(at, offset)) for offset in product((-1, 0, 1), repeat=len(shape))]
        around = [q for q in around if q in flat and parts[q] == parts[at]]
        best = max(around, key=lambda q: (height[q], flat[q]))
        return at if best == at else climb(best)

    for at in np.ndindex(shape):
        assert found[at] == flat[climb(at) if parts[at] else at]


def test_the_best_threshold_counts() -> None:
    """A border that is thick at one half and right at 0.8 is judged where it is right; a gap merges two cells."""
    truth = torch.ones(9, 9, dtype=torch.long)
    truth[4] = 0
    border = torch.full((9, 9), 0.05)
    border[4] = 0.35
    probabilities = torch.stack([border, 1 - border])
    rand = Rand(("border", "cell"))
    rand.update(probabilities.argmax(0), truth, probabilities)
    assert rand.best == {"v_rand": pytest.approx(1), "v_info": pytest.approx(1)}
    merged = Rand(("border", "cell"))
    merged.update(torch.ones(9, 9), truth)
    assert merged.best["v_rand"] == pytest.approx(0.5 / (0.5 * 1 + 0.5 * 0.5))
    assert merged.best["v_info"] == pytest.approx(0)
    other = Rand(("cell", "membrane"))
    assert other.border == 1
    rand.merge(merged)
    assert rand.best["v_rand"] == pytest.approx((1 + 2 / 3) / 2)
    one_logit = Rand(("background", "cell"))
    one_logit.update(probabilities.argmax(0), truth, probabilities[1:])
    assert one_logit.best["v_rand"] == pytest.approx(1)


# Calibration --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), kind=st.sampled_from(["binary", "multi-class", "multi-label"]), bins=st.integers(1, 9)
)
def test_calibration_equals_a_loop(seed: int, kind: str, bins: int) -> None:
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(1 if kind == "binary" else 3, 4, 5, generator=g)
    p = p.softmax(0) if kind == "multi-class" else p
    shape = p.shape if kind == "multi-label" else p.shape[1:]
    labels = torch.randint(3 if kind == "multi-class" else 2, shape, generator=g)
    labels[torch.rand(shape, generator=g) < 0.2] = 255
    answers = []
    for at in np.ndindex(tuple(shape)):
        if labels[at] == 255:
            continue
        chances = p[(slice(None), *at)] if kind == "multi-class" else p[at if kind == "multi-label" else (0, *at)]
        chances = chances if kind == "multi-class" else torch.stack([1 - chances, chances])
        answers.append((float(chances.max()), int(chances.argmax()) == int(labels[at])))
    gaps = 0.0
    for k in range(bins):
        held = [(c, r) for c, r in answers if k / bins < c <= (k + 1) / bins]
        if held:
            gaps += abs(sum(r for _, r in held) - sum(c for c, _ in held))
    one, two = Reliability(bins), Reliability(bins)
    one.update(p[:, :2], labels[..., :2, :])
    two.update(p[:, 2:], labels[..., 2:, :])
    one.merge(two)
    assert one.ece == pytest.approx(gaps / len(answers), abs=1e-6)
    assert sum(share for *_, share in one.curve) == pytest.approx(1)


# In a report --------------------------------------------------------------------------------------------------------


def _measured(policy: str | None = None, measures: tuple[str, ...] = ()) -> SegmentationMetric:
    metric = SegmentationMetric(["background", "cell"], policy=policy, measures=measures)
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        labels = torch.zeros(12, 12, dtype=torch.uint8)
        labels[3:9, 3 + seed : 9] = 1
        labels[0] = 255
        prediction = labels.roll(1, 1) % 255
        p = torch.rand(2, 12, 12, generator=g).softmax(0)
        metric.update(prediction, labels, key=str(seed), probabilities=p, spacing=(1.0, 3.0))
    return metric


def test_measures_stand_in_the_report() -> None:
    report = _measured(measures=("hd95", "assd", "surface_dice", "boundary_f1", "v_rand", "v_info", "ece")).compute()
    metrics = report.metrics
    assert metrics["hd95"] == 3.0 and metrics["surface_missing"] == 0
    assert 0 < metrics["assd"] < 3 and 0 < metrics["surface_dice"] < 1 and 0 < metrics["v_rand"] <= 1
    assert 0 < metrics["ece"] < 1 and "dataset_miou" in metrics
    assert report.per_class["cell"]["hd95"] == 3.0 and math.isnan(report.per_class["background"]["hd95"])
    assert "hd95" not in _measured(measures=("ece",)).compute().metrics
    assert _measured().compute().reliability


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_prints_its_own_numbers(policy: str) -> None:
    report = _measured(policy).compute()
    assert "dataset_miou" not in report.metrics and all(math.isfinite(v) for v in report.metrics.values())
    assert set(report.per_class) == {"background", "cell"}
    if policy == "transunet":
        assert report.metrics["mean_hd95"] == 1.0  # in voxels, whatever the spacing


def test_two_halves_merge_to_the_whole() -> None:
    whole, parts = (_measured("transunet", ("hd95", "v_rand", "ece")) for _ in range(2))
    other = _measured("transunet", ("hd95", "v_rand", "ece"))
    parts.merge(other)
    assert parts.compute().metrics == pytest.approx(whole.compute().metrics)
    assert len(parts.image_scores) == 6


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match=r"policy 'monay' is unknown; choose from mmseg, .*Did you mean 'monai'"):
        SegmentationMetric(["a"], policy="monay")
    with pytest.raises(UsageError, match=r"metric 'hd59' is unknown; choose from hd95, .*Did you mean 'hd95'"):
        SegmentationMetric(["a"], measures=["hd59"])
