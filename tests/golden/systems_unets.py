"""Golden cases of the U-Net family: which entry, which values, how the public file looks. Merged by `catalog.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Case = Mapping[str, Any]


def _shape(case: Case, name: str) -> list[int]:
    return case["schema"][name]


def _count(case: Case, pattern: str) -> int:
    """How many different numbers `pattern`'s group finds at the start of the schema's names."""
    return len({found[1] for name in case["schema"] if (found := re.match(pattern, name))})


def _transunet(case: Case) -> tuple[str, dict[str, Any]]:
    root = "transformer.embeddings."
    channels, layers = (
        _shape(case, root + "position_embeddings")[2],
        _count(case, r"transformer\.encoder\.layer\.(\d+)\."),
    )
    widths = [_shape(case, f"decoder.blocks.{i}.conv1.0.weight")[:2] for i in range(4)]
    values: dict[str, Any] = {
        "num_classes": _shape(case, "segmentation_head.0.weight")[0],
        "image_size": case["config"]["img_size"],
        "channels": channels,
        "layers": layers,
        "hidden": _shape(case, "transformer.encoder.layer.0.ffn.fc1.weight")[0],
        "head_channels": _shape(case, "decoder.conv_more.0.weight")[0],
        "decoder": [out for out, _ in widths],
    }
    if f"{root}hybrid_model.root.conv.weight" not in case["schema"]:
        values["in_channels"] = _shape(case, root + "patch_embeddings.weight")[1]
        return "transunet_vit_b16", values | {"heads": channels // 64}
    values["width"], values["in_channels"] = _shape(case, f"{root}hybrid_model.root.conv.weight")[:2]
    body = rf"{re.escape(root)}hybrid_model\.body\.block"
    values["depths"] = [_count(case, rf"{body}{b}\.unit(\d+)\.") for b in (1, 2, 3)]
    before = [values["head_channels"], *values["decoder"]]
    values["skips"] = sum(inside > have for (_, inside), have in zip(widths, before))
    values["heads"] = channels // 64
    return "transunet_r50_vit_l16" if channels == 1024 else "transunet_r50_vit_b16", values


def _attention_2d(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = _shape(case, "Conv1.conv.0.weight")[:2]
    return "attention_unet", {
        "num_classes": _shape(case, "Conv_1x1.weight")[0],
        "in_channels": in_channels,
        "width": width,
        "depth": _count(case, r"Conv(\d+)\.conv"),
    }


def _attention_3d(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = _shape(case, "conv1.conv1.0.weight")[:2]
    single = "attentionblock2.gate_block_2.theta.weight" not in case["schema"]
    return "attention_unet_3d_single" if single else "attention_unet_3d", {
        "num_classes": _shape(case, "final.weight")[0],
        "in_channels": in_channels,
        "width": width,
    }


def _resunet_a(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = _shape(case, "encoder.conv_first_normed.conv2d.weight")[:2]
    levels = _count(case, r"encoder\.Dn(\d+)\.")
    return f"resunet_a_d{levels}", {
        "num_classes": _shape(case, "logits.4.weight")[0],
        "in_channels": in_channels,
        "width": width,
    }


def _tasks(out: Any) -> dict[str, Any]:
    """The four answers under the case's names, before and after their activation."""
    scores = {"segmentation": out.logits, "boundary": out.boundary, "distance": out.distance, "colour": out.colour}
    many = out.logits.shape[1] > 1
    said = {
        name: map.softmax(1) if many and name in ("segmentation", "distance") else map.sigmoid()
        for name, map in scores.items()
    }
    return said | {f"logits_{name}": map for name, map in scores.items()}


def systems(catalog: Any) -> dict[str, Any]:
    """The family's rows, made with the classes of `catalog.py`."""
    transunet = catalog.System(
        _transunet,
        container=lambda tensors: {f"module.{name}": value for name, value in tensors.items()},
        taps=catalog.KeyMap(
            "taps",
            (
                ("transformer.embeddings.patch_embeddings", "transformer.patch"),
                ("transformer.encoder", "transformer.encoder"),
                ("decoder.blocks.{i}", "decoder.steps.{i}"),
            ),
        ),
    )
    attention_2d = catalog.System(
        _attention_2d,
        taps=catalog.KeyMap(
            "taps",
            (("Conv{i+1}", "levels.{i}"), ("Att{5-i}", "gates.{i}"), ("Att{5-i}.psi", "gates.{i}.psi")),
        ),
    )
    attention_3d = catalog.System(
        _attention_3d,
        taps=catalog.KeyMap(
            "taps",
            (("gating", "gating"), ("attentionblock{4-i}", "gates.{i}"), ("up_concat{4-i}", "ups.{i}")),
        ),
    )
    resunet_a = catalog.System(
        _resunet_a,
        arrays=_tasks,
        taps=catalog.KeyMap("taps", (("encoder.middle", "middle"), ("psp_2ndlast", "last"))),
        suffix=".npz",
    )
    return {
        "ResUNet-a d6 (conditioned multitask)": resunet_a,
        "ResUNet-a d7 (conditioned multitask)": resunet_a,
        "Attention U-Net 2D (LeeJunHyun)": attention_2d,
        "Attention U-Net 3D (official)": attention_3d,
        "TransUNet R50-ViT-B/16": transunet,
        "TransUNet R50-ViT-L/16": transunet,
        "TransUNet ViT-B/16": transunet,
    }
