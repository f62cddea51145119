"""RandAugment (Cubuk et al. 2019) for pictures and clips: a few operations drawn at random, one strength for all.

All frames of a clip get the same operations with the same strengths. The list and the ranges are those of torchvision's
`RandAugment`; magnitude counts from 0 to 30.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
MOST = 30


def rand_augment(x: Tensor, number: int, magnitude: float, rng: np.random.Generator) -> Tensor:
    """`(C, H, W)` or `(C, T, H, W)`, uint8 or float in [0, 1], after `number` random operations; of the same type."""
    was = x.dtype
    frames = x.unsqueeze(0) if x.ndim == 3 else x.transpose(0, 1)  # (T, C, H, W)
    if was != torch.uint8:
        frames = (frames * 255).round().clamp(0, 255).to(torch.uint8)
    for name in rng.choice(OPERATIONS, size=number):
        frames = _apply(frames, str(name), magnitude / MOST, -1.0 if rng.random() < 0.5 else 1.0)
    frames = frames if was == torch.uint8 else frames.to(was) / 255
    return (frames[0] if x.ndim == 3 else frames.transpose(0, 1)).contiguous()


def _apply(x: Tensor, name: str, share: float, sign: float) -> Tensor:
    """One operation on frames `(T, C, H, W)` uint8; share: of its largest strength; sign: which way."""
    from torchvision.transforms.v2 import functional as tf

    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        angle = sign * 30 * share if name == "rotate" else 0.0
        shear = float(np.degrees(np.arctan(sign * 0.3 * share)))
        shift = [round(sign * 150 / 331 * share * x.shape[-1]), round(sign * 150 / 331 * share * x.shape[-2])]
        return tf.affine(
            x,
            angle=angle,
            translate=[shift[0] if name == "translate_x" else 0, shift[1] if name == "translate_y" else 0],
            scale=1.0,
            shear=[shear if name == "shear_x" else 0.0, shear if name == "shear_y" else 0.0],
        )
    factor = 1 + sign * 0.9 * share
    if name == "colour":
        return tf.adjust_saturation(x, factor) if x.shape[1] == 3 else x
    if name in ("brightness", "contrast", "sharpness"):
        return {
            "brightness": tf.adjust_brightness,
            "contrast": tf.adjust_contrast,
            "sharpness": tf.adjust_sharpness,
        }[name](x, factor)
    if name == "posterize":
        return tf.posterize(x, bits=8 - round(4 * share))
    if name == "solarize":
        return tf.solarize(x, threshold=255 * (1 - share))
    return {"autocontrast": tf.autocontrast, "equalize": tf.equalize}.get(name, lambda frames: frames)(x)
