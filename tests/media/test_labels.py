"""Label files give class numbers, never colours."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.media.image import read_image, write_image
from sightline.media.labels import labels_from_colours, read_labels, write_labels

RNG = np.random.default_rng(1)
COLOURS = [(0, 0, 0), (250, 10, 10), (10, 250, 10), (7, 7, 7)]


@settings(max_examples=25, deadline=None)
@given(
    top=st.sampled_from([1, 2, 15, 255, 256, 65535]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    suffix=st.sampled_from([".png", ".tif"]),
    painted=st.booleans(),
)
def test_round_trip(tmp_path_factory, top, size, suffix, painted):
    labels = RNG.integers(0, top + 1, size)
    labels[0, 0] = top
    path = tmp_path_factory.mktemp("labels") / f"a{suffix}"
    write_labels(path, labels, COLOURS if painted else None)
    read = read_labels(path)
    assert read.dtype == (np.uint8 if top < 256 else np.uint16)
    np.testing.assert_array_equal(read, labels)


def test_written_palette_shows_the_colours(tmp_path):
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    for suffix in (".png", ".tif"):
        shown = read_image(write_labels(tmp_path / f"a{suffix}", labels, COLOURS))
        np.testing.assert_array_equal(shown[0], [*COLOURS, (255, 255, 255)])
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"


def test_palette_whose_entries_are_shuffled_still_gives_indices(tmp_path):
    indices = RNG.integers(0, 3, (5, 6)).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([9, 9, 9, 200, 0, 0, 1, 1, 1])
    for suffix in (".png", ".bmp", ".gif", ".tif"):
        image.save(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}"), indices)


def test_one_bit_two_bit_and_grey_with_alpha(tmp_path):
    bits = RNG.integers(0, 2, (5, 9)).astype(bool)
    for suffix in (".png", ".tif", ".bmp"):
        Image.fromarray(bits).save(tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(read_labels(tmp_path / f"b{suffix}"), bits)
    (tmp_path / "c.pgm").write_bytes(b"P5 3 1 3 \x00\x01\x03")
    np.testing.assert_array_equal(read_labels(tmp_path / "c.pgm"), [[0, 1, 3]])
    grey = RNG.integers(0, 9, (4, 4, 2)).astype(np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "d.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "d.png"), grey[..., 0])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_packed_grey_png_gives_stored_values(tmp_path, depth):
    values = RNG.integers(0, 2**depth, (3, 11)).astype(np.uint8)
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(3, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    header = struct.pack(">IIBBBBB", 11, 3, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), values)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int64", "float32"])
def test_wide_tiff_labels_become_int32(tmp_path, dtype):
    values = np.array([[0, 5], [7, 100]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    read = read_labels(tmp_path / "a.tif")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, values)


def test_pages_of_a_stack(tmp_path):
    stack = RNG.integers(0, 4, (3, 5, 6)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    for page in range(3):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", page=page), stack[page])
    with pytest.raises(UsageError, match="3 pages"):
        read_labels(tmp_path / "a.tif", page=3)


def test_colour_masks_are_refused_with_the_way_to_convert_them(tmp_path):
    rgb = RNG.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    path = write_image(tmp_path / "mask.png", rgb)
    with pytest.raises(SightlineError, match=r"mask\.png is a mask of 3 channels.*--colours table\.csv") as caught:
        read_labels(path)
    assert "equal" not in str(caught.value)
    with pytest.raises(SightlineError, match="channels are equal"):
        read_labels(write_image(path, np.repeat(rgb[..., :1], 3, 2)))
    rgba = np.dstack([rgb, rgb[..., :1]])
    Image.fromarray(rgba).save(path)
    with pytest.raises(SightlineError, match="--colours"):
        read_labels(path)


def test_values_that_are_no_labels_are_refused(tmp_path):
    with pytest.raises(SightlineError, match="JPEG"):
        read_labels(write_image(tmp_path / "a.jpg", np.zeros((9, 9), np.uint8)))
    for value, word in ((0.5, "fractions"), (np.nan, "nan"), (1e12, "31 bits")):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[0, value]], np.float32))
        with pytest.raises(SightlineError, match=word):
            read_labels(tmp_path / "a.tif")


def test_write_refuses(tmp_path):
    for name, labels in (
        ("a.jpg", np.zeros((2, 2), int)),
        ("a.png", np.zeros((2, 2, 3), int)),
        ("a.png", np.array([[-1]])),
        ("a.png", np.array([[65536]])),
        ("a.png", np.array([[0.5]])),
    ):
        with pytest.raises(UsageError, match=name):
            write_labels(tmp_path / name, labels, None)
    with pytest.raises(UsageError, match="colours"):
        write_labels(tmp_path / "a.png", np.zeros((2, 2), int), [(0, 0, 300)])
    assert not list(tmp_path.iterdir())


def test_labels_from_colours_against_a_loop():
    table = {(0, 0, 0): 255, (255, 255, 255): 0, (1, 2, 3): 7, (3, 2, 1): 7}
    keys = list(table)
    choice = RNG.integers(0, len(keys), (6, 7))
    rgb = np.array([[keys[k] for k in row] for row in choice], np.uint8)
    labels = labels_from_colours(rgb, table)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[table[keys[k]] for k in row] for row in choice]
    rgb[2, 3] = (9, 9, 9)
    with pytest.raises(SightlineError, match=r"m\.png has 1 pixels .*row 2, column 3: \(9, 9, 9\)"):
        labels_from_colours(rgb, table, name="m.png")
    with pytest.raises(UsageError):
        labels_from_colours(rgb, {})


@pytest.mark.slow
def test_real_labels(shared_data):
    camvid = sorted((shared_data / "camvid" / "labels" / "train").glob("*.png"))
    assert max(int(read_labels(p).max()) for p in camvid[:20]) <= 11
    nuclei = sorted((shared_data / "dsb2018_nuclei" / "labels").glob("*.png"))
    assert read_labels(nuclei[0]).dtype == np.uint16
