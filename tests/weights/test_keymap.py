"""The rename engine: templates both ways, several tensors in one, and what it says of malformed rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import UsageError
from sightline.weights.keymap import KeyMap
from sightline.weights.transforms import HWIO, regrouped


def tensors(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2,), float(number)) for number, name in enumerate(names)}


def ours(key_map: KeyMap, public: list[str], known: list[str]) -> dict[str, str]:
    """File's name for each of our names, through the engine."""
    read = key_map.read(tensors(*public), dict.fromkeys(known, (2,)))
    assert set(read.ours) == set(read.sources)
    return {name: sources[0] for name, sources in read.sources.items()}


@pytest.mark.parametrize(
    ("public", "own", "pairs"),
    [
        ("layer{i}.{rest}", "stage{i-1}.{rest}", {"layer3.0.conv.weight": "stage2.0.conv.weight"}),
        ("enc{i+1}.enc{i+1}conv{j}.{leaf}", "down.{i}.{2j}.{leaf}", {"enc2.enc2conv3.bias": "down.1.6.bias"}),
        ("up{4-i}.{rest}", "up.{i}.{rest}", {"up4.w": "up.0.w", "up1.w": "up.3.w"}),
        ("seq.{3i+1}.{leaf}", "norm{i}.{leaf}", {"seq.1.bias": "norm0.bias", "seq.7.bias": "norm2.bias"}),
        ("a/b_{n}/kernel", "b.{n}.weight", {"a/b_10/kernel": "b.10.weight"}),
        ("{rest}.gamma", "{rest}.weight", {"x.y.norm.gamma": "x.y.norm.weight"}),
    ],
)
def test_a_row_renames_both_ways(public: str, own: str, pairs: dict[str, str]) -> None:
    key_map = KeyMap("x", ((public, own),))
    assert ours(key_map, list(pairs), list(pairs.values())) == {b: a for a, b in pairs.items()}
    written, unknown = key_map.write(tensors(*pairs.values()))
    assert list(written) == list(pairs)
    assert unknown == []


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("layer{i+1}.w", "layer0.w"),  # would be -1
        ("seq.{3i+1}.w", "seq.3.w"),  # not of the form
        ("up{4-i}.w", "up5.w"),  # would be -1
        ("enc{i}.enc{i}.w", "enc1.enc2.w"),  # two values of one letter
        ("l{i}.w", "l01.w"),  # would be written back as l1.w
        ("l{i}.w", "lx.w"),
        ("{leaf}.w", "a.b.w"),  # a word holds no dot
        ("l{i}.w", "l1.wx"),
        ("l.{rest}", "l."),
    ],
)
def test_what_a_template_does_not_match(template: str, name: str) -> None:
    other = template.replace("{i+1}", "{i}").replace("{3i+1}", "{i}").replace("{4-i}", "{i}")
    read = KeyMap("x", ((template, other),)).read(tensors(name), {})
    assert read.unknown == [name]


def test_a_name_that_would_count_below_zero_is_not_written() -> None:
    key_map = KeyMap("x", (("up{i-1}.w", "up.{i}.w"),))
    assert key_map.write(tensors("up.0.w", "up.1.w"))[1] == ["up.0.w"]


@given(i=st.integers(0, 10**6), j=st.integers(0, 99), rest=st.text(min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_any_name_survives_the_way_there_and_back(i: int, j: int, rest: str) -> None:
    key_map = KeyMap("x", (("a{i+2}/{3j}:{rest}", "b.{2i+1}.{j}.{rest}"),))
    name = f"b.{2 * i + 1}.{j}.{rest}"
    written, _ = key_map.write(tensors(name))
    assert list(written) == [f"a{i + 2}/{3 * j}:{rest}"]
    assert list(key_map.read(written, {name: (2,)}).ours) == [name]


def test_the_first_row_that_matches_wins_and_is_what_is_written() -> None:
    key_map = KeyMap("x", (("old.{rest}", "a.{rest}"), ("older.{rest}", "a.{rest}"), ("{rest}", "b.{rest}")))
    assert ours(key_map, ["older.w", "w"], ["a.w", "b.w"]) == {"a.w": "older.w", "b.w": "w"}
    assert list(key_map.write(tensors("a.w", "b.w"))[0]) == ["old.w", "w"]


def test_two_names_of_one_tensor_must_agree() -> None:
    key_map = KeyMap("x", (("old.w", "a"), ("older.w", "a")))
    same = key_map.read({"old.w": torch.ones(2), "older.w": torch.ones(2)}, {"a": (2,)})
    assert (list(same.ours), same.ignored, same.failed) == (["a"], ["older.w"], {})
    differ = key_map.read({"old.w": torch.ones(2), "older.w": torch.zeros(2)}, {"a": (2,)})
    assert "old.w and older.w" in differ.failed["a"]


def test_names_the_network_does_not_have_are_told_apart_from_names_nobody_knows() -> None:
    read = KeyMap("x", (("a.{rest}", "b.{rest}"),)).read(tensors("a.w", "c.w"), {})
    assert read.foreign == {"a.w": "b.w"}
    assert read.unknown == ["c.w"]


def test_ignored_names_are_globs() -> None:
    read = KeyMap("x", (("{rest}", "{rest}"),), ignore=("fc.*", "*/Adam")).read(
        tensors("fc.w", "a/Adam", "a"), {"a": (2,)}
    )
    assert (read.ignored, list(read.ours)) == (["fc.w", "a/Adam"], ["a"])


def test_copies_are_read_from_whichever_is_there_and_written_under_all_names() -> None:
    key_map = KeyMap(
        "nnunet",
        (("encoder.{rest}", "down.{rest}"),),
        copies=(
            ("decoder.encoder.{rest}", "encoder.{rest}"),
            ("{rest}.all_modules.0.{leaf}", "{rest}.conv.{leaf}"),
        ),
    )
    full = [
        "encoder.a.conv.w",
        "encoder.a.all_modules.0.w",
        "decoder.encoder.a.conv.w",
        "decoder.encoder.a.all_modules.0.w",
    ]
    read = key_map.read(tensors(*full), {"down.a.conv.w": (2,)})
    assert read.sources == {"down.a.conv.w": ("encoder.a.conv.w",)}
    assert read.ignored == full[1:]
    only = key_map.read(tensors(full[3]), {"down.a.conv.w": (2,)})
    assert list(only.ours) == ["down.a.conv.w"]
    assert set(key_map.write(read.ours)[0]) == set(full)


def test_one_public_tensor_becomes_several_of_ours_and_back() -> None:
    key_map = KeyMap("x", (("{i}.qkv", ("{i}.q", "{i}.k", "{i}.v"), regrouped()),))
    qkv = {f"{i}.qkv": torch.arange(12.0).view(6, 2) + i for i in range(2)}
    shapes = {f"{i}.{part}": (2, 2) for i in range(2) for part in "qkv"}
    read = key_map.read(qkv, shapes)
    assert torch.equal(read.ours["1.k"], qkv["1.qkv"][2:4])
    written, unknown = key_map.write(read.ours)
    assert unknown == []
    assert all(torch.equal(written[name], qkv[name]) for name in qkv)


def test_several_public_tensors_become_one_of_ours_and_one_alone_is_reported() -> None:
    key_map = KeyMap("x", ((("q", "k"), "qk", regrouped()),))
    parts = {"k": torch.zeros(1, 2), "q": torch.ones(1, 2)}
    assert key_map.read(parts, {"qk": (2, 2)}).ours["qk"].tolist() == [[1, 1], [0, 0]]
    alone = key_map.read({"q": parts["q"]}, {"qk": (2, 2)})
    assert alone.failed == {"qk": "the file has no k"}
    assert key_map.write({"qk": torch.zeros(3, 2, dtype=torch.float64)[:2]})[0]["k"].shape == (1, 2)


def test_a_transform_that_does_not_fit_is_a_reason_not_an_exception() -> None:
    read = KeyMap("tf", (("k", "w", HWIO),)).read({"k": torch.zeros(3)}, {"w": (1, 1, 1, 1)})
    assert read.failed == {"w": "'HWIO to OIHW' does not fit k of shape (3,)"}


def test_rows_can_be_moved_under_prefixes() -> None:
    part = KeyMap("tv", (("conv1.{leaf}", "stem.{leaf}"), (("q", "k"), "qk", regrouped())))
    assert part.under("backbone.", "body.")[0] == ("backbone.conv1.{leaf}", "body.stem.{leaf}")
    assert part.under("backbone.", "body.")[1][:2] == (("backbone.q", "backbone.k"), "body.qk")
    assert len(KeyMap("whole", part.under("backbone.", "body."))._rules) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((("a{i}", "b{j}"),), "row 1: all names must hold the same placeholders"),
        ((("a", "b"), ("a{i", "b")), "row 2: 'a{i' has a brace without its partner"),
        ((("a{i}}", "b{i}"),), "brace without its partner"),
        ((("a{i*2}", "b{i}"),), "'{i*2}': write {i}, {i+1}"),
        ((("a{0i}", "b{i}"),), "always the same number"),
        ((("{rest}.{rest}", "{rest}"),), "{rest} twice"),
        ((("a",),), "expected (public, ours)"),
        ((("a", "b", "c"),), "the third value must be a Transform"),
        ((("a", ("b", "c")),), "need a transform"),
        ((("a", ""),), "expected a name"),
        ((("a", "b"), ("a", "c")), "row 2: never reached, row 1 has the same public name"),
        (("ab",), "expected (public, ours)"),
    ],
)
def test_malformed_rows_are_named_when_the_map_is_made(rows: tuple, words: str) -> None:
    with pytest.raises(UsageError, match="key map 'x', row") as caught:
        KeyMap("x", rows)
    assert words in str(caught.value)


def test_a_map_needs_an_origin_and_globs() -> None:
    with pytest.raises(UsageError, match="needs an origin"):
        KeyMap("", ())
    with pytest.raises(UsageError, match="globs"):
        KeyMap("x", (), ignore=("fc.{rest}",))
