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
    Verb("models", "[PATTERN]", "list the systems: name, task, size, paper", "sightline.cli.commands:models"),
    Verb("info", "MODEL", "all about one: paper, departures, values", "sightline.cli.commands:info"),
    Verb("train", "MODEL DATA ...", "train on your data; makes a run with a page", "sightline.cli.train:train"),
    Verb("evaluate", "RUN DATA", "score a run on labelled data", "sightline.cli.commands:evaluate"),
    Verb("predict", "RUN SOURCE ...", "answer for files, folders, videos", "sightline.cli.commands:predict"),
    Verb("features", "RUN SOURCE ...", "what a network saw, as numbers", "sightline.cli.features:features"),
    Verb("probe", "RUN DATA", "a linear machine on what networks saw", "sightline.cli.probe:probe"),
    Verb("compare", "RUN RUN ...", "put runs side by side, in a table and a page", "sightline.cli.commands:compare"),
    Verb("export", "RUN FILE", "write a run as .onnx or .pt2, and verify it", "sightline.cli.commands:export"),
    Verb("data", "info|check|convert DATA", "look at a data set, find faults, convert it", "sightline.cli.data:app"),
    Verb("demo", "", "train and predict on bundled pictures, a minute", "sightline.cli.commands:demo"),
    Verb("doctor", "", "what this machine has, and what is missing", "sightline.cli.commands:doctor"),
    Verb("init", "[FILE]", "write a commented configuration to start from", "sightline.cli.commands:init"),
)

_HEAD = """\
sightline reads pictures and clips: train, score and use the landmark systems.

usage: sightline VERB ... [key=value ...]        (--key value is the same)

"""

_TAIL = """
  sightline VERB --help          everything a verb can be told
  sightline --version            the version
  --json                         on verbs that answer: one JSON object, no more

start here   sightline demo
your data    sightline data check DATA, then sightline train unet DATA

exit codes   0 done, 1 the work failed, 2 the command was wrong, 130 interrupted
"""


def overview() -> str:
    """The text of `sightline --help`."""
    width = max(len(f"{verb.name} {verb.usage}") for verb in VERBS)
    lines = [f"  {f'{verb.name} {verb.usage}':<{width}}  {verb.about}" for verb in VERBS]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def verb_called(name: str) -> Verb | None:
    """The row of the table, or None."""
    return next((verb for verb in VERBS if verb.name == name), None)
