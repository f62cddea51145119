"""Choices that every room makes alike from what is in the pixels: the intensity rule, and mean and spread after it."""

from __future__ import annotations

import numpy as np

from sightline.contracts import Choice
from sightline.datasets.stats import Stats
from sightline.media.prepare import measure


def choose_intensity(stats: Stats) -> Choice:
    """The rule by which values become intensities, from the files' types and the range in them."""
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


def most_channels(stats: Stats) -> int:
    """How many channels most of the pictures have."""
    return max(stats.channels, key=lambda n: stats.channels[n])


def mean_and_spread(stats: Stats, intensity: str) -> tuple[list[float], list[float], str]:
    """Mean and standard deviation a channel of what the network will see, after the intensity rule; and of what."""
    channels = most_channels(stats)
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
