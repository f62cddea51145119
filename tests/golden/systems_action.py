"""Golden cases of clips: which entry, which values, how the public file looks. Merged by `catalog.py`."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Case = Mapping[str, Any]
Hooks = dict[str, tuple[str, Callable[[Any], Tensor]]]


def transformed(x: np.ndarray, words: str) -> np.ndarray:
    """`x` after what a case says was done to it: arithmetic of `x` and numbers, such as "(x - 0.45) / 0.225"."""
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and type(node.op) in operators:
            return operators[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return np.float32(node.value)
        if isinstance(node, ast.Name) and node.id == "x":
            return x
        raise LookupError(f"'{words}' is more than arithmetic of x")

    return value(ast.parse(words, mode="eval").body)


def fed(case: Case, image: Any, about: Mapping[str, Any] | None = None) -> Tensor:
    """The input as the public network saw it, in the public layout."""
    about = about or case["input"]
    return torch.from_numpy(transformed(image(about["seed"], tuple(about["shape"])), about["transform"]))


def clips(case: Case, image: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs that are `(B, C, T, H, W)` already."""
    return fed(case, image), {}


def axes(*order: int) -> Callable[[Case, Any], tuple[Tensor, dict[str, Tensor]]]:
    """Inputs whose axes are brought into the order `(B, C, T, H, W)`."""
    return lambda case, image: (fed(case, image).permute(order).contiguous(), {})


def stacked(case: Case, image: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs `(B, T * 3, H, W)`, the frames of a clip beside each other."""
    return fed(case, image).unflatten(1, (-1, 3)).transpose(1, 2).contiguous(), {}


def same(x: Tensor) -> Tensor:
    return x


def shape(case: Case, name: str) -> list[int]:
    return case["schema"][name]


def count(case: Case, pattern: str) -> int:
    """How many different numbers the group of `pattern` finds at the start of the schema's names."""
    return len({found[1] for name in case["schema"] if (found := re.match(pattern, name))})


def asked(case: Case, name: str) -> bool:
    return name in case["outputs"]


# 3-D convolution -------------------------------------------------------------------------------------------------


def c3d(case: Case) -> tuple[str, dict[str, Any]]:
    pool5 = case["config"]["pool5"]
    _, _, *size = case["input"]["shape"]
    return "c3d_pad" if pool5 == "pad" else "c3d", {
        "num_classes": shape(case, "fc8.weight")[0],
        "in_channels": shape(case, "conv1.weight")[1],
        "widths": [shape(case, f"{layer}.weight")[0] for layer in ("conv1", "conv2", "conv3a", "conv4a", "conv5a")],
        "hidden": shape(case, "fc6.weight")[0],
        "frames": size[0],
        "size": size[1:],
        **({"pool5": pool5} if pool5 != "pad" else {}),
    }


def c3d_hooks(case: Case) -> Hooks:
    found: Hooks = {f"pool{n}": (f"pool{n}", same) for n in range(1, 6)}
    return found | {"fc6": ("fc6", torch.relu), "fc7": ("fc7", torch.relu)}


def with_probabilities(out: Any) -> dict[str, Tensor]:
    """Logits, and what the public forward makes of them: of parts the mean of their softmax."""
    parts = out.logits.unsqueeze(1) if out.parts is None else out.parts
    return {"logits": out.logits, "prob": parts.softmax(-1).mean(1)}


def video_resnet(case: Case) -> tuple[str, dict[str, Any]]:
    """torchvision's and VMZ's ResNets over clips; the kind is read from the shapes."""
    schema, where = case["schema"], case["source"]["repository"]
    values = {
        "num_classes": shape(case, "fc.weight")[0],
        "in_channels": shape(case, "stem.0.weight")[1],
        "depths": [count(case, rf"layer{i}\.(\d+)\.") for i in range(1, 1 + count(case, r"layer(\d+)\."))],
        "width": shape(case, "layer1.0.conv1.1.weight")[0],
    }
    if "layer1.0.conv3.0.weight" in schema:
        kind = "ip" if "layer1.0.conv2.0.0.weight" in schema else "ir"
        return f"csn_{kind}_{'152' if values['depths'][2] > 6 else '50'}", values
    if "stem.3.weight" in schema:
        return ("r2plus1d_34_vmz" if "VMZ" in where else "r2plus1d_18_tv"), values
    return ("mc3_18_tv" if shape(case, "layer2.0.conv1.0.weight")[2] == 1 else "r3d_18_tv"), values


def video_resnet_hooks(case: Case) -> Hooks:
    return {name: (name, same) for name in ("stem", "layer1", "layer2", "layer3", "layer4", "avgpool")}


def i3d(case: Case) -> tuple[str, dict[str, Any]]:
    channels = shape(case, "Conv3d_1a_7x7.conv3d.weight")[1]
    return "i3d_flow" if channels == 2 else "i3d_rgb", {
        "num_classes": shape(case, "logits.conv3d.weight")[0],
        "in_channels": channels,
    }


def i3d_hooks(case: Case) -> Hooks:
    found: Hooks = {name: (name, same) for name in case["outputs"] if name != "logits"}
    return found | {"logits": ("logits", lambda x: x.squeeze(4).squeeze(3))}


def s3d(case: Case) -> tuple[str, dict[str, Any]]:
    return "s3d_tv", {
        "num_classes": shape(case, "classifier.1.weight")[0],
        "in_channels": shape(case, "features.0.0.0.weight")[1],
    }


def s3d_hooks(case: Case) -> Hooks:
    return {name: (name.replace("_", "."), same) for name in case["outputs"] if name.startswith("features_")}


def psf_depths(case: Case) -> list[int]:
    return [count(case, rf"s{k}\.pathway0_res(\d+)\.") for k in (2, 3, 4, 5)]


def times(case: Case, name: str) -> list[list[int]]:
    """The temporal kernel of every block, `name` with {k} and {b} in it."""
    found = []
    for k in (2, 3, 4, 5):
        rows = []
        while (key := name.format(k=k, b=len(rows))) in case["schema"]:
            rows.append(shape(case, key)[2])
        found.append(rows)
    return found


def limits(case: Case, name: str) -> list[tuple[int, int]] | None:
    """How many blocks of each stage filter time, when not all of them do; `name` has {p}, {k} and {b} in it."""
    slow, fast = ([[t > 1 for t in row] for row in times(case, name.replace("{p}", str(p)))] for p in (0, 1))
    if all(len(set(row)) <= 1 for row in (*slow, *fast)):
        return None
    return [(sum(a) if any(a) else len(a), sum(b)) for a, b in zip(slow, fast)]


def slowfast_psf(case: Case) -> tuple[str, dict[str, Any]]:
    """Any SlowFast of PySlowFast; alpha is read from the words of its yaml."""
    four = "4x16" in case["config"].get("yaml", "") + case["system"]
    alpha = next((o[1] for o in _pairs(case) if o[0] == "SLOWFAST.ALPHA"), 8 if four else 4)
    width = shape(case, "s1.pathway0_stem.conv.weight")[0]
    values = {
        "num_classes": shape(case, "head.projection.weight")[0],
        "in_channels": shape(case, "s1.pathway0_stem.conv.weight")[1],
        "depths": psf_depths(case),
        "width": width,
        "alpha": alpha,
        "beta": width // shape(case, "s1.pathway1_stem.conv.weight")[0],
        "kernel": shape(case, "s1_fuse.conv_f2s.weight")[2],
    }
    if not four:
        values["limits"] = limits(case, "s{k}.pathway{p}_res{b}.branch2.a.weight")
    return "slowfast_4x16_psf" if four else "slowfast_8x8_psf", values


def _pairs(case: Case) -> list[tuple[str, Any]]:
    options = case["config"].get("options", [])
    return list(zip(options[::2], options[1::2]))


def slowfast_psf_hooks(case: Case) -> Hooks:
    found: Hooks = {"positions": ("head.projection", same)}
    for p, name in enumerate(("slow", "fast")):
        found[f"s1_{name}"] = (f"s1.pathway{p}_stem", same)
        for k in (2, 3, 4, 5):
            found[f"s{k}_{name}"] = (f"s{k}", lambda out, p=p: out[p])
    return found


def slowfast_ptv(case: Case) -> tuple[str, dict[str, Any]]:
    root = "blocks.0.multipathway_blocks.{}.conv.weight"
    block = "blocks.{k}.multipathway_blocks.0.res_blocks"
    depths = [count(case, re.escape(block.format(k=k)) + r"\.(\d+)\.") for k in (1, 2, 3, 4)]
    width, channels = shape(case, root.format(0))[:2]
    values = {
        "num_classes": shape(case, "blocks.6.proj.weight")[0],
        "in_channels": channels,
        "depths": depths,
        "width": width,
        "beta": width // shape(case, root.format(1))[0],
        "kernel": shape(case, "blocks.0.multipathway_fusion.conv_fast_to_slow.weight")[2],
    }
    if depths[2] <= 6:
        return "slowfast_8x8_ptv", values
    kernel = "blocks.3.multipathway_blocks.0.res_blocks.22.branch2.conv_a.weight"
    return "slowfast_16x8_r101_ptv" if shape(case, kernel)[2] == 1 else "slowfast_8x8_r101_ptv", values


def slowfast_ptv_hooks(case: Case) -> Hooks:
    found: Hooks = {"positions": ("head.projection", same)}
    found["block5"] = ("head.dropout", lambda x: x.permute(0, 4, 1, 2, 3))
    for p, name in enumerate(("slow", "fast")):
        for k in range(5):
            found[f"block{k}_{name}"] = (f"s{k + 1}_fuse" if k < 4 else "s5", lambda out, p=p: out[p])
    return found


def path_resnet(case: Case) -> tuple[str, dict[str, Any]]:
    """PySlowFast's networks of one path: C2D, I3D (with non-local blocks), Slow."""
    values: dict[str, Any] = {
        "num_classes": shape(case, "head.projection.weight")[0],
        "in_channels": shape(case, "s1.pathway0_stem.conv.weight")[1],
        "depths": psf_depths(case),
        "width": shape(case, "s1.pathway0_stem.conv.weight")[0],
    }
    blocks = []
    for k in (2, 3, 4, 5):
        names = {re.match(rf"s{k}\.pathway0_nonlocal(\d+)\.", name) for name in case["schema"]}
        blocks.append(sorted({int(found[1]) for found in names if found}))
    if any(blocks):
        return "i3d_nln_r50_psf", values | {"nonlocals": blocks}
    values["fuse"] = "probabilities"
    if shape(case, "s1.pathway0_stem.conv.weight")[2] == 5:
        return "i3d_r50", values
    deep = shape(case, "s5.pathway0_res0.branch2.a.weight")[2]
    return "slow_8x8_r50" if deep == 3 else "c2d_r50", values


def path_hooks(case: Case) -> Hooks:
    found: Hooks = {"positions": ("head.projection", same), "s1": ("s1.pathway0_stem", same)}
    return found | {f"s{k}": (f"s{k}", lambda out: out[0]) for k in (2, 3, 4, 5)}


def path_ptv(case: Case) -> tuple[str, dict[str, Any]]:
    """pytorchvideo's networks of one path."""
    stem = shape(case, "blocks.0.conv.weight")
    slow = "blocks.5.proj.weight" in case["schema"]
    places = (1, 2, 3, 4) if slow else (1, 3, 4, 5)
    values = {
        "num_classes": shape(case, "blocks.5.proj.weight" if slow else "blocks.6.proj.weight")[0],
        "in_channels": stem[1],
        "depths": [count(case, rf"blocks\.{k}\.res_blocks\.(\d+)\.") for k in places],
        "width": stem[0],
    }
    return "slow_8x8_r50" if slow else "i3d_r50" if stem[2] == 5 else "c2d_r50", values


def x3d_psf(case: Case) -> tuple[str, dict[str, Any]]:
    depths = psf_depths(case)
    size = (case["config"].get("yaml", "") + case["system"]).upper()
    name = next((n for n in ("XS", "XL", "S", "M", "L") if f"X3D_{n}." in size or f"X3D-{n} " in size), "S")
    values: dict[str, Any] = {
        "num_classes": shape(case, "head.projection.weight")[0],
        "in_channels": shape(case, "s1.pathway0_stem.conv_xy.weight")[1],
        "width": shape(case, "s2.pathway0_res0.branch2.c.weight")[0] / 12,
        "depth": depths[2] / 5,
    }
    return f"x3d_{name.lower()}_psf", values


def x3d_psf_hooks(case: Case) -> Hooks:
    found: Hooks = {
        "s1": ("s1.pathway0_stem", same),
        "conv5": ("head.conv_5_relu", same),
        "lin5": ("head.lin_5_relu", same),
    }
    return found | {f"s{k + 2}": (f"s{k + 2}.pathway0_res{n - 1}", same) for k, n in enumerate(psf_depths(case))}


def x3d_ptv(case: Case) -> tuple[str, dict[str, Any]]:
    name = case["config"].get("model", "x3d_s")
    depth = count(case, r"blocks\.3\.res_blocks\.(\d+)\.") / 5
    return f"{name}_ptv", {
        "num_classes": shape(case, "blocks.5.proj.weight")[0],
        "in_channels": shape(case, "blocks.0.conv.conv_t.weight")[1],
        "width": shape(case, "blocks.1.res_blocks.0.branch2.conv_c.weight")[0] / 12,
        "depth": depth,
    }


def x3d_ptv_hooks(case: Case) -> Hooks:
    found: Hooks = {"block0": ("s1.pathway0_stem", same), "positions": ("head.projection", same)}
    for k in (1, 2, 3, 4):
        n = count(case, rf"blocks\.{k}\.res_blocks\.(\d+)\.")
        found[f"block{k}"] = (f"s{k + 1}.pathway0_res{n - 1}", same)
    return found


# 2-D networks over time ------------------------------------------------------------------------------------------


def tsm(case: Case) -> tuple[str, dict[str, Any]]:
    config, root = case["config"], "module.base_model"
    depths = [count(case, rf"module\.base_model\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
    values = {
        "num_classes": shape(case, "module.new_fc.weight")[0],
        "in_channels": shape(case, f"{root}.conv1.weight")[1],
        "width": shape(case, f"{root}.conv1.weight")[0],
        "depths": depths,
    }
    if not config.get("is_shift", True):
        raise LookupError("only the shifted form is here under these names")
    return "tsm_r101" if depths[2] > 6 else "tsm_r50", values | {"fold": config.get("shift_div", 8)}


def tsm_hooks(case: Case) -> Hooks:
    found: Hooks = {f"base_model_layer{i}": (f"base_model.layer{i}", same) for i in (1, 2, 3, 4)}
    return found | {"new_fc": ("new_fc", same)}


def blvnet(case: Case) -> tuple[str, dict[str, Any]]:
    root = "baseline_model"
    depths = [1 + count(case, rf"{root}\.layer{i}\.big\.(\d+)\.") for i in (1, 2, 3)]
    deep = case["config"].get("depth", 50) > 50
    return "blvnet_tam_101" if deep else "blvnet_tam_50", {
        "num_classes": shape(case, "new_fc.weight")[0],
        "in_channels": shape(case, f"{root}.conv1.weight")[1],
        "width": shape(case, f"{root}.conv1.weight")[0],
        "depths": [*depths, count(case, rf"{root}\.layer4\.(\d+)\.")],
        "alpha": case["config"].get("alpha", 2),
        "beta": case["config"].get("beta", 4),
    }


def blvnet_hooks(case: Case) -> Hooks:
    names = ("conv1", "b_conv0", "layer1", "layer2", "layer3", "layer4")
    found: Hooks = {f"baseline_model_{name}": (f"baseline_model.{name}", same) for name in names}
    return found | {"new_fc": ("new_fc", same)}


def lrcn(case: Case) -> tuple[str, dict[str, Any]]:
    size = case["input"]["data"]["shape"][2:]
    return "lrcn_caffe", {
        "num_classes": shape(case, "fc8-final.weight")[0],
        "in_channels": shape(case, "conv1.weight")[1],
        "widths": [shape(case, f"conv{i}.weight")[0] for i in range(1, 6)],
        "fc6": shape(case, "fc6.weight")[0],
        "hidden": shape(case, "lstm1.weight_h")[1],
        "size": size,
    }


def time_major(case: Case, image: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Caffe's `(T * B, C, H, W)`; every sequence begins with the clip."""
    config = case["config"]
    markers = np.asarray(config["clip_markers"])
    if markers[1:].min() < 1:
        raise LookupError("sequences that begin within a clip are not here")
    x = fed(case, image, case["input"]["data"])
    return x.unflatten(0, (config["frames"], config["sequences"])).permute(1, 2, 0, 3, 4).contiguous(), {}


def lrcn_hooks(case: Case) -> Hooks:
    found: Hooks = {name: (f"frames.{name}", same) for name in ("norm1", "norm2", "pool1", "pool2", "pool5")}
    return found | {"fc6": ("frames", same), "lstm1": ("lstm1", same)}


def steps(out: Any) -> dict[str, Tensor]:
    """Scores of every step, time first."""
    logits = out.parts.transpose(0, 1)
    return {"logits": logits, "prob": logits.softmax(-1)}


def fmri(case: Case) -> tuple[str, dict[str, Any]]:
    return "fmri_3dcnn", {
        "num_classes": shape(case, "dense_1/kernel")[1],
        "in_channels": shape(case, "conv3d/kernel")[3],
        "size": case["input"]["shape"][1:4],
        "widths": [shape(case, f"conv3d{n}/kernel")[4] for n in ("", "_1", "_2")],
        "hidden": shape(case, "dense/kernel")[1],
    }


def fmri_hooks(case: Case) -> Hooks:
    def last(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 4, 1)

    found: Hooks = {f"pool{i}": (f"pool{i}", last) for i in (1, 2, 3)}
    return found | {"conv1": ("conv1", lambda x: last(x.relu())), "fc": ("dense1", torch.relu)}


def squashed(out: Any) -> dict[str, Tensor]:
    """The published code's way from its scores to probabilities."""
    sigmoid = out.logits.sigmoid()
    return {"logits": out.logits, "sigmoid": sigmoid, "probabilities": sigmoid.softmax(-1)}


# Transformers ----------------------------------------------------------------------------------------------------

KINDS = {"divided_space_time": "divided", "joint_space_time": "joint", "space_only": "space"}


def timesformer(case: Case) -> tuple[str, dict[str, Any]]:
    config = case["config"]
    return "timesformer", {
        "num_classes": config["num_classes"],
        "in_channels": shape(case, "model.patch_embed.proj.weight")[1],
        "attention": KINDS[config["attention_type"]],
        "size": config["img_size"],
        "patch": config["patch_size"],
        "frames": config["num_frames"],
        "channels": config["embed_dim"],
        "depth": config["depth"],
        "heads": config["num_heads"],
        "hidden": shape(case, "model.blocks.0.mlp.fc1.weight")[0],
    }


def timesformer_hooks(case: Case) -> Hooks:
    found: Hooks = {f"block{i}": (f"blocks.{i}", same) for i in range(case["config"]["depth"])}
    return found | {"patch": ("patch_embed", same), "cls": ("norm", lambda x: x[:, 0])}


def timesformer_hf(case: Case) -> tuple[str, dict[str, Any]]:
    config = case["config"]
    return "timesformer", {
        "num_classes": config["num_labels"],
        "in_channels": shape(case, "timesformer.embeddings.patch_embeddings.projection.weight")[1],
        "attention": KINDS[config["attention_type"]],
        "size": config["image_size"],
        "patch": config["patch_size"],
        "frames": config["num_frames"],
        "channels": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"],
    }


def timesformer_hf_hooks(case: Case) -> Hooks:
    found: Hooks = {f"hidden{i + 1}": (f"blocks.{i}", same) for i in range(case["config"]["num_hidden_layers"])}
    return found


def embeddings(net: Any, out: Any, case: Case) -> dict[str, Tensor]:
    """What the first block of a TimeSformer is shown."""
    from_seed = np.random.RandomState(case["input"]["seed"]).random_sample(tuple(case["input"]["shape"]))
    x = torch.from_numpy(transformed(from_seed.astype(np.float32), case["input"]["transform"]))
    return {"hidden0": net.tokens(x.transpose(1, 2))[0]}


def vivit(case: Case) -> tuple[str, dict[str, Any]]:
    config, (_, frames, height, width, channels) = case["config"], case["input"]["shape"]
    form = int(config["model"][1:])
    high, wide, time = config["patches"]
    values: dict[str, Any] = {
        "form": form,
        "num_classes": config["num_classes"],
        "in_channels": channels,
        "size": (height, width),
        "frames": frames,
        "tubelet": (time, high, wide),
        "channels": config["hidden"],
        "depth": config["layers"],
        "heads": config["heads"],
        "hidden": config["mlp"],
        "token": config["classifier"] == "token",
    }
    if form == 2:
        values["temporal_depth"] = config["temporal_layers"]
    if form == 3:
        values["order"] = config["order"]
    return "vivit", values


def vivit_hooks(case: Case) -> Hooks:
    config = case["config"]
    root = "temporal" if config["model"] == "m2" else "encoder"
    count = config.get("temporal_layers", config["layers"])
    steps = case["input"]["shape"][1] // config["patches"][2]
    fourth = config["model"] == "m4"
    found: Hooks = {
        f"block{i}": (f"{root}.blocks.{i}", (lambda x: x.unflatten(1, (steps, -1))) if fourth else same)
        for i in range(count)
    }
    return found | {
        "embedding": ("embedding", lambda x: x.permute(0, 2, 3, 4, 1)),
        "posembed": (f"{root}.positions", same),
        "encoder_norm": (f"{root}.norm", same),
        "pre_logits": ("pre_logits", same),
    }


def vivit_hf(case: Case) -> tuple[str, dict[str, Any]]:
    config = case["config"]
    size = config["image_size"]
    return "vivit", {
        "form": 1,
        "num_classes": config["num_labels"],
        "in_channels": shape(case, "vivit.embeddings.patch_embeddings.projection.weight")[1],
        "size": (size, size) if isinstance(size, int) else size,
        "frames": config["num_frames"],
        "tubelet": config["tubelet_size"],
        "channels": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"],
        "token": True,
    }


def vivit_hf_hooks(case: Case) -> Hooks:
    found: Hooks = {f"hidden{i + 1}": (f"encoder.blocks.{i}", same) for i in range(case["config"]["num_hidden_layers"])}
    return found | {"hidden0": ("encoder.positions", same)}


def model_state(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint of PySlowFast or pytorchvideo."""
    return {"model_state": tensors, "epoch": 195}


def state_dict(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {"epoch": 50, "arch": "resnet50", "state_dict": tensors, "best_prec1": 70.0}


def systems(catalog: ModuleType) -> dict[str, Any]:
    """The systems of this file, as `catalog.System`."""
    made = catalog.System
    c3ds = made(c3d, arrays=with_probabilities, feed=clips, hooks=c3d_hooks)
    resnets = made(video_resnet, feed=clips, hooks=video_resnet_hooks)
    inception = made(i3d, arrays=lambda out: {}, feed=clips, hooks=i3d_hooks)
    slowfasts = made(
        slowfast_psf, container=model_state, arrays=with_probabilities, feed=clips, hooks=slowfast_psf_hooks
    )
    paths = made(path_resnet, container=model_state, arrays=with_probabilities, feed=clips, hooks=path_hooks)
    return {
        "C3D (Tran 2015), the official Caffe layers": c3ds,
        "C3D (Tran 2015), PyTorch port with padded pool5": c3ds,
        "C3D (Tran 2015)*": c3ds,
        "*(Tran 2018), torchvision": resnets,
        "*(Tran 2018), VMZ": resnets,
        "*-CSN-152 (Tran 2019), VMZ": resnets,
        "*-CSN with * layers, VMZ blocks": resnets,
        "I3D Inception (Carreira 2017), PyTorch port*": inception,
        "I3D ResNet-50*PySlowFast form": paths,
        "C2D*PySlowFast form": paths,
        "Slow *PySlowFast form": paths,
        "C2D*pytorchvideo form": made(path_ptv, container=model_state, feed=clips),
        "I3D*pytorchvideo form": made(path_ptv, container=model_state, feed=clips),
        "Slow *pytorchvideo form": made(path_ptv, container=model_state, feed=clips),
        "S3D without gating (Xie 2018), torchvision": made(s3d, feed=clips, hooks=s3d_hooks),
        "SlowFast*PySlowFast form": slowfasts,
        "SlowFast*pytorchvideo form": made(slowfast_ptv, container=model_state, feed=clips, hooks=slowfast_ptv_hooks),
        "X3D-*PySlowFast form": made(
            x3d_psf, container=model_state, arrays=with_probabilities, feed=clips, hooks=x3d_psf_hooks
        ),
        "TSM ResNet-*(Lin 2019)*": made(tsm, container=state_dict, feed=stacked, hooks=tsm_hooks),
        "bLVNet-TAM-* (Fan 2019)": made(blvnet, feed=stacked, hooks=blvnet_hooks),
        "LRCN activity recognition (Donahue 2015)*": made(
            lrcn, arrays=steps, feed=time_major, hooks=lrcn_hooks, suffix=".npz"
        ),
        "3D CNN on fMRI volumes (Vu 2018), the pooled variant*": made(
            fmri,
            arrays=squashed,
            feed=lambda case, image: (fed(case, image).unsqueeze(1), {}),
            hooks=fmri_hooks,
            suffix=".npz",
        ),
        "TimeSformer (Bertasius 2021), *": made(
            timesformer, container=model_state, feed=clips, hooks=timesformer_hooks
        ),
        "TimeSformer divided, Hugging Face form*": made(
            timesformer_hf, feed=axes(0, 2, 1, 3, 4), hooks=timesformer_hf_hooks, learned=embeddings
        ),
        "ViViT (Arnab 2021), model *": made(vivit, feed=axes(0, 4, 1, 2, 3), hooks=vivit_hooks, suffix=".npz"),
        "ViViT model 1, Hugging Face form*": made(vivit_hf, feed=axes(0, 2, 1, 3, 4), hooks=vivit_hf_hooks),
        "X3D-*pytorchvideo form": made(x3d_ptv, container=model_state, feed=clips, hooks=x3d_ptv_hooks),
    }
