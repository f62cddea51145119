"""The program of a network of clips, with as many open axes as it allows: batch, frames, height, width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from sightline.errors import SightlineError

AXES = {"frames": 2, "height": 3, "width": 4}
TRIES = (("frames", "height", "width"), ("height", "width"), ("frames",), ())
STEPS = (1, 16)
"""What heights and widths are multiples of: nothing, or a patch."""


def clip_program(
    net: nn.Module, flat: nn.Module, example: Tensor
) -> tuple[torch.export.ExportedProgram, tuple[str, ...], Tensor]:
    """The exported program of `flat`, its open axes, and clips of another size that it must take.

    net: what says whether it takes a size at all; flat: the same with plain outputs. example: `(B, C, T, H, W)`.
    """
    reason: Exception | None = None
    for axes in TRIES:
        if any(AXES[name] >= example.ndim for name in axes):
            continue  # features of frames have no height and no width
        second = other_size(example, axes)
        if axes and not takes(net, second):
            continue
        for step in STEPS if len(axes) > 1 else STEPS[:1]:
            try:
                program = _export(flat, example, axes, step)
                with torch.no_grad():
                    program.module()(second)  # guards may refuse what the axes promise
            except Exception as error:  # torch.export has no exception type of its own
                reason = reason or error
                continue
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
            return program, ("batch", *axes), second
    raise SightlineError(f"the network cannot be exported: {' '.join(str(reason).split())[:300]}")


def other_size(example: Tensor, axes: tuple[str, ...]) -> Tensor:
    """Clips with one more in the batch, and twice the frames, 32 rows and 64 columns more where these axes are open."""
    shape = list(example.shape)
    shape[0] += 1
    for name in axes:
        shape[AXES[name]] += {"frames": shape[2], "height": 32, "width": 64}[name]
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def takes(net: nn.Module, clips: Tensor) -> bool:
    """Whether the network answers clips of that size."""
    try:
        net(clips)
    except Exception:  # a size that does not fit fails in many ways; what matters is that it does
        return False
    return True


@torch.no_grad()
def _export(flat: nn.Module, example: Tensor, axes: tuple[str, ...], step: int) -> torch.export.ExportedProgram:
    shapes: dict[int, Any] = {0: Dim.DYNAMIC}
    for name in axes:
        plain = step == 1 or name == "frames"
        shapes[AXES[name]] = Dim.DYNAMIC if plain else step * Dim(name)
    return torch.export.export(flat, (example,), dynamic_shapes={"images": shapes})
