"""All that the verbs need to know of this room: the task of boxes, with masks and joints in what it says.

What is asked of data, augmentation and scores is the detection room's. A network that learns from masks or joints says
so when its data have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from sightline.detection.contract import Found
from sightline.detection.task import TASK as BOXES
from sightline.ops.tree import register_dataclass


@register_dataclass
@dataclass(frozen=True)
class Exported:
    """The output of an exported file, as every network of the room decodes it; see their own outputs for the fields."""

    found: Found
    sizes: Tensor
    canvas: Tensor | None = None
    heat: Tensor | None = None


def out(tensors: Mapping[str, Tensor]) -> Exported:
    """An exported file's named tensors as this room's output."""
    found = {name.removeprefix("found."): value for name, value in tensors.items() if name.startswith("found.")}
    others = {name: value for name, value in tensors.items() if "." not in name}
    return Exported(Found(**found), **others)


TASK = replace(BOXES, name="instance", out=out)
