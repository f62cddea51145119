"""A picture in, a label map out, at the picture's own size.

Whole or in tiles; once or several times (mirrored, at several scales). Everything is averaged as probabilities, never
as logits: a mean of logits lets one very sure view outvote the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.geo import Geo, read_geo
from sightline.media.prepare import as_float, intensity, match_channels, measure, prepare, restore
from sightline.media.tiff import LabelFile, TiffImage, map_labels, open_tiff
from sightline.ops.resize import resize, unpad
from sightline.ops.tiles import SlabBlender, tiles
from sightline.ops.window import mirror, mirror_window
from sightline.segmentation.answer import LabelMap, named
from sightline.segmentation.contract import IGNORE, labels_of, probabilities
from sightline.segmentation.draw import colours_for
from sightline.segmentation.sampled import sampled

FLIPS = {"none": ((),), "h": ((), (-1,)), "hv": ((), (-1,), (-2,), (-1, -2))}
WHOLE = 2048 * 2048
"""Pixels of the largest picture that is looked at in one piece when nothing else is asked for."""


@dataclass(frozen=True)
class Procedure:
    """How a network looks at a picture.

    tile: side of square tiles in pixels of the network's input; 0: whole; None: whole up to `WHOLE` pixels, else 512.
    overlap: share of a tile that neighbours have in common. flips: `none`, `h` or `hv`: views that are averaged.
    scales: sizes the picture is looked at, relative to its own. keep: probabilities stay in the answer of a picture
    that is looked at in tiles, too. samples: looks with dropout on, whose mean and variance are the answer and its
    uncertainty; 0: one look without; None: what the network was built with.
    """

    tile: int | None = None
    overlap: float = 0.5
    flips: str = "none"
    scales: tuple[float, ...] = (1.0,)
    keep: bool = False
    samples: int | None = None

    def __post_init__(self) -> None:
        if (self.samples or 0) < 0:
            raise UsageError(f"samples {self.samples}: expected 0 or more looks at a picture")
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
        return 512 if height * width > WHOLE else 0


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
    height, width = prepared.valid
    pixels = prepared.pixels[..., :height, :width]  # beyond them `see` shows the network their mirror image, not black
    tile = procedure.tile_for(height, width)
    device = next(net.parameters()).device
    # unpadded networks are shown what really surrounds a tile; the mirror image only beyond the picture's borders
    context = math.ceil(getattr(net, "margin", 0) / min(procedure.scales)) if tile else 0

    def window(top: int, left: int, rows: int, columns: int) -> Tensor:
        return mirror_window(pixels, top - context, left - context, rows + 2 * context, columns + 2 * context)

    def look(x: Tensor) -> Tensor:
        found = views(net, as_float(x)[None].to(device), procedure, preprocess.multiple)[0].cpu()
        return unpad(found, (context,) * 4)

    if not tile:
        slabs = iter([(0, look(pixels))])
    else:
        slabs = label_slabs(look, window, (height, width), tile, procedure.overlap)
    multilabel = bool(getattr(net, "multilabel", False))
    tidy, doubt = getattr(net, "tidy", None), None
    looks = samples_of(net, procedure.samples)
    if not tile or procedure.keep or prepared.valid != prepared.original or looks or tidy is not None:
        found = restore(torch.cat([p for _, p in slabs], dim=1), prepared)
        if looks:
            found, doubt = found[:-1], found[-1]
        if tidy is not None:
            found = tidy(found, image)
        labels, count = labels_of(found[None], multilabel=multilabel)[0], len(found)
    else:
        found, parts = None, [(labels_of(p[None], multilabel=multilabel)[0], len(p)) for _, p in slabs]
        labels, count = torch.cat([rows for rows, _ in parts], dim=-2), parts[0][1]
    return LabelMap(
        labels=labels,
        classes=named(classes, count, multilabel=multilabel),
        multilabel=multilabel,
        colours=tuple((r, g, b) for r, g, b in colours),
        probabilities=found,
        uncertainty=doubt,
        name=name,
        image=image,
    )


@torch.inference_mode()
def label_tiff(
    net: nn.Module,
    path: Path,
    to: Path,
    *,
    page: int = 0,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "picture",
    procedure: Procedure | None = None,
) -> LabelMap:
    """Label a TIFF of any size in constant memory: windows in, finished rows out to the TIFF `to`.

    The answer's labels are a memory map of that file. Intensities that depend on the picture (`percentile`, `zscore`)
    are measured once, on a grid of its pixels. Raises `UsageError` where the preprocess resizes the picture.
    """
    if preprocess.resize != "none":
        raise UsageError(
            f"{path} is labelled in tiles, which resize={preprocess.resize} does not allow; train without it"
        )
    if getattr(net, "multilabel", False):
        raise UsageError(f"{path} is too large to hold an answer for each class; cut it into pictures of 32 megapixels")
    procedure = procedure or Procedure()
    device = next(net.parameters()).device
    counts = torch.zeros(256, dtype=torch.int64)
    with open_tiff(path, page=page) as source:
        height, width, _ = source.shape
        tile = procedure.tile_for(height, width) or max(height, width)
        context = math.ceil(getattr(net, "margin", 0) / min(procedure.scales))
        scale = measure(_grid(source), preprocess.intensity)

        def window(top: int, left: int, rows: int, columns: int) -> Tensor:
            image = _mirrored(source, top - context, left - context, rows + 2 * context, columns + 2 * context)
            return match_channels(intensity(image, preprocess.intensity, scale), preprocess.channels)

        def look(x: Tensor) -> Tensor:
            found = views(net, as_float(x)[None].to(device), procedure, preprocess.multiple)[0].cpu()
            return unpad(found[:-1] if samples_of(net, procedure.samples) else found, (context,) * 4)

        count = 0
        geo = read_geo(path, page=page)
        table = colours_for(named(classes, len(classes)), colours)
        tags = [] if geo is None else geo.extratags()
        with LabelFile(to, (height, width), colours=table, extratags=tags) as sink:
            for start, p in label_slabs(look, window, (height, width), tile, procedure.overlap):
                labels, count = labels_of(p[None])[0], len(p)
                labels = _hidden(labels, source, geo, start)
                counts += torch.bincount(labels.flatten().long(), minlength=256)
                sink.write(labels.numpy())
    return LabelMap(
        labels=torch.from_numpy(map_labels(to)),
        classes=named(classes, count),
        colours=tuple((r, g, b) for r, g, b in colours),
        name=name,
        counted=tuple(counts.tolist()),
        files={"labels": str(to)},
    )


def _hidden(labels: Tensor, source: TiffImage, geo: Geo | None, top: int) -> Tensor:
    """Labels of the rows from `top` on, 255 where the picture has no data."""
    if geo is None or geo.nodata is None:
        return labels
    unknown = geo.without_data(source.window(top, top + len(labels), 0, labels.shape[1]))
    return labels if unknown is None else labels.masked_fill(torch.from_numpy(unknown), IGNORE)


def _grid(source: TiffImage, windows: int = 8, side: int = 256) -> np.ndarray:
    """A sample of a picture that is too large to read: windows on a regular grid, put side by side."""
    height, width, _ = source.shape
    rows, columns = (min(n, side) for n in (height, width))
    found = []
    for y in np.linspace(0, height - rows, min(windows, -(-height // rows))).astype(int).tolist():
        for x in np.linspace(0, width - columns, min(windows, -(-width // columns))).astype(int).tolist():
            found.append(source.window(y, y + rows, x, x + columns))
    return np.concatenate(found)


def _mirrored(source: TiffImage, top: int, left: int, rows: int, columns: int) -> np.ndarray:
    """A window that may reach beyond the picture, which is continued there by its mirror image."""
    height, width, _ = source.shape
    y = mirror(torch.arange(top, top + rows), height).numpy()
    x = mirror(torch.arange(left, left + columns), width).numpy()
    image = source.window(y.min(), y.max() + 1, x.min(), x.max() + 1)
    return image[y - y.min()][:, x - x.min()]


def label_slabs(
    look: Callable[[Tensor], Tensor],
    window: Callable[[int, int, int, int], Tensor],
    size: tuple[int, int],
    tile: int,
    overlap: float,
) -> Iterator[tuple[int, Tensor]]:
    """Look at `size` in tiles and give finished rows `(first row, probabilities (K, rows, W))` as soon as they are.

    window(top, left, height, width) -> pixels; look(pixels) -> `(K, height, width)`. Memory is one slab of
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


def views(net: nn.Module, x: Tensor, procedure: Procedure, multiple: int = 1) -> Tensor:
    """Mean class probabilities `(B, K, H, W)` over the procedure's mirrored and scaled views of `x` `(B, C, H, W)`."""
    total: Tensor | float = 0.0
    for scale in procedure.scales:
        size = [max(1, round(n * scale)) for n in x.shape[-2:]]
        scaled = x if size == list(x.shape[-2:]) else resize(x, size, rule="antialias")
        for axes in FLIPS[procedure.flips]:
            seen = see(net, scaled.flip(axes) if axes else scaled, multiple, samples=procedure.samples)
            seen = seen.flip(axes) if axes else seen
            total = total + (seen if scaled is x else resize(seen, x.shape[-2:]))
    return torch.as_tensor(total) / (len(procedure.scales) * len(FLIPS[procedure.flips]))


def see(net: Any, x: Tensor, multiple: int = 1, *, samples: int | None = None) -> Tensor:
    """Class probabilities `(B, K, H, W)` of `x` `(B, C, H, W)` of any size, continued by its mirror image where needed.

    multiple: sides that the network is given divide by this. An unpadded network has `margin`, the pixels that are
    lost at each side, and `legal_size(n)`, the smallest side of at least `n` pixels that it takes. A network that looks
    in a way of its own (windows) has `look(x)`. With `samples` above 0 (None: the network's own) it is asked so often
    with its dropout on, and the uncertainty comes as one channel more.
    """
    margin = getattr(net, "margin", 0)
    height, width = x.shape[-2:]
    sides = [net.legal_size(n + 2 * margin) if margin else -(-n // multiple) * multiple for n in (height, width)]
    multilabel = bool(getattr(net, "multilabel", False))
    pixels, look = mirror_window(x, -margin, -margin, *sides), getattr(net, "look", net)

    def once() -> Tensor:
        return probabilities(look(pixels).logits.float(), multilabel=multilabel)[..., :height, :width]

    looks = samples_of(net, samples)
    return torch.cat(sampled(net, once, looks), dim=1) if looks else once()


def samples_of(net: Any, samples: int | None) -> int:
    """How often a picture is looked at with dropout on; with one look or more the answer holds its uncertainty."""
    return int(getattr(net, "samples", 0)) if samples is None else samples
