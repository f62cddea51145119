"""A model on disk: `model.safetensors` and `card.json`, which says how to build, feed and read it.

The weights are written first, the card last, and the card holds the weights' SHA-256. The weights also carry a copy
of their card, so that a crash between the two writes leaves a folder that still opens: the copy is then read instead.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError
from sightline.files import write_bytes, write_text
from sightline.weights.fetch import sha256
from sightline.weights.keymap import OURS
from sightline.weights.load import encoded, tensors_of
from sightline.weights.read import safetensors_text

FORMAT = 1
WEIGHTS = "model.safetensors"
CARD = "card.json"
MAX_BYTES = 2**24


@dataclass(frozen=True)
class Card:
    """What belongs to a network's weights. Names, numbers and text only: everything is JSON.

    model: the entry's name. arguments: the builder's values. classes, colours: in the order of the labels.
    preprocess: how a picture becomes the input. scores: metric -> value, where measured stands in `data`.
    weights_origin: where the first weights came from ("random" or a published name). criterion: the chosen loss.
    extra: whatever a room adds. weights_sha256: of `model.safetensors`, filled in by `write`; empty while the weights
    may still change.
    """

    model: str
    task: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    preprocess: Preprocess = field(default_factory=Preprocess)
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float | None] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    data: str = ""
    weights_origin: str = "random"
    criterion: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


def write(folder: str | Path, net: nn.Module, card: Card) -> Card:
    """Write `net` and its card into `folder` and return the card with the hash of the weights.

    Each file appears as a whole or not at all. Raises UsageError for values that are not JSON.
    """
    folder = Path(folder)
    text = _to_json(card)
    data = encoded(tensors_of(net), ".safetensors", metadata={"layout": OURS.origin, "card": text})
    card = replace(card, weights_sha256=hashlib.sha256(data).hexdigest())
    write_bytes(folder / WEIGHTS, data)
    write_text(folder / CARD, _to_json(card))
    return card


def write_card(folder: str | Path, card: Card, *, sealed: bool = False) -> Card:
    """Write only the card, beside weights that something else writes, and return it.

    sealed: with the hash of the `model.safetensors` that lies there now, so that `read` notices any other. Leave it
    False while the weights may still change (a training run); `read` then takes them as they are.
    """
    path = Path(folder) / WEIGHTS
    if sealed and not path.is_file():
        raise SightlineError(f"{folder} holds no {WEIGHTS} that a card could be sealed with: write the weights first")
    card = replace(card, weights_sha256=sha256(path) if sealed else "")
    write_text(Path(folder) / CARD, _to_json(card))
    return card


def read(folder: str | Path) -> Card:
    """The card of a model's folder, checked against the weights beside it.

    Raises SightlineError, one sentence, when there is none, when it is malformed or made by a newer version, or when
    card and weights belong to two different models.
    """
    folder = Path(folder)
    path, weights = folder / CARD, folder / WEIGHTS
    if not weights.is_file():
        raise SightlineError(f"{folder} holds no {WEIGHTS}: give the folder of a trained model, such as runs/NAME/best")
    embedded = safetensors_text(weights).get("card")
    if not path.is_file():
        if embedded is None:
            raise SightlineError(f"{folder} holds no {CARD}: copy it from where {WEIGHTS} came from")
        return parse(embedded, weights)
    try:
        text = _read_text(path)
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error
    card = parse(text, path)
    if not card.weights_sha256 or card.weights_sha256 == sha256(weights):
        return card
    if embedded is not None:
        other = parse(embedded, weights)
        if _same_model(card, other):  # a crash between the two writes: the weights are newer than card.json
            return other
    raise SightlineError(
        f"{path} and {WEIGHTS} beside it are not of the same model (the weights' sha256 is not the card's): copy both"
        " from one folder"
    )


def _same_model(a: Card, b: Card) -> bool:
    return (a.model, a.arguments, a.classes, a.preprocess) == (b.model, b.arguments, b.classes, b.preprocess)


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise SightlineError(f"{path} is larger than {MAX_BYTES >> 20} MB, which no card is: copy it from its source")
    return path.read_bytes().decode("utf-8", "replace")


def _to_json(card: Card) -> str:
    try:
        return json.dumps(_finite(asdict(card)), indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a card holds numbers, text, lists and dictionaries only: {error}") from error


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON does not know, become null: a score that could not be computed."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Card)


def parse(text: str, path: Path) -> Card:
    """The card that `text` holds; `path` is named when it is none."""
    from pydantic import ValidationError

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SightlineError(f"{path} is not JSON ({error}): copy it from its source") from error
    if not isinstance(content, dict):
        raise SightlineError(f"{path} must hold a JSON object, not a {type(content).__name__}: copy it from its source")
    version = content.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SightlineError(
            f"{path}: 'format' must be a whole number from 1, not {version!r}: copy it from its source"
        )
    if version > FORMAT:
        raise SightlineError(
            f"{path} was made by a newer version of sightline (card format {version}): upgrade sightline"
        )
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"]) or "card"
        what = f"{first['msg'].lower()}, found {first.get('input')!r:.60}"
        raise SightlineError(f"{path}: '{where}' is wrong ({what}): correct it, or copy it from its source") from error
    except RecursionError as error:
        raise SightlineError(f"{path} is nested too deeply: copy it from its source") from error
