"""A picture in, its objects out, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.contracts import Preprocess
from sightline.detection.answer import Detections
from sightline.errors import UsageError
from sightline.media.prepare import as_float, prepare


@dataclass(frozen=True)
class Procedure:
    """How a network looks at a picture.

    score: objects with less are left out; None keeps all that the network found.
    """

    score: float | None = None

    def __post_init__(self) -> None:
        if self.score is not None and not 0 <= self.score <= 1:
            raise UsageError(f"score {self.score} must be a number from 0 to 1")


@torch.inference_mode()
def answer(
    net: Any,
    image: np.ndarray,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "picture",
    procedure: Procedure | None = None,
) -> Detections:
    """The objects in `image`, `(H, W, C)` of any depth, found by a network in eval mode on any device."""
    procedure = procedure or Procedure()
    prepared = prepare(image, preprocess)
    device = next(net.parameters()).device
    sizes = torch.tensor([prepared.valid], device=device)
    out = net(as_float(prepared.pixels)[None].to(device), sizes=sizes)
    found = net.decode(out, score=procedure.score, classes=classes)[0].to("cpu")
    placed = found.scaled(prepared.original, prepared.valid)
    return replace(placed, colours=tuple((r, g, b) for r, g, b in colours), name=name, image=image)


def stream(net: Any, path: Path, to: Path, *, page: int = 0, preprocess: Preprocess, **_: Any) -> Detections:
    """Objects of a picture too large for memory."""
    raise UsageError(f"{path} is too large to be looked at whole; cut it into pictures first")
