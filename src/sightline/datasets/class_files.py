"""Class names and colours that lie beside the pictures: classes.txt, classes.json, labels.csv, class_dict.csv, ..."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.datasets.folders import exists, shown
from sightline.datasets.survey import RGB, Asked
from sightline.errors import SightlineError, UsageError

NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "classes.json", "classes.csv", "labels.csv")
COLOUR_FILES = ("class_dict.csv", "classes.csv", "labels.csv", "labelmap.txt", "label_colors.txt", "colours.json")
_LIMIT = 2**20  # bytes; a list of at most 255 names is never longer


def find_classes(root: Path) -> tuple[Asked, str]:
    """Names and colours from the first list found in `root`, and its file name ("" when there is none)."""
    for name in dict.fromkeys((*COLOUR_FILES, *NAME_FILES)):
        path = root / name
        if not exists(path):
            continue
        colours = read_colours(path) if name in COLOUR_FILES else ()
        names = tuple(n for n, _ in colours) if colours else read_names(path) if name in NAME_FILES else ()
        if names:
            return Asked(names, colours), name
    return Asked(), ""


def read_text(path: Path, limit: int) -> str:
    """The text of a file, UTF-8 with or without a byte-order mark; binary or longer files are refused."""
    try:
        if path.stat().st_size > limit:
            raise SightlineError(
                f"{path} has {path.stat().st_size} bytes, expected at most {limit}; is it the right file?"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SightlineError(f"cannot read {path} as UTF-8 text ({_reason(error)}); save it as UTF-8") from error
    if "\0" in text:
        raise SightlineError(f"cannot read {path} as text: it holds zero bytes; save it as UTF-8")
    return text


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)


def read_json(path: Path, limit: int = 2**32) -> Any:
    """The content of a JSON file; every fault of the parser becomes one sentence."""
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise SightlineError(f"{path} is not valid JSON ({where}); export it again") from error


def read_rows(path: Path, limit: int = 2**28) -> list[list[str]]:
    """The cells of a CSV file (comma, semicolon or tab, whichever the first line has most of), without empty lines."""
    text = read_text(path, limit)
    head = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SightlineError(f"{path} is not a valid CSV table ({error}); export it again") from error
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def read_names(path: Path) -> tuple[str, ...]:
    """Class names in the order of their ids: a line each, a JSON list or `{name: id}`, or a CSV column `name`."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        names = _names_of_json(read_json(path, _LIMIT), path)
    elif suffix == ".csv":
        names = _names_of_rows(read_rows(path, _LIMIT))
    else:
        lines = (re.sub(r"^\s*\d+\s*[:,\t]\s*", "", line).strip() for line in read_text(path, _LIMIT).splitlines())
        names = [line for line in lines if line and not line.startswith("#")]
    if len(set(names)) != len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise SightlineError(f"{path} names the class {shown(twice)} twice; give every class its own name")
    return tuple(names)


def _names_of_json(content: Any, path: Path) -> list[str]:
    if isinstance(content, Mapping) and isinstance(content.get("classes"), (list, Mapping)):
        content = content["classes"]
    if isinstance(content, list) and all(isinstance(c, str) for c in content):
        return list(content)
    if isinstance(content, Mapping):
        pairs = [(v, k) if isinstance(v, int) else (int(k), v) for k, v in content.items() if _is_pair(k, v)]
        if len(pairs) == len(content) and sorted(i for i, _ in pairs) == list(range(len(pairs))):
            return [str(name) for _, name in sorted(pairs)]
    raise SightlineError(f'{path} must hold a list of names or {{"name": id}} with the ids 0, 1, 2, ...')


def _is_pair(key: Any, value: Any) -> bool:
    is_id = isinstance(value, int) and not isinstance(value, bool)
    return is_id or (isinstance(value, str) and isinstance(key, str) and key.isdecimal() and len(key) < 6)


def _names_of_rows(rows: list[list[str]]) -> list[str]:
    header = [c.lower() for c in rows[0]] if rows else []
    column = next((header.index(c) for c in ("name", "class", "class_name", "label") if c in header), None)
    return [] if column is None else [row[column] for row in rows[1:] if len(row) > column and row[column]]


def read_colours(path: Path) -> tuple[tuple[str, RGB], ...]:
    """`(name, (r, g, b))` in the order of the ids, or nothing when the file holds no colours.

    A CSV with columns name, r, g, b; CVAT's `name:r,g,b::`; lines of `r g b name` (CamVid); JSON `{name: [r, g, b]}`.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _colours_of_json(read_json(path, _LIMIT), path)
    if suffix == ".csv":
        return _colours_of_rows(read_rows(path, _LIMIT))
    table: list[tuple[str, RGB]] = []
    for line in read_text(path, _LIMIT).splitlines():
        if match := re.match(r"^([^#:]+):(\d+),(\d+),(\d+):", line):
            table.append((match[1].strip(), _rgb(match.groups()[1:], path)))
        elif match := re.match(r"^\s*(\d+)[ \t,]+(\d+)[ \t,]+(\d+)[ \t,]+(\S.*)$", line):
            table.append((match[4].strip(), _rgb(match.groups()[:3], path)))
    return tuple(table)


def _rgb(values: Sequence[Any], where: Path | str) -> RGB:
    try:
        r, g, b = (int(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise SightlineError(f"{where}: {shown(values)} is not a colour; expected red, green, blue in 0..255") from None
    if not all(0 <= v <= 255 for v in (r, g, b)):
        raise SightlineError(f"{where}: {shown((r, g, b))} is not a colour; expected red, green, blue in 0..255")
    return r, g, b


def _colours_of_json(content: Any, path: Path) -> tuple[tuple[str, RGB], ...]:
    if not isinstance(content, Mapping):
        raise SightlineError(f'{path} must hold {{"name": [red, green, blue]}}')
    return tuple((str(name), _rgb(rgb if isinstance(rgb, list) else (), path)) for name, rgb in content.items())


def _colours_of_rows(rows: list[list[str]]) -> tuple[tuple[str, RGB], ...]:
    header = [c.lower() for c in rows[0]] if rows else []
    for letters in (("r", "g", "b"), ("red", "green", "blue")):
        if all(c in header for c in letters):
            where = [header.index(c) for c in letters]
            name = next((header.index(c) for c in ("name", "class", "class_name", "label") if c in header), None)
            full = [row for row in rows[1:] if len(row) > max(where)]
            named = [(row[name] if name is not None and len(row) > name else "", row) for row in full]
            return tuple((n, _rgb([row[i] for i in where], "the colour table")) for n, row in named)
    return ()


def asked_colours(colours: Mapping[str, Any] | Sequence[Any] | str | Path | None) -> tuple[tuple[str, RGB], ...]:
    """A colour table as users write it: `{name: (r, g, b)}`, a list of colours, or a file that `read_colours` reads."""
    if colours is None:
        return ()
    if isinstance(colours, (str, Path)):
        if not exists(Path(colours)):
            raise UsageError(f"the colour table {colours} is not a file; give a CSV with the columns name, r, g, b")
        if table := read_colours(Path(colours)):
            return table
        raise SightlineError(f"{colours} holds no colours; expected a CSV with the columns name, r, g, b")
    if isinstance(colours, Mapping):
        return tuple((str(name), _rgb(rgb, "colours")) for name, rgb in colours.items())
    return tuple(("", _rgb(rgb, "colours")) for rgb in colours)
