"""Average pooling into a fixed number of bins, of a kind that survives export at any height and width.

`torch.nn.AdaptiveAvgPool2d` exported to ONNX with free sizes turns into a pooling whose kernel is that of the example
picture: at another size the grid is wrong, and a resize behind it hides the mistake. Here the bins are
computed from the size as it is when the graph runs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def global_average(x: Tensor) -> Tensor:
    """The mean over space, `(B, C, *space)` to `(B, C, 1, ...)`."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def average_bins(x: Tensor, bins: int) -> Tensor:
    """Means of `bins` x `bins` cells, `(B, C, H, W)` to `(B, C, bins, bins)`; PSPNet's pyramid (Zhao et al. 2017).

    Cell i of n pixels covers floor(i n / bins) up to ceil((i + 1) n / bins), as in `AdaptiveAvgPool2d`: cells overlap
    where the size does not divide. In programs that are compiled or exported they are two small matrix products.
    """
    if bins == 1:
        return global_average(x)
    return by_products(x, bins) if torch.compiler.is_compiling() else F.adaptive_avg_pool2d(x, bins)


def by_products(x: Tensor, bins: int) -> Tensor:
    """`average_bins` by matrices that hold the weights of the cells' means, whatever the size turns out to be."""
    return _means(x.shape[2], bins, x) @ x @ _means(x.shape[3], bins, x).T


def _means(n: int, bins: int, like: Tensor) -> Tensor:
    """`(bins, n)`: row i holds the weights of the mean over cell i."""
    cell = torch.arange(bins, device=like.device)[:, None]
    pixel = torch.arange(n, device=like.device)
    inside = (pixel >= cell * n // bins) & (pixel < ((cell + 1) * n + bins - 1) // bins)
    inside = inside.to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
