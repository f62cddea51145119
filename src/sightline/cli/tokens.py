"""Before parsing: `key=value` becomes `--key=value`, and YAML file and recipe fill what the command line left open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

    from sightline.recipes.recipe import Recipe

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


def fill_layers(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give every option that the command line left open its value from the YAML file, else from the recipe.

    A hook of the parser (`App.config`), so that a wrong type in the file is refused like one on the command line,
    with the file's name.
    """
    from cyclopts import Token

    known = set(options_of(arguments)) - {"config", "recipe", "print-config", "json"}
    for source, values in layers_below(_last(arguments, "--config"), _last(arguments, "--recipe"), known):
        for key, text in values.items():
            argument, keys, _ = arguments.match(f"--{key}")
            if not any(token.keys == keys for token in argument.tokens):
                argument.append(Token(keyword=f"--{key}", value=text, source=source, keys=keys))


def layers_below(
    config: str | Path | None, recipe: str | None, known: Iterable[str]
) -> list[tuple[str, dict[str, str]]]:
    """What stands below the command line as (source, {option: text}), the YAML file first, then the recipe."""
    from sightline.verbs.config import as_texts, read_yaml, refuse_unknown

    layers: list[tuple[str, dict[str, str]]] = []
    if config is not None:
        values = read_yaml(config)
        refuse_unknown(values, known, config)
        layers.append((str(config), values))
    if recipe is not None:
        found = recipe_called(recipe)
        layers.append((f"recipe {recipe}", as_texts({"model": found.model, **found.options})))
    return layers


def recipe_called(name: str) -> Recipe:
    """The recipe of that name, from `sightline.recipes`."""
    from importlib import import_module
    from pkgutil import iter_modules

    from sightline import recipes

    names = [module.name for module in iter_modules(recipes.__path__)]
    found = getattr(import_module(f"sightline.recipes.{name}"), "RECIPE", None) if name in names else None
    if found is None:
        near = did_you_mean(name, names)
        raise UsageError(f"there is no recipe '{name}'; they are the files of sightline/recipes.{near}")
    return found


def _last(arguments: ArgumentCollection, option: str) -> str | None:
    return next((a.tokens[-1].value for a in arguments if option in a.names and a.tokens), None)


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
