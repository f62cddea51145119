"""Every option the user left open, chosen from the data and the machine, each with its reason.

The rules are few and said aloud; whoever disagrees with one gives the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.contracts import Choice, Machine
from sightline.datasets.stats import Stats
from sightline.errors import SightlineError, UsageError
from sightline.media.prepare import measure
from sightline.segmentation.losses import median_frequency_weights

BALANCED = 8.0
"""Pixels of the most frequent class over those of the rarest, up to which plain cross-entropy is fair."""


def plan(stats: Stats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """Choices for intensity, size, augmentation, batch, steps, learning rate, loss and the network's open values.

    stats: of the training pictures; values: the builder's values, the user's over the defaults, and the user's own
    options (`intensity` decides in which units the network sees mean and spread).
    """
    small = machine.device == "cpu"
    batch = 4 if small else 16
    steps = _steps(stats.pictures, batch, small)
    intensity = _intensity(stats)
    chosen = {
        "intensity": intensity,
        "resize": Choice("none", "the network works at the pictures' own size"),
        "size": _crop(stats, machine),
        "augment": _augment(small),
        "batch": _batch(batch, small),
        "steps": Choice(steps, f"{steps * batch / stats.pictures:.0f} passes over {stats.pictures} pictures"),
        "lr": Choice(2e-3 if small else 1e-3, "AdamW; a short warm-up, then down to 0 along a cosine"),
    }
    chosen |= loss_choices(stats)
    return chosen | _network(stats, values, small, values.get("intensity") or intensity.value)


def _intensity(stats: Stats) -> Choice:
    kinds, low, high = set(stats.dtypes), stats.low, stats.high
    if kinds == {"uint8"}:
        return Choice("dtype_max", "8-bit pictures: values are divided by 255")
    if kinds == {"uint16"}:
        bits = next(b for b in (8, 10, 12, 14, 16) if high < 2**b)
        if bits == 16:
            return Choice("dtype_max", f"16-bit pictures that use their range (up to {high:g}): divided by 65535")
        return Choice(f"window(0, {2**bits - 1})", f"16-bit files of {bits}-bit values: the highest is {high:g}")
    if low >= 0 and high <= 1:
        return Choice("dtype_max", "the values are in 0..1 already")
    words = ", ".join(sorted(kinds))
    return Choice("percentile(0.5, 99.5)", f"{words} values from {low:g} to {high:g}: scaled within each picture")


def _crop(stats: Stats, machine: Machine) -> Choice:
    largest = 192 if machine.device == "cpu" else 512
    height, width = stats.median_size
    size = [max(32, min(n, largest) // 32 * 32) for n in (height, width)]
    if max(height, width) < largest + 64:
        return Choice(size, f"the pictures, about {height} x {width}, are seen nearly whole")
    return Choice(size, f"crops of pictures of about {height} x {width}, a size for this {machine.device}")


def _augment(small: bool) -> Choice:
    if small:
        return Choice("light", "scale and mirror: a short training is better spent on the pictures as they are")
    return Choice("medium", "scale, mirror, small rotation and colour: right for most pictures")


def _batch(batch: int, small: bool) -> Choice:
    if small:
        return Choice(batch, "on a CPU many small steps learn more in the same time than few large ones")
    return Choice(batch, f"{batch} crops a step suit batch norm and the memory of a GPU")


def _steps(pictures: int, batch: int, small: bool) -> int:
    """60 passes; from 400 to 2,000 steps on a CPU, from 2,000 to 20,000 elsewhere."""
    low, high = (400, 2000) if small else (2000, 20000)
    return max(low, min(high, round(60 * pictures / batch)))


def loss_choices(stats: Stats) -> dict[str, Choice]:
    """The loss, and class weights where it needs them, from the pixels of each class."""
    pixels = [n for n in stats.class_pixels if n]
    if not pixels:
        raise SightlineError("no pixel of the training pictures has a class; look for the fault: sightline data check")
    if len(stats.class_pixels) <= 2:
        share = min(pixels) / sum(pixels) if len(pixels) > 1 else 0.0
        return {"loss": Choice("ce+dice", f"two classes, the rarer has {share:.1%} of the pixels: Dice minds it")}
    ratio = max(pixels) / min(pixels)
    words = f"the most frequent class has {ratio:.0f} times the pixels of the rarest"
    if ratio <= BALANCED:
        return {"loss": Choice("ce", words + ": nearly balanced")}
    weights = median_frequency_weights(stats.class_pixels, power=0.5)
    return {
        "loss": Choice("ce+dice", words + ": Dice counts classes, not pixels"),
        "class_weights": Choice(list(weights), words + ": square roots of median-frequency weights"),
    }


def class_weight_choice(stats: Stats, asked: Any) -> Choice:
    """The class weights that were asked for: `none`, `median` (frequency balancing), `root` of those, or a number each.

    One class has two: for 0 and 1. Raises `UsageError`, one sentence.
    """
    if asked == "none":
        return Choice(None, "as asked: every pixel counts the same")
    if asked in ("median", "root"):
        weights = median_frequency_weights(stats.class_pixels, power=1.0 if asked == "median" else 0.5)
        return Choice(list(weights), f"as asked: {'median' if asked == 'median' else 'root of the median'} frequency")
    try:
        values = [float(v) for v in (asked.split(",") if isinstance(asked, str) else asked)]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(stats.class_pixels) or not all(0 <= v < float("inf") for v in values) or not any(values):
        raise UsageError(
            f"class_weights={asked} must be none, median, root or {len(stats.class_pixels)} numbers of at least 0, "
            "one for each class (one class: for 0 and 1)"
        )
    return Choice(values, "as asked")


def _network(stats: Stats, values: Mapping[str, Any], small: bool, intensity: str) -> dict[str, Choice]:
    """The builder's values that depend on data and machine, where it has them."""
    chosen = {}
    channels = _channels(stats)
    if "in_channels" in values and channels not in (1, 3):
        chosen["model.in_channels"] = Choice(channels, f"the pictures have {channels} channels")
    published = values.get("width")  # channels, or (MobileNet) a factor on all channels; whatever the user wrote
    if small and isinstance(published, (int, float)) and values.get("backbone") is None:
        width = published / 4 if isinstance(published, float) else min(published, max(16, published // 4))
        chosen["model.width"] = Choice(width, f"in place of {published}: minutes on a CPU instead of hours")
    trained = values.get("weights") is not None or values.get("backbone_weights") is not None
    if "mean" in values and not trained:  # trained weights want the mean they were trained with
        mean, std, reason = _mean_and_spread(stats, intensity)
        if channels == 1:
            mean, std = mean * 3, std * 3
        chosen["model.mean"] = Choice([round(m, 4) for m in mean], f"mean of {reason}")
        chosen["model.std"] = Choice([round(max(s, 1e-3), 4) for s in std], f"standard deviation of {reason}")
    return chosen


def _channels(stats: Stats) -> int:
    return max(stats.channels, key=lambda n: stats.channels[n])


def _mean_and_spread(stats: Stats, intensity: str) -> tuple[list[float], list[float], str]:
    """Mean and standard deviation a channel of what the network will see: after the intensity rule."""
    channels = _channels(stats)
    if intensity == "zscore":
        return [0.0] * channels, [1.0] * channels, "a z-score"
    kinds = [np.dtype(name) for name in stats.dtypes]
    if intensity == "dtype_max":
        return list(stats.mean), list(stats.std), "the training pictures"
    if not intensity.startswith("window") or len(kinds) != 1:
        return [0.5] * channels, [0.25] * channels, "0..1, over which every picture is spread"
    scale = measure(np.zeros((1, 1, channels), kinds[0]), intensity)
    top = np.iinfo(kinds[0]).max if kinds[0].kind in "iu" else 1.0
    mean = np.clip((np.array(stats.mean) * top - scale.low) / scale.span, 0, 1)
    std = np.array(stats.std) * top / scale.span
    return mean.tolist(), np.minimum(std, 1).tolist(), f"the training pictures after {intensity}"
