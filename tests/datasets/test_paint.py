"""Painting polygons and run lengths, against COCO's own tools."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from sightline.datasets.convert import column_runs
from sightline.datasets.labelme import row_runs
from sightline.datasets.paint import counts_of, paint, polygon_mask, text_of
from sightline.datasets.records import Polygons, Runs
from sightline.errors import SightlineError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the reference
numbers = st.floats(-20, 60, allow_nan=False).map(lambda v: round(v, 2))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8), st.integers(5, 40), st.integers(5, 40))
def test_polygons_equal_the_reference_wherever_they_lie(points, height, width):
    window, inside = polygon_mask(np.array(points), (height, width))
    found = np.zeros((height, width), bool)
    found[window] = inside
    flat = [c for p in points for c in p]
    expected = coco.decode(coco.frPyObjects([flat], height, width))[:, :, 0] > 0
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 12), st.integers(1, 12))
def test_runs_round_trip_and_equal_the_reference(seed, density, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < density
    counts = column_runs(mask)
    text = text_of(counts)
    assert text == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert counts_of(text, limit=1000) == tuple(counts.tolist())
    size = (height, width)
    for runs in (Runs(tuple(counts.tolist()), size), Runs(row_runs(mask), size, by_rows=True)):
        np.testing.assert_array_equal(paint(Polygons(((1, runs),), size, Path("x"))), mask)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=130), max_size=30))
def test_damaged_texts_raise_value_errors_only(text):
    try:
        counts = counts_of(text, limit=50)
    except ValueError:
        return
    assert len(counts) <= 50


def test_runs_that_do_not_fit_are_refused():
    for runs in (
        Runs((3,), (2, 2)),
        Runs((5, -1), (2, 2)),
        Runs((4,), (2, 2), at=(1, 0)),
        Runs((4,), (2, 2), at=(-1, 0)),
    ):
        with pytest.raises(SightlineError, match=r"x\.json: run lengths"):
            paint(Polygons(((1, runs),), (2, 2), Path("x.json")))
