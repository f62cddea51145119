"""A network of your own, by the contract: three verbs, a builder, an entry; then every verb of sightline takes it.

    python examples/custom_entry.py

An installed package gives it a name that the command line knows too, with one line in its pyproject.toml:

    [project.entry-points."sightline.models"]
    dots = "yourpackage.dots:ENTRY"
"""

from pathlib import Path

from torch import Tensor, nn

import sightline as sl
from sightline.contracts import Entry
from sightline.datasets.moving import moving_shapes, write_pictures
from sightline.segmentation.contract import Scores, Target, decode
from sightline.segmentation.losses import Criterion


class Dots(nn.Module):
    """Four convolutions that see further and further: `(B, 3, H, W)` in [0, 1] to `(B, K, H, W)`."""

    def __init__(self, num_classes: int, width: int = 24, *, criterion: Criterion | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k, rate in enumerate((1, 2, 4, 8)):
            layers += [
                nn.Conv2d(width if k else 3, width, 3, padding=rate, dilation=rate),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.see = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.criterion = criterion or Criterion()

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See."""
        return Scores(self.head(self.see(2 * images - 1)))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn."""
        return self.criterion(out, targets)

    decode = staticmethod(decode)  # say: one label map a picture


def dots(num_classes: int = 2, *, width: int = 24) -> Dots:
    """The builder: plain values in, a network out. Its signature is the configuration."""
    return Dots(num_classes, width)


ENTRY = Entry(f"{__name__}:dots", "segmentation", "none, an example", 16_538)


def main(folder: str = "runs/dots", steps: int = 200, pictures: int = 32, **options: object) -> float:
    """Train on moving shapes below `folder`; the share of pixels that are right in a clip not trained on."""
    data = write_pictures(Path(folder) / "data", train=pictures, val=max(1, pictures // 4))
    run = sl.train(ENTRY, data, run=Path(folder) / "run", steps=steps, say=print, **options)
    print(run)

    network = sl.load(run.folder, entry=ENTRY)
    clip = list(moving_shapes(frames=8, seed=1))
    answers = sl.predict(network, [frame.image for frame in clip])
    right = [(answer.labels.numpy() == frame.labels).mean() for frame, answer in zip(clip, answers)]
    share = float(sum(right) / len(right))
    print(f"a clip it has not seen: {share:.1%} of the pixels right")
    return share


if __name__ == "__main__":
    main()
