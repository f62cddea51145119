"""From folders of videos and pictures by class to a run, its scores and its answers, through the verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.action.predict import of_array
from sightline.datasets.check import check
from sightline.datasets.moving_photos import MOTIONS, levelled, path, start, write_moving_photos
from sightline.datasets.open import open_dataset
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.media.video import VideoWriter
from sightline.verbs.evaluate import evaluate
from sightline.verbs.export import export
from sightline.verbs.load import load
from sightline.verbs.predict import predict
from sightline.verbs.train import train


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of two classes that differ in every frame, in five groups."""
    root = tmp_path_factory.mktemp("clips")
    rows = ["id,class,group"]
    for k in range(12):
        name = "dark" if k % 2 else "bright"
        (root / name).mkdir(exist_ok=True)
        with VideoWriter(root / name / f"v [{k}].mp4", 25) as out:
            for t in range(20 + k):
                rng = np.random.default_rng([k, t])
                out.write(rng.integers(0, 60, (36, 48, 3), np.uint8) + np.uint8(0 if k % 2 else 150))
        rows.append(f"v [{k}],{name},g{k // 3}")
    (root / "index.csv").write_text("\r\n".join(rows) + "\r\n")
    return root


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        "tsm",
        clips,
        run=tmp_path_factory.mktemp("runs") / "tsm",
        steps=12,
        batch=4,
        clip="segments(4)",
        size=32,
        resize="exact(32, 32)",
        device="cpu",
        model_values={"depths": [1, 1, 1, 1], "width": 8},
        train_values={"validate_every": 6},
    ).folder


def test_folders_splits_and_groups(clips: Path) -> None:
    data = open_dataset(clips, kind="clips")
    assert data.classes == ("bright", "dark") and len(data.records) == 12
    groups = {r.split: {q.group for q in data.records if q.split == r.split} for r in data.records}
    assert not groups["train"] & groups["val"]
    with pytest.raises(SightlineError, match="by class"):
        open_dataset(clips, kind="classes")
    with pytest.raises(SightlineError):
        open_dataset(clips)


def test_a_run_of_clips(run: Path, clips: Path, tmp_path: Path) -> None:
    card = load(run)[1]
    assert card.preprocess.clip == "segments(4)" and card.classes == ("bright", "dark")
    found = evaluate(run, clips, split="all")
    assert found.images == 12 and found.metrics["accuracy"] >= 0.75 and sum(map(sum, found.confusion)) == 12
    logits = evaluate(run, clips, split="all", views=3, crops=3, fuse="logits")
    assert set(logits.metrics) == {*found.metrics, "clip_accuracy"}
    answers = list(predict(run, clips / "dark", out=tmp_path, views=2))
    assert len(answers) == 6 and len(answers[0].timeline) == 2 and answers[0].image is not None
    said = json.loads(Path(answers[0].files["labels"]).read_text())
    assert said["label"] in ("bright", "dark") and len(said["timeline"]) == 2
    table = Path(answers[0].files["csv"]).read_text().splitlines()
    assert table[0] == "start,end,bright,dark" and len(table) == 3
    assert "-->" in Path(answers[0].files["srt"]).read_text() and Path(answers[0].files["strip"]).is_file()
    assert (run / "report.html").is_file() and (run / "samples" / "worst-1.jpg").is_file()


def test_arrays_are_videos_too(run: Path) -> None:
    frames = np.zeros((30, 36, 48, 3), np.uint8)
    answer = next(iter(predict(run, frames)))
    assert float(answer.probabilities.sum()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match="is no video"):
        of_array(frames[0])


def test_wrong_choices_get_one_sentence(run: Path, clips: Path) -> None:
    for options in ({"tile": 64}, {"crops": 2}, {"fuse": "median"}, {"views": 0}):
        with pytest.raises(UsageError):
            evaluate(run, clips, **options)
    with pytest.raises(UsageError, match="clip="):
        train("tsm", clips, clip="segment(4)", dry_run=True)


def test_a_broken_video_stops_or_is_counted(run: Path, clips: Path, tmp_path: Path) -> None:
    for name in ("bright", "dark"):
        (tmp_path / name).mkdir()
        for file in sorted((clips / name).iterdir())[:1]:
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "dark" / "broken.mp4").write_bytes(b"no video at all" * 40)
    with pytest.raises(SightlineError, match=r"broken\.mp4"):
        evaluate(run, tmp_path, split="all")
    found = evaluate(run, tmp_path, split="all", on_error="skip")
    assert found.images == 2 and list(found.skipped) == ["dark/broken.mp4"]


def test_a_run_of_pictures(tmp_path: Path) -> None:
    for k in range(12):
        name = "train" if k < 8 else "val"
        shade = 40 if k % 2 else 200
        image = np.random.default_rng(k).integers(0, 50, (40, 52, 3), np.uint8) + np.uint8(shade)
        write_image(tmp_path / "data" / name / ("dark" if k % 2 else "bright") / f"{k}.png", image)
    options = {"steps": 15, "batch": 4, "device": "cpu", "size": 32, "model_values": {"width": 8}}
    run = train("resnet", tmp_path / "data", run=tmp_path / "run", **options)
    assert load(run.folder)[1].classes == ("bright", "dark")
    found = evaluate(run.folder, tmp_path / "data")
    assert found.split == "val" and found.images == 4 and found.metrics["accuracy"] >= 0.75
    answers = list(predict(run.folder, tmp_path / "data" / "val", crops=10))
    assert len(answers) == 4 and answers[0].timeline == ()
    with pytest.raises(SightlineError, match="by class"):
        train("tsm", tmp_path / "data", dry_run=True)


def test_moving_photos_are_a_set_by_class(tmp_path: Path) -> None:
    for k in range(4):
        noise = np.random.default_rng(k).integers(0, 255, (20, 24, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        write_image(tmp_path / "photos" / f"{k}.png", noise)
    out = write_moving_photos(tmp_path / "photos", tmp_path / "set", train=16, val=8, size=32, frames=4)
    data = open_dataset(out, kind="clips")
    assert data.classes == MOTIONS and {r.split for r in data.records} == {"train", "val"} and len(data.records) == 24
    with pytest.raises(UsageError, match="four or more"):
        write_moving_photos(tmp_path / "set", tmp_path / "x")


def test_every_motion_starts_alike_and_opposites_are_opposite() -> None:
    import torch

    picture = torch.rand(3, 320, 400) * 255
    first = start(picture, 32, np.random.default_rng(1))
    ends = {m: path(m, 5, first, np.random.default_rng(2)) for m in MOTIONS}
    assert all(np.allclose(poses[0], first) for poses in ends.values())
    for one, other in (("left", "right"), ("up", "down"), ("nearer", "farther"), ("turn-left", "turn-right")):
        assert np.allclose(ends[one][-1] - first, first - ends[other][-1])


def test_the_size_of_a_frame_says_little() -> None:
    import torch

    picture, rng = torch.rand(3, 64, 64) * 255, np.random.default_rng(0)
    first = [start(picture, 8, rng) for _ in range(60)]
    width = max(pose[2] for pose in first) - min(pose[2] for pose in first)  # of an even distribution of log sizes
    moved = {m: np.mean([path(m, 3, first[0], rng)[1, 2] - first[0][2] for _ in range(400)]) for m in MOTIONS}
    assert all(abs(shift) < 1e-9 for m, shift in moved.items() if m not in ("nearer", "farther"))
    # whoever knows the size of the middle frame names the likeliest motion: "nearer" below, "farther" above
    best = (1 + (moved["farther"] - moved["nearer"]) / width) / len(MOTIONS)
    assert 1 / 8 < best < 1 / 8 + 0.05


def test_moving_photos_have_one_contrast() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((0, 40), (100, 255), (80, 120)):
        clip = levelled(rng.integers(low, high, (4, 16, 16, 3)).astype(np.uint8))
        assert abs(float(clip.mean()) - 128) < 1 and abs(float(clip.std()) - 50) < 2
    dark = np.zeros((2, 4, 4, 3), np.uint8)
    assert (levelled(dark) == 128).all()
    two = np.array([100, 140], np.uint8).repeat(24).reshape(2, 4, 2, 3)  # 20 to either side of the mean becomes 50
    assert sorted(set(levelled(two).ravel().tolist())) == [78, 178]


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_an_exported_run_answers_the_same(run: Path, clips: Path, tmp_path: Path, suffix: str) -> None:
    done = export(run, tmp_path / f"tsm.{suffix}")
    assert "batch" in done.dynamic and max(done.differences.values()) < 1e-4
    one = evaluate(run, clips, split="all", views=2).metrics
    other = evaluate(tmp_path / f"tsm.{suffix}", clips, split="all", views=2).metrics
    assert other["log_loss"] == pytest.approx(one["log_loss"], rel=1e-3)


def test_check_names_every_broken_video_and_copies(clips: Path, tmp_path: Path) -> None:
    first = sorted((clips / "dark").iterdir())[0]
    for name in ("bright", "dark"):
        (tmp_path / name).mkdir()
    (tmp_path / "dark" / "a.mp4").write_bytes(first.read_bytes())
    (tmp_path / "bright" / "b.mp4").write_bytes(first.read_bytes())
    (tmp_path / "dark" / "empty.mp4").write_bytes(b"")
    (tmp_path / "bright" / "cut.mp4").write_bytes(first.read_bytes()[:900])
    found = check(tmp_path)
    assert found.pictures == 2 and {f.path.name for f in found.errors} >= {"empty.mp4", "cut.mp4"}
    assert any("in another class (bright and dark)" in f.sentence for f in found.errors)
    assert not check(clips).errors


def test_official_lists_are_read(clips: Path, tmp_path: Path) -> None:
    video = sorted((clips / "dark").iterdir())[0].read_bytes()
    names = [f"v_{c}_g0{g}_c01.avi" for c in ("Run", "Swim") for g in (1, 2, 3)]
    for name in names:
        path = tmp_path / "ucf" / name.split("_")[1] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video)
    lists = tmp_path / "ucf" / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_bytes(
        "\r\n".join(f"{n.split('_')[1]}/{n} 1" for n in names if "g01" not in n).encode()
    )
    (lists / "testlist01.txt").write_text("\n".join(f"{n.split('_')[1]}/{n}" for n in names if "g01" in n))
    data = open_dataset(tmp_path / "ucf", kind="clips", val=0)
    assert {Path(r.key).name: r.split for r in data.records} == {n: "test" if "g01" in n else "train" for n in names}
    assert {r.group for r in data.records} == {f"{c} g0{g}" for c in ("Run", "Swim") for g in (1, 2, 3)}

    odd = ["a#b [x]_1.avi", "it's+c!&_2.avi", "d_3.avi"]
    for k, name in enumerate(("wave", "walk")):
        for place, file in enumerate(odd):
            path = tmp_path / "hmdb" / name / f"{k}{file.replace(' ', '-')}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(video)
            with (tmp_path / "hmdb" / f"{name}_test_split1.txt").open("a") as stream:
                stream.write(f"{path.name} {place} \n")
    data = open_dataset(tmp_path / "hmdb", kind="clips", val=0)
    assert sorted(r.split for r in data.records) == ["test", "test", "train", "train"]
