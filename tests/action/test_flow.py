"""Motion beside frames: where fields come from, how they are numbered, mirrored and reversed, and runs from videos."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.action import video as videos
from sightline.action.sampling import ClipRule, parse_rule
from sightline.action.targets import ClipSamples
from sightline.action.video import as_read, flow_beside, of_array, of_file
from sightline.classification.targets import Augment, turned
from sightline.contracts import Preprocess
from sightline.datasets.open import open_dataset
from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.media.video import VideoWriter
from sightline.verbs.evaluate import evaluate
from sightline.verbs.models import create
from sightline.verbs.predict import predict
from sightline.verbs.train import train

SIZE = (32, 48)


def frame(k: int) -> np.ndarray:
    """A frame that is one value, its number times 4."""
    return np.full((*SIZE, 3), 4 * k, np.uint8)


def field(k: int) -> np.ndarray:
    """A field whose x is 100 + its number on the left and 20 on the right; y: 60 + its number above, 200 below."""
    x, y = np.full(SIZE, 20, np.uint8), np.full(SIZE, 200, np.uint8)
    x[:, : SIZE[1] // 2], y[: SIZE[0] // 2] = 100 + k, 60 + k
    return np.stack([x, y], -1)


def write_frames(folder: Path, count: int = 8) -> Path:
    for k in range(count):
        write_image(folder / f"img_{k + 1:05d}.png", frame(k))
    return folder


def write_fields(folder: Path, count: int = 7) -> Path:
    for k in range(count):
        for letter, plane in zip("xy", np.moveaxis(field(k), -1, 0)):
            write_image(folder / f"flow_{letter}_{k + 1:05d}.png", plane[..., None])
    return folder


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Stands for a method: x is how much brighter the next frame is, in pixels; y the opposite."""
    change = second[..., 0].astype(np.float32) - first[..., 0]
    return np.stack([change, -change], -1)


def test_rules_say_how_flow_is_made():
    assert parse_rule("arange(10, 1)+dis") == ClipRule("arange", 10, 1, "dis")
    assert str(parse_rule(" segments(5) + tvl1 ")) == "segments(5)+tvl1"
    assert parse_rule(str(parse_rule("dense(8, 64)+dis"))).flow == "dis"
    assert parse_rule("arange(10, 1)").flow == ""
    with pytest.raises(UsageError, match=r"\+dis or \+tvl1\. Did you mean 'dis'"):
        parse_rule("arange(10, 1)+dss")


@pytest.mark.parametrize(
    ("frames", "flow"),
    [
        ("frames/run/a", "flow/run/a"),
        ("rgb/train/run/a", "tvl1_flow/train/run/a"),
        ("jpegs_256/a", "flow/u/a"),
        ("run/a", "run/a_flow"),
    ],
)
def test_flow_beside_frames(tmp_path: Path, frames: str, flow: str):
    write_frames(tmp_path / frames)
    assert flow_beside(tmp_path / frames) is None
    if "/u/" in flow:
        for k in range(7):
            for letter, plane in zip("uv", np.moveaxis(field(k), -1, 0)):
                write_image(tmp_path / flow.replace("/u/", f"/{letter}/") / f"frame{k:06d}.png", plane[..., None])
    else:
        write_fields(tmp_path / flow)
    assert flow_beside(tmp_path / frames) == tmp_path / flow
    video = as_read(of_file(tmp_path / frames), 5, "dis")  # what is stored comes first
    assert video.frames == 7
    row = video.read([3, 0], SIZE)
    assert row.shape == (2, *SIZE, 5)
    assert (row[0, ..., :3] == 12).all() and (row[0, ..., 3:] == field(3)).all() and (row[1, ..., 3:] == field(0)).all()
    alone = as_read(of_file(tmp_path / frames), 2)
    assert (alone.read([6], SIZE)[0] == field(6)).all()


def test_numbers_that_do_not_belong_together(tmp_path: Path):
    write_frames(tmp_path / "frames" / "a")
    with pytest.raises(SightlineError, match=r"has no flow beside it .* \+dis|arange\(10,1\)\+dis"):
        as_read(of_file(tmp_path / "frames" / "a"), 5)
    write_fields(tmp_path / "flow" / "a", 5)
    with pytest.raises(SightlineError, match=r"holds 5 fields, .* 8 frames: expected 7"):
        as_read(of_file(tmp_path / "frames" / "a"), 5)
    fields = of_file(tmp_path / "flow" / "a")
    assert as_read(fields, 2, "dis") is fields
    with pytest.raises(SightlineError, match="holds flow, and this network reads frames too"):
        as_read(fields, 5, "dis")
    with pytest.raises(SightlineError, match="motion needs two"):
        as_read(of_array(frame(0)[None]), 2, "dis")


def test_computed_fields_lead_to_the_next_frame(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(videos, "flow_method", lambda name: difference)
    times = []
    video = of_array(np.stack([frame(k * k) for k in range(6)]))  # 4, 12, 20, 28, 36 brighter from one to the next
    reader = videos.Video(
        video.frames,
        25.0,
        SIZE,
        video.times,
        lambda wanted, size: times.append(list(wanted)) or video.read(wanted, size),
    )
    seen = as_read(reader, 2, "dis")
    assert seen.frames == 5 and seen.fields and len(seen.times) == 5
    rows = seen.read([3, 0, 3], SIZE)
    assert times == [[0, 1, 3, 4]]  # each frame once
    # (v + 20) 255 / 40: 4 -> 153, -4 -> 102; 28 and -28 are cut at 255 and 0
    assert rows[:, 0, 0].tolist() == [[255, 0], [153, 102], [255, 0]]
    both = as_read(reader, 5, "dis").read([1], SIZE)[0, 0, 0]
    assert both.tolist() == [4, 4, 4, 204, 51]  # frame 1; 12 -> 204, -12 -> 51


def test_mirrored_fields_move_the_other_way():
    flow = torch.from_numpy(np.stack([field(0), field(1)])).permute(3, 0, 1, 2)
    x, y = flow
    assert torch.equal(turned(flow, ()), flow)
    assert torch.equal(turned(flow, (-1,)), torch.stack([255 - x, y]))
    assert torch.equal(turned(flow, (-2,)), torch.stack([x, 255 - y]))
    assert torch.equal(turned(flow, (1,)), torch.stack([255 - x, 255 - y]))
    assert torch.equal(turned(flow, (-1, 1)), torch.stack([x, 255 - y]))
    assert torch.allclose(turned(flow / 255, (-1,))[0], 1 - x / 255)


def test_augmented_clips_of_frames_and_flow():
    clip = torch.cat(
        [
            (60 + 10 * torch.arange(12, dtype=torch.uint8)).view(1, 1, 3, 4).expand(3, 2, 3, 4),
            torch.full((2, 2, 3, 4), 90),
        ]
    ).to(torch.uint8)
    seen = set()
    for k in range(8):
        found = Augment(flip=True, colour=0.5)(clip, np.random.default_rng(k), fields=3)
        mirrored = bool(found[0, 0, 0, 0] > found[0, 0, 0, 3])
        seen.add(mirrored)
        assert found.shape == clip.shape and found.dtype == torch.uint8
        assert (found[3] == (165 if mirrored else 90)).all() and (found[4] == 90).all()  # no colour, x turned
    assert seen == {True, False}


def test_samples_and_answers_read_folders(tmp_path: Path):
    for name in ("left", "right"):
        for k in range(2):
            write_frames(tmp_path / "frames" / name / f"v{k}")
            write_fields(tmp_path / "flow" / name / f"v{k}")
    data = open_dataset(tmp_path / "frames", kind="clips", val=0)
    told = Preprocess(resize=f"exact{SIZE}", clip="arange(3, 1)", channels=5)
    image = ClipSamples(data, preprocess=told, seed=0)[0, 0].image
    assert image.shape == (5, 3, *SIZE)
    assert image[0, :, 0, 0].tolist() == [8, 12, 16]  # frames 2 to 4 of 7
    assert image[3, :, 0, 0].tolist() == [102, 103, 104] and image[4, :, 0, 0].tolist() == [62, 63, 64]
    options = {"steps": 2, "batch": 2, "device": "cpu", "size": [32, 48], "resize": "exact(32, 48)"}
    values = {"width": 8, "depths": [1, 1, 1, 1], "fields": 3}
    for name, root in (
        ("two_stream", "frames"),
        ("two_stream_temporal_r101", "frames"),
        ("two_stream_temporal_r101", "flow"),
    ):
        given = values | ({} if name == "two_stream" else {"bottleneck": False})
        run = train(
            name,
            tmp_path / root,
            run=tmp_path / f"{name}-{root}",
            val=0,
            clip="arange(3, 1)",
            model_values=given,
            **options,
        )
        assert evaluate(run.folder, tmp_path / root, split="all").images == 4
        answers = list(predict(run.folder, tmp_path / root / "left" / "v0", out=tmp_path / "out", views=2))
        assert len(answers) == 1 and answers[0].image is not None and answers[0].image.shape == (*SIZE, 3)


def test_clips_without_flow_are_refused():
    net = create("two_stream", num_classes=2, width=8, fields=3).eval()
    with pytest.raises(UsageError, match="clips of 5 channels, not of 3"):
        net(torch.rand(1, 3, 3, *SIZE))
    clip = torch.rand(1, 5, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(net(clip).logits, net(clip[:, :3, :1], flow=clip[:, 3:]).logits)


def test_a_video_without_opencv_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with VideoWriter(tmp_path / "a.mp4", 25) as out:
        for k in range(6):
            out.write(frame(k))
    torch.manual_seed(0)
    net = create("two_stream", num_classes=2, width=8, fields=3)
    told = Preprocess(resize="exact(32, 48)", clip="arange(3, 1)+dis", channels=5)
    from sightline.action.predict import answer

    with pytest.raises(UsageError, match=r"needs the package 'cv2': pip install 'sightline\[classical\]'"):
        answer(net.eval(), of_file(tmp_path / "a.mp4"), preprocess=told)


def test_two_streams_learn_from_plain_videos(tmp_path: Path):
    pytest.importorskip("cv2", reason="computing flow needs the extra classical")
    rng = np.random.default_rng(0)
    for name, step in (("left", -2), ("right", 2)):
        for k in range(3):
            scene = rng.integers(0, 255, (8, 12, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            with VideoWriter(tmp_path / "data" / name / f"{k}.mp4", 25, quality=10) as out:
                for t in range(6):
                    out.write(np.roll(scene, step * t, axis=1))
    options = {"steps": 3, "batch": 2, "device": "cpu", "size": [32, 48], "resize": "exact(32, 48)", "val": 0}
    values = {"width": 8, "depths": [1, 1, 1, 1], "fields": 3}
    run = train(
        "two_stream", tmp_path / "data", run=tmp_path / "run", clip="arange(3, 1)+dis", model_values=values, **options
    )
    assert evaluate(run.folder, tmp_path / "data", split="all").images == 6
    data = open_dataset(tmp_path / "data", kind="clips", val=0)
    told = Preprocess(resize="exact(32, 48)", clip="arange(3, 1)+dis", channels=5)
    samples = ClipSamples(data, preprocess=told, seed=0)
    x = [float(np.median(samples[0, k].image[3, 1])) - 127.5 for k in range(6)]
    assert all(v < -5 for v in x[:3]) and all(v > 5 for v in x[3:])  # 2 pixels are 12.75 steps of 255
