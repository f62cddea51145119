"""`export`: one file that answers as the run does, or none at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from sightline.cli import main
from sightline.errors import SightlineError, UsageError
from sightline.segmentation.contract import Scores
from sightline.verbs.compare import compare
from sightline.verbs.export import export, in_order_of
from sightline.verbs.load import load
from sightline.verbs.models import create
from sightline.verbs.predict import predict


@pytest.fixture(scope="module", params=["onnx", "pt2"])
def exported(request: pytest.FixtureRequest, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as a file."""
    path = tmp_path_factory.mktemp("exported") / f"net.{request.param}"
    found = export(tiny_run, path)
    assert found.dynamic == ("batch", "height", "width")
    assert list(found.differences) == ["2x96x96", "3x160x96"]
    assert max(found.differences.values()) <= 1e-4
    assert "any batch and height and width" in str(found)
    return path


def test_the_file_scores_as_the_run_does(exported: Path, tiny_run: Path, shapes: Path, capsys, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    told = []
    for what in (run, exported):
        assert main(["evaluate", str(what), str(shapes), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert round(told[0]["metrics"]["dataset_miou"], 4) == round(told[1]["metrics"]["dataset_miou"], 4)
    assert told[0]["per_class"].keys() == told[1]["per_class"].keys()
    assert (told[1]["split"], told[1]["images"]) == ("val", 3)
    side_by_side = compare([run, exported], data=shapes, out=tmp_path / "page.html")
    assert [row["run"] for row in side_by_side.rows] == [str(run), str(exported)]
    assert side_by_side.page is None  # one folder alone has nothing beside it


def test_classes_preprocessing_and_sizes_travel_inside(exported: Path, tiny_run: Path, shapes: Path) -> None:
    net, card = load(exported)
    _, ours = load(tiny_run)
    for name in ("model", "task", "classes", "colours", "preprocess"):
        assert getattr(card, name) == getattr(ours, name), name
    assert json.loads(json.dumps(dict(card.arguments))) == json.loads(json.dumps(dict(ours.arguments)))
    picture = torch.rand(1, 3, 41, 75)
    original, _ = load(tiny_run)
    torch.testing.assert_close(net(picture).logits, original(picture).logits, rtol=1e-4, atol=1e-4)
    answer = next(iter(predict(exported, shapes / "images" / "val")))
    assert answer.classes == ours.classes


def test_an_onnx_file_opens_elsewhere(exported: Path) -> None:
    if exported.suffix == ".pt2":
        program = torch.export.load(exported)
        assert program.module()(torch.rand(1, 3, 32, 32))[0].shape == (1, 4, 32, 32)
        return
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == ["images"]
    assert [o.name for o in model.graph.output] == ["logits"]
    sizes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes[1] == 3
    assert all(isinstance(sizes[k], str) for k in (0, 2, 3))


class Small(nn.Module):
    """One convolution; its exported form is wrong in one way, as some exporters make of adaptive pooling."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.conv, self.wrong = nn.Conv2d(3, 4, 3, padding=1), wrong
        self.place = nn.Parameter(torch.zeros(1, 4, 96, 96))

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: object = None) -> Scores:
        logits = self.conv(images)
        if self.wrong == "fixed":
            logits = logits + self.place
        elif self.wrong == "operator":  # attention of three axes, which torch's translator does not know
            rows = logits.flatten(2)
            logits = nn.functional.scaled_dot_product_attention(rows, rows, rows).unflatten(2, logits.shape[2:])
        elif torch.compiler.is_exporting():
            logits = nn.functional.interpolate(logits, (96, 96)) if self.wrong == "size" else logits * (1 + 1e-3)
        return Scores(logits)


@pytest.mark.parametrize(
    ("wrong", "says"), [("size", "the export baked a size in"), ("values", "differs from the net")]
)
def test_a_file_that_answers_otherwise_is_not_written(wrong: str, says: str, tiny_run: Path, tmp_path: Path) -> None:
    _, card = load(tiny_run)
    with pytest.raises(SightlineError, match=says):
        export((Small(wrong), card), tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_cannot_say_is_one_sentence(tiny_run: Path, tmp_path: Path) -> None:
    _, card = load(tiny_run)
    with pytest.raises(SightlineError, match=r"translator fails at aten\.scaled_dot_product_attention"):
        export((Small("operator"), card), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_one_size_says_so_and_the_file_too(tiny_run: Path, shapes: Path, tmp_path: Path) -> None:
    _, card = load(tiny_run)
    found = export((Small("fixed"), card), tmp_path / "net.pt2")
    assert found.dynamic == ("batch",)
    assert list(found.differences) == ["2x96x96", "1x96x96"]
    with pytest.raises(SightlineError, match=r"net\.pt2 does not take pictures of \(1, 3, 40, 48\) .* any batch"):
        list(predict(tmp_path / "net.pt2", shapes / "images" / "val"))


def test_wrong_calls_and_strange_files(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnx'"):
        export(tiny_run, tmp_path / "net.onxx")
    strange = tmp_path / "strange.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 17)]), strange)
    with pytest.raises(SightlineError, match="was not written by sightline"):
        load(strange)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_an_unpadded_network_keeps_its_legal_sizes(kind: str, tiny_run: Path, tmp_path: Path) -> None:
    _, card = load(tiny_run)
    torch.manual_seed(0)
    net = create("unet_valid", num_classes=4, in_channels=3, width=4, depth=3).eval()
    card = replace(card, model="unet_valid", arguments={"num_classes": 4, "in_channels": 3, "width": 4, "depth": 3})
    found = export((net, card), tmp_path / f"net.{kind}")
    assert max(found.differences.values()) <= 1e-4
    opened = load(tmp_path / f"net.{kind}")
    image = (torch.rand(3, 53, 71) * 255).to(torch.uint8)
    ours, theirs = (next(iter(predict(network, image))) for network in ((net, card), opened))
    assert (ours.labels == theirs.labels).float().mean() > 0.999


def test_objects_of_one_score_may_change_places_and_others_not() -> None:
    boxes = torch.rand(1, 4, 4) * 50
    found = {
        "found.boxes": boxes,
        "found.scores": torch.tensor([[0.9, 0.5, 0.5, 0.0]]),
        "found.labels": torch.tensor([[0, 1, 1, 0]]),
        "found.count": torch.tensor([3]),
        "found.masks": torch.rand(1, 4, 2, 2),
    }
    swapped = torch.tensor([0, 2, 1, 3])
    other = {name: tensor[:, swapped] if tensor.ndim > 1 else tensor for name, tensor in found.items()}
    other["found.boxes"] = other["found.boxes"].clone()
    other["found.boxes"][0, 3] += 7  # beyond the count
    aligned = in_order_of(found, other)
    assert all(torch.equal(aligned[name], found[name]) for name in found)
    moved = found | {"found.boxes": boxes + 3.0}
    assert torch.equal(in_order_of(found, moved)["found.boxes"][0, :3], boxes[0, :3] + 3.0)
    other_class = found | {"found.labels": torch.tensor([[0, 1, 0, 0]])}
    assert not torch.equal(in_order_of(found, other_class)["found.labels"], found["found.labels"])
    fewer = found | {"found.count": torch.tensor([2])}
    assert torch.equal(in_order_of(found, fewer)["found.count"], torch.tensor([2]))
