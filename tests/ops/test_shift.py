"""Shifts along time and stacks of flow, against loops."""

from __future__ import annotations

import pytest
import torch

from sightline.ops.flow_stack import flow_stack, without_camera
from sightline.ops.shift import temporal_shift


@pytest.mark.parametrize("causal", [False, True])
def test_shift_is_the_loop(causal: bool) -> None:
    frames, fold = 4, 8
    x = torch.rand(2 * frames, 16, 3, 2)
    expected = x.clone()
    part = 16 // fold
    for n in range(len(x)):
        t = n % frames
        for c in range(part):
            if causal:
                expected[n, c] = x[n - 1, c] if t > 0 else 0
            else:
                expected[n, c] = x[n + 1, c] if t < frames - 1 else 0
                expected[n, part + c] = x[n - 1, part + c] if t > 0 else 0
    assert torch.equal(temporal_shift(x, frames, fold=fold, causal=causal), expected)


def test_flow_stack_interleaves_and_a_mirror_inverts_x() -> None:
    fields = torch.randint(0, 256, (10, 2, 4, 5), dtype=torch.uint8)
    stack, flipped = flow_stack(fields), flow_stack(fields, flip=True)
    assert stack.shape == (20, 4, 5) and stack.dtype is torch.float32
    for k in range(10):
        assert torch.equal(stack[2 * k], fields[k, 0].float() / 255)
        assert torch.equal(stack[2 * k + 1], fields[k, 1].float() / 255)
        assert torch.allclose(flipped[2 * k], (255 - fields[k, 0].flip(-1).float()) / 255, atol=1e-7)
        assert torch.equal(flipped[2 * k + 1], fields[k, 1].flip(-1).float() / 255)
    assert without_camera(stack).mean((-2, -1)).abs().max() < 1e-6
