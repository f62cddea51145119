"""The automatic choices: a table of data sets and machines, and what is chosen for each, with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sightline.contracts import Choice, Machine
from sightline.datasets.stats import Counting, Stats
from sightline.errors import SightlineError, UsageError
from sightline.media.prepare import as_float, intensity
from sightline.segmentation.plan import plan
from sightline.segmentation.task import any_plan

CPU, CUDA = Machine("cpu", cores=2), Machine("cuda", cores=16)
UNET = {
    "num_classes": 2,
    "in_channels": 3,
    "width": 32,
    "backbone": None,
    "backbone_weights": None,
    "mean": (),
    "std": (),
}


def _stats(
    *,
    pictures: int = 30,
    sizes: tuple[tuple[int, int], ...] = ((256, 256),),
    dtypes: dict[str, int] | None = None,
    channels: int = 3,
    low: float = 0,
    high: float = 255,
    class_pixels: tuple[int, ...] = (900, 100),
) -> Stats:
    return Stats(
        pictures=pictures,
        looked=len(sizes),
        sizes=sizes,
        dtypes=dtypes or {"uint8": len(sizes)},
        channels={channels: len(sizes)},
        low=low,
        high=high,
        percentiles={},
        mean=(0.4,) * channels,
        std=(0.2,) * channels,
        labelled=len(sizes),
        class_pixels=class_pixels,
        class_pictures=tuple(int(n > 0) for n in class_pixels),
        ignored=0.0,
        object_size=None,
    )


def _chosen(stats: Stats, machine: Machine = CPU, values: dict[str, Any] | None = None) -> dict[str, Choice]:
    return plan(stats, UNET | (values or {}), machine)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({}, "dtype_max"),
        ({"dtypes": {"uint16": 1}, "high": 65000}, "dtype_max"),
        ({"dtypes": {"uint16": 1}, "high": 4095}, "window(0, 4095)"),
        ({"dtypes": {"uint16": 1}, "high": 4096}, "window(0, 16383)"),
        ({"dtypes": {"uint16": 1}, "high": 900}, "window(0, 1023)"),
        ({"dtypes": {"uint16": 1}, "high": 200}, "window(0, 255)"),
        ({"dtypes": {"float32": 1}, "high": 1}, "dtype_max"),
        ({"dtypes": {"float32": 1}, "low": -1024, "high": 3071}, "percentile(0.5, 99.5)"),
        ({"dtypes": {"float32": 1}, "high": 255}, "percentile(0.5, 99.5)"),
        ({"dtypes": {"float32": 1}, "low": float("nan"), "high": float("nan")}, "percentile(0.5, 99.5)"),
        ({"dtypes": {"uint8": 3, "uint16": 2}, "high": 4095}, "percentile(0.5, 99.5)"),
    ],
)
def test_intensity_follows_type_and_range(values: dict[str, Any], rule: str) -> None:
    choice = _chosen(_stats(**values))["intensity"]
    assert choice.value == rule
    assert choice.reason


@pytest.mark.parametrize(
    ("sizes", "on_cpu", "on_cuda"),
    [
        (((256, 256),), [192, 192], [256, 256]),
        (((360, 480),), [192, 192], [352, 480]),
        (((2160, 3840),), [192, 192], [512, 512]),
        (((280, 287),), [192, 192], [256, 256]),
        (((20, 500),), [32, 192], [32, 480]),
        (((1, 1),), [32, 32], [32, 32]),
        (((100, 100), (100, 100), (4000, 4000)), [96, 96], [96, 96]),
    ],
)
def test_the_crop_suits_pictures_and_machine(sizes: tuple, on_cpu: list[int], on_cuda: list[int]) -> None:
    stats = _stats(sizes=sizes)
    assert _chosen(stats, CPU)["size"].value == on_cpu
    assert _chosen(stats, CUDA)["size"].value == on_cuda


@pytest.mark.parametrize(
    ("pictures", "machine", "steps"),
    [(1, CPU, 400), (30, CPU, 450), (100, CPU, 1500), (5000, CPU, 2000), (30, CUDA, 2000), (10**6, CUDA, 20_000)],
)
def test_steps_follow_the_number_of_pictures_within_limits(pictures: int, machine: Machine, steps: int) -> None:
    chosen = _chosen(_stats(pictures=pictures), machine)
    assert chosen["steps"].value == steps
    passes = steps * chosen["batch"].value / pictures
    assert chosen["steps"].reason == f"{passes:.0f} passes over {pictures} pictures"


@pytest.mark.parametrize(
    ("class_pixels", "loss", "weights"),
    [
        ((900, 100), "ce+dice", None),
        ((500, 500), "ce+dice", None),
        ((1000, 0), "ce+dice", None),  # a binary set whose foreground was not in the sample
        ((100, 200, 300), "ce", None),
        ((100, 800, 300), "ce", None),  # eight times: still balanced
        ((100, 10_000, 400), "ce+dice", [2.0, 0.2, 1.0]),
        ((0, 10_000, 100, 400), "ce+dice", [0.0, 0.2, 2.0, 1.0]),
        ((0, 7, 0), "ce", None),
    ],
)
def test_the_loss_follows_the_classes(class_pixels: tuple, loss: str, weights: list[float] | None) -> None:
    chosen = _chosen(_stats(class_pixels=class_pixels))
    assert chosen["loss"].value == loss
    found = chosen.get("class_weights")
    assert (found is None) == (weights is None)
    if found is not None:
        assert found.value == pytest.approx(weights)


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ("none", None),
        ("median", [2.0, 0.5, 1.0]),
        ("root", [1.414, 0.7071, 1.0]),
        ("1, 2,0.5", [1, 2, 0.5]),
        ([3, 0, 1], [3, 0, 1]),
    ],
)
def test_class_weights_are_as_asked(asked: Any, weights: list[float] | None) -> None:
    choice = any_plan(_stats(class_pixels=(100, 400, 200)), UNET | {"class_weights": asked}, CPU)["class_weights"]
    assert choice.value == weights and choice.reason.startswith("as asked")


@pytest.mark.parametrize("asked", ["meadian", "1,2", [1, 2, -1], [0, 0, 0], "1,nan,2"])
def test_wrong_class_weights_get_one_sentence(asked: Any) -> None:
    with pytest.raises(UsageError, match="must be none, median, root or 3 numbers of at least 0"):
        any_plan(_stats(class_pixels=(100, 400, 200)), UNET | {"class_weights": asked}, CPU)


@pytest.mark.parametrize("class_pixels", [(), (0, 0), (0, 0, 0)])
def test_pictures_without_a_labelled_pixel_are_said(class_pixels: tuple[int, ...]) -> None:
    with pytest.raises(SightlineError, match="no pixel of the training pictures has a class"):
        _chosen(_stats(class_pixels=class_pixels))


# The network's own values ------------------------------------------------------------------------------------------


def test_a_cpu_gets_a_narrower_network_and_a_gpu_the_published_one() -> None:
    assert _chosen(_stats(), CPU)["model.width"].value == 16
    assert "model.width" not in _chosen(_stats(), CUDA)
    assert "model.width" not in _chosen(_stats(), CPU, {"backbone": "resnet18"})
    assert _chosen(_stats(), CPU, {"width": 1.0})["model.width"].value == 0.25  # a factor, not a number of channels
    assert _chosen(_stats(), CPU, {"width": 128})["model.width"].value == 32
    narrow = {k: v for k, v in UNET.items() if k not in ("width", "mean", "std", "in_channels")}
    assert not [k for k in plan(_stats(channels=7), narrow, CPU) if k.startswith("model.")]


def test_channels_follow_the_pictures() -> None:
    assert "model.in_channels" not in _chosen(_stats(channels=1))  # repeated to three
    assert _chosen(_stats(channels=7))["model.in_channels"].value == 7


def test_grey_pictures_get_one_mean_for_each_of_three_channels() -> None:
    chosen = _chosen(_stats(channels=1))
    assert chosen["model.mean"].value == [0.4] * 3 and chosen["model.std"].value == [0.2] * 3


def test_trained_weights_keep_the_mean_they_were_trained_with() -> None:
    for values in ({"weights": "x.pth"}, {"backbone": "resnet50", "backbone_weights": "imagenet"}):
        assert not {"model.mean", "model.std"} & set(_chosen(_stats(), CPU, values))


def _measured(picture: np.ndarray) -> Stats:
    count = Counting(2)
    count.picture(picture)
    count.labels(np.tile(np.array([0, 1], np.uint8), (picture.shape[0], picture.shape[1] // 2)), regions=False)
    return count.result(1)


@pytest.mark.parametrize(
    ("name", "scale", "dtype"),
    [
        ("8 bits", 255, np.uint8),
        ("16 bits", 65535, np.uint16),
        ("12 bits in 16", 4000, np.uint16),
        ("10 bits in 16", 1000, np.uint16),
        ("floats", 1, np.float32),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_mean_and_spread_are_those_of_what_the_network_sees(name: str, scale: int, dtype: type, channels: int) -> None:
    values = np.random.default_rng(0).beta(2, 3, (60, 80, channels)) * np.linspace(0.5, 1, channels)
    picture = (values * scale).astype(dtype)
    chosen = _chosen(_measured(picture))
    seen = as_float(intensity(picture, chosen["intensity"].value))
    mean, std = (torch.tensor(chosen[f"model.{k}"].value) for k in ("mean", "std"))
    assert torch.allclose(mean[:channels], seen.mean((1, 2)), atol=2e-3)
    assert torch.allclose(std[:channels], seen.std((1, 2)), atol=2e-3)
    assert len(mean) == (3 if channels == 1 else channels)


@pytest.mark.parametrize("rule", ["window(-100, 300)", "percentile(1, 99)", "zscore", "dtype_max"])
def test_the_users_intensity_rule_decides_in_which_units(rule: str) -> None:
    """Whatever the rule, what comes out of the first layer has no large mean and a spread of about one."""
    picture = np.random.default_rng(0).normal(100, 60, (50, 60, 1)).astype(np.float32)
    stats = _measured(picture / 600 + 0.4 if rule == "dtype_max" else picture)
    chosen = _chosen(stats, values={"intensity": rule})
    seen = as_float(intensity(picture / 600 + 0.4 if rule == "dtype_max" else picture, rule))
    x = (seen - chosen["model.mean"].value[0]) / chosen["model.std"].value[0]
    assert abs(float(x.mean())) < 0.7
    assert 0.5 < float(x.std()) < 1.5


def test_a_picture_of_one_value_does_not_divide_by_zero() -> None:
    chosen = _chosen(_measured(np.full((8, 8, 3), 7, np.uint8)))
    assert min(chosen["model.std"].value) > 0


def test_every_choice_says_why() -> None:
    for machine in (CPU, CUDA, Machine("mps", cores=8)):
        chosen = _chosen(_stats(class_pixels=(5, 5000, 70), channels=4), machine)
        assert {"intensity", "resize", "size", "augment", "batch", "steps", "lr", "loss"} <= set(chosen)
        for name, choice in chosen.items():
            assert len(choice.reason) > 10 and not choice.reason.endswith("."), name
        assert chosen == _chosen(_stats(class_pixels=(5, 5000, 70), channels=4), machine)
