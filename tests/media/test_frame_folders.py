"""Folders of frames and of flow as videos: order, layouts, sizes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError, UsageError
from sightline.media.clips import read_frames, video_info
from sightline.media.frame_folders import is_frame_folder
from sightline.media.image import write_image


def grey(value: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.full((*size, 1), value, np.uint8)


def test_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for k in (2, 10, 9, 3, 4, 5, 6, 7, 8):
        write_image(tmp_path / f"img{k}.png", np.full((24, 32, 3), 10 * k, np.uint8))
    info = video_info(tmp_path)
    assert info.frames == 9 and info.size == (24, 32) and info.fps == pytest.approx(25)
    found = read_frames(tmp_path, [8, 0, 8], info=info)
    assert found[:, 0, 0, 0].tolist() == [100, 20, 100]
    assert read_frames(tmp_path, [1], size=(12, 16)).shape == (1, 12, 16, 3)
    with pytest.raises(UsageError, match="no frame 9"):
        read_frames(tmp_path, [9])


@pytest.mark.parametrize("layout", ["flow_x", "x", "uv"])
def test_flow_in_its_layouts(tmp_path: Path, layout: str) -> None:
    for k in range(3):
        for axis, value in (("x", 100 + k), ("y", 200 + k)):
            name = {"flow_x": f"clip/flow_{axis}_{k + 1:05d}.png", "x": f"clip/{axis}_{k:04d}.png"}.get(
                layout, f"{'u' if axis == 'x' else 'v'}/clip/frame{k + 1:06d}.png"
            )
            write_image(tmp_path / name, grey(value))
    folder = tmp_path / ("u/clip" if layout == "uv" else "clip")
    assert is_frame_folder(folder)
    found = read_frames(folder, [2, 0])
    assert found.shape == (2, 24, 32, 2) and found[:, 0, 0].tolist() == [[102, 202], [100, 200]]


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SightlineError, match="no numbered pictures"):
        video_info(tmp_path / "empty")
    for k in (1, 2, 4):
        write_image(tmp_path / "gap" / f"{k}.png", grey(k))
    with pytest.raises(SightlineError, match="no frame 3 between 1 and 4"):
        video_info(tmp_path / "gap")
    write_image(tmp_path / "half" / "flow_x_1.png", grey(1))
    with pytest.raises(SightlineError, match="only one of its two directions"):
        video_info(tmp_path / "half")
    write_image(tmp_path / "u" / "clip" / "frame1.png", grey(1))
    with pytest.raises(SightlineError, match="needs the other"):
        video_info(tmp_path / "u" / "clip")
    write_image(tmp_path / "sizes" / "1.png", grey(1))
    write_image(tmp_path / "sizes" / "2.png", grey(1, (24, 30)))
    with pytest.raises(SightlineError, match=r"2.png has 30 x 24"):
        read_frames(tmp_path / "sizes", [1])
    write_image(tmp_path / "bad" / "1.png", grey(1))
    (tmp_path / "bad" / "2.png").write_bytes((tmp_path / "bad" / "1.png").read_bytes()[:50])
    with pytest.raises(SightlineError, match=r"2\.png"):
        read_frames(tmp_path / "bad", [1])
