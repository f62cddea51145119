"""Rules of clips against the index arithmetic of their sources, written out with loops."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.action.sampling import ClipRule, parse_rule
from sightline.errors import UsageError


def test_words_are_read_and_said() -> None:
    assert parse_rule("linspace(8, 32)") == ClipRule("linspace", 8, 32)
    assert str(parse_rule(" dense(8,64) ")) == "dense(8, 64)"
    assert str(parse_rule("segments(8)")) == "segments(8)"
    for words in (
        "linspce(8, 32)",
        "linspace(8)",
        "linspace(0, 3)",
        "segments(8, 2)",
        "dense(8, 4)",
        "",
        "arange(-1,2)",
    ):
        with pytest.raises(UsageError, match="clip="):
            parse_rule(words)


def test_the_table_of_the_fact_sheet() -> None:
    """A 300-frame video at 30 frames a second, as mmaction2 and TimeSformer index it."""
    assert ClipRule("arange", 8, 32).views(300, 1)[0].tolist() == [37 + 32 * k for k in range(8)]
    assert ClipRule("linspace", 8, 32).views(300, 1)[0].tolist() == [0, 36, 72, 109, 145, 182, 218, 255]
    starts = ClipRule("arange", 32, 2).views(300, 10)[:, 0].tolist()
    assert starts[:2] == [0, 26] and starts[-1] == 237 and ClipRule("arange", 32, 2).views(300, 10).max() == 299
    assert [round(s) for s in (236 * v / 10 for v in range(10))][1] == 24
    assert ClipRule("linspace", 32, 2).views(300, 10)[1, 0] == 23


@pytest.mark.parametrize("n", [5, 31, 64, 65, 300])
@pytest.mark.parametrize("fps", [15.0, 30.0, 25.0])
def test_linspace_is_pyslowfasts(n: int, fps: float) -> None:
    rule = ClipRule("linspace", 8, 8)
    window = 8 * 8 / 30 * fps
    for v in range(3):
        start = max(n - window, 0) * v / 3
        step = (start + window - 1 - start) / 7
        expected = [min(max(int(np.floor(start + step * k + 1e-9)), 0), n - 1) for k in range(8)]
        found = rule.views(n, 3, fps=fps)[v].tolist()
        assert all(
            abs(a - b) <= (1 if (start + step * k) % 1 < 1e-6 else 0) for k, (a, b) in enumerate(zip(found, expected))
        )


@pytest.mark.parametrize("n", [3, 8, 30, 100])
def test_segments_are_tsms(n: int) -> None:
    rule = ClipRule("segments", 8)
    tick = n / 8
    assert rule.views(n, 1)[0].tolist() == [int(tick / 2 + tick * k) for k in range(8)]
    twice = rule.views(n, 2)
    assert twice[1].tolist() == [int(tick * k) for k in range(8)]
    chosen = rule.train(n, np.random.default_rng(0))
    assert len(chosen) == 8 and chosen.min() >= 0 and chosen.max() < n
    if n >= 16:
        assert all(k * (n // 8) <= c < (k + 1) * (n // 8) for k, c in enumerate(chosen))


@pytest.mark.parametrize("n", [10, 63, 64, 65, 400])
def test_dense_is_tsms(n: int) -> None:
    rule = ClipRule("dense", 8, 64)
    places = max(1, 1 + n - 64)
    for start, row in zip(np.linspace(0, places - 1, 10, dtype=int), rule.views(n, 10)):
        assert row.tolist() == [(start + 8 * k) % n for k in range(8)]


@pytest.mark.parametrize("name", ["linspace", "arange", "dense"])
@pytest.mark.parametrize("n", [1, 7, 50, 301])
def test_random_clips_lie_within_the_video_and_differ(name: str, n: int) -> None:
    rule = ClipRule(name, 4, 8)
    rows = [rule.train(n, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(0 <= k < n for row in rows for k in row)
    assert (len({tuple(row) for row in rows}) > 1) == (n > 40)
    assert rule.train(n, np.random.default_rng(3)).tolist() == rows[3]


def test_enough_views_cover_a_video() -> None:
    assert ClipRule("segments", 8).covering(5000) == 1
    assert ClipRule("arange", 16, 2).covering(31) == 1 and ClipRule("arange", 16, 2).covering(63) == 3
    assert ClipRule("linspace", 8, 4).covering(320) == 10 and ClipRule("linspace", 8, 4).covering(10**6) == 30
