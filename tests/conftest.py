"""Shared fixtures. Small real data sets for testing lie outside the repository; tests that need them are slow."""

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, *default: str) -> Path:
    return Path(os.environ.get(variable) or ROOT.parent.joinpath(*default))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real data sets (camvid, dsb2018_nuclei, ...), or a skip that says what is missing."""
    folder = _folder("SIGHTLINE_DATA", "shared", "data")
    if not folder.is_dir():
        pytest.skip(f"the test data sets are not at {folder}; set SIGHTLINE_DATA")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Bits are compared in many tests: a fixed thread count makes them the same everywhere."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up data set of 6 + 3 small pictures and four classes; not to be written to."""
    from sightline.datasets.moving import write_pictures

    return write_pictures(tmp_path_factory.mktemp("data") / "shapes", train=6, val=3, size=(40, 48), shapes=3)


@pytest.fixture(scope="session")
def tiny_options() -> dict[str, Any]:
    """Options of `train` for a run of a second: a U-Net of 8 thousand parameters, 6 steps, a checkpoint at each."""
    return {
        "size": 32,
        "batch": 2,
        "steps": 6,
        "device": "cpu",
        "model_values": {"width": 4, "depth": 3},
        "train_values": {"validate_every": 3, "save_every": 1},
    }


@pytest.fixture(scope="session")
def tiny_run(shapes: Path, tiny_options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on `shapes`; not to be written to (copy it)."""
    from sightline.verbs.train import train

    return train("unet", shapes, run=tmp_path_factory.mktemp("runs") / "tiny", **tiny_options).folder
