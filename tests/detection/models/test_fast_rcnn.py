"""Fast R-CNN: its own proposals, RoIPool, near misses as background, files of proposals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.detection.catalog import MODELS
from sightline.detection.contract import PADDING, Target
from sightline.detection.models.fast_rcnn import NearMisses, PooledCells
from sightline.detection.proposals import (
    Searched,
    Windows,
    as_proposals,
    padded,
    read_proposals,
    search_all,
    write_proposals,
)
from sightline.detection.regions import TwoLayers
from sightline.errors import SightlineError, UsageError
from sightline.ops.boxes import iou
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import create


def small(**values):
    torch.manual_seed(0)
    return create("fast_rcnn_vgg16", **{**MODELS["fast_rcnn_vgg16"].tiny, **values}).eval()


def test_given_proposals_are_what_answers_come_from() -> None:
    net, images = small(num_classes=3, score=0.0), torch.rand(1, 3, 64, 96)
    boxes = torch.tensor([[[10.0, 10, 40, 40], [50, 20, 90, 60], [0, 0, 0, 0]]])
    with torch.no_grad():
        found = net(images, proposals=boxes).found
        twice = net(images, proposals=boxes.repeat(1, 2, 1)).found
    assert 0 < int(found.count[0]) <= 6  # two boxes, three classes, no answer from padding
    assert torch.equal(found.boxes, twice.boxes) and torch.equal(found.scores, twice.scores)
    with pytest.raises(UsageError, match=r"proposals of shape \(3, 4\)"):
        net(images, proposals=boxes[0])


def test_the_pooled_cells_are_caffes() -> None:
    """A loop over the formula: corners rounded, sides inclusive, maxima, 0 where a bin holds no cell."""
    x, boxes = torch.randn(1, 2, 9, 11), torch.tensor([[[5.0, 9, 120, 100], [0, 0, 8, 8], [150, 120, 170, 140]]])
    got = PooledCells(3, 1 / 16)([x], boxes)
    for box, pooled in zip(boxes[0], got):
        x0, y0, x1, y1 = (int(np.floor(v / 16 + 0.5)) for v in box.tolist())
        w, h = max(x1 - x0 + 1, 1) / 3, max(y1 - y0 + 1, 1) / 3
        for i in range(3):
            for j in range(3):
                rows = slice(*(min(max(int(v) + y0, 0), 9) for v in (np.floor(i * h), np.ceil((i + 1) * h))))
                columns = slice(*(min(max(int(v) + x0, 0), 11) for v in (np.floor(j * w), np.ceil((j + 1) * w))))
                part = x[0, :, rows, columns]
                want = part.amax((1, 2)) if part.numel() else torch.zeros(2)
                assert torch.equal(pooled[:, i, j], want)


def test_background_comes_close_where_there_are_objects() -> None:
    branch = NearMisses(
        PooledCells(2, 1 / 4), TwoLayers(2, 2, 4), 2, channels=4, count=50  # pyright: ignore[reportArgumentType]
    ).eval()  # fmt: skip
    truth = torch.tensor([[[10.0, 10, 50, 50]], [[0.0, 0, 0, 0]]])
    target = Target(truth, torch.tensor([[1], [PADDING]]))
    random = torch.rand(2, 300, 2, generator=torch.Generator().manual_seed(0)) * 60
    boxes = torch.cat([random, random + torch.tensor([25.0, 20.0])], -1)
    sample = branch.sample(as_proposals(boxes, torch.tensor([[100, 100]] * 2)), target)
    overlap = iou(truth[:1], sample.boxes[:1])[0, 0]
    assert bool(((overlap >= 0.1) | ~sample.valid[0]).all())
    background = sample.valid[0] & (sample.index[0] < 0)
    assert background.any() and bool((overlap[background] < 0.5).all())
    assert bool((sample.labels[0][background] == 2).all()) and bool((sample.labels[0][sample.positive[0]] == 1).all())
    assert int(sample.valid[1].sum()) == 50 and not sample.positive[1].any()  # without objects all is background


def test_windows_cover_every_box() -> None:
    windows = Windows((16, 32, 64))(torch.zeros(1, 3, 96, 128), torch.tensor([[96, 128]]))
    random = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    sides = torch.tensor([[20.0, 20], [40, 28], [24, 40], [60, 60]]).repeat(50, 1)
    low = random * (torch.tensor([128.0, 96.0]) - sides)
    best = iou(torch.cat([low, low + sides], 1), windows.boxes[0][windows.valid[0]]).amax(1)
    assert float(best.min()) > 0.35 and float(best.mean()) > 0.55


def test_a_search_is_made_once_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Searched(most=30, smallest=4)
    images = torch.rand(2, 1, 40, 50, generator=torch.Generator().manual_seed(0)).round()
    images[:, :, 10:30, 10:40] = 0.5
    first = searched(images, torch.tensor([[40, 50], [30, 50]]))
    assert first.boxes.shape[:2] == first.valid.shape and bool(first.valid.any(1).all())
    assert float(first.boxes[1, :, 3].max()) <= 30
    import sightline.detection.proposals as module

    monkeypatch.setattr(module, "selective_search", None)  # would fail if it were called again
    assert torch.equal(searched(images, torch.tensor([[40, 50], [30, 50]])).boxes, first.boxes)


def test_files_of_proposals_come_back(tmp_path: Path) -> None:
    boxes = {"a/b.jpg": np.array([[1.0, 2, 3, 4]]), "c.png": np.zeros((0, 4))}
    again = read_proposals(write_proposals(tmp_path / "p.npz", boxes))
    assert again.keys() == boxes.keys() and all(np.array_equal(again[k], boxes[k]) for k in boxes)
    batch = padded([again["a/b.jpg"], again["c.png"]])
    assert batch.boxes.shape == (2, 1, 4) and batch.valid.tolist() == [[True], [False]]
    picture = np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8)
    found = read_proposals(search_all({"x": lambda: picture}, tmp_path / "q.npz"))
    assert len(found["x"]) and found["x"].shape[1] == 4


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_damaged_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(SightlineError, match=r"p\.npz") as error:
        read_proposals(tmp_path / "p.npz")
    assert "\n" not in str(error.value)
    write_proposals(tmp_path / "p.npz", {"a": np.array([[np.nan, 0, 1, 1]])})
    with pytest.raises(SightlineError, match="boxes of a have shape"):
        read_proposals(tmp_path / "p.npz")


def test_the_names_of_caffe_are_known(tmp_path: Path) -> None:
    net = create("fast_rcnn_vgg16", width=4, hidden=8, num_classes=3, propose="dense")
    path = save_weights(net, tmp_path / "x.pth", layout="caffe")
    names = set(torch.load(path))
    assert {"conv1_1.weight", "conv5_3.bias", "fc6.weight", "cls_score.bias", "bbox_pred.weight"} <= names
    report = load_weights(create("fast_rcnn_vgg16", width=4, hidden=8, num_classes=3, propose="dense"), path)
    assert report.origin == "caffe" and not report.missing


def test_unknown_ways_to_propose_are_refused() -> None:
    with pytest.raises(UsageError, match="propose 'edges' is unknown; choose from selective_search, dense"):
        create("fast_rcnn", backbone="mobilenet_v3_small", propose="edges")
