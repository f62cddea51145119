"""The Tanimoto loss with complement (Diakogiannis et al. 2020, arXiv:1904.00592, section 3.2).

Letters: B pictures, K classes, N pixels of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.segmentation.region_losses import one_hot


def tanimoto(
    probabilities: Tensor,
    targets: Tensor,
    *,
    valid: Tensor | None = None,
    complement: bool = True,
    absent: bool = True,
    class_weights: Tensor | None = None,
    smooth: float = 1e-5,
) -> Tensor:
    """The coefficient of each picture, `(B,)`, in 0..1; 1 where `probabilities` equal `targets`.

    T(p, t) = (sum over classes of w * sum(p t) + smooth) / (sum over classes of w * sum(p^2 + t^2 - p t) + smooth),
    w = 1 / V^2, V the class's pixels in `targets`, a picture on average. With `complement` the mean of T(p, t) and
    T(1 - p, 1 - t), which has a slope where a class is nowhere.

    probabilities, targets: `(B, K, ...)`, soft ones too. valid: how much each pixel counts, `(B, 1 or K, ...)`.
    absent: a class without a pixel weighs as much as the heaviest, as published; False leaves it out.
    """
    p, t = probabilities.flatten(2), targets.to(probabilities.dtype).flatten(2)
    counted = torch.ones_like(p[:, :1]) if valid is None else valid.to(p.dtype).flatten(2)
    chosen = torch.ones_like(p[0, :, 0]) if class_weights is None else class_weights.to(p)
    if not absent:
        chosen = chosen * ((t * counted).sum((0, 2)) > 0)
    found = _coefficient(p, t, counted, chosen, smooth)
    if not complement:
        return found
    return (found + _coefficient(1 - p, 1 - t, counted, chosen, smooth)) / 2


def _coefficient(p: Tensor, t: Tensor, counted: Tensor, chosen: Tensor, smooth: float) -> Tensor:
    volume = (t * counted).sum(2).mean(0)  # (K,)
    weight = volume.clamp(min=1e-15) ** -2.0
    weight = torch.where(volume > 0, weight, torch.zeros_like(weight))
    weight = torch.where(volume > 0, weight, weight.max()) * chosen
    both = (weight * (p * t * counted).sum(2)).sum(1)
    either = (weight * ((p * p + t * t - p * t) * counted).sum(2)).sum(1)
    return (both + smooth) / (either + smooth)


def tanimoto_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    complement: bool = True,
    absent: bool = False,
    smooth: float = 1e-5,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """1 - `tanimoto`, averaged over the pictures; the arguments of every loss of regions, absent classes left out."""
    p, t, valid = one_hot(logits, labels, pixel_weights)
    weights = class_weights if class_weights is not None and len(class_weights) == p.shape[1] else None
    found = tanimoto(p, t, valid=valid, complement=complement, absent=absent, class_weights=weights, smooth=smooth)
    return (1 - found).mean()
