"""Golden cases of the detection room: whole pictures through the library's way, and both stages on given proposals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.detection.contract import Target, whole
from sightline.detection.predict import answer
from sightline.detection.regions import Proposals
from sightline.media.prepare import as_float, prepare
from sightline.nn.normalize import IMAGENET_MEAN
from sightline.ops.box_coding import encode
from sightline.ops.matching import BACKGROUND, BETWEEN

Case = Mapping[str, Any]
Arrays = dict[str, Tensor]
KINDS = {"tv": "torchvision", "d2": "detectron2"}


@dataclass(frozen=True)
class Scene:
    """One picture of a case as the network is given it, with its truth in the network's pixels."""

    image: np.ndarray  # (H, W, 3) float32 in [0, 1]
    preprocess: Preprocess
    pixels: Tensor  # (1, 3, h, w)
    sizes: Tensor  # (1, 2)
    factor: Tensor  # (4,) from the picture's coordinates to the network's


def shape(case: Case, name: str) -> list[int]:
    return case["schema"][name]


def depths(case: Case, prefix: str) -> list[int]:
    """Units of the four stages of a ResNet under torchvision's names."""
    return [
        1
        + max(
            int(k.split(f"{prefix}.layer{i}.")[1].split(".")[0]) for k in case["schema"] if f"{prefix}.layer{i}." in k
        )
        for i in (1, 2, 3, 4)
    ]


def settings(case: Case) -> dict[str, Any]:
    """The values a torchvision case gave to its builder."""
    config = dict(case["config"])
    return {**config, **config.get("kwargs", {})}


def scene(case: Case, fill: Any, index: int = 0) -> Scene:
    """Picture `index` of a case; torchvision's are resized by its rule, detectron2's come as blue, green, red."""
    about = case["input"]["images"][index]
    planes = fill.image(about["seed"], tuple(about["shape"]))
    values = settings(case)
    if "min_size" in values:
        rule = f"torchvision({values['min_size']}, {values['max_size']})"
    else:
        planes, rule = planes[::-1], "none"  # our networks take red, green, blue, whatever theirs took
    image = np.ascontiguousarray(planes.transpose(1, 2, 0))
    multiple = 1 if "c4" in case["system"].lower() else 32
    preprocess = Preprocess(resize=rule, multiple=multiple)
    prepared = prepare(image, preprocess)
    down, across = (b / a for a, b in zip(prepared.original, prepared.valid))
    return Scene(
        image,
        preprocess,
        as_float(prepared.pixels)[None],
        torch.tensor([prepared.valid]),
        torch.tensor([across, down, across, down], dtype=torch.float32),
    )


def truth(case: Case, expected: Mapping[str, np.ndarray], index: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes and labels of picture `index`, as the case has them."""
    if "targets" in case:
        about = case["targets"][index]
        return torch.tensor(about["boxes"], dtype=torch.float32), torch.tensor(about["labels"])
    return tuple(torch.from_numpy(expected[f"given.target.{index}.{word}"]) for word in ("boxes", "labels"))


def listed(expected: Mapping[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(expected[name if name in expected else f"given.{name}"])


def proposed(boxes: Tensor) -> Proposals:
    return Proposals(boxes[None], torch.zeros(1, len(boxes)), torch.ones(1, len(boxes)).bool())


@torch.inference_mode()
def two_stages(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """Faster R-CNN of any source: everything a case of it stores, under its names."""
    public = KINDS["tv" if "torchvision" in case["system"] else "d2"]
    tv = public == "torchvision"
    seen = scene(case, fill)
    boxes, labels = truth(case, expected)
    boxes, labels = boxes * seen.factor, labels - int(tv)  # torchvision counts the background as class 0
    target = Target(boxes[None], labels[None])
    found: Arrays = {}

    maps, x = net.trunk(seen.pixels, seen.sizes)
    found["input"] = x
    names = [*map(str, range(len(maps) - 1)), "pool"] if tv else [f"p{2 + i}" for i in range(len(maps))]
    if len(maps) == 1:
        names = ["res4"]
    for name, level in zip(names, maps):
        found[f"features.{name}"] = found[f"fpn.{name}"] = level
    logits, deltas = net.rpn.head(maps)
    anchors = net.rpn.anchors(maps, x)
    for i, level in enumerate(zip(logits, deltas, anchors)):
        found[f"rpn.logits.{i}"], found[f"rpn.deltas.{i}"], found[f"anchors.{i}"] = level
    limits = whole(seen.pixels, seen.sizes)
    proposals, _ = net.rpn(maps, x, limits)
    found["rpn.proposals.0"] = proposals.boxes[0][proposals.valid[0]]
    found["rpn.proposal_logits.0"] = proposals.scores[0][proposals.valid[0]]

    given = proposed(listed(expected, "proposals.0"))
    pooled = net.boxes.pooler(maps, given.boxes)
    found["box.pooled"] = pooled
    if hasattr(net.boxes.head, "layer4"):
        found["res5"] = net.boxes.head.layer4(pooled)
    found["box.head"] = net.boxes.head(pooled)
    said, moved = net.boxes(maps, given.boxes)
    found["box.logits"], found["box.deltas"] = said[0], moved[0].flatten(1)
    if tv or "output_size" not in case["input"]["images"][0]:
        placed = answer(net, seen.image, preprocess=seen.preprocess)
    else:
        final = net.look(maps, proposals, limits)
        size = case["input"]["images"][0]["output_size"]
        from sightline.detection.contract import Seen, decode

        placed = decode(Seen(final))[0].scaled(size, tuple(seen.sizes[0].tolist()))
    found["detect.0.boxes"], found["detect.0.scores"] = placed.boxes, placed.scores
    found["detect.0.labels"] = placed.labels + int(tv)

    # what it learns: nothing is drawn at random, the samples hold everything
    which, box = net.rpn.assign(torch.cat(anchors), target)
    positive = (which[0] >= 0).nonzero()[:, 0]
    kinds = (which >= 0, which == BACKGROUND, which == BETWEEN)
    found["rpn.target.0"] = torch.stack([kind.sum() for kind in kinds])
    found["rpn.positive.0"], found["rpn.positive_gt_box.0"] = positive, box[0][positive]
    net.rpn.train()  # for the limits of training: it has no norm and no dropout
    training, first = net.rpn(maps, x, limits, target)
    net.rpn.eval()
    first = replace(first, positive=kinds[0], negative=kinds[1])
    words = {
        "rpn_objectness": "loss_objectness" if tv else "loss_rpn_cls",
        "rpn_boxes": "loss_rpn_box_reg" if tv else "loss_rpn_loc",
        "classes": "loss_classifier" if tv else "loss_cls",
        "boxes": "loss_box_reg",
    }
    net.boxes.count, asked = 10**7, net.boxes.count
    for prefix, some in (("loss", proposed(listed(expected, "train_proposals.0"))), ("full", training)):
        second = net.study(maps, some, target)
        losses = net.rpn.losses(first) | net.boxes.losses(second)
        found |= {f"{prefix}.{words[name]}": value for name, value in losses.items()}
        if prefix == "loss":
            sample = second.sample
            labels = net.boxes.columns(sample.labels[0])
            if not tv:  # positives first
                labels = torch.cat([labels[sample.positive[0]], labels[~sample.positive[0]]])
            found["box.target_labels.0"] = labels
            found["box.target_deltas.0"] = encode(sample.truth, sample.boxes, net.boxes.weights)[0]
    net.boxes.count = asked
    return found


@torch.inference_mode()
def one_stage(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """RetinaNet of any source: everything a case of it stores, under its names."""
    tv = "torchvision" in case["system"]
    seen = scene(case, fill)
    boxes, labels = truth(case, expected)
    target = Target((boxes * seen.factor)[None], labels[None])
    found: Arrays = {}
    maps, x = net.trunk(seen.pixels, seen.sizes)
    found["input"] = x
    for i, level in enumerate(maps):
        found[f"features.p{3 + i}"] = found[f"features.{i}"] = level

    for i, (level, logits, deltas, anchors) in enumerate(zip(maps, *net.heads(maps, x))):
        found[f"cls_logits.{i}"], found[f"deltas.{i}"], found[f"anchors.{i}"] = logits, deltas, anchors
        if not tv:
            found[f"cls_logits.{i}"], found[f"deltas.{i}"] = net.classes(level), net.boxes(level)
    placed = answer(net, seen.image, preprocess=seen.preprocess)
    if "output_size" in case["input"]["images"][0]:
        placed = placed.scaled(case["input"]["images"][0]["output_size"], seen.image.shape[:2])
    found["detect.0.boxes"], found["detect.0.labels"], found["detect.0.scores"] = (
        placed.boxes,
        placed.labels,
        placed.scores,
    )

    out = net(seen.pixels, sizes=seen.sizes, targets=target)
    which = out.matched[0]
    positive = (which >= 0).nonzero()[:, 0]
    found["match.0.counts"] = torch.stack([(which >= 0).sum(), (which == BACKGROUND).sum(), (which == BETWEEN).sum()])
    found["match.0.positive"], found["match.0.gt"] = positive, which[positive]
    found["match.0.labels"] = labels[which[positive]]
    found["match.0.encoded"] = encode(target.boxes[0][which[positive]], out.anchors[positive])
    losses = net.losses(out, target)
    for ours, theirs in (
        ("classes", ("classification", "loss_cls")),
        ("boxes", ("bbox_regression", "loss_box_reg", "loss_bbox")),
    ):
        found |= {f"loss.{word}": losses[ours] for word in theirs}
    return found


def retinanet_of_torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of torchvision's two, at which sizes."""
    values = settings(case)
    width, in_channels = shape(case, "backbone.body.conv1.weight")[:2]
    given: dict[str, Any] = {
        "num_classes": values["num_classes"],
        "channels": shape(case, "head.regression_head.bbox_reg.weight")[1],
        "width": width,
        "in_channels": in_channels,
        "depths": depths(case, "backbone.body"),
        "mean": IMAGENET_MEAN,
    }
    for ours, theirs in (
        ("score", "score_thresh"),
        ("overlap", "nms_thresh"),
        ("most", "detections_per_img"),
        ("before", "topk_candidates"),
    ):
        if theirs in values:
            given[ours] = values[theirs]
    if values["builder"].endswith("v2"):
        return "retinanet_torchvision_r50_fpn_v2", given
    eps = values.get("norm_eps")
    given |= {
        "norm": values["norm"],
        "norm_eps": eps if eps is not None else 0.0 if values["norm"] == "frozen" else 1e-5,
    }
    return "retinanet_torchvision_r50_fpn", given


def faster_rcnn_of_torchvision(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of torchvision's three, at which sizes."""
    values = settings(case)
    kind = values["builder"].removeprefix("fasterrcnn_")
    given: dict[str, Any] = {
        "num_classes": shape(case, "roi_heads.box_predictor.cls_score.weight")[0] - 1,
        "channels": shape(case, "rpn.head.cls_logits.weight")[1],
        "hidden": shape(case, "roi_heads.box_predictor.cls_score.weight")[1],
        "mean": IMAGENET_MEAN,
    }
    for ours, theirs in (("before", "rpn_pre_nms_top_n"), ("after", "rpn_post_nms_top_n")):
        usual = {"before": (2000, 1000), "after": (2000, 1000)}[ours]
        given[ours] = [values.get(f"{theirs}_{mode}", n) for mode, n in zip(("train", "test"), usual)]
    for ours, theirs in (
        ("score", "box_score_thresh"),
        ("overlap", "box_nms_thresh"),
        ("most", "box_detections_per_img"),
        ("rpn_overlap", "rpn_nms_thresh"),
        ("rpn_score", "rpn_score_thresh"),
    ):
        if theirs in values:
            given[ours] = values[theirs]
    if "norm" in values and "v2" not in kind:
        given["norm"] = values["norm"]
        eps = values.get("norm_eps")
        given["norm_eps"] = (
            eps if eps is not None else 0.0 if "resnet50" in kind and values["norm"] == "frozen" else 1e-5
        )
    if "mobilenet" in kind:
        return "faster_rcnn_torchvision_mobilenet_v3_large_fpn", given
    given["width"], given["in_channels"] = shape(case, "backbone.body.conv1.weight")[:2]
    given["depths"] = depths(case, "backbone.body")
    return f"faster_rcnn_torchvision_r50_fpn{'_v2' if 'v2' in kind else ''}", given


def of_detectron2(case: Case) -> tuple[str, dict[str, Any]]:
    """Which of detectron2's three; every setting is in the case."""
    model = case["config"]["resolved"]["MODEL"]
    prefix = "backbone.bottom_up." if "backbone.bottom_up.stem.conv1.weight" in case["schema"] else "backbone."
    stem = shape(case, f"{prefix}stem.conv1.weight")
    units = [sum(f"{prefix}res{i}.{j}.conv1.weight" in case["schema"] for j in range(50)) for i in (2, 3, 4, 5)]
    given: dict[str, Any] = {
        "in_channels": stem[1],
        "width": stem[0],
        "depths": units,
        "stride_in": "1x1" if model["RESNETS"]["STRIDE_IN_1X1"] else "3x3",
        "most": case["config"]["resolved"]["TEST.DETECTIONS_PER_IMAGE"],
        "mean": [m / 255 for m in reversed(model["PIXEL_MEAN"])],
        "std": [s / 255 for s in reversed(model["PIXEL_STD"])],
    }
    if "RETINANET" in model:
        about = model["RETINANET"]
        return "retinanet_detectron2_r50_fpn", given | {
            "num_classes": about["NUM_CLASSES"],
            "channels": model["FPN"]["OUT_CHANNELS"],
            "anchors": [sizes[0] for sizes in model["ANCHOR_GENERATOR"]["SIZES"]],
            "score": about["SCORE_THRESH_TEST"],
            "before": about["TOPK_CANDIDATES_TEST"],
            "overlap": about["NMS_THRESH_TEST"],
        }
    rpn, heads = model["RPN"], model["ROI_HEADS"]
    given |= {
        "num_classes": heads["NUM_CLASSES"],
        "ratios": model["ANCHOR_GENERATOR"]["ASPECT_RATIOS"][0],
        "before": [rpn["PRE_NMS_TOPK_TRAIN"], rpn["PRE_NMS_TOPK_TEST"]],
        "after": [rpn["POST_NMS_TOPK_TRAIN"], rpn["POST_NMS_TOPK_TEST"]],
        "rpn_overlap": rpn["NMS_THRESH"],
        "rpn_count": rpn["BATCH_SIZE_PER_IMAGE"],
        "score": heads["SCORE_THRESH_TEST"],
        "overlap": heads["NMS_THRESH_TEST"],
    }
    sizes = model["ANCHOR_GENERATOR"]["SIZES"]
    if heads["NAME"] == "Res5ROIHeads":
        given["depths"][3] = sum(f"roi_heads.res5.{j}.conv1.weight" in case["schema"] for j in range(50))
        return "faster_rcnn_detectron2_r50_c4", given | {"anchors": sizes[0]}
    return "faster_rcnn_detectron2_r50_fpn", given | {
        "anchors": [size[0] for size in sizes],
        "channels": model["FPN"]["OUT_CHANNELS"],
        "hidden": model["ROI_BOX_HEAD"]["FC_DIM"],
    }


def retinanet_of_mmdet(case: Case) -> tuple[str, dict[str, Any]]:
    """mmdet's, which gets pictures that are normalised already."""
    model = case["config"]["model"]
    test = model["test_cfg"]
    width, in_channels = shape(case, "backbone.conv1.weight")[:2]
    return "retinanet_mmdet_r50_fpn", {
        "num_classes": model["bbox_head"]["num_classes"],
        "channels": model["neck"]["out_channels"],
        "width": width,
        "in_channels": in_channels,
        "depths": [
            sum(f"backbone.layer{i}.{j}.conv1.weight" in case["schema"] for j in range(50)) for i in (1, 2, 3, 4)
        ],
        "anchors": [
            model["bbox_head"]["anchor_generator"]["octave_base_scale"] * s
            for s in model["bbox_head"]["anchor_generator"]["strides"]
        ],
        "score": test["score_thr"],
        "before": test["nms_pre"],
        "overlap": test["nms"]["iou_threshold"],
        "most": test["max_per_img"],
        "mean": None,
    }


@torch.inference_mode()
def one_stage_of_mmdet(net: Any, case: Case, expected: Mapping[str, np.ndarray], fill: Any) -> Arrays:
    """RetinaNet of mmdet: the input is normalised and padded already."""
    about = case["input"]["images"][0]
    pixels = torch.from_numpy((fill.image(about["seed"], tuple(about["shape"])) - 0.5) * 4)[None]
    boxes, labels = truth(case, expected)
    found: Arrays = {}
    maps, x = net.trunk(pixels, None)
    for i, (level, anchors) in enumerate(zip(maps, net.heads(maps, x)[2])):
        found[f"features.{i}"], found[f"anchors.{i}"] = level, anchors
        found[f"head.cls.{i}"], found[f"head.box.{i}"] = net.classes(level), net.boxes(level)
    target = Target(boxes[None], labels[None])
    out = net(pixels, targets=target)
    placed = net.decode(out)[0].scaled(about["ori_shape"], about["shape"][1:])
    found["detect.0.boxes"], found["detect.0.labels"], found["detect.0.scores"] = (
        placed.boxes,
        placed.labels,
        placed.scores,
    )
    losses = net.losses(out, target)
    found["loss.loss_cls"], found["loss.loss_bbox"] = losses["classes"], losses["boxes"]
    levels, start = [], 0
    for level in maps:
        stop = start + level.shape[2] * level.shape[3] * net.cells.shape[1]
        some = slice(start, stop)
        part = replace(
            out,
            logits=out.logits[:, some],
            deltas=out.deltas[:, some],
            anchors=out.anchors[some],
            matched=out.matched[:, some],
        )
        levels.append(net.losses(part, target))
        start = stop
    found["loss_levels.loss_cls"] = torch.stack([level["classes"] for level in levels])
    found["loss_levels.loss_bbox"] = torch.stack([level["boxes"] for level in levels])
    return found


def _wrapped(tensors: Arrays) -> dict[str, Any]:
    """A file of detectron2: arrays below `model`, with an author."""
    return {"model": {name: value.numpy() for name, value in tensors.items()}, "__author__": "Somebody"}


def systems(catalog: Any) -> dict[str, Any]:
    """The room's systems by their names in the cases."""
    System = catalog.System
    faster = System(faster_rcnn_of_torchvision, run=two_stages)
    retina = System(retinanet_of_torchvision, run=one_stage)
    two = System(of_detectron2, run=two_stages, container=_wrapped, suffix=".pkl")
    one = System(of_detectron2, run=one_stage, container=_wrapped, suffix=".pkl")
    mmdet = System(retinanet_of_mmdet, run=one_stage_of_mmdet, container=_trained)
    return {
        "Faster R-CNN ResNet-50 FPN v1 (torchvision)": faster,
        "Faster R-CNN ResNet-50 FPN v2 (torchvision)": faster,
        "Faster R-CNN MobileNetV3-Large FPN (torchvision)": faster,
        "RetinaNet ResNet-50 FPN v1 (torchvision)": retina,
        "RetinaNet ResNet-50 FPN v2 (torchvision)": retina,
        "Faster R-CNN ResNet-50 FPN (detectron2)": two,
        "Faster R-CNN ResNet-50 C4 (detectron2)": two,
        "RetinaNet ResNet-50 FPN (detectron2)": one,
        "RetinaNet ResNet-50 FPN (mmdet)": mmdet,
    }


def _trained(tensors: Arrays) -> dict[str, Any]:
    """A checkpoint of mmdet's runner."""
    return {"meta": {"epoch": 12}, "state_dict": tensors}
