"""Videos as features: files written here byte by byte, from folder to run and answers; metrics by slow loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.action.catalog import MODELS
from sightline.action.features import collate, features_of, sample_of
from sightline.action.metrics import ClipMetric, global_average_precision
from sightline.action.models.youtube8m import youtube8m_logistic
from sightline.classification.contract import Target
from sightline.datasets.check import check
from sightline.datasets.open import open_dataset
from sightline.datasets.youtube8m import Video8M, record_of, video_at
from sightline.errors import SightlineError, UsageError
from sightline.verbs.evaluate import evaluate
from sightline.verbs.export import export
from sightline.verbs.load import load, load_weights
from sightline.verbs.models import create
from sightline.verbs.predict import predict
from sightline.verbs.train import train


def varint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: str, value: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value))


def of_bytes(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, v) for v in values))


def of_ints(*values: int) -> bytes:
    return field(3, field(1, b"".join(varint(v) for v in values)))


def sequence(key: str, labels: tuple[int, ...], rgb: np.ndarray, audio: np.ndarray) -> bytes:
    """A frame-level record."""
    context = entry("id", of_bytes(key.encode())) + (entry("labels", of_ints(*labels)) if labels else b"")
    lists = b"".join(
        entry(name, b"".join(field(1, of_bytes(row.tobytes())) for row in rows))
        for name, rows in (("rgb", rgb), ("audio", audio))
    )
    return record_of(field(1, context) + field(2, lists))


def written(root: Path) -> Path:
    """Videos whose classes 0, 1, 2 show in a feature each; some have two."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("validate", 9), ("test", 2)):
        content = b""
        for k in range(count):
            labels = (k % 3, (k + 1) % 3) if k % 4 == 0 else (k % 3,)
            rgb = rng.integers(110, 146, (2 + k % 3, 1024), np.uint8)
            for label in labels:
                rgb[:, 100 * label : 100 * label + 100] = 255
            audio = rng.integers(110, 146, (len(rgb), 128), np.uint8)
            content += sequence(f"{split}{k}", () if split == "test" else tuple(sorted(labels)), rgb, audio)
        root.mkdir(exist_ok=True)
        (root / f"{split}0001.tfrecord").write_bytes(content)
    (root / "vocabulary.csv").write_text("Index,TrainVideoCount,Name\r\n0,9,Game\r\n1,8,Car\r\n2,7,Food\r\n")
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("yt8m"))


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"steps": 30, "batch": 8, "lr": 0.05, "device": "cpu", "train_values": {"validate_every": 30}}
    return train("youtube8m_logistic", videos, run=tmp_path_factory.mktemp("runs") / "r", **options).folder


def test_a_folder_of_features(videos: Path, tmp_path: Path) -> None:
    data = open_dataset(videos, kind="clips")
    assert data.format == "youtube8m" and data.classes == ("Game", "Car", "Food")
    assert {name: len(data.split(name).records) for name in data.splits} == {"train": 24, "val": 9}
    first = next(r for r in data.records if r.key.endswith("#train4"))
    assert first.every == (1, 2) and first.labels == 1 and first.image.page == 4
    assert video_at(first.image.path, 4).key == "train4"
    with pytest.raises(SightlineError, match="there is no video 99"):
        video_at(first.image.path, 99)
    assert not check(videos, kind="clips").errors
    alone = tmp_path / "a"
    alone.mkdir()
    (alone / "train1.tfrecord").write_bytes((videos / "train0001.tfrecord").read_bytes())
    assert open_dataset(alone, kind="clips").classes == ("0", "1", "2")
    broken = bytearray((videos / "train0001.tfrecord").read_bytes())
    broken[-20] ^= 255
    (alone / "train1.tfrecord").write_bytes(broken)
    last = open_dataset(alone, kind="clips").records[-1]
    with pytest.raises(SightlineError, match="checksum"):
        for page in range(24):
            video_at(last.image.path, page)


def test_a_run_its_scores_and_its_answers(run: Path, videos: Path, tmp_path: Path) -> None:
    net, card = load(run)
    assert card.preprocess.clip == "features" and card.preprocess.channels == 1152 and card.classes[1] == "Car"
    found = evaluate(run, videos)
    assert found.split == "val" and found.images == 9
    assert found.metrics["accuracy"] == 1 and found.metrics["gap20"] > 0.9 and found.metrics["average_precision"] > 0.9
    assert found.per_class["Game"]["samples"] == 4  # videos 0, 3, 6, and 8 as the second class
    answers = list(predict(run, videos / "test0001.tfrecord", out=tmp_path))
    assert [a.name for a in answers] == ["test0", "test1"] and answers[1].label == 1
    said = json.loads(Path(answers[0].files["labels"]).read_text())
    assert {row["class"] for row in said["top"][:2]} == {"Game", "Car"}
    expected = net(features_of(video_at(videos / "test0001.tfrecord", 0), 1152)[None]).logits.sigmoid()[0]
    torch.testing.assert_close(answers[0].probabilities, expected)


def test_features_and_clips_are_not_mixed(videos: Path) -> None:
    with pytest.raises(UsageError, match="holds features"):
        train("tsm", videos, dry_run=True)


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_an_exported_run_answers_the_same(run: Path, videos: Path, tmp_path: Path, suffix: str) -> None:
    done = export(run, tmp_path / f"m.{suffix}")
    assert done.dynamic == ("batch", "frames") and max(done.differences.values()) < 1e-4
    one, other = evaluate(run, videos).metrics, evaluate(tmp_path / f"m.{suffix}", videos).metrics
    assert other == pytest.approx(one, rel=1e-4)


def test_the_entry_says_what_is_true() -> None:
    net = create("youtube8m_logistic")
    assert sum(p.numel() for p in net.parameters()) == MODELS["youtube8m_logistic"].parameters == 3862 * 1153
    target = Target(torch.tensor([1, 4]))
    torch.stack(list(net.losses(net(torch.rand(2, 1152, 3)), target).values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_padding_changes_nothing(videos: Path) -> None:
    data = open_dataset(videos, kind="clips").split("train")
    samples = [sample_of(record, 1152, 3) for record in data.records[:5]]
    batch = collate(samples)
    assert {s.features.shape[1] for s in samples} == {2, 3, 4} and batch.images.shape == (5, 1152, 4)
    assert batch.targets.labels[0].tolist() == [1, 1, 0] and batch.inputs["lengths"].tolist() == [2, 3, 4, 2, 3]
    torch.manual_seed(0)
    net = youtube8m_logistic(3).eval()
    together = net(batch.images, **batch.inputs).logits
    for k, sample in enumerate(samples):
        torch.testing.assert_close(net(sample.features[None]).logits[0], together[k])
        unit = [row / row.norm() for row in sample.features.T]
        by_hand = sum(unit) / len(unit) @ net.classifier.weight.T + net.classifier.bias
        torch.testing.assert_close(together[k], by_hand)
    with pytest.raises(UsageError, match="create it with in_channels=1152"):
        features_of(video_at(data.records[0].image.path, 0), 700)
    assert features_of(video_at(data.records[0].image.path, 0), 1024).shape == (1024, 2)


def test_the_loss_by_hand() -> None:
    net = youtube8m_logistic(2, in_channels=3, unit=False)
    with torch.no_grad():
        net.classifier.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]))
    out = net(torch.tensor([[[1.0, 3.0], [0.0, 1.0], [0.0, 0.0]]]))
    assert out.logits.tolist() == [[2.0, 1.0]]
    loss = net.losses(out, Target(torch.tensor([[1.0, 0.0]])))["bce"].item()
    assert loss == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1)), rel=1e-6)
    assert net.decode(out)[0].probabilities.detach().tolist() == pytest.approx(
        [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))]
    )


def test_the_starter_code_s_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(1152, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    np.savez(tmp_path / "w.npz", **{"fully_connected/weights": kernel, "fully_connected/biases": bias})
    net = youtube8m_logistic(4)
    report = load_weights(net, tmp_path / "w.npz")
    assert report.origin == "youtube-8m" and not report.missing
    assert torch.equal(net.classifier.weight, torch.from_numpy(kernel.T))


def slow_gap(probabilities: list[list[float]], truth: list[set[int]], top: int) -> float:
    """The definition, row by row."""
    rows = []
    for p, right in zip(probabilities, truth):
        best = sorted(range(len(p)), key=lambda k: -p[k])[:top]
        rows += [(p[k], k in right) for k in best]
    rows.sort(key=lambda row: -row[0])
    hits, total = 0, 0.0
    for place, (_, hit) in enumerate(rows, start=1):
        if hit:
            hits += 1
            total += hits / place
    return total / max(1, sum(map(len, truth)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), samples=st.integers(1, 6), classes=st.integers(2, 9), top=st.integers(1, 5))
def test_global_average_precision(seed: int, samples: int, classes: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.permutation(samples * classes).reshape(samples, classes) / (samples * classes)  # no ties
    truth = [set(np.flatnonzero(rng.random(classes) < 0.4).tolist()) for _ in range(samples)]
    mask = torch.tensor([[k in row for k in range(classes)] for row in truth])
    assert global_average_precision(torch.from_numpy(p), mask, top) == pytest.approx(slow_gap(p.tolist(), truth, top))


def test_scores_by_hand() -> None:
    metric = ClipMetric(["a", "b", "c"])
    metric.update_several(torch.tensor([0.9, 0.5, 0.1]), (0, 1), key="x")
    other = ClipMetric(["a", "b", "c"])
    other.update_several(torch.tensor([0.8, 0.2, 0.7]), (2,), key="y")
    metric.merge(other)
    report = metric.compute()
    assert report.worst == ["x", "y"]
    found = report.metrics
    assert found["accuracy"] == 0.5
    # in order: .9 x a yes, .8 y a no, .7 y c yes, .5 x b yes, ...: (1 + 2/3 + 3/4) / 3
    assert found["gap20"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found["average_precision"] == pytest.approx(1.0)
    loss = [math.log(0.9) + math.log(0.5) + math.log(0.9), math.log(0.2) + math.log(0.8) + math.log(0.7)]
    assert found["log_loss"] == pytest.approx(-sum(loss) / 2)
    assert set(report.per_class) == {"a", "b", "c"} and report.confusion.tolist() == []


def test_a_video_of_no_frames_is_refused() -> None:
    empty = Video8M("e", (0,), np.zeros((0, 1024), np.float32), np.zeros((0, 128), np.float32))
    with pytest.raises(UsageError, match="has 0 frames"):
        features_of(empty, 1152)
