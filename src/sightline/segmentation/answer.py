"""The answer of this room: a class for every pixel of a picture, at the picture's own size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sightline.media.geo import Geo


COUNTED = 2**22
"""Pixels up to which a JSON answer counts the objects unasked."""


@dataclass(frozen=True)
class LabelMap:
    """A class for every pixel.

    labels: uint8 `(H, W)`, ids 0..K-1 (one class: 0 or 1); `multilabel` answers hold `(K, H, W)` of 0 and 1, volumes
        `(D, H, W)` ids.
    classes: the names of the values, "background" first when the network knows one class only.
    probabilities: float32 `(K, H, W)`, or None when they were not kept (tiled answers of huge pictures).
    uncertainty: float32 `(H, W)`, only from procedures that measure it.
    name: what the picture is called in messages and file names.
    """

    labels: Tensor
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    probabilities: Tensor | None = None
    uncertainty: Tensor | None = None
    name: str = "picture"
    image: np.ndarray | None = None  # (H, W, C) of any depth: what `draw` paints on when nothing else is given
    counted: tuple[int, ...] = ()  # pixels of each value, where counting them again would read a huge file
    files: Mapping[str, str] = field(default_factory=dict)  # what `predict` saved of it: kind -> path
    multilabel: bool = False  # each class has an answer of its own; classes may overlap
    spacing: tuple[float, ...] = ()  # volumes: millimetres between voxels along D, H, W; labels are then (D, H, W)
    affine: np.ndarray | None = None  # volumes: NIfTI's, voxel (x, y, z) to millimetres; None: no place in space
    geo: Geo | None = None  # pictures of the ground: where they stand; 255 in labels is what was not measured

    @property
    def pixels(self) -> dict[str, int]:
        """How many pixels each class has."""
        if self.counted:
            return {self._name(k): n for k, n in enumerate(self.counted) if n or k < len(self.classes)}
        if self.multilabel:
            counts = self.labels.sum((1, 2), dtype=torch.int64).tolist()
        else:
            counts = torch.bincount(self.labels.flatten().long(), minlength=len(self.classes)).tolist()
        return {self._name(k): n for k, n in enumerate(counts) if n or k < len(self.classes)}

    def instances(self, name: str | None = None) -> Tensor:
        """The objects of a class, numbered from 1: int32 `(H, W)`, 0 where none is.

        Objects that touch are told apart by a watershed on their distance from the outside, lowered by the probability
        of a class called border (membrane, edge, ...) where there is one. name: open, the only class that is neither
        background nor border. Raises `UsageError` for a class that is not there, or when there are several to choose.
        """
        from sightline.segmentation.instances import BORDERS, separate

        objects = [c for c in self.classes if c != "background" and c.lower() not in BORDERS]
        if name is None and len(objects) != 1:
            raise UsageError(f"{self.name} has the classes {', '.join(self.classes)}; say whose objects are wanted")
        name = objects[0] if name is None else name
        if name not in self.classes:
            raise UsageError(f"{self.name} has no class '{name}'.{did_you_mean(name, self.classes)}")
        k = self.classes.index(name)
        mask = self.labels[k] == 1 if self.multilabel else self.labels == k
        border = next((j for j, c in enumerate(self.classes) if c.lower() in BORDERS and c != name), None)
        known = self.probabilities is not None and len(self.probabilities) == len(self.classes)
        return separate(mask, border=self.probabilities[border] if known and border is not None else None)  # pyright: ignore[reportOptionalSubscript]

    def count(self, name: str | None = None) -> int:
        """How many objects of a class there are; see `instances`."""
        return int(self.instances(name).max()) if self.labels.numel() else 0

    def draw(self, image: np.ndarray | None = None, *, alpha: float = 0.5) -> np.ndarray:
        """The labels painted over `image` `(H, W, C)` of any depth, a legend below: uint8 `(H', W', 3)`.

        Volumes show three orthogonal slices.
        """
        from sightline.segmentation.draw import overlay

        image = self.image if image is None else image
        if self.spacing:
            from sightline.segmentation.slices import draw_volume

            return draw_volume(self, image, alpha)
        return overlay(image, self.labels.cpu().numpy(), self.classes, self.colours, alpha=alpha)

    def draw_uncertainty(self) -> np.ndarray:
        """The uncertainty from black (sure) over red and yellow to white (its largest value): uint8 `(H, W, 3)`."""
        if self.uncertainty is None:
            raise UsageError(f"the answer for {self.name} has no uncertainty; ask a network that samples its dropout")
        values = self.uncertainty.float().cpu().numpy()
        part = values / max(float(values.max(initial=0.0)), 1e-12) * 3
        return (np.stack([part, part - 1, part - 2], axis=-1).clip(0, 1) * 255).round().astype(np.uint8)

    def save(self, folder: str | Path) -> dict[str, str]:
        """Write `NAME.png` (the class ids, with a palette) and `NAME-overlay.jpg` into `folder`; return the paths.

        Pictures of the ground write a GeoTIFF `NAME.tif` on their own grid in place of the PNG, and `NAME.geojson`.
        Volumes write `NAME.nii.gz` on their own grid (`.npz` without a place in space) and `NAME-slices.jpg`.
        Uncertainty, where there is one, becomes `NAME-uncertainty.tif` (float32) and a drawing of it, `.png`.
        Multi-label answers write `CLASS/NAME.png` for every class instead, as their data sets have it.
        """
        if self.spacing:
            from sightline.segmentation.slices import save_volume

            return save_volume(self, folder)
        from sightline.media.image import write_image
        from sightline.media.labels import write_labels
        from sightline.segmentation.draw import colours_for

        folder = Path(folder)
        table = colours_for(self.classes, self.colours)
        written = {}
        if self.multilabel:
            for k, plane in enumerate(self.labels.cpu().numpy()):
                path = folder / self._name(k) / f"{self.name}.png"
                written[self._name(k)] = str(write_labels(path, plane, [(0, 0, 0), table[k].tolist()]))
        elif self.geo is not None and self.geo.transform is not None:
            written |= self._save_geo(folder, table)
        else:
            written["labels"] = str(write_labels(folder / f"{self.name}.png", self.labels.cpu().numpy(), table))
        if self.image is not None:
            overlay = folder / f"{self.name}-overlay.jpg"
            write_image(overlay, self.draw())
            written["overlay"] = str(overlay)
        if self.uncertainty is not None:
            written["uncertainty"] = str(folder / f"{self.name}-uncertainty.tif")
            written["uncertainty_drawn"] = str(folder / f"{self.name}-uncertainty.png")
            write_image(written["uncertainty"], self.uncertainty.float().cpu().numpy())
            write_image(written["uncertainty_drawn"], self.draw_uncertainty())
        return written

    def placed(self, geo: Geo, unknown: np.ndarray | None = None) -> LabelMap:
        """The same answer on the ground, saved as GeoTIFF and GeoJSON; 255 where `unknown` (nothing was measured)."""
        hidden = None if unknown is None else torch.from_numpy(unknown).to(self.labels.device)
        labels = self.labels if hidden is None or self.multilabel else self.labels.masked_fill(hidden, 255)
        return replace(self, labels=labels, geo=geo)

    def _save_geo(self, folder: Path, table: np.ndarray) -> dict[str, str]:
        """`NAME.tif` on the picture's own grid and `NAME.geojson`, a polygon a region of every class but background."""
        from sightline.media.geo import write_features, write_geotiff

        assert self.geo is not None
        labels = self.labels.cpu().numpy()
        hidden = [k for k, name in enumerate(self.classes) if k == 0 and name == "background"]
        tiff, polygons = folder / f"{self.name}.tif", folder / f"{self.name}.geojson"
        write_geotiff(tiff, labels, self.geo, table)
        write_features(polygons, labels, self.classes, self.geo, leave_out=hidden)
        return {"labels": str(tiff), "polygons": str(polygons)}

    def to_dict(self) -> dict[str, Any]:
        """What a JSON answer says of this picture; of one class against its background, the number of objects too."""
        height, width = self.labels.shape[-2:]
        said = {"name": self.name, "height": height, "width": width, "pixels": self.pixels}
        if self.spacing:
            said |= {"depth": self.labels.shape[0], "spacing": list(self.spacing)}
            return {**said, **self.files}
        if self.classes[:1] == ("background",) and len(self.classes) == 2 and self.labels.numel() <= COUNTED:
            said["objects"] = self.count(self.classes[1])
        return {**said, **self.files}

    def _repr_png_(self) -> bytes:
        """Notebooks show the picture itself."""
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.draw()).save(stream, "PNG")
        return stream.getvalue()

    def _name(self, k: int) -> str:
        return self.classes[k] if k < len(self.classes) else str(k)


def named(classes: Sequence[str], num_classes: int, *, multilabel: bool = False) -> tuple[str, ...]:
    """Names for the values of a label map: one class is told apart from "background", missing names are numbers."""
    names = tuple(classes) or tuple(str(k) for k in range(num_classes))
    return ("background", *names) if len(names) == 1 and not multilabel else names
