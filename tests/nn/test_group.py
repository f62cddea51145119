"""Group normalisation: PyTorch's own, and an exported form that says the same."""

import pytest
import torch

from sightline.nn.group import GroupNorm


@pytest.mark.parametrize("size", [(5, 7), (4, 5, 6)])
def test_the_exported_form_is_pytorchs(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = GroupNorm(2, 6).eval()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, *size) + 4
    expected = torch.nn.functional.group_norm(x, 2, norm.weight, norm.bias)
    assert torch.equal(norm(x), expected)
    program = torch.export.export(norm, (x,)).module()
    torch.testing.assert_close(program(x), expected, rtol=1e-5, atol=1e-5)
    assert not any("group_norm" in str(node.target) for node in torch.export.export(norm, (x,)).graph.nodes)
