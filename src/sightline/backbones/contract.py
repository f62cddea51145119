"""What every backbone is: a picture in, named feature maps out.

A backbone is an `nn.Module` with `.stages`, the maps it gives from shallow to deep, and

    forward(images) -> dict[str, Tensor]      stage name -> (B, channels, ceil(H / stride), ceil(W / stride))

It does not normalise: the network that owns it does. The names inside follow torchvision's, so that key maps are
little more than prefixes. Maps of uneven sizes may be one pixel smaller where a backbone pools without rounding up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """One feature map of a backbone: its name, its channels, how many pixels of the picture one step spans."""

    name: str
    channels: int
    stride: int


class Backbone(Protocol):
    """Nothing inherits from this; it says what networks may rely on."""

    stages: tuple[Stage, ...]

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to a map for every stage."""
        ...


def deepest_at_each_stride(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The last stage of every stride, fine to coarse: what pyramids and U-shaped decoders join."""
    last = {stage.stride: stage for stage in stages}
    return tuple(last[stride] for stride in sorted(last))


def stage_named(stages: Iterable[Stage], name: str) -> Stage:
    """The stage called `name`; a `KeyError` that lists the names otherwise."""
    found = {stage.name: stage for stage in stages}
    if name not in found:
        raise KeyError(f"there is no stage '{name}'; this backbone has {', '.join(found)}")
    return found[name]
