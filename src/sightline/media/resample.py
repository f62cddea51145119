"""From a volume of any origin to a network's input, and from the network's maps back to the volume's own grid.

The same rules as of pictures (`media/prepare.py`), for three axes: the intensity of the whole volume, a channel at a
time, then the grid. `resize="spacing(Z, Y, X)"` brings volumes of different machines to the same millimetres between
voxels; answers go back slab by slab, so that no probabilities of a whole volume are ever held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.prepare import _parse, intensity
from sightline.media.volume import Volume
from sightline.ops.resize import resize

Size = tuple[int, int, int]


@dataclass(frozen=True)
class PreparedVolume:
    """A volume as the network wants it, and what it takes to map answers back."""

    pixels: Tensor  # (C, d, h, w) uint8 or float32
    original: Size  # of the file's own grid

    @property
    def valid(self) -> Size:
        """Depth, height and width that the network looks at."""
        depth, height, width = self.pixels.shape[1:]
        return depth, height, width


def prepare_volume(volume: Volume, preprocess: Preprocess) -> PreparedVolume:
    """Apply `preprocess`: intensity, channels, grid."""
    pixels = volume_intensity(volume, preprocess.intensity)
    if len(pixels) != preprocess.channels:
        raise UsageError(
            f"the volume has {len(pixels)} channels and the network takes {preprocess.channels}: "
            f"create the network with in_channels={len(pixels)}"
        )
    size = target_grid(volume.size, volume.spacing, preprocess.resize)
    if size != volume.size:
        pixels = to_grid(pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels, size)
    return PreparedVolume(pixels, volume.size)


def volume_intensity(volume: Volume, rule: str) -> Tensor:
    """The voxels `(C, D, H, W)` by an intensity rule of `Preprocess`: uint8 or float32, see `prepare.intensity`."""
    depth, height, width, channels = volume.array.shape
    flat = intensity(volume.array.reshape(depth * height, width, channels), rule)
    return flat.unflatten(1, (depth, height))


def target_grid(size: Sequence[int], spacing: Sequence[float], rule: str) -> Size:
    """Depth, height and width of a volume after the resize `rule` (`none` or `spacing(Z, Y, X)`)."""
    wanted = spacing_rule(rule)
    if wanted is None:
        depth, height, width = size
    else:
        depth, height, width = (max(1, round(n * s / w)) for n, s, w in zip(size, spacing, wanted))
    return depth, height, width


def spacing_rule(rule: str) -> tuple[float, float, float] | None:
    """The millimetres of `spacing(Z, Y, X)`, None for `none`. Raises `UsageError` for any other rule."""
    name, words = _parse(rule, {"none": 0, "spacing": 3}, "resize")
    numbers = [float(w) for w in words]
    if any(n <= 0 for n in numbers):
        raise UsageError(f"the resize rule '{rule}' needs millimetres above 0, for example spacing(3, 1, 1)")
    return None if name == "none" else (numbers[0], numbers[1], numbers[2])


def to_grid(x: Tensor, size: Sequence[int]) -> Tensor:
    """Voxels `(C, D, H, W)` float at another size; axes that shrink are averaged, the others interpolated linearly."""
    smaller = [min(n, m) for n, m in zip(x.shape[1:], size)]
    x = resize(x[None], smaller, rule="area") if smaller != list(x.shape[1:]) else x[None]
    return (resize(x, size) if smaller != list(size) else x)[0]


def labels_to_grid(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels `(D, H, W)` at another size: each voxel takes the label at its centre."""
    return resize(labels[None, None], size, rule="nearest_exact")[0, 0] if labels.shape != tuple(size) else labels


def restored(slabs: Iterable[tuple[int, Tensor]], valid: Sequence[int], original: Sequence[int]) -> Iterator[Tensor]:
    """The maps of the valid grid on the original one, slab by slab: what `resize(maps, original)` gives as a whole.

    slabs: `(first slice, (K, n, h, w))` in order, without gaps. Yields `(K, m, H, W)` in order. Two slices of the
    valid grid are held.
    """
    if tuple(valid) == tuple(original):
        yield from (values for _, values in slabs)
        return
    depth, total = valid[0], original[0]
    looked = [min(max((i + 0.5) * depth / total - 0.5, 0.0), depth - 1.0) for i in range(total)]
    kept: dict[int, Tensor] = {}
    done = 0
    for first, values in slabs:
        for offset in range(values.shape[1]):
            here = first + offset
            kept[here] = resize(values[None, :, offset], original[1:])[0]
            kept.pop(here - 2, None)
            while done < total and min(int(looked[done]) + 1, depth - 1) <= here:
                low = int(looked[done])
                share = looked[done] - low
                below, above = kept[low], kept[min(low + 1, depth - 1)]
                yield (below if share == 0 else below + (above - below) * share)[:, None]
                done += 1
