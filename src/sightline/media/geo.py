"""Where a GeoTIFF stands on the ground: its transform, its coordinate system, its pixels without data.

Tags are read by tifffile; no further package is needed. Answers are written with the same tags, so they lie on the same
grid in the same system, and as GeoJSON polygons in that system's coordinates.

Tags: 33550 pixel scale, 33922 tie points, 34264 transformation, 34735 to 34737 keys, 42113 GDAL's nodata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.files import write_text
from sightline.media.door import kind_of, reading
from sightline.ops.rings import Region, regions

_SCALE, _TIES, _MATRIX, _KEYS, _DOUBLES, _TEXTS, _NODATA = 33550, 33922, 34264, 34735, 34736, 34737, 42113
_GEOGRAPHIC, _PROJECTED, _RASTER = 2048, 3072, 1025
_USER_DEFINED = 32767


@dataclass(frozen=True)
class Geo:
    """The place of a picture on the ground.

    transform: a, b, c, d, e, f of x = a column + b row + c, y = d column + e row + f, at the corners of pixels; None
    when the file has no place. epsg: the number of its coordinate system, None where it has none or one of its own.
    nodata: the value that means nothing was measured, None when there is none. tags: the file's own, by number.
    """

    transform: tuple[float, float, float, float, float, float] | None = None
    epsg: int | None = None
    nodata: float | None = None
    tags: tuple[tuple[int, int, int, Any], ...] = ()  # number, type, count, value: what tifffile writes as extratags

    def without_data(self, image: NDArray[Any]) -> NDArray[np.bool_] | None:
        """True where no band of `(H, W, C)` was measured; None when the file names no such value."""
        if self.nodata is None:
            return None
        if math.isnan(self.nodata):
            return np.asarray(np.isnan(image).all(axis=2)) if image.dtype.kind == "f" else None
        if image.dtype.kind in "iu" and not np.iinfo(image.dtype).min <= self.nodata <= np.iinfo(image.dtype).max:
            return None
        return np.asarray((image == np.asarray(self.nodata).astype(image.dtype)).all(axis=2))

    def extratags(self, *, nodata: int = 255) -> list[tuple[int, int, int, Any, bool]]:
        """The tags for a label map on the same grid, for tifffile."""
        text = f"{nodata}\0"
        return [*((*tag, True) for tag in self.tags if tag[0] != _NODATA), (_NODATA, 2, len(text), text, True)]

    def ground(self, corners: NDArray[Any]) -> NDArray[np.float64]:
        """Corners `(N, 2)` as column, row to `(N, 2)` as x, y on the ground."""
        a, b, c, d, e, f = self.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        column, row = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def moved(self, column: int, row: int) -> Geo:
        """The place of the part that begins at this pixel; its tags are those of the whole."""
        if self.transform is None:
            return self
        x, y = self.ground(np.array([[column, row]]))[0].tolist()
        a, b, _, d, e, _ = self.transform
        return replace(self, transform=(a, b, x, d, e, y))


def read_geo(path: str | Path | None, *, page: int = 0) -> Geo | None:
    """The place of a TIFF's page; None for other files and for TIFFs that know neither place nor nodata."""
    if path is None or Path(path).suffix.lower() not in (".tif", ".tiff") or kind_of(Path(path)) != "TIFF":
        return None
    import tifffile

    with reading(path, "TIFF picture"), tifffile.TiffFile(path) as file:
        tags: Any = file.pages[min(page, len(file.pages) - 1)].tags  # pyright: ignore[reportAttributeAccessIssue]
        kept = {
            number: (number, int(tags[number].dtype), int(tags[number].count), tags[number].value)
            for number in (_SCALE, _TIES, _MATRIX, _KEYS, _DOUBLES, _TEXTS, _NODATA)
            if number in tags
        }
        if not kept:
            return None
        keys = _keys(kept.get(_KEYS, (0, 0, 0, ()))[3])
        transform = _transform({number: tag[3] for number, tag in kept.items()}, point=keys.get(_RASTER) == 2)
    epsg = next((keys[k] for k in (_PROJECTED, _GEOGRAPHIC) if 0 < keys.get(k, 0) < _USER_DEFINED), None)
    return Geo(transform, epsg, _number(kept.get(_NODATA)), tuple(kept.values()))


def fill_nodata(image: NDArray[Any], geo: Geo | None) -> NDArray[Any]:
    """The picture with the lowest measured value where nothing was measured, so that -9999 spoils no statistics."""
    missing = None if geo is None else geo.without_data(image)
    if missing is None or not missing.any() or missing.all():
        return image
    image = image.copy()
    image[missing] = np.nanmin(image[~missing], axis=0)
    return image


def features(
    labels: NDArray[np.uint8], classes: Sequence[str], geo: Geo, *, leave_out: Sequence[int] = ()
) -> dict[str, Any]:
    """GeoJSON of a label map `(H, W)`: a polygon for each connected region, in the file's own coordinates.

    leave_out: classes that become no polygon (a background); pixels that are never scored become none either. The
    member `crs` names the coordinate system, which GDAL and QGIS read; RFC 7946 knows longitude and latitude only.
    """
    found: dict[str, Any] = {"type": "FeatureCollection"}
    if geo.epsg is not None:
        found["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{geo.epsg}"}}
    a, b, _, d, e, _ = geo.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    found["features"] = [
        {
            "type": "Feature",
            "properties": {
                "class": classes[region.value] if region.value < len(classes) else str(region.value),
                "id": region.value,
                "area": region.pixels * abs(a * e - b * d),
            },
            "geometry": {"type": "Polygon", "coordinates": _rings(region, geo)},
        }
        for region in regions(labels, leave_out=(255, *leave_out))
    ]
    return found


def write_features(
    path: str | Path, labels: NDArray[np.uint8], classes: Sequence[str], geo: Geo, *, leave_out: Sequence[int] = ()
) -> Path:
    """Write `features` as a GeoJSON file."""
    return write_text(path, json.dumps(features(labels, classes, geo, leave_out=leave_out)) + "\n")


def write_geotiff(path: str | Path, labels: NDArray[np.uint8], geo: Geo, colours: Any = None) -> Path:
    """Write labels `(H, W)` as a palette TIFF on the picture's grid; 255 is its nodata."""
    import tifffile

    from sightline.files import replacing
    from sightline.media.tiff import palette_tags

    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            compression="deflate",
            tile=(256, 256),
            extratags=geo.extratags(),
            metadata=None,
            **palette_tags(colours),
        )
    return Path(path)


def _rings(region: Region, geo: Geo) -> list[list[list[float]]]:
    """Closed rings, the outer one counterclockwise on the ground, holes clockwise."""
    found = []
    for ring, outer in ((region.outer, True), *((hole, False) for hole in region.holes)):
        points = geo.ground(ring)
        x, y = points[:, 0], points[:, 1]
        around = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
        points = points if (around > 0) == outer else points[::-1]
        found.append([*points.tolist(), points[0].tolist()])
    return found


def _keys(directory: Sequence[int]) -> dict[int, int]:
    """The short values of a GeoKeyDirectory: key -> value."""
    entries = [int(v) for v in directory][4:]
    return {entries[i]: entries[i + 3] for i in range(0, len(entries) - 3, 4) if entries[i + 1] == 0}


def _transform(tags: dict[int, Any], *, point: bool) -> tuple[float, float, float, float, float, float] | None:
    if _MATRIX in tags and len(tags[_MATRIX]) == 16:
        m = [float(v) for v in tags[_MATRIX]]
        a, b, c, d, e, f = m[0], m[1], m[3], m[4], m[5], m[7]
    elif _SCALE in tags and len(tags.get(_TIES, ())) >= 6:
        sx, sy = (float(v) for v in tags[_SCALE][:2])
        i, j, _, x, y, _ = (float(v) for v in tags[_TIES][:6])
        a, b, c, d, e, f = sx, 0.0, x - i * sx, 0.0, -sy, y + j * sy
    else:
        return None
    if point:  # the place is a pixel's centre, not its corner
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


def _number(tag: tuple[int, int, int, Any] | None) -> float | None:
    try:
        return None if tag is None else float(str(tag[3]).strip("\0 "))
    except ValueError:
        return None
