"""Exact frames: every frame of files made here carries its number in its pixels."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sightline.errors import SightlineError, UsageError
from sightline.media.clips import Kept, read_frames, video_info
from sightline.media.video import VideoWriter

WIDTH, HEIGHT = 96, 48


def numbered(n: int) -> np.ndarray:
    """A frame whose nine blocks are the bits of its number."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    for bit in range(9):
        if n >> bit & 1:
            image[:, bit * 10 : bit * 10 + 10] = 220
    return image


def number_of(image: np.ndarray) -> int:
    scale = image.shape[1] / WIDTH
    return sum(int(image[:, int((b * 10 + 3) * scale) : int((b * 10 + 7) * scale)].mean() > 120) << b for b in range(9))


def write(
    path: Path, count: int, codec: str, *, options: dict[str, str] | None = None, times: list[int] | None = None
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = options or {}
        if codec == "mpeg4" and options:
            stream.codec_context.max_b_frames = int(options.get("bf", "0"))
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24")
            frame.pts, frame.time_base = (times[k] if times else k), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


FILES = {
    "h264.mp4": ("libx264", {"g": "250", "bf": "3"}),
    "short-gop.mp4": ("libx264", {"g": "12", "bf": "2"}),
    "stream.ts": ("libx264", {"g": "30", "bf": "2"}),
    "plain.avi": ("mpeg4", {}),
    "divx.avi": ("mpeg4", {"bf": "2", "g": "20"}),
    "old.mkv": ("mpeg4", {"bf": "2"}),
}


@pytest.mark.parametrize("name", FILES)
def test_frame_i_is_the_ith(name: str, tmp_path: Path) -> None:
    codec, options = FILES[name]
    path = write(tmp_path / name, 200, codec, options=options)
    info = video_info(path)
    assert info.frames == 200 and info.size == (HEIGHT, WIDTH) and info.fps == pytest.approx(25, rel=0.02)
    wanted = [150, 3, 3, 199, 0, 77, 160, 78]
    assert [number_of(image) for image in read_frames(path, wanted)] == wanted
    assert [number_of(image) for image in read_frames(path, range(0, 200, 23), info=info)] == list(range(0, 200, 23))
    small = read_frames(path, [5, 130], size=(24, 48), info=info)
    assert small.shape == (2, 24, 48, 3) and [number_of(image) for image in small] == [5, 130]


@pytest.mark.parametrize("name", FILES)
def test_torchcodec_gives_the_same_frames(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = pytest.importorskip("torchcodec.decoders", reason="torchcodec is not installed")
    path = write(tmp_path / name, 60, *FILES[name][:1], options=FILES[name][1])
    try:
        decoders.VideoDecoder(str(path))
    except RuntimeError as error:
        pytest.skip(f"torchcodec finds no FFmpeg of the system: {str(error).splitlines()[0]}")
    wanted = [50, 3, 3, 59, 0]
    ours = read_frames(path, wanted)
    theirs = read_frames(path, wanted, backend="torchcodec")
    assert np.array_equal(ours, theirs)
    monkeypatch.setenv("SIGHTLINE_VIDEO", "torchcodec")
    small = read_frames(path, wanted, size=(24, 48))
    assert [number_of(image) for image in small] == wanted


def test_a_backend_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 3, "libx264")
    with pytest.raises(UsageError, match="'decord' decodes no video here; choose pyav or torchcodec"):
        read_frames(path, [0], backend="decord")


def test_variable_rate_keeps_order_and_times(tmp_path: Path) -> None:
    times = [k if k < 30 else 30 + (k - 30) * 3 for k in range(60)]
    path = write(tmp_path / "v.mp4", 60, "libx264", options={"bf": "2"}, times=times)
    info = video_info(path)
    assert info.frames == 60
    assert np.diff(info.times)[[0, 40]] == pytest.approx([0.04, 0.12], abs=1e-3)
    assert [number_of(image) for image in read_frames(path, [59, 31, 2])] == [59, 31, 2]


def test_wrong_asks_and_broken_files_get_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 25) as out:
        for k in range(40):
            out.write(numbered(k))
    for wanted, words in (([40], "no frame 40"), ([-1], "no frame -1"), ([], "no frames")):
        with pytest.raises(UsageError, match=words):
            read_frames(path, wanted)
    data = path.read_bytes()
    for name, content in {"half.mp4": data[: len(data) // 2], "empty.mp4": b"", "text.mp4": b"hello" * 99}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SightlineError, match=name):
            read_frames(tmp_path / name, [0])
    with pytest.raises(SightlineError, match=r"missing\.mp4"):
        video_info(tmp_path / "missing.mp4")


def test_a_truncated_stream_gives_its_good_frames_or_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", 120, "libx264", options={"g": "20"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    try:
        info = video_info(path)
        assert [number_of(image) for image in read_frames(path, [0, 30], info=info)] == [0, 30]
    except SightlineError as error:
        assert "a.ts" in str(error)


def test_frames_that_shrink_are_refused_unless_a_size_is_named():
    frames = [av.VideoFrame.from_ndarray(np.full((h, 32, 3), 90, np.uint8), format="rgb24") for h in (16, 24)]
    kept = Kept(Path("a.ts"), [4, 9], None)
    kept.put(4, frames[0])
    with pytest.raises(SightlineError, match="frame 9 is 24 x 32, frames before it were 16 x 32; name a size"):
        kept.put(9, frames[1])
    kept = Kept(Path("a.ts"), [4, 9, 4], (8, 8))
    assert kept.missing() == 2
    kept.put(4, frames[0])
    assert kept.missing() == 1
    kept.put(9, frames[1])
    assert kept.frames.shape == (3, 8, 8, 3)
    assert (kept.frames == 90).all()


def _first_and_last(path: Path) -> list[int]:
    return [number_of(image) for image in read_frames(path, [0, 79])]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_other_processes_read_what_this_one_has_read(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not start processes by {method}")
    path = write(tmp_path / "a.mp4", 80, "libx264", options={"bf": "2"})
    assert _first_and_last(path) == [0, 79]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(_first_and_last, [path] * 4)) == [[0, 79]] * 4


@pytest.mark.slow
def test_ten_thousand_opens_take_no_more_memory(tmp_path: Path) -> None:
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("this system has no /proc to read the memory of a process from")
    path = write(tmp_path / "a.mp4", 8, "libx264")
    held = []
    for k in range(10_000):
        assert len(read_frames(path, [k % 8])) == 1
        if k in (999, 9_999):
            held.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert held[1] - held[0] < 5
    assert len(list(Path("/proc/self/fd").iterdir())) < 100
