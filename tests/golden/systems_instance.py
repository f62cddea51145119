"""Golden cases of the instance room: Mask and Keypoint R-CNN of three sources, YOLACT, SOLO, AdaptIS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.detection.contract import Target, whole
from sightline.detection.predict import answer
from sightline.instance import cells
from sightline.instance.masks import filled_in_box
from sightline.ops.box_coding import encode
from sightline.ops.matching import BACKGROUND, BETWEEN

Case = Mapping[str, Any]
Arrays = dict[str, Tensor]


def boxes_room() -> Any:
    """systems_detection.py, which the catalogue has read before this file."""
    return sys.modules["golden_systems_detection"]


def ellipses(boxes: Any, size: tuple[int, int]) -> Tensor:
    """Masks `(G, H, W)` of flags by the cases' rule: the ellipse in each box, in float64 as it was made."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found = []
    for x0, y0, x1, y1 in boxes:
        u, v = (x - (x0 + x1) / 2) / ((x1 - x0) / 2), (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
        found.append(u**2 + v**2 <= 1)
    return torch.from_numpy(np.stack(found))


def input_of_mmdet(case: Case, fill: Any) -> tuple[Tensor, Target, tuple[int, int], tuple[int, int]]:
    """mmdet's input (normalised already), its targets, and the sizes of the input and of the photo."""
    about = case["input"]["images"][0]
    pixels = torch.from_numpy((fill.image(about["seed"], tuple(about["shape"])) - 0.5) * 4)[None]
    boxes = case["targets"][0]["boxes"]
    size = (about["shape"][1], about["shape"][2])
    target = Target(
        torch.tensor(boxes)[None], torch.tensor(case["targets"][0]["labels"])[None], masks=ellipses(boxes, size)[None]
    )
    return pixels, target, size, tuple(about.get("ori_shape") or about["output_size"])


def masks_said(placed: Any, found: Arrays, *, soft: bool = False) -> None:
    """The arrays of pasted masks."""
    dense = placed.masks.dense()
    found["detect.0.masks"] = placed.masks.probabilities() if soft else dense.to(torch.uint8)
    if soft:
        found["detect.0.mask_mean"] = found["detect.0.masks"].mean((1, 2))
        dense = found["detect.0.masks"] > 0.5
    found["detect.0.mask_area"] = dense.sum((1, 2))


# Mask and Keypoint R-CNN ------------------------------------------------------------------------------------------


@torch.inference_mode()
def three_stages(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """Everything that a torchvision or detectron2 case stores, under its names."""
    room = boxes_room()
    found = room.two_stages(net, case, expected, fill)
    tv = "torchvision" in case["system"]
    seen = room.scene(case, fill)
    boxes, labels = room.truth(case, expected)
    about = case["targets"][0]
    size = (int(seen.sizes[0, 0]), int(seen.sizes[0, 1]))
    masks = keypoints = None
    if tv and net.masks is not None:
        pasted = ellipses(about["boxes"], seen.image.shape[:2])
        masks = F.interpolate(pasted[:, None].float(), size=size, mode="nearest")[None, :, 0] > 0
    elif net.masks is not None:
        masks = ellipses(about["boxes"], size)[None]  # polygons take their place below
    if net.joints is not None:
        keypoints = torch.tensor(about["keypoints"])[None]
        keypoints = torch.cat([keypoints[..., :2] * seen.factor[:2], keypoints[..., 2:]], -1)
    target = Target((boxes * seen.factor)[None], (labels - int(tv))[None], masks=masks, keypoints=keypoints)

    maps, x = net.trunk(seen.pixels, seen.sizes)
    given = room.listed(expected, "proposals.0")[None]
    if net.masks is not None:
        crops = net.crops(maps, given, net.masks.pooler)
        found["mask.pooled"], found["mask.logits"] = crops, net.masks(crops)
    if net.joints is not None:
        found["keypoint.logits"] = net.joints(net.crops(maps, given, net.joints.pooler))
    if tv:
        placed = answer(net, seen.image, preprocess=seen.preprocess)
    else:
        placed = net.decode(net(seen.pixels, sizes=seen.sizes))[0]
        placed = placed.scaled(case["input"]["images"][0]["output_size"], size)
    if net.masks is not None:
        masks_said(placed, found, soft=tv)
    if placed.keypoints is not None:
        points = placed.keypoints
        found["detect.0.keypoints_scores"] = points[..., 2]
        found["detect.0.keypoints"] = (
            torch.cat([points[..., :2], torch.ones_like(points[..., 2:])], -1) if tv else points
        )

    limits = whole(seen.pixels, seen.sizes)
    net.rpn.train()
    training, _ = net.rpn(maps, x, limits, target)
    net.rpn.eval()
    net.boxes.count, asked = 10**7, net.boxes.count
    for prefix, some in (("loss", room.proposed(room.listed(expected, "train_proposals.0"))), ("full", training)):
        masks_stage, joints_stage = net.study_parts(maps, net.study(maps, some, target), target)
        if masks_stage is not None:
            if "polygons" in about:
                masks_stage = replace(masks_stage, wanted=from_polygons(masks_stage, about["polygons"]))
            found[f"{prefix}.loss_mask"] = net.masks.losses(masks_stage)["masks"]
        if joints_stage is not None:
            found[f"{prefix}.loss_keypoint"] = net.joints.losses(joints_stage)["joints"]
    net.boxes.count = asked
    return found


def from_polygons(stage: Any, polygons: list[list[float]]) -> Tensor:
    """Targets filled from outlines, for the objects that are real."""
    wanted = torch.zeros_like(stage.wanted)
    for k in range(wanted.shape[1]):
        if stage.valid[0, k]:
            outline = np.array(polygons[int(stage.index[0, k])])
            filled = filled_in_box([outline], stage.boxes[0, k].tolist(), wanted.shape[-1])
            wanted[0, k] = torch.from_numpy(filled)
    return wanted


@torch.inference_mode()
def three_stages_of_mmdet(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """Everything that mmdet's case stores, under its names."""
    pixels, target, size, photo = input_of_mmdet(case, fill)
    found: Arrays = {}
    maps, x = net.trunk(pixels, None)
    logits, deltas = net.rpn.head(maps)
    anchors = net.rpn.anchors(maps, x)
    for i, level in enumerate(zip(maps, logits, deltas, anchors)):
        found[f"features.{i}"], found[f"head.rpn_cls.{i}"], found[f"head.rpn_reg.{i}"], found[f"anchors.{i}"] = level
    rois = torch.from_numpy(expected["given.rois"])[None, :, 1:]
    found["box.pooled"] = net.boxes.pooler(maps, rois)
    said, moved = net.boxes(maps, rois)
    found["box.logits"], found["box.deltas"] = said[0], moved[0].flatten(1)
    found["mask.logits"] = net.masks(net.crops(maps, rois, net.masks.pooler))

    placed = net.decode(net(pixels))[0].scaled(photo, size)
    found["detect.0.boxes"], found["detect.0.labels"] = placed.boxes, placed.labels
    found["detect.0.scores"] = placed.scores
    masks_said(placed, found)

    which, _ = net.rpn.assign(torch.cat(anchors), target)
    net.rpn.train()
    training, first = net.rpn(maps, x, whole(pixels, None), target)
    net.rpn.eval()
    positive, negative = which >= 0, which == BACKGROUND
    level_of = torch.cat([torch.full((len(level),), i) for i, level in enumerate(anchors)])
    total = (positive | negative).sum()
    terms: dict[str, list[Tensor]] = {"rpn_objectness": [], "rpn_boxes": []}
    for i in range(len(anchors)):
        here = level_of == i
        part = replace(first, positive=positive & here, negative=negative & here)
        share = (part.positive | part.negative).sum() / total
        for name, value in net.rpn.losses(part).items():
            terms[name].append(value * share)
    for ours, theirs in (("rpn_objectness", "loss_rpn_cls"), ("rpn_boxes", "loss_rpn_bbox")):
        found[f"loss_levels.{theirs}"] = torch.stack(terms[ours])
        found[f"loss.{theirs}"] = found[f"loss_levels.{theirs}"].sum()
    net.boxes.count, asked = 10**7, net.boxes.count
    second = net.study(maps, training, target)
    losses = net.boxes.losses(second)
    found["loss.loss_cls"], found["loss.loss_bbox"] = losses["classes"], losses["boxes"]
    right = second.logits.argmax(-1) == second.sample.labels
    found["loss.acc"] = 100 * right[second.sample.valid].float().mean()[None]
    stage, _ = net.study_parts(maps, second, target)
    found["loss.loss_mask"] = net.masks.losses(stage)["masks"][None]
    net.boxes.count = asked
    return found


def of_torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of torchvision's four, at which sizes."""
    room = boxes_room()
    values = room.settings(case)
    _, given = room.faster_rcnn_of_torchvision(case)
    if "keypoint" in values["builder"]:
        last = room.shape(case, "roi_heads.keypoint_predictor.kps_score_lowres.weight")
        depth = sum(key.startswith("roi_heads.keypoint_head.") for key in case["schema"]) // 2
        return "keypoint_rcnn_torchvision_r50_fpn", {
            **given,
            "joints": last[1],
            "joint_channels": last[0],
            "joint_depth": depth,
        }
    given["mask_channels"] = room.shape(case, "roi_heads.mask_predictor.mask_fcn_logits.weight")[1]
    if "resnext" in values["builder"]:
        unit = room.shape(case, "backbone.body.layer1.0.conv2.weight")  # (inner, inner / groups, 3, 3)
        wide = room.shape(case, "backbone.body.layer1.0.conv3.weight")[0] // 4
        groups = unit[0] // unit[1]
        return "mask_rcnn_torchvision_x101_32x8d_fpn", {
            **given,
            "norm": "frozen",
            "norm_eps": 1e-5,
            "groups": groups,
            "width_per_group": unit[1] * 64 // wide,
        }
    return f"mask_rcnn_torchvision_r50_fpn{'_v2' if values['builder'].endswith('v2') else ''}", given


def of_detectron2(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of detectron2's three; every setting is in the case."""
    room = boxes_room()
    name, given = room.of_detectron2(case)
    model = case["config"]["resolved"]["MODEL"]
    if "ROI_KEYPOINT_HEAD" in model:
        head = model["ROI_KEYPOINT_HEAD"]
        return "keypoint_rcnn_detectron2_r50_fpn", {
            **given,
            "joints": head["NUM_KEYPOINTS"],
            "joint_channels": head["CONV_DIMS"][0],
            "joint_depth": len(head["CONV_DIMS"]),
            "beta": model["ROI_BOX_HEAD"]["SMOOTH_L1_BETA"],
        }
    return name.replace("faster", "mask"), {**given, "mask_channels": model["ROI_MASK_HEAD"]["CONV_DIM"]}


def body_of_mmdet(case: Case) -> dict[str, Any]:
    """Sizes of the backbone and the pyramid of an mmdet case."""
    width, in_channels = case["schema"]["backbone.conv1.weight"][:2]
    return {
        "width": width,
        "in_channels": in_channels,
        "depths": [
            sum(f"backbone.layer{i}.{j}.conv1.weight" in case["schema"] for j in range(50)) for i in (1, 2, 3, 4)
        ],
        "channels": case["config"]["model"]["neck"]["out_channels"],
        "mean": None,
    }


def mask_rcnn_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    """mmdet's Mask R-CNN, which gets pictures that are normalised already."""
    model = case["config"]["model"]
    rpn, box, mask = model["rpn_head"], model["roi_head"]["bbox_head"], model["roi_head"]["mask_head"]
    train, test = model["train_cfg"], model["test_cfg"]
    return "mask_rcnn_mmdet_r50_fpn", {
        **body_of_mmdet(case),
        "num_classes": box["num_classes"],
        "hidden": box["fc_out_channels"],
        "mask_channels": mask["conv_out_channels"],
        "anchors": [rpn["anchor_generator"]["scales"][0] * s for s in rpn["anchor_generator"]["strides"]],
        "ratios": rpn["anchor_generator"]["ratios"],
        "before": [train["rpn_proposal"]["nms_pre"], test["rpn"]["nms_pre"]],
        "after": [train["rpn_proposal"]["max_per_img"], test["rpn"]["max_per_img"]],
        "score": test["rcnn"]["score_thr"],
        "overlap": test["rcnn"]["nms"]["iou_threshold"],
        "most": test["rcnn"]["max_per_img"],
    }


# YOLACT -----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def yolact(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """YOLACT of both sources: everything a case stores, under its names."""
    authors = "mmdet" not in case["system"]
    pixels, target, size, photo = input_of_mmdet(case, fill)
    found: Arrays = {}
    maps, x = net.trunk(pixels, None)
    logits, deltas, coefficients, anchors = net.heads(maps, x)
    canvas = torch.tensor([size[1], size[0], size[1], size[0]])
    for i, level in enumerate(maps):
        found[f"features.{i}"], found[f"anchors.{i}"] = level, anchors[i]
        centre = torch.cat([(anchors[i][:, :2] + anchors[i][:, 2:]) / 2, anchors[i][:, 2:] - anchors[i][:, :2]], -1)
        found[f"priors.{i}"] = centre / canvas
        found[f"loc.{i}"], found[f"conf.{i}"], found[f"mask.{i}"] = deltas[i], logits[i], coefficients[i]
        found[f"head.cls.{i}"], found[f"head.box.{i}"], found[f"head.coeff.{i}"] = net.head(level)
    prototypes = net.protonet(maps[0])
    found["proto"], found["head.protonet"] = prototypes.permute(0, 2, 3, 1), prototypes
    found["segm"] = found["head.segm"] = net.semantic(maps[0])

    out = net(pixels, targets=target)
    first, parts = net.find(logits, deltas, coefficients, anchors, out.sizes)
    placed = net.decode(out)[0].scaled(photo, size)
    found["detect.0.labels"], found["detect.0.scores"] = placed.labels, placed.scores
    found["detect.0.boxes"] = first.boxes[0] / canvas if authors else placed.boxes
    found["detect.0.coefficients"] = parts[0]
    masks_said(placed, found)
    found["final.0.boxes"] = placed.boxes.floor()
    found["final.0.masks"], found["final.0.mask_area"] = found["detect.0.masks"], found["detect.0.mask_area"]

    which = out.matched[0]
    positive = (which >= 0).nonzero()[:, 0]
    kinds = (which >= 0, which == BACKGROUND, which == BETWEEN)
    found["match.0.counts"] = torch.stack([kind.sum() for kind in kinds])
    own = which[positive]
    found["match.0.positive"] = torch.stack([positive, target.labels[0][own] + 1, own])
    found["match.0.encoded"] = encode(target.boxes[0][own], out.anchors[positive], net.WEIGHTS)
    for ours, theirs in (
        ("boxes", ("B", "loss_bbox")),
        ("masks", ("M", "loss_mask")),
        ("classes", ("C", "loss_cls")),
        ("semantic", ("S", "loss_segm")),
    ):
        value = net.losses(out, target)[ours]
        found |= {f"loss.{word}": value[None] if word == "loss_cls" else value for word in theirs}
    return found


def yolact_of_authors(case: Case) -> tuple[str, dict[str, Any]]:
    """The authors' YOLACT on a ResNet; a case's `max_size` leaves the anchors' sizes in pixels as they are."""
    schema = case["schema"]
    width, in_channels = schema["backbone.conv1.weight"][:2]
    return "yolact_r50", {
        "num_classes": schema["semantic_seg_conv.weight"][0],
        "in_channels": in_channels,
        "width": width,
        "depths": [sum(f"backbone.layers.{i}.{j}.conv1.weight" in schema for j in range(50)) for i in range(4)],
        "channels": schema["prediction_layers.0.upfeature.0.weight"][1],
        "prototypes": schema["proto_net.10.weight"][0],
        "mask_channels": schema["proto_net.10.weight"][1],
        "score": case["config"]["conf_thresh"],
        "most": case["config"]["set"].get("max_num_detections", 100),
    }


def yolact_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    """mmdet's YOLACT."""
    model = case["config"]["model"]
    head, test = model["bbox_head"], model["test_cfg"]
    anchors = head["anchor_generator"]
    return "yolact_mmdet_r50", {
        **body_of_mmdet(case),
        "num_classes": head["num_classes"],
        "prototypes": head["num_protos"],
        "mask_channels": case["schema"]["mask_head.protonet.10.weight"][1],
        "anchors": [anchors["octave_base_scale"] * size for size in anchors["base_sizes"]],
        "ratios": [1 / ratio for ratio in anchors["ratios"]],
        "steps": anchors["strides"],
        "before": test["nms_pre"],
        "score": test["score_thr"],
        "overlap": test["iou_thr"],
        "most": test["max_per_img"],
    }


# SOLO -------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def solo(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """SOLO, decoupled SOLO and SOLOv2: everything a case stores, under its names."""
    pixels, target, size, photo = input_of_mmdet(case, fill)
    found: Arrays = {}
    out = net(pixels, targets=target)
    maps, x = net.trunk(pixels, None)
    for i, level in enumerate(maps):
        found[f"features.{i}"], found[f"head.cls.{i}"] = level, out.logits[i]
    for word, field in (("mask", "masks"), ("mask_x", "columns"), ("mask_y", "rows"), ("kernel", "kernels")):
        for i, level in enumerate(getattr(out, field, ())):
            found[f"head.{word}.{i}"] = level
    found["head.mask_feature"] = getattr(out, "feature", None)
    for i, claims in enumerate(cells.cells_of(target, net.rules, (x.shape[-2], x.shape[-1]))):
        own = cells.last_of(claims)[0].flatten()
        where = (own >= 0).nonzero()[:, 0]
        found[f"target.0.cells.{i}"] = torch.stack([where, target.labels[0][own[where]]])
    losses = net.losses(out, target)
    found["loss.loss_mask"], found["loss.loss_cls"] = losses["masks"], losses["classes"]
    placed = net.decode(out)[0].scaled(photo, size)
    found["detect.0.labels"], found["detect.0.scores"] = placed.labels, placed.scores
    masks_said(placed, found)
    return found


def solo_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of mmdet's three."""
    model = case["config"]["model"]
    head, test = model["mask_head"], model["test_cfg"]
    given = {
        **body_of_mmdet(case),
        "num_classes": head["num_classes"],
        "head_width": head["feat_channels"],
        "head_depth": head["stacked_convs"],
        "grids": head["num_grids"],
        "ranges": head["scale_ranges"],
        "score": test["score_thr"],
        "before": test["nms_pre"],
        "kept": test["filter_thr"],
        "most": test["max_per_img"],
    }
    if head["type"] != "SOLOV2Head":
        return f"{'decoupled_' if head['type'].startswith('Decoupled') else ''}solo_mmdet_r50", given
    feature = head["mask_feature_head"]
    return "solov2_mmdet_r50", {**given, "features": feature["feat_channels"], "kernels": feature["out_channels"]}


# AdaptIS ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def adaptis(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """AdaptIS at the points of a case: everything it stores, under its names."""
    from sightline.instance.models.adaptis import normalised_focal, normalised_focal_softmax

    about = case["input"]["images"][0]
    pixels = torch.from_numpy((fill.image(about["seed"], tuple(about["shape"])) - 0.5) / 0.5)[None]
    out = net(pixels, points=torch.tensor(case["points"]))
    assert out.masks is not None and out.semantic is not None
    truth = ellipses(case["targets"][0]["point_boxes"], tuple(about["shape"][1:]))
    scored = truth.long()
    for i, (x0, y0, x1, y1) in enumerate(case.get("ignore_boxes", ())):
        scored[i, y0:y1, x0:x1] = -1
    each = F.binary_cross_entropy_with_logits(out.masks[0], scored.clamp(min=0).float(), reduction="none")
    return {
        "features": net.features(pixels),
        "instances": out.masks[0][:, None],
        "semantic": out.semantic,
        "loss.instance": normalised_focal(out.masks[0], scored),
        "loss.semantic": normalised_focal_softmax(out.semantic, truth.any(0)[None].long()),
        "loss.bce": (each * (scored >= 0)).mean((1, 2)),
    }


def adaptis_of_authors(case: Case) -> tuple[str, dict[str, Any]]:
    """The network for toy data."""
    schema = case["schema"]
    width, in_channels = schema["backbone.encoder.0.1.down_block.0.conv_block.0.weight"][:2]
    depth = sum(key.endswith("upsampler.0.weight") for key in schema)
    return "adaptis_toy", {
        "num_classes": schema["segmentation_head.convhead.9.weight"][0] - 1,
        "in_channels": in_channels,
        "width": width,
        "depth": depth,
        "widest": schema[f"backbone.encoder.{depth}.1.down_block.0.conv_block.0.weight"][0],
        "mean": None,
    }


def systems(catalog: Any) -> dict[str, Any]:
    """The room's systems by their names in the cases."""
    System = catalog.System
    room = boxes_room()
    torchvision = System(of_torchvision, run=three_stages)
    detectron2 = System(of_detectron2, run=three_stages, container=room._wrapped, suffix=".pkl")
    solos = System(solo_of_mmdet, run=solo, container=room._trained)
    return {
        "Mask R-CNN ResNet-50 FPN v1 (torchvision)": torchvision,
        "Mask R-CNN ResNet-50 FPN v2 (torchvision)": torchvision,
        "Mask R-CNN ResNeXt-101-32x8d FPN (torchvision parts, as in the Mask R-CNN paper)": torchvision,
        "Keypoint R-CNN ResNet-50 FPN (torchvision)": torchvision,
        "Mask R-CNN ResNet-50 FPN (detectron2)": detectron2,
        "Mask R-CNN ResNet-50 C4 (detectron2)": detectron2,
        "Keypoint R-CNN ResNet-50 FPN (detectron2)": detectron2,
        "Mask R-CNN ResNet-50 FPN (mmdet)": System(
            mask_rcnn_of_mmdet, run=three_stages_of_mmdet, container=room._trained
        ),
        "YOLACT ResNet-50": System(yolact_of_authors, run=yolact),
        "YOLACT variant of mmdet, ResNet-50": System(yolact_of_mmdet, run=yolact, container=room._trained),
        "AdaptIS toy model (PyTorch branch)": System(adaptis_of_authors, run=adaptis),
        "SOLO ResNet-50 (mmdet)": solos,
        "Decoupled SOLO ResNet-50 (mmdet)": solos,
        "SOLOv2 ResNet-50 (mmdet)": solos,
    }
