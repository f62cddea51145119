"""The recipes that run over many systems: values that builders know, and results that a second call does not redo."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.recipes import camvid_ranking, every_segmenter
from sightline.verbs.models import builder_of, catalogue, defaults_of
from sightline.verbs.train import train

TINY: dict[str, Any] = {"seed": 0, "size": 32, "batch": 2, "steps": 2, "device": "cpu"}


@pytest.mark.parametrize("table", [every_segmenter.SMALL, camvid_ranking.SYSTEMS], ids=["every", "ranking"])
def test_values_are_those_of_the_builders(table: dict[str, dict[str, Any]]) -> None:
    for name, values in table.items():
        assert set(values) <= set(defaults_of(builder_of(catalogue()[name]))), name
    assert set(every_segmenter.OPTIONS) <= set(signature(train).parameters)


def test_crops_are_sizes_that_unpadded_networks_take() -> None:
    checked = 0
    for name, values in every_segmenter.SMALL.items():
        build = builder_of(catalogue()[name])
        if "unpadded" in catalogue()[name].traits:
            net, size = build(**values), every_segmenter.recipe(name).options["size"]
            assert [net.legal_size(n - 2 * net.margin) for n in size] == size, name
            checked += 1
    assert checked == 2


def test_a_system_that_fails_does_not_stop_the_others(shapes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(every_segmenter, "FOLDER", tmp_path)
    monkeypatch.setattr(every_segmenter, "OPTIONS", TINY)
    monkeypatch.setattr(every_segmenter, "SMALL", {"unet_valid": {"width": 2}, "segnet_basic": {"width": 2}})
    monkeypatch.setattr(every_segmenter, "OTHERS", {})
    with pytest.raises(SightlineError, match="1 of 2 failed: unet_valid: height 32 does not fit"):
        every_segmenter.carry_out_all(shapes, [])
    assert set(every_segmenter.read_results()) == {"segnet_basic"}


def test_every_system_is_trained_once(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_segmenter, "FOLDER", tmp_path)
    monkeypatch.setattr(every_segmenter, "OPTIONS", TINY)
    monkeypatch.setattr(every_segmenter, "SMALL", {"unet": {"width": 2, "depth": 2}, "segnet_basic": {"width": 2}})
    first = every_segmenter.carry_out_all(shapes, ["unet"])
    assert [row["system"] for row in first] == ["unet"]
    before = (tmp_path / "unet" / "metrics.jsonl").stat().st_mtime_ns
    both = every_segmenter.carry_out_all(shapes, [])
    assert [row["system"] for row in both] == ["unet", "segnet_basic"]
    assert both == json.loads((tmp_path / "results.json").read_text())
    assert (tmp_path / "unet" / "metrics.jsonl").stat().st_mtime_ns == before
    assert both[0]["command"] == f"python -m sightline.recipes.every_segmenter {shapes.name} unet"


def test_the_ranking_gives_all_the_same_minutes(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camvid_ranking, "FOLDER", tmp_path)
    monkeypatch.setattr(camvid_ranking, "OPTIONS", TINY)
    monkeypatch.setattr(camvid_ranking, "SYSTEMS", {"unet": {"width": 2, "depth": 2}, "segnet_basic": {"width": 2}})
    monkeypatch.setattr(camvid_ranking, "steps_in", lambda minutes, name, data: round(3 * minutes))
    rows = camvid_ranking.rank(shapes, minutes=1, seeds=(0, 1))
    assert len(rows) == 2 and all(len(row["values"]) == 2 for row in rows)
    assert rows[0]["value"] == max(row["value"] for row in rows)
    assert rows == camvid_ranking.rank(shapes, minutes=1, seeds=(0, 1))


def test_steps_are_counted_from_the_time_they_take(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camvid_ranking, "OPTIONS", TINY)
    monkeypatch.setattr(camvid_ranking, "SYSTEMS", {"unet": {"width": 2, "depth": 2}})
    assert camvid_ranking.steps_in(10, "unet", shapes) > camvid_ranking.steps_in(0.001, "unet", shapes) >= 1


@pytest.mark.parametrize("words", [[], ["minutes=3"], ["data", "hours=3"], ["data", "minutes=long"]])
def test_a_wrong_call_of_the_ranking_is_one_sentence(words: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["camvid_ranking", *words])
    assert camvid_ranking.main() == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
