"""What the verbs need of the room: augmentation by name, the loss by words, scores and panels of records."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sightline.contracts import Preprocess, Task
from sightline.datasets.records import DataSet, MaskFile, Picture, PixelRecord
from sightline.errors import SightlineError, UsageError
from sightline.segmentation.contract import Scores, Target
from sightline.segmentation.losses import Criterion
from sightline.segmentation.metrics import SegmentationMetric
from sightline.segmentation.task import AUGMENTS, TASK, augment


class Threshold(nn.Module):
    """Says class 1 where the picture is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))
        self.criterion = Criterion()

    def forward(self, images: Tensor) -> Scores:
        bright = self.sharpness * (images.mean(1, keepdim=True) - 0.5)
        return Scores(torch.cat([-bright, bright], 1))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        return self.criterion(out, targets)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Two pictures of a bright square; the second mask is shifted by two columns, and ignores its last row."""
    records = []
    for i in range(2):
        image, mask = np.zeros((12, 20, 3), np.uint8), np.zeros((12, 20), np.uint8)
        image[2:8, 4:10] = 220
        mask[2:8, 4 + 2 * i : 10 + 2 * i] = 1
        if i:
            mask[-1] = 255
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / f"{i}-mask.png")
        records.append(PixelRecord(f"{i}.png", Picture(tmp_path / f"{i}.png"), MaskFile(tmp_path / f"{i}-mask.png")))
    return DataSet(tmp_path, "pairs", tuple(records), ("wall", "window"))


def test_the_task_is_complete() -> None:
    assert TASK.name == "segmentation"
    plain = ("name", "monitor", "kind", "stats", "sources")
    assert all(callable(getattr(TASK, f.name)) for f in fields(Task) if f.name not in plain)
    metric = TASK.metric(("a", "b"))
    metric.update(torch.zeros(2, 2).long(), torch.zeros(2, 2).long())
    assert metric.compute().metrics[TASK.monitor] == 1.0


def test_a_record_is_answered_and_counted(data: DataSet) -> None:
    metric = SegmentationMetric(data.classes)
    for record in data.records:
        found = TASK.score(
            Threshold().eval(),
            record,
            metric,
            preprocess=Preprocess(),
            classes=data.classes,
            procedure=TASK.procedure(tile=8),
        )
        assert found.name == record.key and found.classes == data.classes
    report = metric.compute()
    # 36 + 24 bright pixels are right, 12 said but not there, 12 there but not said; 20 of 480 pixels are not scored
    assert report.confusion.tolist() == [[480 - 20 - 72 - 12, 12], [12, 60]]
    assert report.image_scores["0.png"] == 1.0
    assert report.worst == ["1.png", "0.png"]


def test_a_record_without_labels_says_so(data: DataSet) -> None:
    record = PixelRecord("x.png", data.records[0].image, None)
    with pytest.raises(SightlineError, match=r"0\.png has no labels"):
        TASK.score(
            Threshold(), record, SegmentationMetric(("a", "b")), preprocess=Preprocess(), classes=("a", "b"),
            procedure=TASK.procedure(),
        )  # fmt: skip


def test_a_panel_shows_picture_truth_and_answer(data: DataSet) -> None:
    record = data.records[1]
    picture = np.asarray(Image.open(record.image.path))
    found = TASK.answer(Threshold().eval(), picture, preprocess=Preprocess(), classes=data.classes)
    board = TASK.panel(record, found, ((0, 0, 255), (255, 0, 0)), 2)
    assert board.shape == (12, 72, 3)
    assert (board[:, :20] == picture).all()
    assert (board[4, 26 + 10] != board[4, 52 + 10]).any()  # labelled there, not answered


def test_samples_go_through_a_batch_into_the_loss(data: DataSet) -> None:
    samples = TASK.samples(data, preprocess=Preprocess(), seed=1, augment=TASK.augment("strong", [16, 16], {}))
    batch = TASK.collate([samples[0, 0], samples[0, 1]])
    assert batch.images.shape == (2, 3, 16, 16)
    net = Threshold()
    TASK.configure(net, loss="ce+0.5*dice", class_weights=[1.0, 2.0])
    assert net.criterion == Criterion({"ce": 1.0, "dice": 0.5}, (1.0, 2.0))
    terms = net.losses(net(batch.images.float() / 255), batch.targets)
    assert list(terms) == ["ce", "dice"]
    torch.stack(list(terms.values())).sum().backward()
    assert net.sharpness.grad is not None and net.sharpness.grad.isfinite()
    TASK.configure(net, loss="focal", class_weights=None)
    assert net.criterion == Criterion({"focal": 1.0})


@pytest.mark.parametrize("name", AUGMENTS)
def test_named_strengths_of_augmentation(name: str) -> None:
    found = augment(name, (64, 96), {})
    assert found.crop == (64, 96)
    image, labels = torch.zeros(3, 70, 70, dtype=torch.uint8), torch.zeros(70, 70, dtype=torch.uint8)
    assert found(image, labels, np.random.default_rng(0))[0].shape == (3, 64, 96)
    assert augment(name, None, {}).crop is None


def test_single_values_of_an_augmentation_are_replaced() -> None:
    found = augment("light", [32, 32], {"rotate": 45, "scale": [0.5, 3], "turn": True})
    assert (found.rotate, found.scale, found.turn, found.flip) == (45, (0.5, 3), True, True)
    assert AUGMENTS["light"].rotate == 0


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("medum", {}, "augment 'medum' is unknown; choose from none, light, medium, strong. Did you mean 'medium'?"),
        ("light", {"rotat": 3}, "augment has no value 'rotat'; it takes"),
        ("light", {"rotate": "much"}, "augment.rotate much must be a number from 0 to 180"),
        ("light", {"scale": 2}, "augment.scale 2 must be a lowest and a highest factor"),
    ],
)
def test_wrong_augmentation_gets_one_sentence(name: str, values: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        augment(name, (32, 32), values)
    assert str(caught.value).startswith(sentence)
