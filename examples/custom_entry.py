"""A network of your own, by the contract: three verbs, a builder, an entry.

    python examples/custom_entry.py

Here it is created from its entry and trained by a loop written out, to see the three verbs at work. In an installed
package, one line in its pyproject.toml gives it a name that every verb of sightline knows:

    [project.entry-points."sightline.models"]
    dots = "yourpackage.dots:ENTRY"
"""

import torch
from torch import Tensor, nn

import sightline as sl
from sightline.contracts import Entry
from sightline.datasets.moving import CLASSES, moving_shapes
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


ENTRY = Entry(f"{__name__}:dots", "segmentation", "none, an example", 16_610)


def main(steps: int = 120, batch: int = 4) -> float:
    """Train on moving shapes and return the share of pixels that are right in a clip not trained on."""
    torch.manual_seed(0)
    net = sl.create(ENTRY, num_classes=len(CLASSES))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(steps):
        frames = [next(moving_shapes(frames=1, seed=step * batch + k)) for k in range(batch)]
        images = torch.stack([torch.from_numpy(f.image).permute(2, 0, 1) for f in frames]).float() / 255
        labels = torch.stack([torch.from_numpy(f.labels) for f in frames]).long()
        terms = net.losses(net(images), Target(labels))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:>3}  " + "  ".join(f"{name} {value.item():.3f}" for name, value in terms.items()))

    net.eval()
    right = []
    for frame in moving_shapes(frames=8, seed=10**6):
        with torch.no_grad():
            out = net(torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255)
        (answer,) = net.decode(out, classes=CLASSES)
        right.append((answer.labels.numpy() == frame.labels).mean())
    share = float(sum(right) / len(right))
    print(f"a clip it has not seen: {share:.1%} of the pixels right")
    return share


if __name__ == "__main__":
    main()
