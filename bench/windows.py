"""Three ways to run a patch network over a picture, beside one patch around every pixel; one thread, equal answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from bench.harness import Row, race
from torch import Tensor, nn

from sightline.nn.patches import Way, answer_pixels, field_and_stride, run_dilated

SIDE = 64


def lenet() -> nn.Sequential:
    """conv5-pool2-conv5-pool2-conv5: field 32, stride 4."""
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 16, 5), nn.Conv2d(16, 8, 5)
    pools = nn.MaxPool2d(2), nn.MaxPool2d(2)
    return nn.Sequential(convs[0], nn.ReLU(), pools[0], convs[1], nn.ReLU(), pools[1], convs[2]).eval()


def rows() -> Iterator[Row]:
    """The cost table: how many times as fast as a patch around every pixel each way is, and how far from its answer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield from table()
    finally:
        torch.set_num_threads(threads)


def table() -> Iterator[Row]:
    """One row a way; the answers of all but the plain network must equal the patches' to the last bit."""
    net, x = lenet(), torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    field, stride = field_and_stride(net)

    def run(way: Way) -> Callable[[], Tensor]:
        return lambda: answer_pixels(net, lambda x: run_dilated(net, x), x, field=field, stride=stride, way=way)

    expected = run("patches")()
    told: tuple[tuple[Way, str], ...] = (
        ("stitch", f"shift-and-stitch, {stride * stride} shifted passes"),
        ("dilated", "strides removed, dilation"),
        ("strided", f"plain strided network, 1/{stride * stride} of the answers"),
    )
    for way, words in told:
        found = run(way)()
        same = expected[..., ::stride, ::stride] if way == "strided" else expected
        difference = float((found - same).abs().max())
        assert difference == 0 or (way == "strided" and difference < 1e-6), (way, difference)
        yield race(
            f"{words}; field {field}, {SIDE} x {SIDE}",
            run(way),
            run("patches"),
            names=(way, f"every {field} x {field} patch"),
            difference=f"largest difference {difference:.1e}",
            repeats=5,
        )
