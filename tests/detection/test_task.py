"""Boxes through the verbs: a folder becomes a run, a run answers, is scored, compared, opened again and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.contracts import Machine, Preprocess
from sightline.datasets.open import open_dataset
from sightline.datasets.stats import stats
from sightline.detection.answer import Detections
from sightline.detection.plan import plan
from sightline.detection.predict import Procedure, answer, merged
from sightline.detection.task import TASK, augment
from sightline.errors import UsageError
from sightline.media.image import read_image, write_image
from sightline.verbs.compare import compare
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.models import create
from sightline.verbs.predict import predict
from sightline.verbs.train import train

TINY = {
    "backbone": "mobilenet_v3_small",
    "channels": 16,
    "hidden": 16,
    "before": [40, 30],
    "after": [30, 20],
    "most": 10,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with a bright square each, in VOC's folders."""
    root = tmp_path_factory.mktemp("squares")
    for name in ("Annotations", "JPEGImages"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        image = np.full((64, 96, 3), 40, np.uint8)
        x, y = int(rng.integers(0, 60)), int(rng.integers(0, 36))
        image[y : y + 24, x : x + 30, i % 3] = 220
        write_image(root / "JPEGImages" / f"s{i}.png", image)
        (root / "Annotations" / f"s{i}.xml").write_text(
            f"<annotation><object><name>{'abc'[i % 3]}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + 30}</xmax><ymax>{y + 24}</ymax></bndbox></object></annotation>"
        )
    return root


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    options = {"steps": 3, "batch": 2, "device": "cpu", "model_values": TINY, "train_values": {"validate_every": 3}}
    done = train("faster_rcnn", squares, run=folder, val="seeded(2)", **options)
    assert done.stopped == "done" and "ap50" in done.metrics
    return folder


def test_a_run_says_what_it_chose_and_draws_its_worst(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert (
        config["task"] == "detection" and config["classes"] == ["a", "b", "c"] and config["opened"]["kind"] == "objects"
    )
    assert config["choices"]["model.anchors"]["reason"].startswith("the objects' sides run from")
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert set(record["terms"]) == {"rpn_objectness", "rpn_boxes", "classes", "boxes"}
    assert len(read_image(run / "samples" / "worst-1.jpg").shape) == 3 and (run / "report.html").is_file()


def test_a_run_answers_and_saves(run: Path, squares: Path, tmp_path: Path) -> None:
    answers = list(predict(run, squares / "JPEGImages", out=tmp_path / "out"))
    assert len(answers) == 8 and all(isinstance(a, Detections) and a.size == (64, 96) for a in answers)
    saved = json.loads((tmp_path / "out" / "s3.json").read_text())
    assert saved["height"] == 64 and len(saved["objects"]) == len(answers[3])
    assert read_image(tmp_path / "out" / "s3-overlay.jpg").shape == (64, 96, 3)


def test_a_run_is_scored_and_compared(run: Path, squares: Path) -> None:
    found = evaluate(run, squares)
    assert found.images == 2 and found.split == "val" and set(found.per_class) == {"a", "b", "c"}
    assert 0 <= found.metrics["ap50"] <= 1 and json.loads((run / "evaluation.json").read_text())["images"] == 2
    assert evaluate(run, squares, split="all", flips="h", scales=(1.0, 1.5)).images == 8
    assert "ap50" in str(compare([run, run]))
    net, card = load(run)
    assert card.task == "detection" and card.preprocess.multiple == 32 and not net.training


def test_losses_are_the_papers_own(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="learns by its paper's losses"):
        train("retinanet", squares, run=tmp_path / "x", loss="dice", dry_run=True)


def test_the_plan_fits_anchors_to_the_objects(squares: Path) -> None:
    looked = stats(open_dataset(squares, kind="objects", val=0).split("train"))
    values = {"backbone": "resnet50", "anchors": (1, 2, 3, 4, 5), "channels": 256, "mean": None, "depth": 4}
    chosen = plan(looked, values, Machine())
    assert chosen["model.anchors"].value == pytest.approx([7.0, 13.9, 27.9, 55.7, 111.4], rel=0.25)
    assert chosen["model.backbone"].value == "resnet18" and chosen["resize"].value == "none"
    large = plan(looked, values, Machine(device="cuda"))
    assert "model.backbone" not in large and large["batch"].value == 16


def test_augmentations_by_name() -> None:
    assert augment("light", [64, 96], {"flip": False}).size == (64, 96)
    with pytest.raises(UsageError, match="Did you mean 'strong'"):
        augment("strng", None, {})
    with pytest.raises(UsageError, match="augment has no value 'rotate'"):
        augment("light", None, {"rotate": 3})


class Bright(torch.nn.Module):
    """Finds bright rectangles by their pixels: an oracle for what surrounds a network."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(0))

    def forward(self, images: torch.Tensor, *, sizes: torch.Tensor) -> torch.Tensor:
        return images[..., : int(sizes[0, 0]), : int(sizes[0, 1])]

    def decode(self, out: torch.Tensor, *, score: float | None, classes: tuple[str, ...]) -> list[Detections]:
        from scipy.ndimage import find_objects, label

        boxes = [
            [c.start, r.start, c.stop, r.stop]
            for r, c in find_objects(label(out[0, 0].numpy() > 0.5)[0])  # type: ignore
        ]
        n = len(boxes)
        return [Detections(torch.tensor(boxes).reshape(-1, 4).float(), torch.full((n,), 0.9), torch.zeros(n).long())]


def test_tiles_mirrors_and_scales_find_the_same_objects() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    expected = [[20, 30, 50, 60], [95, 100, 125, 140], [250, 170, 290, 195]]
    for x0, y0, x1, y1 in expected:
        image[y0:y1, x0:x1] = 255
    ways = (Procedure(), Procedure(tile=128, overlap=0.5), Procedure(flips="hv"), Procedure(scales=(1.0, 2.0)))
    for procedure in ways:
        found = answer(Bright(), image, preprocess=Preprocess(multiple=32), procedure=procedure)
        assert sorted(found.boxes.round().int().tolist()) == expected, procedure
    half = answer(Bright(), image, preprocess=Preprocess(resize="long(150)"))
    assert torch.allclose(half.boxes[half.boxes[:, 0].argsort()], torch.tensor(expected).float(), atol=2)


def test_merging_keeps_the_best_of_each_class() -> None:
    box = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10]])
    found = merged([Detections(box, torch.tensor([0.6, 0.9]), torch.tensor([0, 1])),
                    Detections(box[:1], torch.tensor([0.8]), torch.tensor([0]))], 0.5)  # fmt: skip
    assert found.scores.tolist() == pytest.approx([0.9, 0.8]) and found.labels.tolist() == [1, 0]


@pytest.mark.parametrize("values", [{"flips": "x"}, {"scales": ()}, {"overlap": 1.0}, {"score": 2.0}])
def test_wrong_procedures_are_one_sentence(values: dict) -> None:
    with pytest.raises(UsageError):
        TASK.procedure(**values)


def test_an_answer_selects_scales_and_draws(tmp_path: Path) -> None:
    boxes = torch.tensor([[2.0, 4, 12, 20], [0, 0, 30, 30]])
    found = Detections(boxes, torch.tensor([0.9, 0.4]), torch.tensor([1, 0]), classes=("cat", "dog"), name="x")
    assert found.above(0.5).labels.tolist() == [1] and found.counts == {"cat": 1, "dog": 1}
    large = found.scaled((80, 120), (40, 40))
    assert large.boxes.tolist() == [[6, 8, 36, 40], [0, 0, 90, 60]] and large.size == (80, 120)
    image = np.full((40, 40, 3), 90, np.uint8)
    drawn = found.draw(image)
    assert drawn.shape == (40, 40, 3) and bool((image == 90).all()) and bool((drawn != 90).any())
    assert found.draw().shape[2] == 3 and found[torch.tensor([], dtype=torch.long)].draw(image).shape == image.shape
    net = create("retinanet", backbone="mobilenet_v3_small", channels=16).eval()
    with pytest.raises(ValueError, match="eval mode"):
        from sightline.detection.contract import Target

        net.decode(
            net.train()(torch.rand(2, 3, 64, 64), targets=Target(torch.stack([boxes] * 2), torch.zeros(2, 2).long()))
        )


def test_networks_of_one_size_are_given_it(squares: Path) -> None:
    looked = stats(open_dataset(squares, kind="objects", val=0).split("train"))
    exact = Preprocess(resize="exact(300, 300)")
    assert plan(looked, {"builder": {}, "entry": exact}, Machine())["resize"].value == "exact(300, 300)"
    chosen = plan(looked, {"builder": {"size": 224}, "size": [64, 64], "entry": exact}, Machine())
    assert chosen["resize"].value == "exact(224, 224)"
    assert plan(looked, {"builder": {"size": 224}, "entry": Preprocess()}, Machine())["resize"].value == "none"
