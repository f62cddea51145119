"""What a network saw, as numbers: a row of features for each picture or video, for any entry."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import SightlineError, UsageError, did_you_mean, missing_extra
from sightline.files import replacing, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class Features:
    """One row a sample. layer: the module whose input they are, averaged over its positions and over the views."""

    names: tuple[str, ...]
    values: np.ndarray  # (N, C) float32
    layer: str

    def save(self, path: str | Path) -> Path:
        """Write `.npy` (names beside it as NAME.json), `.npz`, `.csv` or `.parquet` (needs pyarrow)."""
        path = Path(path)
        suffix = checked(path)
        if suffix == ".csv":
            text = io.StringIO(newline="")
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(["name", *(f"f{k}" for k in range(self.values.shape[1]))])
            rows.writerows([name, *(repr(float(v)) for v in row)] for name, row in zip(self.names, self.values))
            return write_text(path, text.getvalue())
        with replacing(path) as temporary:
            if suffix == ".parquet":
                self._parquet(temporary)
            else:
                with temporary.open("wb") as stream:
                    if suffix == ".npy":
                        np.save(stream, self.values, allow_pickle=False)
                    else:
                        np.savez_compressed(stream, names=np.array(self.names), features=self.values)
        if suffix == ".npy":
            write_text(path.with_suffix(".json"), json.dumps({"layer": self.layer, "names": self.names}) + "\n")
        return path

    def _parquet(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(self.values.ravel()), self.values.shape[1])
        table = pyarrow.table({"name": list(self.names), "features": rows})
        pyarrow.parquet.write_table(table.replace_schema_metadata({"layer": self.layer}), path)


def checked(path: Path) -> str:
    """The suffix of a file that features can be written to. Raises `UsageError` for any other."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} cannot hold features; choose a name that ends in {', '.join(SUFFIXES)}")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise missing_extra("pyarrow", "tables", "writing .parquet") from error
    return suffix


def features(
    run: str | Path | Any,
    source: Any,
    *,
    out: str | Path | None = None,
    layer: str | None = None,
    unit: bool = False,
    views: int | None = None,
    crops: int | None = None,
    device: str = "auto",
    on_error: str = "stop",
    skipped: dict[str, str] | None = None,
) -> Features:
    """A row of features for every picture, volume or video of `source`.

    run: a run's folder, or a loaded `(net, card)`. layer: the module whose input is taken; None: the last classifier
    (of C3D, `fc7` gives fc6, the paper's descriptor). Maps are averaged over their positions, parts and views of a
    sample over each other. unit: rows of length 1. out: a file, see `Features.save`.
    """
    from sightline.media.sources import sources
    from sightline.training.device import choose_device
    from sightline.verbs.evaluate import procedure_of
    from sightline.verbs.load import load
    from sightline.verbs.models import task_named

    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error '{on_error}' is unknown; choose stop or skip")
    if out is not None:
        checked(Path(out))
    net, card = run if isinstance(run, tuple) else load(run)
    net = net.to(choose_device(device)).eval()
    task = task_named(card.task)
    name = layer or last_layer(net)
    further = {"views": views, "crops": crops, "fuse": None, "samples": None}
    procedure = procedure_of(task, None, 0.5, "none", (1.0,), further)
    names: list[str] = []
    rows: list[np.ndarray] = []
    seen: list[Tensor] = []
    handle = named_layer(net, name).register_forward_pre_hook(lambda _, inputs: seen.append(pooled(inputs[0])))
    try:
        for item in (task.sources or sources)(source):
            seen.clear()
            try:
                task.answer(
                    net, item.read(), preprocess=card.preprocess, classes=card.classes, colours=card.colours,
                    name=item.name, procedure=procedure,
                )  # fmt: skip
            except SightlineError as error:
                if on_error == "stop":
                    raise
                if skipped is not None:
                    skipped[item.name] = str(error)
                continue
            rows.append(_mean(seen, name))
            names.append(item.name)
    finally:
        handle.remove()
    if not rows:
        raise SightlineError("not one sample could be read, so there are no features")
    values = np.stack(rows)
    if unit:
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    found = Features(tuple(names), values.astype(np.float32), name)
    if out is not None:
        found.save(out)
    return found


def last_layer(net: nn.Module) -> str:
    """The name of the classifier at a network's end, as its class tells in `HEAD`."""
    head = getattr(net, "HEAD", ())
    if not head:
        raise UsageError(f"{type(net).__name__} names no classifier at its end; say layer=NAME of one of its modules")
    return str(head[0]).rstrip(".")


def named_layer(net: nn.Module, name: str) -> nn.Module:
    """The module called `name`. Raises `UsageError` with the nearest name."""
    known = dict(net.named_modules())
    if not name or name not in known:
        raise UsageError(f"there is no layer '{name}' in {type(net).__name__}.{did_you_mean(name, known)}")
    return known[name]


def pooled(x: Tensor) -> Tensor:
    """A layer's input as rows `(N, C)`; it may be that, tokens `(N, positions, C)` or maps `(N, C, H, W)`."""
    x = x.detach().float()
    return x.flatten(0, -2) if x.ndim in (2, 3) else x.mean(tuple(range(2, x.ndim)))


def _mean(seen: list[Tensor], name: str) -> np.ndarray:
    if not seen:
        raise UsageError(f"the layer '{name}' is not used when the network answers; choose another")
    import torch

    return torch.cat(seen).mean(0).cpu().numpy()
