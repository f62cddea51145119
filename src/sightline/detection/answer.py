"""The answer of this room: what is where in a picture, in the picture's own pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping


class Masks(Protocol):
    """Masks of N objects in a form that does not fill memory: in boxes, as run lengths, as crops (instance room)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Masks:
        """Some of them, by indices or flags `(N,)`."""
        ...

    def dense(self) -> Tensor:
        """All of them at the picture's size: `(N, H, W)` bool."""
        ...

    def scaled(self, size: tuple[int, int]) -> Masks:
        """The same for the picture at another size (height, width)."""
        ...

    def runs(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
        ...


@dataclass(frozen=True)
class Detections:
    """N objects of one picture, best first.

    boxes: `(N, 4)` float32, x0, y0, x1, y1 in continuous pixels. scores: `(N,)` in [0, 1]. labels: `(N,)`, 0..K-1.
    masks: compact, see `Masks`. keypoints: `(N, J, 3)`: x, y, score.
    classes: the names of the labels. size: height and width of the picture, None when only the network's
    input is known.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Masks | None = None
    keypoints: Tensor | None = None
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    size: tuple[int, int] | None = None
    name: str = "picture"
    image: np.ndarray | None = None  # (H, W, C) of any depth: what `draw` paints on when nothing else is given
    files: Mapping[str, str] = field(default_factory=dict)  # what `predict` saved of it: kind -> path

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> Detections:
        """Some of them, by indices or flags `(N,)`."""
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            masks=None if self.masks is None else self.masks[index],
            keypoints=None if self.keypoints is None else self.keypoints[index],
        )

    def to(self, device: torch.device | str) -> Detections:
        """The same with its tensors on `device`; masks stay where they are."""
        points = None if self.keypoints is None else self.keypoints.to(device)
        return replace(
            self, boxes=self.boxes.to(device), scores=self.scores.to(device), labels=self.labels.to(device),
            keypoints=points,
        )  # fmt: skip

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        return self[self.scores >= score]

    def scaled(self, size: tuple[int, int], now: tuple[int, int]) -> Detections:
        """The same objects in a picture of `size`, when they were found in one of `now` (heights and widths)."""
        if tuple(size) == tuple(now):
            return replace(self, size=(size[0], size[1]))
        down, across = (torch.tensor(float(a)) / torch.tensor(float(b)) for a, b in zip(size, now))  # float32
        factor = torch.stack([across, down, across, down]).to(self.boxes.device)
        points = self.keypoints
        if points is not None:
            points = torch.cat([points[..., :2] * factor[:2], points[..., 2:]], dim=-1)
        return replace(
            self,
            boxes=self.boxes * factor,
            keypoints=points,
            masks=None if self.masks is None else self.masks.scaled((size[0], size[1])),
            size=(size[0], size[1]),
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each class there are."""
        found = torch.bincount(self.labels.cpu(), minlength=len(self.classes)).tolist()
        return {self.name_of(k): n for k, n in enumerate(found) if n or k < len(self.classes)}

    def name_of(self, label: int) -> str:
        """The name of a class id."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def draw(self, image: np.ndarray | None = None, *, score: float = 0.3) -> np.ndarray:
        """The objects with at least `score` drawn on `image` `(H, W, C)` of any depth: uint8 `(H', W', 3)`."""
        from sightline.detection.draw import draw

        image = self.image if image is None else image
        return draw(image, self.above(score))

    def save(self, folder: str | Path) -> dict[str, str]:
        """Write `NAME.json` and `NAME-overlay.jpg` into `folder`; return the paths."""
        import json

        from sightline.files import write_text
        from sightline.media.image import write_image

        folder = Path(folder)
        listed = folder / f"{self.name}.json"
        write_text(listed, json.dumps(self.to_dict() | {"objects": self.objects()}, indent=1) + "\n")
        written = {"objects": str(listed)}
        if self.image is not None:
            overlay = folder / f"{self.name}-overlay.jpg"
            write_image(overlay, self.draw())
            written["overlay"] = str(overlay)
        return written

    def objects(self) -> list[dict[str, Any]]:
        """One plain object each: class, label, score, box, and keypoints and mask where there are any."""
        rows: list[dict[str, Any]] = [
            {"class": self.name_of(label), "label": label, "score": round(score, 5), "box": [round(v, 2) for v in box]}
            for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist())
        ]
        if self.keypoints is not None:
            for row, points in zip(rows, self.keypoints.tolist()):
                row["keypoints"] = [[round(v, 2) for v in point] for point in points]
        if self.masks is not None:
            for row, runs in zip(rows, self.masks.runs()):
                row["mask"] = runs
        return rows

    def to_coco(self, image_id: int | str, *, categories: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO results file, masks as run lengths. categories: `{label: id}`; None: class k is k + 1."""
        from sightline.detection.formats import coco_results

        return coco_results(self, image_id, categories)

    def to_voc(self, file: str | None = None) -> str:
        """A VOC annotation of the picture `file` (None: its name), corners inclusive and from 1 on; boxes alone."""
        from sightline.detection.formats import voc

        return voc(self, file or self.name)

    def to_yolo(self, *, scores: bool = True, polygons: bool = False) -> str:
        """Lines `class x y width height score` in shares of the sides; polygons: `class x y x y ... score`."""
        from sightline.detection.formats import yolo

        return yolo(self, scores=scores, as_polygons=polygons)

    def to_labelme(self, file: str | None = None) -> dict[str, Any]:
        """The content of a LabelMe file of the picture `file`, to be corrected by hand."""
        from sightline.detection.formats import labelme

        return labelme(self, file or self.name)

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`; needs that package."""
        from sightline.detection.formats import supervision

        return supervision(self)

    def to_dict(self) -> dict[str, Any]:
        """What a JSON answer says of this picture."""
        about: dict[str, Any] = {"name": self.name}
        if self.size is not None:
            about |= {"height": self.size[0], "width": self.size[1]}
        return {**about, "objects": len(self), "counts": self.counts, **self.files}

    def _repr_png_(self) -> bytes:
        """Notebooks show the picture itself."""
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.draw()).save(stream, "PNG")
        return stream.getvalue()
