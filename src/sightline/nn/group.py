"""Group normalisation whose exported form keeps its precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`; in an exported program its means are taken an axis at a time.

    ONNX knows group norm as one reduction over all voxels of a group, and onnxruntime adds them up one after the other
    in float32: over a volume of 50,000 voxels that alone costs four digits of the answer.
    """

    def forward(self, input: Tensor) -> Tensor:
        """`(B, C, *space)` to the same shape."""
        if not torch.compiler.is_exporting():
            return super().forward(input)
        groups = input.reshape(input.shape[0], self.num_groups, -1, *input.shape[2:])
        centred = groups - _mean(groups)
        scaled = (centred * torch.rsqrt(_mean(centred.square()) + self.eps)).reshape(input.shape)
        shape = (1, -1, *[1] * (input.ndim - 2))
        return scaled * self.weight.view(shape) + self.bias.view(shape)


def _mean(groups: Tensor) -> Tensor:
    """The mean of each group of `(B, G, ...)`, `(B, G, 1, ...)`."""
    found = groups
    for axis in range(groups.ndim - 1, 1, -1):
        found = found.mean(axis, keepdim=True)
    return found
