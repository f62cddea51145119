"""What a linear machine makes of trained networks: a probe of their features, or a fusion of their answers.

Features of several runs are set side by side, of length 1: one C3D net or three (Tran et al. 2015, section 4).
Answers of several runs are averaged, and a machine learns on them set side by side, of length 1 (the two fusions of
Simonyan & Zisserman 2014, section 6). Nothing of the networks changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sightline.errors import SightlineError, UsageError

if TYPE_CHECKING:
    from sightline.datasets.records import DataSet

Of = Literal["features", "answers"]


@dataclass(frozen=True)
class Probe:
    """What a probe found. accuracy: of the linear machine, on `split`, which it did not learn from."""

    of: str
    runs: tuple[str, ...]
    data: str
    split: str
    learned: int
    scored: int
    channels: int
    accuracy: float
    per_class: dict[str, float]
    frequent: float  # accuracy of the most frequent class of those learned from
    average: float | None = None  # accuracy of the mean of the answers, where `of` is "answers"

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self)

    def __str__(self) -> str:
        names = " and ".join(self.runs)
        lines = [f"{self.of} of {names} ({self.channels} numbers) on {self.data}, split {self.split}: {self.scored}"]
        rows = {"linear machine": self.accuracy, "mean of answers": self.average, "most frequent": self.frequent}
        lines += [f"  {name:<16} {value:.4f}" for name, value in rows.items() if value is not None]
        width = max(map(len, self.per_class))
        lines += ["", *(f"  {name:<{width}}  {value:.4f}" for name, value in self.per_class.items())]
        return "\n".join(lines)


def probe(
    runs: Any,
    data: str | Path | DataSet,
    *,
    of: Of = "features",
    layer: str | None = None,
    c: float = 1.0,
    split: str | None = None,
    val: float | str | None = None,
    seed: int | None = None,
    views: int | None = None,
    crops: int | None = None,
    device: str = "auto",
) -> Probe:
    """Learn a linear SVM on the train split of pictures or clips by class, and score it on another.

    runs: a run or several, as folders or loaded `(net, card)`. of: `features` of `layer` (None: what the last
    classifier is fed), or `answers`, the probabilities. c: weight of the machine's errors. split: `test` where the
    data has one, else `val`. val, seed: how a split is made where the data gives none; the first run's own by default.
    Raises `UsageError` for rooms whose answer is no class.
    """
    from sightline.datasets.open import open_dataset
    from sightline.datasets.records import DataSet
    from sightline.ops.linear_svm import linear_svm
    from sightline.verbs.load import load

    if of not in get_args(Of):
        raise UsageError(f"of is '{of}', expected {' or '.join(get_args(Of))}")
    if of == "answers" and layer is not None:
        raise UsageError("answers come from no layer; leave layer out, or say of=features")
    given = runs if isinstance(runs, list) else [runs]
    loaded = [one if isinstance(one, tuple) else load(one) for one in given]
    cards = [card for _, card in loaded]
    for card in cards:
        if card.task not in ("classification", "action"):
            raise UsageError(f"{card.model} answers no class for a whole picture or clip; probe a run that does")
    if not isinstance(data, DataSet):
        made = cards[0].extra.get("split", {})
        how_split: dict[str, Any] = {
            "seed": made.get("seed", 0) if seed is None else seed,
            "val": made.get("val", 0.2) if val is None else val,
        }
        data = open_dataset(data, kind="clips" if cards[0].task == "action" else "classes", **how_split)
    split = split or next((name for name in ("test", "val") if name in data.splits), "val")
    learned, scored = _labelled(data, "train"), _labelled(data, split)
    if split == "train":
        raise UsageError("what is learned from cannot be scored; name another split than train")
    how = {"views": views, "crops": crops, "device": device}
    parts = [[_seen(one, records, of, layer, how) for one in loaded] for records in (learned, scored)]
    x, y = (_unit(np.concatenate([_unit(part) for part in side], axis=1)) for side in parts)
    truth = np.array([record.labels for record in scored])
    labels = np.array([record.labels for record in learned])
    weights, bias = linear_svm(x, labels, len(data.classes), c=c)
    said = (y @ weights.T + bias).argmax(1)
    average = None
    if of == "answers":
        if any(card.classes != data.classes for card in cards):
            raise UsageError(f"runs whose answers are fused must know the classes {', '.join(data.classes)}, in order")
        average = float((np.mean(parts[1], axis=0).argmax(1) == truth).mean())
    return Probe(
        of=of,
        runs=tuple(card.model if isinstance(one, tuple) else str(one) for one, card in zip(given, cards)),
        data=str(data.root),
        split=split,
        learned=len(learned),
        scored=len(scored),
        channels=x.shape[1],
        accuracy=float((said == truth).mean()),
        per_class={
            name: float((said[truth == k] == k).mean()) for k, name in enumerate(data.classes) if (truth == k).any()
        },
        frequent=float((truth == np.bincount(labels).argmax()).mean()),
        average=average,
    )


def _labelled(data: DataSet, split: str) -> list[Any]:
    found = [record for record in data.records if record.split == split and record.labels is not None]
    if not found:
        known = ", ".join(data.splits) or "none"
        raise SightlineError(f"{data.root} has no labelled sample in its split '{split}' (it has {known})")
    paths = [record.image.path for record in found]
    if len(set(paths)) < len(paths):
        raise UsageError(f"{data.root} keeps several samples in one file, which a probe cannot read; give files of one")
    return found


def _seen(run: Any, records: Sequence[Any], of: str, layer: str | None, how: dict[str, Any]) -> np.ndarray:
    """A row a record, `(N, C)`: features, or probabilities."""
    from sightline.verbs.features import features
    from sightline.verbs.predict import predict

    paths = [record.image.path for record in records]
    if of == "features":
        return features(run, paths, layer=layer, **how).values
    return np.stack([found.probabilities.numpy() for found in predict(run, paths, **how)])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
