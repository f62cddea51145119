"""Pictures come back as they were, whatever the format; bad files end in one sentence that names them."""

import io
import itertools
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from sightline.errors import SightlineError, UsageError
from sightline.media.image import image_size, is_image, pages, read_image, write_image
from sightline.media.raster import exif_orientation, stored_window, turn, turned_size

RNG = np.random.default_rng(0)
PHOTO = np.stack(np.meshgrid(np.arange(37) * 6, np.arange(29) * 8), -1).sum(-1)[..., None] // 2 + np.array([0, 9, 20])
PHOTO = PHOTO.clip(0, 255).astype(np.uint8)  # (29, 37, 3), smooth


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def slow_filter(row: bytes, above: bytes, step: int, kind: int) -> bytes:
    """One row as the PNG specification (section 9) writes it, byte by byte."""
    out = bytearray([kind])
    for i, value in enumerate(row):
        a = row[i - step] if i >= step else 0
        b = above[i]
        c = above[i - step] if i >= step else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
    return bytes(out)


def slow_png(values: np.ndarray, *, interlaced: bool = False, exif: bytes = b"") -> bytes:
    """A 16-bit PNG of (H, W, C) whose rows use all five filters in turn."""
    height, width, channels = values.shape
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    data = b""
    for y, dy, x, dx in passes if interlaced else [(0, 1, 0, 1)]:
        part = values[y::dy, x::dx].astype(">u2")
        if part.size:
            above = bytes(part.shape[1] * channels * 2)
            for row, kind in zip(part, itertools.cycle(range(5))):
                data += slow_filter(row.tobytes(), above, channels * 2, kind)
                above = row.tobytes()
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + (chunk(b"eXIf", exif) if exif else b"")
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def exif_block(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def pillow_file(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_png_loses_nothing(tmp_path, channels, interlaced):
    values = RNG.integers(0, 65536, (13, 11, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(slow_png(values, interlaced=interlaced))
    read = read_image(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, values[..., : 1 if channels < 3 else 3])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".webp"])
def test_8_bit_colour_round_trip(tmp_path, suffix):
    if suffix == ".webp":
        path = pillow_file(tmp_path / "a.webp", Image.fromarray(PHOTO), lossless=True)
    else:
        path = write_image(tmp_path / f"a{suffix}", PHOTO)
    read = read_image(path)
    np.testing.assert_array_equal(read, PHOTO)
    assert read.flags.writeable and read.flags.c_contiguous
    assert image_size(path) == (29, 37)
    assert pages(path) == 1


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", "uint16"), (".pgm", "uint16"), (".tif", "uint16"), (".tif", "float32")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_round_trip(tmp_path, suffix, dtype, channels):
    values = (RNG.random((9, 8, channels)) * 60000).astype(dtype)
    read = read_image(write_image(tmp_path / f"a{suffix}", values))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


def test_grey_has_one_channel_and_two_dimensions_are_accepted(tmp_path):
    read = read_image(write_image(tmp_path / "a.png", PHOTO[..., 0]))
    np.testing.assert_array_equal(read, PHOTO[..., :1])


def test_jpeg_is_close_and_quality_matters(tmp_path):
    fine, coarse = (write_image(tmp_path / f"{q}.jpg", PHOTO, quality=q) for q in (95, 20))
    assert np.abs(read_image(fine).astype(int) - PHOTO).mean() < 3
    assert fine.stat().st_size > coarse.stat().st_size


def test_jpeg_reduction_never_goes_below_what_is_asked(tmp_path):
    path = write_image(tmp_path / "a.jpg", np.zeros((480, 641, 3), np.uint8))
    sizes = {asked: read_image(path, reduce_to=asked).shape[:2] for asked in [(480, 641), (240, 300), (61, 60), (1, 1)]}
    assert sizes == {(480, 641): (480, 641), (240, 300): (240, 321), (61, 60): (120, 161), (1, 1): (60, 81)}
    turned = pillow_file(tmp_path / "b.jpg", Image.new("RGB", (640, 100)), exif=b"Exif\0\0" + exif_block(6))
    assert read_image(turned, reduce_to=(320, 50)).shape == (320, 50, 3)
    assert read_image(turned, reduce_to=(50, 320)).shape == (640, 100, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_is_applied_as_pillow_would(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if suffix == ".tif":
        tifffile.imwrite(path, PHOTO, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        Image.fromarray(PHOTO).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_orientation_of_16_bit_png(tmp_path):
    values = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(slow_png(values, exif=exif_block(6)))
    np.testing.assert_array_equal(read_image(path), np.rot90(values, -1))
    assert image_size(path) == (7, 5)


@pytest.mark.parametrize("orientation", range(10))
def test_windows_of_turned_pictures(orientation):
    stored = np.arange(5 * 7).reshape(5, 7)
    shown = turn(stored, orientation)
    assert turned_size(5, 7, orientation) == shown.shape
    y0, y1, x0, x1 = stored_window((1, 4, 2, 5), shown.shape, orientation)
    np.testing.assert_array_equal(turn(stored[y0:y1, x0:x1], orientation), shown[1:4, 2:5])


@pytest.mark.parametrize(
    "exif", [None, b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff" + bytes(9), exif_block(77), b"x" * 40]
)
def test_damaged_exif_changes_nothing(exif):
    assert exif_orientation(exif) == 1


def test_palette_becomes_colour_and_alpha_is_dropped(tmp_path):
    indices = RNG.integers(0, 4, (6, 5)).astype(np.uint8)
    table = np.array([[0, 0, 0], [255, 0, 0], [9, 8, 7], [1, 2, 3]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(table.ravel().tolist())
    for suffix, options in (
        (".png", {}),
        (".png", {"transparency": b"\0\xff\x80"}),
        (".bmp", {}),
        (".gif", {}),
        (".tif", {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = read_image(pillow_file(tmp_path / f"p{suffix}", image, **options))
        np.testing.assert_array_equal(read, table[indices])
    rgba = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 7, np.uint8)])
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read_image(pillow_file(tmp_path / f"a{suffix}", Image.fromarray(rgba))), PHOTO)
    grey_alpha = Image.fromarray(rgba[..., [0, 3]], "LA")
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read_image(pillow_file(tmp_path / f"g{suffix}", grey_alpha)), PHOTO[..., :1])


def test_cmyk_becomes_rgb(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    image = Image.fromarray(flat).convert("CMYK")
    for suffix, tolerance in ((".jpg", 4), (".tif", 1)):
        read = read_image(pillow_file(tmp_path / f"c{suffix}", image))
        assert np.abs(read.astype(int) - flat).max() <= tolerance, suffix


def test_one_bit_and_few_bit_pictures_use_the_full_range(tmp_path):
    bits = RNG.integers(0, 2, (7, 9)).astype(bool)
    for suffix in (".png", ".bmp", ".tif", ".pbm"):
        read = read_image(pillow_file(tmp_path / f"b{suffix}", Image.fromarray(bits)))
        np.testing.assert_array_equal(read[..., 0], bits * np.uint8(255))
    body = zlib.compress(b"\0\x01\x23\0\xef\xff")
    header = struct.pack(">IIBBBBB", 4, 2, 4, 0, 0, 0, 0)
    path = tmp_path / "four.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_image(path)[..., 0], np.array([[0, 1, 2, 3], [14, 15, 15, 15]]) * 17)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"P2 # a comment\n3 1 # more\n15\n0 7 15 ", [[[0], [119], [255]]]),
        (b"P3\n1 1\n255\n1 2 3", [[[1, 2, 3]]]),
        (b"P1\n3 2\n101\n0 1 0\n", [[[0], [255], [0]], [[255], [0], [255]]]),
        (b"P4\n3 1\n\xa0", [[[0], [255], [0]]]),
        (b"P5 2 1 255 \x07\x08", [[[7], [8]]]),
        (b"P6 1 1 4095 \x0f\xff\x00\x00\x00\x01", [[[65535, 0, 16]]]),
    ],
)
def test_netpbm(tmp_path, text, expected):
    path = tmp_path / "a.pnm"
    path.write_bytes(text)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == np.shape(expected)[:2]


def test_contents_decide_and_not_the_suffix(tmp_path):
    path = pillow_file(tmp_path / "really_png.jpg", Image.fromarray(PHOTO), format="PNG")
    np.testing.assert_array_equal(read_image(path), PHOTO)
    assert is_image("x/Y.JPEG") and not is_image("notes.txt")


def sentence(call, *words: str) -> str:
    """The one-line message of the error that `call` must raise, with `words` in it."""
    with pytest.raises(SightlineError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(str(word) in message for word in words), message
    return message


def test_bad_files_end_in_a_sentence(tmp_path):
    good = {
        s: pillow_file(tmp_path / f"good{s}", Image.fromarray(PHOTO))
        for s in (".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".ppm")
    }
    for suffix, path in good.items():
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        sentence(lambda cut=cut: read_image(cut), cut)
    deep = tmp_path / "deep.png"
    deep.write_bytes(slow_png(RNG.integers(0, 65536, (9, 9, 3), dtype=np.uint16))[:-200])
    sentence(lambda: read_image(deep), deep)
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    sentence(lambda: read_image(empty), empty, "empty (0 bytes)")
    garbage = tmp_path / "garbage.jpg"
    garbage.write_bytes(b"no picture at all")
    sentence(lambda: read_image(garbage), garbage, "not a picture")
    sentence(lambda: read_image(tmp_path / "missing.png"), "missing.png", "does not exist")
    sentence(lambda: read_image(tmp_path), tmp_path)
    sentence(lambda: image_size(garbage), garbage)
    sentence(lambda: read_image(good[".png"], page=1), "page 1")


def test_formats_that_are_refused_say_what_they_are(tmp_path):
    for brand, word in ((b"heic", "HEIC"), (b"mif1", "HEIC"), (b"isom", "video")):
        path = tmp_path / "a.jpg"
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(40))
        sentence(lambda path=path: read_image(path), path, word)


def bomb_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def test_pixel_limit_is_checked_before_decoding(tmp_path):
    path = write_image(tmp_path / "a.png", PHOTO)
    assert read_image(path, max_pixels=29 * 37).shape == PHOTO.shape
    sentence(lambda: read_image(path, max_pixels=29 * 37 - 1), path, "37 x 29", "max_pixels=1073")
    for suffix in (".jpg", ".bmp", ".webp", ".gif", ".tif", ".ppm"):
        other = pillow_file(tmp_path / f"a{suffix}", Image.fromarray(PHOTO))
        sentence(lambda other=other: read_image(other, max_pixels=1000), other, "max_pixels=1073")
    path.write_bytes(bomb_png(2**31 - 1, 2**31 - 1))  # terabytes: had it been decoded, this test would not end
    sentence(lambda: read_image(path), path, "max_pixels")
    path.write_bytes(bomb_png(16000, 16000))  # below the limit, but its bytes cannot hold it
    sentence(lambda: read_image(path), path, "promises")


def test_large_pictures_ignore_pillows_own_limit(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png", PHOTO)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(path), PHOTO)


def test_threads_read_side_by_side(tmp_path):
    path = write_image(tmp_path / "a.png", PHOTO)
    results = []
    threads = [threading.Thread(target=lambda: results.append(read_image(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all((r == PHOTO).all() for r in results)


def test_write_refuses_what_a_format_cannot_hold(tmp_path):
    for name, array in (
        ("a.jpg", PHOTO.astype(np.uint16)),
        ("a.png", PHOTO.astype(np.float32)),
        ("a.png", PHOTO[..., :2]),
        ("a.png", PHOTO[:0]),
    ):
        with pytest.raises(UsageError, match=name):
            write_image(tmp_path / name, array)
    with pytest.raises(UsageError, match=r"Did you mean '\.jpeg'"):
        write_image(tmp_path / "a.jpegg", PHOTO)
    assert not list(tmp_path.iterdir())


def test_write_is_whole_or_not_at_all(tmp_path):
    path = write_image(tmp_path / "a.png", PHOTO)
    before = path.read_bytes()
    with pytest.raises(UsageError):
        write_image(path, PHOTO.astype(np.int64))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_written_16_bit_png_is_valid_for_others(tmp_path):
    values = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
    with Image.open(io.BytesIO(write_image(tmp_path / "a.png", values).read_bytes())) as image:
        np.testing.assert_array_equal(np.asarray(image), values)


@pytest.mark.slow
def test_real_pictures(shared_data):
    found = sorted(p for p in shared_data.rglob("*") if is_image(p))[::12]  # some of every folder
    assert len(found) > 100
    for path in found:
        read = read_image(path)
        assert read.shape[:2] == image_size(path)
        assert read.ndim == 3 and read.shape[2] in (1, 3)
