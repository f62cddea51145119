"""Volumes in this room: pieces to learn from, the automatic choices, answers on the file's own grid.

`task.py` comes here with whatever has three axes of space. Arrays are `(C, D, H, W)`, labels `(D, H, W)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.contracts import Choice, Machine, Preprocess
from sightline.datasets.records import DataSet, VolumeRecord
from sightline.datasets.stats import Stats
from sightline.datasets.volumes import read_volume_labels, read_volume_of
from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.media.prepare import as_float
from sightline.media.resample import labels_to_grid, prepare_volume, restored, spacing_rule
from sightline.media.volume import Volume
from sightline.ops.tiles import Slab, blend, tiles
from sightline.ops.window import mirror
from sightline.segmentation.answer import LabelMap, named
from sightline.segmentation.contract import IGNORE, labels_of, probabilities
from sightline.segmentation.predict import FLIPS, Procedure
from sightline.segmentation.targets import Sample

Size = tuple[int, int, int]

WHOLE = 96**3
"""Voxels of the largest volume that is answered in one piece when the card names no tile."""

CORNERS = 5_000
"""Places of each class that are remembered of a volume, for drawing pieces around them."""

# Pieces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VolumeAugment:
    """How a piece of a volume is cut and changed, drawn anew for every sample; plain values, stored in the run.

    crop: depth, height and width of the piece. foreground: share of pieces around a voxel of a class above 0, every
    class of the volume equally often (nnU-Net: a third). scale: enlarged by a factor drawn log-uniformly. rotate:
    degrees, uniform in [-rotate, rotate], about each axis, in millimetres (thick slices are not sheared). flip,
    flip_vertical, flip_depth: mirrored along width, height, depth; off, since bodies have sides. elastic: standard
    deviation in voxels of a smooth displacement on a 4 x 4 x 4 grid. colour: random contrast, brightness and gamma.
    noise: standard deviation of Gaussian noise, at most. Beyond its borders the volume is continued by its mirror.
    """

    crop: Size = (64, 64, 64)
    foreground: float = 1 / 3
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    flip: bool = False
    flip_vertical: bool = False
    flip_depth: bool = False
    elastic: float = 0.0
    colour: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if len(self.crop) != 3 or not all(isinstance(n, int) and n >= 1 for n in self.crop):
            raise UsageError(f"augment.crop {self.crop} must be a depth, a height and a width, such as 64,64,64")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise UsageError(f"augment.scale {self.scale} must be a lowest and a highest factor, such as 0.8,1.25")
        for name, most in (("foreground", 1), ("rotate", 180), ("elastic", math.inf), ("colour", 1), ("noise", 10)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise UsageError(f"augment.{name} {value} must be a number from 0 to {most:g}")
        for name in ("flip", "flip_vertical", "flip_depth"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"augment.{name} {getattr(self, name)} must be true or false")

    def __call__(
        self,
        pixels: Tensor,
        labels: Tensor,
        rng: np.random.Generator,
        *,
        places: Mapping[int, np.ndarray],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> tuple[Tensor, Tensor]:
        """`(C, D, H, W)` float32 and `(D, H, W)` uint8 to a piece of both. places: voxels (N, 3) of each class."""
        centre = self._centre(labels.shape, places, rng)
        pixels, labels = self._cut(pixels, labels, centre, np.asarray(spacing, np.float64), rng)
        axes = [
            k
            for k, on in ((-1, self.flip), (-2, self.flip_vertical), (-3, self.flip_depth))
            if on and rng.random() < 0.5
        ]
        if axes:
            pixels, labels = pixels.flip(axes), labels.flip(axes)
        if self.colour or self.noise:
            pixels = self._recolour(pixels, rng)
        return pixels.contiguous(), labels.contiguous()

    def _centre(self, size: Sequence[int], places: Mapping[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The middle of the piece: a voxel of a class, or anywhere that keeps the piece inside where it fits."""
        if places and rng.random() < self.foreground:
            found = places[sorted(places)[int(rng.integers(len(places)))]]
            return found[int(rng.integers(len(found)))] + 0.5
        low = [min(c, n) / 2 for c, n in zip(self.crop, size)]
        return np.array([rng.uniform(a, max(n - a, a)) for a, n in zip(low, size)])

    def _cut(
        self, pixels: Tensor, labels: Tensor, centre: np.ndarray, spacing: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The piece around `centre`: a plain window, or one sampled along a turned, scaled, bent grid."""
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        angles = np.radians(rng.uniform(-self.rotate, self.rotate, 3)) if self.rotate else np.zeros(3)
        if factor == 1 and not self.rotate and not self.elastic:
            start = [round(c - n / 2) for c, n in zip(centre.tolist(), self.crop)]
            return window(pixels, start, self.crop), window(labels[None], start, self.crop)[0]
        turn = np.diag(1 / spacing) @ rotation(angles) @ np.diag(spacing) / factor
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.crop]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ torch.from_numpy(turn.T.astype(np.float32))
        if self.elastic:
            bend = torch.from_numpy(rng.normal(0.0, self.elastic, (1, 3, 4, 4, 4)).astype(np.float32))
            grid = grid + F.interpolate(bend, self.crop, mode="trilinear", align_corners=True)[0].movedim(0, -1)
        grid = grid + torch.from_numpy((centre - 0.5).astype(np.float32))  # in voxels of the volume
        low = grid.flatten(0, 2).amin(0).floor().long() - 1
        high = grid.flatten(0, 2).amax(0).ceil().long() + 2
        size = (high - low).tolist()
        place = (grid - low) / (torch.tensor(size) - 1) * 2 - 1
        place = place.flip(-1)[None]  # grid_sample counts x, y, z
        part = window(pixels, low.tolist(), size)[None].float()
        marks = window(labels[None], low.tolist(), size)[None].float()
        found = F.grid_sample(part, place, mode="bilinear", padding_mode="border", align_corners=True)[0]
        kept = F.grid_sample(marks, place, mode="nearest", padding_mode="border", align_corners=True)[0, 0]
        return found, kept.to(torch.uint8)

    def _recolour(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Contrast around the mean, a shift in deviations, a gamma over the range; then noise. Any units."""
        mean, spread = x.mean(), x.std().clamp(min=1e-6)
        low, high = x.min(), x.max()
        contrast, gamma = np.exp(rng.uniform(-self.colour, self.colour, 2)).tolist()
        shift = float(rng.uniform(-self.colour, self.colour)) if self.colour else 0.0
        if self.colour:
            x = low + (high - low) * ((x - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) ** gamma
            x = (x - mean) * contrast + mean + shift * spread
        if self.noise:
            strength = float(rng.uniform(0, self.noise)) * float(spread)
            x = x + torch.from_numpy(rng.standard_normal(x.shape, np.float32)) * strength
        return x


def window(x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The window of `(..., *space)` at `start` of `size`; outside, the mirrored volume."""
    first = x.ndim - len(size)
    for axis, (a, n) in enumerate(zip(start, size), start=first):
        have = x.shape[axis]
        if a >= 0 and a + n <= have:
            x = x.narrow(axis, a, n)
        else:
            x = x.index_select(axis, mirror(torch.arange(a, a + n), have))
    return x


def rotation(angles: np.ndarray) -> np.ndarray:
    """The 3 x 3 matrix that turns by three angles (radians) about D, then H, then W."""
    found = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        found = turn @ found
    return found


class VolumeSamples(torch.utils.data.Dataset):
    """One piece of each volume an epoch; the item `(epoch, index)` is a pure function of the records and of `seed`.

    Prepared volumes stay in memory when `keep`; else each piece reads its volume anew.
    """

    def __init__(
        self,
        data: DataSet,
        *,
        preprocess: Preprocess,
        seed: int,
        augment: VolumeAugment | None = None,
        keep: bool = False,
    ):
        if seed < 0:
            raise UsageError(f"seed {seed} must be a whole number from 0")
        self.records: tuple[VolumeRecord, ...] = data.records
        self.num_classes = len(data.classes)
        self.preprocess, self.seed, self.augment = preprocess, seed, augment
        self._kept: dict[int, tuple[Tensor, Tensor, dict[int, np.ndarray], Sequence[float]]] | None = (
            {} if keep else None
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, ticket: tuple[int, int]) -> Sample:
        epoch, index = ticket
        pixels, labels, places, spacing = self._load(index)
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            pixels, labels = self.augment(pixels, labels, rng, places=places, spacing=spacing)
        return Sample(self.records[index].key, pixels, labels)

    def _load(self, index: int) -> tuple[Tensor, Tensor, dict[int, np.ndarray], Sequence[float]]:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        record = self.records[index]
        volume = read_volume_of(record)
        prepared = prepare_volume(volume, self.preprocess)
        labels = torch.from_numpy(read_volume_labels(record, self.num_classes))
        labels = labels_to_grid(labels, prepared.valid)
        rng = np.random.default_rng([self.seed, index])
        spacing = spacing_rule(self.preprocess.resize) or volume.spacing
        found = (as_float(prepared.pixels), labels, class_places(labels.numpy(), rng), spacing)
        if self._kept is not None:
            self._kept[index] = found
        return found


def class_places(labels: np.ndarray, rng: np.random.Generator, most: int = CORNERS) -> dict[int, np.ndarray]:
    """Up to `most` voxels `(N, 3)` of every class above 0 that occurs in `(D, H, W)`."""
    flat = labels.ravel()
    found = {}
    for k in np.unique(flat).tolist():
        if k in (0, IGNORE):
            continue
        where = np.flatnonzero(flat == k)
        if len(where) > most:
            where = rng.choice(where, most, replace=False)
        found[k] = np.stack(np.unravel_index(where, labels.shape), axis=-1).astype(np.int32)
    return found


AUGMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "light": {"scale": (0.85, 1.2), "rotate": 10.0},
    "medium": {"scale": (0.8, 1.25), "rotate": 15.0, "colour": 0.15, "noise": 0.1},
    "strong": {"scale": (0.7, 1.4), "rotate": 30.0, "colour": 0.3, "noise": 0.15, "elastic": 4.0},
}
"""Named strengths; single values are changed with `augment.KEY=value`."""


def volume_augment(name: str, size: Sequence[int], values: Mapping[str, Any]) -> VolumeAugment:
    """The augmentation called `name` for pieces of `size`, with single values replaced."""
    if name not in AUGMENTS:
        raise UsageError(
            f"augment '{name}' is unknown; choose from {', '.join(AUGMENTS)}.{did_you_mean(name, AUGMENTS)}"
        )
    known: dict[str, Any] = vars(VolumeAugment()) | AUGMENTS[name] | {"crop": tuple(size)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"augment has no value '{key}'; it takes {', '.join(known)}.{did_you_mean(key, known)}")
        known[key] = tuple(value) if isinstance(value, list) else value
    return VolumeAugment(**known)


# Choices ---------------------------------------------------------------------------------------------------------


def plan_volumes(stats: Stats, values: Mapping[str, Any], machine: Machine) -> dict[str, Choice]:
    """Choices for volumes: intensity, spacing, piece, batch, steps and the network's open values, with reasons."""
    if not any(stats.class_pixels):
        raise SightlineError("no voxel of the training volumes has a class; look for the fault: sightline data check")
    small = machine.device == "cpu"
    spacing, resize = _grid(stats)
    wanted = spacing_rule(values.get("resize") or resize.value) or spacing
    shape = [max(1, round(n * s / w)) for n, s, w in zip(stats.median_size, spacing, wanted)]
    budget = 48**3 if small else 128**3
    piece = fit_piece(shape, wanted, budget)
    batch = 2
    steps = max(400, min(1500 if small else 20000, round(250 * stats.pictures / batch)))
    words = " x ".join(f"{w:g}" for w in wanted)
    chosen = {
        "intensity": _intensity(stats),
        "resize": resize,
        "size": Choice(list(piece), f"pieces of about equal millimetres a side at {words} mm, {budget} voxels at most"),
        "augment": Choice("light", "scale and rotation; mirrored only when asked, since bodies have sides"),
        "batch": Choice(batch, "nnU-Net's: large pieces rather than many"),
        "steps": Choice(steps, f"{steps * batch / stats.pictures:.0f} pieces of each of {stats.pictures} volumes"),
        "lr": Choice(2e-3 if small else 1e-3, "AdamW; a short warm-up, then down to 0 along a cosine"),
    }
    chosen["loss"] = Choice("ce+dice", "nnU-Net's, without class weights: pieces around rare classes come more often")
    return chosen | _network(stats, values, small, piece, wanted)


def _grid(stats: Stats) -> tuple[tuple[float, float, float], Choice]:
    table = np.array(stats.spacings)
    z, y, x = np.median(table, axis=0).tolist()
    spread = float((table.max(0) / table.min(0)).max())
    words = f"{z:.3g} x {y:.3g} x {x:.3g} mm"
    if spread < 1.05:
        return (z, y, x), Choice("none", f"all volumes have voxels of {words}")
    rule = f"spacing({z:.4g}, {y:.4g}, {x:.4g})"
    return (z, y, x), Choice(rule, f"spacings differ up to {spread:.1f} times: all are brought to the median, {words}")


def _intensity(stats: Stats) -> Choice:
    if stats.low < -500 and stats.foreground:
        low, high = stats.foreground[0.5], stats.foreground[99.5]
        if low < high:
            words = "values below -500, as of CT: the range of 99 % of the labelled voxels"
            return Choice(f"window({low:.0f}, {max(high, low + 1):.0f})", words)
    return Choice("zscore", "each volume to mean 0 and deviation 1: its units mean nothing across machines")


def fit_piece(shape: Sequence[int], spacing: Sequence[float], budget: int) -> Size:
    """The largest piece of about equal millimetres a side, within `shape` and `budget` voxels; multiples of 8, or 4.

    An axis shorter than the piece gives its share to the others.
    """
    size = [float(n) for n in shape]
    free = set(range(3))
    while free and math.prod(size) > budget:
        room = budget / math.prod(size[k] for k in range(3) if k not in free)
        side = (room * math.prod(spacing[k] for k in free)) ** (1 / len(free))  # millimetres
        short = {k for k in free if shape[k] * spacing[k] <= side}
        if not short:
            for k in free:
                size[k] = side / spacing[k]
            break
        free -= short
    found = [max(4, int(n) // (8 if n >= 16 else 4) * (8 if n >= 16 else 4)) for n in size]
    return found[0], found[1], found[2]


def pools_for(piece: Sequence[int], spacing: Sequence[float], levels: int) -> list[list[int]]:
    """By how much each of `levels` further levels shrinks each axis: thick slices are spared until voxels are cubes.

    No axis of the piece is shrunk below 4 voxels.
    """
    now, size, found = list(spacing), list(piece), []
    for _ in range(levels):
        fine = min(now)
        pool = [2 if s < 2 * fine and n >= 8 else 1 for s, n in zip(now, size)]
        now, size = [s * p for s, p in zip(now, pool)], [n // p for n, p in zip(size, pool)]
        found.append(pool)
    return found


def _network(
    stats: Stats, values: Mapping[str, Any], small: bool, piece: Size, spacing: Sequence[float]
) -> dict[str, Choice]:
    """The builder's values that depend on data and machine, where it has them."""
    chosen = {}
    channels = max(stats.channels, key=lambda n: stats.channels[n])
    if "in_channels" in values:
        chosen["model.in_channels"] = Choice(channels, f"the volumes have {channels} channel{'s' * (channels > 1)}")
    if small and isinstance(values.get("width"), int):
        width = max(values["width"] // 4, 4)
        chosen["model.width"] = Choice(width, "a quarter of the published width: minutes on a CPU instead of hours")
    if small and "features" in values:
        features = [max(n // 4, 4) for n in values["features"]]
        chosen["model.features"] = Choice(features, "a quarter of the published widths: minutes on a CPU")
    if "pools" in values:
        pools = pools_for(piece, spacing, len(values["pools"]))
        chosen["model.pools"] = Choice(pools, "an axis is halved while its voxels are no thicker than twice the finest")
    if "strides" in values and "kernels" in values:
        strides = [[1, 1, 1], *pools_for(piece, spacing, len(values["features"]) - 1)]
        while len(strides) > 2 and strides[-1] == [1, 1, 1]:
            strides.pop()
        features = (chosen["model.features"].value if small else list(values["features"]))[: len(strides)]
        chosen["model.features"] = Choice(features, "as many stages as the piece can be halved")
        chosen["model.strides"] = Choice(
            strides, "an axis is halved while its voxels are no thicker than twice the finest"
        )
    return chosen


# Answers ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def answer_volume(
    net: nn.Module,
    volume: Volume,
    *,
    preprocess: Preprocess,
    classes: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    name: str = "volume",
    procedure: Procedure | None = None,
) -> LabelMap:
    """Label every voxel of a volume on its own grid, in tiles blended by a Gaussian, slab by slab.

    Probabilities are averaged, never logits. Memory beyond the volume itself is one tile's depth of class
    probabilities, whatever the volume's depth; `procedure.keep` holds them all.
    """
    procedure = procedure or Procedure()
    if tuple(procedure.scales) != (1.0,):
        raise UsageError(f"scales {procedure.scales} are for pictures; leave them out for volumes")
    prepared = prepare_volume(volume, preprocess)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    look = looker(net, prepared.pixels, procedure, preprocess.multiple, device)
    tile = tile_for(prepared.valid, procedure, preprocess)
    slabs = ((s.start, s.values) for s in look_in_tiles(look, prepared.valid, tile, procedure.overlap))
    labels, kept, count = [], [], 0
    for maps in restored(slabs, prepared.valid, prepared.original):
        labels.append(labels_of(maps[None])[0])
        count = len(maps)
        if procedure.keep:
            kept.append(maps)
    return LabelMap(
        labels=torch.cat(labels),
        classes=named(classes, count),
        colours=tuple((r, g, b) for r, g, b in colours),
        probabilities=torch.cat(kept, dim=1) if kept else None,
        name=name,
        image=volume.array,
        spacing=volume.spacing,
        affine=volume.affine,
    )


def tile_for(size: Size, procedure: Procedure, preprocess: Preprocess) -> Size:
    """The tile: as asked, else what the network was trained on, else 96 voxels a side where the whole is too large."""
    if procedure.tile == 0:
        return size
    if procedure.tile is not None:
        tile = (procedure.tile,) * 3
    elif len(preprocess.tile) == 3:
        tile = tuple(preprocess.tile)
    else:
        tile = size if math.prod(size) <= WHOLE else (96, 96, 96)
    return min(tile[0], size[0]), min(tile[1], size[1]), min(tile[2], size[2])


def looker(
    net: Any, pixels: Tensor, procedure: Procedure, multiple: int, device: torch.device
) -> Callable[[Sequence[slice]], Tensor]:
    """A function: the place of a tile -> class probabilities `(K, *tile)`, the mean over mirrored views.

    Unpadded networks are shown what really surrounds a tile; beyond the volume stands its mirror image.
    """
    margin = getattr(net, "margin", 0)
    multilabel = bool(getattr(net, "multilabel", False))

    def look(where: Sequence[slice]) -> Tensor:
        shape = [s.stop - s.start for s in where]
        if margin:
            sides = [net.legal_size(n) for n in shape]
        else:
            sides = [-(-n // multiple) * multiple for n in shape]
        x = as_float(window(pixels, [s.start - margin for s in where], sides))[None].to(device)
        total: Tensor | None = None
        for axes in FLIPS[procedure.flips]:
            seen = net(x.flip(axes) if axes else x).logits.float()
            seen = probabilities(seen.flip(axes) if axes else seen, multilabel=multilabel)
            total = seen if total is None else total.add_(seen)
        assert total is not None
        found = total[0].div_(len(FLIPS[procedure.flips])) if len(FLIPS[procedure.flips]) > 1 else total[0]
        return found[:, : shape[0], : shape[1], : shape[2]].cpu()

    return look


def look_in_tiles(look: Callable[[Sequence[slice]], Tensor], size: Size, tile: Size, overlap: float) -> Iterator[Slab]:
    """Finished slabs of the blended answer, in order."""
    yield from blend(((where, look(where)) for where in tiles(size, tile, overlap)), size, tile)
