"""Opening `.pt2` files without running what a stranger may have put into them.

`torch.export.load` unpickles, resolves names of operators to any function below `torch`, and evaluates sizes and guards
written as Python. So the archive is read here first: it may hold the files that an export writes and no other, tensors
as plain numbers, operators of `aten` and arithmetic, and expressions of sizes. What was checked is packed anew, so that
no other reader of zip archives can find anything else in it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sightline.errors import SightlineError
from sightline.weights.read import FREE_BYTES, MAX_RATIO

_FILES = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(model_weights_config\.json|weight_\d+)|data/constants/(model_constants_config\.json|tensor_\d+)"
    r"|data/sample_inputs/model\.pt|extra/sightline\.json)"
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|torch\.sym_(max|min|float|int|not|ite)|math\.(ceil|floor|trunc)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
)
_WORDS = re.compile(
    r"[a-z]{1,2}\d+|Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Where|[tT]rue|[fF]alse"
    r"|(Une|E)quality|(Strict)?(Less|Greater)Than|FloorDiv|CeilDiv|CleanDiv|(Python)?Mod|ModularIndexing|IntTrueDiv"
    r"|FloatTrueDiv|ToFloat|(Ceil|Floor|Trunc)ToInt|positive|nonnegative|integer|precision"
)
_GUARD = re.compile(
    r"L\['\w+'\]|\.size\(\)|\.stride\(\)|\[\d+\]|torch\.sym_(max|min|float|int)|\b(and|or|not)\b|\d+\.\d+"
)
_RUNS = frozenset({"as_operator", "as_graph", "as_custom_obj", "custom_obj", "custom_obj_values", "token"})
_ENDS = (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, NotImplementedError, RecursionError, zlib.error)


def checked_program(path: Path) -> io.BytesIO:
    """The archive at `path` as bytes for `torch.export.load`, with nothing in it that could run but operators.

    Raises `SightlineError`, one sentence, for a damaged file and for one that holds anything else.
    """
    try:
        files = _read(path)
        _check_tensors(path, files)
        _check_graph(path, json.loads(_one(files, "models/model.json")))
    except _ENDS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise SightlineError(f"{path} cannot be opened as .pt2 ({reason}): copy it again, or export it anew") from error
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    packed.seek(0)
    return packed


def _read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max(FREE_BYTES, MAX_RATIO * path.stat().st_size):
            raise SightlineError(f"{path} would fill the memory when it is unpacked: get it from its source")
        for entry in entries:
            if not _FILES.fullmatch(entry.filename):
                raise _refused(path, f"the file '{entry.filename[:80]}'")
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise _refused(path, "two files of one name")
        return {entry.filename: archive.read(entry) for entry in entries}


def _one(files: dict[str, bytes], name: str) -> bytes:
    return next((content for path, content in files.items() if path.partition("/")[2] == name), b"")


def _check_tensors(path: Path, files: dict[str, bytes]) -> None:
    """Tensors are plain numbers; the example's, which is a pickle, needs no other class than tensors."""
    for folder, stem in (("weights", "weight"), ("constants", "tensor")):
        listed = json.loads(_one(files, f"data/{folder}/model_{folder}_config.json"))["config"]
        for name, entry in listed.items():
            if entry["use_pickle"] is not False or not re.fullmatch(rf"{stem}_\d+", entry["path_name"]):
                raise _refused(path, f"the pickled tensor '{name[:80]}'")
    try:
        torch.load(io.BytesIO(_one(files, "data/sample_inputs/model.pt")), weights_only=True)
    except Exception as error:  # what it finds is of many types
        raise _refused(path, "an example that is no tensor") from error


def _check_graph(path: Path, graph: Any) -> None:
    for key, value in _leaves(graph):
        if key in _RUNS and value not in (None, [], {}):
            raise _refused(path, f"'{key}'")
        if not isinstance(value, str):
            continue
        if key == "target" and not _OPERATORS.fullmatch(value):
            raise _refused(path, f"the operator '{value[:80]}'")
        if key == "expr_str" and not _is_size(value):
            raise _refused(path, f"the size '{value[:80]}'")
        if key == "guards_code" and not re.fullmatch(r"[\d\s()+\-*/%<>=!,]*", _GUARD.sub(" ", value)):
            raise _refused(path, f"the guard '{value[:80]}'")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of everything below, containers too; the items of a list bear the list's name."""
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)


def _is_size(text: str) -> bool:
    words = re.findall(r"[A-Za-z_]\w*", text)
    plain = re.fullmatch(r"[\w\s()+\-*/%<>=!,']*", re.sub(r"\b\d+\.\d+\b", "0", text))
    return plain is not None and all(map(_WORDS.fullmatch, words))


def _refused(path: Path, what: str) -> SightlineError:
    return SightlineError(
        f"{path} was not opened because it holds {what}, which could run more than a network: "
        "export the network anew from where it was trained"
    )
