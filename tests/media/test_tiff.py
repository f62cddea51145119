"""TIFF by windows equals TIFF as a whole, for every layout; label maps are written slab by slab."""

import io
import itertools
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.media.image import image_size, pages, read_image
from sightline.media.labels import read_labels
from sightline.media.tiff import LabelFile, is_tiff, map_labels, open_tiff
from sightline.media.tiff_segments import Coding, decode, directory

RNG = np.random.default_rng(2)
DEEP = RNG.integers(0, 65536, (70, 53, 3), dtype=np.uint16)
EIGHT = (DEEP >> 8).astype(np.uint8)
LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 16},
    "strips deflate": {"rowsperstrip": 16, "compression": "zlib"},
    "strips deflate predictor": {"rowsperstrip": 9, "compression": "zlib", "predictor": 2},
    "tiles": {"tile": (16, 32)},
    "tiles deflate predictor": {"tile": (16, 32), "compression": "zlib", "predictor": 2},
    "planar": {"planarconfig": "separate"},
    "planar tiles deflate": {"planarconfig": "separate", "tile": (32, 16), "compression": "zlib"},
    "big endian": {"byteorder": ">"},
    "big endian tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zlib", "predictor": 2},
    "BigTIFF": {"bigtiff": True, "tile": (16, 16)},
}
WINDOWS = [(0, 70, 0, 53), (0, 1, 0, 1), (15, 33, 31, 49), (69, 70, 52, 53), (5, 60, 40, 53)]


def save(path, values, **options):
    file_options = {k: options.pop(k) for k in ("byteorder", "bigtiff") if k in options}
    separate = options.get("planarconfig") == "separate"
    photometric = "rgb" if values.ndim == 3 and values.shape[2] == 3 else "minisblack"
    with tifffile.TiffWriter(path, **file_options) as out:
        out.write(values.transpose(2, 0, 1) if separate else values, photometric=photometric, metadata=None, **options)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows_equal_the_whole(tmp_path, layout, dtype):
    options = dict(LAYOUTS[layout])
    if dtype == "float32":
        options.pop("predictor", None)  # the floating-point predictor has its own test
    values = {"uint8": EIGHT, "uint16": DEEP}.get(dtype, DEEP / np.float32(7)).astype(dtype)
    path = save(tmp_path / "a.tif", values, **options)
    np.testing.assert_array_equal(read_image(path), values)
    with open_tiff(path) as file:
        assert (file.shape, file.dtype) == (values.shape, values.dtype)
        for y0, y1, x0, x1 in WINDOWS:
            window = file.window(y0, y1, x0, x1)
            assert window.dtype == values.dtype and window.flags.writeable
            np.testing.assert_array_equal(window, values[y0:y1, x0:x1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_what_libtiff_writes(tmp_path, compression, predictor):
    path = tmp_path / "a.tif"
    info = {317: predictor} if predictor == 2 and compression != "packbits" else {}
    for image in (Image.fromarray(EIGHT), Image.fromarray(EIGHT[..., 0]), Image.fromarray(DEEP[..., 0])):
        image.save(path, compression=compression, tiffinfo=info)
        expected = np.asarray(image).reshape(70, 53, -1)
        np.testing.assert_array_equal(read_image(path), expected)
        with open_tiff(path) as file:
            np.testing.assert_array_equal(file.window(3, 60, 7, 20), expected[3:60, 7:20])


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_fax(tmp_path, compression, photometric):
    bits = np.zeros((20, 29), bool)
    bits[4:15, 6:23] = True
    bits[9, ::3] ^= True
    path = tmp_path / "a.tif"
    Image.fromarray(bits).save(path, compression=compression, tiffinfo={262: photometric})
    with Image.open(path) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(read_image(path)[..., 0], expected * np.uint8(255))


def tiled_jpeg(tiles: list[bytes], shape: tuple[int, ...], size: int) -> bytes:
    """A TIFF around finished JPEG pictures, one a tile (as microscopes write them)."""
    offsets = [8 + sum(len(t) + len(t) % 2 for t in tiles[:i]) for i in range(len(tiles))]
    data = b"".join(t + b"\0" * (len(t) % 2) for t in tiles)
    short, long = 3, 4
    tags = [
        (256, long, (shape[1],)), (257, long, (shape[0],)), (258, short, (8, 8, 8)), (259, short, (7,)),
        (262, short, (6,)), (277, short, (3,)), (322, short, (size,)), (323, short, (size,)),
        (324, long, tuple(offsets)), (325, long, tuple(map(len, tiles))), (530, short, (1, 1)),
    ]  # fmt: skip
    start = 8 + len(data)
    return b"II*\0" + start.to_bytes(4, "little") + data + directory(tags, start, big=False)


def test_jpeg_strips_and_tiles(tmp_path):
    smooth = np.kron(RNG.integers(0, 256, (6, 5, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(smooth).save(path, compression="jpeg", quality=95)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), np.asarray(image))
    tiles, size = [], 32
    padded = np.pad(smooth, ((0, 0), (0, 16), (0, 0)), mode="edge")
    for y, x in itertools.product(range(0, 96, size), range(0, 96, size)):
        stream = io.BytesIO()
        Image.fromarray(padded[y : y + size, x : x + size]).save(stream, "JPEG", quality=95, subsampling=0)
        tiles.append(stream.getvalue())
    path.write_bytes(tiled_jpeg(tiles, smooth.shape, size))
    whole = read_image(path)
    assert np.abs(whole.astype(int) - smooth).mean() < 6
    with open_tiff(path) as file:
        np.testing.assert_array_equal(file.window(20, 70, 30, 80), whole[20:70, 30:80])
    with pytest.raises(SightlineError, match="JPEG"):
        read_labels(path)


def test_float_predictor_against_a_loop():
    values = RNG.normal(size=(3, 5, 2)).astype(np.float32)
    stored = b""
    for row in values:  # technical note 3: bytes by significance, then differences at a distance of the sample count
        planes = row.astype(">f4").reshape(-1).view(np.uint8).reshape(-1, 4).T.reshape(-1)
        stored += bytes((int(b) - (int(planes[i - 2]) if i >= 2 else 0)) % 256 for i, b in enumerate(planes))
    coding = Coding(1, 3, 32, "f", "<", False, 1, b"", 0)
    np.testing.assert_array_equal(decode(coding, stored, 3, 5, 2), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
def test_packed_bits_against_a_loop(bits):
    values = RNG.integers(0, 2**bits, (3, 7))
    stored = b""
    for row in values:
        text = "".join(f"{v:0{bits}b}" for v in row)
        stored += int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    coding = Coding(1, 1, bits, "u", "<", False, 1, b"", 0)
    np.testing.assert_array_equal(decode(coding, stored, 3, 7, 1)[..., 0], values)


def test_meanings(tmp_path):
    path = tmp_path / "a.tif"
    grey = EIGHT[..., 0]
    tifffile.imwrite(path, grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path)[..., 0], 255 - grey)
    np.testing.assert_array_equal(read_labels(path), grey)
    bands = RNG.integers(0, 65536, (9, 8, 7), dtype=np.uint16)
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(path), bands)
    near_infrared = RNG.integers(0, 256, (9, 8, 4)).astype(np.uint8)
    tifffile.imwrite(path, near_infrared, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(path), near_infrared)
    tifffile.imwrite(path, near_infrared, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path), near_infrared[..., :3])
    table = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, grey, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_image(path), (table >> 8).T[grey])
    np.testing.assert_array_equal(read_labels(path), grey)
    for dtype in ("int16", "uint32", "float64", "float16"):
        values = np.array([[0, 3], [100, 7]], dtype)
        tifffile.imwrite(path, values)
        read = read_image(path)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read[..., 0], values)


def test_pages_and_pyramids(tmp_path):
    path = tmp_path / "a.tif"
    stack = RNG.integers(0, 256, (4, 6, 5)).astype(np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack")
    assert pages(path) == 4
    np.testing.assert_array_equal(np.stack([read_image(path, page=i)[..., 0] for i in range(4)]), stack)
    with open_tiff(path, page=2) as file:
        np.testing.assert_array_equal(file.window(1, 3, 1, 4)[..., 0], stack[2, 1:3, 1:4])
    with tifffile.TiffWriter(path) as out:  # a smaller copy is no page of its own
        out.write(EIGHT, photometric="rgb", metadata=None)
        out.write(EIGHT[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        out.write(EIGHT[:9], photometric="rgb", metadata=None)
    assert pages(path) == 2
    assert image_size(path, page=1) == (9, 53)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_windows(tmp_path, orientation):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, EIGHT, photometric="rgb", tile=(16, 16), extratags=[(274, 3, 1, orientation, True)])
    whole = read_image(path)
    with open_tiff(path) as file:
        assert file.shape == whole.shape
        np.testing.assert_array_equal(file.window(10, 40, 3, 29), whole[10:40, 3:29])


def test_only_the_tiles_touched_are_decoded(tmp_path):
    path = save(tmp_path / "a.tif", EIGHT, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)
    with open_tiff(path) as file:
        np.testing.assert_array_equal(file.window(0, 64, 0, 53), EIGHT[:64])
        with pytest.raises(SightlineError, match=r"a\.tif"):
            file.window(0, 70, 0, 53)


def test_memory_does_not_grow_with_the_picture(tmp_path):
    def peak(side: int) -> int:
        path = tmp_path / f"{side}.tif"
        row = np.arange(side, dtype=np.uint8)[None].repeat(100, 0)
        tracemalloc.start()
        with LabelFile(path, (side, side)) as out:
            for _ in range(side // 100):
                out.write(row)
        with open_tiff(path) as file:
            for top in range(0, side, 250):
                file.window(top, top + 250, 0, 500)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(500)  # imports
    assert peak(4000) - peak(1000) < 6 * 2**20  # a row of tiles and what the cache keeps; the picture has 16 MB


@pytest.mark.parametrize("slab", [1, 33, 1000])
def test_label_rows(tmp_path, slab):
    labels = RNG.integers(0, 200, (151, 75)).astype(np.uint8)
    path = tmp_path / "a.tif"
    with LabelFile(path, (151, 75), colours=[(1, 2, 3), (4, 5, 6)]) as out:
        for top in range(0, 151, slab):
            out.write(labels[top : top + slab])
    np.testing.assert_array_equal(read_labels(path), labels)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    mapped = map_labels(path)
    np.testing.assert_array_equal(mapped, labels)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), labels)
    labels[0, 0] = 1
    mapped[0, 0] = 1  # a change of the answer does not reach the file
    np.testing.assert_array_equal(mapped, labels)
    assert read_labels(path)[0, 0] == tifffile.imread(path)[0, 0]


def test_an_unfinished_map_leaves_nothing(tmp_path):
    with pytest.raises(SightlineError, match="10 of 20 rows"), LabelFile(tmp_path / "a.tif", (20, 20)) as out:
        out.write(np.zeros((10, 20), np.uint8))
    with pytest.raises(KeyError), LabelFile(tmp_path / "a.tif", (20, 20)) as out:
        raise KeyError
    for shape in ((21, 20), (1, 19), (20,)):
        with pytest.raises(UsageError, match="the map is"), LabelFile(tmp_path / "a.tif", (20, 20)) as out:
            out.write(np.zeros(shape, np.uint8))
    assert not list(tmp_path.iterdir())


def test_bad_files_and_windows(tmp_path):
    path = save(tmp_path / "a.tif", EIGHT, tile=(16, 16))
    assert is_tiff(path)
    with open_tiff(path) as file:
        for window in ((0, 71, 0, 5), (5, 5, 0, 5), (-1, 5, 0, 5)):
            with pytest.raises(UsageError, match="70 x 53"):
                file.window(*window)
    with open_tiff(path, max_pixels=256) as file, pytest.raises(SightlineError, match="max_pixels=289"):
        file.window(0, 17, 0, 17)
    with pytest.raises(SightlineError, match=r"strip or tile.*max_pixels=256"):
        open_tiff(path, max_pixels=255)
    (tmp_path / "b.tif").write_bytes(b"something else")
    with pytest.raises(SightlineError, match=r"b\.tif is not a TIFF"):
        open_tiff(tmp_path / "b.tif")
    tifffile.imwrite(path, np.zeros((4, 4), np.complex64))
    with pytest.raises(SightlineError, match="sample format 6"):
        open_tiff(path)


def test_headers_that_promise_terabytes(tmp_path):
    path = tmp_path / "a.tif"
    for size, words in (((2**31 - 1, 2**31 - 1), "limit"), ((16000, 16000), "promises|lists|hold|truncated")):
        for compression in (None, "zlib"):
            tifffile.imwrite(path, np.zeros((8, 8), np.uint8), compression=compression, metadata=None)
            with tifffile.TiffFile(path, mode="r+") as file:
                for tag, value in zip((257, 256, 278), (*size, size[0])):
                    file.pages[0].tags[tag].overwrite(value, dtype="I")
            with pytest.raises(SightlineError, match=words):
                read_image(path)


def test_segments_wider_than_their_promise_are_cut_off(tmp_path):
    import zlib

    coding = Coding(8, 1, 8, "u", "<", False, 1, b"", 0)
    bomb = zlib.compress(bytes(10**7))
    tracemalloc.start()
    values = decode(coding, bomb, 4, 4, 1)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert values.shape == (4, 4, 1)
