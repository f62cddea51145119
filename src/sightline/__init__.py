"""Sightline: one library and one command for reading pictures and clips.

    import sightline as sl

    sl.models("*unet*")                          # names
    net = sl.create("unet", num_classes=12)      # a network
    run = sl.train("unet", "data/camvid")        # a run: a folder with scores, curves, a page
    net, card = sl.load(run.folder)              # a network with its classes and preprocessing
    for answer in sl.predict((net, card), "photos/"):
        answer.save("out/")
    print(sl.evaluate(run.folder, "data/camvid"))

Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sightline.verbs.compare import compare
    from sightline.verbs.evaluate import evaluate
    from sightline.verbs.export import export
    from sightline.verbs.features import features
    from sightline.verbs.load import load, load_weights, save_weights
    from sightline.verbs.models import create, info, models
    from sightline.verbs.optimize import optimize
    from sightline.verbs.predict import predict
    from sightline.verbs.probe import probe
    from sightline.verbs.train import train

_HOMES = {
    "compare": "compare",
    "create": "models",
    "evaluate": "evaluate",
    "export": "export",
    "features": "features",
    "info": "models",
    "load": "load",
    "load_weights": "load",
    "models": "models",
    "optimize": "optimize",
    "predict": "predict",
    "probe": "probe",
    "save_weights": "load",
    "train": "train",
}

__all__ = [
    "__version__",
    "compare",
    "create",
    "evaluate",
    "export",
    "features",
    "info",
    "load",
    "load_weights",
    "models",
    "optimize",
    "predict",
    "probe",
    "save_weights",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"sightline.verbs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sightline' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
