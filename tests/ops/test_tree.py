"""Dataclasses of tensors travel to devices and through PyTorch's trees, compiler and exporter."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from sightline.contracts import Batch
from sightline.ops.tree import register_dataclass, to_device

Pair = namedtuple("Pair", ["first", "second"])


@register_dataclass
@dataclass(frozen=True)
class Out:
    logits: Tensor
    aux: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Plain:
    labels: Tensor
    note: str = "kept"
    deeper: Any = None


def _devices(tree: Any) -> set[str]:
    if isinstance(tree, Tensor):
        return {tree.device.type}
    if isinstance(tree, (Plain, Out, Batch)):
        tree = vars(tree)
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return set().union(*(_devices(v) for v in values))


def test_everything_nested_travels_and_the_rest_stays() -> None:
    x = torch.arange(4.0)
    tree = {"a": [x, (x, "word", None)], "b": Plain(x, deeper=Out(x, (x,))), "c": Pair(x, 3), "d": 2.5}
    moved = to_device(tree, "meta")
    assert _devices(moved) == {"meta"}
    assert _devices(tree) == {"cpu"}  # a copy: what was given is left alone
    assert moved["a"][1][1:] == ("word", None) and moved["d"] == 2.5
    assert type(moved["a"]) is list and type(moved["c"]) is Pair and moved["c"].second == 3
    assert isinstance(moved["b"], Plain) and moved["b"].note == "kept"
    assert isinstance(moved["b"].deeper, Out) and moved["b"].deeper.aux[0].shape == (4,)


def test_tensors_that_are_there_already_are_not_copied() -> None:
    x = torch.arange(4.0)
    assert to_device(Plain(x), "cpu").labels is x


def test_a_batch_travels_with_its_targets_sizes_and_inputs() -> None:
    x = torch.zeros(2, 3, 4, 4)
    batch = Batch(
        images=x, targets=Plain(x), sizes=torch.tensor([[4, 4], [3, 4]]), keys=("a", "b"), inputs={"depth": x}
    )
    moved = to_device(batch, torch.device("meta"))
    assert _devices(moved) == {"meta"}
    assert moved.keys == ("a", "b")


def test_a_class_is_not_mistaken_for_its_instance() -> None:
    assert to_device(Plain, "meta") is Plain


def test_a_registered_dataclass_is_a_tree_of_its_tensors() -> None:
    out = Out(torch.ones(2), (torch.zeros(1), torch.zeros(3)))
    leaves, spec = pytree.tree_flatten(out)
    assert [leaf.shape for leaf in leaves] == [(2,), (1,), (3,)]
    doubled = pytree.tree_unflatten([2 * leaf for leaf in leaves], spec)
    assert isinstance(doubled, Out) and torch.equal(doubled.logits, torch.full((2,), 2.0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Out:
        return Out(self.layer(x), (x,))


def test_a_registered_dataclass_compiles_and_exports() -> None:
    net, x = Net(), torch.rand(4, 3)
    compiled = torch.compile(net, fullgraph=True, backend="eager")(x)
    assert isinstance(compiled, Out) and torch.equal(compiled.logits, net(x).logits)
    exported = torch.export.export(net, (x,)).module()(x)
    assert isinstance(exported, Out) and torch.allclose(exported.logits, net(x).logits)


def test_a_class_that_is_no_dataclass_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="dataclass"):
        register_dataclass(type("NotOne", (), {}))
