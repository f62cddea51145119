"""One stream of named pictures, whatever the user gives."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.media.image import write_image
from sightline.media.sources import sources
from sightline.media.video import VideoWriter


def grey(value: int) -> np.ndarray:
    return np.full((4, 6, 1), value, np.uint8)


def names(source) -> list[str]:
    return [s.name for s in sources(source)]


@pytest.fixture
def folder(tmp_path):
    for number in (10, 2, 1):
        write_image(tmp_path / f"img{number}.png", grey(number))
    write_image(tmp_path / "Sub" / "img3.tif", grey(3))
    (tmp_path / ".hidden").mkdir()
    write_image(tmp_path / ".hidden" / "img4.png", grey(4))
    (tmp_path / "._img1.png").write_bytes(b"a companion file of some file system")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_folder_is_searched_in_natural_order(folder):
    found = list(sources(folder))
    assert [s.name for s in found] == ["img1", "img2", "img10", "Sub/img3"]
    assert [int(s.read()[0, 0, 0]) for s in found] == [1, 2, 10, 3]
    assert found[0].path == folder / "img1.png"
    assert names(str(folder)) == [s.name for s in found]


def test_single_file_and_glob(folder):
    assert names(folder / "img2.png") == ["img2"]
    assert names(str(folder / "img*.png")) == ["img1", "img2", "img10"]
    assert names(str(folder / "**" / "img*.*")) == ["img1", "img2", "img10", "Sub/img3"]
    write_image(folder / "odd[1].png", grey(1))
    assert names(folder / "odd[1].png") == ["odd[1]"]


def test_names_stay_apart(tmp_path):
    write_image(tmp_path / "a.png", grey(1))
    write_image(tmp_path / "A.jpg", grey(2))
    write_image(tmp_path / "x" / "b.png", grey(3))
    write_image(tmp_path / "y" / "b.png", grey(4))
    assert sorted(names(tmp_path)) == ["A.jpg", "a.png", "x/b", "y/b"]
    paths = [tmp_path / "x" / "b.png", tmp_path / "y" / "b.png", tmp_path / "x" / "b.png"]
    given = names(paths)
    assert given[1] == "y/b" and len(set(given)) == 3
    assert names([grey(1), tmp_path / "a.png", tmp_path / "x", grey(2)]) == [
        "picture-000001",
        "a",
        "b",
        "picture-000004",
    ]


def test_arrays_tensors_and_pillow_pictures():
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    for given, expected in (
        (colour, colour),
        (colour[..., 0], colour[..., :1]),
        (torch.from_numpy(colour).permute(2, 0, 1), colour),
        (torch.from_numpy(colour[..., 0]), colour[..., :1]),
        (Image.fromarray(colour), colour),
        (Image.fromarray(colour[..., 0]), colour[..., :1]),
        (colour.astype(np.float64) / 255, (colour / 255).astype(np.float32)),
        (colour > 100, (colour > 100) * np.uint8(255)),
    ):
        (source,) = sources(given)
        assert source.name == "picture" and source.path is None
        np.testing.assert_array_equal(source.read(), expected)
        assert source.read().dtype == expected.dtype
    two = list(sources([colour, torch.from_numpy(colour).permute(2, 0, 1)]))
    np.testing.assert_array_equal(two[0].read(), two[1].read())


def test_pillow_picture_with_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(colour).save(tmp_path / "a.png", exif=exif)
    (by_path,) = sources(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        (by_image,) = sources(image)
        np.testing.assert_array_equal(by_image.read(), by_path.read())
    assert by_path.read().shape == (6, 4, 3)


def test_stacks_and_videos(tmp_path):
    stack = np.stack([grey(i)[..., 0] for i in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    found = list(sources(tmp_path / "stack.tif"))
    assert [(s.name, s.page, int(s.read()[0, 0, 0])) for s in found] == [
        ("stack-page-0001", 0, 0), ("stack-page-0002", 1, 1), ("stack-page-0003", 2, 2),
    ]  # fmt: skip
    with VideoWriter(tmp_path / "clip.mp4", 10) as out:
        for i in range(3):
            out.write(np.full((32, 32, 3), 50 * i, np.uint8))
    frames = list(sources(tmp_path / "clip.mp4"))
    assert [s.name for s in frames] == ["frame-000001", "frame-000002", "frame-000003"]
    assert [round(s.time or 0, 3) for s in frames] == [0, 0.1, 0.2]
    assert [round(s.read().mean() / 50) for s in frames] == [0, 1, 2]
    assert names(tmp_path)[:3] == ["clip/frame-000001", "clip/frame-000002", "clip/frame-000003"]
    assert len(names(tmp_path)) == 6


def test_a_bad_file_among_good_ones_fails_when_it_is_read(folder):
    (folder / "img5.png").write_bytes(b"broken")
    (folder / "img6.tif").write_bytes(b"II*\0")
    (folder / "img7.mp4").write_bytes(b"broken")
    (folder / "img8.png").write_bytes(b"")
    good, bad = [], []
    for source in sources(folder):
        try:
            good.append(int(source.read()[0, 0, 0]))
        except SightlineError as error:
            assert source.path is not None and str(source.path) in str(error)
            bad.append(source.path.name)
    assert good == [1, 2, 10, 3]
    assert bad == ["img5.png", "img6.tif", "img7.mp4", "img8.png"]


def test_a_damaged_video_gives_its_frames_first(tmp_path):
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mkv", 10) as out:
        for _ in range(20):
            out.write(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    *frames, last = sources(tmp_path / "a.mkv")
    assert all(f.read().shape == (64, 64, 3) for f in frames) and len(frames) > 3
    with pytest.raises(SightlineError, match="truncated"):
        last.read()


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("no/such/place", SightlineError, "does not exist"),
        ("no/such/*.png", SightlineError, "no file matches"),
        ("https://example.org/a.png", UsageError, "download"),
        ([], UsageError, "empty"),
        (None, UsageError, "NoneType"),
        (True, UsageError, "True"),
        (np.zeros((3, 40, 40), np.uint8), UsageError, "channels first"),
        (np.zeros((2, 3, 4, 5), np.uint8), UsageError, "shape"),
        (np.zeros((4, 4), np.int64), UsageError, "int64"),
        (np.zeros((0, 4), np.uint8), UsageError, "shape"),
        (torch.zeros(1, 3, 4, 4), UsageError, r"\(C, H, W\)"),
        (4321, SightlineError, "camera 4321 cannot be opened"),
        ("4321", SightlineError, "camera 4321"),
    ],
)
def test_what_is_no_source_gets_a_sentence(source, kind, words):
    with pytest.raises(kind, match=words):
        list(sources(source))


def test_empty_folder(tmp_path):
    with pytest.raises(SightlineError, match="holds no picture or video"):
        sources(tmp_path)
