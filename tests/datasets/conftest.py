"""Writers of small real files for the tests of data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Maker:
    """Writes pictures and masks with real encoders below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0

    def picture(self, name: str, size: tuple[int, int] = (6, 8), mode: str = "RGB") -> Path:
        """A picture of its own noise."""
        self._count += 1
        shape = size if mode == "L" else (*size, 3)
        pixels = np.random.default_rng(self._count).integers(0, 256, shape, np.uint8)
        return self._save(name, Image.fromarray(pixels))

    def mask(self, name: str, values: np.ndarray | list, dtype: type = np.uint8) -> Path:
        """A grey PNG of 8 or 16 bits."""
        return self._save(name, Image.fromarray(np.asarray(values, dtype)))

    def flat(self, name: str, *values: int, size: tuple[int, int] = (6, 8), dtype: type = np.uint8) -> Path:
        """A mask whose first pixels are `values`, in turn over the whole mask."""
        grid = np.resize(np.array(values), size)
        return self.mask(name, grid, dtype)

    def text(self, name: str, content: str) -> Path:
        """A text file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def _save(self, name: str, image: Image.Image) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "data")


@pytest.fixture
def pairs(make: Maker) -> Callable[..., Path]:
    """A folder of `images/` and `masks/` with masks of the given values."""

    def build(count: int = 6, values: tuple[int, ...] = (0, 1, 2), names: str = "p{}x") -> Path:
        for i in range(count):
            make.picture(f"images/{names.format(i)}.png")
            make.flat(f"masks/{names.format(i)}.png", *values)
        return make.root

    return build
