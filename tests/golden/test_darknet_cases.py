"""The C program's answers: every layer, box and loss of the cases of darknet, and its files byte by byte.

The slow suite runs every case in the folder of golden cases (`SIGHTLINE_GOLDEN`, or `shared/golden` beside the
checkout); `tests/detection/test_yolo.py` holds small ones of our own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.detection.models.yolov1 import Cells
from sightline.detection.models.yolov2 import COCO_ANCHORS, TINY_VOC_ANCHORS, VOC_ANCHORS, Region
from sightline.detection.models.yolov3 import Scale
from sightline.detection.yolo import Truth, Yolo
from sightline.ops.boxes import from_centres
from sightline.ops.nms import nms
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import create

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
CASES = sorted(FOLDER.glob("detection/darknet_*.json"))


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


fill = _beside("fill")


def network(case: dict[str, Any]) -> Yolo:
    """The entry of a case's `.cfg`, at the widths and classes of its schema."""
    config, schema = case["config"], case["schema"]
    if "cfg_text" in config:
        return create("darknet", cfg=config["cfg_text"])
    last = schema[list(schema)[-1]][0]
    channels = next(iter(schema.values()))[0]
    given: dict[str, Any] = {"width": channels, "in_channels": next(s for s in schema.values() if len(s) == 4)[1]}
    kind = config["cfg"].removesuffix(".cfg")
    if kind.startswith("yolov1"):
        size = case["input"]["images"][0]["shape"][1]
        boxes = 2 if "tiny" in kind else 3
        given |= {"size": size, "boxes": boxes, "num_classes": last // (size // 64) ** 2 - 5 * boxes}
        return create("yolov1_tiny" if "tiny" in kind else "yolov1", **given)
    anchors = 3 if kind.startswith("yolov3") else 5
    given["num_classes"] = last // anchors - 5
    if kind.startswith("yolov2"):
        table = TINY_VOC_ANCHORS if "tiny-voc" in kind else VOC_ANCHORS if "voc" in kind else COCO_ANCHORS
        given["anchors"] = [list(pair) for pair in table]
        if "tiny" in kind:
            convs = [shape[0] for name, shape in schema.items() if name.endswith(".weight") and len(shape) == 4]
            given["last"] = convs[-3:-1]
            return create("yolov2_tiny", **given)
        return create("yolov2", **given)
    return create({"yolov3-tiny": "yolov3_tiny", "yolov3-spp": "yolov3_spp"}.get(kind, "yolov3"), **given)


def letterboxed(boxes: Tensor, size: tuple[int, int], photo: tuple[int, int]) -> Tensor:
    """Centres and sizes relative to the network's square, relative to the photo that stands in its middle."""
    height, width = size
    if width / photo[1] < height / photo[0]:
        new = (photo[0] * width // photo[1], width)
    else:
        new = (height, photo[1] * height // photo[0])
    scale = torch.tensor([width / new[1], height / new[0]])
    shift = torch.tensor([(width - new[1]) / 2 / width, (height - new[0]) / 2 / height])
    return torch.cat([(boxes[:, :2] - shift) * scale, boxes[:, 2:] * scale], 1)


def answers(net: Yolo, maps: list[Tensor], case: dict[str, Any]) -> dict[str, Any]:
    """The boxes above the case's threshold, and what is left of them after suppression."""
    config = case["config"]
    size = tuple(case["input"]["images"][0]["shape"][1:])
    stretched = isinstance(net.heads[0], Cells)
    guess = net.guesses(maps, size)
    boxes, objectness, classes = guess.boxes[0], guess.objectness[0], guess.classes[0]
    if stretched:
        boxes = boxes * torch.tensor([config["photo"][1], config["photo"][0]] * 2)
    else:
        boxes = letterboxed(boxes, size, config["photo"])
        classes = torch.where(objectness[:, None] > config["thresh"], classes, 0.0)
    scores = objectness[:, None] * classes
    scores = torch.where(scores > config["thresh"], scores, 0.0)
    best, label = scores.max(1)
    some = best.argsort(descending=True, stable=True)[: int((best > 0).sum())][:60]
    found = {
        "boxes.count": torch.tensor([len(some)]), "boxes.box": boxes[some], "boxes.objectness": objectness[some],
        "boxes.best_class": label[some], "boxes.best_probability": best[some],
    }  # fmt: skip
    kept = []
    for k in range(scores.shape[1]):
        here = (scores[:, k] > 0).nonzero()[:, 0]
        here = here[nms(from_centres(boxes[here]), scores[here, k], config["nms"])]
        kept.append(torch.stack([here, torch.full_like(here, k)], 1))
    pairs = torch.cat(kept)
    values = scores[pairs[:, 0], pairs[:, 1]]
    first = values.argsort(descending=True, stable=True)[:60]
    return found | {
        "nms.count": torch.tensor([len(pairs)]), "nms.class": pairs[first, 1], "nms.probability": values[first],
        "nms.box": boxes[pairs[first, 0]],
    }  # fmt: skip


def of_network(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every array of a case of a network, through a file of its own."""
    net = network(case).eval()
    floats = sum(int(np.prod(slot.shape)) for slot in net.darknet_tensors())
    assert floats == case["parameters"]
    assert [list(slot.shape) for slot in net.darknet_tensors()] == list(case["schema"].values())
    tensors = fill.checkpoint(case)
    header = np.array(case["weights_file"]["header"][:3], np.int32).tobytes() + np.uint64(0).tobytes()
    content = header + b"".join(np.ascontiguousarray(t, np.float32).tobytes() for t in tensors.values())
    public = folder / "public.weights"
    public.write_bytes(content)
    report = load_weights(net, public)
    assert not (report.missing or report.unexpected or report.reinitialised or report.adapted), str(report)
    ours = save_weights(net, folder / "ours.weights").read_bytes()
    found: dict[str, Any] = {
        "weights_file.bytes": torch.tensor([len(ours)]),
        "weights_file.crc32": torch.tensor([zlib.crc32(ours)]),
        "weights_file.head": torch.from_numpy(np.frombuffer(ours[:64], np.uint8).copy()),
    }
    about = case["input"]["images"][0]
    images = torch.from_numpy(fill.image(about["seed"], tuple(about["shape"])))[None]
    layers: dict[int, Tensor] = {}
    with torch.inference_mode():
        net.body.look(images, lambda i, x: layers.update({i: x}))
        found |= answers(net, [layers[i] for i in net.body.heads], case)
    for i, x in layers.items():
        found[f"layer.{i}"] = x[0]
    for i, head in zip(net.body.heads, net.heads):
        found[f"layer.{i}"] = activated(head, layers[i])[0]
    return found


def activated(head: Any, raw: Tensor) -> Tensor:
    """A head's own output, in the C program's layout."""
    if isinstance(head, Cells):
        return raw.flatten(1)
    x = raw.unflatten(1, (len(head.anchors) if isinstance(head, Region) else len(head.mine), -1)).clone()
    x[:, :, [0, 1, 4]] = x[:, :, [0, 1, 4]].sigmoid()
    x[:, :, 5:] = x[:, :, 5:].softmax(2) if isinstance(head, Region) and head.softmax else x[:, :, 5:].sigmoid()
    return x.flatten(1, 2)


def of_loss(case: dict[str, Any], given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Outputs, the gradient buffer and the printed cost of a case of a loss."""
    config = case["config"]
    raw = torch.from_numpy(given["given.input" if "given.input" in given else "input"]).double()
    true = torch.from_numpy(given["given.truth" if "given.truth" in given else "truth"])
    side, classes = config["side"], config["classes"]
    pairs = tuple(zip(config["anchors"][::2], config["anchors"][1::2])) if config["anchors"] else ()
    head: Any
    if config["kind"] == "v1":
        head = Cells(side, classes, config["n"])
        cell = torch.arange(side**2)
        corner = torch.stack([cell % side, cell // side], -1)
        centre = (true[..., 1 + classes : 3 + classes] + corner) / side
        truth = Truth(
            torch.cat([centre, true[..., 3 + classes :]], -1), true[..., 1 : 1 + classes].argmax(-1), true[..., 0] > 0
        )
    else:
        mine = tuple(range(config.get("mask0", 0), config.get("mask0", 0) + config["n"]))
        head = Region(pairs, classes) if config["kind"] == "v2" else Scale(pairs, mine, classes)
        valid = (true[..., 0] != 0).cumprod(1).bool()
        truth = Truth(true[..., :4], true[..., 4].long(), valid)
        raw = raw.flatten(1, 2)
    size = (config.get("net", 32 * side),) * 2
    found: dict[str, Any] = {}
    for name, seen in config["seen"].items():
        leaf = raw.clone().requires_grad_()
        output = activated(head, leaf.detach())
        sum(head.losses(leaf, truth, size, seen).values()).backward()
        delta = -leaf.grad
        if config["kind"] == "v2":  # the C program multiplies by the sigmoid's slope later
            slope = output * (1 - output)
            parts, slope = delta.unflatten(1, (config["n"], -1)), slope.unflatten(1, (config["n"], -1))
            parts[:, :, [0, 1, 4]] /= slope[:, :, [0, 1, 4]]
            delta = parts.flatten(1, 2)
        shape = case["outputs"][f"{name}.delta"]["shape"]
        found[f"{name}.output"], found[f"{name}.delta"] = output.view(shape), delta.view(shape)
        found[f"{name}.cost"] = (delta**2).sum()[None]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    case = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as arrays:
        expected = dict(arrays)
    found = of_loss(case, expected) if case["config"]["kind"] in ("v1", "v2", "v3") else of_network(case, tmp_path)
    faults = []
    for name, about in case["outputs"].items():
        ours, theirs = found[name], expected[name]
        if "slice" in about:
            ours = ours[
                tuple(
                    slice(*(int(n) if n else None for n in p.strip().split(":")))
                    for p in about["slice"][1:-1].split(",")
                )
            ]
        if tuple(ours.shape) != theirs.shape:
            faults.append(f"{name}: {tuple(ours.shape)} for {theirs.shape}")
            continue
        difference = np.abs(ours.double().numpy() - theirs).max(initial=0) / max(np.abs(theirs).max(initial=0), 1e-12)
        allowed = 0 if about.get("exact") else about.get("tolerance", case["tolerance"])
        print(f"{name}: {difference:.1e}, allowed {allowed:.0e}")
        if difference > allowed:
            faults.append(f"{name}: {difference:.2e} > {allowed:.0e}")
    assert not faults
