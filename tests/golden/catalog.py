"""Golden cases by their system: which entry and values, how the public file looks, where the arrays come from.

A case's sizes are read from its `config` and from the shapes of its schema, so that the same system at another size,
depth, width, class count or seed needs no new line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.weights.keymap import KeyMap

Case = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """How to check one public system.

    entry: a case's description -> the name of our entry and the values for its builder. container: tensors -> what the
    public file holds. arrays: what our network returned -> the case's arrays by name (before any slice).
    taps: the public module's name -> ours, as templates of a key map.
    """

    entry: Callable[[Case], tuple[str, dict[str, Any]]]
    container: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda tensors: tensors
    arrays: Callable[[Any], dict[str, Tensor]] = lambda out: {"logits": out.logits}
    taps: KeyMap = field(default_factory=lambda: KeyMap("taps", ()))


def shape(case: Case, name: str) -> list[int]:
    """The shape of the tensor called `name` in the case's schema."""
    return case["schema"][name]


def largest(case: Case, pattern: str) -> int:
    """The largest number that `pattern`'s group finds at the start of the schema's names."""
    return max(int(found[1]) for name in case["schema"] if (found := re.match(pattern, name)))


def _unet_same(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = shape(case, "inc.double_conv.0.weight")[:2]
    return "unet_same_bilinear" if case["config"]["bilinear"] else "unet_same", {
        "num_classes": shape(case, "outc.conv.weight")[0],
        "in_channels": in_channels,
        "width": width,
        "depth": 1 + largest(case, r"down(\d+)\."),
    }


def _unet_valid(case: Case) -> tuple[str, dict[str, Any]]:
    config = case["config"]
    if config["padding"] or config["batch_norm"] or config["up_mode"] != "upconv":
        raise LookupError("only the paper's form (no padding, no batch norm, learned up-convolution) is here")
    return "unet_valid", {
        "num_classes": config["n_classes"],
        "in_channels": config["in_channels"],
        "width": 2 ** config["wf"],
        "depth": config["depth"],
    }


def _fcn(name: str) -> Callable[[Case], tuple[str, dict[str, Any]]]:
    groups = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    return lambda case: (
        name,
        {
            "num_classes": case["config"]["n_class"],
            "in_channels": shape(case, "conv1_1.weight")[1],
            "widths": [shape(case, f"{group}.weight")[0] for group in groups],
            "hidden": shape(case, "fc6.weight")[0],
        },
    )


def _trained(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A file of pytorch-fcn's trainer."""
    return {"epoch": 3, "iteration": 1000, "arch": "FCN", "best_mean_iu": 0.6, "model_state_dict": tensors}


def _torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    """Any of torchvision's FCN and DeepLabv3: backbone and sizes are read from the schema."""
    paper = "deeplabv3" if "classifier.0.project.0.weight" in case["schema"] else "fcn"
    values: dict[str, Any] = {"num_classes": case["config"]["num_classes"], "aux": case["config"]["aux_loss"]}
    if paper == "deeplabv3":
        values["channels"] = shape(case, "classifier.0.project.0.weight")[0]
    if "backbone.layer1.0.conv1.weight" not in case["schema"]:
        return f"{paper}_torchvision_mobilenet_v3_large", {
            **values,
            "in_channels": shape(case, "backbone.0.0.weight")[1],
        }
    values["width"], values["in_channels"] = shape(case, "backbone.conv1.weight")[:2]
    values["depths"] = [1 + largest(case, rf"backbone\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
    return f"{paper}_torchvision_{'r101' if values['depths'][2] > 6 else 'r50'}", values


def _two_heads(out: Any) -> dict[str, Tensor]:
    """torchvision's names for the logits."""
    return {"out": out.logits, **({"aux": out.aux[0]} if out.aux else {})}


_FCN_TAPS = KeyMap(
    "taps", (("pool4", "backbone.features.23"), ("score_{rest}", "score_{rest}"), ("upscore{rest}", "upscore{rest}"))
)
_TORCHVISION = System(_torchvision, arrays=_two_heads, taps=KeyMap("taps", (("{rest}", "{rest}"),)))

SYSTEMS: dict[str, System] = {
    "U-Net (padded, milesial)": System(
        _unet_same,
        container=lambda tensors: {**tensors, "mask_values": [0, 255]},
        taps=KeyMap(
            "taps", (("inc", "contract.levels.0"), ("down{i}", "contract.levels.{i}"), ("up{i+1}", "expand.{i}"))
        ),
    ),
    "U-Net (2015, unpadded)": System(
        _unet_valid,
        taps=KeyMap("taps", (("down_path.{i}", "contract.levels.{i}"), ("up_path.{i}", "expand.{i}"))),
    ),
    "FCN-32s (VGG16)": System(_fcn("fcn32s"), taps=_FCN_TAPS),
    "FCN-16s (VGG16)": System(_fcn("fcn16s"), container=_trained, taps=_FCN_TAPS),
    "FCN-8s (VGG16)": System(_fcn("fcn8s"), container=_trained, taps=_FCN_TAPS),
    "FCN-8s at once (VGG16)": System(_fcn("fcn8s_atonce"), container=_trained, taps=_FCN_TAPS),
    "FCN ResNet-50 (torchvision)": _TORCHVISION,
    "FCN ResNet-101 (torchvision)": _TORCHVISION,
    "DeepLabV3 ResNet-50 (torchvision)": _TORCHVISION,
    "DeepLabV3 ResNet-101 (torchvision)": _TORCHVISION,
    "DeepLabV3 MobileNetV3-Large (torchvision)": _TORCHVISION,
}


def known(path: Path) -> bool:
    """Is the case at `path` of a system that is here?"""
    return json.loads(path.read_text(encoding="utf-8")).get("system") in SYSTEMS


def our_module(system: System, array: str) -> str | None:
    """Our name of the module whose output the case stores as `tap.NAME`; None when there is no such module."""
    if not array.startswith("tap."):
        return None
    public = array.removeprefix("tap.")
    found = system.taps.read({public: torch.zeros(())}, AnyName())
    return next(iter(found.ours), None)


class AnyName(dict[str, tuple[int, ...]]):
    """Holds every name: module names are translated without a network at hand."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return ()
