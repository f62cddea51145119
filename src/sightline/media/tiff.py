"""TIFF: one page at a time, whole or by windows, and label maps written slab by slab.

tifffile reads the directories; the strips or tiles a window touches are decoded here, one after the other, so a
picture of any size is read within the memory of its tiles. Uncompressed files are mapped, a window at a time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.media import tiff_segments as segments
from sightline.media.door import MAX_PIXELS, check_bytes, check_pixels, kind_of, reading
from sightline.media.raster import Colours, Raster, full_palette, picture, stored_window, turn, turned_size

# tifffile tells of every odd tag in its log, which Python prints when nobody listens; here errors say what matters.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_CACHE_BYTES = 2**26  # decoded tiles kept for the next window, which usually overlaps the last
_INVERTED, _GREY, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _CFA = 0, 1, 2, 3, 4, 5, 6, 32803
_REDUCED, _TRANSPARENCY = 1, 4  # bits of NewSubfileType: such pages are no pictures of their own


def is_tiff(path: str | Path) -> bool:
    """Whether the file's first bytes are those of a TIFF or BigTIFF."""
    return kind_of(Path(path)) == "TIFF"


def open_tiff(path: str | Path, *, page: int = 0, max_pixels: int = MAX_PIXELS) -> TiffImage:
    """Open one page of a TIFF for reading by windows; use it in a `with` block.

    max_pixels bounds one strip or tile and one window, not the picture. Raises `SightlineError` for a file that is no
    TIFF, is damaged or is stored in a way that cannot be decoded.
    """
    path = Path(path)
    if not is_tiff(path):
        raise SightlineError(f"{path} is not a TIFF: a TIFF was expected to be read by windows")
    with reading(path, "TIFF picture"):
        return TiffImage(path, page, max_pixels)


def read_page(path: Path, page: int, max_pixels: int) -> Raster:
    """One page as stored; what `read_image` and `read_labels` stand on."""
    with TiffImage(path, page, max_pixels) as image:
        height, width, _ = image.shape
        check_pixels(path, height, width, max_pixels)
        image.check_promise()
        return image.raster(0, height, 0, width)


def page_size(path: Path, page: int) -> tuple[int, int]:
    """(H, W) of a page as shown."""
    with TiffImage(path, page, MAX_PIXELS) as image:
        return image.shape[:2]


def count_pages(path: Path) -> int:
    """Pages of a TIFF, smaller copies (pyramids, thumbnails) and transparency masks not counted."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return len(_pictures(file))


class TiffImage:
    """One page of a TIFF. `shape` (H, W, C) and `dtype` (uint8, uint16, float32) are those of `read_image`."""

    def __init__(self, path: Path, page: int = 0, max_pixels: int = MAX_PIXELS) -> None:
        import tifffile

        self.path = path
        self._max_pixels = max_pixels
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._file = tifffile.TiffFile(path)
        try:
            self._page = _page(self._file, path, page)
            self._read_directory()
        except BaseException:
            self._file.close()
            raise

    def _read_directory(self) -> None:
        page: Any = self._page
        self._coding = _coding(self.path, page)
        self._samples = int(page.samplesperpixel)
        self._separate = page.planarconfig == 2 and self._samples > 1
        self._stored = (int(page.imagelength), int(page.imagewidth))
        if page.is_tiled:
            self._step = (int(page.tilelength), int(page.tilewidth))
        else:
            self._step = (max(min(int(page.rowsperstrip), self._stored[0]), 1), self._stored[1])
        check_pixels(self.path, *self._stored, 2**62)
        check_pixels(f"{self.path} (a single strip or tile of it)", *self._step, self._max_pixels)
        tag = page.tags.get(274)
        self._orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._grid = tuple(-(-n // s) for n, s in zip(self._stored, self._step))
        needed = self._grid[0] * self._grid[1] * (self._samples if self._separate else 1)
        if min(len(self._offsets), len(self._counts)) < needed:
            raise SightlineError(
                f"{self.path} is damaged: its directory lists {len(self._offsets)} of {needed} strips or tiles"
            )
        sample = picture(self._meaning(np.zeros((1, 1, self._samples), self._coding.dtype)))
        self.shape = (*turned_size(*self._stored, self._orientation), sample.shape[2])
        self.dtype = sample.dtype

    def check_promise(self) -> None:
        """Refuse a page whose stored bytes cannot hold the pixels that its header promises."""
        stored = min(sum(self._counts), self._file.filehandle.size)
        needed = self._stored[0] * self._stored[1] * self._samples * self._coding.bits / 8
        if needed > 16 * self._max_pixels:
            raise SightlineError(
                f"{self.path} has {self._stored[1]} x {self._stored[0]} pixels of {self._samples} values, above what "
                f"the limit of {self._max_pixels} pixels allows; if you trust the file, raise the limit with "
                f"max_pixels={int(needed) // 16 + 1}"
            )
        if 0 not in self._counts:  # a count of 0 is an empty tile, which takes no bytes
            check_bytes(self.path, needed / segments.promised(self._coding, 1), stored, "pixels")

    def window(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows y0 to y1 and columns x0 to x1 (ends not included) as `read_image(path)[y0:y1, x0:x1]`: (h, w, C)."""
        with reading(self.path, "TIFF picture"):
            return picture(self.raster(y0, y1, x0, x1))

    def raster(self, y0: int, y1: int, x0: int, x1: int) -> Raster:
        """The same window, as stored."""
        height, width = self.shape[:2]
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise UsageError(
                f"window {y0}:{y1}, {x0}:{x1} of {self.path}: it must lie within {height} x {width} pixels"
            )
        check_pixels(f"a window of {self.path}", y1 - y0, x1 - x0, self._max_pixels)
        stored = stored_window((y0, y1, x0, x1), (height, width), self._orientation)
        mapped = self._mapped(*stored)
        values = mapped if mapped is not None else self._gathered(*stored)
        return self._meaning(turn(values, self._orientation))

    def _mapped(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray | None:
        """The window of an uncompressed page in one piece, or None for every other page.

        The map is opened for the window alone and closed with it: pages of the file that were touched do not pile up.
        """
        coding = self._coding
        plain = coding.compression == segments.NONE and coding.bits in (8, 16, 32, 64) and coding.predictor == 1
        if not plain or self._page.is_tiled or not _one_piece(self._offsets, self._counts) or coding.reversed_bits:
            return None
        kind = np.dtype(f"{coding.order}{coding.kind}{coding.bits // 8}")
        shape = (self._samples, *self._stored) if self._separate else (*self._stored, self._samples)
        if self._offsets[0] + int(np.prod(shape, dtype=object)) * kind.itemsize > self._file.filehandle.size:
            raise SightlineError(f"{self.path} is truncated: it ends before its last pixel; copy it again")
        mapped = np.memmap(self.path, kind, "r", offset=self._offsets[0], shape=shape)
        part = mapped[:, y0:y1, x0:x1].transpose(1, 2, 0) if self._separate else mapped[y0:y1, x0:x1]
        return np.array(part, dtype=coding.dtype, order="C", subok=False)

    def _gathered(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """The window put together from the strips or tiles it touches."""
        out = np.empty((y1 - y0, x1 - x0, self._samples), self._coding.dtype)
        rows, columns = self._step
        planes = range(self._samples) if self._separate else (None,)
        for plane in planes:
            into = out if plane is None else out[..., plane : plane + 1]
            for i in range(y0 // rows, -(-y1 // rows)):
                for j in range(x0 // columns, -(-x1 // columns)):
                    top, left = i * rows, j * columns
                    tile = self._segment(((plane or 0) * self._grid[0] + i) * self._grid[1] + j, i)
                    a, b = max(y0, top), min(y1, top + tile.shape[0])
                    c, d = max(x0, left), min(x1, left + tile.shape[1])
                    into[a - y0 : b - y0, c - x0 : d - x0] = tile[a - top : b - top, c - left : d - left]
        return out

    def _segment(self, index: int, row: int) -> np.ndarray:
        """One decoded strip or tile (rows, columns, samples), from the cache when it was just used."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        rows, columns = self._step
        if not self._page.is_tiled:
            rows = min(rows, self._stored[0] - row * rows)
        samples = 1 if self._separate else self._samples
        offset, count = int(self._offsets[index]), int(self._counts[index])
        if count == 0:
            tile = np.zeros((rows, columns, samples), self._coding.dtype)
        else:
            handle = self._file.filehandle
            handle.seek(offset)
            data = handle.read(min(count, max(handle.size - offset, 0)))
            if len(data) < count:
                raise SightlineError(f"{self.path} is truncated: it ends within its pixels; copy it again")
            tile = self._decoded(data, rows, columns, samples)
        self._cache[index] = tile
        while len(self._cache) > 1 and sum(t.nbytes for t in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        return tile

    def _decoded(self, data: bytes, rows: int, columns: int, samples: int) -> np.ndarray:
        try:
            return segments.decode(self._coding, data, rows, columns, samples)
        except SightlineError as error:
            raise SightlineError(f"{self.path} is truncated or damaged: {error}; copy it again") from error

    def _meaning(self, values: np.ndarray) -> Raster:
        """What the stored values (H, W, samples) mean: alpha dropped, CMYK mixed, palette and white named."""
        page, coding = self._page, self._coding
        extra = tuple(int(e) for e in page.extrasamples or ())
        colours = self._samples - len(extra)
        alpha = sum(1 for e in extra if e in (1, 2))
        keep = self._samples - alpha if alpha == len(extra) else self._samples
        values = values[..., : max(keep, 1)]
        lossy = coding.compression == segments.JPEG
        if coding.photometric == _PALETTE:
            return Raster(values[..., :1], palette=_colour_map(page))
        if coding.photometric == _CMYK and colours >= 4:
            return Raster(_from_cmyk(values[..., :4]), lossy=lossy)
        white = 2**coding.bits - 1 if coding.bits < 8 and coding.kind == "u" else 0
        return Raster(values, white=white, inverted=coding.photometric == _INVERTED and coding.kind == "u", lossy=lossy)

    def close(self) -> None:
        """Close the file and forget the cached tiles."""
        self._cache.clear()
        self._file.close()

    def __enter__(self) -> TiffImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pictures(file: Any) -> list[Any]:
    found = [p for p in file.pages if not int(getattr(p, "subfiletype", 0) or 0) & (_REDUCED | _TRANSPARENCY)]
    return found or [file.pages[0]]


def _page(file: Any, path: Path, index: int) -> Any:
    found = [file.pages[0]] if index == 0 else _pictures(file)
    if not 0 <= index < len(found):
        raise UsageError(f"{path} has {len(_pictures(file))} pages, but page {index} was asked for: pages count from 0")
    return found[index]


def _coding(path: Path, page: Any) -> segments.Coding:
    """How the page is stored, or the sentence why it cannot be decoded."""
    kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(int(page.sampleformat or 1), "")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 0  # a tuple when the samples differ
    photometric, compression = int(page.photometric), int(page.compression)
    if bits not in {"u": (*range(1, 33), 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}.get(kind, ()):
        raise SightlineError(
            f"{path} stores {page.bitspersample} bits a value in sample format {page.sampleformat}, which is not "
            "supported: save it as 8 or 16 bits"
        )
    if page.imagedepth > 1:
        raise SightlineError(f"{path} stores volumes (image depth {page.imagedepth}): save it as one page a slice")
    known = (_INVERTED, _GREY, _RGB, _PALETTE, _MASK, _CMYK, _CFA)
    if photometric not in known and not (photometric == _YCBCR and compression == segments.JPEG):
        raise SightlineError(
            f"{path} stores colours as photometric {photometric}, which is not supported: save it as RGB"
        )
    if photometric == _PALETTE and (kind != "u" or bits > 16 or page.colormap is None):
        raise SightlineError(f"{path} has a palette that fits no {bits}-bit indices: save it as RGB or grey")
    if compression not in (segments.NONE, segments.JPEG, *segments.DEFLATE, *segments.LIBTIFF):
        raise SightlineError(
            f"{path} is compressed by method {compression}, which is not supported: save it with deflate or LZW"
        )
    if (compression == segments.JPEG and bits != 8) or (compression in segments.CCITT and bits != 1):
        raise SightlineError(f"{path} has {bits} bits a value, which its compression {compression} does not allow")
    predictor = int(page.predictor or 1)
    if (
        predictor not in (1, 2, 3)
        or (predictor == 3) != (kind == "f" and predictor != 1)
        or (predictor == 2 and bits < 8)
    ):
        raise SightlineError(
            f"{path} uses predictor {predictor} on {bits}-bit values, which is not supported: save it without"
        )
    options = page.tags.get(293 if compression == 4 else 292)
    return segments.Coding(
        compression=compression,
        predictor=predictor,
        bits=bits,
        kind=kind,
        order=page.parent.byteorder,
        reversed_bits=int(page.fillorder or 1) == 2,
        photometric=photometric,
        tables=bytes(page.jpegtables or b""),
        options=int(options.value) if options is not None else 0,
    )


def _one_piece(offsets: Sequence[int], counts: Sequence[int]) -> bool:
    return 0 not in counts and all(a + n == b for a, n, b in zip(offsets, counts, offsets[1:]))


def _colour_map(page: Any) -> np.ndarray:
    table = np.asarray(page.colormap)
    if table.ndim != 2 or table.shape[0] != 3:
        raise SightlineError("its palette is not three columns")
    if table.max(initial=0) > 255:  # 16-bit entries by the standard; some writers store 8
        table = table >> 8
    return np.ascontiguousarray(table.T).astype(np.uint8)


def _from_cmyk(values: np.ndarray) -> np.ndarray:
    """Ink to light, the plain mix without colour profiles: (255 - ink) * (255 - black) / 255."""
    if values.dtype.kind != "u":
        raise SightlineError("its CMYK inks are not unsigned integers")
    full = int(np.iinfo(values.dtype).max)
    light = full - values.astype(np.int64)
    return ((light[..., :3] * light[..., 3:] + full // 2) // full).astype(values.dtype)


def write_picture(path: Path, values: np.ndarray) -> None:
    """(H, W, C) as a deflated TIFF at `path`: 1 channel grey, 3 RGB, any other number as bands."""
    import tifffile

    colour = values.shape[2] == 3
    tifffile.imwrite(
        path,
        values[..., 0] if values.shape[2] == 1 else values,
        photometric="rgb" if colour else "minisblack",
        planarconfig=None if values.shape[2] == 1 else "contig",
        compression="zlib",
        metadata=None,
    )


class LabelFile:
    """Writes a label map row by row into an uncompressed TIFF that `map_labels` opens without reading it.

        with LabelFile("labels.tif", (12000, 12000), colours=colours) as out:
            for rows in slabs:              # (n, W) each, from the top, any n
                out.write(rows)

    size: (H, W). colours: (r, g, b) for the ids 0, 1, ... extratags: further tags, such as a place on the ground, as
    tifffile takes them. A map that could exceed 4 GB becomes a BigTIFF. The file
    appears at `path` when the block ends well, with all its rows; else nothing does.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        *,
        colours: Colours | None = None,
        extratags: Sequence[tuple[int, int, int, Any, bool]] = (),
    ) -> None:
        self.path, self.size, self.colours, self.extratags = Path(path), size, colours, extratags
        self._stack = ExitStack()
        self._row = 0

    def __enter__(self) -> LabelFile:
        import tifffile

        temporary = self._stack.enter_context(replacing(self.path))
        more = {"extratags": self.extratags, "metadata": None} if self.extratags else {}
        tifffile.memmap(temporary, shape=self.size, dtype=np.uint8, **palette_tags(self.colours), **more).flush()
        with tifffile.TiffFile(temporary) as file:
            page: Any = file.pages[0]
            offset = page.dataoffsets[0]
        self._stream = self._stack.enter_context(temporary.open("r+b"))
        self._stream.seek(offset)
        return self

    def write(self, rows: np.ndarray) -> None:
        """The next rows, uint8 `(n, W)`."""
        if rows.ndim != 2 or rows.shape[1] != self.size[1] or self._row + len(rows) > self.size[0]:
            raise UsageError(
                f"rows of shape {rows.shape} after {self._row} rows of {self.path}: the map is {self.size}"
            )
        self._stream.write(np.ascontiguousarray(rows, np.uint8).data)
        self._row += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and self._row != self.size[0]:
            error = SightlineError(f"{self.path} got {self._row} of {self.size[0]} rows; nothing was written")
            self._stack.__exit__(SightlineError, error, None)
            raise error
        return self._stack.__exit__(kind, error, trace)


def palette_tags(colours: Colours | None) -> dict[str, Any]:
    """How tifffile is told that 8-bit ids have these colours, or that they are grey."""
    if colours is None:
        return {"photometric": "minisblack"}
    return {"photometric": "palette", "colormap": full_palette(colours).T.astype(np.uint16) * 257}


def map_labels(path: str | Path) -> np.ndarray:
    """The labels of a `LabelFile`, `(H, W)` uint8, in memory only where they are looked at."""
    import tifffile

    return tifffile.memmap(path, mode="c")
