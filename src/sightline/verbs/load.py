"""Opening what was trained: a run folder, its `best` or `last`, and files of weights from anywhere."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.verbs.models import catalogue, create, entry_of, published

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sightline.contracts import Entry
    from sightline.weights.card import Card
    from sightline.weights.load import Report


def load(path: str | Path, *, entry: Entry | None = None) -> tuple[nn.Module, Card]:
    """The network of a run folder (its best state, or the last when there is none) in eval mode, and its card.

    An exported file (`.onnx`, `.pt2`) is taken in place of a run. entry: how a network that is in no catalogue is
    built.

    Raises `UsageError` for a path that is no run, and `SightlineError` for one that is damaged.
    """
    from sightline.weights import card as cards
    from sightline.weights import load as loading

    if Path(path).suffix.lower() in (".onnx", ".pt2"):
        from sightline.verbs.export import open_exported

        return open_exported(path)
    folder = model_folder(path)
    card = cards.read(folder)
    net = create(entry or entry_of(card.model), **card.arguments)
    loading.load_weights(net, folder / cards.WEIGHTS, maps=key_maps(net), origin="sightline")
    return remember(net.eval(), card), card


def remember(net: nn.Module, card: Card) -> nn.Module:
    """Tell the network what only its card knows: whether it answers for each class by itself."""
    if card.extra.get("multilabel"):
        net.multilabel = True  # pyright: ignore[reportArgumentType] (a plain value, no parameter)
    return net


def model_folder(path: str | Path) -> Path:
    """The folder with `card.json` that `path` means: itself, or its `best`, or its `last`."""
    path = Path(path)
    for folder in (path, path / "best", path / "last"):
        if (folder / "card.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    if not path.exists():
        raise UsageError(f"there is no run at {path}; give the folder that `sightline train` named at its end")
    if (path / "config.json").is_file():
        raise SightlineError(
            f"the run {path} has no trained state yet; resume it: sightline train resume={path}, or train it longer"
        )
    raise UsageError(f"{path} is not a run: it holds no card.json; give the folder that `sightline train` named")


def load_weights(net: nn.Module, source: str | Path | dict[str, Tensor], *, strict: bool = True) -> Report:
    """Load weights of any known origin into `net`: a file, a state dict, or the name of published weights.

    The origin is recognised from names and shapes, tensors are renamed and transposed, every shape is checked before
    anything is changed. The report says what was loaded, adapted, left out and why.
    """
    from sightline.weights import load as loading

    if isinstance(source, str) and not Path(source).exists():
        record = published(source)
        if record is None:
            names = [w.name for entry in catalogue().values() for w in entry.weights]
            raise UsageError(f"there is no file and no published weights called {source}.{did_you_mean(source, names)}")
        from sightline.weights.fetch import fetch

        source = fetch(record)
    return loading.load_weights(net, source, maps=key_maps(net), strict=strict)


def save_weights(net: nn.Module, path: str | Path, *, layout: str = "sightline") -> Path:
    """Write the weights under our own names, or under the public names of `layout` (`torchvision`, `smp`, ...)."""
    from sightline.weights import load as loading

    return loading.save_weights(net, path, layout=layout, maps=key_maps(net))


def key_maps(net: nn.Module) -> tuple:
    """The key maps at the end of the file that defines the network's class."""
    return getattr(import_module(type(net).__module__), "KEY_MAPS", ())
