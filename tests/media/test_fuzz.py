"""Damaged files end in an array or in a `SightlineError`, never in anything else.

Valid files of every format are flipped, cut, doubled and overwritten, with a seed. The environment variable
SIGHTLINE_FUZZ sets how many files are tried (300 unless told) and SIGHTLINE_FUZZ_SEED where to start.
"""

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightline.errors import SightlineError
from sightline.media.image import image_size, pages, read_image, write_image
from sightline.media.labels import read_labels, write_labels
from sightline.media.tiff import open_tiff
from sightline.media.video import VideoWriter, read_video

COUNT = int(os.environ.get("SIGHTLINE_FUZZ", "300"))
SEED = int(os.environ.get("SIGHTLINE_FUZZ_SEED", "0"))
LARGEST = 2**24  # pixels: a mutation that promises more is refused at once
VIDEO_SHARE = 12  # one mutation of this many is a video: opening one costs more


def pictures(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    colour = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((6, 6, 1))).astype(np.uint8)  # (36, 48, 3)
    deep = colour.astype(np.uint16) * 257
    image, labels = Image.fromarray(colour), colour[..., 0] % 5
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (
        ("a.jpg", {"exif": exif}),
        ("progressive.jpg", {"progressive": True}),
        ("a.png", {"exif": exif}),
        ("a.webp", {"exif": exif}),
        ("lossless.webp", {"lossless": True}),
        ("a.bmp", {}),
        ("a.gif", {}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
        ("jpeg.tif", {"compression": "jpeg"}),
        ("packbits.tif", {"compression": "packbits"}),
    ):
        image.save(folder / name, **options)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("1").save(folder / "fax.tif", compression="group4")
    image.convert("L").resize((20, 20)).save(folder / "small.bmp")
    for name, array in (
        ("deep.png", deep),
        ("deep.ppm", deep),
        ("grey.pgm", colour[..., :1]),
        ("float.tif", deep / np.float32(3)),
    ):
        write_image(folder / name, array)
    (folder / "plain.ppm").write_bytes(
        b"P3\n# words\n4 3\n255\n" + b" ".join(b"%d" % v for v in colour[:3, :4].ravel())
    )
    write_labels(folder / "labels.png", labels, rng.integers(0, 256, (5, 3)))
    write_labels(folder / "ids.png", labels.astype(np.uint16) * 300, None)
    tifffile.imwrite(folder / "tiles.tif", labels, tile=(16, 16), compression="zlib")
    tifffile.imwrite(folder / "stack.tif", np.stack([colour] * 3), photometric="rgb", compression="zlib", predictor=2)
    tifffile.imwrite(
        folder / "planar.tif", deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", byteorder=">"
    )
    return sorted(folder.iterdir())


def videos(folder: Path) -> list[Path]:
    for name in ("a.mp4", "a.mkv"):
        with VideoWriter(folder / name, 25) as out:
            for i in range(6):
                out.write(np.full((32, 32, 3), 40 * i, np.uint8))
    return sorted(folder.iterdir())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four flips, cuts, doublings, overwritten runs or large numbers; more of them near the header."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not out:
            break
        reach = min(len(out), 200) if rng.random() < 0.6 else len(out)
        place, length = int(rng.integers(reach)), int(rng.integers(1, 40))
        match int(rng.integers(6)):
            case 0:
                out[place] ^= 1 << int(rng.integers(8))
            case 1:
                del out[int(rng.integers(len(out))) :]
            case 2:
                out[place:place] = out[place : place + length]
            case 3:
                out[place : place + length] = rng.bytes(length)
            case 4:
                out[place : place + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\0\0"][
                    int(rng.integers(4))
                ]
            case _:
                del out[place : place + length]
    return bytes(out)


def read_everything(path: Path) -> None:
    """Every door a picture file can come in by; each must give an array (or numbers) or a `SightlineError`."""

    def window() -> np.ndarray:
        with open_tiff(path, max_pixels=LARGEST) as file:
            height, width, _ = file.shape
            return file.window(0, min(height, 20), 0, min(width, 20))

    doors: list[Callable[[], object]] = [
        lambda: read_image(path, max_pixels=LARGEST),
        lambda: read_image(path, max_pixels=LARGEST, reduce_to=(9, 9)),
        lambda: read_labels(path, max_pixels=LARGEST),
        lambda: image_size(path),
        lambda: pages(path),
        window,
    ]
    for door in doors:
        try:
            result = door()
        except SightlineError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert isinstance(result, (np.ndarray, int, tuple))


def play(path: Path) -> None:
    try:
        for frame in islice(read_video(path, max_pixels=2**20), 50):
            assert frame.image.shape[2] == 3
    except SightlineError as error:
        assert path.name in str(error) and "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")  # decoders may warn about what they then refuse or repair
@pytest.mark.parametrize(
    ("make", "read", "count"), [(pictures, read_everything, COUNT), (videos, play, -(-COUNT // VIDEO_SHARE))]
)
def test_mutated_files(tmp_path, make, read, count):
    (tmp_path / "seeds").mkdir()
    seeds = make(tmp_path / "seeds")
    for number in range(SEED, SEED + count):
        rng = np.random.default_rng(number)
        seed = seeds[number % len(seeds)]
        path = tmp_path / f"{number}{seed.suffix}"
        path.write_bytes(mutated(seed.read_bytes(), rng))
        try:
            read(path)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {seed.name}: {type(error).__name__}: {error}") from error
        path.unlink()
