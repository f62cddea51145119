"""Losses that ask every class about its whole region: Dice, Tversky, Lovasz, boundary.

The letters, the kinds of target and the rule for ignored labels are those of `losses.py`. One rule more holds here: a
class without a labelled pixel is left out of the average. It has no region to learn; its false positives cost
cross-entropy. Binary targets have one class, 1, to which class weights do not apply.

`per_sample` takes each picture by itself, else the batch is one. `background=False` leaves out class 0 (of two classes
or more).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.ops.surface import signed_distance
from sightline.segmentation.contract import IGNORE


def soft_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    squared: bool = False,
    per_sample: bool = False,
    background: bool = True,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """1 - Dice of the probabilities, averaged over the classes that occur in the labels.

    Dice = (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), with p^2 and t^2 when `squared` (V-Net's form).
    """
    p, t, valid = one_hot(logits, labels, pixel_weights)
    axes = (2,) if per_sample else (0, 2)
    power = 2 if squared else 1
    overlap = (p * t * valid).sum(axes)
    size = ((p**power + t**power) * valid).sum(axes)
    dice = (2 * overlap + smooth) / (size + smooth)
    return _over_classes(1 - dice, (t * valid).sum(axes), logits, class_weights, background)


def tversky(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    per_sample: bool = False,
    background: bool = True,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth) of the probabilities (Salehi et al. 2017, eq. 4).

    beta above alpha: what is missed costs more than what is said too much. Both 0.5: Dice.
    """
    index, labelled = _tversky_index(logits, labels, alpha, beta, per_sample, smooth, pixel_weights)
    return _over_classes(1 - index, labelled, logits, class_weights, background)


def focal_tversky(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    per_sample: bool = False,
    background: bool = True,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean over classes of (1 - Tversky index)^(1 / gamma) (Abraham & Khan 2019, arXiv:1810.07842, eq. 4)."""
    index, labelled = _tversky_index(logits, labels, alpha, beta, per_sample, smooth, pixel_weights)
    missed = (1 - index).clamp(min=1e-12) ** (1 / gamma)  # clamped: at 0 the power's slope is infinite
    return _over_classes(missed, labelled, logits, class_weights, background)


def _tversky_index(
    logits: Tensor,
    labels: Tensor,
    alpha: float,
    beta: float,
    per_sample: bool,
    smooth: float,
    pixel_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    p, t, valid = one_hot(logits, labels, pixel_weights)
    axes = (2,) if per_sample else (0, 2)
    hit = (p * t * valid).sum(axes)
    more = (p * (1 - t) * valid).sum(axes)
    labelled = (t * valid).sum(axes)
    return (hit + smooth) / (hit + alpha * more + beta * (labelled - hit) + smooth), labelled


def lovasz(
    logits: Tensor,
    labels: Tensor,
    *,
    per_sample: bool = False,
    background: bool = True,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Lovasz-softmax: the convex surrogate of 1 - IoU on |t - p| (Berman et al. 2018, arXiv:1705.08790, section 3.2).

    p: softmax, or a sigmoid a class for binary and multi-label targets. A pixel of weight w counts like w pixels.
    """
    p, t, valid = one_hot(logits, labels, pixel_weights)
    return _lovasz((t - p).abs(), t, valid, per_sample, logits, class_weights, background)


def lovasz_hinge(
    logits: Tensor,
    labels: Tensor,
    *,
    per_sample: bool = False,
    background: bool = True,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """The Lovasz hinge: the surrogate of 1 - IoU on max(0, 1 - margin) (the same paper, section 3.1).

    The margin is +logit where the class is, -logit elsewhere; with several classes each stands against the rest.
    """
    _, t, valid = one_hot(logits, labels, pixel_weights)
    margin = logits.flatten(2) * (2 * t - 1)
    return _lovasz(F.relu(1 - margin), t, valid, per_sample, logits, class_weights, background)


def _lovasz(
    errors: Tensor,
    t: Tensor,
    valid: Tensor,
    per_sample: bool,
    logits: Tensor,
    class_weights: Tensor | None,
    background: bool,
) -> Tensor:
    """Errors in falling order times the steps of the Jaccard loss that they cause; all `(B, K, N)`."""
    valid = valid.expand_as(t)
    if not per_sample:
        errors, t, valid = (x.transpose(0, 1).flatten(1)[None] for x in (errors, t, valid))
    errors = torch.where(valid > 0, errors, 0)
    values, order = errors.sort(dim=2, descending=True)
    inside, outside = ((x * valid).gather(2, order) for x in (t, 1 - t))
    labelled = inside.sum(2)
    union = labelled[..., None] + outside.cumsum(2)
    jaccard = 1 - (labelled[..., None] - inside.cumsum(2)) / union.clamp(min=1e-12)
    steps = torch.diff(jaccard, dim=2, prepend=torch.zeros_like(jaccard[..., :1]))
    steps = torch.where(valid.gather(2, order) > 0, steps, 0)  # an ignored pixel moves nothing, not even by rounding
    found = (values * steps).sum(2)
    return _over_classes(found, labelled, logits, class_weights, background)


def boundary(
    logits: Tensor,
    labels: Tensor,
    *,
    background: bool = True,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean over pixels of phi (p - t), phi the signed distance to the class' outline (Kervadec et al. 2019, eq. 5).

    phi is in pixels, negative inside; each picture where the class occurs counts. The paper's loss without `- t` has
    the same gradient; so written it is 0 for a perfect answer and never below. Meant beside Dice or cross-entropy.
    """
    p, t, valid = one_hot(logits, labels, pixel_weights)
    maps = (t * (valid > 0)).detach().reshape(logits.shape).bool()
    phi = torch.stack([torch.stack([signed_distance(one) for one in picture]) for picture in maps])
    phi = phi.to(logits).flatten(2)
    weight = valid.expand_as(t)
    found = (phi * (p - t) * weight).sum(2) / weight.sum(2).clamp(min=1e-12)
    return _over_classes(found, (t * valid).sum(2), logits, class_weights, background)


def one_hot(logits: Tensor, labels: Tensor, pixel_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth and weight (0 where ignored), each `(B, K, N)` (the weight `(B, 1 or K, N)`)."""
    if logits.ndim == labels.ndim or logits.shape[1] == 1:
        truth = (labels if labels.ndim == logits.ndim else labels.unsqueeze(1)).flatten(2)
        valid = (truth != IGNORE).to(logits.dtype)
        probability, truth = logits.sigmoid().flatten(2), (truth == 1).to(logits.dtype)
    else:
        flat = labels.flatten(1)
        valid = (flat != IGNORE).to(logits.dtype).unsqueeze(1)
        ids = torch.where(flat == IGNORE, 0, flat).long()
        truth = F.one_hot(ids, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * valid
        probability = logits.softmax(dim=1).flatten(2)
    if pixel_weights is not None:
        valid = valid * pixel_weights.flatten(1).unsqueeze(1)
    return probability, truth, valid


def _over_classes(
    values: Tensor, labelled: Tensor, logits: Tensor, class_weights: Tensor | None, background: bool
) -> Tensor:
    """The weighted mean of values `(K,)` or `(B, K)` over the classes that `labelled` says occur; 0 when none does."""
    weight = (labelled > 0).to(values.dtype)
    if logits.shape[1] > 1:
        if class_weights is not None:
            weight = weight * class_weights.to(values)
        if not background:
            weight = torch.cat([torch.zeros_like(weight[..., :1]), weight[..., 1:]], dim=-1)
    return (torch.where(weight > 0, values, 0) * weight).sum() / weight.sum().clamp(min=1e-12)
