"""How fast masks are pasted: 100 masks of a 1080p picture, against torchvision's way, the same pixels first.

python bench/masks.py                  prints the ratio of the medians of interleaved runs
"""

from __future__ import annotations

import argparse
import time

import torch

from sightline.instance.masks import BoxMasks


def scene(count: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of many sizes, and grids of probabilities that vary smoothly as a network's do."""
    random = torch.Generator().manual_seed(0)
    height, width = size
    centre = torch.rand(count, 2, generator=random) * torch.tensor([width, height])
    side = torch.exp(torch.rand(count, 2, generator=random) * 3 + 3)  # 20 to 400 pixels
    boxes = torch.cat([centre - side / 2, centre + side / 2], 1)
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    coarse = torch.rand(count, 1, 5, 5, generator=random)
    grids = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic").clamp(0, 1)
    return boxes, grids


def main() -> int:
    """Compare, measure, say."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    words = parser.parse_args()
    torch.set_num_threads(1)
    size = (1080, 1920)
    boxes, grids = scene(words.masks, size)
    naive = lambda: paste_masks_in_image(grids, boxes, size)  # noqa: E731
    ours = {
        "whole pixels (torchvision's rule)": lambda: BoxMasks(boxes, grids[:, 0], size, rule="whole").dense(),
        "pixel centres (detectron2's rule)": lambda: BoxMasks(boxes, grids[:, 0], size).dense(),
        "run lengths (torchvision's rule)": lambda: BoxMasks(boxes, grids[:, 0], size, rule="whole").runs(),
    }
    same = (naive()[:, 0] >= 0.5) == ours["whole pixels (torchvision's rule)"]()
    print(f"pixels that differ: {int((~same).sum())} of {same.numel()}")
    times: dict[str, list[float]] = {"torchvision": [], **{name: [] for name in ours}}
    for _ in range(words.rounds):
        for name, run in (("torchvision", naive), *ours.items()):
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    median = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    for name, value in median.items():
        print(f"{name}: {1000 * value:.0f} ms, {median['torchvision'] / value:.1f} times as fast")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
