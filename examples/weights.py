"""Weights in and out under the names of a public implementation.

    python examples/weights.py

The padded U-Net is written as a public file of that layout (milesial/Pytorch-UNet) would be, read back into a fresh
network, and then into one with another number of classes, which keeps its own head and says so.
"""

from pathlib import Path

import torch

import sightline as sl


def main(folder: str = "runs/weights", width: int = 64) -> None:
    """Write a file below `folder` and load it twice."""
    net = sl.create("unet_same", num_classes=2, width=width)
    file = sl.save_weights(net, Path(folder) / "milesial.pth", layout="milesial")

    again = sl.create("unet_same", num_classes=2, width=width)
    print(sl.load_weights(again, file))
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        difference = (net.eval()(picture).logits - again.eval()(picture).logits).abs().max().item()
    print(f"largest difference of the answers: {difference}")

    print(sl.load_weights(sl.create("unet_same", num_classes=7, width=width), file))


if __name__ == "__main__":
    main()
