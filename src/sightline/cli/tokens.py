"""Before parsing: `key=value` becomes `--key=value`, and a YAML file fills what the command line left open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import UsageError

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

_PAIR = re.compile(r"(?P<key>[A-Za-z_][\w-]*(\.[\w.-]+)?)=", re.ASCII)


def spread(tokens: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """Write every `key=value` token as `--key=value`; the value may hold further `=`.

    A token whose key is no option stays as it is when a file of that name exists (`a=b.jpg` is a legal name; write
    `./a=b.jpg` where the key is an option too). Any other becomes an option, so that the parser refuses it by name.

    Args:
        tokens: what stands after the verb.
        options: the verb's options, dashes in their names, and whether each takes a value: the token after a
            `--key` that takes one is its value, whatever it looks like. Behind `--` everything is a positional.
    """
    out: list[str] = []
    value_follows = False
    for position, token in enumerate(tokens):
        if token == "--" and not value_follows:
            return [*out, *tokens[position:]]
        pair = None if value_follows or token.startswith("-") else _PAIR.match(token)
        if pair and (_root(pair["key"]) in options or not Path(token).exists()):
            token = f"--{token}"
        out.append(token)
        value_follows = token.startswith("--") and "=" not in token and options.get(_root(token[2:]), False)
    return out


def options_of(arguments: ArgumentCollection) -> dict[str, bool]:
    """The options of a verb by name, without leading dashes, and whether each takes a value."""
    return {name.lstrip("-"): not a.is_flag() for a in arguments for name in a.names if name.startswith("--")}


def fill_from_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give the values of the YAML file named by `config` to every option that the command line left open.

    A hook of the parser (`App.config`), so that a wrong type in the file is refused like one on the command line,
    with the file's name.
    """
    from cyclopts import Token

    from sightline.verbs.config import read_yaml, refuse_unknown

    path = next((a.tokens[-1].value for a in arguments if "--config" in a.names and a.tokens), None)
    if path is None:
        return
    values = read_yaml(path)
    refuse_unknown(values, set(options_of(arguments)) - {"config", "print-config", "json"}, path)
    for key, text in values.items():
        argument, keys, _ = arguments.match(f"--{key}")
        if not any(token.keys == keys for token in argument.tokens):
            argument.append(Token(keyword=f"--{key}", value=text, source=str(path), keys=keys))


def nested(values: Mapping[str, str] | None) -> dict[str, Any]:
    """The texts of `model.KEY=value` options as plain values."""
    from sightline.verbs.config import nested_value

    return {key: nested_value(text) for key, text in (values or {}).items()}


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{name} must be numbers separated by commas, such as 0.75,1,1.25; got '{text}'") from None


def _root(key: str) -> str:
    return key.partition(".")[0].replace("_", "-")
