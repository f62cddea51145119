"""`init`: a commented YAML file with every option of `train`, written from the one table that `--help` reads too."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from sightline.errors import UsageError
from sightline.files import write_text
from sightline.verbs.config import NESTED, TRAIN, Option, yaml_value

_HEAD = """\
# What `sightline train` can be told. Use it so:
#
#   sightline train config={name}              the values below
#   sightline train config={name} epochs=10    the command line goes over the file
#
# A value that is left open (`size:`) is chosen from your data and your machine, and the reason is printed.

model: unet                 # `sightline models` lists the names
data: data/mine             # a folder of pictures and masks, or any data set of a known format
"""


def init(path: str | Path = "sightline.yaml", *, force: bool = False) -> Path:
    """Write a commented configuration to start from.

    Args:
        path: the file to write.
        force: write over a file that is there.

    Raises:
        UsageError: the file is there already.
        SightlineError: the folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "sightline.yaml"
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; name another file or pass force=true to write over it")
    return write_text(path, commented(path))


def commented(path: Path) -> str:
    """The text of the file that `init` writes to `path`."""
    parts = [_HEAD.format(name=path.as_posix())]
    for group, options in groupby(TRAIN, key=lambda option: option.group):
        parts.append(f"\n# {group}\n" + "".join(_line(option) for option in options))
    families = [f"# {f'{name}.NAME: VALUE':<26}# a value {about}\n" for name, about in NESTED.items()]
    return "".join([*parts, "\n# Single values, any number of them\n", *families])


def _line(option: Option) -> str:
    return f"{f'{option.name}: {yaml_value(option.default)}':<28}# {option.about}\n"
