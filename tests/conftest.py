"""Shared fixtures. Small real data sets for testing lie outside the repository; tests that need them are slow."""

import os
from pathlib import Path

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
