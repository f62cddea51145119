"""Exported detectors: files that answer as the network does for no, one and many objects, in place of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.ops.tree import named_tensors
from sightline.verbs.export import Opened, export, program_of, written
from sightline.verbs.load import load
from sightline.verbs.models import catalogue, create
from sightline.verbs.predict import predict
from sightline.weights import card as cards
from sightline.weights.card import Card

ONE_A_KIND = ("yolov3_tiny", "faster_rcnn", "mask_rcnn")


def lively(name: str, **values: Any) -> tuple[Any, Card]:
    """The entry at its tiny size, its zero biases drawn, so that pictures differ in what is found."""
    entry = catalogue()[name]
    arguments = {**entry.tiny, "num_classes": 3, **values}
    torch.manual_seed(0)
    net: Any = create(name, **arguments).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and not tensor.any():
            tensor.normal_(0, 0.1)
    return net, Card(model=name, task=entry.task, arguments=arguments, preprocess=entry.preprocess)


def none_one_many(net: Any, side: int = 192) -> tuple[Tensor, float]:
    """Three pictures and the least score at which nothing, one thing and at least four are found in them."""
    random = torch.Generator().manual_seed(3)
    spread = torch.linspace(0, 1, 24)[:, None, None, None]
    images = (0.5 + spread * (torch.rand(24, 3, side, side, generator=random) - 0.5)).clamp(0, 1)
    with torch.no_grad():
        scores = net(images).found.scores.sort(1, descending=True).values
    for i in range(len(images)):
        for least in (scores[i, :2].mean().item(), scores[i, 1].item() + 1e-5):
            gap = 1e-6
            if not scores[i, 1] + gap < least < scores[i, 0] - gap:
                continue
            none, many = scores[:, 0] < least - gap, scores[:, 3] > least + gap
            if none.any() and many.any():
                return images[[int(none.nonzero()[0]), i, int(many.nonzero()[-1])]], least
    raise AssertionError("no such three pictures")


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_A_KIND)
def test_no_one_and_many_objects_in_both_formats(name: str, tmp_path: Path) -> None:
    net, card = lively(name)
    part = net.boxes if hasattr(net, "rpn") else net
    part.score = 1e-9
    images, part.score = none_one_many(net)
    with torch.no_grad():
        expected = named_tensors(net(images))
    counts = expected["found.count"].tolist()
    assert counts[:2] == [0, 1] and counts[2] >= 3
    made = program_of(net, card)
    assert made.dynamic == ("batch", "height", "width")
    for kind in ("pt2", "onnx"):
        written(made, tmp_path / f"net.{kind}", kind)
        said = dict(zip(made.names, Opened(tmp_path / f"net.{kind}").answer(images)))
        assert said["found.count"].tolist() == counts
        for key, tensor in expected.items():
            torch.testing.assert_close(
                said[key], tensor, rtol=1e-4, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("yolov3_tiny", "onnx"), ("mask_rcnn", "pt2")])
def test_a_file_answers_in_place_of_a_run(name: str, kind: str, tmp_path: Path) -> None:
    net, card = lively(name, score=0.0)
    preprocess = Preprocess(multiple=32)
    classes = ("a", "b", "c")
    card = Card(model=name, task=card.task, arguments=card.arguments, preprocess=preprocess, classes=classes)
    cards.write(tmp_path / "run", net, card)
    file = tmp_path / f"net.{kind}"
    export(tmp_path / "run", file)
    picture = np.random.default_rng(0).integers(0, 256, (170, 200, 3), np.uint8)  # padded to 192 x 224
    theirs = next(iter(predict(load(file), picture)))
    assert bool((theirs.boxes[:, 2] <= 200).all()) and bool((theirs.boxes[:, 3] <= 170).all())
    picture = np.random.default_rng(0).integers(0, 256, (192, 224, 3), np.uint8)
    ours, theirs = (next(iter(predict(load(run), picture))) for run in (tmp_path / "run", file))
    assert theirs.classes == classes and len(theirs) > 0
    k = min(len(ours), len(theirs), 3)
    torch.testing.assert_close(theirs.scores[:k], ours.scores[:k], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(theirs.boxes[:k], ours.boxes[:k], rtol=1e-3, atol=0.1)
    if theirs.masks is not None:
        assert theirs.masks.dense().shape == (len(theirs), 192, 224)
        assert float((theirs.masks.dense()[:k] ^ ours.masks.dense()[:k]).float().mean()) < 1e-3
