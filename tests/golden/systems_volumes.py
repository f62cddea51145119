"""Golden cases of networks that read volumes: which entry, which values, how the public file looks.

Merged by `catalog.py`, which hands itself over.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.weights.keymap import KeyMap

Case = Mapping[str, Any]


def systems(catalog: ModuleType) -> dict[str, Any]:
    """The systems of this file, as `catalog.System`."""

    def wolny(case: Case) -> tuple[str, dict[str, Any]]:
        config = case["config"]
        depth = 1 + catalog.largest(case, r"encoders\.(\d+)\.")
        return "unet3d_wolny", {
            "num_classes": catalog.shape(case, "final_conv.weight")[0],
            "in_channels": catalog.shape(case, "encoders.0.basic_module.SingleConv1.conv.weight")[1],
            "width": catalog.shape(case, "final_conv.weight")[1],
            "depth": depth,
            "groups": config["num_groups"],
        }

    def answers(net: Any, out: Any, case: Case) -> dict[str, Tensor]:
        """What the public network returns in eval mode."""
        final = out.logits.sigmoid() if case["config"].get("final_sigmoid", True) else out.logits.softmax(1)
        return {"probabilities": final, "probabilities_corner": final}

    def plain(case: Case) -> tuple[str, dict[str, Any]]:
        config = case["config"]
        return f"nnunet_plain_{config['dim']}d", {
            "num_classes": config["num_classes"],
            "in_channels": config["input_channels"],
            "features": config["features_per_stage"],
            "strides": config["strides"],
            "kernels": config["kernel_sizes"],
            "convs": config["n_conv_per_stage"],
            "decoder_convs": config["n_conv_per_stage_decoder"],
            "deep_supervision": config["deep_supervision"],
        }

    def scene(case: Case) -> tuple[str, dict[str, Any]]:
        return "ddrnet_ssc", {
            "num_classes": case["config"]["num_classes"],
            "in_channels": catalog.shape(case, "module.rgb_feature2d.0.weight")[1],
            "width": catalog.shape(case, "module.aspp.aspp0.weight")[0],
        }

    def feed(case: Case, image: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Colour, depth and positions, each made from its own seed by its own rule."""
        raw = {name: image(about["seed"], tuple(about["shape"])) for name, about in case["input"].items()}
        assert case["input"]["depth"]["transform"] == "x"
        assert case["input"]["rgb"]["transform"] == "(x - 0.45) / 0.225 * 0.25"
        assert case["input"]["position"]["transform"] == "np.floor(x.astype(np.float64) * 60000).astype(np.int64) * 137"
        position = np.floor(raw["position"].astype(np.float64) * 60000).astype(np.int64) * 137
        assert position.max() < prod((240, 144, 240))
        colour = (raw["rgb"] - np.float32(0.45)) / np.float32(0.225) * np.float32(0.25)
        return torch.from_numpy(colour), {
            "depth": torch.from_numpy(raw["depth"]),
            "position": torch.from_numpy(position),
        }

    def projected(net: Any, out: Any, case: Case) -> dict[str, Tensor]:
        from sightline.segmentation.models.ddrnet_ssc import project

        _, inputs = feed(case, _image)
        volume = project(net.depth["plane"](inputs["depth"]), inputs["position"], net.grid)
        return {"projected": volume[:, :, ::20, ::12, ::20]}

    nnunet = catalog.System(
        plain,
        container=lambda tensors: {
            "network_weights": tensors,
            "optimizer_state": {"state": {}, "param_groups": []},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [0.1, 0.5]},
            "current_epoch": 2,
            "init_args": {"plans": {"plans_name": "nnUNetPlans"}, "configuration": "3d_fullres", "fold": 0},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        },
        taps=KeyMap("taps", (("encoder.stages.{i}", "contract.{i}"), ("decoder.stages.{i}", "expand.{i}"))),
    )
    return {
        "3D U-Net (wolny)": catalog.System(
            wolny,
            container=lambda tensors: {"num_iterations": 10, "model_state_dict": tensors, "best_eval_score": 0.5},
            taps=KeyMap("taps", (("encoders.{i}", "contract.{i}"), ("decoders.{i}", "expand.{i}"))),
            learned=answers,
        ),
        "nnU-Net PlainConvUNet 2D": nnunet,
        "nnU-Net PlainConvUNet 3D": nnunet,
        "DDRNet semantic scene completion (Li 2019)": catalog.System(
            scene,
            container=lambda tensors: {"state_dict": tensors},
            places={
                **{f"{a}_feature2d": f"{b}.plane" for a, b in (("dep", "depth"), ("rgb", "colour"))},
                **{f"{a}_feature3d": f"{b}.space" for a, b in (("dep", "depth"), ("rgb", "colour"))},
                "res3d_3d": "depth.block3",
                "aspp": "aspp",
            },
            learned=projected,
            feed=feed,
        ),
    }


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.RandomState(seed).random_sample(shape).astype(np.float32)
