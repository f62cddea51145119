"""Answer a picture that is too large to be looked at in one piece.

    python -m sightline demo && python examples/tiles.py

Tiles overlap and their probabilities are blended, so no seams are seen. Pictures above 4 megapixels are cut into tiles
unasked; `flips="hv"` looks at each tile four times, mirrored, and averages.
"""

import numpy as np

import sightline as sl
from sightline.datasets.bundled import bundled
from sightline.media.image import read_image


def mosaic(rows: int, columns: int) -> np.ndarray:
    """A large picture, put together from the bundled grey ones of 256 x 256 pixels."""
    pictures = [read_image(path) for path in sorted((bundled("nuclei") / "images" / "train").glob("*.png"))]
    pictures = [p for p in pictures if p.shape == (256, 256, 1)][: rows * columns]
    return np.concatenate([np.concatenate(pictures[k * columns : (k + 1) * columns], axis=1) for k in range(rows)])


def main(run: str = "runs/demo", rows: int = 4, columns: int = 5, tile: int = 256) -> None:
    """Answer the mosaic whole, in tiles, and in tiles with mirrored views."""
    large = mosaic(rows, columns)
    network = sl.load(run)
    (whole,) = sl.predict(network, large, tile=0)
    (tiled,) = sl.predict(network, large, tile=tile)
    (mirrored,) = sl.predict(network, large, tile=tile, flips="hv")
    print(f"{large.shape[0]} x {large.shape[1]} pixels")
    for name, other in (("in tiles", tiled), ("in tiles, mirrored", mirrored)):
        same = (whole.labels == other.labels).float().mean().item()
        print(f"{name}: {same:.2%} of the pixels as when looked at whole")


if __name__ == "__main__":
    main()
