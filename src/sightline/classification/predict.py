"""A picture in, the probabilities of its classes out.

Several views of a picture (mirrored, several crops) are averaged as probabilities, or as logits when asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sightline.classification.answer import Labels, named
from sightline.classification.contract import Scores, of_logits, probabilities
from sightline.classification.targets import prepared
from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.prepare import as_float

Fuse = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Procedure:
    """How a network looks at a picture or video.

    views: of a video: clips spread over it; None: as many as cover it. crops: 1: the whole; 3: squares at both ends and
    in the middle of the longer side; 10: corners and centre of 7/8 of the sides, and their mirror images.
    fuse: views are averaged as `probabilities` or as `logits`.
    """

    views: int | None = None
    crops: int = 1
    fuse: Fuse = "probabilities"

    def __post_init__(self) -> None:
        if self.crops not in (1, 3, 10):
            raise UsageError(f"crops {self.crops} are unknown; choose 1, 3 or 10")
        if self.fuse not in get_args(Fuse):
            raise UsageError(f"fuse '{self.fuse}' is unknown; choose probabilities or logits")
        if self.views is not None and self.views < 1:
            raise UsageError(f"views={self.views}: expected a number from 1")


def procedure(
    *,
    views: int | None = None,
    crops: int = 1,
    fuse: Fuse = "probabilities",
    tile: int | None = None,
    overlap: float = 0.5,
    flips: str = "none",
    scales: Sequence[float] = (1.0,),
) -> Procedure:
    """The room's procedure; what only label maps know (tiles, flips, scales) is refused aloud."""
    if tile is not None or flips != "none" or tuple(scales) != (1.0,):
        raise UsageError("tile, flips and scales are for label maps; for classes choose views, crops and fuse")
    return Procedure(views, crops, fuse)


def cropped(x: Tensor, crops: int) -> list[Tensor]:
    """The crops of `(..., H, W)`, all of one size; see `Procedure`."""
    height, width = x.shape[-2:]
    if crops == 1:
        return [x]
    if crops == 3:
        side = min(height, width)
        extra = max(height, width) - side
        starts = (0, -(-extra // 2), extra)  # the centre is rounded up, as PySlowFast does
        return [x[..., s : s + side, :] if height > width else x[..., s : s + side] for s in starts]
    high, wide = height * 7 // 8, width * 7 // 8
    places = [(0, 0), (0, width - wide), (height - high, 0), (height - high, width - wide)]
    places.append(((height - high) // 2, (width - wide) // 2))
    found = [x[..., top : top + high, left : left + wide] for top, left in places]
    return found + [view.flip(-1) for view in found]


def fused(scores: Sequence[Tensor], fuse: str) -> Tensor:
    """Probabilities `(K,)` from those (`probabilities`) or the logits of several views, each `(V, K)`."""
    stacked = torch.cat(list(scores))
    return stacked.mean(0) if fuse == "probabilities" else of_logits(stacked.mean(0))


def view_scores(out: Scores, fuse: str) -> Tensor:
    """What is averaged over views: probabilities or logits, `(V, K)`."""
    return probabilities(out) if fuse == "probabilities" else out.logits.float()


@torch.inference_mode()
def answer(
    net: nn.Module,
    image: np.ndarray,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "picture",
    procedure: Procedure | None = None,
) -> Labels:
    """Classify `image`, `(H, W, C)` of any depth, with a network in eval mode on any device."""
    procedure = procedure or Procedure()
    x = as_float(prepared(image, preprocess)).to(next(net.parameters()).device)
    views: Any = torch.stack(cropped(x, procedure.crops))
    found = fused([view_scores(net(views), procedure.fuse).cpu()], procedure.fuse)
    return Labels(found, named(classes, len(found)), name, image=image)
