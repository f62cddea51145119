"""VGG.

Paper: Very Deep Convolutional Networks (Simonyan & Zisserman 2014, arXiv:1409.1556).

The idea: nothing but 3x3 convolutions, two to four between pools. Two of them see what a 5x5 sees, with fewer weights
and one more non-linearity. Channels double at each pool, from 64 to 512.

Departures: the classifier is left out. `first_padding=100` and `ceil=True` give the form that FCN was made from;
torchvision's `features.N` are the names inside. Fresh weights: He normal over the fan-out, biases 0, as torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.nn.conv import Norm, he_init


class VGG(nn.Module):
    """Groups of 3x3 convolutions with a 2x2 max-pool after each.

    depths: convolutions of each group. widths: channels of each group. norm: None for the plain form, which has biases
    in its convolutions; with a norm they keep them, as published.
    ceil: pools round up (Caffe). Stages: `conv1`, `pool1`, `conv2`, ... to the last pool.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        norm: Norm | None = None,
        first_padding: int = 1,
        ceil: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        stages: list[Stage] = []
        self.taps: dict[int, str] = {}  # position in features -> stage that ends there
        channels, padding = in_channels, first_padding
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=padding))
                layers += [norm(width)] if norm else []
                layers.append(nn.ReLU(inplace=True))
                channels, padding = width, 1
            self.taps[len(layers) - 1] = f"conv{i + 1}"
            stages.append(Stage(f"conv{i + 1}", width, 2**i))
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil))
            self.taps[len(layers) - 1] = f"pool{i + 1}"
            stages.append(Stage(f"pool{i + 1}", width, 2 ** (i + 1)))
        self.features = nn.Sequential(*layers)
        self.stages = tuple(stages)
        he_init(self, mode="fan_out")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps before and after every pool."""
        maps, x = {}, images
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                maps[self.taps[i]] = x
        return maps
