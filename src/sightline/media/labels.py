"""Label maps: files whose values are class numbers. They are read as indices, never as colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.files import replacing
from sightline.media import tiff
from sightline.media.door import MAX_PIXELS, reading
from sightline.media.image import read_raster, write_png_16
from sightline.media.raster import Colours, Raster, full_palette


def read_labels(path: str | Path, *, page: int = 0, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The class numbers in a label file: (H, W) uint8, uint16 or int32.

    PNG (palette, grey, 1 to 16 bits), TIFF (integers, or floats that are whole numbers), PGM, BMP and GIF. Palette
    files give their indices, 1-bit files 0 and 1, alpha is dropped. Colour masks and JPEG raise a `SightlineError`
    that says how to convert them.
    """
    path = Path(path)
    found = read_raster(path, page=page, max_pixels=max_pixels)
    if found.lossy:
        raise SightlineError(
            f"{path} is a JPEG or AVIF, whose compression changes values: labels must be exact, save them as PNG"
        )
    if found.values.shape[2] != 1:
        raise SightlineError(_colour_mask(path, found))
    with reading(path, "label map"):
        return _whole(path, np.ascontiguousarray(found.values[..., 0]))


def _colour_mask(path: Path, found: Raster) -> str:
    values = found.values
    same = all((values[..., c] == values[..., 0]).all() for c in range(1, values.shape[2]))
    hint = " (all its channels are equal: saving it as a grey PNG is enough)" if same else ""
    return (
        f"{path} is a mask of {values.shape[2]} channels, but labels are one class number a pixel{hint}; convert it by "
        "its colours: sightline data convert DATA OUT --colours table.csv"
    )


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype in (np.uint8, np.uint16, np.int32):
        return values
    low, high = values.min(initial=0), values.max(initial=0)
    if not (np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max):  # also false for NaN
        raise SightlineError(
            f"{path} holds values from {low} to {high}: class numbers of at most 31 bits were expected"
        )
    whole = values.astype(np.int32)
    if values.dtype.kind == "f" and (whole != values).any():
        raise SightlineError(f"{path} holds fractions (such as {values[whole != values][0]}): labels are whole numbers")
    return whole


def write_labels(path: str | Path, labels: np.ndarray, colours: Colours | None = None) -> Path:
    """Write class numbers as a palette PNG (or, by suffix, a deflated TIFF), whole or not at all, and return the path.

    labels: (H, W) of integers 0..65535. colours: (r, g, b) for the ids 0, 1, ...; 255 (never scored) is white when they
    do not reach it. Without colours the PNG is grey. Ids above 255 make a 16-bit grey PNG, which has no palette.
    """
    path = Path(path)
    values = np.asarray(labels)
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.ndim != 2 or values.dtype.kind not in "ui" or 0 in values.shape:
        raise UsageError(
            f"labels of shape {values.shape} and type {values.dtype.name} for {path}: integers (H, W) were expected"
        )
    if values.min() < 0 or values.max() > 65535:
        raise UsageError(f"labels from {values.min()} to {values.max()} for {path}: a label file holds 0 to 65535")
    suffix = path.suffix.lower()
    if suffix not in (".png", ".tif", ".tiff"):
        raise UsageError(f"{path} cannot hold labels without loss: use the suffix .png or .tif")
    values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    if suffix != ".png":
        import tifffile

        look = tiff.palette_tags(colours if values.dtype == np.uint8 else None)
        with replacing(path) as temporary:
            tifffile.imwrite(temporary, values, compression="zlib", metadata=None, **look)
        return path
    with replacing(path) as temporary:
        if values.dtype == np.uint16:
            write_png_16(temporary, values[..., None])
        else:
            image = Image.fromarray(values)
            if colours is not None:
                image.putpalette(full_palette(colours).ravel().tolist())
            image.save(temporary, format="PNG", optimize=False)
    return path


def labels_from_colours(
    rgb: np.ndarray, table: Mapping[tuple[int, int, int], int], *, name: str = "the mask"
) -> np.ndarray:
    """Class numbers (H, W), uint8 (int32 when an id needs it), of a painted mask (H, W, 3) uint8 by a colour table.

    A colour that the table does not list raises a `SightlineError` that names it and `name`.
    """
    rgb = np.asarray(rgb)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise SightlineError(f"{name} is {rgb.shape} {rgb.dtype.name}: a mask painted in 8-bit RGB was expected")
    if not table:
        raise UsageError("the colour table is empty: one colour and class a row was expected")
    codes = np.array([r << 16 | g << 8 | b for r, g, b in table])
    order = codes.argsort()
    codes, ids = codes[order], np.array(list(table.values()))[order]
    pixels = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
    place = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    strange = codes[place] != pixels
    if strange.any():
        y, x = np.argwhere(strange)[0]
        colour = tuple(int(v) for v in rgb[y, x])
        raise SightlineError(
            f"{name} has {int(strange.sum())} pixels in colours that the colour table does not list, the first at row "
            f"{y}, column {x}: {colour}; add the colour to the table"
        )
    return ids[place].astype(np.uint8 if ids.min() >= 0 and ids.max() < 256 else np.int32)
