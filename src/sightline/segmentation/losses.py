"""Losses of pixels. Each has one definition, takes ignored pixels, and is finite on empty targets.

Letters: B pictures, K classes, H x W pixels (volumes: D x H x W). Three kinds of target share every function:

- multi-class: logits `(B, K, ...)`, labels `(B, ...)` in 0..K-1;
- binary: logits `(B, 1, ...)`, labels `(B, ...)` in {0, 1};
- multi-label: logits `(B, K, ...)`, labels `(B, K, ...)` in {0, 1}.

Labels marked `IGNORE` (255) count nowhere: not in the value, not in the gradient, not in the average.
Those that ask every pixel stand in `pixel_losses.py`, those that ask every class in `region_losses.py`.
"""

from __future__ import annotations

import inspect
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from sightline.errors import UsageError, did_you_mean
from sightline.ops.resize import centre_crop, resize
from sightline.segmentation.contract import Scores, Target
from sightline.segmentation.pixel_losses import cross_entropy, focal, ohem, top_k
from sightline.segmentation.region_losses import boundary, focal_tversky, lovasz, lovasz_hinge, soft_dice, tversky
from sightline.segmentation.tanimoto import tanimoto_loss

TERMS: Mapping[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "dice": soft_dice,
    "focal": focal,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "lovasz": lovasz,
    "lovasz_hinge": lovasz_hinge,
    "boundary": boundary,
    "tanimoto": tanimoto_loss,
    "ohem": ohem,
    "topk": top_k,
}
"""Every loss by the word that `loss=` knows it by; its keyword arguments are what may stand in brackets behind it."""

_WORD = re.compile(r"^\s*(?P<name>[\w]*)\s*(?:\((?P<values>.*)\))?\s*$")
_SHARES = ("smoothing", "least", "share", "threshold")


@dataclass(frozen=True)
class Criterion:
    """A weighted sum of named terms over a network's main and auxiliary logits: what `losses` returns.

    terms: a term, as a name of `TERMS` or with values of its own (`"tversky(alpha=0.2)"`) -> its factor.
    class_weights: one a class (binary: for 0 and 1). aux_weight: the factor of every auxiliary head, or one a head.
    Labels larger than the logits (unpadded networks) are cropped at the centre; for auxiliary logits that are smaller
    than the main ones (deep supervision) the labels are made smaller, the nearest one taken.
    """

    terms: Mapping[str, float] = field(default_factory=lambda: {"ce": 1.0})
    class_weights: tuple[float, ...] | None = None
    aux_weight: float | tuple[float, ...] = 0.4

    def __post_init__(self) -> None:
        for words, factor in self.terms.items():
            name, _ = term(words)
            if not 0 < factor < math.inf:
                raise UsageError(f"the factor {factor:g} of the loss '{name}' must be a number above 0")

    def __call__(self, out: Scores, target: Target) -> dict[str, Tensor]:
        """Named scalar terms: `ce`, `dice`, ... and `aux_ce`, ... when the network has auxiliary heads."""
        weights = self._weights(out.logits)
        heads = self._heads(len(out.aux))
        whole = _cropped(target, out.logits.shape[2:])
        found: dict[str, Tensor] = {}
        for words, factor in self.terms.items():
            name, call = term(words)
            name = name if name not in found else words
            found[name] = factor * _on(call, out.logits, whole, weights)
            if out.aux:
                parts = [w * _on(call, x, _smaller(whole, x.shape[2:]), weights) for w, x in zip(heads, out.aux) if w]
                found[f"aux_{name}"] = factor * torch.stack(parts).sum() if parts else 0 * found[name]
        return found

    def _heads(self, count: int) -> tuple[float, ...]:
        if isinstance(self.aux_weight, (int, float)):
            return (float(self.aux_weight),) * count
        if len(self.aux_weight) != count:
            raise UsageError(f"{len(self.aux_weight)} weights of auxiliary heads were given; this network has {count}")
        return self.aux_weight

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        expected = max(logits.shape[1], 2)
        if len(self.class_weights) != expected:
            raise UsageError(f"{len(self.class_weights)} class weights were given; this network needs {expected}")
        return torch.tensor(self.class_weights, device=logits.device, dtype=torch.float32)


def deep_supervision(heads: int) -> tuple[float, ...]:
    """The factors of `heads` auxiliary outputs, each half of the one before: 1/2, 1/4, ... (nnU-Net's rule)."""
    return tuple(0.5 ** (k + 1) for k in range(heads))


def term(words: str) -> tuple[str, Callable[..., Tensor]]:
    """A term in words, `"dice"` or `"dice(squared=true, background=false)"`, as its name and what computes it.

    Raises `UsageError`, one sentence, for an unknown loss, an unknown value or a value of the wrong kind.
    """
    found = _WORD.match(words)
    name = found["name"] if found else words.strip()
    if not found or name not in TERMS:
        raise UsageError(f"there is no loss '{name}'; choose from {', '.join(TERMS)}.{did_you_mean(name, TERMS)}")
    call, given = TERMS[name], {}
    defaults = {
        key: value.default
        for key, value in inspect.signature(call).parameters.items()
        if value.kind is value.KEYWORD_ONLY and not key.endswith("_weights")
    }
    for part in (found["values"] or "").split(","):
        if not part.strip():
            continue
        key, equals, text = (word.strip() for word in part.partition("="))
        if key not in defaults:
            takes = ", ".join(f"{k}={str(v).lower()}" for k, v in defaults.items()) or "no values"
            raise UsageError(f"the loss '{name}' has no value '{key}'; it takes {takes}.{did_you_mean(key, defaults)}")
        given[key] = _value(name, key, text if equals else "", defaults[key])
    return name, partial(call, **given) if given else call


def _value(name: str, key: str, text: str, default: bool | float) -> bool | float:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{key}={text} of the loss '{name}' must be true or false")
        return text.lower() == "true"
    most = 1.0 if key in _SHARES else math.inf
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 <= number <= most and math.isfinite(number)) or (key in ("gamma", "share") and number == 0):
        wanted = "a share from 0 to 1" if most == 1 else "a number of at least 0"
        raise UsageError(f"{key}={text} of the loss '{name}' must be {wanted}")
    return number


def parse_loss(words: str) -> dict[str, float]:
    """`"ce"`, `"ce+0.5*dice"` or `"ce(smoothing=0.1)+tversky(alpha=0.3)"` as `{term: factor}`."""
    terms: dict[str, float] = {}
    for part in re.split(r"\+(?![^(]*\))", words):
        head, bracket, values = part.partition("(")
        factor, star, name = (word.strip() for word in head.rpartition("*"))
        try:
            number = float(factor) if star else 1.0
        except ValueError:
            raise UsageError(f"loss '{words}' is not a sum of terms; write for example ce+0.5*dice") from None
        key = name + re.sub(r"\s+", "", bracket + values)
        if key in terms:
            raise UsageError(f"loss '{words}' names '{key}' twice; give it one factor, for example 2*{key}")
        terms[key] = number
    Criterion(terms)
    return terms


def median_frequency_weights(pixels: Sequence[float], *, power: float = 1.0, limit: float = 10.0) -> tuple[float, ...]:
    """(median share / share of the class) ** power, at most `limit`; absent classes get 0 (Eigen & Fergus 2015, 6.3.2).

    pixels: labelled pixels of each class over the training pictures. power 0.5 softens the weights.
    """
    present = [n for n in pixels if n > 0]
    if not present:
        return tuple(1.0 for _ in pixels)
    median = statistics.median(present)
    weights = (min((median / n) ** power, limit) if n > 0 else 0.0 for n in pixels)
    return tuple(float(f"{w:.4g}") for w in weights)


def _on(call: Callable[..., Tensor], logits: Tensor, target: Target, class_weights: Tensor | None) -> Tensor:
    """One term, computed in float32 whatever the network's precision."""
    return call(logits.float(), target.labels, class_weights=class_weights, pixel_weights=target.weights)


def _cropped(target: Target, size: Sequence[int]) -> Target:
    """The middle of the target, of the logits' size."""
    found = [x if x is None or x.shape[-len(size) :] == size else centre_crop(x, size) for x in _parts(target)]
    return Target(*found)  # pyright: ignore[reportArgumentType]


def _smaller(target: Target, size: Sequence[int]) -> Target:
    """The target at the size of an auxiliary head: the nearest label and weight of each pixel."""
    labels, weights = target.labels, target.weights
    if labels.shape[-len(size) :] == size:
        return target
    lead = labels.shape[: labels.ndim - len(size)]
    flat = labels.reshape(lead[0], -1, *labels.shape[len(lead) :])
    labels = resize(flat, size, rule="nearest_exact").reshape(*lead, *size)
    if weights is not None:
        weights = resize(weights.unsqueeze(1), size, rule="nearest_exact").squeeze(1)
    return Target(labels, weights)


def _parts(target: Target) -> tuple[Tensor, Tensor | None]:
    return target.labels, target.weights
