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
from sightline.detection.catalog import MODELS
from sightline.detection.contract import PADDING, Found, Target
from sightline.errors import SightlineError, UsageError
from sightline.verbs.load import key_maps, load_weights, save_weights
from sightline.verbs.models import builder_of, create, defaults_of

NAMES = sorted(MODELS)
IN_GRAPHS = [name for name in NAMES if "outside_graph" not in MODELS[name].traits]  # what compiles and exports
TRAINED = {"faster_rcnn", "retinanet"}


def tiny(name: str, **values: Any) -> nn.Module:
    """The entry at the size its catalogue line gives for tests, with weights that are a function of their names."""
    net = create(name, **{**MODELS[name].tiny, "num_classes": 5, **values})
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            value = torch.randn(tensor.shape, generator=random)
            if key.endswith(("running_var", "running_mean")) or tensor.ndim == 1:
                value = 0.1 * value + (1.0 if key.endswith(("running_var", "weight")) else 0.0)
            else:
                value = value * (2 / tensor[0].numel()) ** 0.5
            mild = key.startswith((*net.HEAD, "boxes.last.", "boxes.deltas.", "rpn.deltas."))
            tensor.copy_(value * 0.1 if mild else value)  # unsure, and near its anchors, so that it speaks at all
    return net.eval()


def picture(name: str, batch: int = 2, *, seed: int = 0, size: tuple[int, int] = (70, 93)) -> Tensor:
    channels = defaults_of(builder_of(MODELS[name]))["in_channels"]
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def truth(classes: int = 5) -> Target:
    """Two pictures: one with three objects (one a crowd), one with a single one."""
    boxes = torch.tensor(
        [[[4.0, 6, 40, 50], [30, 20, 60, 66], [50, 4, 90, 30]], [[10, 12, 44, 60], [0, 0, 0, 0], [0, 0, 0, 0]]]
    )
    labels = torch.tensor([[0, min(3, classes - 1), 0], [min(1, classes - 1), PADDING, PADDING]])
    return Target(boxes, labels, ignore=torch.tensor([[False, False, True], [False] * 3]))


def one_of_each_map(net: Any, images: Tensor) -> Target:
    """An object at a default box of every map, for networks that learn from few boxes; see the preface of SSD."""
    with torch.no_grad():
        anchors = net.anchors(net.trunk(net.stretched(images, None)))
    scale = torch.tensor([images.shape[-1], images.shape[-2]]).repeat(2) / net.size
    boxes = torch.stack([x[len(x) // 2] for x in anchors]) * scale
    return Target(boxes.expand(2, -1, -1).clone(), torch.arange(len(anchors)).expand(2, -1) % 5)


def nothing() -> Target:
    return Target(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long))


def seen(net: nn.Module, images: Tensor, **more: Any) -> Found:
    with torch.no_grad():
        return net(images, **more).found


def same(a: Found, b: Found, *, tolerance: float = 1e-3) -> bool:
    """The same objects, as far as their counts go."""
    if not torch.equal(a.count, b.count):
        return False
    for i, n in enumerate(a.count.tolist()):
        if not torch.equal(a.labels[i, :n], b.labels[i, :n]):
            return False
        if not torch.allclose(a.boxes[i, :n], b.boxes[i, :n], atol=tolerance * 100):
            return False
        if not torch.allclose(a.scores[i, :n], b.scores[i, :n], atol=tolerance):
            return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_is_true(name: str) -> None:
    entry = MODELS[name]
    assert isinstance(entry, Entry) and entry.task == "detection" and entry.paper
    builder = builder_of(entry)
    for argument in inspect.signature(builder).parameters.values():
        assert argument.kind is not inspect.Parameter.VAR_KEYWORD
        json.dumps(argument.default)
    json.dumps(asdict(entry.preprocess))
    with torch.device("meta"):
        net = builder()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == entry.parameters
    assert all(any(key.startswith(prefix) for key in net.state_dict()) for prefix in net.HEAD)


@pytest.mark.parametrize("name", NAMES)
def test_objects_of_every_picture(name: str) -> None:
    net, images = tiny(name), picture(name)
    before = images.clone()
    with torch.no_grad():
        out = net(images)
    found = out.found
    assert torch.equal(images, before) and found.boxes.dtype is found.scores.dtype is torch.float32
    assert found.boxes.shape == (2, found.scores.shape[1], 4) and found.labels.shape == found.scores.shape
    answers = net.decode(out, classes=("a", "b", "c", "d", "e"))
    assert len(answers) == 2 and isinstance(answers[0], Detections)
    assert sum(map(len, answers)) > 0, "the test's weights should find something"
    for answer in answers:
        assert bool((answer.scores.diff() <= 0).all()) and bool(((answer.scores > 0) & (answer.scores <= 1)).all())
        assert bool((answer.labels >= 0).all()) and bool((answer.labels < 5).all())
        boxes = answer.boxes
        assert bool((boxes[:, 2:] >= boxes[:, :2]).all()) and bool((boxes >= 0).all())
        assert bool((boxes[:, 0::2] <= 93).all()) and bool((boxes[:, 1::2] <= 70).all())
    sure = net.decode(out, score=float(answers[0].scores[0]))[0] if len(answers[0]) else answers[0]
    assert 1 <= len(sure) <= len(answers[0]) or not len(answers[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_and_losses_need_no_training_mode(name: str) -> None:
    net, images = tiny(name).train(), picture(name)
    target = one_of_each_map(net, images) if "hard_negatives" in MODELS[name].traits else truth()
    before = (target.boxes.clone(), target.labels.clone())
    torch.manual_seed(1)
    out = net(images, targets=target)
    assert out.found is None
    losses = net.losses(out, target)
    sum(losses.values()).backward()
    assert torch.equal(target.boxes, before[0]) and torch.equal(target.labels, before[1])
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not silent
    with torch.no_grad():
        out = net.eval()(images, targets=target)
        again = net.losses(net(images, targets=target), target)
    evaluated = net.losses(out, target)
    assert out.found is not None and set(evaluated) == set(losses)
    assert all(value.ndim == 0 and bool(value.isfinite()) for value in evaluated.values())
    assert all(torch.equal(again[k], evaluated[k]) for k in evaluated)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_objects_and_all_crowds(name: str) -> None:
    crowds = Target(truth().boxes, truth().labels, ignore=torch.ones(2, 3).bool())
    for target in (nothing(), crowds):
        net = tiny(name).train()
        losses = net.losses(net(picture(name), targets=target), target)
        sum(losses.values()).backward()
        assert all(bool(value.isfinite()) for value in losses.values())
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_are_strangers(name: str) -> None:
    net, images = tiny(name), picture(name, 3)
    alone, together = seen(net, images[1:2]), seen(net, images)
    n = int(alone.count[0])
    assert int(together.count[1]) == n
    assert torch.allclose(together.scores[1, :n], alone.scores[0, :n], atol=1e-5)
    assert torch.allclose(together.boxes[1, :n], alone.boxes[0, :n], atol=1e-2)


@pytest.mark.parametrize("name", sorted(TRAINED))
@pytest.mark.parametrize("size", [(32, 32), (8000, 40)])
def test_pictures_of_32_and_of_8000_pixels(name: str, size: tuple[int, int]) -> None:
    net, images = tiny(name), picture(name, 1, size=size)
    found = seen(net, images)
    n = int(found.count[0])
    assert n > 0 and bool(found.boxes[0, :n].isfinite().all())
    assert bool((found.boxes[0, :n, 2] <= size[1]).all()) and bool((found.boxes[0, :n, 3] <= size[0]).all())


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


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_network_any_channels_one_class(name: str) -> None:
    def fresh(**values: Any) -> nn.Module:
        torch.manual_seed(7)
        return create(name, **MODELS[name].tiny, **values).eval()

    one, two = fresh(), fresh()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    net = fresh(num_classes=1, in_channels=1)
    out = net(picture(name)[:, :1], targets=truth(1))
    assert int(out.found.labels.max()) <= 0
    assert all(bool(value.isfinite()) for value in net.losses(out, truth(1)).values())


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_out_and_come_back(name: str, tmp_path: Any) -> None:
    net, images = tiny(name), picture(name)
    for layout in ("sightline", *written(name)):
        path = save_weights(net, tmp_path / f"{layout}.pth", layout=layout)
        other = create(name, **MODELS[name].tiny, num_classes=5).eval()
        report = load_weights(other, path)
        assert not report.missing and not report.unexpected
        assert torch.equal(seen(other, images).boxes, seen(net, images).boxes)


def written(name: str) -> tuple[str, ...]:
    """The public layouts that hold the whole network."""
    if name.endswith("c4"):
        return ("detectron2-c4",)
    if name.startswith("ssd"):
        return {
            "ssd": (),
            "ssd300": ("amdegroot",),
            "ssd512": ("amdegroot",),
            "ssdlite_torchvision": ("torchvision-lite",),
        }.get(name, (name.rpartition("_")[2],))
    return tuple(word for word in ("torchvision", "detectron2", "mmdet") if word in name)


@pytest.mark.parametrize("name", NAMES)
def test_another_class_count_loads_all_but_the_head(name: str) -> None:
    net = create(name, **MODELS[name].tiny, num_classes=3)
    if "head_only" in MODELS[name].traits:
        with pytest.raises(SightlineError, match="does not fit"):
            load_weights(net, tiny(name).state_dict())
        return
    report = load_weights(net, tiny(name).state_dict())
    assert report.reinitialised and all(key.startswith(net.HEAD) for key in report.reinitialised)
    assert not report.missing


@pytest.mark.parametrize("name", [n if n in TRAINED else pytest.param(n, marks=pytest.mark.slow) for n in IN_GRAPHS])
def test_compiles_without_a_graph_break(name: str) -> None:
    net, images = tiny(name), picture(name)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert same(seen(compiled, images), seen(net, images))


@pytest.mark.parametrize("name", sorted({*NAMES} - {*IN_GRAPHS}))
def test_what_no_graph_holds_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="no compiled or exported program"):
        torch.export.export(tiny(name), (picture(name),), strict=False)


def exported_sizes(name: str) -> tuple[tuple[int, int], ...]:
    """The size a program is made at, every level larger than one place, and two others.

    Adaptive ones: no box may be longer than four samples in each of seven bins of the finest map, 112 pixels.
    """
    return ((96, 112), (112, 96), (100, 110)) if name in ADAPTIVE else ((192, 256), (256, 192), (200, 330))


ADAPTIVE = sorted(name for name in NAMES if "adaptive" in MODELS[name].traits)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_bins_of_these_pictures_are_within_what_a_program_samples(name: str) -> None:
    from sightline.ops.roi import STATIC

    net = tiny(name)
    pooler, pooled = net.boxes.pooler, []
    pooler.register_forward_pre_hook(lambda module, given: pooled.append(given[1]))
    for size in ((70, 93), *exported_sizes(name)):
        seen(net, picture(name, size=size))
        boxes = pooled[-1].reshape(-1, 4)
        scale = torch.tensor(pooler.scales)[pooler.levels(boxes) if len(pooler.scales) > 1 else 0]
        assert float(((boxes[:, 2:] - boxes[:, :2]).amax(1) * scale).max()) / pooler.size <= STATIC


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_GRAPHS)
def test_exports_with_any_height_and_width(name: str) -> None:
    size, one, other = exported_sizes(name)
    net, images = tiny(name), picture(name, size=size)
    shapes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, (images,), dynamic_shapes={"images": shapes})
    for others in (picture(name, 1, size=one, seed=2), picture(name, 3, size=other)):
        assert same(seen(program.module(), others), seen(net, others))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_two_pictures_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = create(name, **MODELS[name].tiny, num_classes=3).train()
    images = picture(name, size=(64, 96)) * 0.2
    target = Target(
        torch.tensor([[[8.0, 8, 40, 40]], [[50, 20, 82, 52]]]), torch.tensor([[0], [2]]), torch.zeros(2, 1).bool()
    )
    images[0, :, 8:40, 8:40] += 0.5
    images[1, :, 20:52, 50:82] += 0.3
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    first = last = 0.0
    for step in range(120):
        optimiser.zero_grad()
        loss = torch.stack(list(net.losses(net(images, targets=target), target).values())).sum()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.4 * first


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, sightline.detection.catalog;"
        "print([m for m in ('torch', 'torchvision', 'timm', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_are_records_with_a_key_map(name: str) -> None:
    origins = {key_map.origin for key_map in key_maps(tiny(name))}
    for record in MODELS[name].weights:
        assert record.url.startswith("https://") and record.sha256 in record.url and record.origin in origins
        assert record.licence != "unknown" and record.scores
