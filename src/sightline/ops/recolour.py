"""Random brightness, contrast and saturation in one pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def recolour(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A picture `(C, H, W)` with brightness, contrast and, of three channels, saturation times a factor around 1 each.

    Factors are exp(uniform(-strength, strength)). uint8 stays uint8, cut to 0..255; floats are not cut, for pictures of
    mean 0 and deviation 1 have no borders (torchvision's functions cut them to [0, 1]).
    """
    brightness, contrast, saturation = np.exp(rng.uniform(-strength, strength, 3)).tolist()
    # one plane after the other, whatever the order in memory: long rows are what matrix products are fast at
    pixels = image.to(torch.float32, memory_format=torch.contiguous_format).reshape(len(image), -1)
    mix = torch.eye(len(image))
    if len(image) == 3:  # bands of a satellite know no saturation
        mix = saturation * mix + (1 - saturation) * torch.tensor([0.299, 0.587, 0.114])
    # All three at once, an affine map of the channels: contrast is around the mean, and grey keeps its sum.
    offset = (brightness * (1 - contrast) * pixels.mean()).expand(len(image), 1)
    pixels = torch.addmm(offset, contrast * brightness * mix, pixels)
    if image.dtype == torch.uint8:
        pixels = pixels.round_().clamp_(0, 255).to(torch.uint8)
    return pixels.reshape(image.shape)
