"""A convolution with its norm and its activation, the norms by name, and how fresh weights are drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sightline.errors import UsageError, did_you_mean

Norm = Callable[[int], nn.Module]
"""Makes the norm of so many channels."""

NormName = Literal["batch", "frozen", "group", "instance"]


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose four vectors are constants of the checkpoint (buffers): for fine-tuning with small batches."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None].to(x.dtype) + shift[:, None, None].to(x.dtype)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels are brought to mean 0 and variance 1 in each call (Qiao et al., arXiv:1903.10520)."""

    def kernel(self) -> Tensor:
        """The standardised kernel, of the weight's shape; biased variance, epsilon 1e-5 as Google's."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, out, H', W')`."""
        return self._conv_forward(x, self.kernel(), self.bias)


def norm_named(name: NormName, *, eps: float = 1e-5) -> Norm:
    """The norm that a builder's word stands for; `group` has 32 groups, or as many as divide the channels."""
    norms: dict[str, Norm] = {
        "batch": partial(nn.BatchNorm2d, eps=eps),
        "frozen": partial(FrozenBatchNorm2d, eps=eps),
        "group": lambda channels: nn.GroupNorm(_groups(channels), channels, eps=eps),
        "instance": partial(nn.InstanceNorm2d, affine=True, eps=eps),
    }
    if name not in norms:
        known = ", ".join(get_args(NormName))
        raise UsageError(f"there is no norm '{name}'; choose from {known}.{did_you_mean(name, norms)}")
    return norms[name]


def _groups(channels: int) -> int:
    return next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    norm: Norm | None = nn.BatchNorm2d,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution `0`, norm `1`, activation `2`; without a norm the convolution has a bias and the numbers close up.

    padding: None keeps the size at stride 1.
    """
    padding = dilation * (kernel - 1) // 2 if padding is None else padding
    parts: list[nn.Module] = [
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation=dilation, groups=groups, bias=norm is None
        )
    ]
    if norm is not None:
        parts.append(norm(out_channels))
    if act is not None:
        parts.append(act(inplace=True))
    return nn.Sequential(*parts)


def separable_conv(
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    norm: Norm = nn.BatchNorm2d,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A 3x3 convolution a channel `0`, then a 1x1 across channels `1`, each with its norm and activation.

    The form of TensorFlow's DeepLab and Xception (Chollet 2017, arXiv:1610.02357).
    """
    return nn.Sequential(
        conv_norm_act(
            in_channels, in_channels, stride=stride, dilation=dilation, groups=in_channels, norm=norm, act=act
        ),
        conv_norm_act(in_channels, out_channels, 1, norm=norm, act=act),
    )


def he_init(module: nn.Module, *, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw the convolutions of `module` from N(0, 2 / fan), biases 0 (He et al. 2015); norms start at 1 and 0."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(part.weight, mode=mode, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif (
            isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.InstanceNorm2d, nn.InstanceNorm3d))
            and part.weight is not None
        ):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
