"""Curves: round ticks that cover the data, points where they belong, words for those who do not see them."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.verbs.charts import HEIGHT, MOST_POINTS, WIDTH, Line, chart, smooth, ticks

_finite = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(_finite, _finite)
def test_ticks_cover_the_data_with_few_round_numbers(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):
        high = low
    found = ticks(low, high, 5)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 8
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    mantissa = step / 10 ** math.floor(math.log10(step * 1.000001))
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5)) < 1e-3


def test_points_lie_where_the_axes_say() -> None:
    svg = chart("a", [Line("a", [(0, 0.0), (50, 0.5), (100, 1.0)], "dots")], x="step")
    root = ElementTree.fromstring(svg)
    circles = list(root.iter("circle"))
    xs, ys = [float(c.get("cx", 0)) for c in circles], [float(c.get("cy", 0)) for c in circles]
    labels = {t.text: (float(t.get("x", 0)), float(t.get("y", 0))) for t in root.iter("text")}
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2, abs=0.1)
    assert ys[1] == pytest.approx((ys[0] + ys[2]) / 2, abs=0.1)
    assert ys[0] > ys[2]  # up is more
    assert labels["1"][1] == pytest.approx(ys[2] + 4, abs=0.1)
    assert xs[0] == pytest.approx(labels["0"][0], abs=12)
    assert [c.findtext("title") for c in circles] == ["a: 0 at step 0", "a: 0.5 at step 50", "a: 1 at step 100"]
    assert "a from 0 to 1" in (root.findtext("desc") or "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(-1e4, 1e4)), min_size=2, max_size=40))
def test_nothing_leaves_the_frame(points: list[tuple[float, float]]) -> None:
    svg = chart("t", [Line("a", sorted(points), "dots"), Line("b", sorted(points))], x="step")
    for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT


def test_steps_are_whole_and_small_numbers_short() -> None:
    root = ElementTree.fromstring(chart("t", [Line("a", [(10, 1e-5), (12, 5e-5)])], x="step"))
    texts = [t.text for t in root.iter("text")]
    assert [t for t in texts if t in ("10", "11", "12")] == ["10", "11", "12"]
    assert "10.5" not in texts
    assert "5e-5" in texts


def test_no_curve_no_chart_and_holes_are_left_out() -> None:
    assert chart("t", [Line("a", [])], x="step") == ""
    assert chart("t", [Line("a", [(1, 2.0), (2, math.nan)])], x="step") == ""
    assert "nan" not in chart("t", [Line("a", [(1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)])], x="step").lower()


def test_names_are_escaped_and_long_lines_thinned() -> None:
    points = [(float(k), float(k % 7)) for k in range(100_000)]
    svg = chart("<b>", [Line("<script>", points)], x="<i>")
    ElementTree.fromstring(svg)  # well-formed, or it raises
    assert "<script>" not in svg
    assert len(svg) < 60 * MOST_POINTS


def test_smoothing_keeps_lines_straight_and_the_mean_of_noise() -> None:
    line = [(float(k), 3.0 * k) for k in range(200)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])
    zigzag = smooth([(float(k), float((-1) ** k)) for k in range(400)], share=0.2)
    assert max(abs(y) for _, y in zigzag[50:-50]) < 0.05
