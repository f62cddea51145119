"""Darknet's `.weights` files: numbers without names, in the order of the layers of a `.cfg`.

int32 major, minor, revision; then how many pictures were seen in training: uint64 from version 0.2 on, int32 before.
Then float32: for each layer its tensors, in the order that the network says (`darknet_tensors`). Files of versions
above 1000 hold fully connected weights transposed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError


@dataclass(frozen=True)
class Slot:
    """One tensor of a file: our name, its shape, and whether it is the matrix of a fully connected layer."""

    name: str
    shape: tuple[int, ...]
    connected: bool = False


def read_darknet(path: str | Path, slots: Sequence[Slot]) -> tuple[dict[str, Tensor], int]:
    """The tensors by our names, and how many pictures the network has seen; one sentence for a file of another size."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror or error}") from error
    wanted = sum(int(np.prod(slot.shape)) for slot in slots)
    if len(content) < 16:
        raise SightlineError(
            f"{path} holds {len(content)} bytes, too few for a darknet file: copy or download it again"
        )
    major, minor, _ = struct.unpack_from("<3i", content)
    new = major * 10 + minor >= 2 and abs(major) < 1000 and abs(minor) < 1000
    start = 20 if new else 16
    rest = len(content) - start
    if rest != 4 * wanted:
        raise SightlineError(
            f"{path} holds {rest / 4:g} numbers, this network takes {wanted}: build it from the .cfg that the file "
            "was trained with (the number of classes counts)"
        )
    (seen,) = struct.unpack_from("<Q" if new else "<i", content, 12)
    numbers = np.frombuffer(content, "<f4", offset=start)
    tensors, at = {}, 0
    for slot in slots:
        count = int(np.prod(slot.shape))
        values = numbers[at : at + count]
        turned = slot.connected and (major > 1000 or minor > 1000)
        values = values.reshape(slot.shape[::-1]).T if turned else values.reshape(slot.shape)
        tensors[slot.name] = torch.from_numpy(np.array(values, np.float32))
        at += count
    return tensors, int(seen)


def encode_darknet(tensors: Mapping[str, Tensor], slots: Sequence[Slot], *, seen: int = 0) -> bytes:
    """The bytes of a file, version 0.2.0."""
    parts = [struct.pack("<3iQ", 0, 2, 0, seen)]
    parts += [tensors[slot.name].detach().cpu().float().contiguous().numpy().astype("<f4").tobytes() for slot in slots]
    return b"".join(parts)
