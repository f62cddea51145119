"""What is promised of volumes: memory while one is labelled in blended tiles, with many classes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import torch
from bench.harness import Row
from torch import Tensor, nn

SIDE, TILE, CLASSES = 256, 48, 40


def rows() -> Iterator[Row]:
    """Every promise of this file."""
    done = subprocess.run([sys.executable, "-m", "bench.volumes"], check=True, capture_output=True, text=True)
    found = re.search(r"before ([0-9.]+) MB, peak ([0-9.]+) MB", done.stdout)
    assert found, done.stdout
    before, peak = (float(word) for word in found.groups())
    slab = CLASSES * TILE * SIDE * SIDE * 4 / 1e6
    yield Row(
        f"peak memory: {SIDE}^3 volume, {CLASSES} classes, tiles of {TILE} with half overlap, one small convolution",
        f"{peak - before:.0f} MB beyond {before:.0f} MB before",
        f"one slab of all classes: {slab:.0f} MB",
        (slab + 200) / max(peak - before, 1.0),
        "-",
        f"{peak - before - slab:+.0f} MB beside the slab, promised at most 200 MB",
        "1",
        torch.get_num_threads(),
    )


class Small(nn.Module):
    """One convolution to all classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, CLASSES, 3, padding=1)

    def forward(self, images: Tensor) -> object:
        """Scores of every voxel."""
        from sightline.segmentation.contract import Scores

        return Scores(self.conv(images))


def main() -> None:
    """Label a made-up volume; say the memory before and at its peak."""
    from sightline.contracts import Preprocess
    from sightline.media.volume import Volume
    from sightline.segmentation.predict import Procedure
    from sightline.segmentation.volumes import answer_volume

    net = Small().eval()
    preprocess = Preprocess(intensity="zscore", channels=1, axes=3)
    little = Volume(np.zeros((8, 8, 8, 1), np.int16))
    answer_volume(net, little, preprocess=preprocess, procedure=Procedure(tile=8))  # loads all code
    volume = Volume(np.random.default_rng(0).integers(0, 1000, (SIDE, SIDE, SIDE, 1), dtype=np.int16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    found = answer_volume(net, volume, preprocess=preprocess, procedure=Procedure(tile=TILE))
    assert found.labels.shape == (SIDE, SIDE, SIDE)
    print(f"before {before:.1f} MB, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f} MB")


if __name__ == "__main__":
    main()
