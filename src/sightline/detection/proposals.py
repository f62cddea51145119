"""Where proposals come from when no network makes them: Selective Search, a dense grid of windows, or a file.

A file of proposals is an `.npz`: the key of each picture (its path below the data set) and boxes `(N, 4)` as x0, y0,
x1, y1 in pixels of the picture, best first. MATLAB's files of R-CNN hold y0, x0, y1, x1 counted from 1: write anew.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.detection.regions import Proposals
from sightline.detection.selective_search import selective_search
from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.ops.anchors import cell_anchors, grid_anchors
from sightline.ops.boxes import clip_boxes, sized

Propose = Literal["selective_search", "dense"]


class Windows(nn.Module):
    """Windows of fixed sizes and shapes everywhere, half a window apart: no search, and nothing that cannot compile.

    sizes: square roots of areas in pixels. ratios: height / width. smallest: side below which a window, cut at the
    picture's border, is none.
    """

    def __init__(self, sizes: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0), smallest: float = 4) -> None:
        super().__init__()
        self.steps = tuple(max(1, round(size / 2)) for size in sizes)
        self.smallest = smallest
        cells = torch.stack([cell_anchors([size], ratios) for size in sizes])
        self.register_buffer("cells", cells, persistent=False)  # (S, A, 4)

    cells: Tensor

    def forward(self, images: Tensor, sizes: Tensor) -> Proposals:
        """Pictures `(B, C, H, W)`, of which `sizes` `(B, 2)` are valid; all scores are 0."""
        height, width = images.shape[-2:]
        grids = [
            grid_anchors(cell, height // step + 1, width // step + 1, (step, step))
            for cell, step in zip(self.cells, self.steps)
        ]
        boxes = clip_boxes(torch.cat(grids).expand(len(images), -1, -1), sizes)
        return Proposals(boxes, boxes.new_zeros(boxes.shape[:2]), sized(boxes, self.smallest))


class Searched(nn.Module):
    """Selective Search on each picture, outside of any graph.

    mode: as `selective_search` has it. most: boxes a picture. smallest: side of the smallest. remembered: pictures
    whose boxes are kept, so that training without augmentation searches each of them once.
    """

    def __init__(
        self, mode: Literal["fast", "quality"] = "fast", *, most: int = 2000, smallest: int = 8, remembered: int = 4096
    ) -> None:
        super().__init__()
        self.mode: Literal["fast", "quality"] = mode
        self.most, self.smallest, self.remembered = most, smallest, remembered
        self._known: OrderedDict[bytes, NDArray[np.int64]] = OrderedDict()

    def forward(self, images: Tensor, sizes: Tensor) -> Proposals:
        """Pictures `(B, C, H, W)` in [0, 1], of which `sizes` `(B, 2)` are valid."""
        if torch.compiler.is_compiling():
            raise UsageError(
                "Selective Search is no tensor program; export with proposals as an input, or build with propose=dense"
            )
        pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        found = [self.search(one[:h, :w]) for one, (h, w) in zip(pixels, sizes.tolist())]
        return padded(found, self.most, images.device)

    def search(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Boxes `(N, 4)` of `(H, W, C)` bytes."""
        rgb = np.ascontiguousarray(pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., [0, 0, 0]])
        key = hashlib.blake2b(rgb.data, digest_size=16, key=str(rgb.shape).encode()).digest()
        if key not in self._known:
            self._known[key] = selective_search(rgb, mode=self.mode, smallest=self.smallest)[: self.most]
            while len(self._known) > self.remembered:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def proposer(propose: Propose, *, mode: Literal["fast", "quality"], most: int, windows: Sequence[float]) -> nn.Module:
    """What a builder's value `propose` means."""
    if propose == "dense":
        return Windows(windows)
    if propose == "selective_search":
        return Searched(mode, most=most)
    raise UsageError(f"propose '{propose}' is unknown; choose from selective_search, dense")


def padded(boxes: Sequence[NDArray], most: int | None = None, device: torch.device | str = "cpu") -> Proposals:
    """Boxes `(N, 4)` a picture, best first, as one batch; `most`: of one picture."""
    rows = [torch.from_numpy(np.asarray(b, np.float32).reshape(-1, 4)[:most]) for b in boxes]
    length = max([1, *map(len, rows)])
    found = torch.zeros(len(rows), length, 4)
    valid = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        found[i, : len(row)], valid[i, : len(row)] = row, True
    scores = -torch.arange(length, dtype=torch.float32).expand(len(rows), -1)
    return Proposals(found.to(device), scores.to(device), valid.to(device))


def as_proposals(boxes: Tensor, sizes: Tensor, smallest: float = 1.0) -> Proposals:
    """Boxes `(B, P, 4)` that somebody else made; those without area are padding."""
    if boxes.ndim != 3 or boxes.shape[-1] != 4:
        raise UsageError(f"proposals of shape {tuple(boxes.shape)}; expected (pictures, boxes, 4)")
    boxes = clip_boxes(boxes.float(), sizes)
    return Proposals(boxes, boxes.new_zeros(boxes.shape[:2]), sized(boxes, smallest))


def write_proposals(path: str | Path, proposals: Mapping[str, NDArray]) -> Path:
    """Write `{picture's key: boxes (N, 4)}`."""
    arrays: dict[str, Any] = {key: np.asarray(b, np.float32).reshape(-1, 4) for key, b in proposals.items()}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return Path(path)


def read_proposals(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """The content of a file of proposals; `SightlineError` when it is none."""
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {key: np.asarray(content[key], np.float32) for key in content.files}
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror or error}; check the file") from error
    except Exception as error:  # a damaged archive fails in many ways
        raise SightlineError(f"{path} is no file of proposals ({error}); write it with write_proposals") from error
    for key, boxes in found.items():
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise SightlineError(f"{path}: the boxes of {key} have shape {boxes.shape}; expected (N, 4) finite numbers")
    return found


def search_all(
    pictures: Mapping[str, Callable[[], NDArray[np.uint8]]],
    out: str | Path,
    *,
    mode: Literal["fast", "quality"] = "fast",
    smallest: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Selective Search on every picture (`{key: read}`) into the file `out`."""
    found = {}
    for done, (key, read) in enumerate(pictures.items(), 1):
        found[key] = selective_search(read(), mode=mode, smallest=smallest)
        if progress is not None:
            progress(done, len(pictures))
    return write_proposals(out, found)
