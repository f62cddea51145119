"""Losses of detectors, as pure functions of tensors; what they are divided by is the network's business."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The focal loss of each anchor, summed over its classes: `(..., K)` and labels `(...)`, below 0: none, to `(...)`.

    Lin et al. 2017, arXiv:1708.02002, equation 5. Every class of every anchor is background but one in some anchors:
    the term of background is computed for all, and corrected where there is an object; no one-hot target is made.
    """
    background = (1 - alpha) * logits.sigmoid() ** gamma * F.softplus(logits)
    total = background.sum(-1)
    own = labels.clamp(min=0)[..., None]
    chosen = logits.gather(-1, own)[..., 0]
    wrong = (1 - alpha) * chosen.sigmoid() ** gamma * F.softplus(chosen)
    right = alpha * (-chosen).sigmoid() ** gamma * F.softplus(-chosen)
    return total + torch.where(labels >= 0, right - wrong, 0.0)
