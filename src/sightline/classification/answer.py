"""The answer of this room, and of the rooms above it: how probable each class is, in a picture or through a clip."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """What a network said of a stretch of a video: from `start` to `end` seconds, `probabilities` `(K,)`."""

    start: float
    end: float
    probabilities: Tensor


@dataclass(frozen=True)
class Labels:
    """How probable each class is.

    probabilities: float32 `(K,)`; a network of one class gives two numbers, of "not it" and "it".
    classes: a name a class. timeline: of a video, the same for each stretch that was looked at, in order.
    """

    probabilities: Tensor
    classes: tuple[str, ...] = ()
    name: str = "picture"
    timeline: tuple[Moment, ...] = ()
    image: np.ndarray | None = None  # the picture, or a frame of the video: what `draw` writes on
    files: Mapping[str, str] = field(default_factory=dict)  # what `predict` saved of it: kind -> path

    @property
    def label(self) -> int:
        """The id of the most probable class."""
        return int(self.probabilities.argmax())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` most probable classes, best first, with their probabilities."""
        return best(self.probabilities, self.classes, count)

    def draw(self, image: np.ndarray | None = None, *, count: int = 3) -> np.ndarray:
        """The picture with its most probable classes written below: uint8 `(H', W', 3)`."""
        from sightline.classification.draw import captioned

        image = self.image if image is None else image
        return captioned(image, [f"{name} {p:.0%}" for name, p in self.top(count)])

    def save(self, folder: str | Path) -> dict[str, str]:
        """Write `NAME.json`, `NAME.jpg`, and of a video `NAME.csv`, `NAME.srt`, `NAME-strip.png`; return the paths."""
        from sightline.classification.draw import strip
        from sightline.files import write_text
        from sightline.media.image import write_image

        folder = Path(folder)
        written = {"labels": str(folder / f"{self.name}.json")}
        write_text(folder / f"{self.name}.json", json.dumps(self.to_dict(), indent=1))
        if self.image is not None:
            written["picture"] = str(folder / f"{self.name}.jpg")
            write_image(folder / f"{self.name}.jpg", self.draw())
        if self.timeline:
            for suffix, text in (("csv", self.to_csv()), ("srt", self.to_subtitles())):
                written[suffix] = str(folder / f"{self.name}.{suffix}")
                write_text(folder / f"{self.name}.{suffix}", text)
            written["strip"] = str(folder / f"{self.name}-strip.png")
            write_image(folder / f"{self.name}-strip.png", strip(self.timeline, self.classes))
        return written

    def to_dict(self, count: int = 5) -> dict[str, Any]:
        """What a JSON answer says of this picture or video."""
        found: dict[str, Any] = {
            "name": self.name,
            "label": _name(self.classes, self.label),
            "top": [{"class": name, "probability": round(p, 6)} for name, p in self.top(count)],
        }
        if self.timeline:
            found["timeline"] = [
                {"start": round(m.start, 3), "end": round(m.end, 3), **_first(m, self.classes)} for m in self.timeline
            ]
        return {**found, **self.files}

    def to_csv(self) -> str:
        """The timeline as a table: start, end, and a column a class."""
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        count = len(self.probabilities)
        table.writerow(["start", "end", *(_name(self.classes, k) for k in range(count))])
        for m in self.timeline:
            table.writerow([f"{m.start:.3f}", f"{m.end:.3f}", *(f"{p:.6f}" for p in m.probabilities.tolist())])
        return stream.getvalue()

    def to_subtitles(self) -> str:
        """The timeline as SubRip subtitles: neighbours of the same class are one line."""
        spans: list[tuple[float, float, int]] = []
        for m in self.timeline:
            label = int(m.probabilities.argmax())
            if spans and spans[-1][2] == label and m.start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], m.end, label)
            else:
                start = max(m.start, spans[-1][1]) if spans else m.start  # windows overlap, subtitles must not
                if start < m.end:
                    spans.append((start, m.end, label))
        return "\n".join(
            f"{number}\n{_clock(start)} --> {_clock(end)}\n{_name(self.classes, label)}\n"
            for number, (start, end, label) in enumerate(spans, 1)
        )

    def _repr_png_(self) -> bytes | None:
        """Notebooks show the picture itself."""
        if self.image is None:
            return None
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.draw()).save(stream, "PNG")
        return stream.getvalue()


def best(probabilities: Tensor, classes: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The `count` most probable classes of `(K,)`, best first."""
    values, order = probabilities.sort(descending=True, stable=True)
    return [(_name(classes, int(k)), float(p)) for k, p in zip(order[:count], values[:count])]


def named(classes: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Names for the entries of an answer: one class is told apart from "not it", missing names are numbers."""
    names = tuple(classes) or tuple(str(k) for k in range(max(num_classes, 2)))
    return (f"not {names[0]}", *names) if len(names) == 1 else names


def _first(moment: Moment, classes: Sequence[str]) -> dict[str, Any]:
    name, probability = best(moment.probabilities, classes, 1)[0]
    return {"label": name, "probability": round(probability, 6)}


def _name(classes: Sequence[str], k: int) -> str:
    return classes[k] if k < len(classes) else str(k)


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"
