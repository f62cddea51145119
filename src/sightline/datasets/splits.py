"""Which records train, which are scored: given splits are kept, a missing one is cut reproducibly and said aloud.

A cut depends on (rule, seed, keys) alone, never on the order of a folder listing or on a random state.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from sightline.datasets.classes import order_by_hash
from sightline.datasets.folders import natural, shown
from sightline.datasets.records import PixelRecord
from sightline.errors import SightlineError, UsageError

Val = float | int | str
_RULE = re.compile(r"^(first|last)\((\d+)\)$")


def apply_splits(
    records: Sequence[PixelRecord], *, splits: Mapping[str, Sequence[str]] | None, val: Val, seed: int
) -> tuple[list[PixelRecord], list[str]]:
    """Records with `train` and `val` filled in, and what was done in words.

    splits: `{split: keys}`; a key is a record's key or a stem that only one record has. Records that are not named
        are left out. Without it the given splits hold, and a missing val is cut from train by `val`:
    val: a share in (0, 1), a count, `last(N)` or `first(N)` pictures in natural order, or 0 for none.
        `seeded(0.2)` draws single pictures whatever their names say; `again(...)` with one of these inside puts a given
        val back to train first.
    """
    if splits is not None:
        return _by_keys(records, splits)
    records = _name_train(records)
    if isinstance(val, str) and (pooled := re.fullmatch(r"again\((.+)\)", val)):
        val = pooled[1]
        records = [replace(r, split="train") if r.split == "val" else r for r in records]
    labelled = [r for r in records if r.split == "train" and r.labels is not None]
    if any(r.split == "val" for r in records):
        ignored = [f"val={val} is not used: the data set brings its own val split"] if isinstance(val, str) else []
        return list(records), [f"splits as given: {counts(records)}", *ignored]
    chosen, why = choose_val(labelled, val, seed)
    cut = [replace(r, split="val") if r.key in chosen else r for r in records]
    return cut, [f"no val split given: {why}"] if why else []


def _name_train(records: Sequence[PixelRecord]) -> list[PixelRecord]:
    """Records without a split are for training, or `unlabelled` when they have no labels."""
    return [r if r.split else replace(r, split="train" if r.labels is not None else "unlabelled") for r in records]


def counts(records: Sequence[PixelRecord]) -> str:
    """`train 24, val 6`: how many records each split has."""
    number: defaultdict[str, int] = defaultdict(int)
    for r in records:
        number[r.split] += 1
    return ", ".join(f"{name} {n}" for name, n in number.items())


def _by_keys(
    records: Sequence[PixelRecord], splits: Mapping[str, Sequence[str]]
) -> tuple[list[PixelRecord], list[str]]:
    stems: defaultdict[str, list[PixelRecord]] = defaultdict(list)
    for r in records:
        for name in {r.key, PurePosixPath(r.key).name, PurePosixPath(r.key).stem}:
            stems[name].append(r)
    named: dict[str, PixelRecord] = {}
    for split, keys in splits.items():
        for key in keys:
            found = stems.get(str(key), [])
            exact = [r for r in found if r.key == str(key)] or found
            if len(exact) != 1:
                how = "no picture" if not exact else f"{len(exact)} pictures"
                raise UsageError(
                    f"splits: {how} of the data set has the key {shown(key)}; give its path below the root"
                )
            if exact[0].key in named:
                raise UsageError(f"splits: {shown(key)} is named twice; a picture belongs to one split")
            named[exact[0].key] = replace(exact[0], split=str(split))
    kept = [named[r.key] for r in records if r.key in named]
    left = len(records) - len(kept)
    return kept, [f"splits by the keys you gave: {counts(kept)}" + (f"; {left} left out" if left else "")]


def choose_val(records: Sequence[PixelRecord], val: Val, seed: int) -> tuple[set[str], str]:
    """Keys of the records that become val, and why, in words. Both sides keep at least one record."""
    ordered = sorted(records, key=lambda r: natural(r.key))
    total = len(ordered)
    if isinstance(val, str):
        if drawn := re.fullmatch(r"seeded\((.+)\)", val.replace(" ", "")):
            share = _number(drawn[1])
            count = min(max(round(share * total), 1), total - 1) if share < 1 else _checked(round(share), total, val)
            chosen = order_by_hash([r.key for r in ordered], seed)[:count]
            return {ordered[i].key for i in chosen}, f"{count} of {total}, each chosen by seed {seed}"
        rule = _RULE.match(val.replace(" ", ""))
        if rule is None:
            return choose_val(records, _number(val), seed)
        count = _checked(int(rule[2]), total, val)
        part = ordered[:count] if rule[1] == "first" else ordered[total - count :]
        return {r.key for r in part}, f"the {rule[1]} {count} of {total} in the order of their names ({val})"
    if val == 0 or total == 0:
        return set(), ""
    if total < 2:
        raise SightlineError(f"only {total} labelled picture to train on; expected 2 or more, or say val=0")
    count = min(max(round(val * total), 1), total - 1) if val < 1 else _checked(round(val), total, val)
    return _cut(ordered, count, seed)


def _number(val: str) -> float:
    try:
        number = float(val)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"val={shown(val)} is no rule; expected a share such as 0.2, a count, last(4) or first(4)")
    return number


def _checked(count: int, total: int, val: Val) -> int:
    if not 0 < count < total:
        raise UsageError(f"val={val} of {total} labelled pictures; expected between 1 and {total - 1}")
    return count


def _cut(ordered: list[PixelRecord], count: int, seed: int) -> tuple[set[str], str]:
    declared = any(r.group for r in ordered)
    groups: defaultdict[str, list[PixelRecord]] = defaultdict(list)
    for r, inferred in zip(ordered, sequences([r.key for r in ordered])):
        groups[r.group or r.key if declared else inferred].append(r)
    total = len(ordered)
    whole = _whole_groups(groups, count, seed, exact=declared)
    if whole is not None:
        number = sum(len(groups[name]) for name in whole)
        kind = "" if len(groups) == total else f" in {len(whole)} of {len(groups)} whole groups (folder or name prefix)"
        return {r.key for name in whole for r in groups[name]}, f"{number} of {total}{kind}, chosen by seed {seed}"
    ends = {name: min(max(round(len(g) * count / total), 1), len(g) - 1) for name, g in groups.items()}
    tails = [g[len(g) - ends[name] :] for name, g in groups.items() if ends[name]]
    keys = {r.key for tail in tails for r in tail}
    each = "" if len(groups) == 1 else f", the end of each of {len(groups)} sequences"
    return (
        keys,
        f"the last {len(keys)} of {total} in the order of their names{each} (numbered names: neighbours stay together)",
    )


def _whole_groups(
    groups: Mapping[str, Sequence[PixelRecord]], count: int, seed: int, *, exact: bool
) -> list[str] | None:
    """Names of groups that together hold about `count` records; None when inferred groups do not fit."""
    names = sorted(groups)
    chosen, number = [], 0
    most = min(max(count * 1.25, count + 0.5), sum(len(g) for g in groups.values()) - 1)
    for i in order_by_hash(names, seed):
        size = len(groups[names[i]])
        if number < count and number + size <= most:
            chosen.append(names[i])
            number += size
    if number >= count * 0.6:
        return chosen
    if not exact or len(names) < 2:
        return None
    return [min(names, key=lambda name: (len(groups[name]), name))]


def sequences(keys: Sequence[str]) -> list[str]:
    """For every key the sequence it seems to belong to: its name without the last number, or itself when it has none.

    Plain numbers (`0.png`, `1.png`) are one sequence when they are dense, as slices of a stack are; scattered numbers
    (`000000384553.jpg`) are pictures on their own.
    """
    split = [re.match(r"^(.*?)[ _\-.#]*(\d+)$", re.sub(r"\.\w+(?=#|$)", "", key)) for key in keys]
    prefixes = [m[1] if m else key for m, key in zip(split, keys)]
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for m, prefix in zip(split, prefixes):
        numbers[prefix].append(int(m[2][-18:]) if m else 0)
    lonely = {
        prefix
        for prefix, found in numbers.items()
        if len(found) == 1 or (_is_bare(prefix) and max(found) - min(found) >= 2 * len(found))
    }
    return [key if prefix in lonely else prefix for key, prefix in zip(keys, prefixes)]


def _is_bare(prefix: str) -> bool:
    return not prefix.rpartition("/")[2]
