"""Adaptive average pooling: the means of a loop, and the same means after export at another size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.ops.bins import average_bins, by_products, global_average


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 20), w=st.integers(1, 20), bins=st.integers(1, 7))
def test_cells_are_the_published_ones(h: int, w: int, bins: int) -> None:
    x = torch.randn(1, 2, h, w, dtype=torch.float64)
    answer = average_bins(x, bins)
    assert answer.shape == (1, 2, bins, bins)
    torch.testing.assert_close(by_products(x, bins), answer)  # what exported programs compute
    for i in range(bins):
        for j in range(bins):
            rows = slice(i * h // bins, math.ceil((i + 1) * h / bins))
            columns = slice(j * w // bins, math.ceil((j + 1) * w / bins))
            torch.testing.assert_close(answer[:, :, i, j], x[:, :, rows, columns].mean((2, 3)))


def test_single_precision_is_as_good_as_torchs_own() -> None:
    x = torch.randn(2, 16, 60, 45)
    for bins in (1, 2, 3, 6):
        torch.testing.assert_close(by_products(x, bins), torch.nn.functional.adaptive_avg_pool2d(x, bins))
    half = by_products(torch.full((1, 1, 60, 60), 30.0, dtype=torch.float16), 2)  # a sum would overflow
    torch.testing.assert_close(half, torch.full((1, 1, 2, 2), 30.0, dtype=torch.float16), rtol=2e-3, atol=0)


def test_global_average_of_signals_pictures_and_volumes() -> None:
    for space in ((5,), (5, 6), (2, 3, 4)):
        x = torch.randn(2, 3, *space)
        mean = global_average(x)
        assert mean.shape == (2, 3, *[1] * len(space))
        torch.testing.assert_close(mean.flatten(1), x.flatten(2).mean(2))


class Pyramid(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(average_bins(x, bins) for bins in (1, 2, 3, 6))


EXAMPLE = torch.randn(1, 2, 12, 18)
OTHERS = [(13, 17), (6, 6), (31, 8)]


def exported() -> torch.export.ExportedProgram:
    dim = torch.export.Dim.DYNAMIC
    return torch.export.export(Pyramid(), (EXAMPLE,), dynamic_shapes=({2: dim, 3: dim},))


def test_export_is_right_at_other_sizes() -> None:
    program = exported()
    for size in OTHERS:
        x = torch.randn(1, 2, *size)
        for ours, expected in zip(program.module()(x), Pyramid()(x)):
            torch.testing.assert_close(ours, expected)


@pytest.mark.slow
def test_onnx_is_right_at_other_sizes() -> None:
    import onnxruntime as ort

    model = torch.onnx.export(exported(), (EXAMPLE,), dynamo=True, verbose=False).model_proto
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in OTHERS:
        x = torch.randn(1, 2, *size)
        for ours, expected in zip(session.run(None, {session.get_inputs()[0].name: x.numpy()}), Pyramid()(x)):
            torch.testing.assert_close(torch.from_numpy(ours), expected)
