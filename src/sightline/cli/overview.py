"""The table of verbs: what `sightline --help` prints and which function each verb calls.

A new verb is one `Verb` here and one function with the same name in `commands.py`. A verb stands here only when it
works. Nothing is imported: the overview must cost no more than starting Python.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb: its name, what follows it, one line of help, and its function as `"module:name"`."""

    name: str
    usage: str
    about: str
    function: str


VERBS: tuple[Verb, ...] = (
    Verb("models", "[PATTERN]", "List the systems: name, task, size, paper.", "sightline.cli.commands:models"),
    Verb(
        "info", "MODEL", "Tell all about one system: paper, departures, values, weights.", "sightline.cli.commands:info"
    ),
    Verb(
        "train",
        "MODEL DATA [key=value ...]",
        "Train on your data; writes a run folder with a report.",
        "sightline.cli.train:train",
    ),
    Verb("evaluate", "RUN DATA", "Score a run on labelled data.", "sightline.cli.commands:evaluate"),
    Verb(
        "predict",
        "RUN SOURCE ...",
        "Answer for files, folders, videos; writes pictures and labels.",
        "sightline.cli.commands:predict",
    ),
    Verb("compare", "RUN RUN ...", "Put runs side by side, in a table and a page.", "sightline.cli.commands:compare"),
    Verb(
        "data",
        "info|check|convert DATA",
        "Look at a data set, find its faults, write it in another format.",
        "sightline.cli.data:app",
    ),
    Verb("demo", "", "Train, score and predict on bundled pictures in about a minute.", "sightline.cli.commands:demo"),
    Verb(
        "doctor", "", "Say what this machine has: versions, devices, codecs, extras.", "sightline.cli.commands:doctor"
    ),
    Verb("init", "[FILE]", "Write a commented configuration to start from.", "sightline.cli.commands:init"),
)

_HEAD = """\
sightline reads pictures and clips: train, score and use the landmark vision systems.

usage: sightline VERB ... [key=value ...]      (or --key value)

"""

_TAIL = """
  sightline VERB --help     everything a verb can be told
  sightline --version       the version
  --json                    on verbs that answer: one JSON object on stdout and nothing else

start here:  sightline demo
your data:   sightline data check DATA  &&  sightline train unet DATA

exit codes: 0 done, 1 the work failed, 2 the command was wrong, 130 interrupted
"""


def overview() -> str:
    """The text of `sightline --help`."""
    width = max(len(f"{verb.name} {verb.usage}") for verb in VERBS)
    lines = [f"  {f'{verb.name} {verb.usage}':<{width}}   {verb.about}" for verb in VERBS]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def verb_called(name: str) -> Verb | None:
    """The row of the table, or None."""
    return next((verb for verb in VERBS if verb.name == name), None)
