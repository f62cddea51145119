"""Splits: given ones are kept, missing ones are cut the same way for ever."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.datasets.open import open_dataset
from sightline.datasets.records import Picture, PixelRecord, Polygons
from sightline.datasets.splits import choose_val, sequences
from sightline.errors import UsageError


def records(keys, groups=None):
    labels = Polygons((), (1, 1), None)
    return [
        PixelRecord(k, Picture(None), labels, group=g, split="train") for k, g in zip(keys, groups or [""] * len(keys))
    ]


WORDS = [f"{w}{v}" for w in ("ka", "lo", "mi", "nu", "re", "so", "ti", "va") for v in ("a", "b", "c", "d", "e")]


def test_a_seeded_fifth_is_fixed_for_ever():
    chosen, why = choose_val(records(WORDS), 0.2, 0)
    assert chosen == {"lod", "mie", "nub", "nud", "rea", "red", "tic", "vab"}, "the rule of the cut has changed"
    assert why == "8 of 40, chosen by seed 0"
    assert choose_val(records(WORDS), 0.2, 1)[0] != chosen
    assert choose_val(records(WORDS[::-1]), 0.2, 0)[0] == chosen


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("ab01_/", min_size=1, max_size=6), min_size=2, max_size=40, unique=True),
    st.one_of(st.floats(0.01, 0.99), st.integers(1, 1)),
    st.integers(0, 5),
)
def test_both_sides_keep_something_and_order_never_matters(keys, val, seed):
    chosen, _ = choose_val(records(keys), val, seed)
    assert 0 < len(chosen) < len(keys)
    assert choose_val(records(sorted(keys)), val, seed)[0] == chosen


def test_slices_are_cut_in_blocks():
    keys = [f"{i}.png" for i in range(24)]
    chosen, why = choose_val(records(keys), 0.2, 3)
    assert chosen == {"19.png", "20.png", "21.png", "22.png", "23.png"} and "neighbours stay together" in why
    assert choose_val(records(keys), "last(4)", 0)[0] == {"20.png", "21.png", "22.png", "23.png"}
    assert choose_val(records(keys), "first(2)", 0)[0] == {"0.png", "1.png"}
    assert len(choose_val(records(keys), 6, 0)[0]) == 6
    assert choose_val(records(keys), "0.2", 3)[0] == chosen  # as the command line gives it


def test_few_sequences_lose_their_ends_and_many_are_kept_whole():
    few = [f"a_{i:03d}" for i in range(10)] + [f"b_{i:03d}" for i in range(20)]
    chosen, why = choose_val(records(few), 0.2, 0)
    assert chosen == {"a_008", "a_009", "b_016", "b_017", "b_018", "b_019"} and "each of 2 sequences" in why
    many = [f"{g}_{i}" for g in "abcdefghij" for i in range(3)]
    chosen, why = choose_val(records(many), 0.2, 0)
    assert len(chosen) == 6 and len({k[0] for k in chosen}) == 2 and "whole groups" in why


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("pqrstu"), min_size=2, max_size=30), st.integers(0, 3))
def test_declared_groups_are_never_torn(groups, seed):
    keys = [f"{i}" for i in range(len(groups))]
    chosen, _ = choose_val(records(keys, groups), 0.3, seed)
    sides = {(g, k in chosen) for k, g in zip(keys, groups)}
    if len(set(groups)) > 1:
        assert len(sides) == len(set(groups))


def test_sequences_are_read_from_names():
    assert sequences(["x/0001TP_006690.png", "x/0001TP_006720.png"]) == ["x/0001TP"] * 2
    assert sequences(["0.png", "1.png", "2.png"]) == ["", "", ""]
    assert sequences(["v.tif#0", "v.tif#1"]) == ["v", "v"]
    assert sequences(["000000384553.jpg", "000000000139.jpg"]) == ["000000384553.jpg", "000000000139.jpg"]
    assert sequences(["cat.png", "dog.png"]) == ["cat.png", "dog.png"]


@pytest.mark.parametrize("val", ["last(40)", "last(0)", 7, "lust(4)", "-0.2", "nan", "inf", ""])
def test_impossible_rules_are_usage_errors(val):
    with pytest.raises(UsageError, match="val="):
        choose_val(records(["a1", "b2", "c"]), val, 0)


def test_explicit_keys(pairs, make):
    root = pairs()
    data = open_dataset(root, splits={"train": ["images/p0x.png", "p1x"], "val": ["p5x.png"]})
    assert [r.split for r in data.records] == ["train", "train", "val"]
    assert any("3 left out" in n for n in data.notes)
    file = make.text("../splits.json", json.dumps({"training": ["p2x"], "val": ["p3x"]}))
    assert open_dataset(root, splits=file).splits == ("train", "val")
    with pytest.raises(UsageError, match="no picture of the data set has the key 'nope'"):
        open_dataset(root, splits={"train": ["nope"]})
    with pytest.raises(UsageError, match="named twice"):
        open_dataset(root, splits={"train": ["p0x"], "val": ["p0x"]})


def test_a_given_val_split_is_kept_aloud(make):
    for split in ("train", "val"):
        make.picture(f"{split}/images/a.png")
        make.flat(f"{split}/masks/a.png", 0, 1)
    data = open_dataset(make.root, val="last(1)")
    assert [r.split for r in data.records] == ["train", "val"]
    assert any("val=last(1) is not used" in n for n in data.notes)


def test_what_was_done_is_stored(pairs):
    data = open_dataset(pairs(10), val=0.3, seed=4)
    assert data.facts["splits"] and data.facts["seed"] == 4 and data.facts["val"] == "0.3"
    assert any(("no val split given: " in n and "seed 4" in n) or "neighbours" in n for n in data.notes)
