"""Published weights by name: choosing one of a catalogue entry's records, and saying what it is."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.contracts import PublishedWeights
from sightline.errors import UsageError, did_you_mean


def choose(name: str, records: Sequence[PublishedWeights], model: str = "this model") -> PublishedWeights:
    """The record called `name`; raises UsageError with the known names for any other."""
    for record in records:
        if record.name == name:
            return record
    known = [record.name for record in records]
    listing = f"known: {', '.join(known)}" if known else "it has none published: give the path of a file"
    raise UsageError(f"unknown weights '{name}' of {model}.{did_you_mean(name, known)} ({listing})")


def words(record: PublishedWeights) -> str:
    """One line: name, size, data, published scores, licence."""
    size = f"{record.megabytes:g} MB" if record.megabytes else "size unknown"
    scores = ", ".join(f"{metric} {value:g}" for metric, value in record.scores.items())
    parts = [size, record.trained_on, scores, f"licence: {record.licence}"]
    return f"{record.name}: {', '.join(part for part in parts if part)}"
