"""What every entry of the room keeps, at tiny sizes; a paper's own tests add only what is special to it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import zlib
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.contracts import Entry
from sightline.detection.answer import Detections
from sightline.detection.contract import PADDING, Found, Target
from sightline.errors import UsageError
from sightline.instance.catalog import MODELS
from sightline.verbs.load import key_maps, load_weights, save_weights
from sightline.verbs.models import builder_of, create, defaults_of

NAMES = sorted(MODELS)
SIZE = (70, 93)
SILENT = {"adaptis", "adaptis_toy"}  # its output is scaled so that fresh weights see nothing


def tiny(name: str, **values: Any) -> nn.Module:
    """The entry at the size its catalogue line gives for tests, with weights that are a function of their names."""
    if "detectron2" in name:  # its pixels go up to 255: random weights would blow them up
        values = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), **values}
    net = create(name, **{**MODELS[name].tiny, "num_classes": 5, **values})
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            value = torch.randn(tensor.shape, generator=random)
            if key.endswith(("running_var", "running_mean")) or tensor.ndim <= 1:
                value = 0.1 * value + (1.0 if key.endswith(("running_var", "weight", "scale")) else 0.0)
            else:
                value = value * (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(value * 0.1 if key.startswith(net.HEAD) else value)  # unsure of the class, so that it speaks
    return net.eval()


def picture(name: str, batch: int = 2, *, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    channels = defaults_of(builder_of(MODELS[name]))["in_channels"]
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def joints_of(name: str) -> int:
    return MODELS[name].tiny.get("joints", 17)


def truth(name: str, classes: int = 5) -> Target:
    """Two pictures: one with three objects (one a crowd), one with a single one; ellipses, and joints in the boxes."""
    boxes = torch.tensor(
        [[[4.0, 6, 40, 50], [30, 20, 60, 66], [50, 4, 90, 30]], [[10, 12, 44, 60], [0, 0, 0, 0], [0, 0, 0, 0]]]
    )
    labels = torch.tensor([[0, min(3, classes - 1), 0], [min(1, classes - 1), PADDING, PADDING]])
    y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=1e-3)
    u = (x - centre[..., 0, None, None]) / half[..., 0, None, None]
    v = (y - centre[..., 1, None, None]) / half[..., 1, None, None]
    part = torch.rand(2, 3, joints_of(name), 2, generator=torch.Generator().manual_seed(3))
    points = boxes[:, :, None, :2] + part * (boxes[:, :, None, 2:] - boxes[:, :, None, :2])
    seen = torch.full_like(points[..., :1], 2.0)
    return Target(
        boxes,
        labels,
        ignore=torch.tensor([[False, False, True], [False] * 3]),
        masks=u * u + v * v <= 1,
        keypoints=torch.cat([points, seen], -1),
    )


def nothing(name: str) -> Target:
    masks, points = torch.zeros(2, 0, *SIZE).bool(), torch.zeros(2, 0, joints_of(name), 3)
    return Target(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), masks=masks, keypoints=points)


def seen(net: nn.Module, images: Tensor, **more: Any) -> Found:
    with torch.no_grad():
        return net(images, **more).found


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_is_true(name: str) -> None:
    entry = MODELS[name]
    assert isinstance(entry, Entry) and entry.task == "instance" and entry.paper
    builder = builder_of(entry)
    for argument in inspect.signature(builder).parameters.values():
        assert argument.kind is not inspect.Parameter.VAR_KEYWORD
        json.dumps(argument.default)
    json.dumps(asdict(entry.preprocess))
    with torch.device("meta"):
        net = builder()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == entry.parameters
    assert any(any(key.startswith(prefix) for key in net.state_dict()) for prefix in net.HEAD)


@pytest.mark.parametrize("name", NAMES)
def test_objects_with_masks_or_joints(name: str) -> None:
    net, images = tiny(name), picture(name)
    before = images.clone()
    with torch.no_grad():
        out = net(images)
    found = out.found
    assert torch.equal(images, before) and found.boxes.dtype is found.scores.dtype is torch.float32
    assert found.boxes.shape == (2, found.scores.shape[1], 4) and found.labels.shape == found.scores.shape
    answers = net.decode(out, classes=("a", "b", "c", "d", "e"))
    assert len(answers) == 2 and isinstance(answers[0], Detections)
    assert sum(map(len, answers)) > 0 or name in SILENT, "the test's weights should find something"
    for answer in answers:
        assert bool((answer.scores.diff() <= 0).all()) and bool(((answer.scores > 0) & (answer.scores <= 1)).all())
        assert bool((answer.labels >= 0).all()) and bool((answer.labels < 5).all())
        boxes = answer.boxes
        assert bool((boxes[:, 2:] >= boxes[:, :2]).all()) and bool((boxes >= 0).all())
        assert bool((boxes[:, 0::2] <= SIZE[1]).all()) and bool((boxes[:, 1::2] <= SIZE[0]).all())
        larger = answer.scaled((140, 120), SIZE)
        if answer.keypoints is not None:
            assert answer.keypoints.shape == (len(answer), joints_of(name), 3) and answer.masks is None
            inside = (answer.keypoints[..., :2] >= boxes[:, None, :2] - 1) & (
                answer.keypoints[..., :2] <= boxes[:, None, 2:] + 1
            )
            assert bool(inside.all())
            continue
        assert answer.masks is not None and len(answer.masks) == len(answer)
        assert answer.masks.dense().shape == (len(answer), *SIZE) and answer.masks.dense().dtype is torch.bool
        assert larger.masks.dense().shape == (len(answer), 140, 120)
        assert [row["mask"]["size"] for row in larger.objects()] == [[140, 120]] * len(answer)
        assert len(answer.above(0.5)) == len(answer.above(0.5).masks)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_and_losses_need_no_training_mode(name: str) -> None:
    net, images, target = tiny(name).train(), picture(name), truth(name)
    torch.manual_seed(1)
    out = net(images, targets=target)
    assert out.found is None
    losses = net.losses(out, target)
    sum(losses.values()).backward()
    assert torch.equal(target.boxes, truth(name).boxes) and torch.equal(target.masks, truth(name).masks)
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not [k for k in silent if not unused(name, k)]
    with torch.no_grad():
        out = net.eval()(images, targets=target)
        again = net.losses(net(images, targets=target), target)
    evaluated = net.losses(out, target)
    assert out.found is not None and set(evaluated) == set(losses)
    assert all(value.ndim == 0 and bool(value.isfinite()) for value in evaluated.values())
    assert all(torch.equal(again[k], evaluated[k]) for k in evaluated)


def unused(name: str, key: str) -> bool:
    """Parameters of levels whose objects the test's picture does not have."""
    if name.startswith("yolact"):
        return key.startswith(("trunk.fpn.output.", "trunk.fpn.coarse."))
    if "solo" in name:
        return key.startswith(("masks.", "rows.", "columns."))
    return name.startswith("polarmask") and ("_scales." in key)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_objects_and_all_crowds(name: str) -> None:
    from dataclasses import replace

    for target in (nothing(name), replace(truth(name), ignore=torch.ones(2, 3).bool())):
        net = tiny(name).train()
        losses = net.losses(net(picture(name), targets=target), target)
        sum(losses.values()).backward()
        assert all(bool(value.isfinite()) for value in losses.values())
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize("name", NAMES)
def test_targets_without_masks_are_refused_in_words(name: str) -> None:
    target = Target(truth(name).boxes, truth(name).labels)
    net = tiny(name).train()
    with pytest.raises(UsageError, match="targets have none"):
        net.losses(net(picture(name), targets=target), target)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_are_strangers(name: str) -> None:
    net, images = tiny(name), picture(name, 3)
    alone, together = seen(net, images[1:2]), seen(net, images)
    n = int(alone.count[0])
    assert int(together.count[1]) == n
    assert torch.allclose(together.scores[1, :n], alone.scores[0, :n], atol=1e-4)
    assert torch.allclose(together.boxes[1, :n], alone.boxes[0, :n], atol=1e-2)
    if alone.masks is not None:
        assert torch.allclose(together.masks[1, :n], alone.masks[0, :n], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_a_pictures_size_is_not_seen(name: str) -> None:
    net, images = tiny(name), picture(name, size=(64, 96))
    sizes = torch.tensor([[64, 96], [55, 80]])
    other = images.clone()
    other[1, :, 55:] = 0.77
    other[1, :, :, 80:] = 0.33
    a, b = seen(net, images, sizes=sizes), seen(net, other, sizes=sizes)
    assert torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)
    n = int(a.count[1])
    assert bool((a.boxes[1, :n, 0::2] <= 80).all()) and bool((a.boxes[1, :n, 1::2] <= 55).all())
    with torch.no_grad():
        answer = net.decode(net(images, sizes=sizes))[1]
    assert answer.size == (55, 80) and (answer.masks is None or answer.masks.dense().shape[1:] == (55, 80))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_network_any_channels_one_class(name: str) -> None:
    def fresh(**values: Any) -> nn.Module:
        torch.manual_seed(7)
        return create(name, **MODELS[name].tiny, **values).eval()

    one, two = fresh(), fresh()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    net, target = fresh(num_classes=1, in_channels=1), truth(name, 1)
    out = net(picture(name)[:, :1], targets=target)
    assert not out.found.labels.numel() or int(out.found.labels.max()) <= 0
    assert all(bool(value.isfinite()) for value in net.losses(out, target).values())


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_out_and_come_back(name: str, tmp_path: Any) -> None:
    net, images = tiny(name), picture(name)
    for layout in ("sightline", *written(name)):
        path = save_weights(net, tmp_path / f"{layout}.pth", layout=layout)
        other = tiny(name)
        other.load_state_dict({key: torch.zeros_like(value) for key, value in other.state_dict().items()})
        report = load_weights(other, path)
        assert not report.missing and not report.unexpected
        assert torch.equal(seen(other, images).boxes, seen(net, images).boxes)


def written(name: str) -> tuple[str, ...]:
    """The public layouts that hold the whole network."""
    if name.endswith("c4"):
        return ("detectron2-c4",)
    if "solo" in name:
        return ("mmdet", "wxinlong")
    papers = {"yolact_r50": "yolact", "adaptis": "adaptis", "adaptis_toy": "adaptis", "polarmask_r50": "polarmask"}
    if name in papers:
        return (papers[name],)
    return tuple(word for word in ("torchvision", "detectron2", "mmdet") if word in name)


@pytest.mark.parametrize("name", NAMES)
def test_another_class_count_loads_all_but_the_head(name: str) -> None:
    net = create(name, **MODELS[name].tiny, num_classes=3)
    report = load_weights(net, tiny(name).state_dict())
    assert report.reinitialised and all(key.startswith(net.HEAD) for key in report.reinitialised)
    assert not report.missing


def same(a: Found, b: Found) -> bool:
    """The same objects, as far as their counts go."""
    if not torch.equal(a.count, b.count):
        return False
    pairs = [(a.boxes, b.boxes, 0.1), (a.scores, b.scores, 1e-3)]
    pairs += [] if a.masks is None or b.masks is None else [(a.masks, b.masks, 1e-3)]
    return all(
        torch.allclose(x[i, :n], y[i, :n], atol=tolerance)
        for i, n in enumerate(a.count.tolist())
        for x, y, tolerance in pairs
    )


COMPILED = (
    "keypoint_rcnn", "mask_rcnn", "mask_rcnn_detectron2_r50_c4", "mask_rcnn_detectron2_r50_fpn",
    "mask_rcnn_mmdet_r50_fpn", "mask_rcnn_torchvision_r50_fpn", "polarmask", "solo", "solov2", "yolact",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_without_a_graph_break(name: str) -> None:
    net, images = tiny(name), picture(name)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert same(seen(compiled, images), seen(net, images))


EXPORTED = ("mask_rcnn", "polarmask", "yolact")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_exports_with_any_height_and_width(name: str) -> None:
    net, images = tiny(name), picture(name, size=(160, 224))  # every level larger than one place
    shapes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, (images,), dynamic_shapes={"images": shapes})
    for other in (picture(name, 1, size=(224, 160), seed=2), picture(name, 3, size=(192, 256))):
        assert same(seen(program.module(), other), seen(net, other))


def test_key_maps_have_one_origin_each() -> None:
    for name in NAMES:
        origins = [found.origin for found in key_maps(create(name, **MODELS[name].tiny))]
        assert len(set(origins)) == len(origins)


def test_the_catalogue_imports_no_torch() -> None:
    code = "import sys, sightline.instance.catalog as c; print('torch' in sys.modules, len(c.MODELS))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", str(len(MODELS))]
