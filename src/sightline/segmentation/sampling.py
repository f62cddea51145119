"""Where to look and how much to mind: windows around rare classes, and U-Net's weights for narrow gaps.

Pictures and volumes alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.segmentation.contract import IGNORE
from sightline.segmentation.segments import regions


def window_with_class(
    labels: NDArray[np.integer], window: Sequence[int], rng: np.random.Generator
) -> tuple[int, ...] | None:
    """The start of a window of that size around a pixel of a class above 0; None when the labels hold none.

    The class is drawn first, each one that occurs alike, then one of its pixels (nnU-Net's foreground oversampling); it
    comes to lie in the middle half of the window wherever that stays inside. labels: `(H, W)` or `(D, H, W)`, or with
    an axis of classes before them (multi-label). A window larger than the labels begins where it would hold them all.
    """
    space = labels.shape[-len(window) :]
    if labels.ndim > len(window):
        planes = [np.flatnonzero(plane == 1) for plane in labels.reshape(-1, *space)]
        places = [found for found in planes if len(found)]
    else:
        present = [k for k in np.unique(labels).tolist() if k not in (0, IGNORE)]
        places = [np.flatnonzero(labels == present[int(rng.integers(len(present)))])] if present else []
    if not places:
        return None
    found = places[int(rng.integers(len(places)))]
    pixel = np.unravel_index(int(found[int(rng.integers(len(found)))]), space)
    start = []
    for at, size, have in zip(pixel, window, space):
        first, last = sorted((0, have - size))
        wanted = int(at) - int(rng.integers(size // 4, max(size // 4 + 1, -(-3 * size // 4))))
        start.append(min(max(wanted, first), last))
    return tuple(start)


def apart(labels: NDArray[np.uint8], objects: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Labels with a line of class 0, one pixel wide, between objects that touch with a face.

    objects: their numbers, 0 for none. U-Net's labels have such gaps, which its weights are made for.
    """
    cut = np.zeros(objects.shape, bool)
    for axis in range(objects.ndim):
        one = (slice(None),) * axis
        low, high = objects[(*one, slice(None, -1))], objects[(*one, slice(1, None))]
        touch = (low > 0) & (high > 0) & (low != high)
        cut[(*one, slice(1, None))] |= touch & (high > low)
        cut[(*one, slice(None, -1))] |= touch & (low > high)
    return np.where(cut, 0, labels).astype(labels.dtype)


def border_weights(labels: Tensor, *, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) at background pixels, 1 elsewhere (Ronneberger et al. 2015, eq. 2).

    d1 and d2 are the distances in pixels to the nearest and the second nearest object. Objects are the connected
    regions of classes above 0 in labels `(H, W)` or `(D, H, W)`; float32 of the same shape. What class weights are for
    (the paper's w_c) they do.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    ids = labels.cpu().numpy()
    objects = np.zeros(ids.shape, np.int32)
    for k in np.unique(ids):
        if k not in (0, IGNORE):
            objects += np.where(ids == k, regions(ids == k) + objects.max(), 0).astype(np.int32)
    first = np.full(ids.shape, np.inf, np.float32)
    second = first.copy()
    reach = int(np.ceil(4 * sigma)) + 1  # beyond it the weight is below w0 / 2980
    for number, box in enumerate(find_objects(objects), start=1):
        if box is None:
            continue
        near = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        distance = np.asarray(distance_transform_edt(objects[near] != number), np.float32)
        nearer = np.minimum(first[near], distance)
        second[near] = np.minimum(second[near], np.maximum(first[near], distance))
        first[near] = nearer
    with np.errstate(over="ignore"):
        extra = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return torch.from_numpy((1 + np.where(ids == 0, extra, 0)).astype(np.float32)).to(labels.device)
