"""The command line: parse, call, show; no logic.

    overview.py    the table of verbs, and what `sightline --help` prints
    app.py         the parser made of that table
    tokens.py      key=value, and the YAML file under the command line
    commands.py train.py data.py    one function a verb: call the verb, show its answer
    show.py        text or JSON

Exit codes: 0 done, 1 the work failed, 2 the command was wrong, 130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from sightline.errors import SightlineError, UsageError, did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, `sys.argv` by default."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign must not end a training
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SightlineError as error:
        return _complain(f"error: {error}", error.exit_code)
    except KeyboardInterrupt as interrupt:
        return _complain(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left for the last flush to break on
        return 141
    except Exception:
        import traceback

        traceback.print_exc()
        return _complain(
            "\nThis is a bug in sightline, not a mistake of yours. Please report the lines above with the output of"
            " `sightline doctor`.",
            1,
        )


def _dispatch(tokens: list[str]) -> int:
    from sightline.cli.overview import VERBS, overview, verb_called

    if not tokens or tokens[0] in ("--help", "-h", "help"):
        print(overview(), end="")
        return 0
    if tokens[0] in ("--version", "-V"):
        from sightline import __version__

        print(__version__)
        return 0
    verb = verb_called(tokens[0])
    if verb is None:
        near = did_you_mean(tokens[0], (v.name for v in VERBS))
        raise UsageError(f"there is no verb '{tokens[0]}'; `sightline --help` lists them.{near}")
    from sightline.cli.app import run

    return run(verb, tokens[1:])


def _complain(text: str, code: int) -> int:
    with suppress(OSError):  # the reader of a pipe may be gone as well
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)
    return code
