"""Transposed convolution: its bilinear kernels (Long et al. 2015, section 3.3) and the arithmetic of sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import UsageError


def bilinear_kernel(channels_in: int, channels_out: int, size: int) -> Tensor:
    """Weights `(channels_in, channels_out, size, size)` of a transposed convolution that interpolates each class alone.

    With stride s, an even `size` of 2 s and padding s/2, its answer is that of the resize rule `half_pixel` except
    near the borders, where it mixes in zeros. `channels_out` equals `channels_in` (class k comes from class k only) or
    is 1, for `groups=channels_in`. Source: the bilinear filler of Caffe.
    """
    if channels_out not in (channels_in, 1) or size < 1:
        raise UsageError(
            f"no bilinear kernel leads from {channels_in} to {channels_out} channels with size {size}: "
            "give both the same number of channels, or 1 for a grouped convolution"
        )
    factor = (size + 1) // 2
    centre = factor - 1.0 if size % 2 else factor - 0.5
    tent = 1 - (torch.arange(size) - centre).abs() / factor
    kernel = torch.zeros(channels_in, channels_out, size, size)
    classes = torch.arange(channels_in)
    kernel[classes, classes if channels_out == channels_in else 0] = torch.outer(tent, tent)
    return kernel


def conv_size(n: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, ceil: bool = False) -> int:
    """Length of what a convolution or pooling makes of `n` pixels.

    ceil: pooling's rule that a last, incomplete window counts, provided that it begins inside the input or the padding
    before it. Raises `UsageError` when not even one window fits.
    """
    spare = n + 2 * padding - dilation * (kernel - 1) - 1
    if spare < 0 and not (ceil and spare + stride > 0):
        raise UsageError(f"a kernel of {kernel} with dilation {dilation} and padding {padding} does not fit {n} pixels")
    if not ceil:
        return spare // stride + 1
    windows = -(-spare // stride) + 1
    return windows - 1 if (windows - 1) * stride >= n + padding else windows


def transposed_size(
    n: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """Length of what a transposed convolution makes of `n` pixels.

    Kernel 2 s, padding s/2 and stride s give exactly s times n (4/1/2, 16/4/8, 64/16/32).
    """
    return (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
