"""Golden cases by their system: which entry and values, how the public file looks, where the arrays come from.

A case's sizes are read from its `config` and from the shapes of its schema, so that the same system at another size,
depth, width, class count or seed needs no new line here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.segmentation.contract import IGNORE, Target
from sightline.weights.keymap import KeyMap

Case = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """How to check one public system.

    entry: a case's description -> the name of our entry and the values for its builder. container: tensors -> what the
    public file holds. arrays: what our network returned -> the case's arrays by name (before any slice).
    taps: the public module's name -> ours, as templates of a key map.
    learned: network, what it returned, case -> arrays that stand for what it learns from (losses).
    places: the case's name of an array -> our module that gives it. transform: what was done to the public input that
    our network does inside (its `mean` is then among the entry's values). suffix: of the public file.
    feed: case, `fill.image` -> the pictures and the further inputs of `forward`, where there are any.
    hooks: case -> {array: (our module, what to make of its output)}, where `places` does not say enough.
    run: network, case, its arrays, `fill` -> every array of the case by name, for systems whose cases are more than one
    pass (two stages, raw pictures, losses); the other ways to name arrays are then not asked.
    """

    entry: Callable[[Case], tuple[str, dict[str, Any]]]
    container: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda tensors: tensors
    arrays: Callable[[Any], dict[str, Tensor]] = lambda out: {"logits": out.logits}
    taps: KeyMap = field(default_factory=lambda: KeyMap("taps", ()))
    learned: Callable[[Any, Any, Case], dict[str, Tensor]] = lambda net, out, case: {}
    places: Mapping[str, str] = field(default_factory=dict)
    transform: str = "none"
    suffix: str = ".pth"
    feed: Callable[[Case, Any], tuple[Tensor, dict[str, Tensor]]] | None = None
    hooks: Callable[[Case], Mapping[str, tuple[str, Callable[[Any], Tensor]]]] = lambda case: {}
    run: Callable[[Any, Case, Mapping[str, np.ndarray], Any], dict[str, Tensor]] | None = None


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


def _pspnet(case: Case) -> tuple[str, dict[str, Any]]:
    depths = [1 + largest(case, rf"module\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
    return "pspnet101" if depths[2] > 6 else "pspnet50", {
        "num_classes": shape(case, "module.cls.4.weight")[0],
        "in_channels": shape(case, "module.layer0.0.weight")[1],
        "depths": depths,
        "width": shape(case, "module.layer1.0.conv1.weight")[0],
        "channels": shape(case, "module.cls.4.weight")[1],
        "aux": "module.aux.4.weight" in case["schema"],
    }


def _two_losses(net: Any, out: Any, case: Case) -> dict[str, Tensor]:
    """Mean cross-entropy of the two heads, the auxiliary one before its factor; labels by the case's notes."""
    if "losses" not in case["outputs"]:
        return {}
    size = out.logits[:, 0].shape
    random, hidden = (
        torch.from_numpy(np.random.RandomState(case["input"]["seed"] + n).random_sample(size).astype(np.float32))
        for n in (1, 2)
    )
    labels = (random * out.logits.shape[1]).long().masked_fill(hidden < 0.1, IGNORE)
    found = net.losses(out, Target(labels))
    assert set(found) == {"ce", "aux_ce"}
    return {"losses": torch.stack([found["ce"], found["aux_ce"] / 0.4])}


_PSPNET = System(
    _pspnet,
    container=lambda tensors: {"epoch": 100, "state_dict": tensors, "optimizer": {}},
    arrays=lambda out: {"logits": out.logits, "main_logits": out.logits, "aux_logits": out.aux[0]},
    taps=KeyMap(
        "taps",
        (
            ("layer0", "backbone.maxpool"),
            ("layer{i}", "backbone.layer{i}"),
            ("ppm", "ppm"),
            ("cls", "cls"),
            ("aux", "aux"),
        ),
    ),
    learned=_two_losses,
)


def _plus(form: str, prefix: str, logits: str, joined: str) -> Callable[[Case], tuple[str, dict[str, Any]]]:
    """DeepLabv3+ on a ResNet; `prefix` of the backbone's names, the names of the last kernel and of the pyramid's."""

    def entry(case: Case) -> tuple[str, dict[str, Any]]:
        depths = [1 + largest(case, rf"{prefix}\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
        width, in_channels = shape(case, f"{prefix}.conv1.weight")[:2]
        stride = case["config"].get("output_stride") or case["config"].get("encoder_output_stride") or 16
        return f"deeplabv3plus_{form}_{'r101' if depths[2] > 6 or form == 'jfzhang95' else 'r50'}", {
            "num_classes": shape(case, logits)[0],
            "in_channels": in_channels,
            "depths": depths,
            "width": width,
            "output_stride": stride,
            "channels": shape(case, joined)[0],
        }

    return entry


_VAINF = System(
    _plus("vainf", "backbone", "classifier.classifier.3.weight", "classifier.aspp.project.0.weight"),
    container=lambda tensors: {"cur_itrs": 3, "model_state": tensors, "best_score": 0.5},
    taps=KeyMap(
        "taps",
        (
            ("backbone.{rest}", "backbone.{rest}"),
            ("classifier.aspp", "aspp"),
            ("classifier.project", "decoder.low"),
        ),
    ),
)
_JFZHANG95 = System(
    _plus("jfzhang95", "backbone", "decoder.last_conv.8.weight", "aspp.conv1.weight"),
    container=lambda tensors: {"epoch": 3, "state_dict": tensors, "best_pred": 0.5},
    taps=KeyMap("taps", (("backbone.{rest}", "backbone.{rest}"), ("aspp", "aspp"), ("decoder", "classifier"))),
)
_SMP_PLUS = System(
    _plus("smp", "encoder", "segmentation_head.0.weight", "decoder.aspp.0.project.0.weight"),
    taps=KeyMap("taps", (("encoder.{rest}", "backbone.{rest}"), ("decoder.aspp", "aspp"), ("decoder", "decoder"))),
)


def _google(case: Case) -> tuple[str, dict[str, Any]]:
    unit = "xception_65/middle_flow/block1/unit_{}/xception_module/separable_conv1_depthwise/depthwise_weights"
    return "deeplabv3plus_google_xception65", {
        "num_classes": shape(case, "logits/semantic/weights")[3],
        "in_channels": shape(case, "xception_65/entry_flow/conv1_1/weights")[2],
        "middle": sum(unit.format(n) in case["schema"] for n in range(1, 33)),
        "output_stride": case["config"]["output_stride"],
        "channels": shape(case, "concat_projection/weights")[3],
        "mean": (0.5, 0.5, 0.5),
    }


_GOOGLE = System(
    _google,
    container=lambda tensors: {**tensors, "global_step": torch.tensor(30000)},
    arrays=lambda out: {"logits_full": out.logits},
    taps=KeyMap("taps", (("low_level", "backbone.entry.1.convs.1"), ("concat_projection", "aspp.project"))),
    places={"logits": "classifier", "logits_corner": "classifier"},  # at a quarter of the picture's size
    transform="x * 255",
    suffix=".npz",
)
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

SYSTEMS |= {
    "PSPNet-50": _PSPNET,
    "PSPNet-101": _PSPNET,
    "PSPNet-50 with auxiliary head": _PSPNET,
    "PSPNet-101 with auxiliary head": _PSPNET,
    "DeepLabV3+ Xception-65 (Google, TensorFlow 1)": _GOOGLE,
    "DeepLabV3+ ResNet-50 (VainF)": _VAINF,
    "DeepLabV3+ ResNet-101 (VainF)": _VAINF,
    "DeepLabV3+ ResNet-101 (jfzhang95)": _JFZHANG95,
    "DeepLabV3+ ResNet-50 (segmentation_models.pytorch)": _SMP_PLUS,
    "DeepLabV3+ ResNet-101 (segmentation_models.pytorch)": _SMP_PLUS,
}


def _families() -> dict[str, System]:
    """The systems of every `systems_*.py` beside this file, whose function `systems(catalog)` takes this module."""
    found: dict[str, System] = {}
    for path in sorted(Path(__file__).parent.glob("systems_*.py")):
        spec = importlib.util.spec_from_file_location(f"golden_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))  # dataclasses look there
        spec.loader.exec_module(module)
        if hasattr(module, "systems"):  # a room with a runner of its own has none
            found |= module.systems(sys.modules[__name__])
    return found


SYSTEMS |= _families()


def system_named(words: str) -> System | None:
    """The system a case names: exactly, or by a pattern (`X3D-* (Feichtenhofer 2020), PySlowFast form`)."""
    return SYSTEMS.get(words) or next((SYSTEMS[key] for key in SYSTEMS if "*" in key and fnmatchcase(words, key)), None)


def known(path: Path) -> bool:
    """Is the case at `path` of a system that is here?"""
    return system_named(json.loads(path.read_text(encoding="utf-8")).get("system", "")) is not None


def our_module(system: System, array: str) -> str | None:
    """Our name of the module whose output the case stores as `tap.NAME`; None when there is no such module."""
    if array in system.places:
        return system.places[array]
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
