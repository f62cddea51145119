"""Max pooling that remembers where, and three ways back up: nearest, bed of nails, and to the remembered places.

Letters: B items, C channels, then one to three axes of space. The definitions follow DeconvNet (Noh et al. 2015,
section 3.1) and SegNet (Badrinarayanan et al. 2017, section 3) for the remembered places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UsageError

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def max_pool(x: Tensor, size: int, stride: int | None = None, *, ceil: bool = False) -> tuple[Tensor, Tensor]:
    """The largest value of each window of `(B, C, *space)`, and where it stood: `(values, indices)` of one shape.

    stride: `size` when None. ceil: a window that reaches beyond the end still counts (Caffe's rule: 45 -> 23, not 22).
    indices: int64, flat over the input's plane (y * W + x). Among equal values the first in reading order is kept;
    other frameworks may keep another one.
    """
    if x.ndim - 2 not in _MAX_POOL:
        raise UsageError(f"cannot pool a tensor of shape {tuple(x.shape)}: expected one to three axes after (B, C)")
    values, indices = _MAX_POOL[x.ndim - 2](x, size, stride, ceil_mode=ceil, return_indices=True)
    return values, indices


def unpool_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat every value `factor` times along each axis of space."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(factor, dim=axis)
    return x


def unpool_bed_of_nails(x: Tensor, factor: int) -> Tensor:
    """Each value at the first corner of its `factor`-sized cell, zeros elsewhere."""
    for axis in range(2, x.ndim):
        x = x.unsqueeze(axis + 1)
        x = F.pad(x, [0, 0] * (x.ndim - axis - 2) + [0, factor - 1])
        x = x.flatten(axis, axis + 1)
    return x


def unpool_max(x: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """Each value at the place its window's maximum came from, zeros elsewhere: `(B, C, *output_size)`.

    output_size: the size of the tensor that was pooled. It must be given: two sizes pool to the same, and a plane of
    another width scatters values to wrong places without an error. Where windows overlapped and two values share
    a place, one of them is kept.
    """
    if x.shape != indices.shape or len(output_size) != x.ndim - 2:
        raise UsageError(
            f"cannot unpool {tuple(x.shape)} with indices {tuple(indices.shape)} to {tuple(output_size)}: "
            "values and indices need one shape, the output one length for each axis"
        )
    flat = x.new_zeros(*x.shape[:2], math.prod(output_size))
    return flat.scatter(2, indices.flatten(2), x.flatten(2)).unflatten(2, tuple(output_size))
