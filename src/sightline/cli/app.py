"""The parser: a cyclopts app made of the table of verbs; a verb's module is imported when that verb is called."""

from __future__ import annotations

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

from sightline import __version__
from sightline.cli.overview import VERBS, Verb
from sightline.cli.tokens import fill_layers, options_of, spread
from sightline.errors import UsageError


def run(verb: Verb, tokens: list[str]) -> int:
    """Parse what stands after `verb`, call its function, and return the exit code.

    Raises:
        UsageError: the call was wrong; one sentence that names the option and the nearest known one.
    """
    app = make_app()
    target, words, rest = app[verb.name], [verb.name], tokens
    while rest and rest[0] in target and not rest[0].startswith("-"):  # `data check`
        target, words, rest = target[rest[0]], [*words, rest[0]], rest[1:]
    if target.default_command is not None:
        rest = spread(rest, options_of(target.assemble_argument_collection()))
        target.config = (fill_layers,)
    try:
        command, bound, _ = app.parse_args([*words, *rest], print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise UsageError(_sentence(error, verb, words)) from error
    code = command(*bound.args, **bound.kwargs)
    return code if isinstance(code, int) else 0


def make_app() -> App:
    """The app with every verb of the table, none of them imported yet."""
    app = App(
        name="sightline",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
    )
    for verb in VERBS:
        app.command(verb.function, name=verb.name)
    return app


def _sentence(error: CycloptsError, verb: Verb, words: list[str]) -> str:
    """The parser's complaint as one sentence, and a line with the usage."""
    error.verbose = False
    call = f"sightline {' '.join(words)}"
    if isinstance(error, MissingArgumentError) and error.argument is not None and not error.tokens_so_far:
        name = error.argument.name.lstrip("-")
        said = f"{name.upper() if error.argument.index is not None else name} is missing"
    elif isinstance(error, UnusedCliTokensError):
        said = f"did not expect {' '.join(error.unused_tokens or ())}"
    else:
        text = " ".join(str(error).split())
        said = (text[:1].lower() + text[1:]).removesuffix(".")
    usage = f"{call} {verb.usage}".strip() if words == [verb.name] else f"{call} ..."
    return f"{said}\nusage: {usage}    ({call} --help tells all)"
