"""The generalised distance transform: the best of a map near every place, less what it costs to go there.

Felzenszwalb & Huttenlocher 2004 (Distance Transforms of Sampled Functions); Felzenszwalb et al. 2010, equation 9. Costs
are parabolas along each axis, so the two axes follow one another. Every place is compared with every other along a
line: on small maps that is faster, as tensors, than the lower envelope of parabolas, which is a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_nearby(scores: Tensor, costs: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maximum over all places (y, x) of `scores` less the costs of the way, for places that are asked for.

    scores: `(F, H, W)`. costs: `(F, 4)`: a, b, c, d; from the place (q, p) it is a dx^2 + b dx + c dy^2 + d dy with
    dx = x - p, dy = y - q. rows, columns: `(F, Y)`, `(F, X)`, the places' coordinates. Returns the maxima
    `(F, Y, X)` and where they lie: y and x.
    """
    height, width = scores.shape[-2:]
    a, b, c, d = (costs[:, i, None, None] for i in range(4))
    dx = torch.arange(width, device=scores.device) - columns[..., None]  # (F, X, W)
    along, x = (scores[:, :, None, :] - (a * dx**2 + b * dx)[:, None]).max(-1)  # (F, H, X)
    dy = torch.arange(height, device=scores.device) - rows[..., None]  # (F, Y, H)
    best, y = (along.transpose(1, 2)[:, None] - (c * dy**2 + d * dy)[:, :, None, :]).max(-1)  # (F, Y, X)
    return best, y, x.gather(1, y)
