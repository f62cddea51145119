"""Dataclasses of tensors as PyTorch trees, so that they compile, export and travel to devices."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Class = TypeVar("Class", bound=type)


def register_dataclass(cls: Class) -> Class:
    """Class decorator for the outputs of networks: makes a frozen dataclass a pytree (compile, export, DDP)."""
    torch.export.register_dataclass(cls, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}")
    return cls


def to_device(tree: Any, device: torch.device | str) -> Any:
    """A copy of nested dataclasses, dicts, lists and tuples (named ones too) whose tensors live on `device`."""
    if isinstance(tree, Tensor):
        return tree.to(device, non_blocking=True)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: to_device(getattr(tree, f.name), device) for f in fields(tree)})
    if isinstance(tree, dict):
        return {k: to_device(v, device) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(to_device(v, device) for v in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(to_device(v, device) for v in tree)
    return tree


def named_tensors(tree: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors of nested dataclasses and tuples by flat names: `logits`, `aux.0`, `aux.1`; None is left out."""
    if isinstance(tree, Tensor):
        return {name: tree}
    if is_dataclass(tree) and not isinstance(tree, type):
        parts = [(f.name, getattr(tree, f.name)) for f in fields(tree)]
    elif isinstance(tree, (list, tuple)):
        parts = [(str(i), part) for i, part in enumerate(tree)]
    else:
        return {}
    return {k: v for part, value in parts for k, v in named_tensors(value, f"{name}.{part}" if name else part).items()}
