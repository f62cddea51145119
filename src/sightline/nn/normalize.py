"""From pictures in [0, 1] to what a network was trained on: the first layer of every network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """(image - mean) / std a channel, then zero outside each picture's valid size.

    mean, std: one number a channel, in RGB order, for pictures in [0, 1]; `mean=None` passes pictures through.
    bgr: swap red and blue afterwards, as weights converted from Caffe expect. Their pictures ran from 0 to 255:
    write their mean and their std of 1 divided by 255.
    The statistics are buffers that no checkpoint holds.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | None = IMAGENET_MEAN,
        std: Sequence[float] | None = IMAGENET_STD,
        *,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.bgr = bgr
        columns = None
        if mean is not None:
            std = (1.0,) * len(mean) if std is None else std
            if len(mean) != len(std) or min(std) <= 0:
                raise UsageError(f"mean {tuple(mean)} and std {tuple(std)} need the same length, and a std above 0")
            columns = torch.tensor([list(mean), list(std)], dtype=torch.float32)[:, :, None, None]
        self.register_buffer("mean", None if columns is None else columns[0].clone(), persistent=False)
        self.register_buffer("std", None if columns is None else columns[1].clone(), persistent=False)

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """`(B, C, *space)` in [0, 1] to the network's input: pictures, clips and volumes alike.

        sizes: `(B, n)`, the valid lengths of the last n axes: height and width, of clips too; of volumes all three.
        """
        x = images
        if self.mean is not None and self.std is not None:
            columns = (-1, *[1] * (x.ndim - 2))
            x = (x - self.mean.view(columns)) / self.std.view(columns)
        if self.bgr:
            x = x.flip(1)
        if sizes is not None:
            x = x * inside(sizes, x).to(x.dtype)
        return x


def inside(sizes: Tensor, images: Tensor) -> Tensor:
    """True at the places of padded `(B, C, *space)` `images` that lie within `sizes` `(B, n)` along the last n axes.

    Shape `(B, 1, *space)`, with 1 for the axes that are not counted (the frames of a clip).
    """
    space, counted = images.ndim - 2, sizes.shape[1]
    found: Tensor | None = None
    for axis in range(space - counted, space):
        column = axis - (space - counted)
        within = torch.arange(images.shape[2 + axis], device=images.device) < sizes[:, column : column + 1]  # (B, N)
        within = within[(slice(None), None, *[slice(None) if k == axis else None for k in range(space)])]
        found = within if found is None else found & within
    assert found is not None
    return found


def for_channels(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """`mean` and `std` of grey or colour pictures made to fit `channels`: their average, repeated.

    Raises `UsageError` when they have neither 1 nor 3 numbers, nor one for each channel.
    """
    return _fit(mean, channels), _fit(std, channels)


def _fit(values: Sequence[float] | None, channels: int) -> Sequence[float] | None:
    if values is None or len(values) == channels:
        return values
    if len(values) not in (1, 3):
        raise UsageError(f"mean and std have {len(values)} numbers for {channels} channels; give one for each channel")
    return (sum(values) / len(values),) * channels
