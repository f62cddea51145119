"""Videos are written, read back in order with their times, turned as tagged, and damage is told where it is."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from sightline.errors import SightlineError, UsageError
from sightline.media.image import read_image
from sightline.media.video import VideoWriter, is_video, read_video


def drawn(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame whose grey level and bar tell its number."""
    frame = np.full((height, width, 3), 40 + 4 * index, np.uint8)
    frame[8:16, : 2 * index + 2] = (230, 60, 40)
    return frame


def written(path: Path, frames: int = 20, height: int = 48, width: int = 64, fps: float = 12.5) -> Path:
    with VideoWriter(path, fps) as out:
        for i in range(frames):
            out.write(drawn(i, height, width))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_round_trip(tmp_path, suffix):
    frames = list(read_video(written(tmp_path / f"a{suffix}")))
    assert [f.index for f in frames] == list(range(20))
    np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 12.5, atol=1e-3)
    for frame in frames:
        assert frame.image.dtype == np.uint8 and frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image.astype(int) - drawn(frame.index)).mean() < 4
    assert is_video(f"X{suffix.upper()}") and not is_video("a.png")


def test_odd_sizes_gain_a_copy_of_their_edge(tmp_path):
    frame = next(read_video(written(tmp_path / "a.mp4", 3, 47, 63)))
    assert frame.image.shape == (48, 64, 3)
    assert np.abs(frame.image[:47, :63].astype(int) - drawn(0, 47, 63)).mean() < 4
    assert np.abs(frame.image[47].astype(int) - frame.image[46]).mean() < 4


def test_grey_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30) as out:
        out.write(np.full((32, 32), 99, np.uint8))
    assert abs(next(read_video(tmp_path / "a.mp4")).image.mean() - 99) < 3


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_tags_are_applied(tmp_path, angle, turns):
    # FFmpeg counts counter-clockwise; the frame carries the tag as a 3 x 3 matrix of 16.16 fixed point numbers.
    source = written(tmp_path / "a.mp4", 2)
    cosine, sine = round(np.cos(np.radians(angle))), round(np.sin(np.radians(angle)))
    matrix = np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 16384], ">i4") * np.array([65536] * 8 + [65536], ">i4")
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # after version and flags, times, ids, layer, volume (ISO 14496-12, 8.3.2)
    matrix[8] = 0x40000000
    data[place : place + 36] = matrix.astype(">i4").tobytes()
    (tmp_path / "b.mp4").write_bytes(data)
    stored, shown = next(read_video(source)).image, next(read_video(tmp_path / "b.mp4")).image
    np.testing.assert_array_equal(shown, np.rot90(stored, turns))


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_files_that_are_no_videos(tmp_path):
    for name, data, words in (("empty.mp4", b"", "empty"), ("words.mp4", b"hello " * 99, "cannot be read as a video")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SightlineError, match=rf"{name}.*{words}"):
            read_video(tmp_path / name)
    with pytest.raises(SightlineError, match=r"missing\.mp4 does not exist"):
        read_video(tmp_path / "missing.mp4")
    with pytest.raises(SightlineError, match="no video stream"):
        read_video(sound_only(tmp_path / "sound.mp4"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_gives_its_good_frames_and_then_a_sentence(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 25) as out:
        for _ in range(30):
            out.write(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    whole = [f.image for f in read_video(path)]
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = []
    with pytest.raises(SightlineError, match=rf"cut{suffix} is truncated or damaged after \d+ frames"):
        for frame in read_video(cut):
            frames.append(frame.image)
    assert 10 < len(frames) < 30
    for got, expected in zip(frames[:10], whole):
        np.testing.assert_array_equal(got, expected)


def test_the_pixel_limit_holds_for_frames(tmp_path):
    with pytest.raises(SightlineError, match="max_pixels=3072"):
        next(read_video(written(tmp_path / "a.mp4", 2), max_pixels=3071))


def test_writer_refuses_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.gif", 25)
    with pytest.raises(UsageError, match="fps 0"):
        VideoWriter(tmp_path / "a.mp4", 0)
    with pytest.raises(UsageError, match="like the first"), VideoWriter(tmp_path / "a.mp4", 25) as out:
        out.write(drawn(0))
        out.write(drawn(0, 50, 50))
    with pytest.raises(UsageError, match="uint8"), VideoWriter(tmp_path / "a.mp4", 25) as out:
        out.write(drawn(0) / 255)
    with pytest.raises(SightlineError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 25) as out:
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_reference_frames_are_met_exactly(shared_data):
    folder = shared_data / "video_samples"
    references = {
        int(p.name.split("frame")[1][:6]): read_image(p)
        for p in (folder / "reference_frames").glob("*stream0.frame*.png")
    }
    times = json.loads((folder / "torchcodec_nasa_13013.mp4.stream0.all_frames_info.json").read_text())
    count = 0
    for frame in read_video(folder / "torchcodec_nasa_13013.mp4"):
        np.testing.assert_allclose(frame.time, float(times[frame.index]["pts_time"]), atol=1e-4)
        if frame.index in references:
            count += 1
            np.testing.assert_array_equal(frame.image, references[frame.index])
    assert count == len(references) > 0


@pytest.mark.slow
def test_real_videos_play_to_the_end(shared_data):
    for path in sorted((shared_data / "video_samples").iterdir()):
        if is_video(path) and "corrupt" not in path.name:
            times = [frame.time for frame in read_video(path)]
            assert len(times) > 1 and times == sorted(times), path
