"""The contract of masks and skeletons: that of `detection/contract.py`, and what stands here. Read that one first.

- `Target.masks` `(B, G, H, W)` bool at the size of the network's input; `Target.keypoints` `(B, G, J, 3)`.
- `Found.masks` is what the network itself says: `(B, D, h, w)` probabilities, in the objects' boxes or over its input.
  `decode` makes of them masks that know the picture (`instance/masks.py`), and `Detections.masks.dense()` the pixels.
- every network's output has `sizes` `(B, 2)` beside `found`: heights and widths that are no padding. Masks need them.
- networks without boxes of their own (SOLO, AdaptIS, embeddings) give the boxes around their masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sightline.detection.answer import Detections, Masks
from sightline.detection.contract import Found, Seen
from sightline.detection.contract import decode as decode_boxes
from sightline.ops.tree import register_dataclass


class Out(Protocol):
    """What every network's output has in common; each adds what its own losses need."""

    @property
    def found(self) -> Found | None:
        """The objects; None in a training step."""
        ...

    @property
    def sizes(self) -> Tensor:
        """Valid heights and widths `(B, 2)`."""
        ...


@register_dataclass
@dataclass(frozen=True)
class Said:
    """The output of a network whose losses need nothing but what is here: found, and valid sizes `(B, 2)`."""

    found: Found | None
    sizes: Tensor


class MaskForm(Protocol):
    """Makes masks of one picture: what the network said of its N objects, their boxes, the picture's valid size."""

    def __call__(self, said: Tensor, boxes: Tensor, size: tuple[int, int]) -> Masks: ...


def decode(out: Out, form: MaskForm, *, score: float | None = None, classes: Sequence[str] = ()) -> list[Detections]:
    """The `decode` of every network of masks: padding off, scores below `score` off, masks in their form."""
    if out.found is None:
        return decode_boxes(Seen(out.found), score=score, classes=classes)  # type: ignore[arg-type]  # says why not
    answers = []
    for i, (answer, size) in enumerate(zip(decode_boxes(Seen(out.found), classes=classes), out.sizes.tolist())):
        picture = (int(size[0]), int(size[1]))
        if out.found.masks is not None:
            said = out.found.masks[i, : len(answer)]
            answer = replace(answer, masks=form(said, answer.boxes, picture))
        answer = replace(answer, size=picture)
        answers.append(answer if score is None else answer.above(score))
    return answers


def boxes_around(masks: Tensor, scale: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """The boxes `(..., 4)` around masks `(..., H, W)` of flags, times `scale` (down, across); zeros around nothing."""
    parts = []
    for axis, factor in ((-2, scale[1]), (-1, scale[0])):  # columns first: x0, x1, then y0, y1
        line = masks.any(dim=axis)  # (..., W) or (..., H)
        place = torch.arange(line.shape[-1], device=masks.device)
        low = torch.where(line, place, line.shape[-1]).amin(-1)
        high = torch.where(line, place + 1, 0).amax(-1)
        parts += [torch.minimum(low, high) * factor, high * factor]
    x0, x1, y0, y1 = (part.float() for part in parts)
    return torch.stack([x0, y0, x1, y1], dim=-1)
