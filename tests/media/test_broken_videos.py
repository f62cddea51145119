"""Videos that are none: every one is refused in a sentence that names it, or read for what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.check import check
from sightline.errors import SightlineError
from sightline.media.clips import read_frames, video_info
from sightline.media.video import VideoWriter


def video(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(frames)
    with VideoWriter(path, 25) as out:
        for _ in range(frames):
            out.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    return path


def sound(path: Path) -> Path:
    """A file with a second of sound and no picture."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_each_is_refused_or_read(tmp_path: Path) -> None:
    good = video(tmp_path / "good.mp4", 12)
    content = good.read_bytes()
    for name, data in {
        "empty": b"",
        "cut": content[:600],
        "noise": content[:64] + b"\x13" * 900,
        "text": b"hello",
    }.items():
        (tmp_path / f"{name}.mp4").write_bytes(data)
        with pytest.raises(SightlineError, match=rf"{name}\.mp4"):
            video_info(tmp_path / f"{name}.mp4")
    with pytest.raises(SightlineError, match=r"sound\.mp4"):
        video_info(sound(tmp_path / "sound.mp4"))
    with pytest.raises(SightlineError, match=r"gone\.mp4 does not exist"):
        video_info(tmp_path / "gone.mp4")
    one = video(tmp_path / "one.mp4", 1)
    assert video_info(one).frames == 1 and read_frames(one, [0, 0]).shape[0] == 2


def test_a_video_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 40)
    info = video_info(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SightlineError, match=r"clip\.mp4"):
        read_frames(path, [39], info=info)


def test_check_tells_all_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        video(tmp_path / name / "good [1] (x).mp4", 8 + len(name) + ord(name))
    video(tmp_path / "a" / "still.mp4", 1)
    sound(tmp_path / "a" / "sound.mp4")
    (tmp_path / "b" / "empty.mp4").write_bytes(b"")
    (tmp_path / "b" / "same.mp4").write_bytes((tmp_path / "a" / "good [1] (x).mp4").read_bytes())
    found = check(tmp_path)
    assert {f.path.name for f in found.errors} >= {"sound.mp4", "empty.mp4"}
    assert any("in another class" in f.sentence for f in found.errors)
    assert any("a single frame" in f.sentence for f in found.warnings)
