"""Masks that were found in views of a picture (tiles, mirrors, other sizes), as masks of the picture.

Nothing is warped before somebody asks, and then one object at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.detection.answer import Masks

Size = tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """Masks of a tile of a view: mirrored along `axes` first, the tile standing at `at` (row, column).

    view: height and width of the view; size: of the picture that `dense` answers for.
    """

    masks: Masks
    at: Size
    axes: tuple[int, ...]
    view: Size
    size: Size

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: Tensor) -> Placed:
        """Some of them, by indices or flags `(N,)`."""
        return replace(self, masks=self.masks[index])

    def scaled(self, size: Size) -> Placed:
        """The same for the picture at another size."""
        return replace(self, size=size)

    def one(self, place: int) -> Tensor:
        """One of them at the picture's size: `(H, W)` bool."""
        tile = self.masks[torch.tensor([place])].dense()[0].cpu()
        whole = torch.zeros(self.view, dtype=torch.bool)
        top, left = self.at
        whole[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        whole = whole.flip(self.axes) if self.axes else whole
        if self.view == self.size:
            return whole
        rows, columns = (((torch.arange(n) + 0.5) * (m / n)).long() for n, m in zip(self.size, self.view))
        return whole[rows[:, None], columns]

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        return _stacked([self.one(place) for place in range(len(self))], self.size)

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        return [coded(self.one(place)) for place in range(len(self))]


@dataclass(frozen=True)
class Several:
    """Masks of several views of one picture. parts: the views'. which: `(N, 2)`, the view and the place in it."""

    parts: tuple[Placed, ...]
    which: Tensor
    size: Size

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: Tensor) -> Several:
        """Some of them, by indices or flags `(N,)`."""
        return replace(self, which=self.which[index.cpu()])

    def scaled(self, size: Size) -> Several:
        """The same for the picture at another size."""
        return replace(self, parts=tuple(part.scaled(size) for part in self.parts), size=size)

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        return _stacked([self.parts[view].one(place) for view, place in self.which.tolist()], self.size)

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        return [coded(self.parts[view].one(place)) for view, place in self.which.tolist()]


def several(parts: Sequence[Placed]) -> Several:
    """All masks of all views, one view after the other."""
    which = [(view, place) for view, part in enumerate(parts) for place in range(len(part))]
    return Several(tuple(parts), torch.tensor(which, dtype=torch.long).reshape(-1, 2), parts[0].size)


def coded(mask: Tensor) -> dict[str, Any]:
    """A mask `(H, W)` of flags as COCO's compressed run lengths."""
    from pycocotools import mask as coco

    runs: Any = coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": [int(n) for n in mask.shape], "counts": runs["counts"].decode()}


def _stacked(masks: Sequence[Tensor], size: Size) -> Tensor:
    return torch.stack(list(masks)) if masks else torch.zeros(0, *size, dtype=torch.bool)
