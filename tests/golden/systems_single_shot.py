"""Golden cases of single-shot detectors: SSD of four sources, YOLOv3 of mmdet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.detection.contract import Target
from sightline.detection.models.ssd import BYTES, CAFFE, WEIGHTS
from sightline.ops.box_coding import encode
from sightline.ops.boxes import to_centres

Case = Mapping[str, Any]
Arrays = dict[str, Tensor]


def shape(case: Case, name: str) -> list[int]:
    return case["schema"][name]


def truth(case: Case, expected: Mapping[str, np.ndarray], offset: int = 0) -> Target:
    """The true objects of the first picture; offset: what the source's labels begin with."""
    if "targets" in case:
        about = case["targets"][0]
        boxes, labels = torch.tensor(about["boxes"], dtype=torch.float32), torch.tensor(about["labels"])
    else:
        boxes, labels = (torch.from_numpy(expected[f"given.target.0.{word}"]) for word in ("boxes", "labels"))
    return Target(boxes[None], labels[None] - offset)


def values_of(case: Case) -> dict[str, Any]:
    config = dict(case["config"])
    values = {**config, **config.get("kwargs", {})}
    names = {
        "score": "score_thresh", "overlap": "nms_thresh", "most": "detections_per_img", "before": "topk_candidates",
    }  # fmt: skip
    return {ours: values[theirs] for ours, theirs in names.items() if theirs in values}


def ssd300_of_torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = shape(case, "backbone.features.0.weight")[:2]
    return "ssd300_torchvision", {
        "num_classes": case["config"]["num_classes"] - 1, "width": width, "in_channels": in_channels,
        "mean": (0.48235, 0.45882, 0.40784), **values_of(case),
    }  # fmt: skip


def ssdlite_of_torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    last = [shape(case, f"backbone.extra.{i}.2.0.weight")[0] for i in range(4)]
    return "ssdlite_torchvision", {
        "num_classes": case["config"]["num_classes"] - 1, "extras": last, "mean": (0.5, 0.5, 0.5),
        "in_channels": shape(case, "backbone.features.0.0.0.weight")[1], **values_of(case),
    }  # fmt: skip


@torch.inference_mode()
def of_torchvision(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """SSD and SSDLite of torchvision: a raw picture goes in."""
    about = case["input"]["images"][0]
    images = torch.from_numpy(fill.image(about["seed"], tuple(about["shape"])))[None]
    target = truth(case, expected, 1)
    found: Arrays = {"input": net.stretched(images, None)}
    maps = net.trunk(found["input"])
    for i, (level, logits, deltas, anchors) in enumerate(zip(maps, *net.heads(maps), net.anchors(maps))):
        found[f"features.{i}"], found[f"cls_logits.{i}"] = level, logits
        found[f"deltas.{i}"], found[f"anchors.{i}"] = deltas, anchors
    out = net(images, targets=target)
    answer = net.decode(out)[0]
    found["detect.0.boxes"], found["detect.0.labels"] = answer.boxes, answer.labels + 1
    found["detect.0.scores"] = answer.scores
    which = out.matched[0]
    positive = (which >= 0).nonzero()[:, 0]
    found["match.0.counts"] = torch.tensor([len(positive), len(which) - len(positive), 0])
    found["match.0.positive"], found["match.0.gt"] = positive, which[positive]
    boxes = (target.boxes * out.scale)[0][which[positive]]
    found["match.0.encoded"] = encode(boxes, out.anchors[positive], WEIGHTS)
    losses = net.losses(out, target)
    found["loss.classification"], found["loss.bbox_regression"] = losses["classes"], losses["boxes"]
    return found


def ssd_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    head = case["config"]["model"]["bbox_head"]
    width, in_channels = shape(case, "backbone.features.0.weight")[:2]
    name = f"ssd{head['anchor_generator']['input_size']}_mmdet"
    return name, {"num_classes": head["num_classes"], "width": width, "in_channels": in_channels, "mean": None}


@torch.inference_mode()
def ssd_heads_of_mmdet(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """SSD of mmdet: maps, heads, default boxes, losses."""
    about = case["input"]["images"][0]
    images = torch.from_numpy((fill.image(about["seed"], tuple(about["shape"])) - 0.5) * 4)[None]
    target = truth(case, expected)
    found: Arrays = {}
    maps = net.trunk(images)
    for i, (level, anchors) in enumerate(zip(maps, net.anchors(maps))):
        found[f"features.{i}"], found[f"anchors.{i}"] = level, anchors
        found[f"head.cls.{i}"], found[f"head.box.{i}"] = net.classes[i](level), net.boxes[i](level)
    losses = net.losses(net(images, targets=target), target)
    found["loss.loss_cls"], found["loss.loss_bbox"] = losses["classes"][None], losses["boxes"]
    return found


def ssd_of_amdegroot(case: Case) -> tuple[str, dict[str, Any]]:
    width, in_channels = shape(case, "vgg.0.weight")[:2]
    return f"ssd{case['config']['size']}", {
        "num_classes": case["config"]["num_classes"] - 1, "width": width, "in_channels": in_channels,
        "mean": CAFFE, "std": BYTES, "score": 0.3, "before": 200, "most": 4000, "clip_boxes": False,
    }  # fmt: skip


@torch.inference_mode()
def of_amdegroot(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """SSD of ssd.pytorch, whose boxes are relative to the picture."""
    about = case["input"]["images"][0]
    images = torch.from_numpy(fill.image(about["seed"], tuple(about["shape"])))[None]
    target, side = truth(case, expected), float(net.size)
    found: Arrays = {}
    maps = net.trunk(net.stretched(images, None))
    for i, (logits, deltas, anchors) in enumerate(zip(*net.heads(maps), net.anchors(maps))):
        found[f"conf.{i}"], found[f"loc.{i}"], found[f"priors.{i}"] = logits, deltas, to_centres(anchors) / side
    out = net(images, targets=target)
    which = out.matched[0]
    positive = (which >= 0).nonzero()[:, 0]
    found["match.0.positive"] = torch.stack([positive, target.labels[0][which[positive]] + 1])
    found["match.0.encoded"] = encode(target.boxes[0][which[positive]], out.anchors[positive], WEIGHTS)
    losses = net.losses(out, target)
    found["loss.conf"], found["loss.loc"] = losses["classes"], losses["boxes"]
    answer = net.decode(out)[0]
    count = len(expected["detect.0.labels"])
    found["detect.0.count"] = torch.tensor([len(answer)])
    found["detect.0.boxes"], found["detect.0.scores"] = answer.boxes[:count] / side, answer.scores[:count]
    found["detect.0.labels"] = answer.labels[:count]
    if found["detect.0.labels"].min() + 1 == expected["detect.0.labels"].min():
        found["detect.0.labels"] = found["detect.0.labels"] + 1  # counted from the background
    return found


def yolov3_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    model = case["config"]["model"]
    test = model["test_cfg"]
    width, in_channels = shape(case, "backbone.conv1.conv.weight")[:2]
    anchors = [pair for level in reversed(model["bbox_head"]["anchor_generator"]["base_sizes"]) for pair in level]
    return "yolov3_mmdet", {
        "num_classes": model["bbox_head"]["num_classes"], "width": width, "in_channels": in_channels,
        "anchors": anchors, "least": test["conf_thr"], "score": test["score_thr"], "before": test["nms_pre"],
        "overlap": test["nms"]["iou_threshold"], "most": test["max_per_img"], "clip": False,
    }  # fmt: skip


@torch.inference_mode()
def yolov3_heads_of_mmdet(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """YOLOv3 of mmdet: maps, heads, anchors, answers, losses of every map."""
    about = case["input"]["images"][0]
    images = torch.from_numpy((fill.image(about["seed"], tuple(about["shape"])) - 0.5) * 4)[None]
    target = truth(case, expected)
    found: Arrays = {}
    layers: dict[int, Tensor] = {}
    net.body.look(images, lambda i, x: layers.update({i: x}))
    maps = [layers[i] for i in net.body.heads]
    for i, (at, anchors) in enumerate(zip(net.body.heads, net.anchors(maps))):
        found[f"head.pred.{i}"], found[f"features.{i}"] = layers[at], layers[at - 3]
        found[f"anchors.{i}"] = anchors
    out = net(images, targets=target)
    answer = net.decode(out)[0].scaled(about["ori_shape"], about["shape"][1:])
    found["detect.0.boxes"], found["detect.0.labels"] = answer.boxes, answer.labels
    found["detect.0.scores"] = answer.scores
    losses = net.losses(out, target)
    levels = [
        net.level(*each, target, stride) for *each, stride in zip(out.said, out.anchors, out.assigned, net.strides)
    ]
    names = {"loss_cls": "classes", "loss_conf": "objects", "loss_xy": "centres", "loss_wh": "growths"}
    for theirs, ours in names.items():
        found[f"loss.{theirs}"] = losses[ours]
        found[f"loss_levels.{theirs}"] = torch.stack([level[ours] for level in levels])
    return found


def _trained(tensors: Arrays) -> dict[str, Any]:
    return {"meta": {"epoch": 12}, "state_dict": tensors}


def systems(catalog: Any) -> dict[str, Any]:
    """The single-shot systems by their names in the cases."""
    System = catalog.System
    return {
        "SSD300 VGG16 (torchvision)": System(ssd300_of_torchvision, run=of_torchvision),
        "SSDLite320 MobileNetV3-Large (torchvision)": System(ssdlite_of_torchvision, run=of_torchvision),
        "SSD300 VGG16 (mmdet)": System(ssd_of_mmdet, run=ssd_heads_of_mmdet, container=_trained),
        "SSD300 VGG16 (ssd.pytorch)": System(ssd_of_amdegroot, run=of_amdegroot),
        "YOLOv3 Darknet-53 (mmdet)": System(yolov3_of_mmdet, run=yolov3_heads_of_mmdet, container=_trained),
    }
