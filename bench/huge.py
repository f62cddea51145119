"""Label one huge tiled TIFF and print the peak memory: python -m bench.huge FOLDER SIDE."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch

import sightline as sl
from sightline.verbs.predict import predict
from sightline.weights.card import Card


def main(folder: Path, side: int) -> None:
    """Write the picture tile by tile, label it, say what it took."""
    path = folder / f"huge-{side}.tif"
    tile = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    count = (-(-side // 256)) ** 2
    tiles = (tile for _ in range(count))
    tifffile.imwrite(
        path,
        tiles,
        shape=(side, side),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="minisblack",
        compression="deflate",
    )
    torch.manual_seed(0)
    net = sl.create("unet", num_classes=2, width=2, depth=3).eval()
    card = Card(model="unet", task="segmentation", classes=("one", "other"))
    for answer in predict((net, card), str(path), out=folder / "answers", tile=512, overlap=0.25):
        print(answer.to_dict())
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
