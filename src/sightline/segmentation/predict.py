"""A picture in, a label map out, at the picture's own size.

Whole or in tiles; once or several times (mirrored, at several scales). Everything is averaged as probabilities, never
as logits: a mean of logits lets one very sure view outvote the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.prepare import as_float, prepare, restore
from sightline.ops.resize import resize
from sightline.ops.tiles import SlabBlender, tiles
from sightline.ops.window import mirror_window
from sightline.segmentation.answer import LabelMap, named
from sightline.segmentation.contract import labels_of, probabilities

FLIPS = {"none": ((),), "h": ((), (-1,)), "hv": ((), (-1,), (-2,), (-1, -2))}
WHOLE = 2048 * 2048
"""Pixels of the largest picture that is looked at in one piece when nothing else is asked for."""


@dataclass(frozen=True)
class Procedure:
    """How a network looks at a picture.

    tile: side of square tiles in pixels of the network's input; 0: whole; None: whole up to `WHOLE` pixels, else 1024.
    overlap: share of a tile that neighbours have in common. flips: `none`, `h` or `hv`: views that are averaged.
    scales: sizes the picture is looked at, relative to its own. keep: probabilities stay in the answer.
    """

    tile: int | None = None
    overlap: float = 0.5
    flips: str = "none"
    scales: tuple[float, ...] = (1.0,)
    keep: bool = False

    def __post_init__(self) -> None:
        if self.flips not in FLIPS:
            raise UsageError(f"flips '{self.flips}' are unknown; choose from {', '.join(FLIPS)}")
        if not self.scales or min(self.scales) <= 0:
            raise UsageError(f"scales {self.scales} must be numbers above 0, for example 0.75,1,1.25")
        if not 0 <= self.overlap < 1 or (self.tile or 0) < 0:
            raise UsageError(f"tile {self.tile} and overlap {self.overlap}: a side of 0 or more, a share from 0 to 1")

    def tile_for(self, height: int, width: int) -> int:
        """The side of the tiles for a picture, 0 for the whole."""
        if self.tile is not None:
            return self.tile if max(height, width) > self.tile else 0
        return 1024 if height * width > WHOLE else 0


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
) -> LabelMap:
    """Label every pixel of `image`, `(H, W, C)` of any depth, with a network in eval mode on any device."""
    procedure = procedure or Procedure()
    prepared = prepare(image, preprocess)
    x = as_float(prepared.pixels)
    height, width = prepared.valid
    tile = procedure.tile_for(height, width)
    device = next(net.parameters()).device

    def look(window: Tensor) -> Tensor:
        return views(net, window[None].to(device), procedure)[0].cpu()

    if not tile:
        found = restore(look(x)[..., :height, :width], prepared)
        labels, kept = labels_of(found[None])[0], found
    elif procedure.keep or prepared.valid != prepared.original:
        slabs = label_slabs(look, lambda *where: mirror_window(x, *where), (height, width), tile, procedure.overlap)
        found = restore(torch.cat([p for _, p in slabs], dim=1), prepared)
        labels, kept = labels_of(found[None])[0], found
    else:
        slabs = label_slabs(look, lambda *where: mirror_window(x, *where), (height, width), tile, procedure.overlap)
        labels, kept = torch.cat([labels_of(p[None])[0] for _, p in slabs]), None
    count = kept.shape[0] if kept is not None else len(classes)
    return LabelMap(
        labels=labels,
        classes=named(classes, count),
        colours=tuple(map(tuple, colours)),
        probabilities=kept,
        name=name,
        image=image,
    )


def label_slabs(
    look: Callable[[Tensor], Tensor],
    window: Callable[[int, int, int, int], Tensor],
    size: tuple[int, int],
    tile: int,
    overlap: float,
) -> Iterator[tuple[int, Tensor]]:
    """Look at `size` in tiles and give finished rows `(first row, probabilities (K, rows, W))` as soon as they are.

    window(top, left, height, width) -> `(C, height, width)`; look -> `(K, height, width)`. Memory is one slab of
    `tile` rows, whatever the picture's height.
    """
    blender = SlabBlender(size, (tile, tile))
    for where in tiles(size, (tile, tile), overlap):
        rows, columns = where
        pixels = window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        for slab in blender.add(where, look(pixels)):
            yield slab.start, slab.values
    for slab in blender.finish():
        yield slab.start, slab.values


def views(net: nn.Module, x: Tensor, procedure: Procedure) -> Tensor:
    """Mean class probabilities `(B, K, H, W)` over the procedure's mirrored and scaled views of `x` `(B, C, H, W)`."""
    total, count = None, 0
    for scale in procedure.scales:
        size = [max(1, round(n * scale)) for n in x.shape[-2:]]
        scaled = x if size == list(x.shape[-2:]) else resize(x, size, rule="antialias")
        for axes in FLIPS[procedure.flips]:
            found = see(net, scaled.flip(axes) if axes else scaled)
            found = found.flip(axes) if axes else found
            if found.shape[-2:] != x.shape[-2:]:
                found = resize(found, x.shape[-2:])
            total, count = found if total is None else total + found, count + 1
    return total / count


def see(net: nn.Module, x: Tensor) -> Tensor:
    """Class probabilities at the input's size. An unpadded network sees the picture continued by its mirror image.

    Such a network has `legal_size(n)`: the smallest input side whose answer covers `n` pixels, and `margin`: the
    pixels that are lost at each side.
    """
    margin = getattr(net, "margin", 0)
    if not margin:
        return probabilities(net(x).logits.float())
    height, width = x.shape[-2:]
    wanted = mirror_window(x, -margin, -margin, net.legal_size(height), net.legal_size(width))
    return probabilities(net(wanted).logits.float())[..., :height, :width]
