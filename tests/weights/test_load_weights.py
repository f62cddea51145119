"""Loading: recognised by itself, all or nothing, heads and stems of another size, and saving back out."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError, UsageError
from sightline.weights.keymap import KeyMap
from sightline.weights.load import load_weights, save_weights
from sightline.weights.transforms import FC_TO_CONV, HWIO, regrouped, reordered


class Small(nn.Module):
    """A stem with a norm, a fully connected layer as convolution, separate q and k, and a head of classes."""

    HEAD = ("head.", "up.")

    def __init__(self, classes: int = 4, channels: int = 3, width: int = 6, aux: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Conv2d(width, 5, 2)
        self.q = nn.Linear(5, 5)
        self.k = nn.Linear(5, 5)
        self.head = nn.Conv2d(5, classes, 1)
        self.up = nn.ConvTranspose2d(classes, classes, 4, bias=False)
        self.aux = nn.Conv2d(5, classes, 1) if aux else None


TF = KeyMap(
    "tensorflow",
    (
        ("scope/conv/kernel", "stem.weight", HWIO),
        ("scope/conv/bias", "stem.bias"),
        ("scope/norm/gamma", "norm.weight"),
        ("scope/norm/beta", "norm.bias"),
        ("scope/norm/moving_mean", "norm.running_mean"),
        ("scope/norm/moving_variance", "norm.running_var"),
        ("fc/w", "fc.weight", FC_TO_CONV),
        ("fc/b", "fc.bias"),
        ("qk/{leaf}", ("q.{leaf}", "k.{leaf}"), regrouped()),
        ("head/kernel", "head.weight", HWIO),
        ("head/bias", "head.bias"),
        ("up/kernel", "up.weight", HWIO),
        ("aux/kernel", "aux.weight", HWIO),
        ("aux/bias", "aux.bias"),
    ),
    ignore=("*/Momentum", "global_step"),
)
CAFFE = KeyMap(
    "caffe",
    (
        ("conv1.{leaf}", "stem.{leaf}"),
        ("conv1_bn.{leaf}", "norm.{leaf}"),
        ("stem.{leaf}", "not.stem.{leaf}"),
        ("norm.{leaf}", "not.norm.{leaf}"),
        ("{part}.{leaf}", "{part}.{leaf}"),
    ),
    prefix="module.",
    container="state_dict",
)
MAPS = (TF, CAFFE)


def same(a: nn.Module, b: nn.Module, names: Iterator[str] | None = None) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return all(torch.equal(first[name], second[name]) for name in (names or first))


def public(net: nn.Module, key_map: KeyMap) -> dict[str, Tensor]:
    return {
        name.removeprefix(key_map.prefix): value.clone() for name, value in key_map.write(net.state_dict())[0].items()
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".npz"])
@pytest.mark.parametrize("layout", ["sightline", "tensorflow", "caffe"])
def test_every_layout_survives_the_way_out_and_back(tmp_path: Path, layout: str, suffix: str) -> None:
    net, other = Small(), Small()
    path = save_weights(net, tmp_path / f"w{suffix}", layout=layout, maps=MAPS)
    report = load_weights(other, path, maps=MAPS)
    assert report.origin == layout
    assert (report.missing, report.unexpected, report.reinitialised, report.adapted) == ((), (), {}, {})
    assert set(report.loaded) >= {name for name in net.state_dict() if "num_batches" not in name}
    assert same(net, other, iter(report.loaded))
    assert list(tmp_path.iterdir()) == [path]


def test_public_files_have_the_public_names_prefix_and_container(tmp_path: Path) -> None:
    net = Small()
    content = torch.load(save_weights(net, tmp_path / "w.pth", layout="caffe", maps=MAPS), weights_only=True)
    assert torch.equal(content["state_dict"]["module.conv1.weight"], net.stem.weight)
    arrays = np.load(save_weights(net, tmp_path / "w.npz", layout="tensorflow", maps=MAPS), allow_pickle=False)
    assert arrays["scope/conv/kernel"].shape == (3, 3, 3, 6)
    assert arrays["qk/weight"].shape == (10, 5)


def test_half_precision_arrives_as_the_networks_own_precision(tmp_path: Path) -> None:
    net = Small()
    for suffix in (".safetensors", ".pth", ".npz"):
        half = {
            name: value.bfloat16() if value.is_floating_point() else value for name, value in net.state_dict().items()
        }
        other = Small()
        path = save_weights(Small().bfloat16(), tmp_path / f"half{suffix}", maps=MAPS)
        assert load_weights(other, path).loaded
        assert other.stem.weight.dtype == torch.float32
        load_weights(other, half)
        assert torch.equal(other.stem.weight, net.stem.weight.bfloat16().float())


@pytest.mark.parametrize("wrapped", ["plain", "module", "lightning", "nested", "compiled", "numpy"])
def test_prefixes_and_containers_are_found_by_themselves(wrapped: str) -> None:
    net, other = Small(), Small()
    state = public(net, CAFFE)
    content = {
        "plain": state,
        "module": {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"lr": 1}},
        "lightning": {"state_dict": {f"model.{k}": v for k, v in state.items()}, "hyper_parameters": {}},
        "nested": {"model": {"state_dict": state}},
        "compiled": {f"_orig_mod.net.{k}": v for k, v in state.items()},
        "numpy": {"model": {k: v.numpy() for k, v in state.items()}, "__author__": "x"},
    }[wrapped]
    report = load_weights(other, content, maps=MAPS)
    assert report.origin == "caffe"
    assert same(net, other)
    assert (report.notes == ()) == (wrapped == "plain")


def test_a_parallel_network_is_loaded_like_the_network_inside() -> None:
    net, other = Small(), Small()
    load_weights(nn.DataParallel(other), public(net, TF), maps=MAPS)
    assert same(net, other, iter(dict(net.named_parameters())))


@pytest.mark.slow
def test_a_compiled_network_is_loaded_like_the_network_inside() -> None:
    net, other = Small(), Small()
    load_weights(torch.compile(other, backend="eager"), public(net, TF), maps=MAPS)  # type: ignore[arg-type]
    assert same(net, other, iter(dict(net.named_parameters())))


def test_counters_may_be_missing_and_optimizer_slots_are_ignored() -> None:
    state = public(Small(), TF) | {"fc/w/Momentum": torch.zeros(2), "global_step": torch.tensor(7)}
    assert not any("num_batches" in name for name in state)
    report = load_weights(Small(), state, maps=MAPS)
    assert report.missing == ()
    assert any("fc/w/Momentum" in note for note in report.notes)


def test_what_is_not_a_tensor_is_left_out_and_said() -> None:
    report = load_weights(Small(), Small().state_dict() | {"mask_values": [0, 255]})
    assert report.notes == ("left out what is not a tensor: mask_values",)
    assert "mask_values" in str(report)


def test_another_class_count_loads_all_but_the_head_and_says_so() -> None:
    net, other = Small(classes=4), Small(classes=7)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    for key_map in MAPS:
        report = load_weights(other, public(net, key_map), maps=MAPS)
        assert set(report.reinitialised) == {"head.weight", "head.bias", "up.weight"}
        assert report.reinitialised["head.bias"] == "made for another number of classes: 4 in the file, 7 here"
        assert same(net, other, iter(report.loaded))
        assert all(torch.equal(other.state_dict()[name], before[name]) for name in report.reinitialised)
    assert "reinitialised  head.weight" in str(report)


def test_a_layer_of_the_head_stays_fresh_as_a_whole() -> None:
    net = Small()
    state = net.state_dict()
    state["head.weight"] = torch.zeros(9, 5, 1, 1)
    assert set(load_weights(Small(), state).reinitialised) == {"head.weight", "head.bias"}


def test_only_the_first_dimension_of_a_head_counts_classes() -> None:
    state = Small().state_dict()
    state["head.weight"] = torch.zeros(4, 8, 1, 1)
    with pytest.raises(SightlineError, match=r"head\.weight is 4x8x1x1 in the file, 4x5x1x1 here"):
        load_weights(Small(), state)
    with pytest.raises(SightlineError, match=r"fc\.weight is"):
        load_weights(Small(), Small().state_dict() | {"fc.weight": torch.zeros(6, 6, 2, 2)})


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_the_first_convolution_takes_other_channels_with_the_sum_kept(channels: int) -> None:
    net, other = Small(), Small(channels=channels)
    report = load_weights(other, public(net, TF), maps=MAPS)
    assert list(report.adapted) == ["stem.weight"]
    expected = torch.zeros_like(other.stem.weight)
    for o in range(6):
        for i in range(channels):
            expected[o, i] = sum(net.stem.weight[o, c] for c in range(3)) / channels
    assert torch.allclose(other.stem.weight, expected, atol=1e-6)
    grey = torch.rand(1, 1, 5, 5)
    answers = (net.stem(grey.expand(1, 3, 5, 5)), other.stem(grey.expand(1, channels, 5, 5)))
    assert torch.allclose(*answers, atol=1e-5)


def test_only_the_stem_is_adapted() -> None:
    with pytest.raises(SightlineError, match=r"fc\.weight is 5x3x2x2"):
        load_weights(Small(), Small().state_dict() | {"fc.weight": torch.zeros(5, 3, 2, 2)})
    report = load_weights(Small(), Small().state_dict() | {"fc.weight": torch.zeros(5, 3, 2, 2)}, stem=("fc.weight",))
    assert list(report.adapted) == ["fc.weight"]


def test_an_optional_part_may_be_missing_on_either_side() -> None:
    with_aux, without = Small(aux=True), Small()
    with pytest.raises(SightlineError, match="aux"):
        load_weights(Small(), public(with_aux, TF), maps=MAPS)
    report = load_weights(Small(), public(with_aux, TF), maps=MAPS, optional=("aux.",))
    assert any("left out aux/kernel" in note for note in report.notes)
    report = load_weights(Small(aux=True), public(without, TF), maps=MAPS, optional=("aux.",))
    assert set(report.reinitialised) == {"aux.weight", "aux.bias"}
    with pytest.raises(SightlineError, match="0 of 17 tensors"):
        load_weights(Small(aux=True), {"x": torch.zeros(1)}, optional=("",))


def faults() -> Iterator[tuple[str, dict[str, Tensor]]]:
    good = public(Small(), CAFFE)
    yield "one missing", {k: v for k, v in good.items() if k != "q.bias"}
    yield "one more", good | {"extra.weight": torch.zeros(2)}
    yield "one of another shape", good | {"k.weight": torch.zeros(5, 6)}
    yield "another width", public(Small(width=8), CAFFE)
    yield "nothing in common", {"layer4.0.conv1.weight": torch.zeros(3), "fc9.weight": torch.zeros(4)}
    yield "not the last part of a split", {k: v for k, v in public(Small(), TF).items() if k != "qk/weight"}


@pytest.mark.parametrize(("what", "state"), list(faults()), ids=[what for what, _ in faults()])
def test_nothing_changes_when_a_file_does_not_fit(tmp_path: Path, what: str, state: dict[str, Tensor]) -> None:
    net = Small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(SightlineError) as caught:
        load_weights(net, tmp_path / "w.pth", maps=MAPS)
    words = str(caught.value)
    assert "w.pth does not fit Small" in words
    assert " of 15 tensors (" in words
    assert "\n" not in words
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_sentence_names_the_family_and_the_layouts() -> None:
    with pytest.raises(SightlineError) as caught:
        load_weights(Small(), {"backbone.layer4.0.conv1.weight": torch.zeros(3)}, maps=MAPS)
    assert str(caught.value) == (
        "the state dict does not fit Small: 0 of 15 tensors (0 %) match under any known names, it looks like a ResNet;"
        " 15 missing, 1 not known here (stem.weight is missing; stem.bias is missing; norm.weight is missing): choose"
        " the model the file was made for (known layouts: tensorflow, caffe, sightline)"
    )


def test_not_strict_loads_what_fits_and_lists_the_rest() -> None:
    net, other = Small(), Small()
    state = public(net, CAFFE) | {"k.weight": torch.zeros(5, 6), "extra": torch.zeros(1)}
    del state["q.bias"]
    report = load_weights(other, state, maps=MAPS, strict=False)
    assert report.missing == ("q.bias",)
    assert report.unexpected == ("extra",)
    assert report.reinitialised == {"k.weight": "5x6 in the file, 5x5 here"}
    assert same(net, other, iter(report.loaded))
    with pytest.raises(SightlineError, match="does not fit"):
        load_weights(other, {"extra": torch.zeros(1)}, maps=MAPS, strict=False)


def test_the_map_that_fits_best_wins_and_the_first_among_equals() -> None:
    twin = KeyMap("twin", CAFFE.rows)
    assert load_weights(Small(), public(Small(), CAFFE), maps=(TF, twin, CAFFE)).origin == "twin"
    assert load_weights(Small(), public(Small(), CAFFE), maps=(TF, twin, CAFFE), origin="caffe").origin == "caffe"
    with pytest.raises(UsageError, match="Did you mean 'tensorflow'"):
        load_weights(Small(), public(Small(), CAFFE), maps=MAPS, origin="tensorflw")


def test_a_file_of_ours_says_its_layout_where_names_alone_would_not_tell(tmp_path: Path) -> None:
    swapped = KeyMap("swapped", (("fc.bias", "fc.bias", reordered((4, 3, 2, 1, 0))), ("{rest}", "{rest}")))
    net = Small()
    for layout in ("sightline", "swapped"):
        path, other = save_weights(net, tmp_path / "w.safetensors", layout=layout, maps=(swapped,)), Small()
        assert load_weights(other, path, maps=(swapped,)).origin == layout
        assert same(net, other)


def test_values_that_are_not_finite_are_said() -> None:
    state = Small().state_dict()
    state["q.bias"] = torch.full((5,), torch.nan)
    assert load_weights(Small(), state).notes == ("holds values that are not finite: q.bias",)


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match="not from a list"):
        load_weights(Small(), [1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Identity has no weights"):
        load_weights(nn.Identity(), {"a": torch.zeros(1)})


def test_saving_refuses_what_it_cannot_do_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'caffe'"):
        save_weights(Small(), tmp_path / "w.pth", layout="cafe", maps=MAPS)
    with pytest.raises(UsageError, match=r"use \.safetensors"):
        save_weights(Small(), tmp_path / "w.h5")
    part = KeyMap("part", (("a.{rest}", "stem.{rest}"),))
    with pytest.raises(SightlineError, match=r"no name for norm\.weight, norm\.bias, norm\.running_mean and 10 more"):
        save_weights(Small(), tmp_path / "w.pth", layout="part", maps=(part,))
    (tmp_path / "file").write_text("")
    with pytest.raises(SightlineError, match="cannot write"):
        save_weights(Small(), tmp_path / "file" / "w.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_npz_files_open_in_numpy(tmp_path: Path) -> None:
    path = save_weights(Small(), tmp_path / "w.npz", layout="tensorflow", maps=MAPS)
    assert zipfile.ZipFile(path).testzip() is None
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["head/kernel"].dtype == np.float32
