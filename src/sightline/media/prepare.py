"""From a picture of any origin to a network's input, and from the network's maps back to the picture.

A camera's JPEG has values 0..255, a microscope's TIFF uses 12 bits of 16, a CT slice -1000..3000. `Preprocess`
(contracts.py) says how such values become numbers a network can use, how many channels it takes, and at which size it
looks. This file reads those rules and applies them; everything here works on one picture.

    prepared = prepare(image, Preprocess(resize="short(512)", multiple=32))
    maps = network(as_float(prepared.pixels)[None])[0]  # (K, h, w)
    answer = restore(maps, prepared)  # (K, H, W)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.ops.resize import pad_to_multiple, resize

INTENSITY = {"dtype_max": 0, "window": 2, "percentile": 2, "zscore": 0}  # rule: how many numbers it takes
RESIZE = {"none": 0, "short": 1, "long": 1, "exact": 2, "within": 2, "torchvision": 2}

SAMPLE = 4_000_000  # statistics of a larger picture are taken from a regular grid of about so many pixels


@dataclass(frozen=True)
class Prepared:
    """A picture as the network wants it, and what it takes to map answers back."""

    pixels: Tensor  # (C, h, w) uint8, or float32; padded at the bottom and right
    original: tuple[int, int]  # height and width of the picture
    valid: tuple[int, int]  # height and width of what is not padding


@dataclass(frozen=True)
class Scale:
    """How values become intensities: `(value - low) / span`, a number a channel; `clip` cuts the result to [0, 1]."""

    low: np.ndarray  # (C,) float64
    span: np.ndarray  # (C,) float64, above 0
    clip: bool


def check(preprocess: Preprocess) -> None:
    """Read every rule without using it; raises `UsageError` that names the one that is wrong."""
    _intensity_rule(preprocess.intensity)
    if preprocess.axes == 3:
        _parse(preprocess.resize, {"none": 0, "spacing": 3}, "resize")
    else:
        _resize_rule(preprocess.resize)
    for name in ("channels", "multiple"):
        if getattr(preprocess, name) < 1:
            raise UsageError(f"{name} is {getattr(preprocess, name)}, expected a whole number from 1")


def prepare(image: np.ndarray, preprocess: Preprocess) -> Prepared:
    """Apply `preprocess` to a picture `(H, W, C)` of any type: intensity, channels, resize, then padding with zeros.

    The pixels are uint8 when the picture has 8 bits and the rule is `dtype_max` (`as_float` divides by 255), else
    float32 in [0, 1] (`zscore`: about -3 to 3).
    """
    pixels = match_channels(intensity(image, preprocess.intensity), preprocess.channels)
    original = (image.shape[0], image.shape[1])
    valid = target_size(original, preprocess.resize)
    pixels = resize_by_rule(pixels, valid, preprocess.resize)
    padded, _ = pad_to_multiple(pixels[None], preprocess.multiple)
    return Prepared(padded[0], original, valid)


def restore(maps: Tensor, prepared: Prepared) -> Tensor:
    """The network's maps `(K, h, w)` at the picture's own size, `(K, H, W)`: padding off, then linear interpolation.

    Give probabilities, not labels: means of labels mean nothing. Maps may still carry the padding, or be of the valid
    size already.
    """
    height, width = prepared.valid
    if tuple(maps.shape[-2:]) not in (prepared.valid, tuple(prepared.pixels.shape[-2:])):
        raise UsageError(
            f"maps of {tuple(maps.shape[-2:])} cannot be mapped back: "
            f"expected the prepared picture's size {tuple(prepared.pixels.shape[-2:])}"
        )
    maps = maps[..., :height, :width]
    return maps if prepared.valid == prepared.original else resize(maps[None], prepared.original)[0]


def intensity(image: np.ndarray, rule: str, scale: Scale | None = None) -> Tensor:
    """A picture `(H, W, C)` or `(H, W)` of any number type as `(C, H, W)`; the rules stand in `Preprocess`.

    uint8 when the rule is `dtype_max` and the file has 8 bits, else float32 in [0, 1]; `zscore` gives mean 0 and
    standard deviation 1. Percentiles, means and deviations are those of the picture itself, a channel at a time;
    values that are not finite count as the lowest. `scale` replaces what would be measured here: a picture that is
    read in windows is measured once (`measure`), not window by window.
    Raises `SightlineError` when the values cannot be what the rule says they are.
    """
    image = _bands(image)
    name, _ = _intensity_rule(rule)
    if name == "dtype_max" and image.dtype == np.uint8:
        # (H, W, C) in memory, as it was decoded: three bytes a pixel are resized twice as fast in that order
        return torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)
    scale = scale or measure(image, rule)
    values = image.transpose(2, 0, 1).astype(np.float32)
    low, span = (v.astype(np.float32)[:, None, None] for v in (scale.low, scale.span))
    values = (values - low) / span
    values[~np.isfinite(values)] = 0.0
    if name == "dtype_max":
        _check_range(values, image)
    if scale.clip:
        np.clip(values, 0, 1, out=values)
    return torch.from_numpy(np.ascontiguousarray(values))


def measure(image: np.ndarray, rule: str) -> Scale:
    """What `rule` subtracts and divides by for the picture `(H, W, C)`; from a grid of pixels where it is huge."""
    image = _bands(image)
    name, numbers = _intensity_rule(rule)
    channels = image.shape[2]
    if name == "dtype_max":
        largest = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
        return _scale(np.zeros(channels), np.full(channels, largest), clip=True)
    if name == "window":
        return _scale(np.full(channels, numbers[0]), np.full(channels, numbers[1] - numbers[0]), clip=True)
    step = max(1, round((image.shape[0] * image.shape[1] / SAMPLE) ** 0.5))
    bands = [b[np.isfinite(b)] for b in image[::step, ::step].astype(np.float64).transpose(2, 0, 1)]
    bands = [b if b.size else np.zeros(1) for b in bands]
    if name == "zscore":
        return _scale(np.array([b.mean() for b in bands]), np.array([b.std() for b in bands]), clip=False)
    low, high = np.array([np.percentile(b, numbers) for b in bands]).T
    return _scale(low, high - low, clip=True)


def match_channels(x: Tensor, channels: int) -> Tensor:
    """`(C, H, W)` with as many `channels` as the network takes: grey is repeated, colour is averaged to one.

    Raises `UsageError` for any other pair: nobody knows which of seven bands are red, green and blue.
    """
    if len(x) == channels:
        return x
    if len(x) == 1:
        return x.expand(channels, -1, -1).contiguous()
    if len(x) == 3 and channels == 1:
        grey = x.float().mean(dim=0, keepdim=True)
        return grey.round().to(x.dtype) if x.dtype == torch.uint8 else grey
    raise UsageError(
        f"the picture has {len(x)} channels and the network takes {channels}: "
        f"create the network with in_channels={len(x)}, or choose the channels first"
    )


def as_float(x: Tensor) -> Tensor:
    """Pixels as the network reads them, float32: uint8 divided by 255, others as they are."""
    return x.float().div(255) if x.dtype == torch.uint8 else x.float()


def target_size(size: tuple[int, int], rule: str) -> tuple[int, int]:
    """Height and width after the resize `rule`; both are kept in proportion except by `exact`."""
    height, width = size
    name, numbers = _resize_rule(rule)
    if name == "none":
        return (height, width)
    if name == "exact":
        return (numbers[0], numbers[1])
    if name in ("within", "torchvision"):
        factor = min(numbers[0] / min(height, width), numbers[1] / max(height, width))
        if name == "torchvision":
            return (max(1, math.floor(height * factor)), max(1, math.floor(width * factor)))
    else:
        factor = numbers[0] / (min(height, width) if name == "short" else max(height, width))
    return (max(1, round(height * factor)), max(1, round(width * factor)))


def resize_by_rule(x: Tensor, size: tuple[int, int], rule: str) -> Tensor:
    """A picture `(C, h, w)` at the size that `target_size` found for it; with anti-aliasing but for `torchvision`.

    torchvision's detectors resize inside, as floats in [0, 1] and without anti-aliasing; their weights expect that.
    """
    if _resize_rule(rule)[0] == "torchvision" and tuple(x.shape[1:]) != tuple(size):
        return resize(as_float(x)[None], size)[0]
    return resize_pixels(x, size)


def resize_pixels(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture `(C, h, w)`, uint8 or float, at another size and of the same type; with anti-aliasing, as Pillow."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    batch = x.movedim(0, -1)[None].movedim(-1, 1)  # strides that tell pictures stored as (H, W, C) from others
    return resize(batch, size, rule="antialias")[0]


def _bands(image: np.ndarray) -> np.ndarray:
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in "buif":
        raise UsageError(
            f"a picture is an array (height, width, channels) of numbers, got {image.shape} of {image.dtype}"
        )
    return image


def _scale(low: np.ndarray, span: np.ndarray, *, clip: bool) -> Scale:
    span = np.where(span > 0, span, 1.0)  # a picture of one value becomes all zero
    return Scale(low.astype(np.float64), span.astype(np.float64), clip)


def _check_range(values: np.ndarray, image: np.ndarray) -> None:
    if values.min() < -1e-3 or values.max() > 1 + 1e-3:  # resampling overshoots by a little
        raise SightlineError(
            f"a picture of {image.dtype} with values from {np.nanmin(image):g} to {np.nanmax(image):g} cannot be "
            "divided by the largest value of its type; "
            "choose the intensity rule window(LO, HI), percentile(1, 99) or zscore"
        )


def _intensity_rule(rule: str) -> tuple[str, tuple[float, ...]]:
    name, words = _parse(rule, INTENSITY, "intensity")
    numbers = tuple(float(w) for w in words)
    if numbers and not numbers[0] < numbers[1]:
        raise UsageError(f"the intensity rule '{rule}' needs a lower number before a higher one")
    if name == "percentile" and not (numbers[0] >= 0 and numbers[1] <= 100):
        raise UsageError(f"the intensity rule '{rule}' needs percentages from 0 to 100, for example percentile(1, 99)")
    return name, numbers


def _resize_rule(rule: str) -> tuple[str, tuple[int, ...]]:
    name, words = _parse(rule, RESIZE, "resize")
    if not all(re.fullmatch(r"\d+", w) and int(w) > 0 for w in words):
        raise UsageError(f"the resize rule '{rule}' needs whole numbers of pixels, for example short(512)")
    return name, tuple(int(w) for w in words)


def _parse(rule: str, known: dict[str, int], what: str) -> tuple[str, tuple[str, ...]]:
    """`"window(-100, 300)"` as `("window", ("-100", "300"))`: a known name with as many numbers as it takes."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", rule)
    name, inside = match.groups() if match else (rule, None)
    examples = ", ".join(f"{n}({', '.join('N' * count)})" if count else n for n, count in known.items())
    if name not in known:
        raise UsageError(f"unknown {what} rule '{rule}', expected one of {examples}.{did_you_mean(name, known)}")
    words = tuple(w.strip() for w in inside.split(",")) if inside and inside.strip() else ()
    if len(words) != known[name] or not all(_is_number(w) for w in words):
        raise UsageError(
            f"the {what} rule '{rule}' needs {known[name] or 'no'} number(s) in brackets, as in {examples}"
        )
    return name, words


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word) is not None
