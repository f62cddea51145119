"""What the recurrent layer of a small LRCN is told of a frame."""

import pytest
import torch

from sightline.errors import UsageError
from sightline.verbs.models import create


def test_the_parts_of_a_grid_are_the_mean_taken_apart() -> None:
    frame = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    one, two = (create("lrcn", num_classes=3, width=8, grid=grid).eval().frames for grid in (1, 2))
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        mean, parts = one(frame), two(frame).unflatten(1, (64, 4))
    assert (one.channels, two.channels) == (64, 256)
    assert torch.allclose(parts.mean(2), mean, atol=1e-6)
    assert not torch.allclose(parts[..., 0], parts[..., 3], atol=1e-3)


def test_no_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="grid 0 must be a whole number from 1"):
        create("lrcn", num_classes=3, grid=0)
