"""The answer of this room: a class for every pixel of a picture, at the picture's own size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class LabelMap:
    """A class for every pixel.

    labels: uint8 `(H, W)`, ids 0..K-1 (one class: 0 or 1); multi-label answers hold `(K, H, W)` of 0 and 1.
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

    @property
    def pixels(self) -> dict[str, int]:
        """How many pixels each class has."""
        if self.counted:
            return {self._name(k): n for k, n in enumerate(self.counted) if n or k < len(self.classes)}
        if self.labels.ndim == 3:
            counts = self.labels.sum((1, 2), dtype=torch.int64).tolist()
        else:
            counts = torch.bincount(self.labels.flatten().long(), minlength=len(self.classes)).tolist()
        return {self._name(k): n for k, n in enumerate(counts) if n or k < len(self.classes)}

    def draw(self, image: np.ndarray | None = None, *, alpha: float = 0.5) -> np.ndarray:
        """The labels painted over `image` `(H, W, C)` of any depth, a legend below: uint8 `(H', W', 3)`."""
        from sightline.segmentation.draw import overlay

        image = self.image if image is None else image
        return overlay(image, self.labels.cpu().numpy(), self.classes, self.colours, alpha=alpha)

    def save(self, folder: str | Path) -> dict[str, str]:
        """Write `NAME.png` (the class ids, with a palette) and `NAME-overlay.jpg` into `folder`; return the paths."""
        from sightline.media.image import write_image
        from sightline.media.labels import write_labels
        from sightline.segmentation.draw import colours_for

        folder = Path(folder)
        labels = folder / f"{self.name}.png"
        write_labels(labels, self.labels.cpu().numpy(), colours_for(self.classes, self.colours))
        written = {"labels": str(labels)}
        if self.image is not None:
            overlay = folder / f"{self.name}-overlay.jpg"
            write_image(overlay, self.draw())
            written["overlay"] = str(overlay)
        return written

    def to_dict(self) -> dict[str, Any]:
        """What a JSON answer says of this picture."""
        height, width = self.labels.shape[-2:]
        return {"name": self.name, "height": height, "width": width, "pixels": self.pixels, **self.files}

    def _repr_png_(self) -> bytes:
        """Notebooks show the picture itself."""
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.draw()).save(stream, "PNG")
        return stream.getvalue()

    def _name(self, k: int) -> str:
        return self.classes[k] if k < len(self.classes) else str(k)


def named(classes: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Names for the values of a label map: one class is told apart from "background", missing names are numbers."""
    names = tuple(classes) or tuple(str(k) for k in range(num_classes))
    return ("background", *names) if len(names) == 1 else names
