"""Small data that come with the package, so that a demo, an example or a test needs no download.

    nuclei   52 microscope pictures, every nucleus numbered; pairs, 36 train, 8 val, 8 test (CC0)
    cells    12 microscope pictures of blood with boxes, Pascal VOC (MIT)
    photos   a cat, a cup, a rocket, a cell; no labels (CC0 and public domain)

Source and licence stand in each folder's SOURCE.md.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sightline.errors import SightlineError, UsageError, did_you_mean

NAMES = ("nuclei", "cells", "photos")


def bundled(name: str) -> Path:
    """The folder of one of `NAMES`. It belongs to the installation: read it, and write elsewhere.

    Raises `UsageError` for another name, `SightlineError` when the installation lacks its data.
    """
    if name not in NAMES:
        raise UsageError(
            f"there are no bundled data called '{name}'; choose from {', '.join(NAMES)}.{did_you_mean(name, NAMES)}"
        )
    folder = Path(str(files("sightline").joinpath("data", name)))
    if not folder.is_dir():
        raise SightlineError(f"{folder} is missing from this installation of sightline; install it again")
    return folder
