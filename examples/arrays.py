"""Answer NumPy arrays: no files, any bit depth, any size.

    python -m sightline demo && python examples/arrays.py

An array is `(H, W)` or `(H, W, C)`. What its values mean, the run's card says. Here they are scaled, so a picture
has the same answer in 8 and in 16 bits.
"""

import numpy as np

import sightline as sl
from sightline.datasets.bundled import bundled
from sightline.media.image import read_image


def main(run: str = "runs/demo") -> None:
    """Answer a picture in three forms with the network of `run`."""
    path = sorted((bundled("nuclei") / "images" / "test").glob("*.png"))[0]
    eight = read_image(path)  # (H, W, C) uint8
    sixteen = eight.astype(np.uint16) * 257
    corner = eight[:91, :77]  # any size will do

    network = sl.load(run)
    first, second, third = sl.predict(network, [eight, sixteen, corner])
    same = (first.labels == second.labels).float().mean().item()
    print(f"8 and 16 bits agree on {same:.1%} of the pixels")
    print(f"the corner: {tuple(third.labels.shape)} pixels, {third.pixels}")
    print(f"probabilities: {tuple(first.probabilities.shape)}, mean {first.probabilities.mean():.3f}")


if __name__ == "__main__":
    main()
